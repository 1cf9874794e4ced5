"""Blocks, transactions and events of a chain as rows for other programs: JSON lines, CSV, and Parquet.

JSON lines and CSV are one file, written beside its name as `.part` with a note of how far it is: a stopped export goes
on from there, at whatever instant it was stopped. Parquet files cannot be gone on with, so an export is a directory of
files of some thousand blocks each, and one that was stopped goes on with the first that is missing. A note in the
directory says of which chain and heights it is; programs that read such a directory pass over names that begin with an
underscore. Every file has its name once its content is on the disk.
"""

from __future__ import annotations

import csv
import importlib
import io
import os
from collections.abc import Callable, Iterator
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from otcnode.blocks import block_hash
from otcnode.codec import decode
from otcnode.errors import ConfigurationError
from otcnode.rpc import format as form
from otcnode.rpc.render import render
from otcnode.storage.progress import Progress, silent
from otcnode.storage.shelf import rename
from otcnode.storage.store import Store
from otcnode.vm.results import AutomaticReceipt, Receipt
from otcnode.vm.transactions import decode_transaction

BLOCKS_PER_STEP = 100
"""After so many blocks the file is synced and its note says so."""
BLOCKS_PER_PARQUET_FILE = 10_000
ROWS_PER_GROUP = 10_000
_NOTE = "_export.json"
_DRAFT = "draft"


class Kind(StrEnum):
    BLOCKS = "blocks"
    TRANSACTIONS = "transactions"
    EVENTS = "events"


class Format(StrEnum):
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


Row = dict[str, str | int | list[Any] | dict[str, Any] | None]

COLUMNS: dict[Kind, dict[str, type]] = {
    Kind.BLOCKS: {
        "height": int,
        "block_hash": str,
        "time_ms": int,
        "time": str,
        "proposer": str,
        "view": int,
        "transaction_count": int,
        "automatic_count": int,
        "state_root": str,
        "transactions_root": str,
        "receipts_root": str,
    },
    Kind.TRANSACTIONS: {
        "height": int,
        "index": int,
        "time_ms": int,
        "id": str,
        "sender": str,
        "valid_until_ms": int,
        "code": str,
        "failed_operation": int,
        "operations": object,
    },
    Kind.EVENTS: {
        "height": int,
        "number": int,
        "time_ms": int,
        "time": str,
        "transaction": str,
        "automatic": str,
        "type": str,
        "event": object,
    },
}
"""Column to its type; `object` is a JSON value, which CSV and Parquet hold as text. Any may be null."""


def rows(store: Store, kind: Kind, height: int) -> Iterator[Row]:
    """What a kept block says, in its order."""
    return _ROWS[kind](store, height)


def _block_rows(store: Store, height: int) -> Iterator[Row]:
    header, certificate, receipts = store.header(height), store.certificate(height), store.receipts(height)
    assert header is not None and certificate is not None and receipts is not None
    yield {
        "height": height,
        "block_hash": form.block(block_hash(header)),
        "time_ms": header.time_ms,
        "time": form.time(header.time_ms).iso,
        "proposer": form.node(header.proposer),
        "view": certificate.view,
        "transaction_count": header.transaction_count,
        "automatic_count": receipts.automatic_count,
        "state_root": header.state_root.hex(),
        "transactions_root": header.transactions_root.hex(),
        "receipts_root": header.receipts_root.hex(),
    }


def _transaction_rows(store: Store, height: int) -> Iterator[Row]:
    block, receipts = store.block(height), store.receipts(height)
    assert block is not None and receipts is not None
    outcomes = receipts.receipts[receipts.automatic_count :]
    for index, (raw, stored) in enumerate(zip(block.transactions, outcomes, strict=True)):
        decoded, receipt = decode_transaction(raw), decode(Receipt, stored)
        body = decoded.transaction.body
        yield {
            "height": height,
            "index": index,
            "time_ms": block.header.time_ms,
            "id": form.transaction(decoded.id),
            "sender": form.account(body.sender) if body.sender else None,
            "valid_until_ms": body.valid_until,
            "code": receipt.code.value,
            "failed_operation": receipt.operation,
            "operations": [msgspec.to_builtins(render(operation)) for operation in body.operations],
        }


def _event_rows(store: Store, height: int) -> Iterator[Row]:
    header, stored = store.header(height), store.receipts(height)
    assert header is not None and stored is not None
    number = 0
    for leaf, raw in enumerate(stored.receipts):
        receipt: AutomaticReceipt | Receipt
        if leaf < stored.automatic_count:
            receipt = decode(AutomaticReceipt, raw)
            transaction, automatic = None, receipt.kind
        else:
            receipt = decode(Receipt, raw)
            transaction, automatic = form.transaction(receipt.transaction), None
        for event in receipt.events:
            shown = msgspec.to_builtins(render(event))
            yield {
                "height": height,
                "number": number,
                "time_ms": header.time_ms,
                "time": form.time(header.time_ms).iso,
                "transaction": transaction,
                "automatic": automatic,
                "type": str(type(event).__struct_config__.tag),
                "event": shown,
            }
            number += 1


_ROWS: dict[Kind, Callable[[Store, int], Iterator[Row]]] = {
    Kind.BLOCKS: _block_rows,
    Kind.TRANSACTIONS: _transaction_rows,
    Kind.EVENTS: _event_rows,
}


class Wanted(NamedTuple):
    """What to export: of all heights that are kept, or from `first` on, or to `last`."""

    kind: Kind
    format: Format
    first: int | None = None
    last: int | None = None


class Exported(NamedTuple):
    """The heights in the export; `begun_at` is where this run went on."""

    first: int
    last: int
    begun_at: int


def export(
    store: Store,
    wanted: Wanted,
    output: Path,
    settle: Callable[[], None],
    progress: Progress = silent,
) -> Exported:
    """Write the rows of kept blocks. `settle` is called when all are written, ahead of the last renaming: the export is
    not to be stopped any more, for it could not be gone on with. Raises ConfigurationError if the blocks are not kept
    or the output exists, of it OtherExport if what is there of it is a part of another export."""
    lowest, highest = store.blocks_first, store.tip.height
    first = lowest if wanted.first is None else wanted.first
    heights = range(first, (highest if wanted.last is None else wanted.last) + 1)
    if lowest > highest:
        raise ConfigurationError(f"no block is kept: the state is that of height {highest}")
    if not heights or heights[0] < lowest or heights[-1] > highest:
        raise ConfigurationError(f"blocks {lowest} to {highest} are kept, not {heights.start} to {heights.stop - 1}")
    whole = _Whole(store.chain.hex(), wanted.kind, wanted.format, heights[0], heights[-1])
    if whole.format is Format.PARQUET:
        return _export_parquet(store, whole, output, settle, progress)
    return _export_text(store, whole, output, settle, progress)


class OtherExport(ConfigurationError):
    """What is there is of another chain, kind, format or other heights."""


class _Whole(msgspec.Struct, frozen=True):
    """What an export is of."""

    chain: str
    kind: Kind
    format: Format
    first: int
    last: int

    @property
    def heights(self) -> range:
        return range(self.first, self.last + 1)

    def must_be(self, wanted: _Whole, place: Path, remedy: str) -> None:
        """Raises OtherExport, which says of what the export in `place` is, if it is not what is wanted."""
        if self.chain != wanted.chain:
            raise OtherExport(f"{place} is of another export, of chain {self.chain}, not {wanted.chain}: {remedy}")
        if (self.kind, self.format) != (wanted.kind, wanted.format):
            raise OtherExport(f"{place} is of another export, of {self.kind} as {self.format}: {remedy}")
        if self.heights != wanted.heights:
            raise OtherExport(
                f"{place} is of another export, of blocks {self.first} to {self.last}, not {wanted.first} to "
                f"{wanted.last}: go on with it by --from {self.first} --to {self.last}, or {remedy}"
            )


class _Part(_Whole, frozen=True):
    """The note beside a part: what it is of, and that `length_bytes` of it hold the blocks below `next_height`."""

    next_height: int
    length_bytes: int


def _export_text(store: Store, whole: _Whole, output: Path, settle: Callable[[], None], progress: Progress) -> Exported:
    if output.exists():
        raise ConfigurationError(f"{output} exists already: an export never overwrites")
    kind, form_, heights = whole.kind, whole.format, whole.heights
    part, note = output.with_name(output.name + ".part"), output.with_name(output.name + ".part.json")
    beginning = _Part(whole.chain, kind, form_, whole.first, whole.last, whole.first, 0)
    state = _read_note(note, beginning) if part.exists() and note.exists() else beginning
    if part.exists() and part.stat().st_size < state.length_bytes:
        # The note is of an earlier part, which has its name since, or the disk has lost the end of this one.
        state = beginning
    if state is beginning:
        note.unlink(missing_ok=True)
    with part.open("r+b" if state.length_bytes else "wb") as file:
        file.truncate(state.length_bytes)
        file.seek(state.length_bytes)
        begun_at = state.next_height
        if begun_at == heights[0] and form_ is Format.CSV:
            file.write(_csv_lines(COLUMNS[kind], [dict(zip(COLUMNS[kind], COLUMNS[kind], strict=True))]))
        for height in range(begun_at, heights.stop):
            lines = list(rows(store, kind, height))
            file.write(_csv_lines(COLUMNS[kind], lines) if form_ is Format.CSV else _json_lines(lines))
            if height % BLOCKS_PER_STEP == 0 or height == heights[-1]:
                file.flush()
                os.fsync(file.fileno())
                state = msgspec.structs.replace(state, next_height=height + 1, length_bytes=file.tell())
                _write_note(note, state)
                progress(f"{kind.value} exported", height - heights[0] + 1, len(heights))
    settle()
    rename(part, output)
    _draft_of(note).unlink(missing_ok=True)
    note.unlink(missing_ok=True)
    return Exported(heights[0], heights[-1], begun_at)


def _write_note(note: Path, state: _Part) -> None:
    """It says either what it said or this, whatever stops the export over it."""
    draft = _draft_of(note)
    draft.write_bytes(msgspec.json.encode(state))
    _sync(draft)
    os.replace(draft, note)


def _draft_of(note: Path) -> Path:
    return note.with_name(note.name + ".new")


def _read_note(note: Path, beginning: _Part) -> _Part:
    try:
        state = msgspec.json.decode(note.read_bytes(), type=_Part)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # The disk has lost it, or an earlier version was stopped while it wrote it: the part is begun anew.
        return beginning
    state.must_be(beginning, note, "remove it and its part, or choose another output")
    return state


def _json_lines(lines: list[Row]) -> bytes:
    return b"".join(msgspec.json.encode(row) + b"\n" for row in lines)


def _flat(value: object) -> object:
    return msgspec.json.encode(value).decode() if isinstance(value, list | dict) else value


def _csv_lines(columns: dict[str, type], lines: list[Row]) -> bytes:
    """As RFC 4180 has it; null is an empty field."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    for row in lines:
        writer.writerow([_flat(row[column]) for column in columns])
    return text.getvalue().encode()


def _export_parquet(
    store: Store, whole: _Whole, output: Path, settle: Callable[[], None], progress: Progress
) -> Exported:
    kind, heights = whole.kind, whole.heights
    write = _parquet_writer(COLUMNS[kind])
    starts = range(whole.first, heights.stop, BLOCKS_PER_PARQUET_FILE)
    spans = [range(start, min(start + BLOCKS_PER_PARQUET_FILE, heights.stop)) for start in starts]
    files = {output / f"{kind.value}-{span[0]:012}-{span[-1]:012}.parquet": span for span in spans}
    _claim(output, whole, set(files))
    draft = output / _DRAFT
    begun_at: int | None = None
    try:
        for file, span in files.items():
            if not file.exists():
                begun_at = span[0] if begun_at is None else begun_at
                write(draft, _told_rows(store, whole, span, progress))
                _sync(draft)
                rename(draft, file)
            progress(f"{kind.value} exported", span.stop - whole.first, len(heights))
    finally:
        draft.unlink(missing_ok=True)
    settle()
    return Exported(whole.first, whole.last, heights.stop if begun_at is None else begun_at)


def _told_rows(store: Store, whole: _Whole, span: range, progress: Progress) -> Iterator[Row]:
    """Those of a file, which is written for minutes: how far it is, is told meanwhile."""
    for height in span:
        yield from rows(store, whole.kind, height)
        if height % BLOCKS_PER_STEP == 0:
            progress(f"{whole.kind.value} exported", height - whole.first + 1, len(whole.heights))


def _claim(output: Path, whole: _Whole, files: set[Path]) -> None:
    """Make the directory that of this export, with a note that says so ahead of the first file. Raises OtherExport if
    it is that of another, or of something else."""
    note, draft = output / _NOTE, output / _DRAFT
    if not output.exists():
        output.mkdir(parents=True)
        _sync(output.parent)
    if note.exists():
        try:
            there = msgspec.json.decode(note.read_bytes(), type=_Whole)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise OtherExport(
                f"{note} does not say of what the files beside it are: choose another directory"
            ) from None
        there.must_be(whole, output, "choose another directory")
    foreign = set(output.iterdir()) - {note, draft} - (files if note.exists() else set())
    if foreign:
        raise OtherExport(f"{output} holds other files ({min(foreign).name}): choose another directory")
    if not note.exists():
        draft.write_bytes(msgspec.json.encode(whole))
        _sync(draft)
        rename(draft, note)


def _sync(path: Path) -> None:
    """The file's content, or what the directory holds by name, is durable on return."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _parquet_writer(columns: dict[str, type]) -> Callable[[Path, Iterator[Row]], None]:
    try:
        pyarrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ConfigurationError("Parquet needs pyarrow: pip install 'otcnode[export]'") from None
    kinds = {int: pyarrow.int64(), str: pyarrow.string(), object: pyarrow.string()}
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in columns.items()])

    def write(file: Path, lines: Iterator[Row]) -> None:
        with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
            while batch := list(islice(lines, ROWS_PER_GROUP)):
                flat = [{name: _flat(row[name]) for name in columns} for row in batch]
                writer.write_table(pyarrow.Table.from_pylist(flat, schema=schema))

    return write
