"""A KeyValue on LevelDB: every read checks checksums, every write is synced, every failure has a name and advice."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import plyvel

from otcnode.errors import ConfigurationError, DiskFull, OtcnodeError, StorageDamage, StorageRefused
from otcnode.storage.kv import Reader, Write, prefix_end
from otcnode.storage.log_tail import interrupted_from
from otcnode.storage.records import ADVICE, ADVICE_MISSING, ADVICE_RESTORE

CACHE_BYTES = 64 << 20
WRITE_BUFFER_BYTES = 16 << 20
"""Also what is read again from LevelDB's log after a kill; two such buffers may be in memory."""
BLOOM_FILTER_BITS = 10
FILES_OPEN_MAX = 500

_CURRENT = "CURRENT"
"""The file that every LevelDB directory has; without it LevelDB would take a damaged directory for a new one."""
_BEYOND = b"\xff" * 64
"""Behind every key of a table, and of all."""
_MARK = b"\x01" + b"\xff" * 7
"""No key, and deleted at the end of every write: so no record of LevelDB's log ends in zeros, as one does whose end is
not there. It stands before all tables, where no scan of one steps over it."""
_ZEROS_MIN_LOG = 4
_ZEROS_MIN_MANIFEST = 32
"""A record of it ends in a key and LevelDB's number of a write, whose highest bytes are zeros."""
_TABLES = (".ldb", ".sst")
_FULL = ("No space left", "Disk quota exceeded", "File too large")
_REFUSED = (
    "Permission denied",
    "Operation not permitted",
    "Read-only file system",
    "Too many open files",
    "Cannot allocate memory",
)
"""What is there is as it was: whoever took it for damaged would throw a sound chain away."""
_IN_USE = ("already held by process", "Resource temporarily unavailable")


class NoDatabase(ConfigurationError):
    """Nothing in the directory is of a database."""


class LevelKeyValue:
    """One directory, held exclusively while it is open.

    What can be read once it is open is durable, also if a process was killed between a write and its sync: LevelDB
    copies what its log holds to a table, syncs that, the directory and a new list of tables, and then names this list
    in CURRENT; only the directory is to be synced once more.
    """

    def __init__(
        self,
        path: Path,
        *,
        create: bool = False,
        cache_bytes: int = CACHE_BYTES,
        files_open_max: int = FILES_OPEN_MAX,
        spare_bytes: int = 0,
    ) -> None:
        """`spare_bytes`: nothing is written where less is left on the file system. Raises ConfigurationError if
        another process uses the directory, it cannot be made or (unless `create`) it holds nothing, and where the
        system refuses to open it; DiskFull; StorageDamage if it cannot be read in full."""
        self._path = path
        self._spare_bytes = spare_bytes
        self._failed = False
        self.cut: str | None = None
        """What had to be cut off, for the operator."""
        _check_directory(path, create)
        opened = partial(
            plyvel.DB,
            str(path),
            create_if_missing=False,
            paranoid_checks=True,
            lru_cache_size=cache_bytes,
            write_buffer_size=WRITE_BUFFER_BYTES,
            bloom_filter_bits=BLOOM_FILTER_BITS,
            max_open_files=files_open_max,
        )
        try:
            try:
                self._db = opened()
            except plyvel.CorruptionError:
                self.cut = cut_interrupted(path)
                if self.cut is None:
                    raise
                self._db = opened()
            _sync_directory(path)
        except plyvel.Error as error:
            raise _opening(path, error) from None
        except OSError as error:
            self._db.close()
            raise _keeping(path, error) from None

    def get(self, key: bytes) -> bytes | None:
        return _get(self._db, self._path, key)

    def scan(
        self, prefix: bytes, after: bytes | None = None, limit: int | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        return _scan(self._db, self._path, prefix, after, limit, reverse)

    def readable(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Every pair whose key begins with `prefix`, as far as it can be read, in order of key: LevelDB steps over the
        blocks that are damaged, and with them what they say was deleted or replaced since. Raises StorageDamage at the
        end if there was any."""
        iterator, damage = self._db.raw_iterator(verify_checksums=True, fill_cache=False), None
        try:
            move = partial(iterator.seek, prefix)
            while True:
                try:
                    move()
                except plyvel.Error as error:
                    damage = damage or error
                if not iterator.valid() or not iterator.key().startswith(prefix):
                    break
                yield iterator.key(), iterator.value()
                move = iterator.next
        finally:
            iterator.close()
        if damage is not None:
            raise _damage(self._path, damage)

    def write(self, batch: Sequence[Write]) -> None:
        if self._failed:
            raise StorageDamage(f"an earlier write to {self._path} failed; restart the node once the disk is well")
        if self._spare_bytes and _free_bytes(self._path) < self._spare_bytes:
            raise _full(self._path, f"less than {self._spare_bytes >> 20} MiB are left")
        try:
            with self._db.write_batch(transaction=True, sync=True) as pending:
                put, delete = pending.put, pending.delete
                # In order of key each finds its place in LevelDB's memory beside the one before, which saves more than
                # the sorting costs; writes to one key stay in their order.
                for key, value in sorted(batch, key=itemgetter(0)):
                    if value is None:
                        delete(key)
                    else:
                        put(key, value)
                delete(_MARK)
        except plyvel.Error as error:
            # Whether a failed write is on disk is unknown until the log is read again: nothing may follow it.
            self._failed = True
            raise _damage(self._path, error) from None

    def snapshot(self) -> Reader:
        return _LevelSnapshot(self._db.snapshot(), self._path)

    def compact(self, prefix: bytes = b"", below: bytes | None = None) -> None:
        """Give the space of deleted and replaced values whose key begins with `prefix`, of those only whose key is less
        than `below`, back to the disk; may take long, and cannot be interrupted."""
        # plyvel 1.5.1 takes an end that is not given for an empty key, and so the whole for nothing.
        start, stop = prefix or b"\x00", below or prefix_end(prefix) or _BEYOND + b"\xff"
        try:
            # LevelDB rewrites a file only by merging it with one above it: what lies in a single level would keep its
            # deleted values for ever. So what is in memory becomes a file, then comes one above everything.
            self._db.compact_range(start=_BEYOND, stop=_BEYOND + b"\xff")
            self._span(start, below or prefix + _BEYOND)
            self._db.compact_range(start=start, stop=stop)
        except plyvel.Error as error:
            raise _damage(self._path, error) from None

    def _span(self, *ends: bytes) -> None:
        """Write deletions of two keys that do not exist, on either side of what is to be compacted."""
        self.write([(key, None) for key in ends if self.get(key) is None])

    def size_bytes(self) -> int:
        """What the directory takes on disk now."""
        return directory_bytes(self._path)

    def free_bytes(self) -> int:
        """What is left on its file system; endless where that does not say."""
        return _free_bytes(self._path)

    def close(self) -> None:
        self._db.close()


def directory_bytes(path: Path) -> int:
    """What the files in a directory take on disk, as far as they are still there: LevelDB deletes some at any time, and
    so may an operator."""
    size = 0
    with suppress(OSError):
        for entry in path.iterdir():
            with suppress(OSError):
                size += entry.stat().st_size
    return size


def cut_interrupted(path: Path) -> str | None:
    """Cut off, durably, an append to LevelDB's log or to its list of tables that a loss of power interrupted, in a
    directory that is not open; what was cut, None if there is no such thing. An older log had been synced in full when
    this one began, and a table that is not in the list yet is written again from the log. Raises ConfigurationError."""
    try:
        with (path / "LOCK").open("ab") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            log = max(path.glob("*.log"), key=lambda entry: int(entry.stem))
            listed = path / (path / _CURRENT).read_text().strip()
            cut = _cut_file(log, _ZEROS_MIN_LOG) + _cut_file(listed, _ZEROS_MIN_MANIFEST)
    except BlockingIOError:
        raise _in_use(path) from None
    except (OSError, ValueError):
        # It is left as it is, and LevelDB's own words tell of it.
        return None
    if not cut:
        return None
    return (
        f"{path} ended in a write that was never whole, as after a loss of power: {cut} bytes of it were cut off, "
        "nothing that left this node depends on it"
    )


def _cut_file(file: Path, zeros_min: int) -> int:
    """How many bytes."""
    raw = file.read_bytes()
    whole = interrupted_from(raw, zeros_min)
    if whole is None:
        return 0
    with file.open("r+b") as stream:
        stream.truncate(whole)
        os.fsync(stream.fileno())
    return len(raw) - whole


def check_new(path: Path) -> None:
    """Raises StorageDamage if the directory of a database that says that it is empty holds tables: whatever was in them
    once, it is no place for a new chain."""
    if any(entry.name.endswith(_TABLES) for entry in path.iterdir()):
        raise StorageDamage(f"{path} holds tables, but nothing of a chain can be read; {ADVICE_RESTORE}")


class _LevelSnapshot:
    def __init__(self, snapshot: Any, path: Path) -> None:
        self._snapshot = snapshot
        self._path = path

    def get(self, key: bytes) -> bytes | None:
        return _get(self._snapshot, self._path, key)

    def scan(
        self, prefix: bytes, after: bytes | None = None, limit: int | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        return _scan(self._snapshot, self._path, prefix, after, limit, reverse)

    def close(self) -> None:
        self._snapshot.close()


def _get(source: Any, path: Path, key: bytes) -> bytes | None:
    try:
        value: bytes | None = source.get(key, verify_checksums=True)
    except plyvel.Error as error:
        raise _damage(path, error) from None
    return value


def _scan(
    source: Any, path: Path, prefix: bytes, after: bytes | None, limit: int | None, reverse: bool
) -> Iterator[tuple[bytes, bytes]]:
    if limit is not None and limit <= 0:
        return
    start, stop, include_start = prefix, prefix_end(prefix), True
    if after is not None and reverse:
        stop = after if stop is None else min(stop, after)
    elif after is not None and after >= prefix:
        start, include_start = after, False
    if stop is not None and start >= stop:
        return
    # A whole table is read once, at a start or for a snapshot: in the cache it would displace what is read often.
    whole = limit is None and len(prefix) <= 1
    try:
        # plyvel's other iterator takes an error that leaves it without a pair for the end of all keys.
        iterator = source.raw_iterator(verify_checksums=True, fill_cache=not whole)
        try:
            pairs = _backward(iterator, prefix, stop) if reverse else _forward(iterator, start, stop, include_start)
            yield from pairs if limit is None else islice(pairs, limit)
        finally:
            iterator.close()
    except plyvel.Error as error:
        raise _damage(path, error) from None


def _forward(iterator: Any, start: bytes, stop: bytes | None, include_start: bool) -> Iterator[tuple[bytes, bytes]]:
    """From `start` up to before `stop`. Every move raises where LevelDB met an error, also one behind the last pair."""
    valid, item, move = iterator.valid, iterator.item, iterator.next
    iterator.seek(start)
    if not include_start and valid() and iterator.key() == start:
        move()
    while valid():
        pair = item()
        if stop is not None and pair[0] >= stop:
            return
        yield pair
        move()


def _backward(iterator: Any, start: bytes, stop: bytes | None) -> Iterator[tuple[bytes, bytes]]:
    """From before `stop` down to `start`, as `_forward`."""
    if stop is not None:
        iterator.seek(stop)
    if stop is not None and iterator.valid():
        iterator.prev()
    else:
        iterator.seek_to_last()
    while iterator.valid() and iterator.key() >= start:
        yield iterator.item()
        iterator.prev()


def _check_directory(path: Path, create: bool) -> None:
    """Leave to LevelDB only a directory with its two indispensable files: where one of them is missing it would start
    without the blocks in its log, or take a damaged directory for a new one."""
    try:
        names = {entry.name for entry in path.iterdir()} if path.exists() or not create else set()
        if not names and create:
            _create(path)
            return
    except FileNotFoundError:
        raise NoDatabase(f"{path} holds no chain yet") from None
    except OSError as error:
        raise _using(path, error) from None
    log = any(name.endswith(".log") for name in names)
    if _CURRENT in names and log:
        return
    if _CURRENT in names or log or any(name.startswith("MANIFEST") or name.endswith(_TABLES) for name in names):
        missing = "LevelDB's log" if _CURRENT in names else f"the file {_CURRENT}"
        raise StorageDamage(f"{path}: {missing} is missing; {ADVICE_MISSING}")
    raise NoDatabase(f"{path} holds no chain" + (", but other files" if names else " yet"))


def _create(path: Path) -> None:
    """Make an empty database aside and give it its name once it is whole, so that half a one is never met."""
    draft = path.with_name(path.name + ".draft")
    path.parent.mkdir(parents=True, exist_ok=True)
    if draft.exists():
        shutil.rmtree(draft)
    # LevelDB does not say why it could not make it.
    draft.mkdir()
    try:
        plyvel.DB(str(draft), create_if_missing=True, error_if_exists=True).close()
    except plyvel.Error as error:
        raise _opening(path, error) from None
    os.rename(draft, path)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _free_bytes(path: Path) -> int:
    """What is left on the file system. Where it does not say, the write itself finds out."""
    try:
        found = os.statvfs(path)
    except OSError:
        return sys.maxsize
    return found.f_bavail * found.f_frsize


def _text(error: plyvel.Error) -> str:
    detail = error.args[0] if error.args else str(error)
    return detail.decode(errors="replace") if isinstance(detail, bytes) else str(detail)


def _using(path: Path, error: OSError) -> OtcnodeError:
    reason = error.strerror or str(error)
    if any(words in reason for words in _FULL):
        return _full(path, reason)
    return ConfigurationError(f"cannot use the data directory {path}: {reason}")


def _keeping(path: Path, error: OSError) -> OtcnodeError:
    reason = error.strerror or str(error)
    if any(words in reason for words in (*_FULL, *_REFUSED)):
        return _using(path, error)
    return StorageDamage(f"{path} cannot be kept ({reason}); check the disk, then start the node again")


def _opening(path: Path, error: plyvel.Error) -> OtcnodeError:
    text = _text(error)
    if any(words in text for words in _IN_USE):
        return _in_use(path)
    refusal = next((words for words in _REFUSED if words in text), None)
    if refusal is not None:
        return ConfigurationError(f"cannot use the data directory {path}: {refusal.lower()}")
    return _damage(path, error)


def _in_use(path: Path) -> ConfigurationError:
    return ConfigurationError(f"the data directory {path} is in use by another otcnode process")


def _damage(path: Path, error: plyvel.Error) -> StorageDamage:
    text = _text(error)
    if any(words in text for words in _FULL):
        return _full(path, text)
    if any(words in text for words in _REFUSED):
        return StorageRefused(f"{path} cannot be used ({text}); see to that, then start the node again")
    return StorageDamage(f"{path} is damaged ({text}); {ADVICE}")


def _full(path: Path, reason: str) -> DiskFull:
    return DiskFull(f"the disk of {path} is full ({reason}); free space, then start the node again")
