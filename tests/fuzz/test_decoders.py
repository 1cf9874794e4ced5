"""Every decoder of what others hand to a node: valid encodings, changed a little. Nothing but typed errors comes out,
and what decodes is canonical. (Random bytes hardly get past the first field; the tests of each decoder have them.)
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otcnode import genesis as genesis_module
from otcnode.blocks import block_hash
from otcnode.client import keystore
from otcnode.client.errors import KeystoreError
from otcnode.client.keystore import KeyKind, Secret
from otcnode.codec import decode, encode
from otcnode.config import Home, load_configuration
from otcnode.consensus.messages import Message
from otcnode.crypto import sha256
from otcnode.engine.documents import DocumentMessage
from otcnode.errors import ConfigurationError, DecodeError, Inadmissible, ProofError
from otcnode.node_key import NodeKey
from otcnode.p2p.announcements import Announcements
from otcnode.p2p.close import PeerError
from otcnode.p2p.framing import Channel, Form, FrameDecoder, control_frame, first_frame, more_frame, seal, whole_frame
from otcnode.p2p.gossip import GossipMessage, Have, Push, Request
from otcnode.p2p.handshake import Handshake
from otcnode.p2p.noise import CipherState
from otcnode.p2p.peers import parse_address
from otcnode.rpc import json_rpc
from otcnode.snapshot import Chunk, Manifest, check_chunk, decode_chunk, decode_manifest
from otcnode.storage.votes_file import FileVotesLog
from otcnode.sync_messages import SyncMessage
from otcnode.vm.transactions import decode_transaction
from tests import test_snapshot as snapshots
from tests.engine.network import deposit, genesis_of, key_of
from tests.hostile import words
from tests.hostile.arena import attacker

CHAIN = sha256(b"a chain")
KEY = key_of("node 0")

Decoder = Callable[[bytes], object]


def frames(raw: bytes) -> object:
    """Without a key a cipher passes its text through, so that mutations reach the frames themselves."""
    decoder = FrameDecoder(CipherState(), dict.fromkeys(Channel, 1 << 20))
    inbound = decoder.feed(raw, 0, 0)
    assert decoder.held_bytes <= len(raw)
    return inbound


def handshake(raw: bytes) -> object:
    side = Handshake(
        initiator=False, identity=attacker(0), chain=CHAIN, session=bytes(16), ephemeral_secret=sha256(b"fresh")
    )
    return side.feed(raw)


def greeting() -> bytes:
    side = Handshake(
        initiator=True, identity=attacker(1), chain=CHAIN, session=bytes(16), ephemeral_secret=sha256(b"other")
    )
    other = Handshake(
        initiator=False, identity=attacker(0), chain=CHAIN, session=bytes(16), ephemeral_secret=sha256(b"fresh")
    )
    first = side.feed(other.opening)
    answer = other.feed(side.opening + first)
    return side.opening + first + side.feed(answer)


def in_a_file(load: Callable[[Home], object], name: str) -> Decoder:
    def run(raw: bytes) -> object:
        with TemporaryDirectory() as directory:
            (Path(directory) / name).write_bytes(raw)
            return load(Home(Path(directory)))

    return run


def manifest(raw: bytes) -> object:
    """What is proven of a changed manifest is what was proven of the true one: how large it is, nobody proves."""
    found = decode_manifest(raw)
    proven = snapshots.check_manifest(found, snapshots.CHAIN, snapshots.FIRST, 2)
    true = decode_manifest(encode(snapshots.manifest_at(found.header.height)))
    assert (proven.block_hash, proven.epochs) == (block_hash(true.header), _epochs(true))
    return proven


def _epochs(true: Manifest) -> object:
    return snapshots.check_manifest(true, snapshots.CHAIN, snapshots.FIRST, 2).epochs


CHUNK = 7


@cache
def state_root() -> bytes:
    return snapshots.tree_of(snapshots.STATE, 4096).root


@cache
def true_chunks() -> list[Chunk]:
    return snapshots.chunks(snapshots.STATE, snapshots.tree_of(snapshots.STATE, 4096), 1)


def chunk(raw: bytes) -> object:
    """Nothing passes but the true one."""
    found = decode_chunk(raw)
    leaves = check_chunk(found, CHUNK, 1, 3, state_root())
    assert found == true_chunks()[CHUNK]
    return leaves


ENTRIES = (b"first", b"second", b"x" * 300, b"", b"last")


def votes_record() -> bytes:
    with TemporaryDirectory() as directory:
        log = FileVotesLog.create(Path(directory) / "votes")
        for entry in ENTRIES:
            log.append([entry])
            log.sync()
        log.close()
        return (Path(directory) / "votes").read_bytes()


def votes(raw: bytes) -> object:
    """Damaged, or all entries up to some frame: never another entry, never a hole."""
    with TemporaryDirectory() as directory:
        (Path(directory) / "votes").write_bytes(raw)
        log = FileVotesLog(Path(directory) / "votes")
        entries = log.load()
        log.close()
    assert (entries is None) == (log.trouble is not None)
    assert entries is None or entries == ENTRIES[: len(entries)]
    return entries


SECRETS = {"trade": Secret(KeyKind.ED25519, bytes(32)), "documents": Secret(KeyKind.X25519, sha256(b"x"))}


def keystore_file() -> bytes:
    with TemporaryDirectory() as directory:
        keystore.write(Path(directory) / "keys", SECRETS, b"p", memory_bytes=8_192, operations=1)
        return (Path(directory) / "keys").read_bytes()


def keys(raw: bytes) -> object:
    """The public part; and the sealed one where the file asks for no more time than the true one does."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "keys"
        path.write_bytes(raw)
        shown = keystore.public_keys(path)
        if b'"memory_bytes": 8192,' in raw and b'"operations": 1,' in raw:
            assert keystore.read(path, b"p") == SECRETS
    return shown


def transaction() -> bytes:
    return deposit(genesis_of(4), 1).raw


def key_file() -> bytes:
    with TemporaryDirectory() as directory:
        NodeKey(bytes(32), bytes(32)).save(Path(directory) / "node.key")
        return (Path(directory) / "node.key").read_bytes()


CONFIGURATION = b"""
name = "node1"
p2p = { listen = "127.0.0.1:26650", peers = { node2 = "127.0.0.1:1" } }
consensus = { view_timeout_ms = 2000 }
log = { level = "info", format = "text" }
"""
RECORD = seal(
    CipherState(),
    b"".join(
        (
            control_frame(Form.OPEN, b""),
            whole_frame(Channel.CONSENSUS, b"vote"),
            first_frame(Channel.SYNC, bytes(20_000)),
            control_frame(Form.PING, bytes(8)),
            more_frame(Channel.SYNC, bytes(20_000), 16_000),
        )
    ),
)


@cache
def corpus(kind: str) -> tuple[bytes, ...]:
    """Valid encodings to begin with."""
    return tuple(DECODERS[kind][2]())


def of(kind: object) -> Decoder:
    def run(raw: bytes) -> object:
        value = decode(kind, raw)
        assert encode(value) == raw
        return value

    return run


DECODERS: dict[str, tuple[Decoder, type[Exception] | None, Callable[[], Sequence[bytes]]]] = {
    "consensus": (
        of(Message),
        DecodeError,
        lambda: [
            words.vote(CHAIN, KEY, 5, 0),
            words.status(CHAIN, KEY, 7),
            words.view_change(CHAIN, KEY, 3, 0, None),
            words.body_request(4, bytes(32), (1, 2, 300)),
        ],
    ),
    "sync": (
        of(SyncMessage),
        DecodeError,
        lambda: [words.tip(10**9), words.blocks_request(1, 64), words.junk_blocks(CHAIN, 3, 2)],
    ),
    "gossip": (
        of(GossipMessage),
        DecodeError,
        lambda: [encode(Push((b"raw", b"other"))), encode(Have((bytes(32),))), encode(Request((bytes(32), CHAIN)))],
    ),
    "documents": (of(DocumentMessage), DecodeError, lambda: [words.document_wanted()]),
    "announcements": (of(Announcements), DecodeError, lambda: [words.announcement(CHAIN, KEY, "10.0.0.1:26650", 7)]),
    "snapshot manifest": (manifest, ProofError, lambda: [encode(snapshots.manifest_at(at)) for at in (5, 20, 30)]),
    "snapshot chunk": (chunk, ProofError, lambda: [encode(true_chunks()[CHUNK])]),
    "votes record": (votes, None, lambda: [votes_record()]),
    "keystore": (keys, KeystoreError, lambda: [keystore_file()]),
    "transaction": (decode_transaction, Inadmissible, lambda: [transaction(), words.forged(transaction())]),
    "frames": (frames, PeerError, lambda: [RECORD, RECORD + RECORD]),
    "handshake": (handshake, PeerError, lambda: [greeting()]),
    "json-rpc": (
        lambda raw: json_rpc.parse(raw, 10),
        None,
        lambda: [
            b'{"jsonrpc":"2.0","id":1,"method":"node_status","params":{"a":[1,2,{"b":null}]}}',
            b'[{"jsonrpc":"2.0","method":"a"},{"jsonrpc":"2.0","id":"x","method":"b","params":[1.5,"\\u0041"]}]',
        ],
    ),
    "genesis file": (
        in_a_file(lambda home: genesis_module.load(home.genesis), "genesis.json"),
        ConfigurationError,
        lambda: [msgspec.json.encode(genesis_of(2))],
    ),
    "node.toml": (in_a_file(load_configuration, "node.toml"), ConfigurationError, lambda: [CONFIGURATION]),
    "node.key": (in_a_file(lambda home: NodeKey.load(home.key), "node.key"), ConfigurationError, lambda: [key_file()]),
    "address": (
        lambda raw: parse_address(raw.decode("latin-1")),
        None,
        lambda: [b"127.0.0.1:26650", b"[::1]:1", b"host.example:65535"],
    ),
}
INTERESTING = (
    b"\x00",
    b"\x7f",
    b"\x80",
    b"\xc0",
    b"\xc1",
    b"\xcf" + b"\xff" * 8,
    b"\xdd\xff\xff\xff\xff",
    b"\xdc\xff\xff",
)
"""Among them the heads of arrays and numbers of the largest sizes."""

edits = st.lists(
    st.tuples(
        st.sampled_from(("set", "insert", "cut", "repeat", "end")),
        st.integers(0, 1 << 16),
        st.one_of(st.sampled_from(INTERESTING), st.binary(min_size=1, max_size=6)),
    ),
    min_size=1,
    max_size=4,
)


def mutated(raw: bytes, changes: Sequence[tuple[str, int, bytes]]) -> bytes:
    for kind, place, piece in changes:
        at = place % (len(raw) + 1)
        match kind:
            case "set":
                raw = raw[:at] + piece + raw[at + len(piece) :]
            case "insert":
                raw = raw[:at] + piece + raw[at:]
            case "cut":
                raw = raw[:at] + raw[at + len(piece) :]
            case "repeat":
                raw = raw[:at] + raw[at : at + 40] * 3 + raw[at + 40 :]
            case _:
                raw = raw[:at]
    return raw


@pytest.mark.parametrize("kind", DECODERS)
def test_what_a_mutation_starts_from_is_valid(kind: str) -> None:
    decoder, _, _ = DECODERS[kind]
    for raw in corpus(kind):
        decoder(raw)


def attempt(kind: str, which: int, changes: Sequence[tuple[str, int, bytes]]) -> None:
    decoder, error, _ = DECODERS[kind]
    raws = corpus(kind)
    raw = mutated(raws[which % len(raws)], changes)
    try:
        decoder(raw)
    except Exception as raised:
        assert error is not None and isinstance(raised, error), f"{kind}: {raised!r} on {raw!r}"


@pytest.mark.parametrize("kind", DECODERS)
@settings(max_examples=150)
@given(which=st.integers(0, 10), changes=edits)
def test_a_changed_encoding_is_refused_with_a_typed_error_or_is_another_value(
    kind: str, which: int, changes: list[tuple[str, int, bytes]]
) -> None:
    attempt(kind, which, changes)


HEADS = (b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\x7f\xff\xff\xff", b"\xff\xff\xff\xff")
"""Of the longest arrays, byte strings and texts, and a length as it stands in frames."""
PLACES = 100
MEMORY_BYTES_MAX = 4 << 20


@pytest.mark.parametrize("kind", DECODERS)
def test_a_length_that_is_only_claimed_takes_no_memory(kind: str) -> None:
    """Wherever it is claimed: what a decoder takes is bounded by what came, not by what was announced."""
    raw = corpus(kind)[0]
    step = max(1, len(raw) // PLACES)
    tracemalloc.start()
    try:
        for at in range(0, len(raw), step):
            for head in HEADS:
                attempt(kind, 0, [("set", at, head)])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY_BYTES_MAX + 20 * len(raw)


@pytest.mark.long
@pytest.mark.parametrize("kind", DECODERS)
@settings(max_examples=20_000)
@given(which=st.integers(0, 10), changes=edits)
def test_a_changed_encoding_many_times(kind: str, which: int, changes: list[tuple[str, int, bytes]]) -> None:
    attempt(kind, which, changes)
