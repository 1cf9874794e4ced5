"""Pure functions of frozen values that are asked the same again and again."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")


def remembered(most: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """The results for the `most` latest different arguments are kept. As functools.lru_cache, whose type would take
    any arguments."""

    def remember(function: Callable[P, R]) -> Callable[P, R]:
        return cast(Callable[P, R], lru_cache(maxsize=most)(function))

    return remember
