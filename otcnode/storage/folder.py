"""Named files side by side: the small interface of whatever keeps snapshots, and the one in memory.

Folders on a disk are in directory.py: this module imports no disk.
"""

from __future__ import annotations

from typing import Protocol


class Folder(Protocol):
    """Files by name. Raises FolderDamage where what is stored is not what was written, or the disk refuses."""

    def names(self) -> list[str]:
        """In order."""
        ...

    def read(self, name: str) -> bytes | None: ...

    def write(self, name: str, content: bytes) -> None:
        """The file has its old content, all of the new one or, after a crash before `sync`, none that can be read."""
        ...

    def sync(self, name: str) -> None:
        """What was written to this file is durable on return."""
        ...

    def append(self, name: str, content: bytes) -> None:
        """To a scratch file, which a crash may lose or tear; read it with `scratch`."""
        ...

    def scratch(self, name: str) -> bytes: ...

    def remove(self, name: str) -> None:
        """No matter whether it is there."""
        ...


class Folders(Protocol):
    """Folders by name."""

    def names(self) -> list[str]: ...

    def free_bytes(self) -> int:
        """What can still be written where they lie. Raises FolderDamage where the disk does not say."""
        ...

    def open(self, name: str) -> Folder:
        """Made if it is not there."""
        ...

    def remove(self, name: str) -> None:
        """With everything in it."""
        ...


class MemoryFolder:
    """What survives is what the owner keeps."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}

    def names(self) -> list[str]:
        return sorted(self._files)

    def read(self, name: str) -> bytes | None:
        return self._files.get(name)

    def write(self, name: str, content: bytes) -> None:
        self._files[name] = content

    def sync(self, name: str) -> None:
        """Memory needs none."""

    def append(self, name: str, content: bytes) -> None:
        self._files[name] = self._files.get(name, b"") + content

    def scratch(self, name: str) -> bytes:
        return self._files.get(name, b"")

    def remove(self, name: str) -> None:
        self._files.pop(name, None)


class MemoryFolders:
    def __init__(self, free_bytes: int = 1 << 40) -> None:
        self._folders: dict[str, MemoryFolder] = {}
        self.free = free_bytes

    def free_bytes(self) -> int:
        return self.free

    def names(self) -> list[str]:
        return sorted(self._folders)

    def open(self, name: str) -> Folder:
        return self._folders.setdefault(name, MemoryFolder())

    def remove(self, name: str) -> None:
        self._folders.pop(name, None)
