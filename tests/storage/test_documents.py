"""Sealed documents survive whatever happens to the chain's database, also those that an earlier version kept in it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from otcnode.bench.chain import ChainBuilder, genesis_of
from otcnode.errors import ConfigurationError, StorageDamage
from otcnode.roots import roots_of
from otcnode.snapshot import decode_chunk
from otcnode.storage.documents import DocumentStore
from otcnode.storage.documents_directory import open_documents
from otcnode.storage.faulty import FaultKind, FaultyKeyValue, SimulatedCrash
from otcnode.storage.folder import MemoryFolder
from otcnode.storage.incoming import Incoming
from otcnode.storage.kv import KeyValue, MemoryKeyValue, Write
from otcnode.storage.level import LevelKeyValue
from otcnode.storage.schema import Table
from otcnode.storage.shelf import complete_installation
from otcnode.storage.snapshot_maker import chunk_name, make, read_manifest, source_of
from otcnode.storage.tools import verify_documents
from otcnode.vm.documents.records import sealed_name

GENESIS = genesis_of(1, buckets=256)
HEIGHT = 3
SEALED = [b"sealed %d" % number for number in range(5)]
NAMES = sorted(map(sealed_name, SEALED))


def as_before(raw: bytes) -> Write:
    """Where an earlier version kept it."""
    return Table.DOCUMENT.value + sealed_name(raw), raw


def chain_at(path: Path) -> None:
    """A chain with documents in it."""
    kv = LevelKeyValue(path, create=True)
    ChainBuilder(kv, GENESIS).grow(HEIGHT, 3)
    kv.write([as_before(raw) for raw in SEALED])
    kv.close()


def take_over(store: DocumentStore, chain: KeyValue) -> None:
    store.take_from(chain, chain.scan(Table.DOCUMENT.value))
    store.end_taking_over()


def gathered_at(path: Path) -> None:
    """A whole snapshot, that takes the chain's place at the next start."""
    builder, folder = ChainBuilder(MemoryKeyValue(), GENESIS), MemoryFolder()
    builder.grow(10, 3)
    list(make(source_of(builder.store), folder))
    manifest = read_manifest(folder)
    assert manifest is not None
    kv = LevelKeyValue(path, create=True)
    incoming = Incoming.of(kv, roots_of(GENESIS), manifest)
    for index in sorted(incoming.missing):
        incoming.put(index, decode_chunk(folder.read(chunk_name(index)) or b""))
    incoming.finish()
    kv.close()


def test_what_is_kept_is_found_by_name_and_in_order() -> None:
    store = DocumentStore(MemoryKeyValue())
    for number, raw in enumerate(SEALED):
        store.keep(raw, number)
    assert [store.get(sealed_name(raw)) for raw in SEALED] == SEALED
    assert [name for name, _ in store.kept(None, 10)] == NAMES
    assert [name for name, _ in store.kept(NAMES[1], 2)] == NAMES[2:4]
    assert dict(store.kept(None, 10))[sealed_name(SEALED[3])] == 3
    store.drop(NAMES[0])
    assert NAMES[0] not in store and store.get(NAMES[0]) is None and NAMES[1] in store


def test_a_snapshot_that_takes_the_chains_place_takes_no_document_along(tmp_path: Path) -> None:
    """Nobody else may have it."""
    documents, database, incoming = tmp_path / "documents", tmp_path / "chain", tmp_path / "incoming"
    chain_at(database)
    gathered_at(incoming)
    store = open_documents(documents, database)
    assert complete_installation(incoming, database, lambda: roots_of(GENESIS)).taken
    assert [store.get(sealed_name(raw)) for raw in SEALED] == SEALED
    assert {height for _, height in store.kept(None, 10)} == {HEIGHT}
    store.close()
    kv = LevelKeyValue(documents)
    assert verify_documents(kv) == len(SEALED)
    kv.close()


def test_they_are_moved_once(tmp_path: Path) -> None:
    documents, database = tmp_path / "documents", tmp_path / "chain"
    chain_at(database)
    open_documents(documents, database).close()
    kv = LevelKeyValue(database)
    assert next(kv.scan(Table.DOCUMENT.value), None) is None
    kv.close()
    database.rename(tmp_path / "elsewhere")
    store = open_documents(documents, database)
    assert store.has_taken_over and [name for name, _ in store.kept(None, 10)] == NAMES
    with pytest.raises(ConfigurationError, match="in use by another"):
        open_documents(documents, database)
    store.close()


def test_a_chain_that_cannot_be_read_is_tried_again(tmp_path: Path) -> None:
    documents, database = tmp_path / "documents", tmp_path / "chain"
    chain_at(database)
    current = database / "CURRENT"
    content = current.read_bytes()
    current.unlink()
    store = open_documents(documents, database)
    assert not store.has_taken_over
    store.close()
    current.write_bytes(content)
    store = open_documents(documents, database)
    assert store.has_taken_over and [name for name, _ in store.kept(None, 10)] == NAMES
    store.close()


@pytest.mark.parametrize("renamed", [1, 2])
def test_they_are_moved_wherever_an_earlier_version_was_stopped_between_its_renamings(
    tmp_path: Path, renamed: int
) -> None:
    """The chain that makes way for a snapshot lies beside its place, before and after the snapshot is in it."""
    documents, database, incoming = tmp_path / "documents", tmp_path / "chain", tmp_path / "incoming"
    chain_at(tmp_path / "chain.old")
    gathered_at(database if renamed == 2 else incoming)
    store = open_documents(documents, database)
    assert complete_installation(incoming, database, lambda: roots_of(GENESIS)).taken == (renamed == 1)
    assert not (tmp_path / "chain.old").exists()
    assert store.has_taken_over and [store.get(sealed_name(raw)) for raw in SEALED] == SEALED
    assert {height for _, height in store.kept(None, 10)} == {HEIGHT}
    store.close()


LARGE = [random.Random(number).randbytes(20_000) for number in range(40)]
"""Each has blocks of LevelDB of its own."""


def test_a_damaged_block_costs_the_documents_in_it_and_no_other(tmp_path: Path) -> None:
    """It is said at each start; those that could be read are here after the first one."""
    documents, database = tmp_path / "documents", tmp_path / "chain"
    chain_at(database)
    kv = LevelKeyValue(database)
    kv.write([as_before(raw) for raw in LARGE])
    kv.compact()
    kv.close()
    table = max(database.glob("*.ldb"), key=lambda path: path.stat().st_size)
    raw = bytearray(table.read_bytes())
    raw[len(raw) // 4] ^= 1
    table.write_bytes(raw)
    notes: list[str] = []
    for start in range(1, 3):
        store = open_documents(documents, database, notes.append)
        held = sum(store.get(sealed_name(raw)) == raw for raw in [*LARGE, *SEALED])
        assert len(LARGE) + len(SEALED) - 6 <= held < len(LARGE) + len(SEALED)
        assert not store.has_taken_over and len(notes) == start and "could not all be moved" in notes[-1]
        store.close()


def test_a_damaged_chain_that_takes_no_writes_gives_its_documents_all_the_same() -> None:
    chain, kept = FaultyKeyValue(), MemoryKeyValue()
    ChainBuilder(chain, GENESIS).grow(1, 1)
    chain.write([as_before(raw) for raw in SEALED])
    chain.arm(FaultKind.FAIL, 1)
    store = DocumentStore(kept)
    with pytest.raises(StorageDamage):
        take_over(store, chain)
    assert [store.get(sealed_name(raw)) for raw in SEALED] == SEALED and not store.has_taken_over


@pytest.mark.parametrize("write", range(1, 2 * len(SEALED) + 2))
@pytest.mark.parametrize("kind", [FaultKind.CRASH_BEFORE, FaultKind.CRASH_AFTER])
def test_moving_goes_on_after_a_crash_at_any_write(write: int, kind: FaultKind) -> None:
    """Each is in one place or in both, at any time."""
    chain, kept = FaultyKeyValue(), FaultyKeyValue()
    ChainBuilder(chain, GENESIS).grow(1, 1)
    chain.write([as_before(raw) for raw in SEALED])
    # Documents and chain are written to by turns.
    crashing, count = (kept, write // 2 + 1) if write % 2 else (chain, write // 2)
    crashing.arm(kind, count)
    with pytest.raises(SimulatedCrash):
        take_over(DocumentStore(kept), chain)
    for kv in (chain, kept):
        kv.crash()
        kv.reopen()
    assert {key[1:] for kv in (chain, kept) for key, _ in kv.scan(Table.DOCUMENT.value)} == set(NAMES)
    store = DocumentStore(kept)
    take_over(store, chain)
    assert store.has_taken_over and [name for name, _ in store.kept(None, 10)] == NAMES
    assert [store.get(sealed_name(raw)) for raw in SEALED] == SEALED


def test_damage_is_named_with_advice_that_helps(tmp_path: Path) -> None:
    kv = MemoryKeyValue()
    store = DocumentStore(kv)
    store.keep(SEALED[0], 1)
    name = sealed_name(SEALED[0])
    kv.write([(Table.DOCUMENT.value + name, b"?")])
    advice = "leave data/documents as it is, others in it may be nowhere else"
    for act in (lambda: store.get(name), lambda: verify_documents(kv)):
        with pytest.raises(StorageDamage, match=f"document {name.hex()} .*; {advice}"):
            act()
    for raw, kept in ((SEALED[0], None), (None, bytes(8)), (SEALED[0], b"?")):
        kv.write([(Table.DOCUMENT.value + name, raw), (Table.DOCUMENT_KEPT.value + name, kept)])
        with pytest.raises(StorageDamage, match=f"document .*; {advice}"):
            verify_documents(kv)
    documents = tmp_path / "documents"
    open_documents(documents, tmp_path / "chain").close()
    (documents / "CURRENT").write_bytes(b"MANIFEST-999999\n")
    with pytest.raises(StorageDamage, match="put data/documents back from a copy, or move it aside and keep it"):
        open_documents(documents, tmp_path / "chain")
