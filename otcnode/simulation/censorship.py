"""A primary that leaves out what one client sends, and what is seen of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from otcnode.genesis import genesis_account_id
from otcnode.mempool import Mempool
from otcnode.simulation.workload import REGULATOR
from otcnode.vm.transactions import Decoded

RESCUED = "a censored transaction was rescued"


class CensoringPool(Mempool):
    """Takes everything, and while `is_on` shows nothing that the regulator sent. `censored` is told what it hides."""

    def __init__(self, is_on: Callable[[], bool], censored: Callable[[bytes], None]) -> None:
        super().__init__()
        self._is_on = is_on
        self._censored = censored
        self._victim = genesis_account_id(REGULATOR)

    def __iter__(self) -> Iterator[Decoded]:
        hides = self._is_on()
        for decoded in super().__iter__():
            if hides and decoded.transaction.body.sender == self._victim:
                self._censored(decoded.id)
            else:
                yield decoded
