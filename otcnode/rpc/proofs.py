"""The method that proves what the state holds to somebody who believes nobody: path, header and certificate.

A proof shows hashes of neighbouring entries, so whoever may ask for proofs of anything could test guesses about other
people's entries. Parties therefore get proofs of entries of their own that exist; only roles that see everything
get any other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from msgspec import Meta

from otcnode.codec import encode
from otcnode.rpc import format as form
from otcnode.rpc.access import Caller, Subject, forbidden, require_login
from otcnode.rpc.json_rpc import INVALID_PARAMS, NOT_READY, RpcError
from otcnode.rpc.method import Context, Params, Result
from otcnode.rpc.reader import Reader
from otcnode.vm.accounts.records import ENTRUSTMENTS, WITHDRAWALS
from otcnode.vm.contracts.records import CONTRACTS
from otcnode.vm.keys import Prefix
from otcnode.vm.products.records import PRODUCTS, REDEMPTIONS, SUBSCRIPTIONS
from otcnode.vm.trades.records import OFFERS, QUOTES, TRADES

KEY_BYTES_MAX = 256
Owners = Callable[[Reader, bytes], tuple[bytes, ...]]


class StateProofParams(Params, frozen=True):
    """`table` is the name of a table of the state, `key` the rest of the key: fixed-width ids and numbers, joined."""

    table: Annotated[str, Meta(max_length=32)]
    key: Annotated[bytes, Meta(max_length=KEY_BYTES_MAX)]


class StateProofResult(Result, frozen=True):
    """`value` is the canonical record, null where there is none. The other fields are canonical MessagePack; the proof
    is for the state root of the header, and the certificate makes the header final."""

    height: int
    block_hash: form.BlockText
    time: form.Time
    key: bytes
    value: bytes | None
    proof: bytes
    header: bytes
    certificate: bytes


def _first_account(state: Reader, suffix: bytes) -> tuple[bytes, ...]:
    return (suffix[:32],)


def _second_account(state: Reader, suffix: bytes) -> tuple[bytes, ...]:
    """Keys of a product and an account: for the holder and the issuer."""
    product = state.get(PRODUCTS, suffix[:32])
    return (suffix[32:64],) if product is None else (suffix[32:64], product.issuer)


def _fields(table: Any, *fields: str) -> Owners:
    def owners(state: Reader, suffix: bytes) -> tuple[bytes, ...]:
        record = state.get(table, suffix)
        return () if record is None else tuple([getattr(record, field) for field in fields])

    return owners


def _contract_parties(state: Reader, suffix: bytes) -> tuple[bytes, ...]:
    record = state.get(CONTRACTS, suffix[:32])
    return () if record is None else (record.creator, *(slot.account for slot in record.slots))


def _of_product(state: Reader, suffix: bytes) -> tuple[bytes, ...]:
    """Of products everybody who is logged in may have a proof: they are open."""
    return (_ANYBODY,)


_ANYBODY = b""
OWNERS: dict[Prefix, Owners] = {
    Prefix.ACCOUNT: _first_account,
    Prefix.KEY: _first_account,
    Prefix.CASH_BALANCE: _first_account,
    Prefix.HOLDING: _second_account,
    Prefix.HOLDING_BY_ACCOUNT: _first_account,
    Prefix.LOT: _first_account,
    Prefix.LOCK: _first_account,
    Prefix.CONTRACT: _contract_parties,
    Prefix.CONTRACT_TEXT: _contract_parties,
    Prefix.CONTRACT_SIGNATURE: _contract_parties,
    Prefix.SUBSCRIPTION: _fields(SUBSCRIPTIONS, "account"),
    Prefix.REDEMPTION: _fields(REDEMPTIONS, "account"),
    Prefix.WITHDRAWAL: _fields(WITHDRAWALS, "account"),
    Prefix.ENTRUSTMENT: _fields(ENTRUSTMENTS, "principal", "agent"),
    Prefix.TRADE: _fields(TRADES, "buyer", "seller"),
    Prefix.OFFER: _fields(OFFERS, "account"),
    Prefix.QUOTE: _fields(QUOTES, "responder"),
    Prefix.PRODUCT: _of_product,
    Prefix.PRODUCT_TERMS: _of_product,
    Prefix.UNIT_TOTAL: _of_product,
}
"""Table to the accounts whose entry one is; entries of other tables are proven to roles that see everything."""


async def state_proof(context: Context, params: StateProofParams) -> StateProofResult:
    """state_proof: of the latest state only, as the header of the latest block names no other."""
    caller = require_login(context.caller())
    if params.table not in Prefix.__members__:
        raise RpcError(INVALID_PARAMS, f"there is no table {params.table!r}")
    prefix, snapshot = Prefix[params.table], context.service.state()
    key = prefix.value + params.key
    value = snapshot.view.get(key)
    if not _may_have(Reader(snapshot.view), caller, prefix, params.key, value):
        raise forbidden()
    if snapshot.height == 0:
        raise RpcError(NOT_READY, "the genesis has no certificate; there is a proof from the first block on")
    return StateProofResult(
        snapshot.height,
        form.block(snapshot.block_hash),
        form.time(snapshot.time_ms),
        key,
        value,
        encode(context.service.prove(key)),
        encode(context.service.header(snapshot.height)),
        encode(context.service.certificate(snapshot.height)),
    )


def _may_have(state: Reader, caller: Caller, prefix: Prefix, suffix: bytes, value: bytes | None) -> bool:
    if caller.sees_all(Subject.BLOCK):
        return True
    owners = OWNERS.get(prefix)
    if value is None or owners is None:
        return False
    names = owners(state, suffix)
    return caller.account in names or _ANYBODY in names
