"""Noise XX against the published vectors (cacophony and snow, from mcginty/snow tests/vectors)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from otcnode.crypto import x25519_public
from otcnode.p2p.noise import NONCE_MAX, CipherState, HandshakeState, NoiseError

VECTORS = json.loads((Path(__file__).parent / "vectors" / "noise_xx_25519_chachapoly_sha256.json").read_text())[
    "vectors"
]
SMALL_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


def sides(vector: dict[str, Any]) -> tuple[HandshakeState, HandshakeState]:
    def side(name: str) -> HandshakeState:
        return HandshakeState(
            initiator=name == "init",
            prologue=bytes.fromhex(vector[f"{name}_prologue"]),
            static_secret=bytes.fromhex(vector[f"{name}_static"]),
            ephemeral_secret=bytes.fromhex(vector[f"{name}_ephemeral"]),
        )

    return side("init"), side("resp")


def handshake_done(vector: dict[str, Any]) -> tuple[HandshakeState, HandshakeState]:
    initiator, responder = sides(vector)
    responder.read_message(initiator.write_message(b""))
    initiator.read_message(responder.write_message(b"payload of the responder"))
    responder.read_message(initiator.write_message(b""))
    return initiator, responder


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["source"])
def test_every_message_of_the_published_vectors(vector: dict[str, Any]) -> None:
    initiator, responder = sides(vector)
    messages = [(bytes.fromhex(m["payload"]), bytes.fromhex(m["ciphertext"])) for m in vector["messages"]]
    speakers = [initiator, responder] * len(messages)
    for (payload, ciphertext), speaker, listener in zip(messages[:3], speakers, speakers[1:], strict=False):
        assert speaker.write_message(payload) == ciphertext
        assert listener.read_message(ciphertext) == payload
    assert initiator.finished and responder.finished
    assert initiator.handshake_hash == responder.handshake_hash
    assert "handshake_hash" not in vector or initiator.handshake_hash.hex() == vector["handshake_hash"]
    assert initiator.remote_static == x25519_public(bytes.fromhex(vector["resp_static"]))
    assert responder.remote_static == x25519_public(bytes.fromhex(vector["init_static"]))

    halves = [initiator.split(), responder.split()]
    assert len(messages) > 3
    for index, (payload, ciphertext) in enumerate(messages[3:], start=3):
        sending, receiving = halves[index % 2][0], halves[(index + 1) % 2][1]
        assert sending.encrypt(b"", payload) == ciphertext
        assert receiving.decrypt(b"", ciphertext) == payload


@pytest.mark.parametrize("step", [1, 2])
def test_any_changed_byte_of_an_authenticated_message_is_refused(step: int) -> None:
    vector = VECTORS[0]
    size = len(bytes.fromhex(vector["messages"][step]["ciphertext"]))
    for position in range(0, size, 7):
        initiator, responder = sides(vector)
        responder.read_message(initiator.write_message(b""))
        speaker, listener = responder, initiator
        if step == 2:
            initiator.read_message(responder.write_message(b"a claim"))
            speaker, listener = initiator, responder
        message = bytearray(speaker.write_message(bytes(size)))
        message[position] ^= 1
        with pytest.raises(NoiseError):
            listener.read_message(bytes(message))


def test_another_prologue_is_refused() -> None:
    vector = VECTORS[0] | {"resp_prologue": "00"}
    initiator, responder = sides(vector)
    responder.read_message(initiator.write_message(b""))
    with pytest.raises(NoiseError, match="authenticate"):
        initiator.read_message(responder.write_message(b""))


@pytest.mark.parametrize("key", SMALL_ORDER, ids=lambda key: key.hex()[:8])
def test_a_small_order_ephemeral_is_refused_by_both_sides(key: bytes) -> None:
    initiator, responder = sides(VECTORS[0])
    responder.read_message(key)
    with pytest.raises(NoiseError, match="small order"):
        responder.write_message(b"")
    initiator.write_message(b"")
    with pytest.raises(NoiseError, match="small order"):
        initiator.read_message(key + bytes(64))


@pytest.mark.parametrize("size", range(0, 96, 5))
def test_a_message_cut_short_is_refused(size: int) -> None:
    initiator, responder = sides(VECTORS[0])
    responder.read_message(initiator.write_message(b""))
    message = responder.write_message(b"")
    assert len(message) == 96
    with pytest.raises(NoiseError):
        initiator.read_message(message[:size])


def test_messages_longer_than_noise_allows_are_refused() -> None:
    _, responder = sides(VECTORS[0])
    with pytest.raises(NoiseError, match="65536"):
        responder.read_message(bytes(65_536))


def test_transport_messages_cannot_be_changed_replayed_or_reordered() -> None:
    initiator, responder = handshake_done(VECTORS[0])
    sending, receiving = initiator.split()[0], responder.split()[1]
    first, second = sending.encrypt(b"", b"first"), sending.encrypt(b"", b"second")
    with pytest.raises(NoiseError):
        receiving.decrypt(b"", second)
    for position in range(len(first)):
        with pytest.raises(NoiseError):
            receiving.decrypt(b"", first[:position] + bytes([first[position] ^ 0x80]) + first[position + 1 :])
    assert receiving.decrypt(b"", first) == b"first"
    with pytest.raises(NoiseError):
        receiving.decrypt(b"", first)
    assert receiving.decrypt(b"", second) == b"second"


def test_the_two_directions_have_different_keys() -> None:
    initiator, responder = handshake_done(VECTORS[0])
    with pytest.raises(NoiseError):
        initiator.split()[1].decrypt(b"", initiator.split()[0].encrypt(b"", b"mine"))
    assert responder.split()[1].decrypt(b"", initiator.split()[0].encrypt(b"", b"mine")) == b"mine"


def test_the_last_nonce_is_never_used() -> None:
    sending, receiving = CipherState(bytes(32), NONCE_MAX - 1), CipherState(bytes(32), NONCE_MAX - 1)
    last = sending.encrypt(b"", b"the last")
    assert receiving.decrypt(b"", last) == b"the last"
    with pytest.raises(NoiseError, match="nonce"):
        sending.encrypt(b"", b"one more")
    with pytest.raises(NoiseError, match="nonce"):
        receiving.decrypt(b"", last)
