"""What follows from VIEW-CHANGEs, and which VIEW-CHANGEs and NEW-VIEWs are refused."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otcnode import limits
from otcnode.blocks import Certificate, Header, ValidatorSignature, block_hash, commit_preimage, prepare_preimage
from otcnode.consensus import memory
from otcnode.consensus.messages import (
    NewView,
    Proof,
    Reproposal,
    ViewChange,
    new_view_preimage,
    view_change_preimage,
)
from otcnode.consensus.view_change import check_new_view, check_view_change, is_signed_view_change, select
from otcnode.errors import ProofError
from otcnode.genesis import ChainParameters
from tests.consensus.cluster import Cluster
from tests.consensus.toy import CHAIN, ToyState, execute, fake_sign, fake_verify, first_state

NAMES = tuple(bytes([letter]) * 32 for letter in b"ABCD")
GENESIS = first_state(NAMES, ChainParameters().consensus)
EPOCH = GENESIS.epoch


def block(parent: ToyState, text: str) -> tuple[Header, ToyState]:
    return execute(parent, (text.encode(),), parent.time_ms + 1, NAMES[0])


def proof(header: Header, view: int, signers: tuple[bytes, ...] = NAMES[:3]) -> Proof:
    signed = prepare_preimage(CHAIN, 1, view, header.height, block_hash(header))
    return Proof(view, header, tuple(ValidatorSignature(name, fake_sign(name, signed)) for name in signers))


def certificate(header: Header, view: int = 0) -> Certificate:
    name = block_hash(header)
    signed = commit_preimage(CHAIN, 1, view, header.height, name)
    signatures = tuple(ValidatorSignature(name, fake_sign(name, signed)) for name in NAMES[:3])
    return Certificate(1, view, header.height, name, signatures)


def asking(name: bytes, view: int, proofs: tuple[Proof, ...] = (), committed: Certificate | None = None) -> ViewChange:
    height = 0 if committed is None else committed.height
    plain = ViewChange(1, view, height, committed, proofs, name, bytes(64))
    return ViewChange(1, view, height, committed, proofs, name, fake_sign(name, view_change_preimage(CHAIN, plain)))


def opening(view: int, messages: tuple[ViewChange, ...], headers: tuple[Header, ...]) -> NewView:
    primary = EPOCH.primary(view)
    again = tuple(
        Reproposal(header, fake_sign(primary, prepare_preimage(CHAIN, 1, view, header.height, block_hash(header))))
        for header in headers
    )
    plain = NewView(1, view, messages, again, primary, bytes(64))
    return NewView(1, view, messages, again, primary, fake_sign(primary, new_view_preimage(CHAIN, plain)))


A1, A1_STATE = block(GENESIS, "a")
B1, B1_STATE = block(GENESIS, "b")
A2, A2_STATE = block(A1_STATE, "a2")
B2, _ = block(B1_STATE, "b2")


def test_takes_the_proof_of_the_highest_view() -> None:
    messages = [
        asking(NAMES[0], 3, (proof(A1, 0),)),
        asking(NAMES[1], 3, (proof(B1, 1, NAMES[1:]),)),
        asking(NAMES[2], 3),
    ]
    assert select(messages).headers == (B1,)
    assert select(reversed(messages)).headers == (B1,)


def test_stops_at_a_proof_that_does_not_extend_the_block_below() -> None:
    messages = [
        asking(NAMES[0], 3, (proof(A1, 0), proof(A2, 0))),
        asking(NAMES[1], 3, (proof(B1, 1, NAMES[1:]),)),
        asking(NAMES[2], 3),
    ]
    assert select(messages).headers == (B1,)


def test_the_base_is_the_highest_certified_height_and_lower_proofs_do_not_count() -> None:
    messages = [
        asking(NAMES[0], 3, (proof(A1, 0), proof(A2, 0))),
        asking(NAMES[1], 3, committed=certificate(A1)),
        asking(NAMES[2], 3),
    ]
    selection = select(messages)
    assert (selection.base, selection.headers) == (1, (A2,))


def test_a_proof_above_the_base_must_extend_the_certified_block() -> None:
    messages = [
        asking(NAMES[0], 3, (proof(B1, 0), proof(B2, 0))),
        asking(NAMES[1], 3, committed=certificate(A1)),
        asking(NAMES[2], 3),
    ]
    assert select(messages).headers == ()


def test_accepts_an_honest_view_change() -> None:
    check_view_change(asking(NAMES[0], 2, (proof(A1, 0), proof(A2, 1))), CHAIN, EPOCH, fake_verify)
    message = asking(NAMES[0], 2, (proof(A2, 0),), certificate(A1))
    check_view_change(message, CHAIN, EPOCH, fake_verify)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (asking(NAMES[0], 2, (proof(A2, 0),)), "contiguous"),
        (asking(NAMES[0], 2, (proof(A1, 0), proof(A1, 1))), "contiguous"),
        (asking(NAMES[0], 1, (proof(A1, 1),)), "not below"),
        (asking(NAMES[0], 2, (proof(A1, 0, NAMES[:2]),)), "exactly 3"),
        (asking(NAMES[0], 2, (proof(A1, 0, NAMES),)), "exactly 3"),
        (asking(NAMES[0], 2, (proof(A1, 0, NAMES[1:]),)), "primary"),
        (asking(NAMES[0], 2, (proof(A1, 0, (NAMES[0], NAMES[0], NAMES[1])),)), "sorted"),
        (asking(NAMES[0], 2**40), "view"),
        (asking(NAMES[0], 0), "view"),
    ],
)
def test_refuses_a_view_change(message: ViewChange, reason: str) -> None:
    with pytest.raises(ProofError, match=reason):
        check_view_change(message, CHAIN, EPOCH, fake_verify)


def test_refuses_more_proofs_than_the_window_of_the_epoch() -> None:
    message = asking(NAMES[0], 2, (proof(A1, 0), proof(A2, 0)))
    for window in (1, 2):
        epoch = replace(EPOCH, parameters=replace(EPOCH.parameters, window=window))
        assert is_signed_view_change(message, CHAIN, epoch, fake_verify) is (window == 2)


def test_refuses_a_certificate_of_prepares() -> None:
    forged = Certificate(1, 0, 1, block_hash(A1), proof(A1, 0).signatures)
    with pytest.raises(ProofError, match="signature"):
        check_view_change(asking(NAMES[0], 2, (), forged), CHAIN, EPOCH, fake_verify)


def test_refuses_a_certificate_of_another_height_for_what_was_prepared_on_the_true_one_would_be_dropped() -> None:
    above, _ = block(A2_STATE, "a3")
    others = [asking(name, 3, (proof(above, 1),), certificate(A2)) for name in NAMES[1:3]]
    assert select([asking(NAMES[0], 3, (), certificate(A2)), *others]).headers == (above,)
    for committed, shown in ((2, A1), (1, A2), (3, A2)):
        plain = ViewChange(1, 3, committed, certificate(shown), (), NAMES[0], bytes(64))
        message = replace(plain, signature=fake_sign(NAMES[0], view_change_preimage(CHAIN, plain)))
        assert is_signed_view_change(message, CHAIN, EPOCH, fake_verify)
        if committed > shown.height:
            assert select([message, *others]).headers == ()
        with pytest.raises(ProofError, match="for another height"):
            check_view_change(message, CHAIN, EPOCH, fake_verify)


QUORUM = tuple(asking(name, 1, (proof(A1, 0),)) for name in NAMES[:3])


def test_accepts_an_honest_new_view() -> None:
    assert check_new_view(opening(1, QUORUM, (A1,)), CHAIN, EPOCH, fake_verify).headers == (A1,)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (opening(1, QUORUM, ()), "re-proposals"),
        (opening(1, QUORUM, (B1,)), "re-proposals"),
        (opening(1, QUORUM, (A1, A2)), "re-proposals"),
        (opening(1, QUORUM[:2], (A1,)), "exactly 3"),
        (opening(1, (*QUORUM, asking(NAMES[3], 1)), (A1,)), "exactly 3"),
        (opening(1, (QUORUM[0], QUORUM[0], QUORUM[1]), (A1,)), "each validator once"),
        (opening(1, (*QUORUM[:2], asking(NAMES[2], 2)), (A1,)), "another view"),
        (opening(1, (*QUORUM[:2], asking(NAMES[2], 1, (proof(A2, 0),))), (A1,)), "contiguous"),
    ],
)
def test_refuses_a_new_view(message: NewView, reason: str) -> None:
    with pytest.raises(ProofError, match=reason):
        check_new_view(message, CHAIN, EPOCH, fake_verify)


@pytest.mark.parametrize("signed_for", [(0, A1), (2, A1), (1, A2)])
def test_refuses_a_re_proposal_under_a_prepare_of_another_view_or_block(signed_for: tuple[int, Header]) -> None:
    """It would be a part of proofs that others find invalid, and they would accuse whoever shows them."""
    view, header = signed_for
    honest = opening(1, QUORUM, (A1,))
    signed = prepare_preimage(CHAIN, 1, view, header.height, block_hash(header))
    plain = replace(honest, reproposals=(Reproposal(A1, fake_sign(honest.validator, signed)),))
    message = replace(plain, signature=fake_sign(honest.validator, new_view_preimage(CHAIN, plain)))
    with pytest.raises(ProofError, match="re-proposal with a false signature"):
        check_new_view(message, CHAIN, EPOCH, fake_verify)


def test_refuses_a_new_view_with_a_view_change_that_its_sender_never_signed() -> None:
    forged = ViewChange(1, 1, 0, None, (), NAMES[2], bytes(64))
    with pytest.raises(ProofError, match="false signature"):
        check_new_view(opening(1, (*QUORUM[:2], forged), (A1,)), CHAIN, EPOCH, fake_verify)


def test_of_the_certificates_in_a_new_view_those_of_heights_far_above_are_left_to_sync() -> None:
    cluster = Cluster(4)
    cluster.start()
    replica = cluster.nodes[1].replica
    assert replica is not None
    highest = limits.buffered_heights_windows * replica.state.window
    messages = tuple(
        asking(name, 1, (), certificate(replace(A1, height=height)))
        for name, height in zip(NAMES, (1, highest, highest + 1, 10**6), strict=True)
    )
    memory.enter(replica.state, opening(1, messages, ()))
    assert sorted(replica.state.certificates) == [1, highest]
