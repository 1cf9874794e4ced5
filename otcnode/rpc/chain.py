"""Methods that read the chain itself: blocks, headers, certificates, validators, parameters."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from otcnode.blocks import Epoch, Header, block_hash
from otcnode.codec import decode, encode
from otcnode.genesis import ChainParameters, Clock
from otcnode.rpc import format as form
from otcnode.rpc.access import Subject, require_sight
from otcnode.rpc.listing import RangeParams, span_of
from otcnode.rpc.method import Context, Params, ReadParams, ReadResult, Result, open_page, origin, read, take
from otcnode.rpc.reader import Reader
from otcnode.rpc.render import render
from otcnode.rpc.statements import first_height
from otcnode.types import Bytes32
from otcnode.vm.accounts.records import ORGANISATIONS
from otcnode.vm.context import PARAMETERS
from otcnode.vm.governance.records import NODES
from otcnode.vm.keys import SINGLE
from otcnode.vm.results import AutomaticReceipt, Receipt
from otcnode.vm.transactions import decode_transaction

BLOCK_LIST = "block_list"


class HeightParams(Params, frozen=True):
    """Heights of blocks begin at 1: the genesis has neither header nor certificate."""

    height: Annotated[int, Meta(ge=1, le=2**53)]


class BlockListParams(RangeParams, frozen=True):
    """`from` and `to` are of block time; `newest_first` begins at the end of the range."""

    newest_first: bool = False


class BlockSummary(Result, frozen=True):
    height: int
    block_hash: form.BlockText
    time: form.Time
    proposer: form.NodeText
    transaction_count: int


class BlockListResult(ReadResult, frozen=True, kw_only=True):
    blocks: list[BlockSummary]
    next: str | None


class HeaderResult(Result, frozen=True, kw_only=True):
    """`raw` is the canonical header; its tagged hash is `block_hash`."""

    height: int
    block_hash: form.BlockText
    time: form.Time
    version: int
    chain: Bytes32
    parent: form.BlockText
    proposer: form.NodeText
    transaction_count: int
    transactions_root: Bytes32
    receipts_root: Bytes32
    state_root: Bytes32
    validators_hash: Bytes32
    next_validators_hash: Bytes32
    raw: bytes


class SignatureResult(Result, frozen=True):
    validator: form.NodeText
    signature: bytes


class CertificateResult(Result, frozen=True):
    """`raw` is the canonical certificate."""

    height: int
    block_hash: form.BlockText
    epoch: int
    view: int
    signatures: list[SignatureResult]
    raw: bytes


class BlockTransaction(Result, frozen=True):
    id: form.TransactionText
    raw: bytes
    code: str
    operation: int | None
    events: list[dict[str, Any]]


class AutomaticResult(Result, frozen=True):
    item: Bytes32
    kind: str
    code: str
    events: list[dict[str, Any]]


class BlockResult(Result, frozen=True):
    """A whole block with its receipts, in the order in which they took effect."""

    header: HeaderResult
    automatic: list[AutomaticResult]
    transactions: list[BlockTransaction]


class ValidatorResult(Result, frozen=True):
    """`name` and `organisation` are those under which it was admitted, empty for one that joined after the genesis and
    has been turned away since."""

    node: form.NodeText
    name: str
    organisation: str


class EpochParametersResult(Result, frozen=True, kw_only=True):
    """The parameters of consensus, which change with the epoch only."""

    window: int
    drift_real_ms: int
    heartbeat_real_ms: int
    rotation_blocks: int
    inclusion_timeout_real_ms: int
    block_transactions_max: int
    block_bytes_max: int


class EpochResult(Result, frozen=True):
    """Validators in their order, deciding heights from `number` on until the next epoch. `raw` is the canonical epoch;
    `header` and `certificate` are of the block before it, which prove it, and null for the first, which the genesis
    names."""

    number: int
    quorum: int
    validators: list[ValidatorResult]
    parameters: EpochParametersResult
    raw: bytes
    header: bytes | None
    certificate: bytes | None


class ValidatorListResult(Result, frozen=True):
    """Every epoch from the genesis on; the last decides the next block unless its `number` is still ahead."""

    height: int
    epochs: list[EpochResult]


class ChainParamsResult(ReadResult, frozen=True, kw_only=True):
    """`chain` is the genesis hash and `genesis` the canonical document that it is of. A rehearsal network's ledger time
    runs `clock.rate` times as fast as UTC."""

    network: str
    chain: Bytes32
    genesis: bytes
    rehearsal: bool
    clock: Clock
    parameters: ChainParameters


async def block_get(context: Context, params: HeightParams) -> BlockResult:
    """block_get: raw, so only for roles that see everything."""
    require_sight(context.caller(), Subject.BLOCK)
    block = context.service.block(params.height)
    receipts = context.service.receipts(params.height)
    automatic = [decode(AutomaticReceipt, raw) for raw in receipts.automatic]
    outcomes = [decode(Receipt, raw) for raw in receipts.transactions]
    return BlockResult(
        header_result(block.header),
        [AutomaticResult(entry.item, entry.kind, entry.code, _events(entry)) for entry in automatic],
        [
            BlockTransaction(
                form.transaction(decode_transaction(raw).id), raw, entry.code, entry.operation, _events(entry)
            )
            for raw, entry in zip(block.transactions, outcomes, strict=True)
        ],
    )


async def block_list(context: Context, params: BlockListParams) -> BlockListResult:
    """block_list: what headers say, in the order of heights or against it."""
    page = await open_page(context, params, BLOCK_LIST)
    service, tip, span = context.service, page.snapshot.height, span_of(params)
    first = first_height(service, span.first, tip)
    end = tip + 1 if span.end is None else first_height(service, span.end, tip)
    heights = range(first, end)
    if page.after is not None:
        last = int.from_bytes(page.after, "big")
        heights = range(first, min(end, last)) if params.newest_first else range(max(first, last + 1), end)
    rows = (
        (height.to_bytes(8, "big"), _block_summary(service.header(height)))
        for height in (reversed(heights) if params.newest_first else heights)
    )
    blocks, following = take(rows, page, params.limit, BLOCK_LIST)
    return BlockListResult(**origin(page.snapshot), blocks=blocks, next=following)


def _block_summary(header: Header) -> BlockSummary | None:
    return BlockSummary(
        header.height,
        form.block(block_hash(header)),
        form.time(header.time_ms),
        form.node(header.proposer),
        header.transaction_count,
    )


async def header_get(context: Context, params: HeightParams) -> HeaderResult:
    return header_result(context.service.header(params.height))


async def certificate_get(context: Context, params: HeightParams) -> CertificateResult:
    certificate = context.service.certificate(params.height)
    return CertificateResult(
        certificate.height,
        form.block(certificate.block_hash),
        certificate.epoch,
        certificate.view,
        [SignatureResult(form.node(entry.validator), entry.signature) for entry in certificate.signatures],
        encode(certificate),
    )


async def validator_list(context: Context, params: Params) -> ValidatorListResult:
    """validator_list: the sets, each with the certified header before it that proves it."""
    service = context.service
    state = Reader(service.state().view)
    born = {validator.id: (validator.name, validator.organisation) for validator in service.genesis.validators}

    def named(node: bytes) -> tuple[str, str]:
        admitted = state.get(NODES, node)
        if admitted is None:
            return born.get(node, ("", ""))
        organisation = state.get(ORGANISATIONS, admitted.organisation)
        return admitted.name, "" if organisation is None else organisation.name

    def shown(epoch: Epoch) -> EpochResult:
        rows = [ValidatorResult(form.node(node), *named(node)) for node in epoch.validators]
        announced = epoch.number - 1
        return EpochResult(
            epoch.number,
            epoch.quorum,
            rows,
            EpochParametersResult(**msgspec.structs.asdict(epoch.parameters)),
            encode(epoch),
            encode(service.header(announced)) if announced else None,
            encode(service.certificate(announced)) if announced else None,
        )

    return ValidatorListResult(service.state().height, [shown(epoch) for epoch in service.epochs()])


async def chain_params(context: Context, params: ReadParams) -> ChainParamsResult:
    """chain_params: those in force after the height that is read; governance may have changed the genesis'."""
    snapshot = await read(context, params)
    genesis = context.service.genesis
    changed = Reader(snapshot.view).get(PARAMETERS, SINGLE)
    return ChainParamsResult(
        **origin(snapshot),
        network=genesis.network,
        chain=context.service.chain,
        genesis=encode(genesis),
        rehearsal=genesis.rehearsal,
        clock=genesis.clock,
        parameters=genesis.parameters if changed is None else changed,
    )


def header_result(header: Header) -> HeaderResult:
    return HeaderResult(
        height=header.height,
        block_hash=form.block(block_hash(header)),
        time=form.time(header.time_ms),
        version=header.version,
        chain=header.chain,
        parent=form.block(header.parent),
        proposer=form.node(header.proposer),
        transaction_count=header.transaction_count,
        transactions_root=header.transactions_root,
        receipts_root=header.receipts_root,
        state_root=header.state_root,
        validators_hash=header.validators_hash,
        next_validators_hash=header.next_validators_hash,
        raw=encode(header),
    )


def _events(receipt: Receipt | AutomaticReceipt) -> list[dict[str, Any]]:
    return [render(event) for event in receipt.events]
