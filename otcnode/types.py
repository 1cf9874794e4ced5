"""The words everything else uses: sizes, identifiers and times.

Times are integer milliseconds since the epoch, in ledger time unless a name says `monotonic`. Money is in minor
units, quantities in 10^-quantity_decimals units, prices in 10^-4 currency per unit, rates in parts per million.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

INTEGER_MAX = 2**63 - 1
"""Every stored integer is in [0, INTEGER_MAX] (ledger rules, section 1)."""

Bytes32: TypeAlias = Annotated[bytes, Meta(min_length=32, max_length=32)]
Bytes64: TypeAlias = Annotated[bytes, Meta(min_length=64, max_length=64)]
Natural: TypeAlias = Annotated[int, Meta(ge=0, le=INTEGER_MAX)]

Hash: TypeAlias = Bytes32
ChainId: TypeAlias = Bytes32
"""The genesis hash."""
BlockHash: TypeAlias = Bytes32
TransactionId: TypeAlias = Bytes32
FullHash: TypeAlias = Bytes32
"""Hash of a transaction with its signatures; two copies of one id with different signatures differ here."""
NodeId: TypeAlias = Bytes32
"""Ed25519 public key of a validator or an admitted full node; validators are ordered by it."""
AccountId: TypeAlias = Bytes32
PublicKey: TypeAlias = Bytes32
Ed25519Signature: TypeAlias = Bytes64

Height: TypeAlias = Natural
View: TypeAlias = Natural
EpochNumber: TypeAlias = Natural
"""An epoch is named by the first height it decides; the genesis set's epoch is 1."""
Milliseconds: TypeAlias = Natural

ZERO_HASH = bytes(32)
