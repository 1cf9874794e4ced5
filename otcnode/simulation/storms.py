"""Storms: view after view with few commits, each round cruel in one particular way.

One node alone hears the PREPAREs and is then cut off, so that it alone holds a proof; one node alone hears the COMMITs
and is cut off, so that it alone has committed; two hear what the others do not; whoever spoke restarts. These are the
places where the rules of a view change decide, and which loss by chance seldom reaches.
"""

from __future__ import annotations

from collections.abc import Iterator

from otcnode.simulation.chance import Chance
from otcnode.simulation.plan import Crash, CrashPoint, Fault, Loss, Partition

ROUNDS_MAX = 24
SAGAS_PERMILLE = 350
HEARD_BY_FEW = (
    (),
    ("prepare",),
    ("prepare",),
    ("commit", "decision", "sync"),
    ("commit", "decision", "sync"),
    ("prepare", "commit", "decision", "sync"),
    ("pre-prepare", "new-view"),
    ("new-view",),
)
"""What all but a few miss in one round, by the tags of consensus messages."""
LOST_BY_ALL = (
    ("pre-prepare",),
    ("prepare",),
    ("commit", "decision", "sync"),
    ("view-change",),
    ("new-view",),
    ("entries", "bodies"),
)


class Storm:
    """The faults of one storm, in order; `first_id` is that of the first fault."""

    def __init__(self, chance: Chance, count: int, view_timeout_ms: int, safety_ms: int, first_id: int) -> None:
        self._chance = chance
        self._nodes = tuple(range(count))
        self._view_timeout_ms = view_timeout_ms
        self._safety_ms = safety_ms
        self._first_id = first_id
        self._faults: list[Fault] = []
        self._few: tuple[int, ...] = ()
        self._cut_next = False

    def faults(self) -> list[Fault]:
        at_ms = self._chance.between(100, 800, "storm begins")
        for number in range(ROUNDS_MAX):
            lasts_ms = self._lasts_ms(number)
            if at_ms + lasts_ms >= self._safety_ms:
                break
            if len(self._nodes) >= 4 and self._chance.happens(SAGAS_PERMILLE, "saga", number):
                at_ms = self._saga(number, at_ms)
                continue
            for fault in self._round(number, at_ms, lasts_ms):
                self._faults.append(fault)
            at_ms += lasts_ms
        return self._faults

    def _saga(self, number: int, at_ms: int) -> int:
        """Three acts, each of which may fail to come: somebody alone hears PREPAREs; it is away while the others open
        a view, in which somebody else alone hears COMMITs; that one is away while the first is back."""
        chance = self._chance
        first, second = chance.sample(self._nodes, 2, "heroes", number)
        if chance.happens(500, "heroes change places", number):
            first, second = second, first
        timeout_ms = self._view_timeout_ms
        hears_ms = chance.between(timeout_ms // 3, 3 * timeout_ms // 2, "act 1", number)
        away_ms = chance.between(timeout_ms, 4 * timeout_ms, "act 2", number)
        absent_ms = chance.between(2 * timeout_ms, 5 * timeout_ms, "act 3", number)
        self._hears(first, ("prepare", "commit", "decision", "sync"), at_ms, hears_ms)
        self._away(first, at_ms + hears_ms, away_ms)
        self._hears(second, ("commit", "decision", "sync"), at_ms + hears_ms, away_ms)
        self._away(second, at_ms + hears_ms + away_ms, absent_ms)
        return at_ms + hears_ms + away_ms + absent_ms

    def _hears(self, one: int, kinds: tuple[str, ...], at_ms: int, for_ms: int) -> None:
        others = tuple(node for node in self._nodes if node != one)
        self._faults.append(
            Loss(id=self._next_id, at_ms=at_ms, permille=1_000, kinds=kinds, receivers=others, for_ms=for_ms)
        )

    def _away(self, one: int, at_ms: int, for_ms: int) -> None:
        self._faults.append(Partition(id=self._next_id, at_ms=at_ms, group=(one,), for_ms=for_ms))

    @property
    def _next_id(self) -> int:
        return self._first_id + len(self._faults)

    def _lasts_ms(self, number: int) -> int:
        """A little, or about as long as a view."""
        timeout_ms = self._view_timeout_ms
        scale_ms = self._chance.choice((60, timeout_ms, timeout_ms, 2 * timeout_ms, 3 * timeout_ms), "lasts", number)
        return self._chance.between(scale_ms // 2, scale_ms + scale_ms // 2, "lasts exactly", number)

    def _round(self, number: int, at_ms: int, lasts_ms: int) -> Iterator[Fault]:
        chance = self._chance
        few, cut = self._few, self._cut_next
        if not cut or chance.happens(700, "few again", number):
            yield from self._heard_by_few(number, at_ms, lasts_ms, few if cut else ())
        else:
            self._cut_next = False
        if cut:
            for_ms = lasts_ms * chance.choice((1, 1, 2, 3), "cut for", number)
            yield Partition(id=self._next_id, at_ms=at_ms, group=few, for_ms=for_ms)
        if chance.happens(150, "alone", number):
            alone = chance.below(len(self._nodes), "alone", number)
            yield Partition(id=self._next_id, at_ms=at_ms, group=(alone,), for_ms=lasts_ms)
        for kinds in LOST_BY_ALL:
            if chance.happens(50, "lost", number, kinds[0]):
                permille = chance.choice((300, 700, 1_000), "lost", number, kinds[0])
                yield Loss(id=self._next_id, at_ms=at_ms, permille=permille, kinds=kinds, for_ms=lasts_ms)
        if chance.happens(200, "crash", number):
            yield Crash(
                id=self._next_id,
                at_ms=at_ms + chance.below(lasts_ms, "crash at", number),
                node=chance.below(len(self._nodes), "crash of", number),
                point=chance.choice(list(CrashPoint), "crash point", number),
                count=chance.between(1, 10, "crash count", number),
                torn_bytes=chance.between(0, 400, "torn", number),
                down_ms=chance.between(20, 2 * self._view_timeout_ms, "down", number),
            )

    def _heard_by_few(self, number: int, at_ms: int, lasts_ms: int, but: tuple[int, ...]) -> Iterator[Fault]:
        chance = self._chance
        self._cut_next = False
        kinds = chance.choice(HEARD_BY_FEW, "heard by few", number)
        among = [node for node in self._nodes if node not in but]
        if not kinds or not among:
            return
        few = 1 if chance.happens(750, "by one", number) else chance.between(1, len(among), "few", number)
        self._few = tuple(chance.sample(among, few, "the few", number))
        others = tuple(node for node in self._nodes if node not in self._few)
        self._cut_next = chance.happens(800, "then cut", number)
        yield Loss(id=self._next_id, at_ms=at_ms, permille=1_000, kinds=kinds, receivers=others, for_ms=lasts_ms)
