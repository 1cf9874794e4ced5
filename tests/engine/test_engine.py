"""The order of effects, what leaves when, and what happens after something inside went wrong."""

from collections.abc import Sequence

import msgspec
import pytest

from otcnode import limits
from otcnode.blocks import (
    Entry,
    Header,
    ValidatorSignature,
    block_hash,
    prepare_preimage,
    quorum,
    transactions_root,
    validators_hash,
)
from otcnode.codec import decode, encode
from otcnode.consensus.messages import Bodies, Message, Prepare, PrePrepare, Proof, ViewChange, view_change_preimage
from otcnode.consensus.record import birth
from otcnode.crypto import SigningKey, sha256
from otcnode.engine.host import Stage
from otcnode.errors import StorageDamage
from otcnode.p2p.framing import Channel
from otcnode.storage.faulty import FaultKind, FaultyKeyValue
from otcnode.storage.votes_log import MemoryVotesLog
from otcnode.vm.transactions import Decoded
from tests.engine.network import (
    START_MS,
    Net,
    Station,
    alone,
    deposit,
    forged,
    genesis_of,
    key_of,
    signed_by_stranger,
    stations,
)
from tests.hostile.words import view_change


class FailingVotesLog(MemoryVotesLog):
    """A disk that refuses one sync and, as after a real failure, has forgotten what was appended."""

    def __init__(self) -> None:
        super().__init__()
        self.fail = False
        self.append(birth())
        self.sync()

    def sync(self) -> None:
        if self.fail:
            self._pending = []
            self.fail = False
            raise StorageDamage("the disk refuses")
        super().sync()


def said(station: Station) -> list[Message]:
    return [decode(Message, payload) for _, channel, payload in station.sent if channel is Channel.CONSENSUS]


def fleet_with(votes: MemoryVotesLog) -> tuple[Net, Station]:
    """Four validators, the second with this record."""
    ready = stations(4)
    genesis, key = ready[1].genesis, ready[1].key
    ready[1] = Station(genesis, key, votes=votes)
    net = Net(ready)
    net.start()
    return net, ready[1]


def test_a_fleet_commits_what_is_submitted_anywhere() -> None:
    net = Net(stations(4))
    net.start()
    first, second, *_ = net.stations.values()
    transactions = [deposit(first.genesis, number) for number in range(5)]
    for number, transaction in enumerate(transactions):
        (first, second)[number % 2].submit(transaction)
    net.elapse(1_000)
    for station in net.stations.values():
        assert [station.engine.state_of(each.id).stage for each in transactions] == [Stage.COMMITTED] * 5
        assert station.penalised == []
        assert len(station.engine.intake.pool) == 0


def test_after_a_failed_sync_of_the_record_nothing_is_said_any_more() -> None:
    votes = FailingVotesLog()
    net, station = fleet_with(votes)
    others = [other for other in net.stations.values() if other is not station]
    primary = next(other for other in others if other.own == station.engine.replica.state.primary)
    primary.submit(deposit(station.genesis, 1))
    primary.settle()
    proposals = primary.payloads(station.own, Channel.CONSENSUS)
    assert any(isinstance(decode(Message, payload), PrePrepare) for payload in proposals)
    for payload in primary.payloads(station.own, Channel.TRANSACTIONS):
        station.engine.received(primary.own, Channel.TRANSACTIONS, payload)
    station.settle()
    station.sent.clear()
    votes.fail = True
    with pytest.raises(StorageDamage):
        for payload in proposals:
            station.engine.received(primary.own, Channel.CONSENSUS, payload)
            station.settle()
    for payload in proposals:
        station.engine.received(primary.own, Channel.CONSENSUS, payload)
    for timer in list(station.timers):
        station.engine.elapsed(timer)
    station.settle()
    assert not any(isinstance(message, Prepare) for message in said(station))
    assert said(station) == []
    assert station.engine.halted is not None


@pytest.mark.parametrize("kind", [FaultKind.FAIL, FaultKind.DISK_FULL])
def test_after_a_failed_write_of_a_block_nothing_is_said_any_more(kind: FaultKind) -> None:
    kv = FaultyKeyValue()
    station = Station(genesis_of(1), key_of("node 0"), kv=kv)
    station.engine.start()
    station.settle()
    transaction = deposit(station.genesis, 1)
    answers = station.submit(transaction)
    kv.arm(kind, 1)
    with pytest.raises(StorageDamage):
        station.settle()
    assert station.height == 0 and station.committed == []
    assert station.engine.halted is not None
    assert station.engine.state_of(transaction.id).stage is not Stage.COMMITTED
    station.sent.clear()
    for timer in list(station.timers):
        station.engine.elapsed(timer)
    station.engine.tick()
    station.settle()
    assert said(station) == []
    assert len(answers) <= 1


def test_a_proposal_with_a_stranger_s_copy_does_not_keep_the_true_one_out_of_the_pool() -> None:
    """The stranger's copy is authentic (its signature is good) but no block can hold it."""
    net = Net(stations(4))
    net.start()
    liar, *honest = net.stations.values()
    assert liar.own == liar.engine.replica.state.primary
    true = deposit(liar.genesis, 1)
    copy = signed_by_stranger(true)
    _propose_unchecked(liar, copy)
    net.deliver()
    for station in honest:
        assert station.engine.intake.pool.get(true.id) is None
        answers = station.submit(true)
        station.settle()
        assert [answer.stage for answer in answers] == [Stage.POOLED]


def _propose_unchecked(liar: Station, copy: Decoded) -> None:
    """Send every other validator a well-formed proposal of one block with this transaction, and its body."""
    tip = liar.engine.flight.tip()
    entries = (Entry(copy.id, copy.full_hash),)
    members = validators_hash(tip.next_epoch)
    header = Header(
        1,
        liar.chain,
        tip.height + 1,
        tip.block_hash,
        liar.now().ledger_ms + 1,
        liar.own,
        1,
        transactions_root(entries),
        bytes(32),
        bytes(32),
        members,
        members,
    )
    name = block_hash(header)
    signature = liar.key.sign(prepare_preimage(liar.chain, tip.next_epoch.number, 0, header.height, name))
    proposal = PrePrepare(tip.next_epoch.number, 0, header, entries, signature)
    for validator in tip.next_epoch.validators:
        if validator != liar.own:
            liar.send(validator, Channel.CONSENSUS, encode(proposal))
            liar.send(validator, Channel.CONSENSUS, encode(Bodies(header.height, name, ((0, copy.raw),))))


def test_a_block_is_executed_once_however_often_it_comes_up() -> None:
    net = Net(stations(4))
    net.start()
    first, *_ = net.stations.values()
    executions = {station.own: _count_executions(station) for station in net.stations.values()}
    first.submit(deposit(first.genesis, 1))
    net.elapse(1_000)
    height = first.height
    assert height >= 1
    for names in executions.values():
        assert len(names) == len(set(names))


def _count_executions(station: Station) -> list[bytes]:
    names: list[bytes] = []
    keep = station.engine.flight._keep

    def counted(speculation) -> None:  # type: ignore[no-untyped-def]
        names.append(speculation.block_hash)
        keep(speculation)

    station.engine.flight._keep = counted  # type: ignore[method-assign]
    return names


def test_a_restart_at_any_effect_of_a_commit_loses_and_repeats_nothing() -> None:
    """A network of one, stopped before its n-th effect for every n, then started again from what is durable."""
    for stop in range(1, 40):
        first = alone()
        transactions = [deposit(first.genesis, number) for number in range(3)]
        count = 0

        def before(effect: object, stop: int = stop) -> None:
            nonlocal count
            count += 1
            if count == stop:
                raise KeyboardInterrupt

        first.engine._before_effect = before
        try:
            for transaction in transactions:
                first.submit(transaction)
                first.settle()
        except KeyboardInterrupt:
            assert isinstance(first.votes, MemoryVotesLog)
            first.votes.crash()
        told = [transaction_id for _, ids in first.committed for transaction_id in ids]
        again = Station(first.genesis, first.key, kv=first.kv, votes=first.votes, now_ms=first.now_ms)
        again.engine.start()
        again.settle()
        for transaction_id in told:
            assert again.engine.state_of(transaction_id).stage is Stage.COMMITTED
        for transaction in transactions:
            again.submit(transaction)
            again.settle()
        again.elapse(5_000)
        places = [again.store.transaction_location(transaction.id) for transaction in transactions]
        assert None not in places and len(set(places)) == 3
        assert again.engine.replica.state.silence is None


def test_messages_before_the_first_event_are_not_looked_at() -> None:
    first, second, *_ = stations(4)
    second.engine.start()
    second.settle()
    first.engine.connected(second.own)
    second.engine.connected(first.own)
    second.elapse(600)
    for payload in second.payloads(first.own, Channel.CONSENSUS):
        first.engine.received(second.own, Channel.CONSENSUS, payload)
    first.engine.tick()
    first.engine.start()
    first.settle()
    assert said(first) != []


def test_undecodable_consensus_costs_the_peer() -> None:
    first, second, *_ = stations(4)
    first.engine.start()
    first.engine.received(second.own, Channel.CONSENSUS, b"\xc1")
    assert [peer for peer, _ in first.penalised] == [second.own]


def _vote(station: Station, of: Station, view: int = 0) -> Prepare:
    name = sha256(b"a block that nobody has")
    signed = prepare_preimage(station.chain, 1, view, 1, name)
    return Prepare(1, view, 1, name, of.own, of.key.sign(signed))


def test_a_false_signature_costs_whoever_sent_it_and_not_whose_name_it_bears() -> None:
    first, second, third, _ = stations(4)
    first.engine.start()
    true = _vote(first, third)
    first.engine.received(second.own, Channel.CONSENSUS, encode(true))
    assert first.penalised == []
    forged = msgspec.structs.replace(true, view=1)
    first.engine.received(second.own, Channel.CONSENSUS, encode(forged))
    assert [peer for peer, _ in first.penalised] == [second.own]


def test_who_makes_a_node_verify_without_end_is_told_from_an_honest_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "consensus_signatures_burst", 20)
    monkeypatch.setattr(limits, "consensus_signatures_burst_per_pair_and_height", 0)
    monkeypatch.setattr(limits, "consensus_signatures_per_second", 1)
    first, second, *_ = stations(4)
    first.engine.start()
    first.engine.connected(second.own)
    for view in range(20):
        first.engine.received(second.own, Channel.CONSENSUS, encode(_vote(first, second, view)))
    assert first.penalised == []
    for view in range(20, 22):
        first.engine.received(second.own, Channel.CONSENSUS, encode(_vote(first, second, view)))
    assert {peer for peer, _ in first.penalised} == {second.own}


def _with_every_proof(view_change: ViewChange, station: Station, keys: Sequence[SigningKey], window: int) -> ViewChange:
    """The VIEW-CHANGE of an honest node that has a proof of every height of the window."""
    author = next(key for key in keys if key.public == view_change.validator)
    proofs = []
    for height in range(1, window + 1):
        header = msgspec.structs.replace(_empty_header(station), height=height)
        signed = prepare_preimage(station.chain, 1, 0, height, block_hash(header))
        votes = tuple(ValidatorSignature(key.public, key.sign(signed)) for key in keys[: quorum(len(keys))])
        proofs.append(Proof(0, header, votes))
    plain = msgspec.structs.replace(view_change, proofs=tuple(proofs))
    signature = author.sign(view_change_preimage(station.chain, plain))
    return msgspec.structs.replace(plain, signature=signature)


def _empty_header(station: Station) -> Header:
    name = station.chain
    return Header(1, name, 1, name, START_MS + 1, station.own, 0, name, name, name, name, name)


def test_who_passes_on_everybodys_view_changes_over_a_full_window_is_honest() -> None:
    """A node that was away gets them all from one peer at once."""
    first, *others = stations(7, window=limits.window_max)
    first.engine.start()
    relayer = others[0].own
    first.engine.connected(relayer)
    keys = sorted((station.key for station in [first, *others]), key=lambda key: key.public)
    for station in others:
        asked = decode(Message, view_change(first.chain, station.key, 1, 0, None))
        whole = _with_every_proof(asked, first, keys, limits.window_max)
        first.engine.received(relayer, Channel.CONSENSUS, encode(whole))
    assert len(first.engine.replica.state.view_changes) >= len(others)
    assert first.penalised == []


def test_who_asks_for_views_without_end_is_told_from_an_honest_peer() -> None:
    first, second, *_ = stations(4)
    first.engine.start()
    first.engine.connected(second.own)
    for view in range(1, 121):
        first.engine.received(second.own, Channel.CONSENSUS, view_change(first.chain, second.key, view, 0, None))
    assert first.penalised == []
    first.engine.received(second.own, Channel.CONSENSUS, view_change(first.chain, second.key, 121, 0, None))
    assert [peer for peer, _ in first.penalised] == [second.own]


@pytest.mark.parametrize("keep", ["jobs", "put_off"])
def test_answers_that_come_after_the_block_was_decided_elsewhere_change_nothing(keep: str) -> None:
    """One validator's verifications (or what it put off) wait while the others decide block after block."""
    net = Net(stations(4))
    net.start()
    first, *_, late = net.stations.values()

    def settle_partly(rounds: int = 10_000) -> None:
        while late.put_off and keep != "put_off":
            late.put_off.popleft()()
        while late.jobs and keep != "jobs":
            late.verify_next()

    late.settle = settle_partly  # type: ignore[method-assign]
    for number in range(12):
        first.submit(deposit(first.genesis, number))
        net.elapse(100)
    assert first.height >= 3
    del late.settle
    net.elapse(3_000)
    assert late.height == first.height
    assert late.store.tip.block_hash == first.store.tip.block_hash
    assert late.engine.halted is None and late.penalised == first.penalised == []
    assert len(late.engine.intake.pool) == 0


@pytest.mark.parametrize("lie", ["false signature", "stranger", "junk"])
def test_after_a_primary_that_lied_about_a_transaction_the_true_one_is_committed(lie: str) -> None:
    net = Net(stations(4))
    net.start()
    liar, *honest = net.stations.values()
    true = deposit(liar.genesis, 1)
    copies = {
        "false signature": forged(true),
        "stranger": signed_by_stranger(true),
        "junk": msgspec.structs.replace(true, raw=true.raw[:-1] + b"\x00"),
    }
    _propose_unchecked(liar, copies[lie])
    net.deliver()
    for other in net.stations:
        net.cut |= {(liar.own, other), (other, liar.own)}
    answers = honest[0].submit(true)
    net.elapse(10_000)
    assert [answer.stage for answer in answers] == [Stage.POOLED]
    for station in honest:
        assert station.engine.state_of(true.id).stage is Stage.COMMITTED
        assert station.penalised == [] or [peer for peer, _ in station.penalised] == [liar.own]


def test_a_transaction_in_a_proposal_by_another_name_is_refused() -> None:
    """The list of a proposal names an id that its body does not have."""
    net = Net(stations(4))
    net.start()
    liar, *honest = net.stations.values()
    true, other = deposit(liar.genesis, 1), deposit(liar.genesis, 2)
    _propose_unchecked(liar, msgspec.structs.replace(true, id=other.id))
    net.deliver()
    for station in honest:
        assert station.height == 0
        assert not station.engine.flight.is_proposed(true.id) and not station.engine.flight.is_proposed(other.id)
        assert len(station.engine.intake.pool) == 0


def test_the_state_tree_is_read_ahead_while_nobody_wants_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """One piece per tick where somebody does, so that nobody waits for more than one."""
    monkeypatch.setattr(limits, "state_buckets_read_ahead", 1)
    station, peer = alone(), key_of("peer").public
    pieces = station.store.tree.buckets
    read: list[int] = []
    right = station.store.tree.read_ahead

    def read_ahead(buckets_max: int) -> bool:
        read.append(buckets_max)
        return right(buckets_max)

    monkeypatch.setattr(station.store.tree, "read_ahead", read_ahead)
    for ticks in range(1, 4):
        station.engine.tick()
        station.engine.received(peer, Channel.CONSENSUS, b"anything")
        station.settle()
        assert len(read) == ticks
    station.engine.tick()
    assert len(station.put_off) == 1
    station.put_off.popleft()()
    station.engine.tick()
    assert len(station.put_off) == 1, "a tick in between begins no second row of pieces"
    station.settle()
    assert pieces <= len(read) <= pieces + 1
    station.engine.tick()
    assert not station.put_off, "all of it is in memory"
