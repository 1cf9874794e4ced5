"""What whoever joins needs of a node that is about to drop blocks: a whole snapshot, and every block above it."""

from __future__ import annotations

from otcnode import limits
from otcnode.blocks import Header
from otcnode.errors import FolderDamage, NoRoom
from otcnode.storage.folder import Folders
from otcnode.storage.progress import Progress
from otcnode.storage.snapshot_maker import BLOCK, make, read_manifest, source_of
from otcnode.storage.store import Store


def snapshot_above(store: Store, folders: Folders, height: int) -> bool:
    """Whether a whole snapshot of this height or a higher one of this chain is there: after a rollback there may be
    some of blocks that were taken back, which lead nobody to the present ones. From `height` on every header is kept.
    """
    return any(height <= header.height and store.header(header.height) == header for header in _headers(folders))


def make_snapshot(store: Store, folders: Folders, progress: Progress) -> int:
    """Of the store's height, under the name by which a running node finds it; goes on with one that was begun.
    Returns its height. Raises NoRoom where it would not leave the room that pruning needs, and nothing of it stays;
    FolderDamage, ConfigurationError or UnservableState where none can be made."""
    height = store.tip.height
    source, name = source_of(store), f"{height:012d}"
    if folders.open(name).read(BLOCK) not in (None, store.tip.block_hash):
        # Of a block of this height that was taken back.
        folders.remove(name)
    try:
        for step in make(source, folders.open(name), None, lambda: folders.free_bytes() - limits.disk_spare_bytes):
            progress(step.part, step.done, step.whole)
    except NoRoom:
        folders.remove(name)
        raise
    finally:
        source.reader.close()
    return height


def _headers(folders: Folders) -> list[Header]:
    found = []
    for name in folders.names():
        try:
            manifest = read_manifest(folders.open(name))
        except FolderDamage:
            continue
        if manifest is not None:
            found.append(manifest.header)
    return found
