"""What the API needs of a node, and nothing more. The node's shell implements it; tests use a small working fake.

Everything here is called on the node's loop. What answers at once is a plain function; what waits is `async`. Where
many transactions may come together the door takes many: work is done per batch, not per transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias

import msgspec

from otcnode.blocks import Block, Certificate, Epoch, Header
from otcnode.engine.host import Stage as Stage
from otcnode.errors import Code, OtcnodeError, StorageDamage
from otcnode.evidence.absence import Absence
from otcnode.genesis import Genesis
from otcnode.storage.state_proof import StateProof
from otcnode.vm.documents.records import Filing
from otcnode.vm.view import StateView


class Frozen(msgspec.Struct, frozen=True):
    """A frozen value that is neither hashed nor stored."""


class TransactionState(Frozen, frozen=True):
    """`definite`: it has not happened and never will. `height`, `index` (its place among the block's transactions) and
    `code` are there where it is committed; `operation` is the failing one, from 0, where the code is not OK."""

    id: bytes
    stage: Stage
    definite: bool = False
    height: int | None = None
    index: int | None = None
    code: Code | None = None
    operation: int | None = None
    reason: str = ""

    @property
    def final(self) -> bool:
        """Nothing more will come: it is committed, or it never will be."""
        return self.stage is Stage.COMMITTED or self.definite


class Refused(Frozen, frozen=True):
    """A transaction this node did not take. `definite` only where no node ever will."""

    code: Code
    detail: str
    definite: bool


class Overloaded(Frozen, frozen=True):
    """No room now (the pool, or this account's share of it, is full); another node may have it."""

    detail: str


class NotReady(Frozen, frozen=True):
    """This node cannot judge transactions now: it is starting, catching up or stopping."""

    detail: str


Submission: TypeAlias = TransactionState | Refused | Overloaded | NotReady


class Simulation(Frozen, frozen=True):
    """What a transaction would do on the state of `height`: its canonical receipt, and nothing is kept."""

    height: int
    code: Code
    operation: int | None
    detail: str
    events: tuple[object, ...]


class Snapshot(Frozen, frozen=True):
    """The state after a committed block. `time_ms` is ledger time."""

    view: StateView
    height: int
    block_hash: bytes
    time_ms: int


class BlockReceipts(Frozen, frozen=True):
    """Canonical receipts of a block, the leaves under its receipts root: automatic ones first."""

    automatic: tuple[bytes, ...]
    transactions: tuple[bytes, ...]


class Syncing(Frozen, frozen=True, kw_only=True):
    """What a node that is behind is taking from others: "snapshot" in chunks or "blocks" in heights; `height` is where
    it will be then."""

    what: str
    height: int
    done: int
    whole: int


class ArchivedChain(Frozen, frozen=True):
    """A chain whose place a snapshot took, put aside by name at a place in the node's home; `heights`: first and last
    of its blocks, None if it could not be read."""

    name: str
    place: str
    heights: tuple[int, int] | None
    size_bytes: int


class NodeStatus(Frozen, frozen=True, kw_only=True):
    """A node at one moment. Times are ledger milliseconds, `uptime_ms` real ones."""

    name: str
    node: bytes
    validator: bool
    height: int
    block_hash: bytes
    time_ms: int
    ledger_now_ms: int
    epoch: int
    view: int
    mode: str
    """In a word what consensus is doing here: active, changing view, silent, following, halted."""
    validators: int
    quorum: int
    peers_connected: int
    """Other validators, of `peers_expected`."""
    peers_expected: int
    full_nodes_connected: int
    target_height: int
    """The height that more than f validators claim, or a certificate proves; above `height` while catching up."""
    synced: bool
    disk_writable: bool
    halted: str | None
    mempool_transactions: int
    mempool_bytes: int
    uptime_ms: int
    counters: Mapping[str, int]
    """Totals since the start, by name (for example `blocks_committed`); they become Prometheus counters."""
    syncing: Syncing | None = None
    """None: it is not behind."""
    blocks_first: int = 1
    """The lowest height whose block is kept here."""
    archives: tuple[ArchivedChain, ...] | None = ()
    """None: it has not been looked yet."""


class Cause(Frozen, frozen=True):
    """One thing that a node waits for, or why it does not do its part (consensus/explain.py). `nodes`: who is waited
    for or whom it is about; `missing`: how many votes or bodies."""

    kind: str
    text: str
    height: int | None
    missing: int
    nodes: tuple[str, ...]


class Explanation(Frozen, frozen=True):
    """Why the chain does or does not move, as this node sees it: a sentence, and the same as data."""

    name: str
    text: str
    progressing: bool
    height: int
    view: int
    validators: tuple[str, ...]
    quorum: int
    causes: tuple[Cause, ...]
    peers: Mapping[str, str]


class PeerStatus(Frozen, frozen=True, kw_only=True):
    node: bytes
    name: str
    address: str
    connected: bool
    inbound: bool
    height: int | None
    silent_ms: int | None
    """Real milliseconds since something came from it."""
    refused: str
    """Why it is kept out, or empty."""
    banned_ms: int = 0
    """For how much longer it is kept out for what it did."""
    offences: Mapping[str, int] = {}
    """How often it was banned since this node started, by what it did."""
    misled: int = 0
    """How often somebody else was found at its address since this node started."""
    throttled_ms: int = 0
    """For how long it was not read because it sent too much; this and the rest since the present connection began."""
    round_trip_us: int | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    dropped: Mapping[str, int] = {}
    """Messages that its full queues gave up, by channel."""


class MempoolStatus(Frozen, frozen=True, kw_only=True):
    transactions: int
    bytes: int
    transactions_max: int
    bytes_max: int
    transactions_per_account_max: int


class MisconductStatus(Frozen, frozen=True, kw_only=True):
    """What this node holds against a validator. `seen_ms` is ledger time; height 0: of a whole view."""

    offence: bytes
    validator: bytes
    name: str
    kind: str
    epoch: int
    view: int
    height: int
    seen_ms: int
    on_chain: bool
    size_bytes: int


class TransactionExplanation(Frozen, frozen=True):
    """Why a transaction is where it is on this node: its state, a sentence, and its place among those that wait."""

    state: TransactionState
    text: str
    place: int | None
    """How many come before it; None where it does not wait."""


class HeightUnavailable(OtcnodeError):
    """The state or block of that height is not kept here, or not reached yet."""

    def __init__(self, first: int, last: int) -> None:
        super().__init__(f"available are heights {first} to {last}")
        self.first = first
        self.last = last


class NodeService(Protocol):
    """The node, as the API sees it."""

    @property
    def genesis(self) -> Genesis: ...

    @property
    def chain(self) -> bytes: ...

    @property
    def node(self) -> bytes:
        """The node's identity, bound into login challenges."""
        ...

    def now_ms(self) -> int:
        """UTC, in real milliseconds: for tokens and rates, never for the ledger."""
        ...

    def damaged(self, error: StorageDamage) -> None:
        """A query met damage on disk: the node must not go on standing on it."""
        ...

    def explain_transaction(self, transaction_id: bytes) -> TransactionExplanation: ...

    async def submit(self, raws: Sequence[bytes], caller: str, pay: Callable[[int], None]) -> Sequence[Submission]:
        """Decode, check and pool transactions; one answer each, in order. It waits for signatures to be verified, not
        for a block. A transaction that is known already answers with its present state, never with an error. `caller`:
        whom they count against, an account that has logged in or an address. `pay` is told of how many signatures were
        verified for a transaction that is then not authentic, whatever is answered."""
        ...

    async def wait(self, ids: Sequence[bytes], timeout_ms: int) -> Sequence[TransactionState]:
        """The states of `ids`, once all are final or the real time has passed. An id nobody has seen yet is waited
        for too. A committed one is found by every later call of `transaction`."""
        ...

    def transaction(self, transaction_id: bytes) -> TransactionState: ...

    def absence(self, transaction_id: bytes) -> Absence | None:
        """This node's signed word that no block up to its last one holds it; None where one does, or there is none."""
        ...

    async def simulate(self, raw: bytes, pay: Callable[[int], None]) -> Simulation | Refused:
        """Run a transaction on the latest state and forget it. Signatures are verified, so that nobody explores with
        a foreign account, once it is admissible without them: `pay` is then told how many, before they are."""
        ...

    def state(self, height: int | None = None) -> Snapshot:
        """The state after `height`, or the latest. Raises HeightUnavailable."""
        ...

    async def await_height(self, height: int, timeout_ms: int) -> bool:
        """Whether `height` was committed within the real time."""
        ...

    @property
    def blocks_first(self) -> int:
        """The lowest height whose block is kept here; the height above the last where there is none."""
        ...

    def block(self, height: int) -> Block:
        """Raises HeightUnavailable, as do the three below; heights begin at 1."""
        ...

    def header(self, height: int) -> Header: ...

    def certificate(self, height: int) -> Certificate: ...

    def receipts(self, height: int) -> BlockReceipts: ...

    def event_places(self, account: bytes, after_height: int) -> Iterator[tuple[int, bytes]]:
        """(height, index entry) of the kept blocks above `after_height` with events that concern the account, in order;
        vm/event_index.py says what is in an entry. Not versioned: entries only ever come to an end of it."""
        ...

    def item_places(self, item: bytes) -> Iterator[tuple[int, bytes]]:
        """(height, index entry) of the blocks with events that tell the life of a contract or trade, ascending."""
        ...

    def put_document(self, raw: bytes) -> Filing | None:
        """Keep a sealed file and tell the other nodes; None if the ledger names no file of this hash and size.
        Raises DocumentNotKept."""
        ...

    def document(self, name: bytes) -> bytes | None:
        """A sealed file that is filed and has arrived here."""
        ...

    def prove(self, key: bytes) -> StateProof:
        """The proof of what the latest state holds under a key, for the state root of the latest header."""
        ...

    def epochs(self) -> Sequence[Epoch]:
        """Every validator set from the genesis on, ascending."""
        ...

    def status(self) -> NodeStatus: ...

    def explain(self) -> Explanation: ...

    def peers(self) -> Sequence[PeerStatus]: ...

    def misconduct(self) -> Sequence[MisconductStatus]:
        """What this node holds against validators."""
        ...

    def misconduct_file(self, offence: bytes) -> bytes | None:
        """The evidence of an offence with what proves its epoch (evidence/misconduct.py). Raises HeightUnavailable
        where the headers that prove it are pruned."""
        ...

    def mempool(self) -> MempoolStatus: ...
