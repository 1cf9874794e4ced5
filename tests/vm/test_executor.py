from __future__ import annotations

import pytest

from otcnode.codec import decode, encode
from otcnode.crypto import sha256
from otcnode.errors import Code, Inadmissible
from otcnode.genesis import KeyPurpose
from otcnode.vm.accounts.operations import AccountReview, CashDeposit, KeyAdd, KeyRevoke, KeyRotate
from otcnode.vm.executor import (
    SEEN,
    SEEN_BATCH,
    BlockExecution,
    check_admissible,
    environment_at,
    execute_block,
    simulate,
)
from otcnode.vm.keys import MARKER, integer
from otcnode.vm.results import Receipt
from otcnode.vm.state import State
from otcnode.vm.transactions import Decoded, sign_transaction
from tests.vm.ledger import CASH, DictionaryView, Ledger, key_of

MANAGE = KeyPurpose.MANAGE


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    ledger.investor("ANN", 1_000_00)
    return ledger


def inadmissible(ledger: Ledger, decoded: Decoded, at: int | None = None) -> Code:
    environment = environment_at(ledger.view, ledger.chain, ledger.height + 1, at or ledger.now + 1)
    with pytest.raises(Inadmissible) as pooled:
        check_admissible(State(ledger.view), environment, decoded)
    execution = BlockExecution(ledger.view, environment)
    execution.run_due()
    with pytest.raises(Inadmissible) as executed:
        execution.apply(decoded)
    assert execution.finish().writes == execute_block(ledger.view, environment, []).writes
    assert pooled.value.code is executed.value.code
    return executed.value.code


def deposit(ledger: Ledger, reference: str = "r", amount: int = 1) -> CashDeposit:
    return CashDeposit(ledger.ids["ANN"], CASH, amount, reference)


def test_inadmissible_transactions_leave_no_trace(ledger: Ledger) -> None:
    operation = deposit(ledger)
    assert inadmissible(ledger, ledger.sign("BANK", operation, chain=bytes(32))) is Code.CHAIN
    assert inadmissible(ledger, ledger.sign("BANK", operation, sender=bytes(32))) is Code.NOT_FOUND
    assert inadmissible(ledger, ledger.sign("BANK", operation, sender=b"")) is Code.NOT_FOUND
    assert inadmissible(ledger, ledger.sign("BANK", operation, keys=[key_of("ANN")])) is Code.AUTH
    assert inadmissible(ledger, ledger.sign("BANK", operation, purpose=MANAGE)) is Code.KEY_PURPOSE
    mixed = ledger.sign("BANK", operation, KeyAdd(KeyPurpose.SIGN, bytes(32)))
    assert inadmissible(ledger, mixed) is Code.THRESHOLD


def test_validity_is_half_open_and_bounded(ledger: Ledger) -> None:
    until = ledger.now + 1_000
    decoded = ledger.sign("BANK", deposit(ledger), valid_until=until)
    assert inadmissible(ledger, decoded, at=until) is Code.TX_EXPIRED
    far = ledger.sign("BANK", deposit(ledger), valid_until=ledger.now + 1 + 600_001)
    assert inadmissible(ledger, far) is Code.TX_EXPIRED
    assert ledger.block(decoded, at=until - 1).receipts[0].code is Code.OK


def test_one_id_enters_once_even_with_other_signatures_or_after_failing(ledger: Ledger) -> None:
    good = ledger.sign("BANK", deposit(ledger))
    failing = ledger.sign("ANN", deposit(ledger))
    assert [receipt.code for receipt in ledger.block(good, failing).receipts] == [Code.OK, Code.ROLE]
    assert inadmissible(ledger, good) is Code.TX_DUPLICATE
    assert inadmissible(ledger, failing) is Code.TX_DUPLICATE
    again = sign_transaction(good.transaction.body, [key_of("BANK")])
    assert inadmissible(ledger, again) is Code.TX_DUPLICATE


def test_ids_are_forgotten_once_expired_and_the_state_does_not_grow(ledger: Ledger) -> None:
    seen = [key for key in ledger.view.values if key[:1] == b"\x02"]
    assert seen
    ledger.block(at=ledger.now + 600_001)
    assert not [key for key in ledger.view.values if key[:1] == b"\x02"]


@pytest.mark.parametrize(
    "expired", [0, 1, SEEN_BATCH - 1, SEEN_BATCH, SEEN_BATCH + 1, 3 * SEEN_BATCH, 3_999, 4_000, 4_001]
)
@pytest.mark.parametrize("alive", [0, 1, SEEN_BATCH])
def test_what_has_expired_is_forgotten_in_order_and_twice_a_blocks_worth_at_most(expired: int, alive: int) -> None:
    ledger = Ledger()
    at = ledger.now + 1
    for key in [key for key in ledger.view.values if key[:1] == SEEN.prefix]:
        del ledger.view.values[key]
    due = [SEEN.prefix + integer(at - number % 2) + sha256(b"%d" % number) for number in range(expired)]
    rest = [SEEN.prefix + integer(at + 1) + sha256(b"%d" % number) for number in range(alive)]
    view = DictionaryView({**ledger.view.values, **dict.fromkeys([*due, *rest], encode(MARKER))})
    environment = environment_at(view, ledger.chain, ledger.height + 1, at)
    assert environment.parameters.block_transactions_max == 2_000
    writes = execute_block(view, environment, []).writes
    assert {key: value for key, value in writes.items() if key[:1] == SEEN.prefix} == dict.fromkeys(sorted(due)[:4_000])


def test_operations_are_all_or_none_and_the_receipt_names_the_failing_one(ledger: Ledger) -> None:
    before = dict(ledger.view.values)
    receipt = ledger.do("BANK", deposit(ledger, "x", 5), deposit(ledger, "x", 6), code=Code.DUP_BANK_REF)
    assert receipt.operation == 1
    assert receipt.events == ()
    changed = {
        key for key in before.keys() | ledger.view.values.keys() if before.get(key) != ledger.view.values.get(key)
    }
    assert {key[:1] for key in changed} == {b"\x02"}


def test_receipts_have_one_encoding(ledger: Ledger) -> None:
    receipt = ledger.do("BANK", deposit(ledger))
    assert decode(Receipt, encode(receipt)) == receipt


def test_simulation_commits_nothing(ledger: Ledger) -> None:
    before = dict(ledger.view.values)
    environment = environment_at(ledger.view, ledger.chain, ledger.height + 1, ledger.now + 1)
    result = simulate(ledger.view, environment, ledger.sign("BANK", deposit(ledger)))
    assert result.receipts[0].code is Code.OK
    assert ledger.view.values == before


def test_a_pending_account_may_not_send(ledger: Ledger) -> None:
    ledger.apply_for("BOB")
    assert inadmissible(ledger, ledger.sign("BOB", deposit(ledger))) is Code.ACCOUNT_STATE
    ledger.do("KYC", AccountReview(ledger.ids["BOB"], True, ""))
    ledger.do("BOB", deposit(ledger), code=Code.ROLE)


def test_keys_change_from_the_very_transaction_on(ledger: Ledger) -> None:
    new = key_of("ANN/second")
    ledger.do("ANN", KeyRotate(key_of("ANN").public, new.public), purpose=MANAGE)
    assert inadmissible(ledger, ledger.sign("ANN", deposit(ledger))) is Code.KEY_REVOKED
    decoded = ledger.sign("ANN", deposit(ledger), keys=[new])
    assert ledger.block(decoded).receipts[0].code is Code.ROLE
    ledger.do("ANN", KeyRevoke(new.public), purpose=MANAGE, code=Code.THRESHOLD)
    ledger.do("ANN", KeyAdd(KeyPurpose.TRADE, new.public), purpose=MANAGE, code=Code.DUPLICATE)


def test_an_act_on_behalf_needs_an_entrustment(ledger: Ledger) -> None:
    bank = ledger.ids["BANK"]
    decoded = ledger.sign("ANN", deposit(ledger), on_behalf_of=bank, entrustment=sha256(b"none"))
    assert ledger.block(decoded).receipts[0].code is Code.NOT_FOUND
