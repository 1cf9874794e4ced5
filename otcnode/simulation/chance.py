"""Chance that is keyed by who asks.

Every question has an asker (a purpose and whom it concerns), and every asker its own stream. Removing one fault from a
plan therefore does not change what chance decides for anybody else, so that a failing plan can be shrunk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

PERMILLE = 1_000


class Chance:
    """BLAKE2b of (seed, asker, how often this asker has asked)."""

    __slots__ = ("_asked", "_key")

    def __init__(self, seed: int) -> None:
        self._key = hashlib.blake2b(str(seed).encode(), digest_size=32).digest()
        self._asked: dict[tuple[object, ...], int] = {}

    def draw(self, *asker: str | int) -> int:
        """64 even bits."""
        count = self._asked.get(asker, 0)
        self._asked[asker] = count + 1
        question = repr((asker, count)).encode()
        return int.from_bytes(hashlib.blake2b(question, digest_size=8, key=self._key).digest(), "big")

    def below(self, bound: int, *asker: str | int) -> int:
        """An integer in [0, bound)."""
        assert bound > 0
        return self.draw(*asker) % bound

    def between(self, low: int, high: int, *asker: str | int) -> int:
        """An integer in [low, high]."""
        return low + self.below(high - low + 1, *asker)

    def happens(self, permille: int, *asker: str | int) -> bool:
        """True in `permille` of 1,000 cases; asks nothing where the answer is certain."""
        if permille <= 0:
            return False
        return permille >= PERMILLE or self.below(PERMILLE, *asker) < permille

    def choice(self, among: Sequence[T], *asker: str | int) -> T:
        return among[self.below(len(among), *asker)]

    def sample(self, among: Sequence[T], count: int, *asker: str | int) -> list[T]:
        """`count` different ones, in the order of `among`."""
        positions = list(range(len(among)))
        chosen = [positions.pop(self.below(len(positions), *asker)) for _ in range(count)]
        return [among[position] for position in sorted(chosen)]
