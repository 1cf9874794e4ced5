"""`otcnode db snapshot` and `otcnode db restore`: a node's state at its height, in a directory that proves itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
import msgspec

from otcnode import genesis as genesis_module
from otcnode import limits
from otcnode.archives import putting_aside
from otcnode.cli.progress import bars
from otcnode.cli.stopped import home_option, json_option, open_chain
from otcnode.cli.stopping import Stopping, stoppable
from otcnode.config import Home, load_configuration
from otcnode.engine.evidence import read_kept
from otcnode.errors import (
    ConfigurationError,
    DiskFull,
    GatheredDamage,
    NoRoom,
    OtherFormat,
    ProofError,
    StorageDamage,
    StorageRefused,
)
from otcnode.genesis import chain_id
from otcnode.home import void_record
from otcnode.roots import roots_of
from otcnode.snapshot import Manifest, check_manifest, decode_chunk
from otcnode.storage.directory import DirectoryFolder, DirectoryFolders
from otcnode.storage.documents_directory import open_documents
from otcnode.storage.folder import Folder
from otcnode.storage.incoming import Incoming, Roots, begun
from otcnode.storage.kv import Write
from otcnode.storage.leaves import depth_of
from otcnode.storage.level import LevelKeyValue, NoDatabase
from otcnode.storage.schema import Table
from otcnode.storage.shelf import DiskShelf, complete_installation, delete_chain, former
from otcnode.storage.snapshot_maker import chunk_name, make, read_manifest, source_of
from otcnode.storage.store import Store

CHAIN_LEFT = "the node's chain is as it was"
RECORD_VOID = (
    f"{CHAIN_LEFT}, but its voting record is void: a validator votes again once nothing it may have signed matters"
)
NOT_STOPPED = "the snapshot becomes the node's chain: this is not stopped any more"


@click.command()
@home_option
@click.option("--to", "target", type=click.Path(path_type=Path), required=True, help="A new directory.")
@json_option
@stoppable("go on with the same command")
def snapshot(stopping: Stopping, directory: Path, target: Path, as_json: bool) -> None:
    """Write the state at the node's height to a directory that any node of this chain can be restored from.

    Sealed documents are not in it, only their names: they lie in data/documents. If it is stopped, the same command
    goes on where it was. Where there is no room for it, and on the chain's own file system for 512 MiB more, none is
    written.
    """
    home = Home(directory)
    genesis = genesis_module.load(home.genesis)
    folder = DirectoryFolder(target)
    with ExitStack() as closing:
        kv = open_chain(home)
        closing.callback(kv.close)
        source = source_of(Store.open(kv, chain_id(genesis), 0))
        closing.callback(source.reader.close)
        try:
            with bars(stopping.check) as show:
                for step in make(source, folder, None, _room_for(target, home)):
                    show(step.part, step.done, step.whole)
        except NoRoom as refusal:
            raise ConfigurationError(
                f"{target}: {refusal}; make room, then go on with the same command, or remove what is there of it"
            ) from None
    stopping.settle()
    manifest = read_manifest(folder)
    assert manifest is not None
    _tell(manifest, as_json, f"wrote the state at height {manifest.header.height} to {target}")


def _room_for(target: Path, home: Home) -> Callable[[], int]:
    """What may be written there: on the chain's own file system the chain has to go on, as where a node makes one."""
    folders = DirectoryFolders(target)
    shared = folders.is_beside(home.database)
    return lambda: folders.free_bytes() - (limits.snapshot_spare_bytes if shared else 0)


@click.command()
@home_option
@click.option("--from", "source", type=click.Path(path_type=Path), required=True, help="A snapshot.")
@click.option("--replace", is_flag=True, help="Restore although the node has that height already.")
@json_option
@stoppable(f"{CHAIN_LEFT}; go on with the same command")
def restore(stopping: Stopping, directory: Path, source: Path, replace: bool, as_json: bool) -> None:
    """Put a snapshot in the place of the node's chain. Everything in it is proven from the node's genesis file.

    The sealed documents that the node holds stay; the others are fetched from peers. The validator's voting record
    becomes void: it votes again only once nothing it may have signed can matter. Where all blocks are to be kept, those
    of the old chain are put aside in data/archives. If the command is stopped, the old chain is untouched, and the same
    command goes on where it was; once the snapshot is whole it says so, and is not stopped any more.
    """
    home = Home(directory)
    folder = DirectoryFolder(source)
    manifest = read_manifest(folder)
    if manifest is None:
        raise ConfigurationError(f"{source} holds no whole snapshot")
    roots = roots_of(genesis_module.load(home.genesis))
    check_manifest(manifest, roots.chain, roots.first_epoch, depth_of(roots.buckets))
    with _room_advised(CHAIN_LEFT):
        # Documents that an earlier version kept with the chain must not go with it.
        documents = open_documents(home.documents, home.database, _say)
        documents_left = not documents.has_taken_over
        documents.close()
    shelf = DiskShelf(home.snapshots, home.incoming, lambda: None)
    with ExitStack() as closing:
        closing.callback(shelf.close)
        with _room_advised(CHAIN_LEFT):
            held = _hold(closing, home, roots, None if replace else manifest.header.height)
        left = CHAIN_LEFT
        try:
            with _room_advised(CHAIN_LEFT):
                incoming = _opened(shelf, roots, manifest)
                _gather(incoming, folder, source, stopping)
            left = RECORD_VOID
            stopping.advise(f"{left}; go on with the same command")
            void_record(home)
            with _room_advised(RECORD_VOID):
                incoming.finish(lambda: [] if held is None else _beside(held))
        except GatheredDamage as found:
            shelf.discard()
            raise _gathered_in_vain(str(found), left) from None
    _say(NOT_STOPPED)
    stopping.settle()
    damage = _installed(home, roots, _disposal(home, documents_left))
    if damage is not None:
        raise _gathered_in_vain(damage, RECORD_VOID)
    _tell(
        manifest, as_json, f"{directory} has the state at height {manifest.header.height}; blocks come from its peers"
    )


@contextmanager
def _room_advised(left: str) -> Iterator[None]:
    """Where the disk is full, the way on is this command, and not a start of the node."""
    try:
        yield
    except DiskFull as full:
        raise _full(full, f"{left}: free space, then go on with the same command") from None


def _full(full: DiskFull, left: str) -> DiskFull:
    """With what is left in the place of the advice."""
    return DiskFull(f"{str(full).partition(';')[0]}; {left}")


def _installed(home: Home, roots: Roots, dispose: Callable[[Path], None]) -> str | None:
    """What is wrong with the gathered store, if it has not taken the place of the chain for that. `finish` has just
    read all of it in this process. What the disk refuses behind the renaming, the next start of the node does."""
    taken = "the snapshot is the node's chain, and the former one still lies beside it"
    try:
        return complete_installation(home.incoming, home.database, lambda: roots, dispose, just_read=True).damage
    except DiskFull as full:
        if home.incoming.exists():
            raise _full(full, f"{RECORD_VOID}: free space, then go on with the same command") from None
        raise _full(full, f"{taken}: free space, then start the node") from None
    except ConfigurationError as refusal:
        if home.incoming.exists():
            raise
        raise ConfigurationError(f"{refusal}; {taken}: see to that, then start the node") from None


def _disposal(home: Home, documents_left: bool) -> Callable[[Path], None]:
    """Of the chain whose place the snapshot takes, as a running node does it."""
    keeps_all = not (home.configuration.exists() and load_configuration(home).storage.blocks_kept)
    return putting_aside(home, _say, documents_left=documents_left) if keeps_all or documents_left else delete_chain


def _gathered_in_vain(damage: str, left: str) -> StorageDamage:
    return StorageDamage(f"{damage}; {left}: check the disk, then run the same command again")


def _say(text: str) -> None:
    click.echo(text, err=True)


def _hold(closing: ExitStack, home: Home, roots: Roots, height: int | None) -> LevelKeyValue | None:
    """Keep other processes away while the node's chain is still there, which is returned as far as it can be opened.
    Raises ConfigurationError if one uses it, or if it has reached `height`, or may have, as its format cannot be read.
    A chain that is damaged, or none, is no obstacle; one that was making way for a snapshot when the node was stopped
    is the node's."""
    database = home.database if home.database.exists() else former(home.database)
    kv = _opened_chain(database, height)
    if kv is None:
        return None
    closing.callback(kv.close)
    try:
        tip = Store.open(kv, roots.chain, 0).tip if Store.exists(kv) else None
    except StorageRefused:
        raise
    except StorageDamage:
        return kv
    except OtherFormat as other:
        if height is None:
            return None
        raise ConfigurationError(f"{home.path}: {other}") from None
    if height is not None and tip is not None and tip.height >= height:
        raise ConfigurationError(
            f"{home.path} has height {tip.height}, the snapshot {height}: pass --replace to go back to it"
        )
    return kv


def _opened_chain(database: Path, height: int | None) -> LevelKeyValue | None:
    """None where there is none, or none that can be opened. What else somebody has put in its place is not taken away
    unless that is said, which `height` None stands for."""
    try:
        return LevelKeyValue(database)
    except NoDatabase:
        if height is not None and database.exists() and any(database.iterdir()):
            raise
    except StorageRefused:
        raise
    except StorageDamage:
        pass
    return None


def _beside(kv: LevelKeyValue) -> list[Write]:
    """The evidence of the chain that makes way, which goes along as where a running node takes a snapshot: nobody else
    may have it. What cannot be read of it is named and left, for a node does not start on it."""
    kept: list[Write] = []
    try:
        for key, raw in kv.readable(Table.EVIDENCE.value):
            try:
                read_kept(key[len(Table.EVIDENCE.value) :], raw)
                kept.append((key, raw))
            except StorageDamage as damage:
                _say(f"{str(damage).partition(';')[0]}: it does not go along")
    except StorageRefused:
        raise
    except StorageDamage as damage:
        _say(f"evidence of misbehaviour could not all be read: {str(damage).partition(';')[0]}")
    return kept


def _opened(shelf: DiskShelf, roots: Roots, manifest: Manifest) -> Incoming:
    """What has been gathered of this snapshot, or nothing."""
    try:
        if begun(shelf.incoming()) != manifest:
            shelf.discard()
    except StorageRefused:
        raise
    except (ProofError, StorageDamage):
        shelf.discard()
    return Incoming.of(shelf.incoming(), roots, manifest)


def _gather(incoming: Incoming, folder: Folder, source: Path, stopping: Stopping) -> None:
    whole = incoming.manifest.chunks
    with ExitStack() as closing, bars(stopping.check) as show:
        # Also of a command that is stopped: the same one goes on behind what has come.
        closing.callback(incoming.write)
        for index in sorted(incoming.missing):
            raw = folder.read(chunk_name(index))
            if raw is None:
                raise StorageDamage(f"{source} lacks {chunk_name(index)}; take another copy of the snapshot")
            try:
                incoming.put(index, decode_chunk(raw))
            except ProofError as error:
                raise StorageDamage(f"{source}: {error}; take another copy of the snapshot") from None
            show("chunks", index + 1, whole)


def _tell(manifest: Manifest, as_json: bool, text: str) -> None:
    if not as_json:
        click.echo(text)
        return
    answer = {
        "height": manifest.header.height,
        "block_hash": manifest.certificate.block_hash.hex(),
        "state_root": manifest.header.state_root.hex(),
        "keys": manifest.keys,
        "size_bytes": manifest.size_bytes,
        "chunks": manifest.chunks,
    }
    click.echo(msgspec.json.encode(answer))
