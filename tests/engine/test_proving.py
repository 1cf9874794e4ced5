"""What evidence in transactions costs: little, whoever sends how many copies of it, and nothing of it on the loop."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otcnode import limits
from otcnode.codec import encode
from otcnode.consensus.evidence import check_evidence, claimed_offence
from otcnode.consensus.messages import (
    DoubleCommit,
    Evidence,
    InvalidNewView,
    NewView,
    ViewChange,
    new_view_preimage,
    view_change_preimage,
)
from otcnode.crypto import SigningKey, tagged_hash, verify
from otcnode.engine.arrivals import Arrival, Arrivals
from otcnode.engine.proving import Proving, signatures_in
from otcnode.errors import Code, Inadmissible, ProofError
from otcnode.p2p.framing import Channel
from otcnode.p2p.gossip import Push
from otcnode.vm.governance.operations import EvidencePost
from otcnode.vm.transactions import Decoded, sign_as_node
from tests.engine.network import Net, Station, stations
from tests.engine.test_evidence import double


def post(liar: Station, evidence: Evidence) -> EvidencePost:
    (epoch,) = liar.store.epochs()
    offence = claimed_offence(evidence, epoch)
    kind, view, height = offence.kind, offence.view, offence.height
    return EvidencePost(liar.own, offence.validator, kind, 1, view, height, encode(evidence))


def copy(author: Station, operation: EvidencePost, number: int, valid_ms: int = 60_000) -> Decoded:
    """The same under another salt."""
    salt = tagged_hash("salt", number.to_bytes(4, "big"))
    return sign_as_node(author.chain, operation, author.key, salt, author.now().ledger_ms + valid_ms)


def relayed(station: Station, peer: bytes, copies: list[Decoded]) -> int:
    """How many signatures are verified where a peer sends these, and nobody else does anything."""
    station.jobs.clear()
    station.engine.received(peer, Channel.TRANSACTIONS, encode(Push(tuple(decoded.raw for decoded in copies))))
    return settled(station)


def settled(station: Station) -> int:
    checks = 0
    while station.put_off or station.jobs:
        if station.put_off:
            station.put_off.popleft()()
        else:
            checks += len(station.jobs[0][0])
            station.verify_next()
    return checks


def started() -> tuple[Station, Station]:
    liar, station, *_ = stations(4)
    station.engine.start()
    station.engine.connected(liar.own)
    station.settle()
    return liar, station


def test_copies_of_evidence_under_new_salts_are_not_verified_again() -> None:
    liar, station = started()
    operation = post(liar, double(liar.chain, liar.key))
    assert relayed(station, liar.own, [copy(liar, operation, 0)]) == 1 + 2
    assert len(station.engine.intake.pool) == 1
    same = [copy(liar, operation, number) for number in range(1, 20)]
    assert relayed(station, liar.own, same) == 0, "the offence waits"
    longer = copy(liar, operation, 20, valid_ms=70_000)
    assert relayed(station, liar.own, [longer]) == 1, "its own signature; of the evidence the verdict is known"
    assert len(station.engine.intake.pool) == 2
    assert station.penalised == []


def test_a_node_has_no_more_evidence_on_its_way_than_the_pool_has_room_for() -> None:
    """Each another offence of the liar, all of them true."""
    liar, station = started()
    most = limits.mempool_transactions_per_node_max
    copies = [copy(liar, post(liar, double(liar.chain, liar.key, view)), view) for view in range(2 * most)]
    assert relayed(station, liar.own, copies) == 3 * most
    assert len(station.engine.intake.pool) == most
    assert relayed(station, liar.own, copies[most:]) == 0


def test_evidence_that_has_no_effect_is_refused_before_it_is_verified() -> None:
    liar, *honest = stations(4)
    net = Net(honest)
    net.start()
    operation = post(liar, double(liar.chain, liar.key))
    honest[0].submit(copy(liar, operation, 0))
    net.deliver()
    net.elapse(4_000)
    assert honest[0].height > 0 and not len(honest[0].engine.intake.pool)
    with pytest.raises(Inadmissible, match="is on the chain") as refused:
        honest[0].submit(copy(liar, operation, 1))
    assert refused.value.code is Code.DUPLICATE
    assert relayed(honest[0], liar.own, [copy(liar, operation, number) for number in range(2, 20)]) == 0


def test_whoever_goes_on_sending_what_has_no_effect_is_not_listened_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "gossip_refused_per_second", 10)
    liar, station = started()
    operation = post(liar, double(liar.chain, liar.key))
    relayed(station, liar.own, [copy(liar, operation, 0)])
    relayed(station, liar.own, [copy(liar, operation, number) for number in range(1, 13)])
    new = copy(liar, post(liar, double(liar.chain, liar.key, 1)), 20)
    assert relayed(station, liar.own, [new]) == 0
    station.now_ms += 1_000
    assert relayed(station, liar.own, [new]) == 3


def test_in_one_block_the_same_evidence_is_verified_once() -> None:
    liar, station = started()
    operation = post(liar, double(liar.chain, liar.key))
    verdicts: list[list[bool]] = []
    station.engine._authenticity.require([copy(liar, operation, number) for number in range(50)], verdicts.append)
    assert settled(station) == 50 + 2
    assert verdicts == [[True] * 50]


def test_nobodys_evidence_is_looked_at_whose_own_signature_is_false() -> None:
    liar, station = started()
    true = copy(liar, post(liar, double(liar.chain, liar.key)), 0)
    other = copy(liar, post(liar, double(liar.chain, liar.key)), 1)
    signatures = other.transaction.signatures
    forged = replace(true, transaction=replace(true.transaction, signatures=signatures))
    verdicts: list[list[bool]] = []
    station.engine._authenticity.require([forged], verdicts.append)
    assert settled(station) == 1
    assert verdicts == [[False]]


def test_evidence_counts_by_the_signatures_that_it_can_hold() -> None:
    liar, *_ = stations(4)
    large = replace(post(liar, double(liar.chain, liar.key)), evidence=b"\1" * 9_600)
    decoded = [copy(liar, large, number) for number in range(4)]
    assert signatures_in(decoded[0]) == 101
    arrivals = Arrivals()
    for each in decoded:
        arrivals.add(Arrival(each, 0, 0))
    assert len(arrivals.take(limits.signatures_per_batch_min)) == 2
    assert arrivals.posts_of(liar.own, None) == 4


def test_a_block_of_evidence_is_judged_a_piece_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    liar, station = started()
    operations = [post(liar, double(liar.chain, liar.key, view)) for view in range(10)]
    monkeypatch.setattr(limits, "evidence_judged_at_once_bytes", 2 * len(operations[0].evidence))
    verdicts: list[list[bool]] = []
    proving = Proving(station.chain, station.store.epochs, station)
    proving.require(operations, verdicts.append)
    pieces = []
    while station.jobs:
        pieces.append(len(station.jobs[0][0]))
        station.verify_next()
    assert pieces == [4] * 5
    assert verdicts == [[True] * 10]


def test_verdicts_are_remembered_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "evidence_verdicts_remembered_max", 1)
    liar, station = started()
    first, second = (post(liar, double(liar.chain, liar.key, view)) for view in range(2))
    proving, verdicts = Proving(station.chain, station.store.epochs, station), []
    false = replace(first, height=7)
    for operation, checks in ((first, 2), (first, 0), (false, 2), (false, 0), (second, 2), (first, 2)):
        proving.require([operation], verdicts.append)
        assert settled(station) == checks
    assert verdicts == [[True], [True], [False], [False], [True], [True]]
    proving.require([replace(first, epoch=2), replace(first, evidence=b"junk")], verdicts.append)
    settled(station)
    assert verdicts[-1] == [False, False]


def _new_view(liar: Station, keys: list[SigningKey]) -> NewView:
    """With the VIEW-CHANGEs of these validators, which have proved nothing."""
    asked = []
    for key in keys:
        unsigned = ViewChange(1, 1, 0, None, (), key.public, bytes(64))
        asked.append(replace(unsigned, signature=key.sign(view_change_preimage(liar.chain, unsigned))))
    message = NewView(1, 1, tuple(asked), (), liar.own, bytes(64))
    return replace(message, signature=liar.key.sign(new_view_preimage(liar.chain, message)))


def test_the_verdict_is_that_of_whoever_verifies_one_after_the_other() -> None:
    """Where any one of the signatures is false: a false one inside a signed message is the offence itself."""
    nodes = sorted(stations(4), key=lambda station: station.own)
    (epoch,) = nodes[0].store.epochs()
    liar = next(node for node in nodes if node.own == epoch.primary(1))
    honest = _new_view(liar, [node.key for node in nodes[:3]])
    false = replace(honest.view_changes[1], signature=bytes(64))
    cases: list[Evidence] = [InvalidNewView(honest), double(liar.chain, liar.key)]
    for message in (replace(honest, view_changes=(honest.view_changes[0], false, honest.view_changes[2])), honest):
        signed = replace(message, signature=liar.key.sign(new_view_preimage(liar.chain, message)))
        cases += [InvalidNewView(signed), InvalidNewView(replace(signed, signature=bytes(64)))]
    votes = double(liar.chain, liar.key)
    assert isinstance(votes, DoubleCommit)
    cases += [replace(votes, first=replace(votes.first, signature=bytes(64)))]
    expected = []
    for evidence in cases:
        try:
            check_evidence(evidence, liar.chain, epoch, verify)
            expected.append(True)
        except ProofError:
            expected.append(False)
    verdicts: list[list[bool]] = []
    Proving(liar.chain, liar.store.epochs, liar).require([post(liar, evidence) for evidence in cases], verdicts.append)
    settled(liar)
    assert verdicts == [expected]
    assert sorted(set(expected)) == [False, True]
