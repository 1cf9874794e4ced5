"""What a checker of invariants reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """`invariant` is its number (docs/invariants.md)."""

    invariant: int
    detail: str
