"""A node's signed word that no block holds a transaction. Pure.

That a transaction happened, one certified header proves. That it never will, none can: a header names what its block
holds by roots over ids and receipts that are not everybody's to see, and the ledger forgets an id with the very block
that ends its validity, so no later state shows whether it was there. So validators are asked, as a client of PBFT asks
(M. Castro and B. Liskov, Practical Byzantine Fault Tolerance, 1999, section 4.1): of f + 1 that sign the same at least
one is honest. Once a final block is past `valid_until`, what no block holds by then is in none ever. A word that was
false convicts its signer, whom `tx_proof` contradicts.
"""

from __future__ import annotations

from otcnode.codec import Record
from otcnode.crypto import preimage
from otcnode.genesis import PARAMETER_BOUNDS, Genesis
from otcnode.types import ChainId, Ed25519Signature, Height, Milliseconds, NodeId, TransactionId

ABSENCE_DOMAIN = "otcnode/absence/1"
_LIFE_MS_MAX = PARAMETER_BOUNDS["max_transaction_ttl_ms"][1]
"""The longest life that governance may ever have allowed to transactions; the genesis may have allowed a longer one."""


class Claim(Record, frozen=True):
    """No block up to `height` holds the transaction, of those whose time is after `after_ms`: the node keeps no earlier
    ones. 0: it has them all."""

    chain: ChainId
    transaction: TransactionId
    after_ms: Milliseconds
    height: Height


class Absence(Record, frozen=True):
    """A claim, signed by the node that makes it."""

    claim: Claim
    node: NodeId
    signature: Ed25519Signature


def absence_preimage(claim: Claim) -> bytes:
    return preimage(ABSENCE_DOMAIN, claim.chain, claim.transaction, claim.after_ms, claim.height)


def first_possible_ms(genesis: Genesis, valid_until: Milliseconds) -> Milliseconds:
    """The time of every block that may hold a transaction valid until then is at least that: no chain of this genesis
    ever allowed a longer life."""
    return max(0, valid_until - max(genesis.parameters.max_transaction_ttl_ms, _LIFE_MS_MAX))
