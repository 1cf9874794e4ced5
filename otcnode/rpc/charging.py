"""What a message to the API takes of its caller's budget: the prices of its calls, or the processor's time if that is
more. A price is taken before the call; what the call then took beyond it is charged as it is taken, into debt."""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from otcnode import limits

T = TypeVar("T")


class Bill:
    """Of one message. `charge` takes units of the caller's budget, `processor_ns` is the clock of this thread's
    processor time: what else the machine does in between is not the caller's."""

    def __init__(self, charge: Callable[[int], None], processor_ns: Callable[[], int], reading: int = 0) -> None:
        self._charge = charge
        self._processor_ns = processor_ns
        self.reading = reading
        """What the message has been charged before a call of it was admitted, as it would be again."""
        self._took_ns = 0
        self._paid = 0
        self._admitted = False

    def paid(self, cost: int) -> None:
        """The price of a call has been taken."""
        self._paid += cost
        self._admitted = True
        self.reading = 0

    @types.coroutine
    def metered(self, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        """`work`, every step of which counts; while it waits for something it costs nothing."""
        step = partial(work.send, None)
        while True:
            try:
                with self.counted():
                    waits_for = step()
            except StopIteration as end:
                outcome: T = end.value
                return outcome
            try:
                step = partial(work.send, (yield waits_for))
            except GeneratorExit:
                work.close()
                raise
            except BaseException as error:
                step = partial(work.throw, error)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """What is done within, without waiting for anything."""
        began_ns = self._processor_ns()
        try:
            yield
        finally:
            self._count(self._processor_ns() - began_ns)

    def _count(self, took_ns: int) -> None:
        self._took_ns += took_ns
        owed = self._took_ns // limits.rpc_cost_unit_ns - self._paid
        if owed > 0:
            self._paid += owed
            self._charge(owed)
            if not self._admitted:
                self.reading += owed
