"""A plan: everything that will happen in one simulation, as a value that can be kept, shrunk and replayed.

Times are virtual milliseconds from the start. Nodes are named by their index in the order of validators (by id).
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

import msgspec

from otcnode.blocks import maximum_faulty, quorum
from otcnode.errors import ConfigurationError
from otcnode.storage.faulty_folders import FolderOperation

PLAN_VERSION = 1
DRIFT_MS = 5_000


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A JSON object."""


class _Fault(_Part, frozen=True, kw_only=True):
    """`id` names the fault to chance, whatever else the plan holds."""

    id: int
    at_ms: int


class CrashPoint(StrEnum):
    """Where inside the node's work the process dies."""

    IDLE = "idle"
    """between two events"""
    EFFECT = "effect"
    """ahead of an effect of the replica"""
    WRITE_LOST = "write-lost"
    """in a block write, which leaves nothing"""
    WRITE_DONE = "write-done"
    """after a block write, before the program goes on"""
    SYNC_LOST = "sync-lost"
    """in a sync of the voting record, which loses what was appended"""
    SYNC_TORN = "sync-torn"
    """in a sync of the voting record, which leaves a part of the frame"""
    SYNC_DONE = "sync-done"
    """after a sync of the voting record"""
    REPLACE_LOST = "replace-lost"
    """in a compaction of the voting record, or where it is written anew at a start, which leaves the old one"""


class Crash(_Fault, frozen=True, kw_only=True, tag="crash"):
    """At the `count`-th occasion of `point` from `at_ms` on the process dies; it starts again `down_ms` later.
    `torn_bytes` are written of what a torn sync writes; where they are odd it is the power
    that goes: the rest reads as zeros, and what was only in memory is gone."""

    node: int
    point: CrashPoint
    count: int = 1
    torn_bytes: int = 0
    down_ms: int


class RecordLost(_Fault, frozen=True, kw_only=True, tag="record-lost"):
    """The process dies and its voting record is gone: it starts again silent. Counts among the f until it votes
    again."""

    node: int
    down_ms: int


class DirectoryLost(_Fault, frozen=True, kw_only=True, tag="directory-lost"):
    """The process dies, and its voting record and its blocks are gone: it starts again silent, from the genesis, by a
    clock that is off by `skew_ms` more than before until `skewed_for_ms` later. Counts among the f until it votes
    again."""

    node: int
    down_ms: int
    skew_ms: int
    skewed_for_ms: int


class StoreLost(_Fault, frozen=True, kw_only=True, tag="store-lost"):
    """The process dies and its blocks are gone, its voting record is not: it starts again from the genesis, and votes
    once it has caught up with its record. Counts among the f."""

    node: int
    down_ms: int


class PutBack(_Fault, frozen=True, kw_only=True, tag="put-back"):
    """The process dies `after_ms` later, and its blocks and its voting record are put back to what they are now, as by
    an image of its machine: intact, and without what it has signed since. Counts among the f."""

    node: int
    after_ms: int
    down_ms: int


class DiskOperation(StrEnum):
    """What the disk is asked for."""

    READ = "read"
    """of the store"""
    WRITE = "write"
    """of a block; nothing of it is written"""
    WRITE_KEPT = "write-kept"
    """of a block; it is on the disk all the same"""
    SYNC = "sync"
    """of the voting record; a part of the frame is written"""
    REPLACE = "replace"
    """a compaction of the voting record, or when it is written anew at a start; the old one stays"""


class DiskFails(_Fault, frozen=True, kw_only=True, tag="disk-fails"):
    """At the `count`-th occasion of `operation` from `at_ms` on the disk refuses, once. The process has to end, and
    starts again `down_ms` later."""

    node: int
    operation: DiskOperation
    count: int = 1
    torn_bytes: int = 0
    down_ms: int


class DiskFull(_Fault, frozen=True, kw_only=True, tag="disk-full"):
    """Nothing can be written. A process that tries has to end, and starts again `down_ms` later, room or no room."""

    node: int
    torn_bytes: int = 0
    down_ms: int
    for_ms: int


class RotPlace(StrEnum):
    """Where a byte changes."""

    STORE = "store"
    """in any entry of the store; here and where not said otherwise a checksum tells whoever reads it"""
    STATE = "state"
    """in a value of the latest state"""
    BODY = "body"
    """in the transactions of a block"""
    BUCKET = "bucket"
    """in the hash of a bucket of the state tree"""
    LEAF = "leaf"
    """in a leaf of the state tree, whose checksum agrees: the hash of its bucket tells"""
    RECORD = "record"
    """in the voting record"""


class ShelfFails(_Fault, frozen=True, kw_only=True, tag="shelf-fails"):
    """At the `count`-th occasion of `operation` from `at_ms` on the disk refuses, once, what concerns the snapshots
    that the node has made. It gives up what it cannot keep, says so, and goes on."""

    node: int
    operation: FolderOperation
    count: int = 1


class ShelfPlace(StrEnum):
    """Which snapshot a byte changes in."""

    MADE = "made"
    """in a file of one that is made or served; here and where not said otherwise a checksum tells"""
    GATHERED = "gathered"
    """in a leaf of the state tree of one that is being gathered"""
    GATHERED_LEAF = "gathered-leaf"
    """the same, but the checksum agrees: the root of the state tree tells"""


class ShelfRots(_Fault, frozen=True, kw_only=True, tag="shelf-rots"):
    """One bit of a snapshot changes at rest; of one that is being gathered, after the `count`-th write from the moment
    on that leaves it not whole. The node gives it up, says so, and goes on."""

    node: int
    place: ShelfPlace
    entry_place: int
    byte_place: int
    count: int = 1


class Rot(_Fault, frozen=True, kw_only=True, tag="rot"):
    """One bit of what is stored changes at rest, and the process dies if it `dies`. Whoever reads it has to end; its
    operator removes the store, and it starts again `down_ms` later from the genesis. A voting record makes it silent.
    Counts among the f."""

    node: int
    place: RotPlace
    entry_place: int
    byte_place: int
    dies: bool
    down_ms: int


class Pause(_Fault, frozen=True, kw_only=True, tag="pause"):
    """The process stands still; what arrives waits."""

    node: int
    for_ms: int


class Partition(_Fault, frozen=True, kw_only=True, tag="partition"):
    """Nothing passes between `group` and the others, either way."""

    group: tuple[int, ...]
    for_ms: int


class Cut(_Fault, frozen=True, kw_only=True, tag="cut"):
    """Nothing passes from `sender` to `receivers`; the other way works. `outlasts`: the heal does not end it."""

    sender: int
    receivers: tuple[int, ...]
    outlasts: bool = False
    for_ms: int


class Loss(_Fault, frozen=True, kw_only=True, tag="loss"):
    """Each message to `receivers` (empty: to anyone) of one of the `kinds` (as consensus messages are tagged, or "sync"
    for those of block sync; empty: of every kind), is lost with this chance."""

    permille: int
    kinds: tuple[str, ...] = ()
    receivers: tuple[int, ...] = ()
    for_ms: int


class Duplication(_Fault, frozen=True, kw_only=True, tag="duplication"):
    """Each message arrives a second time, up to `late_ms` later, with this chance."""

    permille: int
    late_ms: int
    for_ms: int


class Delay(_Fault, frozen=True, kw_only=True, tag="delay"):
    """Each message takes up to `extra_ms` longer and may overtake others."""

    extra_ms: int
    for_ms: int


class SlowSync(_Fault, frozen=True, kw_only=True, tag="slow-sync"):
    """Every durable write of the node takes this long, and the process stands still meanwhile."""

    node: int
    sync_ms: int
    for_ms: int


class ClockStep(_Fault, frozen=True, kw_only=True, tag="clock-step"):
    """The node's wall clock is off by this much from now on."""

    node: int
    skew_ms: int


class Habit(StrEnum):
    """How a liar lies."""

    EQUIVOCATE = "equivocate"
    """as primary another proposal, and for every height other votes, to the nodes in `victims`"""
    MUTE = "mute"
    """says nothing to the nodes in `victims`"""
    STALE = "stale"
    """repeats what was said long ago, by anybody"""
    FORGE = "forge"
    """VIEW-CHANGEs and NEW-VIEWs with forged proofs or one VIEW-CHANGE twice, votes and STATUSes in others' names"""
    CERTIFY = "certify"
    """VIEW-CHANGEs and decisions with forged certificates"""
    HIDE = "hide"
    """VIEW-CHANGEs without the proofs it holds"""
    REPROPOSE = "repropose"
    """NEW-VIEWs that propose other blocks again than those that follow"""
    OPEN = "open"
    """to whoever waits for a view of its own a NEW-VIEW before a quorum has asked for it, with fewer VIEW-CHANGEs or
    none"""
    OPEN_TWICE = "open-twice"
    """after a NEW-VIEW another one for the same view, as valid: with another VIEW-CHANGE of its own in it"""
    REWRITE = "rewrite"
    """as new primary also other blocks where the chain is decided, with votes for them"""
    ROOTS = "roots"
    """as primary blocks whose state root is not what execution gives"""
    JUNK = "junk"
    """bodies with other signatures than those asked for, in consensus and in block sync, and altered snapshots"""
    COUNTERFEIT = "counterfeit"
    """snapshots of a chain of its own, whole and consistent in themselves, but for who decided it"""
    STATUS = "status"
    """STATUSes that claim every vote, every body and heights and views that nobody has reached"""
    OVERSTATE = "overstate"
    """VIEW-CHANGEs of a higher height than their certificate, valid in itself, is of"""
    MISSIGN = "missign"
    """as new primary what must be proposed again, under signatures of another view or none"""
    DOUBLE = "double"
    """everything that it signs a second time, under another valid signature"""
    PAD = "pad"
    """decisions and proofs of one validator too few, filled up with a second signature of its own"""
    SLOW = "slow"
    """everything it says leaves late"""
    FLOOD = "flood"
    """votes for heights and views, and VIEW-CHANGEs for views, far ahead, one after the other"""
    CENSOR = "censor"
    """as primary proposals without what the regulator sends; everybody is told the same"""
    TIME = "time"
    """as primary blocks of a false time; everybody is told the same"""
    HOARD = "hoard"
    """keeps its proofs to itself and shows them late, where it asks for each next view ahead of everybody else; commits
    to nothing, opens no view, and serves none of these blocks"""


class Liar(_Fault, frozen=True, kw_only=True, tag="liar"):
    """An honest node whose outgoing messages are rewritten. Counts among the f."""

    node: int
    habit: Habit
    victims: tuple[int, ...]
    permille: int = 1_000
    late_ms: int = 0
    beyond_ms: int | None = None
    """False times are so much further ahead of its clock than the drift allowed; None: they are that of the block
    below."""
    views: int = 0
    """A hoarded proof is shown so many views after its own, and later."""
    for_ms: int


Fault: TypeAlias = (
    Crash
    | RecordLost
    | DirectoryLost
    | StoreLost
    | PutBack
    | DiskFails
    | DiskFull
    | Rot
    | ShelfFails
    | ShelfRots
    | Pause
    | Partition
    | Cut
    | Loss
    | Duplication
    | Delay
    | SlowSync
    | ClockStep
    | Liar
)


class Deposit(_Part, frozen=True, kw_only=True, tag="deposit"):
    """The custodian credits an investor."""

    investor: int
    amount: int


class Freeze(_Part, frozen=True, kw_only=True, tag="freeze"):
    """The regulator freezes an amount of an investor's cash; it fails while the investor has less."""

    investor: int
    amount: int


class Apply(_Part, frozen=True, kw_only=True, tag="apply"):
    """Somebody new asks for an account."""

    applicant: int


class Review(_Part, frozen=True, kw_only=True, tag="review"):
    """The KYC desk decides on an application; it fails while there is none."""

    applicant: int
    approve: bool


class Reform(_Part, frozen=True, kw_only=True, tag="reform"):
    """The regulator proposes that exactly these nodes decide; the KYC desk approves it several times, for the approval
    fails until those that join have said that they are ready."""

    members: tuple[int, ...]


class Admit(_Part, frozen=True, kw_only=True, tag="admit"):
    """The regulator proposes that this node is admitted, or with `admitted` False turned away, which fails while it
    votes; the KYC desk approves it."""

    member: int
    admitted: bool


class Rotate(_Part, frozen=True, kw_only=True, tag="rotate"):
    """A validator signs over to the key of a node that is not admitted, which so is, and votes in its place once it
    says that it is ready. `usurped`: the successor signs for the validator, whose word it has not; nobody takes it."""

    validator: int
    successor: int
    usurped: bool = False


class Tune(_Part, frozen=True, kw_only=True, tag="tune"):
    """The regulator proposes another window; the KYC desk approves it."""

    window: int


Act: TypeAlias = Deposit | Freeze | Apply | Review | Reform | Admit | Rotate | Tune


class Submission(_Part, frozen=True, kw_only=True):
    """A client signs a transaction and hands it to `node`; it hands the same bytes to other nodes until it is final
    or its time is over."""

    at_ms: int
    node: int
    act: Act
    lives_ms: int = 600_000
    twin_node: int | None = None
    """To which the client hands, at the same time, a copy with its other signature: the same transaction in other
    bytes. Only of a Deposit, in a plan with `second_key`."""
    within_ms: int | None = None
    """So long after it was handed over, or after the heal if that is later, it must be final on every survivor. None:
    within the plan's `liveness_ms`."""


class Signatures(StrEnum):
    ED25519 = "ed25519"
    HASH = "hash"
    """Votes only; clients' signatures are always Ed25519."""


class Plan(_Part, frozen=True, kw_only=True):
    """`survivors` are the nodes that the second phase heals; the others stand still from then on if `rest_frozen`,
    else they live on, liars lying. Every submission must be final on every survivor within `liveness_ms`,
    if progress is promised (see silenced)."""

    version: int = PLAN_VERSION
    seed: int
    validators: int
    spares: int = 0
    """Nodes that the genesis admits and that do not vote at first; their indexes follow the validators'."""
    strangers: int = 0
    """Nodes that the genesis does not admit; their indexes come last."""
    signatures: Signatures = Signatures.HASH
    window: int = 4
    block_transactions_max: int = 2_000
    rotation_blocks: int = 1_000
    drift_ms: int = DRIFT_MS
    """How far the time of a block may be from the clock of whoever votes for it."""
    view_timeout_ms: int = 2_000
    view_timeout_ms_max: int = 30_000
    record_bytes: int = 1 << 20
    """How much is appended to a voting record before it is compacted."""
    snapshot_interval: int = 0
    """A snapshot is made at every height that this divides; 0: none is made or taken."""
    behind_blocks: int = 0
    """A node that is so far behind takes a snapshot."""
    chunk_bytes: int = 0
    """About how large the chunks of snapshots are; 0: as those of the daemon."""
    blocks_kept: int = 0
    """0: all."""
    second_key: bool = False
    """The custodian has another key to sign with."""
    delay_ms: tuple[int, int] = (1, 20)
    """The least and the most that a message takes."""
    verify_ms_max: int = 2
    skews_ms: tuple[int, ...]
    safety_ms: int
    liveness_ms: int
    survivors: tuple[int, ...]
    rest_frozen: bool = False
    view_max: int | None = None
    """No honest node may ask for a higher view: in this plan no primary of that view or above leaves anything undone.
    None: any may be asked for."""
    workload: tuple[Submission, ...]
    faults: tuple[Fault, ...] = ()

    @property
    def nodes(self) -> int:
        return self.validators + self.spares + self.strangers

    @property
    def sets(self) -> tuple[tuple[int, ...], ...]:
        """The sets of validators that may come to decide, the first one first: it, those that are proposed, and each
        with successors in the place of those that sign over."""
        return sets_of(self.validators, [submission.act for submission in self.workload])

    @property
    def governs(self) -> bool:
        """Whether anything is proposed and approved."""
        return any(isinstance(submission.act, Reform | Admit | Tune) for submission in self.workload)

    @property
    def window_max(self) -> int:
        """The largest that any epoch may have."""
        acts = (submission.act for submission in self.workload)
        return max([self.window, *(act.window for act in acts if isinstance(act, Tune))])

    @property
    def liars(self) -> frozenset[int]:
        return frozenset(fault.node for fault in self.faults if isinstance(fault, Liar))

    @property
    def unbound(self) -> frozenset[int]:
        """Who may contradict what it has signed: those that lie, and those that cannot know of it."""
        return self.liars | {fault.node for fault in self.faults if isinstance(fault, PutBack)}

    @property
    def censors(self) -> frozenset[int]:
        return frozenset(fault.node for fault in self.faults if isinstance(fault, Liar) and fault.habit is Habit.CENSOR)

    @property
    def weakened(self) -> frozenset[int]:
        """Those that count among the f for good."""
        return self.unbound | {fault.node for fault in self.faults if isinstance(fault, StoreLost | Rot)}

    @property
    def silenced(self) -> frozenset[int]:
        """Those that lose their record. However many they are nobody is harmed. Who was a validator then, or had said
        that it is ready, counts among the f until it votes again: progress is promised if, at the heal, no more of
        them are silent than the f bear beside the weakened. Who only followed comes to decide once it may vote."""
        return frozenset(fault.node for fault in self.faults if isinstance(fault, RecordLost | DirectoryLost))

    def promises_progress(self, silent: Set[int]) -> bool:
        """Whether the survivors can go on while these are silent, in every set that may come to decide."""
        voters, weak = set(self.survivors) - silent, self.weakened | silent
        return all(
            len(weak & set(members)) <= maximum_faulty(len(members))
            and len(voters & set(members)) >= quorum(len(members))
            for members in self.sets
        )


def sets_of(validators: int, acts: Iterable[Act]) -> tuple[tuple[int, ...], ...]:
    """See Plan.sets."""
    acts = list(acts)
    found = [tuple(range(validators)), *(act.members for act in acts if isinstance(act, Reform))]
    rotations = [act for act in acts if isinstance(act, Rotate) and not act.usurped]
    for members in found:
        for act in rotations:
            if act.validator in members and act.successor not in members:
                after = tuple(sorted({*members, act.successor} - {act.validator}))
                if after not in found:
                    found.append(after)
    return tuple(found)


def save(plan: Plan, path: Path) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(plan), indent=1) + b"\n")


def load(path: Path) -> Plan:
    """Raises ConfigurationError with one readable line."""
    try:
        plan = msgspec.json.decode(path.read_bytes(), type=Plan)
    except OSError as error:
        raise ConfigurationError(f"cannot read the plan {path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not a plan: {error}") from None
    check(plan)
    return plan


def check(plan: Plan) -> None:
    """Raise ConfigurationError unless the plan can be carried out and promises can be kept under it."""
    count = plan.validators
    if plan.version != PLAN_VERSION:
        raise ConfigurationError(f"plan version {plan.version}: this simulator knows version {PLAN_VERSION}")
    if count < 1 or plan.spares < 0 or len(plan.skews_ms) != plan.nodes:
        raise ConfigurationError("a plan needs at least one validator and one clock skew for each node")
    if min(plan.window, plan.block_transactions_max, plan.rotation_blocks) < 1:
        raise ConfigurationError("window, block_transactions_max and rotation_blocks are at least 1")
    twins = [submission for submission in plan.workload if submission.twin_node is not None]
    if any(submission.within_ms is not None and submission.within_ms <= 0 for submission in plan.workload):
        raise ConfigurationError("a submission must be final within no time")
    if twins and not (plan.second_key and all(isinstance(submission.act, Deposit) for submission in twins)):
        raise ConfigurationError("a twin of what nobody can sign twice: only Deposits, and with second_key")
    named = {
        *plan.survivors,
        *(submission.twin_node for submission in twins),
        *(submission.node for submission in plan.workload),
        *(index for fault in plan.faults for index in _named(fault)),
        *(index for members in plan.sets for index in members),
        *(index for submission in plan.workload for index in _acting(submission.act)),
    }
    if not named <= set(range(plan.nodes)):
        raise ConfigurationError(f"the plan names a node that is not among its {plan.nodes} nodes")
    if len(plan.weakened) > (count - 1) // 3:
        raise ConfigurationError(
            f"{len(plan.weakened)} nodes lie or lose their blocks, or these rot: more than f of {count}"
        )
    if set(plan.survivors) & plan.weakened:
        raise ConfigurationError("a survivor lies or loses its blocks, or these rot")
    for members in plan.sets:
        if len(plan.weakened & set(members)) > maximum_faulty(len(members)):
            raise ConfigurationError(f"more than f of the validators {members} lie or lose their blocks")
        if not members or len(set(plan.survivors) & set(members)) < quorum(len(members)):
            raise ConfigurationError(f"too few of the validators {members} survive")
    if not _are_linked(plan):
        raise ConfigurationError("no survivor hears all the others after the heal, so nobody can pass on what they say")
    ids = [fault.id for fault in plan.faults]
    if len(ids) != len(set(ids)):
        raise ConfigurationError("two faults have the same id")


def _are_linked(plan: Plan) -> bool:
    """Whether one survivor keeps all its links to the others: what they say to each other it can pass on, and it hears
    a quorum directly, as long as any is there."""
    outlasting = [fault for fault in plan.faults if isinstance(fault, Cut) and fault.outlasts]
    ends = {index for fault in outlasting for index in (fault.sender, *fault.receivers)}
    return not ends or bool(set(plan.survivors) - ends)


def _acting(act: Act) -> tuple[int, ...]:
    match act:
        case Admit(member=member):
            return (member,)
        case Rotate(validator=validator, successor=successor):
            return (validator, successor)
        case _:
            return ()


def _named(fault: Fault) -> tuple[int, ...]:
    match fault:
        case Partition(group=group):
            return group
        case Cut(sender=sender, receivers=receivers):
            return (sender, *receivers)
        case Liar(node=node, victims=victims):
            return (node, *victims)
        case Loss(receivers=receivers):
            return receivers
        case Duplication() | Delay():
            return ()
        case _:
            return (fault.node,)
