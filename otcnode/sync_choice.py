"""Blocks or a snapshot: which of them a node that is behind takes. Pure.

Who keeps a window of blocks takes a snapshot where it is far behind, where nobody keeps the blocks it needs, and where
they come so slowly that all of them would take longer than a snapshot may.

Who keeps all blocks, and has any, would break its row of them, unless they are but the beginning of its first way up,
which the store says (`Store.first_way_up`). It takes blocks however far behind it is, and a snapshot
only where for minutes nobody has served them even as fast as an honest peer does over a slow link, or the chain was
faster than they came: so one that is
silent or drips cannot hold it up for ever, and one that is started again meanwhile is waited for. Few blocks are not
worth minutes.
"""

from __future__ import annotations

from typing import NamedTuple

from otcnode import limits
from otcnode.snapshot_sync import MANIFEST_HOLD_MS, PACE_WINDOW_MS, WHOLE_MS, Wanted

PATIENCE_MS = 10 * PACE_WINDOW_MS
"""The window in which a node that keeps all blocks, and has more than a few, judges how fast they come."""
STEP_MS_MAX = 1_000
"""Whoever has not looked for longer was stopped or busy, and did not wait for anybody."""
YOUNG_MS = WHOLE_MS
"""Who has caught up has a block that is no older: a chain that goes on is not far above it, whatever others say."""
SLOW_LINK_MS = 15_000
"""So long a whole answer takes an honest peer at worst: it times out, and is asked again after a pause."""


class Seen(NamedTuple):
    """What a node sees of itself and others: its height, the lowest block it keeps, the height that others support and
    the highest that any claims (0: nobody says anything), whether nobody who is further keeps the block it needs next,
    whether it waits for that block, and whether it has not caught up since its store began."""

    height: int
    blocks_first: int
    supported: int
    furthest: int
    lacking: bool
    waits: bool
    first_way_up: bool

    @property
    def blocks(self) -> int:
        """How many the node has itself."""
        return self.height - self.blocks_first + 1


def caught_up(height: int, supported: int, age_ms: int) -> bool:
    """Whether a node whose last block is so old is as far as others say they are. Neither would do alone: a peer may
    have just begun itself or lie, and others may be far ahead on a chain that has made all its blocks in minutes."""
    return 0 < supported <= height and age_ms < YOUNG_MS


class BlockPace:
    """How fast blocks come, in the time in which the node waits for them: what it takes to execute them is not its
    peers' doing. Judged once in a window, until the next one."""

    def __init__(self, slow_links_suffice: bool) -> None:
        self._slow_links_suffice = slow_links_suffice
        self._looked_ms: int | None = None
        self.reset()

    def reset(self) -> None:
        """Nobody is further."""
        self.slow = False
        self._missing = 0
        self._time_ms: int | None = None
        self._begin()

    def _begin(self) -> None:
        self._passed_ms = self._waited_ms = self._blocks = self._bytes = 0
        self._missing_first: int | None = None
        self._time_first_ms = self._time_ms

    def took(self, size_bytes: int, time_ms: int) -> None:
        """A block of a peer, made at this time, is about to become the next one of the chain."""
        self._time_ms = time_ms
        self._time_first_ms = time_ms if self._time_first_ms is None else self._time_first_ms
        self._blocks += 1
        self._bytes += size_bytes

    def look(self, missing: int | None, waits: bool, now_ms: int, window_ms: int) -> None:
        """`missing` blocks are to come; None: nobody who has a say tells, and as many as before are."""
        passed_ms = 0 if self._looked_ms is None else min(now_ms - self._looked_ms, STEP_MS_MAX)
        self._looked_ms = now_ms
        self._missing = self._missing if missing is None else missing
        self._missing_first = missing if self._missing_first is None else self._missing_first
        self._passed_ms += passed_ms
        self._waited_ms += passed_ms if waits else 0
        if self._waited_ms >= window_ms:
            self.slow = not self._was_good(window_ms)
            self._begin()

    def _was_good(self, window_ms: int) -> bool:
        if self._blocks >= max(1, self._missing * window_ms // WHOLE_MS):
            return True
        answers = window_ms // SLOW_LINK_MS
        enough = answers * limits.sync_blocks_per_request_max
        enough_bytes = answers * limits.sync_response_bytes_max // 2
        fast = self._blocks >= enough or self._bytes >= enough_bytes
        return self._slow_links_suffice and fast and self._came_nearer()

    def _came_nearer(self) -> bool:
        """To the height that others support, or to the present: the blocks tell of more time than has passed. Heights
        can be made up, if by enough peers, and many blocks can be of little time."""
        if self._missing_first is not None and self._missing < self._missing_first:
            return True
        if self._time_ms is None or self._time_first_ms is None:
            return False
        return self._time_ms - self._time_first_ms > self._passed_ms


class SyncChoice:
    """`behind_blocks`: so far behind is far. `keeps_all`: no block is ever dropped."""

    def __init__(self, behind_blocks: int, keeps_all: bool) -> None:
        self._behind_blocks = behind_blocks
        self._keeps_all = keeps_all
        self.pace = BlockPace(slow_links_suffice=keeps_all)
        self._wanted_first_ms: int | None = None
        self.holds_blocks = False
        """Whether a node without any looks for a snapshot first, for a moment: blocks that come are not executed, for
        they would only be given up again."""

    def snapshot(self, seen: Seen, now_ms: int) -> Wanted | None:
        """Which snapshots are wanted; None: blocks will do."""
        self._measure(seen, now_ms)
        wanted = self._choose(seen)
        if wanted is not None and self._wanted_first_ms is None:
            self._wanted_first_ms = now_ms
        since_ms = self._wanted_first_ms
        looks = wanted is not None and since_ms is not None and now_ms < since_ms + MANIFEST_HOLD_MS
        self.holds_blocks = looks and not seen.blocks
        return wanted

    def _measure(self, seen: Seen, now_ms: int) -> None:
        if seen.furthest <= seen.height or 0 < seen.supported <= seen.height:
            self.pace.reset()
        missing = seen.supported - seen.height if seen.supported else None
        has_many = seen.blocks >= limits.blocks_kept_min
        self.pace.look(missing, seen.waits, now_ms, PATIENCE_MS if self._keeps_all and has_many else PACE_WINDOW_MS)

    def _choose(self, seen: Seen) -> Wanted | None:
        if self._keeps_all and seen.blocks and not seen.first_way_up:
            return Wanted(seen.height, seen.supported, beyond=True) if self.pace.slow else None
        if seen.lacking:
            return Wanted(seen.height, seen.supported, beyond=True)
        if seen.supported - seen.height >= self._behind_blocks:
            return Wanted(seen.height + self._behind_blocks - 1, seen.supported, beyond=False)
        return Wanted(seen.height, seen.supported, beyond=False) if self.pace.slow else None
