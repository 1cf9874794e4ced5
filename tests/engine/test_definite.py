"""What the API calls definite never happens afterwards."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from otcnode import limits, node_service
from otcnode.crypto import verify, verify_all
from otcnode.engine.host import Stage
from otcnode.errors import Code
from otcnode.evidence.absence import Claim, absence_preimage
from otcnode.membership import Membership
from otcnode.node_service import Finality, Service
from otcnode.rpc import service
from otcnode.vm.arithmetic import DAY_MS
from otcnode.vm.transactions import Decoded
from tests.engine.network import START_MS, Station, alone, deposit, forged, key_add, stations


def service_of(station: Station) -> Service:
    return Service(
        name="n0",
        genesis=station.genesis,
        chain_id=station.chain,
        own=station.own,
        sign=station.key.sign,
        engine=station.engine,
        store=station.store,
        membership=Membership(station.own, {}),
        finality=Finality(),
        connections=tuple,
        counters=Counter,
        disk_writable=lambda: True,
        archives=tuple,
        on_damage=lambda error: None,
    )


def submit(
    station: Station, *transactions: Decoded, pay: Callable[[int], None] = lambda signatures: None
) -> Sequence[service.Submission]:
    async def answers() -> Sequence[service.Submission]:
        task = asyncio.create_task(
            service_of(station).submit([transaction.raw for transaction in transactions], "somebody", pay)
        )
        await asyncio.sleep(0)
        station.settle()
        return await task

    return asyncio.run(answers())


def test_a_key_that_the_account_does_not_have_yet_is_not_definite() -> None:
    station = alone()
    transaction = deposit(station.genesis, 1, key="second")
    (refused,) = submit(station, transaction)
    assert isinstance(refused, service.Refused)
    assert (refused.code, refused.definite) == (Code.AUTH, False)
    submit(station, key_add(station.genesis, "second"))
    station.elapse(1_000)
    submit(station, transaction)
    assert service_of(station).transaction(transaction.id).code is Code.OK


def test_who_submits_again_what_is_committed_is_told_where() -> None:
    station = alone()
    first, second = deposit(station.genesis, 1), deposit(station.genesis, 2)
    submit(station, first, second)
    station.elapse(1_000)
    for answer, transaction in zip(submit(station, first, second), (first, second), strict=True):
        assert isinstance(answer, service.TransactionState)
        assert answer == service_of(station).transaction(transaction.id)
        assert answer.stage is Stage.COMMITTED and answer.code is Code.OK and answer.height is not None


def test_receipts_are_kept_up_to_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for the transactions of block after block does not fill the memory."""
    station = alone()
    transactions = [deposit(station.genesis, number) for number in range(1, 6)]
    for transaction in transactions:
        submit(station, transaction)
        station.elapse(1_000)
    asked: list[int] = []
    read = station.store.receipts
    monkeypatch.setattr(station.store, "receipts", lambda height: asked.append(height) or read(height))
    monkeypatch.setattr(limits, "receipts_kept_bytes_max", 1_000)
    api = service_of(station)
    heights = [api.transaction(transaction.id).height for transaction in transactions]
    assert heights == asked == [1, 2, 3, 4, 5]
    api.transaction(transactions[4].id)
    assert asked == heights, "the last one was not kept"
    api.transaction(transactions[0].id)
    assert asked == [*heights, 1]


def test_a_simulation_says_nothing_definite_about_a_key_not_known_yet() -> None:
    station = alone()
    paid: list[int] = []
    simulate = service_of(station).simulate
    answer = asyncio.run(simulate(deposit(station.genesis, 1, key="second").raw, paid.append))
    assert isinstance(answer, service.Refused)
    assert (answer.code, answer.definite) == (Code.AUTH, False)
    assert paid == []


def test_signatures_of_a_simulation_are_verified_once_it_is_admissible_and_paid_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    station = alone()
    happened: list[object] = []
    monkeypatch.setattr(node_service, "verify_all", lambda checks: happened.append("verified") or verify_all(checks))
    simulate = service_of(station).simulate
    true = deposit(station.genesis, 1)
    elsewhere = deposit(stations(4)[0].genesis, 1)
    answer = asyncio.run(simulate(elsewhere.raw, happened.append))
    assert isinstance(answer, service.Refused) and answer.code is Code.CHAIN
    assert happened == []
    assert isinstance(asyncio.run(simulate(true.raw, happened.append)), service.Simulation)
    answer = asyncio.run(simulate(forged(true).raw, happened.append))
    assert isinstance(answer, service.Refused)
    assert (answer.code, answer.definite) == (Code.AUTH, True)
    assert happened == [1, "verified"] * 2


@pytest.mark.parametrize("code", [Code.DECODE, Code.CHAIN, Code.AUTH])
def test_what_can_never_be_valid_is_definite(code: Code) -> None:
    station = alone()
    true = deposit(station.genesis, 1)
    raw = {
        Code.DECODE: true.raw[:-1],
        Code.CHAIN: deposit(stations(4)[0].genesis, 1).raw,
        Code.AUTH: forged(true).raw,
    }[code]
    paid: list[int] = []

    async def answer() -> Sequence[service.Submission]:
        task = asyncio.create_task(service_of(station).submit([raw], "somebody", paid.append))
        await asyncio.sleep(0)
        station.settle()
        return await task

    (refused,) = asyncio.run(answer())
    assert isinstance(refused, service.Refused)
    assert (refused.code, refused.definite) == (code, True)
    assert paid == ([1] if code is Code.AUTH else [])


def test_signatures_that_are_verified_for_nothing_are_paid_for_and_no_others() -> None:
    """Also of copies that hide behind the true one: how that stands is all that is said of them."""
    station = alone()
    paid: list[int] = []
    true = deposit(station.genesis, 1)
    copies = [forged(true, number) for number in range(3)]
    answers = submit(station, deposit(station.genesis, 2), true, *copies, true, pay=paid.append)
    assert {type(answer) for answer in answers} == {service.TransactionState}
    assert paid == [1, 1, 1]


def test_expired_by_the_clock_is_definite_only_once_a_block_says_so() -> None:
    station = alone()
    late = deposit(station.genesis, 1, valid_until_ms=START_MS + 1_000)
    station.now_ms = 1_000
    (refused,) = submit(station, late)
    assert isinstance(refused, service.Refused)
    assert (refused.code, refused.definite) == (Code.TX_EXPIRED, False)
    submit(station, deposit(station.genesis, 2))
    (refused,) = submit(station, late)
    assert isinstance(refused, service.Refused)
    assert (refused.code, refused.definite) == (Code.TX_EXPIRED, True)


def test_of_what_may_have_been_in_a_pruned_block_nothing_definite_is_said() -> None:
    station = alone()
    early = deposit(station.genesis, 1, valid_until_ms=START_MS + 1_000)
    submit(station, early)
    assert service_of(station).transaction(early.id).code is Code.OK
    station.store.blocks_kept = 1
    for number in (2, 3):
        station.now_ms += 2_000
        submit(station, deposit(station.genesis, number))
    assert station.store.blocks_first == 3
    assert service_of(station).transaction(early.id).stage is Stage.UNKNOWN
    station.now_ms += DAY_MS
    never = deposit(station.genesis, 4, valid_until_ms=START_MS + station.now_ms + 1_000)
    station.now_ms += 2_000
    submit(station, deposit(station.genesis, 5, valid_until_ms=START_MS + station.now_ms + 1_000))
    refused = submit(station, early, never)
    # A day is the longest life, so no block that is gone can have held the second one.
    assert [(answer.code, answer.definite) for answer in refused if isinstance(answer, service.Refused)] == [
        (Code.TX_EXPIRED, False),
        (Code.TX_EXPIRED, True),
    ]


def test_a_word_of_absence_is_given_only_of_what_no_block_holds_and_says_of_which_blocks() -> None:
    station = alone()
    here, never = (deposit(station.genesis, number, valid_until_ms=START_MS + 1_000) for number in (1, 9))
    word_of = service_of(station).absence
    assert word_of(never.id) is None, "there is no header yet to say it under"
    submit(station, here)
    assert word_of(here.id) is None
    word = word_of(never.id)
    assert word is not None and word.claim == Claim(station.chain, never.id, 0, 1)
    assert word.node == station.own and verify(word.node, absence_preimage(word.claim), word.signature)
    station.store.blocks_kept = 1
    for number in (2, 3):
        station.now_ms += 2_000
        submit(station, deposit(station.genesis, number))
    word, second = word_of(here.id), station.store.header(2)
    assert second is not None and station.store.blocks_first == 3
    assert word is not None, "true of the blocks that are kept, which it says"
    assert (word.claim.after_ms, word.claim.height) == (second.time_ms, 3)


def test_a_committed_failure_is_definite_and_found() -> None:
    station = alone()
    first, again = deposit(station.genesis, 1), deposit(station.genesis, 1, valid_until_ms=START_MS + 50_000)
    submit(station, first, again)
    states = [service_of(station).transaction(each.id) for each in (first, again)]
    assert [state.code for state in states] == [Code.OK, Code.DUP_BANK_REF]
    assert [state.definite for state in states] == [False, True]


def test_a_validator_that_has_stopped_voting_is_not_ready() -> None:
    station = alone()
    assert service_of(station).status().halted is None
    station.engine.replica.core.halt("certified block 7 executes differently here")
    status = service_of(station).status()
    assert status.halted is not None and "executes differently" in status.halted
    assert status.mode == "halted"
    assert not status.synced


def test_why_a_transaction_is_where_it_is() -> None:
    """Of four validators one is awake, not the primary: what it is given waits, and says for what."""
    *_, station = stations(4)
    station.engine.start()
    first, second = deposit(station.genesis, 1), deposit(station.genesis, 2)
    explain = service_of(station).explain_transaction
    assert explain(first.id).state.stage is service.Stage.UNKNOWN and "not seen" in explain(first.id).text
    submit(station, first, second)
    assert [explain(entry.id).place for entry in (first, second)] == [0, 1]
    station.elapse(10_000)
    assert "1 of 2 that wait here came before it" in explain(second.id).text
    assert "height 0" in explain(second.id).text
    station.elapse(10_000_000)
    assert explain(second.id).place is None and "valid_until has passed" in explain(second.id).text


def test_why_a_committed_transaction_is_where_it_is() -> None:
    station = alone()
    transaction = deposit(station.genesis, 1)
    submit(station, transaction)
    station.elapse(1_000)
    explained = service_of(station).explain_transaction(transaction.id)
    assert (explained.state.stage, explained.text) == (service.Stage.COMMITTED, "block 1 holds it")
