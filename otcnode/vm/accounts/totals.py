"""What all cash under an id was at a height: remembered as far back as an attestation may reach."""

from __future__ import annotations

from functools import lru_cache

from otcnode.crypto import tagged_hash
from otcnode.types import INTEGER_MAX
from otcnode.vm.accounts.records import TOTALS_AT, TotalAt
from otcnode.vm.keys import integer
from otcnode.vm.state import State

CASH_DOMAIN = "otcnode/cash/1"


@lru_cache(maxsize=1024)
def _of_cash(cash: str) -> bytes:
    return tagged_hash(CASH_DOMAIN, cash.encode())


@lru_cache(maxsize=1024)
def _place(cash: str, height: int) -> bytes:
    return _of_cash(cash) + integer(INTEGER_MAX - height)


def note_total(state: State, cash: str, height: int, total: int, window: int) -> None:
    """The total from this height on. Of what is older than the window the last entry is kept, which still holds; the
    first change in a block forgets what came before it."""
    place = _place(cash, height)
    first_in_block = state.get(TOTALS_AT, place) is None
    state.put(TOTALS_AT, place, TotalAt(total))
    if not first_in_block:
        return
    for suffix in _entries_down_from(state, cash, max(0, height - window), 3)[1:]:
        state.delete(TOTALS_AT, suffix)


def total_at(state: State, cash: str, height: int) -> int | None:
    """The total when the block at this height was final, None if that is forgotten."""
    for suffix in _entries_down_from(state, cash, height, 1):
        record = state.get(TOTALS_AT, suffix)
        return None if record is None else record.total
    return None


def _entries_down_from(state: State, cash: str, height: int, limit: int) -> list[bytes]:
    """Keys of the entries at this height and below, the highest first."""
    first = _place(cash, height)
    after = first[:32] + integer(INTEGER_MAX - height - 1)
    return [suffix for suffix, _ in state.scan(TOTALS_AT, first[:32], after=after, limit=limit)]
