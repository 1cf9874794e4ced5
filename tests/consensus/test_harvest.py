"""Votes that are seen only inside proofs and certificates tell as much of their authors as those that come alone."""

from __future__ import annotations

from otcnode.blocks import Certificate, Header, ValidatorSignature, block_hash
from otcnode.consensus.evidence import Kind
from otcnode.consensus.messages import Decision, Message, Mode, Proof, ViewChange, view_change_preimage
from otcnode.consensus.replica import Replica
from tests.consensus.cluster import Cluster, Node, commit_of, prepare_of
from tests.consensus.toy import CHAIN, execute, fake_sign


def _replica(node: Node) -> Replica:
    assert node.replica is not None
    return node.replica


def _cluster(*liars: int) -> tuple[Cluster, Header]:
    """Nothing is decided yet; the header is of a block that nobody has proposed."""
    cluster = Cluster(4)
    cluster.liars.update(liars)
    cluster.start()
    cluster.advance(600)
    header, _ = execute(cluster.genesis, (b"x",), cluster.nodes[0].now().ledger_ms, cluster.nodes[0].name)
    return cluster, header


def _asking(cluster: Cluster, author: int, header: Header, signers: tuple[int, ...]) -> ViewChange:
    """For view 1, with a proof of view 0 by these."""
    name = block_hash(header)
    votes = [prepare_of(cluster.nodes[index].name, 1, 0, header.height, name) for index in signers]
    signatures = tuple(ValidatorSignature(vote.validator, vote.signature) for vote in votes)
    proof = Proof(0, header, signatures)
    own = cluster.nodes[author].name
    plain = ViewChange(1, 1, 0, None, (proof,), own, bytes(64))
    return ViewChange(1, 1, 0, None, (proof,), own, fake_sign(own, view_change_preimage(CHAIN, plain)))


def _decision(cluster: Cluster, header: Header, signers: tuple[int, ...], view: int = 0) -> Decision:
    name = block_hash(header)
    votes = [commit_of(cluster.nodes[index].name, 1, view, header.height, name) for index in signers]
    signatures = tuple(ValidatorSignature(vote.validator, vote.signature) for vote in votes)
    return Decision(header, Certificate(1, view, header.height, name, signatures))


def test_an_own_vote_in_a_proof_that_the_record_lacks_silences_a_validator() -> None:
    """Another process has its key, and talks only to others."""
    cluster, header = _cluster(2, 3)
    cluster.inject(3, 2, _asking(cluster, 3, header, (0, 2, 3)))
    assert _replica(cluster.nodes[2]).mode is Mode.SILENT
    assert "a vote in a proof" in cluster.nodes[2].alarms[0]
    cluster.inject(3, 1, _asking(cluster, 3, header, (0, 2, 3)))
    assert _replica(cluster.nodes[1]).mode is Mode.ACTIVE


def test_so_does_one_in_a_certificate() -> None:
    cluster, header = _cluster(2, 3)
    cluster.inject(3, 2, _decision(cluster, header, (0, 2, 3)))
    assert _replica(cluster.nodes[2]).mode is Mode.SILENT


def test_own_votes_that_the_record_holds_do_not() -> None:
    cluster = Cluster(4)
    messages: list[Message] = []
    cluster.on_deliver = lambda _receiver, message: messages.append(message)
    cluster.route = lambda _s, _r, message: [] if type(message).__name__ in ("Commit", "Decision") else [1]
    cluster.start()
    cluster.submit(b"a")
    assert cluster.advance_until(lambda: min(_replica(node).state.view for node in cluster.nodes) >= 4, 300_000)
    asked = [message for message in messages if isinstance(message, ViewChange) and message.proofs]
    assert len(asked) > 8
    cluster.nodes[2].crash()
    cluster.nodes[2].start()
    for message in asked:
        cluster.inject(1, 2, message)
    assert _replica(cluster.nodes[2]).mode is not Mode.SILENT


def test_a_vote_that_contradicts_one_in_a_proof_is_evidence() -> None:
    cluster, header = _cluster(0, 3)
    cluster.inject(3, 1, prepare_of(cluster.nodes[3].name, 1, 0, 1, bytes(32)))
    cluster.inject(0, 1, _asking(cluster, 0, header, (0, 2, 3)))
    kinds = [accusation.offence.kind for accusation in cluster.nodes[1].accusations]
    assert kinds == [Kind.DOUBLE_PREPARE]


def test_a_commit_in_a_certificate_can_show_a_double_vote_and_a_hidden_proof() -> None:
    cluster, header = _cluster(0, 2, 3)
    cluster.inject(3, 1, commit_of(cluster.nodes[3].name, 1, 0, 1, bytes(32)))
    own = cluster.nodes[2].name
    plain = ViewChange(1, 1, 0, None, (), own, bytes(64))
    asked = ViewChange(1, 1, 0, None, (), own, fake_sign(own, view_change_preimage(CHAIN, plain)))
    cluster.inject(2, 1, asked)
    cluster.inject(0, 1, _decision(cluster, header, (0, 2, 3)))
    kinds = {accusation.offence.kind for accusation in cluster.nodes[1].accusations}
    assert kinds == {Kind.DOUBLE_COMMIT, Kind.HIDDEN_PROOF}
