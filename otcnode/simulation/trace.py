"""What happened, line by line: a running hash over all of it, and the last lines for whoever has to understand."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable

TAIL_LINES = 60


class Trace:
    """`show` is given every line as it happens."""

    def __init__(self, show: Callable[[str], None] | None = None) -> None:
        self._show = show
        self._digest = hashlib.blake2b(digest_size=16)
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.lines = 0

    def add(self, time_ms: int, node: int | None, text: str) -> None:
        line = f"{time_ms:>8} {'--' if node is None else f'n{node}'} {text}"
        self.lines += 1
        self._digest.update(line.encode())
        self._tail.append(line)
        if self._show is not None:
            self._show(line)

    @property
    def hash(self) -> str:
        """Equal for two runs exactly if the same happened in both."""
        return self._digest.hexdigest()

    @property
    def tail(self) -> tuple[str, ...]:
        return tuple(self._tail)
