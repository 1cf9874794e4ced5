"""Methods about the node itself. They are open: whoever uses a node may know how it is."""

from __future__ import annotations

from otcnode import __version__
from otcnode.ids import Prefix
from otcnode.rpc import format as form
from otcnode.rpc.method import Context, Params, Result
from otcnode.rpc.service import ArchivedChain, Stage, Syncing


class SyncingResult(Result, frozen=True):
    """What a node that is behind takes from others: `what` is snapshot (`done` chunks of `whole`) or blocks (`done`
    heights of `whole`); `height` is where it will be then."""

    what: str
    height: int
    done: int
    whole: int


class ArchiveResult(Result, frozen=True):
    """A former chain that was put aside, `name` at `place` in the node's home; `first` and `last` of its blocks, null
    where it could not be read."""

    name: str
    place: str
    first: int | None
    last: int | None
    size_bytes: int


class NodeStatusResult(Result, frozen=True, kw_only=True):
    """`mode` is what consensus is doing here in a word; `synced` means that nothing above `height` is claimed by more
    than f validators (where too few are heard, by several peers, or by those more than 64 blocks ahead that may yet
    prove it) or proven by a certificate, else `syncing` says how far it is. `peers_connected` of `peers_expected` are
    other validators. Blocks below `blocks_first` are not kept here, unless in one of `archives`: chains that were put
    aside when a snapshot took their place, as of the last look at the disk (null: there was none yet). They are this
    node's alone and never deleted by it."""

    name: str
    node: form.NodeText
    network: str
    version: str
    validator: bool
    height: int
    block_hash: form.BlockText
    time: form.Time
    ledger_now: form.Time
    epoch: int
    view: int
    mode: str
    validators: int
    quorum: int
    peers_connected: int
    peers_expected: int
    full_nodes_connected: int
    target_height: int
    synced: bool
    syncing: SyncingResult | None
    blocks_first: int
    archives: list[ArchiveResult] | None
    halted: str | None
    mempool_transactions: int
    mempool_bytes: int
    uptime_ms: int


class CauseResult(Result, frozen=True):
    """`kind` is a fixed word; `nodes`: who is waited for or whom it is about, by name; `missing`: how many votes or
    bodies."""

    kind: str
    text: str
    height: int | None
    missing: int
    nodes: list[str]


class ExplanationResult(Result, frozen=True):
    """Why the chain does or does not move, in words and as data: the most telling cause first; operations.md lists
    their kinds. `peers` says how each other validator is; `otcnode explain` makes one conclusion of several nodes'
    answers."""

    name: str
    text: str
    progressing: bool
    height: int
    view: int
    validators: list[str]
    quorum: int
    causes: list[CauseResult]
    peers: dict[str, str]


class PeerResult(Result, frozen=True):
    """`silent_ms`: real milliseconds since something came from it; `refused`: why it is kept out, or empty; `offences`:
    how often it was banned since this node started, by what it did; `misled`: how often somebody else was found at its
    address since then. What follows is of the present connection:
    `throttled_ms`: not read for so long because it sent too much; `dropped`: what its full queues gave up, by channel.
    """

    node: form.NodeText
    name: str
    address: str
    connected: bool
    inbound: bool
    height: int | None
    silent_ms: int | None
    refused: str
    banned_ms: int
    offences: dict[str, int]
    misled: int
    throttled_ms: int
    round_trip_us: int | None
    bytes_in: int
    bytes_out: int
    dropped: dict[str, int]


class PeersResult(Result, frozen=True):
    peers: list[PeerResult]


class MempoolResult(Result, frozen=True):
    transactions: int
    bytes: int
    transactions_max: int
    bytes_max: int
    transactions_per_account_max: int


class TransactionExplainParams(Params, frozen=True):
    id: form.TransactionText


class TransactionExplanationResult(Result, frozen=True):
    """Why the transaction is where it is on this node, in words; `place`: how many that wait here come before it."""

    id: form.TransactionText
    state: Stage
    definite: bool
    text: str
    place: int | None


async def explain_transaction(context: Context, params: TransactionExplainParams) -> TransactionExplanationResult:
    found = context.service.explain_transaction(form.parse_id(Prefix.TRANSACTION, params.id))
    state = found.state
    return TransactionExplanationResult(
        form.transaction(state.id), state.stage, state.definite, found.text, found.place
    )


async def status(context: Context, params: Params) -> NodeStatusResult:
    now = context.service.status()
    return NodeStatusResult(
        name=now.name,
        node=form.node(now.node),
        network=context.service.genesis.network,
        version=__version__,
        validator=now.validator,
        height=now.height,
        block_hash=form.block(now.block_hash),
        time=form.time(now.time_ms),
        ledger_now=form.time(now.ledger_now_ms),
        epoch=now.epoch,
        view=now.view,
        mode=now.mode,
        validators=now.validators,
        quorum=now.quorum,
        peers_connected=now.peers_connected,
        peers_expected=now.peers_expected,
        full_nodes_connected=now.full_nodes_connected,
        target_height=now.target_height,
        synced=now.synced,
        syncing=None if now.syncing is None else _syncing(now.syncing),
        blocks_first=now.blocks_first,
        archives=None if now.archives is None else [_archive(chain) for chain in now.archives],
        halted=now.halted,
        mempool_transactions=now.mempool_transactions,
        mempool_bytes=now.mempool_bytes,
        uptime_ms=now.uptime_ms,
    )


def _archive(chain: ArchivedChain) -> ArchiveResult:
    first, last = chain.heights or (None, None)
    return ArchiveResult(chain.name, chain.place, first, last, chain.size_bytes)


def _syncing(now: Syncing) -> SyncingResult:
    return SyncingResult(now.what, now.height, now.done, now.whole)


async def explain(context: Context, params: Params) -> ExplanationResult:
    now = context.service.explain()
    causes = [CauseResult(one.kind, one.text, one.height, one.missing, list(one.nodes)) for one in now.causes]
    return ExplanationResult(
        now.name,
        now.text,
        now.progressing,
        now.height,
        now.view,
        list(now.validators),
        now.quorum,
        causes,
        dict(now.peers),
    )


async def peers(context: Context, params: Params) -> PeersResult:
    return PeersResult(
        [
            PeerResult(
                form.node(peer.node),
                peer.name,
                peer.address,
                peer.connected,
                peer.inbound,
                peer.height,
                peer.silent_ms,
                peer.refused,
                peer.banned_ms,
                dict(peer.offences),
                peer.misled,
                peer.throttled_ms,
                peer.round_trip_us,
                peer.bytes_in,
                peer.bytes_out,
                dict(peer.dropped),
            )
            for peer in context.service.peers()
        ]
    )


async def mempool(context: Context, params: Params) -> MempoolResult:
    now = context.service.mempool()
    return MempoolResult(
        now.transactions, now.bytes, now.transactions_max, now.bytes_max, now.transactions_per_account_max
    )
