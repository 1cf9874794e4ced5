"""What a node holds against validators: kept over restarts, passed on once, bounded."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otcnode import limits
from otcnode.blocks import commit_preimage, validators_hash
from otcnode.codec import encode
from otcnode.consensus.evidence import Kind, Offence, double_vote
from otcnode.consensus.messages import Accusation, Commit, Evidence
from otcnode.crypto import SigningKey, verify
from otcnode.engine.evidence import OF_ANOTHER_CHAIN, POST_TURN_MS, EvidenceKeeper, KeptEvidence, decode_kept, name_of
from otcnode.engine.host import Stage, TransactionState
from otcnode.errors import StorageDamage
from otcnode.p2p.framing import Channel
from otcnode.vm.governance.operations import EvidencePost
from otcnode.vm.governance.records import ParameterChange
from otcnode.vm.operations import Operation
from otcnode.vm.transactions import decode_transaction, sign_as_node
from tests.engine.network import Net, Station, deposit, key_of, stations
from tests.engine.test_definite import service_of
from tests.engine.test_inadmissible_waits import decision, governed


def double(chain: bytes, key: SigningKey, view: int = 0, height: int = 1, epoch: int = 1) -> Evidence:
    votes = [
        Commit(epoch, view, height, block, key.public, key.sign(commit_preimage(chain, epoch, view, height, block)))
        for block in (b"A" * 32, b"B" * 32)
    ]
    return double_vote(*votes)


def _tell(station: Station, peer: bytes, evidence: Evidence) -> None:
    station.engine.received(peer, Channel.CONSENSUS, encode(Accusation(evidence)))


def _offences(station: Station) -> list[Offence]:
    return [kept.offence for kept in station.engine.evidence.all()]


def test_evidence_reaches_every_node_is_kept_over_a_restart_and_told_to_whoever_comes() -> None:
    liar, *honest = stations(4)
    net = Net(honest)
    net.start()
    _tell(honest[0], liar.own, double(liar.chain, liar.key))
    net.deliver()
    offence = Offence(liar.own, Kind.DOUBLE_COMMIT, 1, 0, 1)
    for station in honest:
        assert _offences(station) == [offence]
        assert [text for level, text in station.notes if "broke the protocol: double COMMIT" in text] != []
        assert station.penalised == []
    again = Station(honest[0].genesis, honest[0].key, kv=honest[0].kv, votes=honest[0].votes)
    again.engine.start()
    again.settle()
    assert _offences(again) == [offence]
    again.sent.clear()
    again.engine.connected(liar.own)
    assert encode(Accusation(double(liar.chain, liar.key))) in again.payloads(liar.own, Channel.CONSENSUS)


def test_evidence_is_passed_on_once() -> None:
    liar, station, *others = stations(4)
    station.engine.start()
    for other in others:
        station.engine.connected(other.own)
    evidence = double(liar.chain, liar.key)
    station.sent.clear()
    for _ in range(3):
        _tell(station, others[0].own, evidence)
    assert not [p for p in station.payloads(others[0].own, Channel.CONSENSUS) if p == encode(Accusation(evidence))]
    passed = [p for p in station.payloads(others[1].own, Channel.CONSENSUS) if p == encode(Accusation(evidence))]
    assert len(passed) == 1


def test_whoever_passes_on_what_proves_nothing_is_to_blame_and_nobody_is_accused() -> None:
    liar, station, other, _ = stations(4)
    station.engine.start()
    _tell(station, liar.own, double(b"another chain".ljust(32), other.key))
    assert [peer for peer, _ in station.penalised] == [liar.own]
    assert _offences(station) == []


def test_what_is_kept_of_one_validator_is_bounded_and_leaves_room_for_others() -> None:
    liar, second, station, _ = stations(4)
    station.engine.start()
    for view in range(limits.offences_per_validator_max + 10):
        _tell(station, liar.own, double(liar.chain, liar.key, view))
    assert len(_offences(station)) == limits.offences_per_validator_max
    _tell(station, liar.own, double(liar.chain, second.key))
    assert second.own in [offence.validator for offence in _offences(station)]


@pytest.mark.parametrize("large", [False, True])
def test_offences_of_earlier_epochs_give_way_to_new_ones(monkeypatch: pytest.MonkeyPatch, large: bool) -> None:
    liar, station, *_ = stations(4)
    keeper = station.engine.evidence
    if large:
        monkeypatch.setattr(limits, "evidence_in_transaction_bytes_max", 100)
    monkeypatch.setattr(limits, f"{'large_' if large else ''}offences_per_validator_max", 3)

    def keep(epoch: int, view: int) -> bool:
        station.now_ms += 1
        return keeper.keep(
            Offence(liar.own, Kind.DOUBLE_COMMIT, epoch, view, 1), double(liar.chain, liar.key, view, epoch=epoch), None
        )

    def kept() -> list[tuple[int, int]]:
        return [(entry.offence.epoch, entry.offence.view) for entry in keeper.all()]

    assert keep(1, 0) and keep(1, 1) and keep(2, 0)
    assert not keep(1, 2)
    assert keep(2, 1) and keep(3, 0)
    assert kept() == [(2, 0), (2, 1), (3, 0)]
    assert keep(3, 1) and keep(3, 2)
    assert not keep(3, 3) and not keep(2, 2)
    assert kept() == [(3, 0), (3, 1), (3, 2)]
    again = EvidenceKeeper(station.engine._store, station, lambda: (), verify)
    assert again.all() == keeper.all()


@pytest.mark.parametrize("returned", ["the same", "another"])
def test_evidence_of_an_epoch_that_returns_with_others_is_dropped(returned: str) -> None:
    """The chain was taken back to below it. What nobody on this chain can prove is told to no peer, who would take it
    for a lie, and posted to none; what the same epoch proves again stays."""
    liar, station, *_ = stations(4)
    store, keeper = station.engine._store, station.engine.evidence
    offence = Offence(liar.own, Kind.DOUBLE_COMMIT, 1, 0, 1)
    assert keeper.keep(offence, double(liar.chain, liar.key), None)
    (epoch,) = store.epochs()
    if returned == "another":
        epoch = replace(epoch, validators=tuple(sorted({*epoch.validators, key_of("newcomer").public} - {liar.own})))
    keeper.epoch_began(epoch)
    kept = [offence] if returned == "the same" else []
    assert [entry.offence for entry in keeper.all()] == kept
    assert [name for name, _ in store.evidence()] == list(map(name_of, kept))
    assert (("warning", OF_ANOTHER_CHAIN) in station.notes) == (returned == "another")
    assert keeper.keep(offence, double(liar.chain, liar.key), None) == (returned == "another"), "there is room for it"


def test_evidence_that_was_dropped_by_no_node_that_was_stopped_in_time_is_dropped_at_the_next_start() -> None:
    liar, station, *_ = stations(4)
    offence = Offence(liar.own, Kind.DOUBLE_COMMIT, 1, 0, 1)
    kept = KeptEvidence(offence, double(liar.chain, liar.key), 1, bytes(32))
    station.engine._store.keep_evidence(name_of(offence), encode(kept))
    again = EvidenceKeeper(station.engine._store, station, lambda: (), verify)
    assert again.all() == [] and list(station.engine._store.evidence()) == []


@pytest.mark.parametrize("belongs", [True, False])
def test_what_an_earlier_version_kept_is_judged_once_by_the_epoch_that_is_there(belongs: bool) -> None:
    """It did not write down by which it had been. What this epoch does not prove would cost us every peer that is told
    it; what it proves is dropped where another one begins."""
    liar, station, *_ = stations(4)
    key = liar.key if belongs else key_of("validator of the chain that was taken back")
    offence = Offence(key.public, Kind.DOUBLE_COMMIT, 1, 0, 1)
    store, (epoch,) = station.engine._store, station.engine._store.epochs()
    store.keep_evidence(name_of(offence), encode((offence, double(liar.chain, key), 1)))
    keeper = EvidenceKeeper(store, station, lambda: (), verify)
    assert [kept.offence for kept in keeper.all()] == ([offence] if belongs else [])
    assert (("warning", OF_ANOTHER_CHAIN) in station.notes) != belongs
    station.sent.clear()
    keeper.greet(liar.own, 1)
    assert bool(station.payloads(liar.own, Channel.CONSENSUS)) == belongs
    assert [decode_kept(raw).epoch_hash for _, raw in store.evidence()] == ([validators_hash(epoch)] if belongs else [])
    keeper.epoch_began(replace(epoch, validators=tuple(sorted({*epoch.validators, key_of("newcomer").public}))))
    assert keeper.all() == [] and list(store.evidence()) == []


def test_after_a_rollback_nobody_is_told_what_belongs_to_an_epoch_that_has_not_begun_again() -> None:
    """Others may have begun one of that number with other validators, and would take it for a lie."""
    liar, honest = in_the_next_epoch()
    (epoch,) = (epoch for epoch in honest[0].store.epochs() if epoch.number > 1)
    another = replace(epoch, validators=tuple(sorted({*epoch.validators, key_of("newcomer").public} - {liar.own})))
    key = key_of("newcomer")
    offence = Offence(key.public, Kind.DOUBLE_COMMIT, epoch.number, 0, epoch.number)
    kept = KeptEvidence(
        offence, double(liar.chain, key, height=epoch.number, epoch=epoch.number), 1, validators_hash(another)
    )
    taken_back = Station(honest[1].genesis, honest[1].key)
    taken_back.store.keep_evidence(name_of(offence), encode(kept))
    keeper = EvidenceKeeper(taken_back.store, taken_back, lambda: (), verify)

    def told() -> list[bytes]:
        taken_back.sent.clear()
        keeper.greet(honest[0].own, 1)
        return taken_back.payloads(honest[0].own, Channel.CONSENSUS)

    def posted() -> bool:
        """After everybody has had its turn."""
        posts = []
        for _ in another.validators:
            taken_back.now_ms += POST_TURN_MS
            posts.append(keeper.due(taken_back.own, another, taken_back.engine.intake.pool))
        return any(posts)

    for payload in told():
        honest[0].engine.received(taken_back.own, Channel.CONSENSUS, payload)
    assert honest[0].penalised == []
    assert not posted(), "nobody can take it into a block"
    assert keeper.all() == [kept], "the same blocks may come again"
    restarted = Station(honest[1].genesis, honest[1].key, kv=taken_back.kv)
    assert [entry.offence for entry in restarted.engine.evidence.all()] == [offence]
    file = service_of(restarted).misconduct_file(name_of(offence))
    assert file is None, "none that anybody could check"
    keeper.epoch_began(another)
    assert told() == [encode(Accusation(kept.evidence))]
    assert posted()


def test_larger_evidence_than_is_kept_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "evidence_bytes_max", 100)
    liar, station, *_ = stations(4)
    station.engine.start()
    _tell(station, liar.own, double(liar.chain, liar.key))
    assert _offences(station) == []


def test_evidence_comes_on_the_chain_once_and_a_false_one_does_not() -> None:
    liar, *honest = stations(4)
    net = Net(honest)
    net.start()
    _tell(honest[0], liar.own, double(liar.chain, liar.key))
    net.deliver()
    net.elapse(12_000)
    offence = Offence(liar.own, Kind.DOUBLE_COMMIT, 1, 0, 1)
    posted = [station.engine.evidence.is_posted(offence) for station in honest]
    assert posted == [True] * 3
    bodies = [body for station in honest[:1] for body in _bodies(station) if isinstance(body, EvidencePost)]
    assert len(bodies) == 1 and bodies[0].node in {station.own for station in honest}
    height = honest[0].height
    net.elapse(70_000)
    assert [body for station in honest[:1] for body in _bodies(station) if isinstance(body, EvidencePost)] == bodies
    false = replace(bodies[0], node=honest[0].own, validator=honest[1].own)
    states: list[TransactionState] = []
    honest[0].engine.submit(
        sign_as_node(liar.chain, false, honest[0].key, b"s" * 32, honest[0].now().ledger_ms + 60_000), states.append
    )
    net.deliver()
    assert states[0].stage is Stage.DROPPED and states[0].definite
    assert honest[0].height >= height


def _bodies(station: Station) -> list[Operation]:
    blocks = [station.store.block(height) for height in range(1, station.height + 1)]
    return [
        decode_transaction(raw).transaction.body.operations[0]
        for block in blocks
        if block is not None
        for raw in block.transactions
    ]


def test_a_proposal_with_evidence_that_proves_nothing_is_refused() -> None:
    """The primary lies: it holds its own word for authentic."""
    primary, *others = stations(4)
    net = Net([primary, *others])
    net.start()
    framed = EvidencePost(
        primary.own, others[0].own, Kind.DOUBLE_COMMIT, 1, 0, 1, encode(double(primary.chain, primary.key))
    )
    decoded = sign_as_node(primary.chain, framed, primary.key, b"s" * 32, primary.now().ledger_ms + 60_000)
    primary.engine._authenticity._remember([decoded.full_hash])
    primary.engine.submit(decoded, lambda state: None)
    primary.settle()
    net.deliver()
    assert [station.height for station in others] == [0] * 3
    refusals = [station.engine.replica.inspection().heights[0].refused for station in others]
    assert all(reason is not None and "false signature" in reason for reason in refusals)


def test_damaged_evidence_is_named_at_the_start() -> None:
    liar, station, *_ = stations(4)
    station.store.keep_evidence(name_of(Offence(liar.own, Kind.DOUBLE_COMMIT, 1, 0, 1)), b"junk")
    with pytest.raises(
        StorageDamage, match=r"the evidence [0-9a-f]{12}… is damaged .*; stop the node and run: otcnode db"
    ):
        Station(station.genesis, station.key, kv=station.kv, votes=station.votes)


def in_the_next_epoch() -> tuple[Station, list[Station]]:
    """A liar, and three honest nodes of a chain whose parameters have begun another epoch."""
    liar, *honest = governed()
    net = Net(honest)
    net.start()
    change = ParameterChange(name="window", value=2)
    for decided in decision(honest[0], change):
        honest[0].submit(decided)
        net.deliver()
        net.elapse(8_000)
    for number in range(3):
        honest[0].submit(deposit(honest[0].genesis, number))
        net.deliver()
        net.elapse(8_000)
    assert min(station.engine.flight.tip().next_epoch.number for station in honest) > 1
    return liar, honest


def test_evidence_of_an_epoch_that_is_over_is_judged_by_its_validators_passed_on_and_put_on_the_chain() -> None:
    liar, honest = in_the_next_epoch()
    net = Net(honest)
    evidence = double(liar.chain, liar.key)
    _tell(honest[0], liar.own, evidence)
    net.deliver()
    offence = Offence(liar.own, Kind.DOUBLE_COMMIT, 1, 0, 1)
    assert [_offences(station) for station in honest] == [[offence]] * 3
    honest[1].sent.clear()
    honest[1].engine.connected(liar.own)
    assert encode(Accusation(evidence)) in honest[1].payloads(liar.own, Channel.CONSENSUS)
    net.elapse(30_000)
    assert [station.engine.evidence.is_posted(offence) for station in honest] == [True] * 3
    honest[1].engine.disconnected(liar.own)
    honest[1].sent.clear()
    honest[1].engine.connected(liar.own)
    assert encode(Accusation(evidence)) not in honest[1].payloads(liar.own, Channel.CONSENSUS)


def test_what_proves_nothing_of_an_epoch_that_is_over_costs_its_sender_too() -> None:
    liar, honest = in_the_next_epoch()
    stranger = SigningKey(b"stranger".ljust(32))
    _tell(honest[0], liar.own, double(liar.chain, stranger))
    _tell(honest[0], honest[2].own, double(liar.chain, liar.key, epoch=2))
    assert [peer for peer, _ in honest[0].penalised] == [liar.own], "of an epoch that never was nothing is said"
    assert _offences(honest[0]) == []


def test_a_validator_that_starts_again_explains_the_chain_by_what_it_held_against_others() -> None:
    liar, station, *_ = stations(4)
    station.engine.start()
    station.settle()
    _tell(station, liar.own, double(liar.chain, liar.key))
    before, *_ = station.engine.replica.explain(station.now()).reasons
    again = Station(station.genesis, station.key, kv=station.kv, votes=station.votes, now_ms=station.now_ms)
    again.engine.start()
    again.settle()
    assert "is proved to lie: double COMMIT" in before
    assert again.engine.replica.explain(again.now()).reasons[0] == before
    again.sent.clear()
    again.notes.clear()
    _tell(again, liar.own, double(liar.chain, liar.key))
    assert again.notes == [] and not list(again.sent), "it is no news"
