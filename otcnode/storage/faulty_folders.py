"""Folders in memory that are full, fail or rot on plan, for the simulator and for tests of whoever keeps snapshots.

As on a disk a checksum stands beside each file, what was not synced is gone with the power, and what is asked for can
be refused, each time with words that name the place.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from otcnode.errors import FolderDamage


class FolderOperation(StrEnum):
    """What the disk is asked for."""

    LIST = "list"
    """which folders or files there are"""
    READ = "read"
    """a file"""
    WRITE = "write"
    """a file; the old content stays"""
    SYNC = "sync"
    """a file; it stays as lost with the power as it was"""
    REMOVE = "remove"
    """a folder or file; it stays"""


_TAKE_ROOM = frozenset({FolderOperation.WRITE, FolderOperation.SYNC})


class FaultyFolders:
    """`untold`: the words of refusals and damage that whoever keeps the folders has not passed on yet; they are taken
    out as that is done."""

    def __init__(self) -> None:
        self._folders: dict[str, FaultyFolder] = {}
        self._refusals: dict[FolderOperation, int] = {}
        self.full = False
        """Nothing more can be written."""
        self.untold: list[str] = []

    @property
    def folders(self) -> Mapping[str, FaultyFolder]:
        """Seen from outside."""
        return self._folders

    def names(self) -> list[str]:
        self.ask(FolderOperation.LIST, "snapshots")
        return sorted(self._folders)

    def free_bytes(self) -> int:
        """It may fill up after it was asked, and that is what is looked for here."""
        return 1 << 40

    def open(self, name: str) -> FaultyFolder:
        if name not in self._folders:
            self._folders[name] = FaultyFolder(self, name)
        return self._folders[name]

    def remove(self, name: str) -> None:
        self.ask(FolderOperation.REMOVE, name)
        self._folders.pop(name, None)

    def fail(self, operation: FolderOperation, count: int) -> None:
        """Let the `count`-th occasion from now on be refused."""
        self._refusals[operation] = count

    def disarm(self) -> None:
        """Nothing that comes is refused; what has rotted stays as it is."""
        self._refusals.clear()

    def rot(self, file_place: int, byte_place: int) -> bool:
        """Change one bit of the `file_place`-th file, in order of all; whether there is one."""
        files = [(folder, name) for _, folder in sorted(self._folders.items()) for name in folder.filled()]
        if not files:
            return False
        folder, name = files[file_place % len(files)]
        folder.rot(name, byte_place)
        return True

    def crash(self) -> None:
        """The power goes."""
        for folder in self._folders.values():
            folder.crash()

    def ask(self, operation: FolderOperation, place: str) -> None:
        """Raises FolderDamage where the disk is full or refuses."""
        left = self._refusals.pop(operation, None)
        if left is not None and left > 1:
            self._refusals[operation] = left - 1
        elif left is not None:
            raise self.trouble(f"cannot use {place}: input/output error")
        if self.full and operation in _TAKE_ROOM:
            raise self.trouble(f"the disk of {place} is full; free space, then try again")

    def trouble(self, text: str) -> FolderDamage:
        self.untold.append(text)
        return FolderDamage(text)


class FaultyFolder:
    """One of them."""

    def __init__(self, owner: FaultyFolders, name: str) -> None:
        self._owner = owner
        self._name = name
        self._files: dict[str, bytes] = {}
        self._rotten: dict[str, bytes] = {}
        """Files that no checksum agrees with any more, as they were written."""
        self.unsynced: set[str] = set()
        """Files that would be gone with the power."""

    @property
    def as_written(self) -> dict[str, bytes]:
        """Seen from outside."""
        return {**self._files, **self._rotten}

    @property
    def altered(self) -> set[bytes]:
        """Contents that nobody wrote."""
        return {self._files[name] for name in self._rotten}

    def filled(self) -> list[str]:
        """Files that are not empty."""
        return sorted(name for name, content in self._files.items() if content)

    def names(self) -> list[str]:
        self._ask(FolderOperation.LIST)
        return sorted(self._files)

    def read(self, name: str) -> bytes | None:
        self._ask(FolderOperation.READ, name)
        self.check_sum(name)
        return self._files.get(name)

    def check_sum(self, name: str) -> None:
        """Raises FolderDamage for a file that is not what its checksum says."""
        if name in self._rotten:
            text = f"{self._name}/{name} is damaged; delete {self._name}, a snapshot can be made again"
            raise self._owner.trouble(text)

    def write(self, name: str, content: bytes) -> None:
        self._ask(FolderOperation.WRITE, name)
        self._files[name] = content
        self._rotten.pop(name, None)
        self.unsynced.add(name)

    def sync(self, name: str) -> None:
        self._ask(FolderOperation.SYNC, name)
        if name not in self._files:
            raise self._owner.trouble(f"cannot use {self._name}/{name}: no such file or directory")
        self.unsynced.discard(name)

    def append(self, name: str, content: bytes) -> None:
        self._ask(FolderOperation.WRITE, name)
        self._files[name] = self._files.get(name, b"") + content
        self.unsynced.add(name)

    def scratch(self, name: str) -> bytes:
        self._ask(FolderOperation.READ, name)
        return self._files.get(name, b"")

    def remove(self, name: str) -> None:
        self._ask(FolderOperation.REMOVE, name)
        self._forget(name)

    def rot(self, name: str, byte_place: int) -> None:
        content = self._files[name]
        place, bit = byte_place // 8 % len(content), byte_place % 8
        changed = content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]
        self._rotten.setdefault(name, content)
        self._files[name] = changed
        if changed == self._rotten[name]:
            del self._rotten[name]

    def crash(self) -> None:
        for name in sorted(self.unsynced):
            self._forget(name)

    def _ask(self, operation: FolderOperation, name: str = "") -> None:
        self._owner.ask(operation, f"{self._name}/{name}" if name else self._name)

    def _forget(self, name: str) -> None:
        self._files.pop(name, None)
        self._rotten.pop(name, None)
        self.unsynced.discard(name)
