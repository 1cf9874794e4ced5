"""What is promised of snapshots on a disk in trouble: nobody dies of it, it is said, nothing altered leaves, and what
counts as whole is all there."""

from __future__ import annotations

from collections.abc import Iterator

from otcnode.codec import decode
from otcnode.simulation.disk import Disk
from otcnode.snapshot import decode_manifest
from otcnode.storage.snapshot_maker import MANIFEST, chunk_name
from otcnode.sync_messages import SNAPSHOT_ANSWER_STARTS, ChunkResponse, ManifestResponse, SyncMessage


def altered(disk: Disk, payload: bytes) -> bool:
    """Whether what a node is about to serve is a file of a snapshot in which a bit has changed."""
    contents = {content for folder in disk.made.folders.values() for content in folder.altered}
    if not contents or not payload.startswith(SNAPSHOT_ANSWER_STARTS):
        return False
    match decode(SyncMessage, payload):
        case ManifestResponse(manifest=raw) | ChunkResponse(chunk=raw):
            return raw in contents
        case _:
            return False


def unfinished(disk: Disk) -> Iterator[str]:
    """What is wrong with the snapshots that pass for whole."""
    for name, folder in disk.made.folders.items():
        files = folder.as_written
        if MANIFEST not in files or MANIFEST in folder.unsynced:
            continue
        for index in range(decode_manifest(files[MANIFEST]).chunks):
            chunk = chunk_name(index)
            if chunk not in files:
                yield f"{chunk} of the snapshot {name} is not there"
            elif chunk in folder.unsynced:
                yield f"{chunk} of the snapshot {name} would be gone with the power"
