"""How long work on a store tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Told the part that is worked on, how much of it is done, and the whole (0: not known)."""


def silent(part: str, done: int, whole: int) -> None:
    """Nobody watches."""
