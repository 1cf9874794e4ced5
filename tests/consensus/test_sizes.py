"""Sets of every size that a chain allows: more validators than an integer of the wire has bits, too."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otcnode import limits
from otcnode.blocks import Certificate, Epoch, Header, ValidatorSignature, block_hash
from otcnode.codec import decode, encode
from otcnode.consensus.events import Received
from otcnode.consensus.messages import (
    Commit,
    HiddenProof,
    InvalidNewView,
    InvalidViewChange,
    Message,
    NewView,
    Proof,
    Reproposal,
    ViewChange,
    view_change_preimage,
)
from otcnode.consensus.sizes import MESSAGES
from otcnode.consensus.status import own_status
from otcnode.consensus.view_change import check_new_view, check_view_change
from otcnode.consensus.votes import absent, bitmap
from otcnode.errors import ProofError
from otcnode.genesis import ChainParameters
from otcnode.types import INTEGER_MAX
from tests.consensus.cluster import Cluster, prepare_of
from tests.consensus.toy import CHAIN, fake_sign

CONSENSUS = ChainParameters().consensus


@pytest.mark.parametrize("count", [1, 7, 8, 9, 63, 64, 65, limits.validators_max])
def test_what_is_held_of_whom_can_be_said_of_every_set(count: int) -> None:
    names = [bytes([index]) * 32 for index in range(count)]
    assert absent(names, bitmap(names, names)) == ()
    assert absent(names, bitmap(names, names[:-1])) == (names[-1],)
    assert absent(names, bitmap(names, names[1:])) == (names[0],)
    assert absent(names, b"") == tuple(names)


def _largest_new_view(epoch: Epoch) -> NewView:
    """Of numbers as long as they can be, each VIEW-CHANGE with as many proofs as the epoch allows."""
    long, view = INTEGER_MAX, limits.view_max - 1
    every = tuple(ValidatorSignature(name, bytes(64)) for name in epoch.validators)
    header = Header(long, CHAIN, long, CHAIN, long, CHAIN, long, CHAIN, CHAIN, CHAIN, CHAIN, CHAIN)
    proofs = (Proof(view, header, every[: epoch.quorum]),) * epoch.window
    certificate = Certificate(long, view, long, CHAIN, every)
    one = ViewChange(long, view, long, certificate, proofs, CHAIN, bytes(64))
    again = (Reproposal(header, bytes(64)),) * epoch.window
    return NewView(long, view, (one,) * epoch.quorum, again, CHAIN, bytes(64))


@pytest.mark.parametrize(("count", "window"), [(1, 64), (4, 64), (31, 64), (64, 64), (80, 49), (100, 31)])
def test_the_largest_new_view_of_every_set_is_a_message(count: int, window: int) -> None:
    """Where so many heights in flight would be too much to prove, they are fewer."""
    names = tuple(bytes([index]) * 32 for index in range(count))
    most = replace(ChainParameters().consensus, window=limits.window_max)
    epoch = Epoch(1, names, most)
    assert epoch.window == window
    raw = encode(_largest_new_view(epoch))
    assert len(raw) <= limits.message_bytes_max
    assert window == limits.window_max or len(raw) > limits.message_bytes_max * 85 // 100
    assert Epoch(1, names, replace(most, window=4)).window == 4


def _asking(author: bytes, epoch: Epoch, view: int, signers: int) -> ViewChange:
    """At height 1, with a proof by so many for each other height of the window."""
    every = tuple(ValidatorSignature(name, bytes(64)) for name in epoch.validators)
    headers: list[Header] = []
    parent = bytes(32)
    for height in range(1, epoch.window + 2):
        headers.append(Header(1, CHAIN, height, parent, height, epoch.validators[0], 0, *(bytes(32),) * 5))
        parent = block_hash(headers[-1])
    certificate = Certificate(1, 0, 1, block_hash(headers[0]), every)
    proofs = tuple(Proof(0, header, every[:signers]) for header in headers[1:])
    return ViewChange(1, view, 1, certificate, proofs, author, bytes(64))


def _opening(epoch: Epoch, view: int, messages: tuple[ViewChange, ...]) -> NewView:
    again = tuple(Reproposal(proof.header, bytes(64)) for proof in messages[0].proofs)
    return NewView(1, view, messages, again, epoch.primary(view), bytes(64))


def test_no_view_changes_that_are_taken_make_a_new_view_larger_than_a_message() -> None:
    """As many PREPAREs in each proof as validators would: so a proof has a quorum of them and no more, or a third of
    the validators could have an honest primary banned by everybody."""
    view = 100
    names = tuple(bytes([index]) * 32 for index in range(limits.validators_max))
    epoch = Epoch(1, names, replace(ChainParameters().consensus, window=limits.window_max))
    taken = tuple(_asking(name, epoch, view, epoch.quorum) for name in names[: epoch.quorum])
    opening = _opening(epoch, view, taken)
    check_new_view(opening, CHAIN, epoch, lambda *_: True)
    assert MESSAGES.read(encode(opening)) == opening
    for signers in (epoch.quorum + 1, len(names)):
        large = _asking(names[0], epoch, view, signers)
        with pytest.raises(ProofError, match="exactly 67"):
            check_view_change(large, CHAIN, epoch, lambda *_: True)
    liars = epoch.weak_quorum - 1
    larger = tuple(_asking(name, epoch, view, len(names)) for name in names[:liars])
    assert len(encode(_opening(epoch, view, (*larger, *taken[liars:])))) > limits.message_bytes_max


def test_which_evidence_a_transaction_can_hold() -> None:
    """With the usual window: all that is of one VIEW-CHANGE, for every set; a NEW-VIEW of thirteen validators."""
    largest = {
        count: _largest_new_view(Epoch(1, tuple(bytes([index]) * 32 for index in range(count)), CONSENSUS))
        for count in (13, 14, limits.validators_max)
    }
    one = largest[limits.validators_max].view_changes[0]
    commit = Commit(INTEGER_MAX, limits.view_max - 1, INTEGER_MAX, CHAIN, CHAIN, bytes(64))
    assert len(encode(HiddenProof(commit, one))) <= limits.evidence_in_transaction_bytes_max
    assert len(encode(InvalidViewChange(one))) <= limits.evidence_in_transaction_bytes_max
    sizes = {count: len(encode(InvalidNewView(message))) for count, message in largest.items()}
    fits = {count: size <= limits.evidence_in_transaction_bytes_max for count, size in sizes.items()}
    assert fits == {13: True, 14: False, limits.validators_max: False}


@pytest.mark.parametrize("count", [63, 64, 65, limits.validators_max])
def test_a_status_of_every_set_goes_over_the_wire(count: int) -> None:
    """Of a replica that holds a PREPARE and a VIEW-CHANGE of everybody."""
    cluster = Cluster(count)
    listener, others = cluster.nodes[0], cluster.nodes[1:]
    listener.start()
    replica = listener.replica
    assert replica is not None
    for node in others:
        listener.feed(Received(node.name, prepare_of(node.name, 1, 0, 1, bytes(32))))
        plain = ViewChange(1, 1, 0, None, (), node.name, bytes(64))
        signature = fake_sign(node.name, view_change_preimage(CHAIN, plain))
        listener.feed(Received(node.name, ViewChange(1, 1, 0, None, (), node.name, signature)))
    status = own_status(replica.state)
    message: Message = decode(Message, encode(status))
    assert message == status
    names = tuple(node.name for node in cluster.nodes)
    assert absent(names, status.view_changes) == ()


@pytest.mark.long
def test_more_validators_than_an_integer_has_bits_change_the_view_and_commit() -> None:
    cluster = Cluster(65)
    for node in cluster.nodes[1:]:
        node.start()
        node.pool[b"a"] = None
        node.work()
    assert cluster.advance_until(lambda: all(node.tip_state().height for node in cluster.nodes[1:]), 10_000)
