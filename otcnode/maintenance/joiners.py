"""What whoever joins needs of a node that is about to drop blocks: a whole snapshot, and every block above it."""

from __future__ import annotations

from otcnode import limits
from otcnode.errors import FolderDamage, NoRoom
from otcnode.storage.folder import Folders
from otcnode.storage.progress import Progress
from otcnode.storage.snapshot_maker import make, read_manifest, source_of
from otcnode.storage.store import Store


def snapshot_above(folders: Folders, height: int, tip: int) -> bool:
    """Whether a whole snapshot of this height or a higher one is there. One above `tip` is of a chain that was taken
    back since."""
    return any(height <= found <= tip for found in _heights(folders))


def make_snapshot(store: Store, folders: Folders, progress: Progress) -> int:
    """Of the store's height, under the name by which a running node finds it; goes on with one that was begun.
    Returns its height. Raises NoRoom where it would not leave the room that pruning needs, and nothing of it stays;
    FolderDamage or ConfigurationError, UnservableState
    where none can be made."""
    height = store.tip.height
    source, name = source_of(store), f"{height:012d}"
    try:
        for step in make(source, folders.open(name), None, lambda: folders.free_bytes() - limits.disk_spare_bytes):
            progress(step.part, step.done, step.whole)
    except NoRoom:
        folders.remove(name)
        raise
    finally:
        source.reader.close()
    return height


def _heights(folders: Folders) -> list[int]:
    found = []
    for name in folders.names():
        try:
            manifest = read_manifest(folders.open(name))
        except FolderDamage:
            continue
        if manifest is not None:
            found.append(manifest.header.height)
    return found
