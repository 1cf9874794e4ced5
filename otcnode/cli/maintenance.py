"""`otcnode db replay | rollback | prune | export`: long work on the data directory of a stopped node."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from otcnode.cli.progress import bars
from otcnode.cli.stopped import Stopped, home_option, json_option, opened, readable
from otcnode.cli.stopping import Stopping, stoppable
from otcnode.config import load_configuration
from otcnode.errors import ConfigurationError, NoRoom, UnservableState
from otcnode.genesis import Genesis
from otcnode.home import void_record
from otcnode.maintenance import export as exports
from otcnode.maintenance import replay as replays
from otcnode.maintenance.joiners import make_snapshot, snapshot_above
from otcnode.maintenance.scratch import Scratch
from otcnode.storage import pruning
from otcnode.storage.directory import DirectoryFolders
from otcnode.storage.documents_directory import move_documents
from otcnode.storage.progress import Progress
from otcnode.storage.rollback import rollback as take_back
from otcnode.storage.store import Store


@click.command()
@home_option
@click.option("--from", "height", type=click.IntRange(min=0), help="Begin at the state after this height.")
@click.option(
    "--scratch",
    "path",
    type=click.Path(path_type=Path),
    help="A new directory in which the replayed state is kept, or that of a stopped replay; by default in the home.",
)
@json_option
@stoppable("go on with the same command")
def replay(stopping: Stopping, directory: Path, height: int | None, path: Path | None, as_json: bool) -> None:
    """Execute the kept blocks once more and compare everything.

    From the genesis, or where blocks are pruned from the lowest state that is known: every root and field of the
    headers, receipts, index entries, and at the end the whole state. Ends with 1 and the height that differs. Stopped
    by Ctrl-C, the same command goes on; what another version has executed, or from a higher state, is not gone on with.
    """
    with opened(directory) as stopped:
        source = Store.open(stopped.kv, stopped.chain, 0)
        first = replays.first_height(source, height)
        scratch = Scratch(stopped.home.replay if path is None else path, first)
        try:
            with bars(stopping.check) as show:
                store = _begun(source, scratch, stopped.genesis, first, show)
                found = replays.replay(source, stopped.kv, store, stopped.genesis.time_ms, show)
        except replays.Unusable as unusable:
            scratch.remove()
            raise ConfigurationError(f"the replay's own store was {unusable}; run it again: it begins anew") from None
        except BaseException:
            scratch.close()
            raise
        stopping.settle()
        scratch.remove()
    answer = {"begun_at": scratch.begun.height, **found._asdict()}
    _answer(answer, as_json, "every block came out as it is stored")


def _begun(source: Store, scratch: Scratch, genesis: Genesis, first: int, show: Progress) -> Store:
    """The replay's own store, with a word on why an earlier one is not gone on with."""
    try:
        store = replays.begin(source, scratch.kv, genesis, first, scratch.begun.height, show)
    except replays.Unusable as unusable:
        scratch.begin_anew(first, str(unusable))
        store = replays.begin(source, scratch.kv, genesis, first, progress=show)
    if scratch.set_aside is not None:
        click.echo(f"{scratch.set_aside}; this one begins anew at height {first}", err=True)
    return store


@click.command()
@home_option
@click.option("--to", "height", type=click.IntRange(min=0), required=True, help="The last height that stays.")
@json_option
@stoppable("go on with the same command")
def rollback(stopping: Stopping, directory: Path, height: int, as_json: bool) -> None:
    """Take the last blocks back, as far as the history of states reaches.

    The voting record becomes void first: what this validator has signed stays signed, so it is silent until none of it
    can matter. Stopped by Ctrl-C, the same command goes on.
    """
    voided = False

    with opened(directory) as stopped:
        # An earlier version kept documents with the chain, as of the height that is taken back now.
        home = stopped.home
        move_documents(home.documents, home.database, stopped.kv, lambda text: click.echo(text, err=True))

        def void() -> None:
            nonlocal voided
            voided = void_record(home)

        stopping.advise("the store is at the height that it had reached; go on with the same command")
        with bars(stopping.check) as show:
            before = take_back(stopped.kv, stopped.chain, height, void, show)
        stopping.settle()
    fields: dict[str, object] = {"height": height, "blocks_taken_back": before - height, "record_voided": voided}
    text = "the voting record is void: this validator is silent until nothing it has signed can matter"
    _answer(fields, as_json, text if voided else "")


@click.command()
@home_option
@click.option("--keep-blocks", type=click.IntRange(min=1), required=True, help="Blocks that stay whole.")
@click.option("--keep-history", type=click.IntRange(min=0), help="Heights below the last whose state stays known.")
@click.option(
    "--without-snapshot", is_flag=True, help="Make none first: who joins then needs another node for what is dropped."
)
@json_option
@stoppable("go on with the same command")
def prune(
    stopping: Stopping,
    directory: Path,
    keep_blocks: int,
    keep_history: int | None,
    without_snapshot: bool,
    as_json: bool,
) -> None:
    """Drop old blocks and states, and give the disk back.

    The certified headers by which the validator sets are followed stay. Where the node makes snapshots for those who
    join, and none is there that the blocks that stay lead on from, one is made first, if the state permits; where there
    is no room for it, nothing is dropped unless --without-snapshot is given. To keep only so many blocks from now on,
    set storage.blocks_kept in node.toml. Stopped by Ctrl-C, the same command goes on.
    """
    text, made = "", None
    with opened(directory) as stopped:
        before = stopped.kv.size_bytes()
        with bars(stopping.check) as show:
            try:
                if not without_snapshot:
                    made = _snapshot_for_joiners(stopped, keep_blocks, show)
            except UnservableState as error:
                text = f"{error}: who joins needs a node that keeps all blocks"
            room = pruning.Room(stopped.kv)
            found = pruning.prune(stopped.kv, stopped.chain, keep_blocks, keep_history, show, room)
            room.all(show)
        stopping.settle()
        sizes = {"bytes_before": before, "bytes_after": stopped.kv.size_bytes()}
    if made is not None:
        text = f"a snapshot of height {made} was made first: who joins by it needs no dropped block"
    _answer({**found._asdict(), **sizes, "snapshot_made": made}, as_json, text)


def _snapshot_for_joiners(stopped: Stopped, keep_blocks: int, show: Progress) -> int | None:
    """The height of the snapshot that had to be made, so that every block above some snapshot stays."""
    home = stopped.home
    if home.configuration.exists() and not load_configuration(home).snapshots.interval_blocks:
        return None
    store = Store.open(stopped.kv, stopped.chain, 0)
    first, folders = store.tip.height - keep_blocks + 1, DirectoryFolders(home.snapshots)
    if first <= store.blocks_first or snapshot_above(store, folders, first - 1):
        return None
    try:
        return make_snapshot(store, folders, show)
    except NoRoom as refusal:
        raise ConfigurationError(
            f"nothing was dropped: a snapshot is to be made first, for whoever joins, and {refusal}; make room (former "
            "chains in data/archives and data/archives-beside may go elsewhere, data/replay and the snapshots in "
            "data/snapshots may be deleted), or pass --without-snapshot: who joins then needs another node"
        ) from None


@click.command()
@home_option
@click.argument("kind", type=click.Choice([kind.value for kind in exports.Kind]))
@click.option(
    "--format",
    "form",
    type=click.Choice([form.value for form in exports.Format]),
    default=exports.Format.JSONL.value,
    show_default=True,
)
@click.option(
    "--output", type=click.Path(path_type=Path), required=True, help="A file; for Parquet a directory of files."
)
@click.option("--from", "first", type=click.IntRange(min=1), help="The first height; by default the lowest kept.")
@click.option("--to", "last", type=click.IntRange(min=1), help="The last height; by default the last.")
@json_option
@stoppable("go on with the same command")
def export(
    stopping: Stopping,
    directory: Path,
    kind: str,
    form: str,
    output: Path,
    first: int | None,
    last: int | None,
    as_json: bool,
) -> None:
    """Write blocks, transactions or events as rows for other programs.

    An export never overwrites. Stopped by Ctrl-C, the same command goes on: with blocks of the same chain and heights,
    and of no other. Parquet needs the extra otcnode[export].
    """
    with opened(directory) as stopped:
        store = Store.open(stopped.kv, stopped.chain, 0)
        wanted = exports.Wanted(exports.Kind(kind), exports.Format(form), first, last)
        try:
            with bars(stopping.check) as show:
                found = exports.export(store, wanted, output, stopping.settle, show)
        except OSError as error:
            raise ConfigurationError(
                f"cannot write {output}: {error.strerror or error}; see to that (where the disk is full, make room), "
                "then go on with the same command"
            ) from None
    _answer(found._asdict(), as_json)


def _answer(fields: dict[str, object], as_json: bool, text: str = "") -> None:
    if as_json:
        click.echo(msgspec.json.encode(fields))
        return
    click.echo(readable(fields))
    if text:
        click.echo(text)
