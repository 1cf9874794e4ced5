"""The system refuses to open files, as to a process that has too many of them open."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


@contextlib.contextmanager
def files_left(count: int) -> Iterator[None]:
    """Meanwhile this process opens at most so many more, whichever numbers are free among those in use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    taken: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + count, hard))
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(count):
            os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for number in taken:
            os.close(number)


def refused(read: Callable[P, T]) -> Callable[P, T]:
    """The same reading, while no file can be opened: the process opened others after what it reads from."""

    def reading(*of_what: P.args, **how: P.kwargs) -> T:
        with files_left(0):
            return read(*of_what, **how)

    return reading
