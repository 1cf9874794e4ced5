"""A byte changed, a file cut or gone in what a node gathers or serves of snapshots: it is found and said, nothing false
is served, the node starts, and a sound chain is never given for it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from otcnode import genesis as genesis_module
from otcnode.bench.chain import ChainBuilder, genesis_of, validator_keys
from otcnode.codec import decode, encode
from otcnode.config import Home, load_configuration
from otcnode.consensus.events import Now, Timer
from otcnode.crypto import SignatureCheck, random_bytes, verify_all
from otcnode.engine.snapshot_serving import SnapshotServer
from otcnode.engine.snapshot_taking import SnapshotTaker
from otcnode.errors import GatheredDamage
from otcnode.home import create_home, create_key
from otcnode.node import open_store
from otcnode.node_key import NodeKey
from otcnode.p2p.framing import Channel
from otcnode.roots import roots_of
from otcnode.snapshot import Manifest, decode_chunk
from otcnode.snapshot_sync import Wanted
from otcnode.storage import tools
from otcnode.storage.directory import DirectoryFolder, DirectoryFolders
from otcnode.storage.incoming import Incoming, check_finished
from otcnode.storage.kv import MemoryKeyValue, Write
from otcnode.storage.level import LevelKeyValue
from otcnode.storage.records import ChainMeta, Head
from otcnode.storage.schema import FORMAT, Meta, Table, height_key
from otcnode.storage.shelf import DiskShelf
from otcnode.storage.snapshot_maker import MANIFEST, chunk_name, make, offer_of, read_manifest, source_of
from otcnode.sync_messages import (
    ChunkRequest,
    ChunkResponse,
    ManifestRequest,
    ManifestResponse,
    Offers,
    OffersRequest,
    SnapshotAnswer,
    SyncMessage,
)

GENESIS = genesis_of(1, buckets=256)
CHAIN = genesis_module.chain_id(GENESIS)
HEIGHT, SNAPSHOT_HEIGHT = 3, 8
MISSING = 2
"""Chunks that a half gathered snapshot lacks."""
PLACES = [4, pytest.param(60, marks=pytest.mark.long)]
"""Of each file, at which a bit is changed."""
NEVER_READ = ("LOCK", "LOG", "LOG.old")
DATA = ["archives", "chain", "record"]
PUT_ASIDE = f"its blocks 1 to {HEIGHT} are kept in"
PEER = bytes(32)


class Sound(NamedTuple):
    """A home whose chain is at HEIGHT; a snapshot of SNAPSHOT_HEIGHT; and it gathered, whole and half."""

    home: Path
    made: Path
    whole: Path
    half: Path

    @property
    def folder(self) -> DirectoryFolder:
        return DirectoryFolder(self.made)

    @property
    def manifest(self) -> Manifest:
        manifest = read_manifest(self.folder)
        assert manifest is not None
        return manifest


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    base = tmp_path_factory.mktemp("sound")
    found = Sound(base / "home", base / "made" / f"{SNAPSHOT_HEIGHT:012d}", base / "whole", base / "half")
    home = Home(found.home)
    home.path.mkdir()
    create_key(home, NodeKey(validator_keys(1)[0].seed, random_bytes(32)))
    create_home(home, name="v", genesis=GENESIS, p2p_listen="127.0.0.1:26650", rpc_listen="127.0.0.1:26651")
    kv = LevelKeyValue(home.database, create=True)
    ChainBuilder(kv, GENESIS).grow(HEIGHT, 3)
    kv.close()
    builder = ChainBuilder(MemoryKeyValue(), GENESIS)
    builder.grow(SNAPSHOT_HEIGHT, 30)
    list(make(source_of(builder.store), found.folder, chunk_bytes=2_000))
    for path, missing in ((found.whole, 0), (found.half, MISSING)):
        kv = LevelKeyValue(path, create=True)
        incoming = Incoming.of(kv, roots_of(GENESIS), found.manifest)
        fill(incoming, found.folder, missing)
        incoming.write()
        if not missing:
            incoming.finish()
        kv.close()
        kv = LevelKeyValue(path)
        kv.compact()
        kv.close()
    return found


def fill(incoming: Incoming, folder: DirectoryFolder, missing: int = 0) -> None:
    for index in sorted(incoming.missing)[missing:]:
        raw = folder.read(chunk_name(index))
        assert raw is not None
        incoming.put(index, decode_chunk(raw))


class World:
    """The host of what serves and takes snapshots; the only peer has the sound one."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.sent: list[SyncMessage] = []
        self.now_ms = 0

    def now(self) -> Now:
        return Now(self.now_ms, self.now_ms)

    def send(self, peer: bytes, channel: Channel, payload: bytes) -> None:
        self.sent.append(decode(SyncMessage, payload))

    def note(self, level: str, text: str, **fields: object) -> None:
        self.notes.append(text)

    def later(self, action: Callable[[], None]) -> None:
        action()

    def penalise(self, peer: bytes, reason: str) -> None:
        raise AssertionError(f"the peer is honest: {reason}")

    def set_timer(self, timer: Timer, delay_ms: int | None) -> None:
        raise AssertionError("of consensus")

    def verify(self, checks: Sequence[SignatureCheck], done: Callable[[Sequence[bool]], None]) -> None:
        done(verify_all(checks))

    verify_votes = verify


def life(home: Home, world: World, sound: Sound, finished_here: bool = False) -> int:
    """One engine's life on this disk, as far as snapshots go: it opens the chain, goes on with what was gathered, and
    takes what is missing from its peer. Its height at the beginning. `finished_here`: the engine before it, in the same
    process, has finished a snapshot."""
    store = open_store(home, GENESIS, CHAIN, load_configuration(home), world.notes.append, finished_here)
    shelf = DiskShelf(home.snapshots, home.incoming, lambda: None)
    try:
        height = store.tip.height
        if height < SNAPSHOT_HEIGHT:
            taker = SnapshotTaker(store, shelf, world)
            taker.start()
            taker.sync.connected(PEER)
            for _ in range(100):
                world.now_ms += 100
                taker.poll(Wanted(height, SNAPSHOT_HEIGHT, beyond=True))
                sent, world.sent = world.sent, []
                for request in sent:
                    taker.received(PEER, answer(request, sound))
                if taker.handed_over:
                    return height
            raise AssertionError(f"the snapshot is never there: {world.notes}")
        return height
    finally:
        shelf.close()
        store.close()


def answer(request: SyncMessage, sound: Sound) -> SnapshotAnswer:
    match request:
        case OffersRequest():
            return Offers((offer_of(sound.manifest),))
        case ManifestRequest(snapshot):
            return ManifestResponse(snapshot, sound.folder.read(MANIFEST) or b"")
        case ChunkRequest(snapshot, index):
            return ChunkResponse(snapshot, index, sound.folder.read(chunk_name(index)) or b"")
        case _:
            raise AssertionError(request)


def lives(home: Home, sound: Sound) -> tuple[list[int], list[str]]:
    """Lives until one begins on the snapshot: their heights, and what was said of damage. The chain at the end is
    sound, and the snapshot's; the one before it was put aside."""
    world, heights = World(), []
    while not heights or (heights[-1] < SNAPSHOT_HEIGHT and len(heights) < 4):
        heights.append(life(home, world, sound, finished_here=heights != []))
    kv = LevelKeyValue(home.database)
    assert tools.verify(kv, CHAIN).height == SNAPSHOT_HEIGHT
    assert kv.get(height_key(Table.HEADER, SNAPSHOT_HEIGHT)) == encode(sound.manifest.header)
    kv.close()
    assert not home.incoming.exists() and sorted(path.name for path in home.database.parent.iterdir()) == DATA
    assert sum(PUT_ASIDE in note for note in world.notes) == 1
    return heights, [note for note in world.notes if PUT_ASIDE not in note]


def harms(path: Path, places: int) -> Iterator[tuple[str, bytes | None]]:
    """What can befall each file: one bit changed at places spread over all of it, its end cut off, all of it gone."""
    chance = random.Random(5)
    for file in sorted(path.iterdir()):
        raw = file.read_bytes()
        if file.name in NEVER_READ or not raw:
            continue
        for at in sorted(chance.sample(range(len(raw)), min(len(raw), places))):
            yield file.name, raw[:at] + bytes([raw[at] ^ 1 << chance.randrange(8)]) + raw[at + 1 :]
        for length in (0, len(raw) // 2, len(raw) - 1):
            yield file.name, raw[:length]
        yield file.name, None


def harm(path: Path, content: bytes | None) -> None:
    path.unlink() if content is None else path.write_bytes(content)


@pytest.fixture
def home(sound: Sound, tmp_path: Path) -> Home:
    shutil.copytree(sound.home, tmp_path / "home")
    return Home(tmp_path / "home")


def put(home: Home, sound: Sound, gathered: Path) -> None:
    """The home as it was, with what was gathered."""
    shutil.rmtree(home.path / "data")
    shutil.copytree(sound.home / "data", home.path / "data")
    shutil.copytree(gathered, home.incoming)


@pytest.mark.parametrize("state", ["half", "whole"])
def test_what_was_gathered_and_is_sound_is_gone_on_with(home: Home, sound: Sound, state: str) -> None:
    put(home, sound, getattr(sound, state))
    heights, notes = lives(home, sound)
    assert heights == ([HEIGHT, SNAPSHOT_HEIGHT] if state == "half" else [SNAPSHOT_HEIGHT])
    assert not any("damage" in note for note in notes)


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("state", ["half", "whole"])
def test_damage_in_what_was_gathered_keeps_no_node_from_starting(
    home: Home, sound: Sound, state: str, places: int
) -> None:
    """Half or whole, found at the start or when it is to be used: it is said, and it is taken again. Where nothing is
    said, nothing that counts was harmed."""
    gathered = getattr(sound, state)
    undisturbed = 2 if state == "half" else 1
    said, tables = 0, set()
    for name, content in harms(gathered, places):
        put(home, sound, gathered)
        harm(home.incoming / name, content)
        heights, notes = lives(home, sound)
        damage = [note for note in notes if "damage" in note]
        assert len(heights) == undisturbed or damage, (name, heights, notes)
        said += bool(damage)
        tables |= {Path(name).suffix} if damage else set()
        assert not any("otcnode db verify" in note for note in notes), "that is of the chain"
    assert ".ldb" in tables and said > 10


def test_nothing_but_foreign_files_where_a_snapshot_is_gathered_is_no_obstacle(home: Home, sound: Sound) -> None:
    home.incoming.mkdir(parents=True)
    (home.incoming / "LOG").write_bytes(b"what is left of it")
    heights, notes = lives(home, sound)
    assert heights == [HEIGHT, SNAPSHOT_HEIGHT] and "is damaged and was deleted" in notes[0]


def test_a_chain_that_was_to_make_way_comes_back_where_the_snapshot_rots_in_between(home: Home, sound: Sound) -> None:
    """Stopped between the two renamings, the chain is not in its place."""
    put(home, sound, sound.whole)
    [table, *_] = sorted(home.incoming.glob("*.ldb"))
    harm(table, table.read_bytes()[:-1])
    home.database.rename(home.database.with_name("chain.old"))
    world = World()
    assert life(home, world, sound) == HEIGHT
    assert "is damaged and was deleted" in world.notes[0]


_EPOCH = genesis_module.first_epoch(GENESIS)
OTHER_EPOCH = encode(replace(_EPOCH, validators=(bytes(32),)))
OTHER_META = encode(ChainMeta(FORMAT, CHAIN, 256, bytes(32)))

Harm = Callable[[LevelKeyValue], Write]


def _first_of(table: Table, value: bytes | None) -> Harm:
    return lambda kv: (next(kv.scan(table.value))[0], value)


def _head_above(kv: LevelKeyValue) -> Write:
    """It says that no state is known."""
    head = decode(Head, kv.get(Meta.HEAD.value) or b"")
    return Meta.HEAD.value, encode(replace(head, history_first=head.height + 1))


FALSE_STORES: dict[str, tuple[Harm, str]] = {
    "another value": (_first_of(Table.STATE, b"other"), "other keys or values than its tree"),
    "a key too few": (_first_of(Table.STATE, None), "other keys or values than its tree"),
    "a key too many": (lambda kv: (Table.STATE.value + b"zz", b""), "other keys or values than its tree"),
    "another leaf": (_first_of(Table.TREE, bytes(32)), "another root"),
    "another hash of a bucket": (_first_of(Table.BUCKET, bytes(32)), "table BUCKET"),
    "another header": (lambda kv: (height_key(Table.HEADER, SNAPSHOT_HEIGHT), b"\x90"), "header 8 is damaged"),
    "no certificate": (lambda kv: (height_key(Table.CERTIFICATE, SNAPSHOT_HEIGHT), None), "certificate 8 is damaged"),
    "other validators": (lambda kv: (height_key(Table.EPOCH, 1), OTHER_EPOCH), "table EPOCH"),
    "another genesis": (lambda kv: (Meta.CHAIN.value, OTHER_META), "table META"),
    "a block": (lambda kv: (height_key(Table.BODY, 1), b"\x90"), "table BODY"),
    "another head": (_head_above, "table META"),
}


@pytest.mark.parametrize("case", FALSE_STORES)
def test_whatever_no_checksum_tells_is_found_before_it_replaces_a_chain(home: Home, sound: Sound, case: str) -> None:
    """By the genesis alone: checksums are of what was written last."""
    put(home, sound, sound.whole)
    change, words = FALSE_STORES[case]
    kv = LevelKeyValue(home.incoming)
    kv.write([(Table.EVIDENCE.value + b"name", b"evidence, which goes along")])
    check_finished(kv, roots_of(GENESIS))
    check_finished(kv, roots_of(GENESIS), just_read=True)
    kv.write([(Meta.FIRST_WAY_UP.value, None)])
    check_finished(kv, roots_of(GENESIS))
    kv.write([change(kv)])
    with pytest.raises(GatheredDamage, match=words):
        check_finished(kv, roots_of(GENESIS))
    if "other keys or values" not in words and case != "another leaf":
        with pytest.raises(GatheredDamage):
            check_finished(kv, roots_of(GENESIS), just_read=True)
    kv.close()
    world = World()
    assert life(home, world, sound) == HEIGHT
    assert "is damaged and was deleted" in world.notes[0] and words in world.notes[0]


# ---- what is served


@pytest.mark.parametrize("places", PLACES)
def test_damage_in_a_snapshot_is_never_served(home: Home, sound: Sound, places: int) -> None:
    """Whichever byte of it: the node starts, says it, and serves true files of it or none."""
    true = {name: sound.folder.read(name) for name in sound.folder.names()}
    index = min(range(sound.manifest.chunks), key=lambda index: len(true[chunk_name(index)] or b""))
    said = harmed = 0
    for name, content in harms(sound.made, places):
        if name.startswith("chunk-") and name != chunk_name(index):
            continue
        shutil.rmtree(home.snapshots, ignore_errors=True)
        shutil.copytree(sound.made.parent, home.snapshots)
        harm(home.snapshots / sound.made.name / name, content)
        notes = _served(home, sound, true)
        harmed += 1
        said += "a snapshot is given up" in notes
    assert harmed > 20 and said > harmed // 2


def _served(home: Home, sound: Sound, true: dict[str, bytes | None]) -> list[str]:
    world, block = World(), sound.manifest.certificate.block_hash
    store = open_store(home, GENESIS, CHAIN, load_configuration(home))
    try:
        server = SnapshotServer(store, DirectoryFolders(home.snapshots), world, interval_blocks=SNAPSHOT_HEIGHT)
        server.start()
        server.request(PEER, ManifestRequest(block))
        for index in range(sound.manifest.chunks):
            server.request(PEER, ChunkRequest(block, index))
    finally:
        store.close()
    for message in world.sent:
        match message:
            case ManifestResponse(_, raw):
                assert raw in (b"", true[MANIFEST])
            case ChunkResponse(_, index, raw):
                assert raw in (b"", true[chunk_name(index)])
            case _:
                raise AssertionError(message)
    assert len(world.sent) == 1 + sound.manifest.chunks
    return world.notes
