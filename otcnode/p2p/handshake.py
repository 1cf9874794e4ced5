"""How two nodes meet: a clear hello, then Noise XX with each side's Ed25519 identity inside. Sans-IO.

1. Each side sends HELLO at once: magic, protocol version, genesis hash. Its 42 bytes are the same in every version, so
   a node of another version or network is recognised before anything else and both sides can name the difference. The
   initiator says nothing more until it has read the other's hello: a side that hangs up never has unread bytes, which
   would make TCP discard the hello it has just sent.
2. Noise XX, each message behind two bytes of length. The prologue is both hellos, so changing one on the way fails.
3. Messages 2 and 3 carry a Claim: the node's identity and its signature over domain, chain, role, the handshake hash
   before that message, the static key, and a number drawn when the node started. The hash holds the other side's fresh
   key, so a claim is worthless in any other handshake; the role stops it from being reflected to its author.

An initiator that finds another node than the one it looks for ends at message 2, before it has said who it is. Where
it looks is what that node announced, and that may be a lie: were the one who is found told who came, it would hold the
arrivals against a node that somebody else had sent.

Whether the identity may connect is decided by the caller afterwards, inside the encrypted session.
"""

from __future__ import annotations

import struct
from enum import StrEnum
from typing import Annotated, NamedTuple

from msgspec import Meta

from otcnode.codec import Record, decode, encode
from otcnode.crypto import SigningKey, preimage, verify, x25519_public
from otcnode.errors import DecodeError
from otcnode.p2p.close import CloseCode, PeerError
from otcnode.p2p.noise import CipherState, HandshakeState, NoiseError
from otcnode.types import Ed25519Signature, NodeId

PROTOCOL_VERSION = 2
MAGIC = b"otcnode\n"
IDENTITY_DOMAIN = "otcnode/p2p-identity/1"
SESSION_BYTES = 16
HANDSHAKE_MESSAGE_BYTES_MAX = 512

_HELLO = struct.Struct(">8sH32s")
HELLO_BYTES = _HELLO.size
_LENGTH = struct.Struct(">H")


class Identity(NamedTuple):
    """Who this node is: its Ed25519 key, and an X25519 secret that only secures connections."""

    signing: SigningKey
    static_secret: bytes

    @property
    def node(self) -> NodeId:
        return self.signing.public

    @property
    def static_public(self) -> bytes:
        return x25519_public(self.static_secret)


class Role(StrEnum):
    INITIATOR = "initiator"
    RESPONDER = "responder"


class Claim(Record, frozen=True):
    """`session` is drawn once per start of a node: a claim with another one says the old connections are dead."""

    node: NodeId
    session: Annotated[bytes, Meta(min_length=SESSION_BYTES, max_length=SESSION_BYTES)]
    signature: Ed25519Signature


class Established(NamedTuple):
    """`leftover`: bytes that came after the handshake and belong to the session."""

    node: NodeId
    session: bytes
    sending: CipherState
    receiving: CipherState
    leftover: bytes


def hello(chain: bytes, version: int = PROTOCOL_VERSION) -> bytes:
    return _HELLO.pack(MAGIC, version, chain)


def claim_preimage(chain: bytes, role: Role, handshake_hash: bytes, static_public: bytes, session: bytes) -> bytes:
    return preimage(IDENTITY_DOMAIN, chain, role.value, handshake_hash, static_public, session)


class Handshake:
    """One side. Send `opening`, then what each `feed` returns, until `established` is set. `expected`: the only node
    that an initiator makes itself known to; None: whoever answers."""

    def __init__(
        self,
        *,
        initiator: bool,
        identity: Identity,
        chain: bytes,
        session: bytes,
        ephemeral_secret: bytes,
        expected: NodeId | None = None,
    ) -> None:
        assert len(session) == SESSION_BYTES
        assert initiator or expected is None
        self._initiator = initiator
        self._expected = expected
        self._identity = identity
        self._chain = chain
        self._session = session
        self._ephemeral_secret = ephemeral_secret
        self._noise: HandshakeState | None = None
        self._buffer = b""
        self._claim: Claim | None = None
        self.opening = hello(chain)
        self.established: Established | None = None

    @property
    def peer(self) -> NodeId | None:
        """The other side's proven identity, once known."""
        return self._claim.node if self._claim else None

    def feed(self, data: bytes) -> bytes:
        """What to answer, perhaps nothing. Raises PeerError with a reason that a person can read."""
        assert self.established is None
        self._buffer += data
        answer = b""
        while self.established is None:
            if self._noise is None:
                if len(self._buffer) < HELLO_BYTES:
                    _check_magic(self._buffer)
                    break
                raw, self._buffer = self._buffer[:HELLO_BYTES], self._buffer[HELLO_BYTES:]
                answer += self._on_hello(raw)
            else:
                message = self._next_message()
                if message is None:
                    break
                answer += self._on_message(self._noise, message)
        return answer

    def _on_hello(self, raw: bytes) -> bytes:
        self._check_hello(raw)
        prologue = self.opening + raw if self._initiator else raw + self.opening
        self._noise = HandshakeState(
            initiator=self._initiator,
            prologue=prologue,
            static_secret=self._identity.static_secret,
            ephemeral_secret=self._ephemeral_secret,
        )
        return _prefixed(self._noise.write_message(b"")) if self._initiator else b""

    def _check_hello(self, raw: bytes) -> None:
        _check_magic(raw)
        _, version, chain = _HELLO.unpack(raw)
        if version != PROTOCOL_VERSION:
            raise PeerError(
                CloseCode.VERSION, f"the peer speaks protocol version {version}, this node version {PROTOCOL_VERSION}"
            )
        if chain != self._chain:
            raise PeerError(
                CloseCode.NETWORK,
                f"the peer belongs to the network with genesis {chain.hex()[:16]}…,"
                f" this node to {self._chain.hex()[:16]}…",
            )

    def _next_message(self) -> bytes | None:
        if len(self._buffer) < _LENGTH.size:
            return None
        (size,) = _LENGTH.unpack_from(self._buffer)
        if size > HANDSHAKE_MESSAGE_BYTES_MAX:
            raise PeerError(CloseCode.HANDSHAKE, f"a handshake message of {size} bytes")
        end = _LENGTH.size + size
        if len(self._buffer) < end:
            return None
        message, self._buffer = self._buffer[_LENGTH.size : end], self._buffer[end:]
        return message

    def _on_message(self, noise: HandshakeState, message: bytes) -> bytes:
        try:
            return self._converse(noise, message)
        except NoiseError as error:
            raise PeerError(CloseCode.HANDSHAKE, f"the handshake failed: {error}") from None

    def _converse(self, noise: HandshakeState, message: bytes) -> bytes:
        said_before = noise.handshake_hash
        payload = noise.read_message(message)
        if self._initiator or noise.finished:
            self._claim = self._check_claim(noise, said_before, payload)
        elif payload:
            raise PeerError(CloseCode.HANDSHAKE, "the first handshake message carries data")
        answer = b"" if noise.finished else _prefixed(noise.write_message(self._make_claim(noise)))
        if noise.finished:
            assert self._claim is not None
            sending, receiving = noise.split()
            self.established = Established(self._claim.node, self._claim.session, sending, receiving, self._buffer)
        return answer

    def _make_claim(self, noise: HandshakeState) -> bytes:
        role = Role.INITIATOR if self._initiator else Role.RESPONDER
        signed = claim_preimage(self._chain, role, noise.handshake_hash, noise.static_public, self._session)
        return encode(Claim(self._identity.node, self._session, self._identity.signing.sign(signed)))

    def _check_claim(self, noise: HandshakeState, said_before: bytes, payload: bytes) -> Claim:
        try:
            claim = decode(Claim, payload)
        except DecodeError as error:
            raise PeerError(CloseCode.HANDSHAKE, f"the peer's claim of identity is {error}") from None
        role = Role.RESPONDER if self._initiator else Role.INITIATOR
        signed = claim_preimage(self._chain, role, said_before, noise.remote_static, claim.session)
        if not verify(claim.node, signed, claim.signature):
            raise PeerError(CloseCode.IDENTITY, "the signature that binds the peer's keys does not verify")
        if claim.node == self._identity.node:
            raise PeerError(CloseCode.IDENTITY, "the address leads back to this node, or its key is in use elsewhere")
        if self._expected is not None and claim.node != self._expected:
            raise PeerError(CloseCode.IDENTITY, another_node(claim.node, self._expected))
        return claim


def another_node(found: NodeId, expected: NodeId) -> str:
    return f"this is {found.hex()[:16]}…, not the node {expected.hex()[:16]}…"


def _check_magic(raw: bytes) -> None:
    if not MAGIC.startswith(raw[: len(MAGIC)]):
        raise PeerError(CloseCode.HANDSHAKE, "the peer is no otcnode peer")


def _prefixed(message: bytes) -> bytes:
    return _LENGTH.pack(len(message)) + message
