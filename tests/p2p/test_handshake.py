"""How two nodes meet, and everybody who must not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otcnode.codec import encode
from otcnode.crypto import SigningKey, sha256, x25519_public
from otcnode.p2p.close import CloseCode, PeerError
from otcnode.p2p.handshake import (
    HELLO_BYTES,
    PROTOCOL_VERSION,
    Claim,
    Handshake,
    Identity,
    Role,
    claim_preimage,
    hello,
)
from otcnode.p2p.noise import HandshakeState

CHAIN = sha256(b"a chain")
OTHER_CHAIN = sha256(b"another chain")


def identity(name: str) -> Identity:
    return Identity(SigningKey(sha256(name.encode())), sha256(b"static " + name.encode()))


ALICE, BOB, MALLORY = identity("alice"), identity("bob"), identity("mallory")


def side(who: Identity, *, initiator: bool, chain: bytes = CHAIN, expected: bytes | None = None) -> Handshake:
    return Handshake(
        initiator=initiator,
        expected=expected,
        identity=who,
        chain=chain,
        session=sha256(who.node)[:16],
        ephemeral_secret=sha256(b"ephemeral " + who.node + bytes([initiator])),
    )


def meet(initiator: Handshake, responder: Handshake) -> None:
    to_initiator = responder.opening
    to_responder = initiator.opening
    while to_initiator or to_responder:
        answer = responder.feed(to_responder) if to_responder else b""
        to_responder = initiator.feed(to_initiator) if to_initiator else b""
        to_initiator = answer


def test_two_nodes_meet_and_know_each_other() -> None:
    initiator, responder = side(ALICE, initiator=True), side(BOB, initiator=False)
    meet(initiator, responder)
    assert initiator.established is not None and responder.established is not None
    assert (initiator.established.node, responder.established.node) == (BOB.node, ALICE.node)
    assert initiator.established.session == sha256(BOB.node)[:16]
    sealed = initiator.established.sending.encrypt(b"", b"hello")
    assert responder.established.receiving.decrypt(b"", sealed) == b"hello"


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1))
def test_any_chunking_gives_the_same_session(sizes: list[int]) -> None:
    initiator, responder = side(ALICE, initiator=True), side(BOB, initiator=False)
    pending = {True: bytearray(responder.opening), False: bytearray(initiator.opening)}
    turn = 0
    while pending[True] or pending[False]:
        for to_initiator in (True, False):
            size = sizes[turn % len(sizes)]
            turn += 1
            receiver = initiator if to_initiator else responder
            chunk = bytes(pending[to_initiator][:size])
            del pending[to_initiator][:size]
            if chunk:
                pending[not to_initiator] += receiver.feed(chunk)
    assert initiator.established is not None and responder.established is not None
    sealed = responder.established.sending.encrypt(b"", b"x")
    assert initiator.established.receiving.decrypt(b"", sealed) == b"x"


def test_what_follows_the_handshake_is_left_for_the_session() -> None:
    initiator, responder = side(ALICE, initiator=True), side(BOB, initiator=False)
    first = initiator.feed(responder.opening)
    second = responder.feed(initiator.opening + first)
    third = initiator.feed(second)
    responder.feed(third + b"more")
    assert responder.established is not None and responder.established.leftover == b"more"


def test_another_network_is_named_on_both_sides() -> None:
    initiator, responder = side(ALICE, initiator=True), side(BOB, initiator=False, chain=OTHER_CHAIN)
    for receiver, sender, theirs, mine in (
        (initiator, responder, OTHER_CHAIN, CHAIN),
        (responder, initiator, CHAIN, OTHER_CHAIN),
    ):
        with pytest.raises(PeerError, match=f"genesis {theirs.hex()[:16]}.* this node to {mine.hex()[:16]}") as caught:
            receiver.feed(sender.opening)
        assert caught.value.code is CloseCode.NETWORK


def test_another_version_is_named_even_if_the_network_differs_too() -> None:
    with pytest.raises(
        PeerError, match=f"version {PROTOCOL_VERSION + 1}, this node version {PROTOCOL_VERSION}"
    ) as caught:
        side(ALICE, initiator=True).feed(hello(OTHER_CHAIN, PROTOCOL_VERSION + 1))
    assert caught.value.code is CloseCode.VERSION


@pytest.mark.parametrize("raw", [b"G", b"GET / HTTP/1.1\r\n\r\n", b"otcnodf", bytes(HELLO_BYTES)])
def test_strangers_are_recognised_by_their_first_wrong_byte(raw: bytes) -> None:
    with pytest.raises(PeerError, match="no otcnode peer") as caught:
        side(BOB, initiator=False).feed(raw)
    assert caught.value.code is CloseCode.HANDSHAKE


def test_hellos_that_agree_but_were_changed_on_the_way_fail_in_the_prologue() -> None:
    """The prologue holds the hellos as they were seen, so the two sides must have seen the same."""
    wrong = HandshakeState(
        initiator=True,
        prologue=hello(CHAIN) + hello(CHAIN, PROTOCOL_VERSION + 1),
        static_secret=ALICE.static_secret,
        ephemeral_secret=bytes(range(32)),
    )
    responder = side(BOB, initiator=False)
    message = wrong.write_message(b"")
    answer = responder.feed(hello(CHAIN) + len(message).to_bytes(2, "big") + message)
    with pytest.raises(Exception, match="does not authenticate"):
        wrong.read_message(answer[2:])


def test_a_giant_handshake_message_is_refused_by_its_prefix() -> None:
    with pytest.raises(PeerError, match="65535 bytes") as caught:
        side(BOB, initiator=False).feed(hello(CHAIN) + b"\xff\xff")
    assert caught.value.code is CloseCode.HANDSHAKE


def test_a_small_order_key_ends_the_handshake_with_a_typed_error() -> None:
    responder = side(BOB, initiator=False)
    with pytest.raises(PeerError) as caught:
        responder.feed(hello(CHAIN) + (32).to_bytes(2, "big") + bytes(32))
    assert caught.value.code is CloseCode.HANDSHAKE


def test_data_in_the_first_message_is_refused() -> None:
    responder = side(BOB, initiator=False)
    key = x25519_public(bytes(range(32)))
    with pytest.raises(PeerError, match="carries data"):
        responder.feed(hello(CHAIN) + (33).to_bytes(2, "big") + key + b"!")


def test_a_node_that_reaches_itself_says_so() -> None:
    with pytest.raises(PeerError, match="back to this node") as caught:
        meet(side(ALICE, initiator=True), side(ALICE, initiator=False))
    assert caught.value.code is CloseCode.IDENTITY


def test_who_finds_another_node_than_it_looks_for_says_nothing_of_itself() -> None:
    """Else whoever is found would count an arrival of a node that somebody else had sent there."""
    initiator, responder = side(ALICE, initiator=True, expected=MALLORY.node), side(BOB, initiator=False)
    answer = responder.feed(initiator.opening + initiator.feed(responder.opening))
    found = f"this is {BOB.node.hex()[:16]}.*, not the node {MALLORY.node.hex()[:16]}"
    with pytest.raises(PeerError, match=found) as caught:
        initiator.feed(answer)
    assert caught.value.code is CloseCode.IDENTITY
    assert (initiator.peer, responder.peer, responder.established) == (None, None, None)


def test_who_finds_the_node_that_it_looks_for_goes_on() -> None:
    initiator, responder = side(ALICE, initiator=True, expected=BOB.node), side(BOB, initiator=False)
    meet(initiator, responder)
    assert initiator.established is not None and initiator.established.node == BOB.node
    assert responder.established is not None and responder.established.node == ALICE.node


def mallorys_answer(signer: SigningKey, node: bytes, role: Role, chain: bytes, hash_of: str) -> PeerError:
    """Mallory answers Alice with a claim of her making; returns Alice's refusal."""
    alice = side(ALICE, initiator=True)
    first = alice.feed(hello(CHAIN))
    noise = HandshakeState(
        initiator=False,
        prologue=alice.opening + hello(CHAIN),
        static_secret=MALLORY.static_secret,
        ephemeral_secret=bytes(range(32)),
    )
    noise.read_message(first[2:])
    said = noise.handshake_hash if hash_of == "this" else sha256(b"another handshake")
    signature = signer.sign(claim_preimage(chain, role, said, noise.static_public, bytes(16)))
    message = noise.write_message(encode(Claim(node, bytes(16), signature)))
    with pytest.raises(PeerError) as caught:
        alice.feed(len(message).to_bytes(2, "big") + message)
    return caught.value


@pytest.mark.parametrize(
    ("signer", "role", "chain", "hash_of"),
    [
        (MALLORY.signing, Role.RESPONDER, CHAIN, "this"),
        (BOB.signing, Role.INITIATOR, CHAIN, "this"),
        (BOB.signing, Role.RESPONDER, OTHER_CHAIN, "this"),
        (BOB.signing, Role.RESPONDER, CHAIN, "another"),
    ],
    ids=["another key", "reflected role", "another chain", "another handshake"],
)
def test_a_claim_made_by_another_or_elsewhere_is_worthless(
    signer: SigningKey, role: Role, chain: bytes, hash_of: str
) -> None:
    assert mallorys_answer(signer, BOB.node, role, chain, hash_of).code is CloseCode.IDENTITY


def test_a_claim_that_does_not_decode_is_refused() -> None:
    alice = side(ALICE, initiator=True)
    first = alice.feed(hello(CHAIN))
    noise = HandshakeState(
        initiator=False,
        prologue=alice.opening + hello(CHAIN),
        static_secret=MALLORY.static_secret,
        ephemeral_secret=bytes(range(32)),
    )
    noise.read_message(first[2:])
    message = noise.write_message(b"\xc1")
    with pytest.raises(PeerError, match="claim of identity") as caught:
        alice.feed(len(message).to_bytes(2, "big") + message)
    assert caught.value.code is CloseCode.HANDSHAKE


@settings(deadline=None)
@given(st.binary(max_size=700), st.booleans(), st.booleans())
def test_junk_only_ever_raises_a_peer_error(junk: bytes, initiator: bool, polite: bool) -> None:
    victim = side(BOB, initiator=initiator)
    try:
        victim.feed((hello(CHAIN) if polite else b"") + junk)
    except PeerError as error:
        assert error.code in (CloseCode.HANDSHAKE, CloseCode.NETWORK, CloseCode.VERSION)
    assert victim.established is None
