"""What a liar shows against itself does not leave what else it does unheard."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otcnode import limits
from otcnode.codec import encode
from otcnode.consensus.evidence import Kind, Offence, is_large
from otcnode.consensus.messages import Accusation, Evidence, InvalidViewChange, ViewChange, view_change_preimage
from otcnode.p2p.framing import Channel
from tests.engine.network import Net, Station, stations
from tests.engine.test_evidence import double
from tests.engine.test_greeting import _from_history


@pytest.fixture(autouse=True)
def small_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    """With so few validators no evidence would be too large for a transaction otherwise."""
    monkeypatch.setattr(limits, "evidence_in_transaction_bytes_max", 2_500)
    monkeypatch.setattr(limits, "evidence_greeting_bytes_max", 6_000)


def _invalid(liar: Station, members: list[Station], view: int, proofs: int) -> Evidence:
    """A VIEW-CHANGE that proves one height so many times."""
    certificate, found = _from_history(members)
    plain = ViewChange(1, view, certificate.height, certificate, found[:1] * proofs, liar.own, bytes(64))
    signature = liar.key.sign(view_change_preimage(liar.chain, plain))
    return InvalidViewChange(replace(plain, signature=signature))


def _tell(station: Station, peer: bytes, evidence: Evidence) -> None:
    station.engine.received(peer, Channel.CONSENSUS, encode(Accusation(evidence)))


def test_who_shows_many_offences_that_no_transaction_can_hold_is_not_free_to_equivocate() -> None:
    members = sorted(stations(4), key=lambda member: member.own)
    liar, *honest = members
    net = Net(honest)
    net.start()
    for view in range(1, limits.offences_per_validator_max + 1):
        evidence = _invalid(liar, members, view, 4)
        assert is_large(evidence)
        _tell(honest[0], liar.own, evidence)
        net.deliver()
    for station in honest:
        assert station.penalised == []
        assert len(station.engine.evidence.all()) == limits.large_offences_per_validator_max
    _tell(honest[0], liar.own, double(liar.chain, liar.key))
    net.deliver()
    net.elapse(12_000)
    offence = Offence(liar.own, Kind.DOUBLE_COMMIT, 1, 0, 1)
    for station in honest:
        assert [kept.offence for kept in station.engine.evidence.all() if not is_large(kept.evidence)] == [offence]
        assert [text for _, text in station.notes if "broke the protocol: double COMMIT" in text] != []
        assert station.engine.evidence.is_posted(offence)


def test_who_fills_the_room_of_what_comes_on_the_chain_is_still_heard_of_with_what_does_not() -> None:
    members = sorted(stations(4), key=lambda member: member.own)
    liar, station, *_ = members
    station.engine.start()
    station.settle()
    for view in range(limits.offences_per_validator_max + 1):
        _tell(station, liar.own, double(liar.chain, liar.key, view))
    _tell(station, liar.own, _invalid(liar, members, 1, 4))
    assert len(station.engine.evidence.all()) == limits.offences_per_validator_max + 1
    assert [kept for kept in station.engine.evidence.all() if is_large(kept.evidence)] != []


def _greeted(fillers: list[int]) -> tuple[list[bytes], bytes]:
    """What a new peer is told by a node that holds a double COMMIT of one validator, and after it what a liar has shown
    against itself, of so many proofs each; and the former."""
    members = sorted(stations(7), key=lambda member: member.own)
    liar, second, station, other, *_ = members
    station.engine.start()
    station.settle()
    small = double(second.chain, second.key)
    _tell(station, other.own, small)
    filling = [_invalid(liar, members, view, proofs) for view, proofs in enumerate(fillers, start=1)]
    for evidence in filling:
        station.now_ms += 1_000
        _tell(station, liar.own, evidence)
    assert len(station.engine.evidence.all()) == 1 + len(fillers)
    assert sum(len(encode(evidence)) for evidence in filling) > limits.evidence_greeting_bytes_max
    station.sent.clear()
    station.engine.connected(other.own)
    told = [payload for payload in station.payloads(other.own, Channel.CONSENSUS) if b"accusation" in payload]
    assert sum(map(len, told)) <= limits.evidence_greeting_bytes_max + 100 * len(told)
    return told, encode(Accusation(small))


def test_large_offences_do_not_keep_a_new_peer_from_hearing_of_others() -> None:
    told, small = _greeted([4, 4])
    assert small in told and len(told) == 2


def test_many_offences_of_one_validator_do_not_keep_a_new_peer_from_hearing_of_others() -> None:
    """Each of them fits a transaction, and together they fill a greeting."""
    told, small = _greeted([2] * 8)
    assert small in told and len(told) > 2


def test_what_does_not_fit_a_greeting_leaves_its_room_to_smaller_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "evidence_greeting_bytes_max", 3_900)
    monkeypatch.setattr(limits, "evidence_greeting_large_bytes_max", 0)
    told, small = _greeted([3, 4])
    assert small in told and [len(payload) > 3_000 for payload in told] == [False, True]


def test_whoever_hands_over_a_padded_view_change_is_banned_for_it_and_nothing_is_kept() -> None:
    """Alone and as evidence: it is none."""
    members = sorted(stations(4), key=lambda member: member.own)
    liar, station, other, _ = members
    station.engine.start()
    station.settle()
    padded = _invalid(liar, members, 1, 5)
    assert isinstance(padded, InvalidViewChange)
    station.engine.received(liar.own, Channel.CONSENSUS, encode(padded.view_change))
    _tell(station, other.own, padded)
    assert [peer for peer, _ in station.penalised] == [liar.own, other.own]
    assert station.engine.evidence.all() == []
    assert station.engine.replica.state.view_changes == {}
