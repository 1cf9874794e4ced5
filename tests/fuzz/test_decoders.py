"""Every decoder of what others hand to a node: valid encodings, changed a little. Nothing but typed errors comes out,
and what decodes is canonical. (Random bytes hardly get past the first field; the tests of each decoder have them.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otcnode import genesis as genesis_module
from otcnode.codec import decode, encode
from otcnode.config import Home, load_configuration
from otcnode.consensus.messages import Message
from otcnode.crypto import sha256
from otcnode.engine.documents import DocumentMessage
from otcnode.errors import ConfigurationError, DecodeError, Inadmissible
from otcnode.node_key import NodeKey
from otcnode.p2p.announcements import Announcements
from otcnode.p2p.close import PeerError
from otcnode.p2p.framing import Channel, Form, FrameDecoder, control_frame, first_frame, more_frame, seal, whole_frame
from otcnode.p2p.gossip import GossipMessage, Have, Push, Request
from otcnode.p2p.handshake import Handshake
from otcnode.p2p.noise import CipherState
from otcnode.p2p.peers import parse_address
from otcnode.rpc import json_rpc
from otcnode.snapshot import Chunk, Manifest
from otcnode.sync_messages import SyncMessage
from otcnode.vm.transactions import decode_transaction
from tests.engine.network import deposit, genesis_of, key_of
from tests.hostile import words
from tests.hostile.arena import attacker

CHAIN = sha256(b"a chain")
KEY = key_of("node 0")

Decoder = Callable[[bytes], object]


def frames(raw: bytes) -> object:
    """Without a key a cipher passes its text through, so that mutations reach the frames themselves."""
    decoder = FrameDecoder(CipherState(), dict.fromkeys(Channel, 1 << 20))
    inbound = decoder.feed(raw)
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
    "snapshot manifest": (of(Manifest), DecodeError, lambda: [words.tip(1)]),
    "snapshot chunk": (of(Chunk), DecodeError, lambda: [words.tip(1)]),
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


@pytest.mark.parametrize("kind", [kind for kind in DECODERS if not kind.startswith("snapshot")])
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


@pytest.mark.long
@pytest.mark.parametrize("kind", DECODERS)
@settings(max_examples=20_000)
@given(which=st.integers(0, 10), changes=edits)
def test_a_changed_encoding_many_times(kind: str, which: int, changes: list[tuple[str, int, bytes]]) -> None:
    attempt(kind, which, changes)
