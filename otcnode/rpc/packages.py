"""Methods that hand out evidence packages of contracts and trades: for their parties, and for roles that see them."""

from __future__ import annotations

import asyncio

from otcnode.evidence.collect import Blocks, collect
from otcnode.evidence.package import Kind, TooLarge, write
from otcnode.ids import Prefix
from otcnode.rpc import format as form
from otcnode.rpc.access import Caller, Subject, forbidden, may_see_parties, require_login
from otcnode.rpc.json_rpc import INVALID_PARAMS, NOT_READY, RpcError
from otcnode.rpc.method import Context, Params, Result
from otcnode.rpc.reader import Reader
from otcnode.types import Bytes32
from otcnode.vm.contracts.records import CONTRACTS, CONTRACTS_BY_PARTY
from otcnode.vm.trades.records import TRADES


class ContractEvidenceParams(Params, frozen=True):
    contract: form.ContractText


class TradeEvidenceParams(Params, frozen=True):
    trade: form.TradeText


class EvidenceResult(Result, frozen=True):
    """`package` is a file for `otcnode verify package`: it proves the state of the item after the block named here."""

    height: int
    block_hash: form.BlockText
    time: form.Time
    package: bytes


async def contract_evidence(context: Context, params: ContractEvidenceParams) -> EvidenceResult:
    """contract_evidence: as of the latest block, as its header names no other state."""
    name = form.parse_id(Prefix.CONTRACT, params.contract)
    caller, state = require_login(context.caller()), Reader(context.service.state().view)
    party = state.get(CONTRACTS_BY_PARTY, caller.account + name) is not None
    if state.get(CONTRACTS, name) is None or not (party or caller.sees_all(Subject.CONTRACT)):
        raise forbidden()
    return await _package(context, Kind.CONTRACT, name)


async def trade_evidence(context: Context, params: TradeEvidenceParams) -> EvidenceResult:
    """trade_evidence: as of the latest block, as its header names no other state."""
    name = form.parse_id(Prefix.TRADE, params.trade)
    caller = require_login(context.caller())
    if not _party_to_trade(Reader(context.service.state().view), caller, name):
        raise forbidden()
    return await _package(context, Kind.TRADE, name)


def _party_to_trade(state: Reader, caller: Caller, name: Bytes32) -> bool:
    record = state.get(TRADES, name)
    return record is not None and may_see_parties(caller, Subject.TRADE, frozenset({record.buyer, record.seller}))


async def _package(context: Context, kind: Kind, name: Bytes32) -> EvidenceResult:
    if context.service.state().height == 0:
        raise RpcError(NOT_READY, "the genesis has no certificate; there is evidence from the first block on")
    blocks = Blocks(context.service, name)
    try:
        for height, entry in list(blocks.missing()):
            blocks.show(height, entry)
            await asyncio.sleep(0)  # there may be thousands of blocks: others get their turn in between
        snapshot = context.service.state()
        package = write(collect(context.service, kind, name, snapshot.view, snapshot.height, blocks))
    except TooLarge as error:
        raise RpcError(INVALID_PARAMS, f"more made it than a package may hold: {error}") from None
    return EvidenceResult(snapshot.height, form.block(snapshot.block_hash), form.time(snapshot.time_ms), package)
