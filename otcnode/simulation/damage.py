"""What a process says of its disk when it ends, judged by what was done to that disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from otcnode.errors import StorageDamage
from otcnode.simulation.disk import Disk

FULL = "disk found full"
REFUSED = "disk found refusing to write"
UNREAD = "disk found refusing to read"
ROTTEN = "rot found when read"
MISHASHED = "rot found by the hash of a bucket"
WENT_ON = "went on after a full disk"
SILENCED = "rot found in the voting record"
AT_THE_END = "rot found by reading everything"
DAMAGE_MARKS = (FULL, REFUSED, UNREAD, ROTTEN, MISHASHED, WENT_ON, SILENCED, AT_THE_END)

_WORDS = (
    ("free space, then start the node again", FULL),
    ("check the disk, then start the node again", REFUSED),
    ("check it, then start the node again", REFUSED),
    ("the disk refuses to read; check it with: otcnode db verify", UNREAD),
    ("is damaged; stop the node and run: otcnode db verify", ROTTEN),
)
"""What helps, and what must have happened then."""


def finding(disk: Disk, damage: StorageDamage) -> str | None:
    """What `damage` is, as a coverage mark; None if nothing of the kind was done to the disk, or the advice is that for
    something else. Where the store itself has told the process, the process must end with these words."""
    text = str(damage)
    if disk.met is None:
        return MISHASHED if disk.is_altered and text.startswith("bucket ") and "db verify" in text else None
    return next((mark for words, mark in _WORDS if text == disk.met and words in text), None)


@contextmanager
def seen_from_outside(disks: Iterable[Disk]) -> Iterator[None]:
    """Meanwhile it is the world that reads these stores, not the processes on them: reads neither fail nor give
    anything but what was written."""
    with ExitStack() as stack:
        for disk in disks:
            if disk.store.troubled:
                stack.enter_context(disk.store.seen_from_outside())
        yield
