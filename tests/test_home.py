"""A key and its voting record are made together or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from otcnode.config import Home
from otcnode.errors import OtcnodeError
from otcnode.home import create_key, write_atomically
from otcnode.node_key import NodeKey
from otcnode.storage.votes_file import FileVotesLog
from tests.storage.test_shelf import full_disk


def test_where_the_disk_is_full_no_key_stays_without_its_record(tmp_path: Path) -> None:
    """Wherever in the two it fills up: the key could be given no record later, and no other could be made there."""
    home, refused = Home(tmp_path), 0
    for file_bytes in range(16, 4_096, 16):
        try:
            with full_disk(file_bytes):
                create_key(home, NodeKey.generate())
            break
        except OtcnodeError as error:
            refused += 1
            assert str(home.key) in str(error) or str(home.record) in str(error)
            assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert refused > 10 and NodeKey.load(home.key)
    record = FileVotesLog(home.record)
    assert record.load()
    record.close()


NO_ROOM, CTRL_C = OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()


@pytest.mark.parametrize(
    ("call", "trouble"),
    [("open", NO_ROOM), *((call, how) for call in ("pwrite", "fsync", "link", "unlink") for how in (NO_ROOM, CTRL_C))],
)
def test_a_key_that_could_not_be_made_with_its_record_can_be_made_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, trouble: BaseException
) -> None:
    """Whichever call it was that the disk refused, or that Ctrl-C came in: a record that stays would be for ever in the
    way of every other key's."""
    whole = getattr(os, call)
    for last in range(20):
        home = Home(tmp_path / str(last))
        calls = count()

        def troubled(*arguments: Any, calls: Iterator[int] = calls, last: int = last, **options: Any) -> Any:
            is_last = next(calls) == last
            if is_last and trouble is NO_ROOM:
                raise trouble
            done = whole(*arguments, **options)
            if is_last:
                raise trouble
            return done

        with monkeypatch.context() as patched:
            patched.setattr(os, call, troubled)
            try:
                create_key(home, NodeKey.generate())
                break
            except (OtcnodeError, OSError, KeyboardInterrupt):
                pass
        assert [path for path in home.path.rglob("*") if path.is_file()] == []
        create_key(home, NodeKey.generate())
    assert 0 < last < 19


def test_a_file_that_the_disk_does_not_take_is_named_and_the_old_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    write_atomically(path, b"old")
    with full_disk(), pytest.raises(OSError, match=f"File too large: '{path}'"):
        write_atomically(path, b"new" * 100)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
