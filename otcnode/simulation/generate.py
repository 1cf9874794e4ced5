"""A seed makes a plan: which network, which work, and a swarm of some of the kinds of faults."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from otcnode.blocks import maximum_faulty, quorum
from otcnode.simulation.censored import SIZES as CENSORED_SIZES
from otcnode.simulation.censored import censored
from otcnode.simulation.chance import Chance
from otcnode.simulation.clocked import clocked
from otcnode.simulation.hoarded import hoarded
from otcnode.simulation.plan import (
    DRIFT_MS,
    Act,
    Admit,
    Apply,
    ClockStep,
    Crash,
    CrashPoint,
    Cut,
    Delay,
    Deposit,
    DirectoryLost,
    DiskFails,
    DiskFull,
    DiskOperation,
    Duplication,
    Fault,
    Freeze,
    Habit,
    Liar,
    Loss,
    Partition,
    Pause,
    Plan,
    PutBack,
    RecordLost,
    Reform,
    Review,
    Rot,
    Rotate,
    RotPlace,
    ShelfFails,
    ShelfPlace,
    ShelfRots,
    Signatures,
    SlowSync,
    StoreLost,
    Submission,
    Tune,
    sets_of,
)
from otcnode.simulation.severed import severed
from otcnode.simulation.storms import Storm
from otcnode.simulation.workload import INVESTORS
from otcnode.storage.faulty_folders import FolderOperation

SIZES = (1, 4, 4, 4, 5, 6, 7)
STORM_SIZES = (4, 4, 4, 5, 6, 7)
BESIDE_LIARS = ("kind-loss", "ambush", "crash", "partition", "duplication", "delay")
PARTLY = (Habit.STALE, Habit.FLOOD)
"""Habits that would drown everything else, were they always followed."""
TO_EVERYBODY = (Habit.ROOTS, Habit.REPROPOSE, Habit.REWRITE, Habit.OVERSTATE, Habit.TIME, Habit.HOARD)
"""Habits that need the belief of a quorum to do harm."""
OF_VALID_PARTS = (Habit.OVERSTATE, Habit.MISSIGN, Habit.DOUBLE, Habit.PAD)
"""Habits that put together what is valid by itself."""
OF_TIMES = (Habit.TIME, Habit.HOARD)
"""Habits of false times, and of what is shown late."""
ONLY_ALONE = (Habit.CENSOR, Habit.OPEN, Habit.OPEN_TWICE)
IN_ANY_WEATHER = tuple(habit for habit in Habit if habit not in (*ONLY_ALONE, *OF_VALID_PARTS, *OF_TIMES))
"""What one client's transactions wait for while everything fails says nothing about the primary."""
CENSORED_PERMILLE = 20
CLOCKED_PERMILLE = 20
HOARDED_PERMILLE = 12
WEAK_IN_STORMS_PERMILLE = 400
DISK_PERMILLE = 250
SHELF_PERMILLE = 400
LEAGUE_PERMILLE = 250
OPENS_PERMILLE = 120
"""Of the lies of all kinds, those that open views early instead."""
VALID_PARTS_PERMILLE = 180
"""Of the lies of all kinds, those of valid parts instead."""
OF_TIMES_PERMILLE = 150
"""Of the lies of all kinds, those about times, and proofs that are held back, instead."""
BEYOND_MS = (None, -150, -20, 20, 150, 400, 86_400_000)
"""False times: that of the block below; a little before and after the latest that is accepted; a day ahead."""
WIDE_SKEWS_PERMILLE = 150
"""Of the plans, those in which honest clocks differ by nearly as much as a block's time may differ from them."""
WIDE_WINDOW_PERMILLE = 200
WIDE_WINDOWS = (3, 6, 8, 12, 16)
OTHER_DRIFT_PERMILLE = 200
"""Of the plans, those in which the drift is so many view timeouts."""
DRIFTS_TIMEOUTS = (2, 3, 4, 6)
LOST_BESIDE_PERMILLE = 200
"""Of the networks of four or more, those in which somebody loses its record beside those that are weak for good."""
DIRECTORY_PERMILLE = 400
"""Of those that lose their record, those that lose their blocks with it."""
CLOCKS_BEHIND_MS = (0, -3_000, -8_000, -20_000, -40_000)
"""By how much the clock of a new machine may be wrong."""
SHORT_DRIFT_MS = 2_000
"""Where a record is lost: so its silence is over before the faults are."""
PUT_BACK_PERMILLE = 150
"""Of the nodes that lose something, those whose disk is put back to what it was."""
ROT_PERMILLE = 400
"""Of the nodes that lose something, those on whose disk it rots."""
KINDS = (
    "crash",
    "pause",
    "partition",
    "cut",
    "loss",
    "kind-loss",
    "ambush",
    "duplication",
    "delay",
    "slow-sync",
    "clock-step",
    "weak",
)
DELAYS_MS = ((1, 3), (1, 20), (5, 60), (20, 200))
LOST_KINDS = (("commit",), ("prepare",), ("pre-prepare",), ("new-view",), ("view-change",), ("status",))
SKEW_MS_MAX = 1_000
"""Honest clocks are at least this exact: a quarter of the drift allowed is 1,250 ms."""
REAL_SIGNATURES_EVERY = 25
USURPED_PERMILLE = 250
"""Of the validators that are said to sign over, those that nobody asked."""


class Swarm(StrEnum):
    """Which kinds of faults a plan mixes."""

    MIXED = "mixed"
    """some of all kinds"""
    STORM = "storm"
    """view after view with few commits, little delay, impatient validators"""
    LIARS = "liars"
    """as many nodes as may lie, or lose their record or blocks, and some weather of a storm"""
    CENSORED = "censored"
    """steady work, of which the first primary leaves out what one client sends, and nothing else (censored.py)"""
    CLOCKS = "clocks"
    """steady work, while the first primary lies about the time or clocks differ much, and nothing else (clocked.py)"""
    HOARD = "hoard"
    """view after view without PREPAREs, while one node keeps the only proof to itself (hoarded.py)"""
    SEVERED = "severed"
    """a link that stays cut for good between two who have to go on, and a third that links them (severed.py); no seed
    chooses it by itself"""


SCRIPTED = (Swarm.CENSORED, Swarm.CLOCKS, Swarm.HOARD, Swarm.SEVERED)
SWARMS = (Swarm.MIXED,) * 5 + (Swarm.STORM,) * 3 + (Swarm.LIARS,) * 2


SNAPSHOT_INTERVAL, BEHIND_BLOCKS, BLOCKS_KEPT = 2, 3, 4
CHUNKS_BYTES = (0, 400)
"""One chunk holds the state, or sixteen do."""
LIES_OF_SERVERS = (Habit.JUNK, Habit.COUNTERFEIT)
GATHERING_POINTS = (CrashPoint.IDLE, CrashPoint.WRITE_LOST, CrashPoint.WRITE_LOST, CrashPoint.WRITE_DONE)


@dataclass(frozen=True, slots=True)
class Options:
    """`validators` 0, `swarm` None: the seed chooses."""

    validators: int = 0
    swarm: Swarm | None = None
    submissions: int = 16
    safety_ms: int = 12_000
    liveness_ms: int = 240_000
    reforms_permille: int = 125
    """Of the networks of four or more, those whose validators change."""
    snapshots_permille: int = 250
    """Of the networks of several nodes, those in which blocks are pruned, snapshots are made and taken, weak nodes
    rather lose their blocks or serve false ones, and somebody comes late."""
    habits: tuple[Habit, ...] = ()
    """What liars may do; empty: anything."""
    rots: bool = False
    """The disk of every weak node rots, and storms have weak nodes."""
    disk_permille: int = DISK_PERMILLE
    """Of the mixed plans, those in which disks are full or fail."""
    shelf_permille: int = SHELF_PERMILLE
    """Of the plans with snapshots, those in which disks refuse or alter these."""
    stores_lost: bool = False
    """Every weak node loses its blocks, and storms have weak nodes."""
    put_back: bool = False
    """The disk of every weak node is put back to what it was, and storms have weak nodes."""
    directories_lost: bool = False
    """Somebody loses its record and its blocks, whatever else there is."""
    twins_permille: int = 125
    """Of the plans without a storm, those whose clients circulate two copies of one transaction."""
    league_permille: int = LEAGUE_PERMILLE
    """Of the plans in which any two may be weak and may do anything, those whose liars act as one."""


def generate(seed: int, options: Options | None = None) -> Plan:
    """The plan of a seed."""
    options = options or Options()
    match _scripted(seed, options):
        case Swarm.CENSORED:
            return censored(seed, options.validators, options.liveness_ms)
        case Swarm.CLOCKS:
            return clocked(seed, options.validators, options.liveness_ms)
        case Swarm.HOARD:
            return hoarded(seed, options.liveness_ms)
        case Swarm.SEVERED:
            return severed(seed, options.validators, options.liveness_ms)
        case _:
            return _Generator(seed, options).plan()


def _scripted(seed: int, options: Options) -> Swarm | None:
    """The swarm, if its plans are made elsewhere."""
    if options.swarm is not None or options.habits or options.validators not in (0, *CENSORED_SIZES):
        return options.swarm if options.swarm in SCRIPTED else None
    chance = Chance(seed)
    if chance.happens(CENSORED_PERMILLE, "censored"):
        return Swarm.CENSORED
    if chance.happens(CLOCKED_PERMILLE, "clocked"):
        return Swarm.CLOCKS
    return Swarm.HOARD if options.validators in (0, 4) and chance.happens(HOARDED_PERMILLE, "hoarded") else None


class _Generator:
    def __init__(self, seed: int, options: Options) -> None:
        self._seed = seed
        self._options = options
        self._chance = Chance(seed)
        self._swarm = options.swarm or self._chance.choice(SWARMS, "swarm")
        self._stormy = self._swarm is not Swarm.MIXED
        sizes = STORM_SIZES if self._stormy else SIZES
        self._count = options.validators or self._chance.choice(sizes, "validators")
        self._snapshots = self._count > 1 and self._chance.happens(options.snapshots_permille, "snapshots")
        self._reforming = self._count >= 4 and self._chance.happens(options.reforms_permille, "reforms")
        self._grows = self._reforming and self._count == 4 and self._chance.happens(250, "grows")
        self._spares = self._choose_spares()
        self._strangers = self._chance.choice((0, 1, 2), "strangers") if self._reforming else 0
        self._nodes = tuple(range(self._count + self._spares + self._strangers))
        self._twins = not self._stormy and self._chance.happens(options.twins_permille, "twins")
        self._faults: list[Fault] = []
        bursts = 16 if self._stormy else self._chance.between(3, 6, "bursts")
        self._bursts_ms = [self._chance.between(100, self._last_ms(n), "burst", n) for n in range(bursts)]
        self._delay_ms = self._chance.choice(DELAYS_MS[:2] if self._stormy else DELAYS_MS, "delay")
        timeouts_ms = (300, 400, 600) if self._stormy else (1_000, 2_000)
        self._view_timeout_ms = self._chance.choice(timeouts_ms, "view timeout")
        self._kinds = self._kinds_of_swarm()

    def plan(self) -> Plan:
        chance, count = self._chance, self._count
        weak = self._weak() if "weak" in self._kinds else []
        self._crashes()
        self._disk_faults()
        self._stalls()
        self._network_faults()
        self._latecomer()
        if self._stormy and count > 1:
            safety_ms = self._options.safety_ms if self._swarm is Swarm.STORM else self._options.safety_ms // 2
            storm = Storm(chance, count, self._view_timeout_ms, safety_ms, self._next_id())
            self._faults += storm.faults()
        self._shelf_faults()
        self._loss_beside(weak)
        drift_ms = self._drift_ms()
        skew_ms_max = self._skew_ms_max(drift_ms)
        strong = [node for node in self._nodes if node not in weak]
        # Whichever set comes to decide, all of it that is strong survives.
        spare = 0 if self._spares else count - quorum(count) - len(weak)
        left_out = chance.sample(strong, chance.between(0, spare, "left out"), "left out") if spare > 0 else []
        return Plan(
            seed=self._seed,
            validators=count,
            spares=self._spares,
            strangers=self._strangers,
            signatures=Signatures.ED25519 if self._seed % REAL_SIGNATURES_EVERY == 0 else Signatures.HASH,
            window=self._window(),
            drift_ms=drift_ms,
            view_timeout_ms=self._view_timeout_ms,
            view_timeout_ms_max=chance.choice((1_200, 5_000) if self._stormy else (8_000, 30_000), "view timeout max"),
            block_transactions_max=chance.choice(
                (1, 1, 1, 2) if self._stormy or self._snapshots else (1, 1, 3, 2_000), "block transactions"
            ),
            rotation_blocks=chance.choice((10_000_000, 3, 5, 1_000, 1_000, 1_000), "rotation"),
            record_bytes=chance.choice((1, 3_000, 30_000), "record bytes"),
            second_key=self._twins,
            delay_ms=self._delay_ms,
            verify_ms_max=chance.choice((0, 2, 10), "verify"),
            snapshot_interval=SNAPSHOT_INTERVAL if self._snapshots else 0,
            behind_blocks=BEHIND_BLOCKS if self._snapshots else 0,
            blocks_kept=BLOCKS_KEPT if self._snapshots else 0,
            chunk_bytes=chance.choice(CHUNKS_BYTES, "chunk bytes") if self._snapshots else 0,
            skews_ms=tuple(chance.between(-skew_ms_max, skew_ms_max, "skew", node) for node in self._nodes),
            safety_ms=self._options.safety_ms,
            liveness_ms=self._options.liveness_ms,
            survivors=tuple(node for node in strong if node not in left_out),
            rest_frozen=chance.happens(600, "rest frozen"),
            workload=(*self._workload(), *self._reforms(frozenset(weak))),
            faults=tuple(sorted(self._faults, key=lambda fault: (fault.at_ms, fault.id))),
        )

    @property
    def _surely_loses(self) -> bool:
        return self._options.stores_lost or self._options.rots or self._options.put_back

    def _kinds_of_swarm(self) -> frozenset[str]:
        """Mostly about half of the kinds at once; sometimes few, for one fault can hide what another would show. Storms
        are faults enough, but for a weak node now and then."""
        chance = self._chance
        match self._swarm:
            case Swarm.STORM:
                weak = self._surely_loses or chance.happens(WEAK_IN_STORMS_PERMILLE, "weak in a storm")
                return frozenset(["weak"] if weak else [])
            case Swarm.LIARS:
                return frozenset(["weak", *chance.sample(BESIDE_LIARS, 1, "beside liars")])
            case Swarm.MIXED:
                pass
            case Swarm.CENSORED | Swarm.CLOCKS | Swarm.HOARD | Swarm.SEVERED:
                raise AssertionError("such plans are made elsewhere")
            case _:
                assert_never(self._swarm)
        disk = ["disk"] if chance.happens(self._options.disk_permille, "disk") else []
        if chance.happens(600, "crowded"):
            return frozenset([*disk, *(kind for kind in KINDS if chance.happens(450, "kind", kind))])
        few = chance.sample(KINDS, chance.between(1, 2, "few"), "few")
        return frozenset([*disk, *few, "ambush"] if chance.happens(500, "ambushed") else [*disk, *few])

    def _last_ms(self, burst: int) -> int:
        """Where somebody comes late there must be something to be late for."""
        safety_ms = self._options.safety_ms
        return safety_ms // 4 if self._snapshots and burst % 3 < 2 else safety_ms - 1_000

    # ---- other validators, other parameters

    def _choose_spares(self) -> int:
        """Nodes that wait to be validators, in networks that change; one that follows, where it may come late."""
        chance = self._chance
        if self._reforming:
            return 3 if self._grows else chance.between(1, 3, "spares")
        return 1 if self._snapshots and self._count >= 4 and chance.happens(500, "follower") else 0

    def _reforms(self, weak: frozenset[int]) -> list[Submission]:
        """Changes of the validators, now and then two in quick succession, of who is admitted, of keys and of the
        window: such that whoever comes to decide bears what is weak among them."""
        if not self._reforming:
            return []
        chance = self._chance
        submissions = self._growth(weak) if self._grows else []
        for number in range(chance.between(1, 4, "how many reforms")):
            near = submissions and chance.happens(400, "in quick succession", number)
            at_ms = submissions[-1].at_ms + 100 if near else self._at("reform", number)
            act = self._change(weak, number, [submission.act for submission in submissions])
            if act is not None:
                submissions.append(self._handed(at_ms, act, number))
        return submissions

    def _handed(self, at_ms: int, act: Act, number: int) -> Submission:
        return Submission(at_ms=at_ms, node=self._chance.below(self._count, "reform to", number), act=act)

    def _growth(self, weak: frozenset[int]) -> list[Submission]:
        """Four validators become seven, and four of these seven are left."""
        chance = self._chance
        all_of_them = self._nodes[: self._count + self._spares]
        left = tuple(sorted(chance.sample(all_of_them, 4, "left over")))
        acts = (Reform(members=all_of_them), Reform(members=left))
        if not self._bears(weak, acts):
            return []
        at_ms = chance.between(200, 2_000, "grows at")
        return [
            self._handed(at_ms, acts[0], -2),
            self._handed(at_ms + chance.between(3_000, 9_000, "shrinks"), acts[1], -1),
        ]

    def _change(self, weak: frozenset[int], number: int, before: list[Act]) -> Act | None:
        """None if none was found at once."""
        chance = self._chance
        if not chance.happens(750, "of nodes", number):
            return Tune(window=chance.between(1, 4, "new window", number))
        for attempt in range(8):
            act = self._change_of_nodes(number, attempt)
            if self._bears(weak, (*before, act)) and _can_end((*before, act)):
                return act
        return None

    def _bears(self, weak: frozenset[int], acts: Iterable[Act]) -> bool:
        return all(len(weak & set(members)) <= maximum_faulty(len(members)) for members in sets_of(self._count, acts))

    def _change_of_nodes(self, number: int, attempt: int) -> Act:
        """Four validators or more; a successor for one; or a node comes or goes."""
        chance, known = self._chance, self._count + self._spares
        kind = chance.choice(("reform", "reform", "rotate", "admit"), "change", number, attempt)
        if kind == "rotate" and self._strangers:
            successor = chance.choice(self._nodes[known:], "successor", number, attempt)
            return Rotate(
                validator=chance.below(known, "signs over", number, attempt),
                successor=successor,
                usurped=chance.happens(USURPED_PERMILLE, "usurped", number, attempt),
            )
        if kind == "admit":
            member = chance.choice(self._nodes[self._count :], "member", number, attempt)
            return Admit(member=member, admitted=member >= known or chance.happens(300, "again", number, attempt))
        # Strangers too may be wanted, and fail unless they have been admitted before.
        among = self._nodes if chance.happens(300, "strangers too", number, attempt) else self._nodes[:known]
        size = chance.between(4, len(among), "size", number, attempt)
        return Reform(members=tuple(sorted(chance.sample(among, size, "members", number, attempt))))

    # ---- work

    def _workload(self) -> tuple[Submission, ...]:
        """In bursts, so that several blocks are in flight at once."""
        return tuple(
            Submission(
                at_ms=self._chance.choice(self._bursts_ms, "burst", index) + self._chance.below(60, "when", index),
                node=self._chance.below(self._count, "to", index),
                act=(act := self._act(index)),
                lives_ms=self._lives_ms(index),
                twin_node=self._twin_node(index) if self._twins and isinstance(act, Deposit) else None,
            )
            for index in range(self._options.submissions)
        )

    def _twin_node(self, index: int) -> int | None:
        chance = self._chance
        return chance.below(self._count, "twin to", index) if chance.happens(700, "twin", index) else None

    def _lives_ms(self, index: int) -> int:
        if self._chance.happens(100, "short", index):
            return self._chance.choice((2_000, 20_000), "short life", index)
        return 600_000

    def _act(self, index: int) -> Act:
        chance = self._chance
        kind = chance.below(10, "act", index)
        if kind < 6:
            investor = chance.below(len(INVESTORS), "investor", index)
            return Deposit(investor=investor, amount=chance.between(1, 100_000, "amount", index))
        if kind < 7:
            investor = chance.below(len(INVESTORS), "investor", index)
            return Freeze(investor=investor, amount=chance.between(1, 50_000, "amount", index))
        if kind < 9 or index == 0:
            return Apply(applicant=index)
        return Review(applicant=chance.below(index, "applicant", index), approve=chance.happens(700, "approve", index))

    # ---- faults

    def _at(self, kind: str, number: int) -> int:
        """Most faults come when there is something to break: while a burst of work is under way."""
        chance = self._chance
        if chance.happens(700, "near", kind, number):
            return chance.choice(self._bursts_ms, "burst", kind, number) + chance.below(
                3 * self._delay_ms[1] + 60, "after", kind, number
            )
        return chance.between(100, self._options.safety_ms - 500, "at", kind, number)

    def _for(self, kind: str, number: int, most_ms: int) -> int:
        """Short ones are as frequent as long ones."""
        scale_ms = min(most_ms, self._chance.choice((100, 500, 3_000, most_ms), "scale", kind, number))
        return self._chance.between(20, scale_ms, "for", kind, number)

    def _number(self, kind: str, most: int) -> int:
        return self._chance.between(1, most, "number", kind) if kind in self._kinds else 0

    def _next_id(self) -> int:
        return len(self._faults) + 1

    def _node(self, kind: str, number: int) -> int:
        return self._chance.below(len(self._nodes), "node", kind, number)

    def _weak(self) -> list[int]:
        """At most f nodes that lie, or lose their record or their blocks."""
        chance = self._chance
        most = maximum_faulty(self._count)
        least = most if self._swarm is Swarm.LIARS else min(1, most)
        weak = chance.sample(self._nodes, chance.between(least, most, "weak"), "weak")
        in_league = len(weak) > 1 and not self._options.habits and not self._surely_loses
        if in_league and chance.happens(self._options.league_permille, "league"):
            self._conspire(weak)
            return weak
        for node in weak:
            loses_permille = 0 if self._options.habits else 600 if self._snapshots else 300
            if self._surely_loses or chance.happens(loses_permille, "loses", node):
                self._lose(node)
                continue
            most_lies = 4 if self._swarm is Swarm.LIARS else 3
            for number in range(chance.between(1, most_lies, "lies", node)):
                self._lie(node, number)
        return weak

    def _lose(self, node: int) -> None:
        """Its record; or its blocks, perhaps without learning of them again soon."""
        chance = self._chance
        down_ms, at_ms = self._for("lost", node, 4_000), self._at("lost", node)
        back_permille = 0 if self._options.stores_lost or self._options.rots else PUT_BACK_PERMILLE
        if chance.happens(1_000 if self._options.put_back else back_permille, "put back", node):
            self._put_back(node, down_ms)
            return
        rots_permille = 1_000 if self._options.rots else 0 if self._options.stores_lost else ROT_PERMILLE
        if chance.happens(rots_permille, "rots", node):
            self._rot(node, at_ms, down_ms)
            return
        record_permille = 0 if self._options.stores_lost else 200 if self._snapshots else 500
        if chance.happens(record_permille, "loses its record", node):
            self._lose_record(node, at_ms, down_ms)
            return
        self._faults.append(StoreLost(id=self._next_id(), at_ms=at_ms, node=node, down_ms=down_ms))
        if chance.happens(700, "stays behind", node):
            behind = Loss(
                id=self._next_id(),
                at_ms=at_ms,
                permille=1_000,
                kinds=("sync", "decision"),
                receivers=(node,),
                for_ms=down_ms + self._for("stays behind", node, 6_000),
            )
            self._faults.append(behind)

    def _put_back(self, node: int, down_ms: int) -> None:
        """Perhaps it learns of what has been decided since by block sync alone."""
        chance, third_ms = self._chance, self._options.safety_ms // 3
        at_ms = chance.between(400, third_ms, "image of", node)
        after_ms = chance.between(300, third_ms, "put back after", node)
        self._faults.append(PutBack(id=self._next_id(), at_ms=at_ms, node=node, after_ms=after_ms, down_ms=down_ms))
        if chance.happens(600, "told nothing", node):
            kinds = ("decision", "view-change", "new-view", "commit")
            for_ms = down_ms + self._for("told nothing", node, 4_000)
            lost = Loss(
                id=self._next_id(),
                at_ms=at_ms + after_ms,
                permille=1_000,
                kinds=kinds,
                receivers=(node,),
                for_ms=for_ms,
            )
            self._faults.append(lost)

    def _lose_record(self, node: int, at_ms: int, down_ms: int) -> None:
        chance = self._chance
        if not (self._options.directories_lost or chance.happens(DIRECTORY_PERMILLE, "loses its directory", node)):
            self._faults.append(RecordLost(id=self._next_id(), at_ms=at_ms, node=node, down_ms=down_ms))
            return
        lost = DirectoryLost(
            id=self._next_id(),
            at_ms=at_ms,
            node=node,
            down_ms=down_ms,
            skew_ms=chance.choice(CLOCKS_BEHIND_MS, "clock behind", node),
            skewed_for_ms=down_ms + self._for("skewed", node, 8_000),
        )
        self._faults.append(lost)

    def _loss_beside(self, weak: list[int]) -> None:
        """Last but one, as _shelf_faults."""
        chance = self._chance
        surely = self._options.directories_lost
        if self._count < 4 or not (surely or chance.happens(LOST_BESIDE_PERMILLE, "lost beside")):
            return
        node = chance.choice([node for node in range(self._count) if node not in weak], "who loses beside")
        at_ms = chance.between(500, self._options.safety_ms // 2, "lost beside at")
        self._lose_record(node, at_ms, self._for("lost beside", node, 3_000))

    def _drift_ms(self) -> int:
        lost = any(isinstance(fault, RecordLost | DirectoryLost) for fault in self._faults)
        if not lost or not self._chance.happens(700, "short drift"):
            return self._other_drift_ms()
        return max(SHORT_DRIFT_MS, 2 * self._view_timeout_ms)

    def _other_drift_ms(self) -> int:
        chance = self._chance
        if not chance.happens(OTHER_DRIFT_PERMILLE, "other drift"):
            return DRIFT_MS
        return chance.choice(DRIFTS_TIMEOUTS, "drift in timeouts") * self._view_timeout_ms

    def _skew_ms_max(self, drift_ms: int) -> int:
        """Two clocks may differ by all of the drift but for what a proposal takes to arrive: then it is not too old for
        the clock that is ahead, and what is too early for the one that is behind waits. Safety bears that, for silence
        too (docs/consensus.md); who is never deposed while he waits for a time asks for less (clocked.py)."""
        exact_ms = min(SKEW_MS_MAX, drift_ms // 5)
        if not self._chance.happens(WIDE_SKEWS_PERMILLE, "wide skews"):
            return exact_ms
        arrives_ms = max(drift_ms // 10, 200 + 4 * self._delay_ms[1])
        return max(exact_ms, (drift_ms - arrives_ms) // 2)

    def _window(self) -> int:
        chance = self._chance
        if chance.happens(WIDE_WINDOW_PERMILLE, "wide window"):
            return chance.choice(WIDE_WINDOWS, "wide window")
        return chance.choice((1, 2, 4, 4), "window")

    def _rot(self, node: int, at_ms: int, down_ms: int) -> None:
        chance = self._chance
        rot = Rot(
            id=self._next_id(),
            at_ms=at_ms,
            node=node,
            place=chance.choice(tuple(RotPlace), "rot in", node),
            entry_place=chance.below(1 << 20, "rotten entry", node),
            byte_place=chance.below(1 << 20, "rotten byte", node),
            dies=chance.happens(600, "dies of rot", node),
            down_ms=down_ms,
        )
        self._faults.append(rot)

    def _conspire(self, weak: list[int]) -> None:
        """All of them show two halves of the others two chains: the worst that quorums have to bear. Perhaps they also
        hide what they know of either when the view changes."""
        chance = self._chance
        others = [node for node in self._nodes if node not in weak]
        half = chance.between(len(others) // 2, (len(others) + 1) // 2, "half")
        victims = tuple(chance.sample(others, half, "victims of a league"))
        at_ms = chance.between(0, self._options.safety_ms // 12, "league at")
        hides = chance.happens(500, "league hides")
        for node in weak:
            for habit in (Habit.EQUIVOCATE, Habit.HIDE) if hides else (Habit.EQUIVOCATE,):
                lie = Liar(
                    id=self._next_id(),
                    at_ms=at_ms,
                    node=node,
                    habit=habit,
                    victims=victims if habit is Habit.EQUIVOCATE else (),
                    for_ms=10_000_000,
                )
                self._faults.append(lie)

    def _lie(self, node: int, number: int) -> None:
        chance = self._chance
        habits = self._options.habits or IN_ANY_WEATHER
        if self._snapshots and not self._options.habits and chance.happens(500, "serves", node, number):
            habits = LIES_OF_SERVERS
        habit = chance.choice(habits, "habit", node, number)
        if habits is IN_ANY_WEATHER and chance.happens(OPENS_PERMILLE, "opens", node, number):
            habit = Habit.OPEN
        elif habits is IN_ANY_WEATHER and chance.happens(VALID_PARTS_PERMILLE, "valid parts", node, number):
            habit = chance.choice(OF_VALID_PARTS, "which valid parts", node, number)
        elif habits is IN_ANY_WEATHER and chance.happens(OF_TIMES_PERMILLE, "later habit", node, number):
            habit = chance.choice(OF_TIMES, "later habit", node, number)
        others = [other for other in self._nodes if other != node]
        victims = chance.sample(
            others, chance.between(1, len(others), "victims", node, number), "victims", node, number
        )
        everyone = habit in TO_EVERYBODY or (
            chance.happens(300, "everyone", node, number) and habit is not Habit.EQUIVOCATE
        )
        partly = habit in PARTLY or (chance.happens(300, "partly", node, number) and habit not in OF_TIMES)
        self._faults.append(
            Liar(
                id=self._next_id(),
                at_ms=chance.between(
                    0, self._options.safety_ms // (12 if self._swarm is Swarm.LIARS else 2), "lie at", node, number
                ),
                node=node,
                habit=habit,
                victims=() if everyone else tuple(victims),
                permille=chance.between(50, 500, "permille", node, number) if partly else 1_000,
                late_ms=chance.between(100, 1_900, "late", node, number) if habit is Habit.SLOW else 0,
                beyond_ms=chance.choice(BEYOND_MS, "beyond", node, number) if habit is Habit.TIME else None,
                views=chance.between(1, 8, "hoards for", node, number) if habit is Habit.HOARD else 0,
                for_ms=chance.choice((self._options.safety_ms, 10_000_000), "lie for", node, number),
            )
        )

    def _crashes(self) -> None:
        chance = self._chance
        for number in range(self._number("crash", 6)):
            self._faults.append(
                Crash(
                    id=self._next_id(),
                    at_ms=self._at("crash", number),
                    node=self._node("crash", number),
                    point=chance.choice(list(CrashPoint), "point", number),
                    count=chance.between(1, 12, "count", number),
                    torn_bytes=chance.between(0, 400, "torn", number),
                    down_ms=self._for("crash", number, 5_000),
                )
            )

    def _latecomer(self) -> None:
        """One node dies before there is a block and comes back when there are many; then it may die again, over what it
        gathers. A node that does not vote, if there is one: so the others get on meanwhile."""
        chance = self._chance
        if not self._snapshots or not chance.happens(600, "latecomer"):
            return
        node = self._count if self._spares else chance.below(self._count, "latecomer")
        at_ms = chance.between(60, 300, "latecomer dies")
        down_ms = chance.between(self._options.safety_ms // 2, self._options.safety_ms - 2_000, "latecomer down")
        self._faults.append(Crash(id=self._next_id(), at_ms=at_ms, node=node, point=CrashPoint.IDLE, down_ms=down_ms))
        for number in range(chance.between(1, 2, "dies gathering")):
            again = Crash(
                id=self._next_id(),
                at_ms=at_ms + down_ms + number * 2_000 + chance.between(0, 150, "gathering", number),
                node=node,
                point=chance.choice(GATHERING_POINTS, "gathering point", number),
                count=chance.between(1, 16, "gathering count", number),
                down_ms=chance.between(20, 2_000, "gathering down", number),
            )
            self._faults.append(again)

    def _disk_faults(self) -> None:
        chance = self._chance
        for number in range(self._number("disk", 4)):
            node, at_ms = self._node("disk", number), self._at("disk", number)
            down_ms, torn_bytes = self._for("disk", number, 3_000), chance.between(0, 400, "torn by the disk", number)
            fault: Fault = DiskFull(
                id=self._next_id(),
                at_ms=at_ms,
                node=node,
                torn_bytes=torn_bytes,
                down_ms=down_ms,
                for_ms=self._for("disk full", number, 8_000),
            )
            if chance.happens(500, "disk fails", number):
                fault = DiskFails(
                    id=self._next_id(),
                    at_ms=at_ms,
                    node=node,
                    operation=chance.choice(list(DiskOperation), "disk operation", number),
                    count=chance.between(1, 12, "disk count", number),
                    torn_bytes=torn_bytes,
                    down_ms=down_ms,
                )
            self._faults.append(fault)

    def _shelf_faults(self) -> None:
        """Last of all, so that whoever has none has the same faults by the same names. What is gathered rots where
        somebody comes late, or else anywhere; what is served about then."""
        chance = self._chance
        if not self._snapshots or not chance.happens(self._options.shelf_permille, "shelf"):
            return
        back = [(fault.node, fault.at_ms + fault.down_ms) for fault in self._faults if isinstance(fault, Crash)]
        for number in range(chance.between(1, 4, "shelf")):
            node = self._node("shelf", number)
            at_ms = chance.between(self._options.safety_ms // 8, self._options.safety_ms - 500, "shelf at", number)
            if chance.happens(400, "shelf fails", number):
                fault: Fault = ShelfFails(
                    id=self._next_id(),
                    at_ms=at_ms,
                    node=node,
                    operation=chance.choice(tuple(FolderOperation), "shelf operation", number),
                    count=chance.between(1, 12, "shelf count", number),
                )
            else:
                place = chance.choice(tuple(ShelfPlace), "shelf place", number)
                if place is not ShelfPlace.MADE and back:
                    node, at_ms = chance.choice(back, "shelf back", number)
                fault = ShelfRots(
                    id=self._next_id(),
                    at_ms=max(at_ms - 1, 0),
                    node=node,
                    place=place,
                    entry_place=chance.below(1 << 20, "shelf entry", number),
                    byte_place=chance.below(1 << 20, "shelf byte", number),
                    count=chance.between(1, 4, "shelf writes", number),
                )
            self._faults.append(fault)

    def _stalls(self) -> None:
        chance = self._chance
        for number in range(self._number("pause", 3)):
            node, for_ms = self._node("pause", number), self._for("pause", number, 8_000)
            at_ms = self._at("pause", number)
            self._faults.append(Pause(id=self._next_id(), at_ms=at_ms, node=node, for_ms=for_ms))
        for number in range(self._number("slow-sync", 2)):
            self._faults.append(
                SlowSync(
                    id=self._next_id(),
                    at_ms=self._at("slow-sync", number),
                    node=self._node("slow-sync", number),
                    sync_ms=chance.between(5, 300, "sync", number),
                    for_ms=self._for("slow-sync", number, 6_000),
                )
            )
        for number in range(self._number("clock-step", 2)):
            node, at_ms = self._node("clock-step", number), self._at("clock-step", number)
            skew_ms = chance.between(-40_000, 40_000, "step", number)
            self._faults.append(ClockStep(id=self._next_id(), at_ms=at_ms, node=node, skew_ms=skew_ms))

    def _network_faults(self) -> None:
        chance = self._chance
        if self._count == 1:
            return
        for number in range(self._number("partition", 3)):
            size = chance.between(1, self._count - 1, "group", number)
            self._faults.append(
                Partition(
                    id=self._next_id(),
                    at_ms=self._at("partition", number),
                    group=tuple(chance.sample(self._nodes, size, "group", number)),
                    for_ms=self._for("partition", number, 8_000),
                )
            )
        for number in range(self._number("cut", 4)):
            sender = self._node("cut", number)
            others = [node for node in self._nodes if node != sender]
            receivers = tuple(chance.sample(others, chance.between(1, len(others), "cut off", number), "cut", number))
            for_ms, at_ms = self._for("cut", number, 10_000), self._at("cut", number)
            self._faults.append(Cut(id=self._next_id(), at_ms=at_ms, sender=sender, receivers=receivers, for_ms=for_ms))
        self._losses()
        self._ambushes()
        for number in range(self._number("duplication", 2)):
            self._faults.append(
                Duplication(
                    id=self._next_id(),
                    at_ms=self._at("duplication", number),
                    permille=chance.choice((50, 300, 900), "duplication", number),
                    late_ms=chance.choice((10, 500, 5_000), "duplication late", number),
                    for_ms=self._for("duplication", number, 10_000),
                )
            )
        for number in range(self._number("delay", 2)):
            extra_ms = chance.choice((50, 500, 3_000), "extra", number)
            for_ms, at_ms = self._for("delay", number, 8_000), self._at("delay", number)
            self._faults.append(Delay(id=self._next_id(), at_ms=at_ms, extra_ms=extra_ms, for_ms=for_ms))

    def _losses(self) -> None:
        """Of everything now and then, and of one kind of message wholly, so that work stops half way."""
        chance = self._chance
        for number in range(self._number("loss", 2)):
            permille = chance.choice((20, 100, 300, 600), "loss", number)
            for_ms, at_ms = self._for("loss", number, 10_000), self._at("loss", number)
            self._faults.append(Loss(id=self._next_id(), at_ms=at_ms, permille=permille, for_ms=for_ms))
        for number in range(self._number("kind-loss", 4)):
            receivers = chance.sample(self._nodes, chance.between(1, self._count, "deaf", number), "deaf", number)
            self._faults.append(
                Loss(
                    id=self._next_id(),
                    at_ms=self._at("kind-loss", number),
                    permille=chance.choice((500, 900, 1_000, 1_000), "kind-loss", number),
                    kinds=chance.choice(
                        LOST_KINDS[: 2 if chance.happens(600, "votes", number) else None], "kinds", number
                    ),
                    receivers=tuple(receivers),
                    for_ms=self._for("kind-loss", number, 6_000),
                )
            )

    def _ambushes(self) -> None:
        """One node learns of a decision that the others do not, and is then cut off for longer than a view lasts: what
        a view change must carry over, it must carry over now."""
        chance = self._chance
        for number in range(self._number("ambush", 2)):
            at_ms = chance.choice(self._bursts_ms, "ambush", number) + chance.below(40, "ambush", number)
            lucky = chance.below(self._count, "lucky", number)
            others = tuple(node for node in self._nodes if node != lucky)
            lasts_ms = self._view_timeout_ms + chance.below(2 * self._view_timeout_ms, "ambush lasts", number)
            self._faults.append(
                Loss(
                    id=self._next_id(),
                    at_ms=at_ms,
                    permille=chance.choice((600, 900, 1_000, 1_000), "ambush loss", number),
                    kinds=chance.choice(
                        (("commit", "decision"), ("commit", "decision"), ("prepare",)), "votes", number
                    ),
                    receivers=others,
                    for_ms=lasts_ms,
                )
            )
            cut_for_ms = lasts_ms + chance.below(3_000, "ambush cut lasts", number)
            if chance.happens(600, "unheard", number):
                self._faults.append(
                    Cut(id=self._next_id(), at_ms=at_ms, sender=lucky, receivers=others, for_ms=cut_for_ms)
                )
                continue
            cut_ms = at_ms + 20 + chance.between(3 * sum(self._delay_ms) // 2, 4 * sum(self._delay_ms), "cut", number)
            self._faults.append(Partition(id=self._next_id(), at_ms=cut_ms, group=(lucky,), for_ms=cut_for_ms))


def _can_end(acts: Iterable[Act]) -> bool:
    """Nobody takes the word of a node that is turned away, so it must not be one that signs over."""
    acts = tuple(acts)
    turned_away = {act.member for act in acts if isinstance(act, Admit) and not act.admitted}
    return not any(isinstance(act, Rotate) and act.validator in turned_away for act in acts)
