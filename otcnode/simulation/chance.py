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


class Stream:
    """What one asker is told."""

    __slots__ = ("_asked", "_asker")

    def __init__(self, key: bytes, asker: tuple[str | int, ...]) -> None:
        self._asker = hashlib.blake2b(f"({asker!r}, ".encode(), digest_size=8, key=key)
        self._asked = 0

    def draw(self) -> int:
        digest = self._asker.copy()
        digest.update(b"%d)" % self._asked)
        self._asked += 1
        return int.from_bytes(digest.digest(), "big")

    def between(self, low: int, high: int) -> int:
        """An integer in [low, high]."""
        assert low <= high
        return low + self.draw() % (high - low + 1)


class Chance:
    """BLAKE2b of (seed, asker, how often this asker has asked)."""

    __slots__ = ("_key", "_streams")

    def __init__(self, seed: int) -> None:
        self._key = hashlib.blake2b(str(seed).encode(), digest_size=32).digest()
        self._streams: dict[tuple[str | int, ...], Stream] = {}

    def stream(self, *asker: str | int) -> Stream:
        """For whoever asks often: what it is told is what `asker` would be told."""
        stream = self._streams.get(asker)
        if stream is None:
            stream = self._streams[asker] = Stream(self._key, asker)
        return stream

    def draw(self, *asker: str | int) -> int:
        """64 even bits."""
        return self.stream(*asker).draw()

    def below(self, bound: int, *asker: str | int) -> int:
        """An integer in [0, bound)."""
        assert bound > 0
        return self.draw(*asker) % bound

    def between(self, low: int, high: int, *asker: str | int) -> int:
        """An integer in [low, high]."""
        return self.stream(*asker).between(low, high)

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
