"""Votes received, by height, validator and view; and the bitmaps in which replicas tell each other what they hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple

from otcnode import limits
from otcnode.blocks import ValidatorSignature


class Vote(NamedTuple):
    """One valid PREPARE or COMMIT, without what the book's keys already say."""

    view: int
    block_hash: bytes
    signature: bytes


class Added(Enum):
    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    """The same validator voted for another block at this view and height."""


class VoteBook:
    """Votes of one kind in one epoch.

    Bounded: per height and validator, the vote of the view this replica is in and the highest others
    (limits.votes_other_views_per_validator_max), so a validator that floods views displaces only its own votes.
    """

    def __init__(self) -> None:
        self._heights: dict[int, dict[bytes, dict[int, Vote]]] = {}

    def judge(self, height: int, validator: bytes, view: int, block: bytes) -> Added:
        """What adding such a vote would be; asked before the signature is verified, for copies are frequent."""
        held = self._heights.get(height, {}).get(validator, {}).get(view)
        if held is None:
            return Added.NEW
        return Added.DUPLICATE if held.block_hash == block else Added.CONFLICT

    def add(self, height: int, validator: bytes, vote: Vote, own_view: int) -> Added:
        """Keep a vote whose signature is valid. The first vote of a view stays; a conflicting one is not kept."""
        outcome = self.judge(height, validator, vote.view, vote.block_hash)
        if outcome is Added.NEW:
            views = self._heights.setdefault(height, {}).setdefault(validator, {})
            views[vote.view] = vote
            if len(views) > limits.votes_other_views_per_validator_max:
                others = sorted(view for view in views if view != own_view)
                for view in others[: -limits.votes_other_views_per_validator_max]:
                    del views[view]
        return outcome

    def get(self, height: int, validator: bytes, view: int) -> Vote | None:
        return self._heights.get(height, {}).get(validator, {}).get(view)

    def in_view(self, height: int, view: int) -> list[tuple[bytes, Vote]]:
        """(validator, vote) of one view, sorted by validator."""
        at_height = self._heights.get(height, {})
        return [(name, at_height[name][view]) for name in sorted(at_height) if view in at_height[name]]

    def lacking(self, height: int, view: int, validators: Sequence[bytes], bits: bytes) -> list[tuple[bytes, Vote]]:
        """(validator, vote) of one view where the validator's bit is not set, in the order of `validators`."""
        at_height = self._heights.get(height)
        if at_height is None:
            return []
        held = [(name, at_height[name].get(view)) for name in absent(validators, bits) if name in at_height]
        return [(name, vote) for name, vote in held if vote is not None]

    def signatures(self, height: int, view: int, block: bytes) -> tuple[ValidatorSignature, ...]:
        """Votes of ONE view for one block, sorted by validator; views are never added up."""
        return tuple(
            ValidatorSignature(validator, vote.signature)
            for validator, vote in self.in_view(height, view)
            if vote.block_hash == block
        )

    @property
    def is_empty(self) -> bool:
        return not self._heights

    def voters(self, height: int) -> int:
        """How many have voted at a height, in any view."""
        return len(self._heights.get(height, ()))

    def choices(self, height: int) -> list[tuple[int, bytes]]:
        """Every (view, block hash) voted for at a height, the highest view first."""
        found = {
            (vote.view, vote.block_hash) for views in self._heights.get(height, {}).values() for vote in views.values()
        }
        return sorted(found, reverse=True)

    def heights(self) -> list[int]:
        return sorted(self._heights)

    def forget_through(self, height: int) -> None:
        for old in [known for known in self._heights if known <= height]:
            del self._heights[old]


def bitmap(validators: Sequence[bytes], holders: Iterable[bytes]) -> bytes:
    """Bit i, counted from the lowest of the first byte, is set iff validators[i] is among the holders. Bytes, for a set
    may be larger than an integer of the wire has bits."""
    names = frozenset(holders)
    bits = sum([1 << index for index, name in enumerate(validators) if name in names])
    return bits.to_bytes(-(-len(validators) // 8), "little")


def absent(validators: Sequence[bytes], bits: bytes) -> tuple[bytes, ...]:
    """The validators whose bit is not set; beyond its end none is."""
    held = int.from_bytes(bits, "little")
    return tuple([name for index, name in enumerate(validators) if not held >> index & 1])
