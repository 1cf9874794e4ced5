"""Whole lives of the ledger: everything that can be asked of it, in plausible disorder, at the worst moments.

After every block all invariants hold; the same transactions in other blocks give the same state and receipts.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace

from otcnode.codec import encode
from otcnode.crypto import SigningKey, sha256
from otcnode.errors import Code, Inadmissible
from otcnode.genesis import KeyPurpose, Role
from otcnode.vm import invariants
from otcnode.vm import queue_checks as queue
from otcnode.vm.accounts import checks as accounts
from otcnode.vm.accounts.events import RecoveryChanged
from otcnode.vm.accounts.operations import (
    AccountFreeze,
    AccountObject,
    AccountRecover,
    AccountRecoverApprove,
    AccountUnfreeze,
    CashDeposit,
    CashWithdraw,
    CashWithdrawCancel,
    CashWithdrawResult,
    EntrustAccept,
    EntrustGrant,
    EntrustRevoke,
    InvestorCertify,
    KeyAdd,
    NewKey,
)
from otcnode.vm.accounts.records import (
    CASH_ASSETS,
    CASH_BALANCES,
    ENTRUSTMENTS,
    FREEZES,
    RECOVERIES,
    WITHDRAWALS,
    CashAsset,
    Category,
    EntrustmentStatus,
    RecoveryStatus,
    Thresholds,
    WithdrawalStatus,
)
from otcnode.vm.accounts.totals import note_total
from otcnode.vm.context import PARAMETERS, Environment, paused
from otcnode.vm.contracts import checks as contracts
from otcnode.vm.contracts.operations import ContractCallback, ContractRescind
from otcnode.vm.contracts.records import CONTRACTS, ContractKind, ContractStatus, CoolingOff, Immediately
from otcnode.vm.due import DUE, due_time, next_due
from otcnode.vm.event_index import entries_of, event_index, height_of
from otcnode.vm.executor import BlockExecution, check_admissible, environment_at, execute_block
from otcnode.vm.governance import checks as governance
from otcnode.vm.governance.operations import GovernanceApprove, GovernancePropose
from otcnode.vm.governance.records import (
    PROPOSALS,
    CashCorrect,
    ContractTerminate,
    Direction,
    ForcedTransfer,
    ItemCancel,
    ItemKind,
    MarketPause,
    ProposalStatus,
    RoleSet,
)
from otcnode.vm.keys import SINGLE
from otcnode.vm.operations import Operation
from otcnode.vm.products import checks as products
from otcnode.vm.products.operations import (
    ProductCancel,
    ProductCancelSubscription,
    ProductSubscribe,
    RedeemDecide,
    RedeemRequest,
)
from otcnode.vm.products.records import (
    PRODUCTS,
    REDEMPTIONS,
    SUBSCRIPTIONS,
    CoolingOffRule,
    ProductStatus,
    ProductType,
    RedemptionStatus,
    SubscriptionStatus,
)
from otcnode.vm.registry import OPERATIONS
from otcnode.vm.results import BlockResult, Receipt
from otcnode.vm.state import State
from otcnode.vm.trades import checks as trades
from otcnode.vm.trades.records import TRADES
from otcnode.vm.transactions import Decoded
from tests.vm.governance.council import PAPER, Council
from tests.vm.ledger import CASH, DAY_MS, EVIDENCE, DictionaryView, key_of
from tests.vm.trades.floor import HOUR_MS, ORDER
from tests.vm.trades.test_random_trading import TRADERS, Chooser
from tests.vm.watch import Watch

V = TypeVar("V")
OTHER_CASH = "CNY@BANK2"
DOCUMENTED = Path(__file__).parents[2] / "docs" / "invariants.md"
CUSTODIANS = {CASH: "BANK", OTHER_CASH: "BANK2"}
MANAGE, SIGN, TRADE = KeyPurpose.MANAGE, KeyPurpose.SIGN, KeyPurpose.TRADE

# Per invariant, what holds it: checkers of states and properties of blocks (tests/vm/watch.py), which run after every
# block, and properties of whole lives (here).


def events_alone_reproduce_balances(world: World) -> None:
    """31: `Ledger.block` folds the events of every block and compares with the state; here once more, from nothing."""
    assert world.fold.figures() == {name: amount for name, amount in world.fold.figures().items() if amount}


def any_later_state_gives_the_same_index(world: World) -> None:
    """`db verify` makes the index of every block anew, from its receipts and the last state."""
    for result, entries in world.index:
        height = height_of(entries[0][0]) if entries else 0
        assert entries_of(height, (*result.automatic, *result.receipts), world.view) == entries


def failure_leaves_its_receipt_only(world: World, before: DictionaryView, result: BlockResult, at: int) -> None:
    """9: a block with nothing but failed transactions writes what an empty one does, and remembers the ids."""
    if result.receipts and all(receipt.code is not Code.OK for receipt in result.receipts):
        empty = execute_block(before, environment_at(before, world.chain, world.height, at), [])
        assert without_ids(empty.writes) == without_ids(result.writes)
        assert empty.automatic == result.automatic


def replays_are_refused(world: World) -> None:
    """27: no transaction of this life can be in a block again."""
    environment = environment_at(world.view, world.chain, world.height + 1, world.now)
    for step in world.steps:
        for decoded in step.transactions:
            with pytest.raises(Inadmissible) as refused:
                check_admissible(State(world.view), environment, decoded)
            assert refused.value.code in (
                Code.TX_DUPLICATE,
                Code.TX_EXPIRED,
                Code.KEY_REVOKED,
                Code.ACCOUNT_STATE,
                Code.THRESHOLD,
            )


def executing_again_gives_the_same(world: World, first: World) -> None:
    """29, 30: from the beginning, and from a state kept half way, to the same writes and receipts at any height."""
    for start, values in ((0, first.view.values), (world.kept_after, world.kept)):
        view = DictionaryView(dict(values))
        for number, step in enumerate(world.steps[start:], start):
            if number == world.kept_after:
                assert view.values == world.kept, "30"
            environment = environment_at(view, world.chain, first.height + number + 1, step.at)
            result = execute_block(view, environment, step.transactions)
            assert encode(tuple(result.writes.items())) == step.writes, "29"
            assert result.receipts_root() == step.receipts_root, "29"
            view.write(result.writes)
        assert view.values == world.view.values


def other_blocks_give_the_same(world: World, first: World) -> None:
    """13, 29, 33: with a block at every due time, with blocks of one time joined, and with budgets for one due item per
    block or for everything, the end and every receipt are the same."""
    eager = Replay(first)
    for step in world.steps:
        while (due := next_due(eager.view)) is not None and due < step.at:
            eager.block(due, ())
        eager.block(step.at, step.transactions)
    joined = Replay(first)
    waiting: list[Decoded] = []
    for step, following in zip(world.steps, [*world.steps[1:], None], strict=True):
        waiting += step.transactions
        if following is None or following.at != step.at or following.has_automatic:
            joined.block(step.at, tuple(waiting))
            waiting = []
    tight = Replay(first, due_class1_weight_max=1, due_weight_max=1)
    uneven = Replay(first, due_class1_weight_max=1, due_weight_max=10**6)
    wide = Replay(first, due_class1_weight_max=10**6, due_weight_max=10**6)
    for other in (tight, uneven, wide):
        for step in world.steps:
            other.block(step.at, step.transactions)
        other.finish()
    for other in (eager, joined, tight, uneven, wide):
        assert remembered(other.view.values) == remembered(world.view.values)
        assert other.receipts == world.receipts


INVARIANTS: dict[int, tuple[Callable[..., Any], ...]] = {
    1: (invariants.cash_totals, Watch.conserved),
    2: (invariants.unit_totals, products.units_issued, Watch.conserved),
    3: (invariants.parts_within_balance,),
    4: (
        invariants.locks_sum,
        accounts.withdrawals_locked,
        accounts.accounts_kept,
        products.subscriptions_locked,
        products.redemptions_locked,
        trades.locks_belong,
        trades.open_items_kept,
    ),
    5: (invariants.lots_sum,),
    6: (accounts.totals_kept, Watch.totals_have_causes),
    7: (trades.offers_sum, Watch.trades_exact),
    8: (trades.settled_under_contract,),
    9: (failure_leaves_its_receipt_only,),
    10: (trades.locks_belong, Watch.trades_exact),
    11: (products.allotments,),
    12: (products.subscriptions_locked, trades.locks_belong),
    13: (products.allotments, other_blocks_give_the_same),
    14: (products.holders_counted, invariants.holdings_listed),
    15: (Watch.lock_ups_hold,),
    16: (accounts.accounts_kept, Watch.frozen_cash_stays),
    17: (Watch.trades_exact,),
    18: (contracts.signed_in_order, contracts.signatures_verify, accounts.accounts_kept),
    19: (contracts.texts_unchanged, Watch.statuses_follow),
    20: (contracts.endings_final, products.ends_kept, trades.open_items_kept, Watch.statuses_follow),
    21: (contracts.cooling_off_held,),
    22: (accounts.entrustments_kept, trades.agents_within_use, Watch.mandates_hold),
    23: (accounts.entrustments_kept, Watch.statuses_follow),
    24: (products.payments_kept, products.records_kept, queue.overdue_watched, Watch.conserved, Watch.once_only),
    25: (products.units_issued, trades.nothing_stands_on_what_matured),
    26: (accounts.withdrawals_locked, Watch.once_only),
    27: (replays_are_refused,),
    28: (accounts.recoveries_kept, governance.proposals_kept),
    29: (executing_again_gives_the_same, other_blocks_give_the_same),
    30: (executing_again_gives_the_same,),
    31: (events_alone_reproduce_balances,),
    32: (products.payments_kept, Watch.trades_exact),
    33: (
        trades.open_items_kept,
        queue.queue_indexed,
        queue.everything_scheduled,
        Watch.queue_in_order,
        other_blocks_give_the_same,
    ),
    34: (Watch.rounded,),
}


def test_all_34_invariants_are_held_by_something_that_says_so() -> None:
    assert sorted(INVARIANTS) == list(range(1, 35))
    registered = {*invariants.CHECKS, contracts.signatures_verify}
    for number, holders in INVARIANTS.items():
        for holder in holders:
            said = inspect.getsource(holder)
            assert str(number) in said, f"{holder.__name__} does not name {number}"
            is_checker = holder.__module__.startswith("otcnode")
            assert not is_checker or holder in registered, f"{holder.__name__} is not registered"
    used = {holder for holders in INVARIANTS.values() for holder in holders}
    unnamed = registered - used - {governance.governors_listed, governance.validators_admitted}
    unnamed -= {trades.quotes_kept}
    assert not unnamed, unnamed


def test_the_documented_invariants_are_these() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \| (.+) \|$", DOCUMENTED.read_text(), re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(1, 35))
    for number, _, holders in rows:
        assert re.findall(r"`(\w+)`", holders) == [holder.__name__ for holder in INVARIANTS[int(number)]]


# the world


@dataclass(frozen=True, slots=True)
class Step:
    """One block as it was executed first."""

    at: int
    transactions: tuple[Decoded, ...]
    writes: bytes
    receipts_root: bytes
    has_automatic: bool


class Replay:
    """The same transactions in other blocks, with other budgets for what is due."""

    def __init__(self, world: World, **budgets: int) -> None:
        self.view = DictionaryView(dict(world.view.values))
        parameters = State(self.view).get(PARAMETERS, SINGLE)
        assert parameters is not None
        self._budgeted = replace(parameters, **budgets)
        self._chain, self._height, self._now = world.chain, world.height, world.now
        self.receipts: dict[bytes, Receipt] = {}

    def block(self, at: int, transactions: tuple[Decoded, ...]) -> None:
        """A block of these; before it as many without any as what is due takes."""
        execution = self._begin(at)
        while transactions and execution.is_behind:
            self._end(execution)
            execution = self._begin(at)
        for decoded in transactions:
            execution.apply(decoded)
        self._end(execution)

    def finish(self) -> None:
        """Until nothing that is due is left."""
        while self._end(self._begin(self._now)).automatic:
            pass

    def _begin(self, at: int) -> BlockExecution:
        self._height += 1
        self._now = at
        execution = BlockExecution(self.view, Environment(self._chain, self._height, at, self._budgeted))
        execution.run_due()
        return execution

    def _end(self, execution: BlockExecution) -> BlockResult:
        result = execution.finish()
        self.view.write(result.writes)
        self.receipts.update({receipt.transaction: receipt for receipt in result.receipts})
        return result


class World(Council):
    """Four traders, an agent, two custodians of one currency; every block is watched and kept."""

    def __init__(self) -> None:
        self.recording = False
        self.alias: dict[str, str] = {}
        super().__init__(
            lockup_days=1, turnaround_days=1, max_holders=4, trade_fee_ppm=3_333, rate_ppm=50_000, grace_days=2
        )
        self.investor("EVE", 7_500_00)
        self.investor("BANK2")
        self.decide(RoleSet(self.ids["BANK2"], (Role.CUSTODIAN,)))
        state = self.state
        asset = CashAsset(self.ids["BANK2"], 2, 10**12, 0, 0, 0, 0, 0, 0, 0, False)
        state.put(CASH_ASSETS, OTHER_CASH.encode(), asset)
        note_total(state, OTHER_CASH, 0, 0, 0)
        self.view.write(state.writes())
        for name in ("SAM", "OWN", "ISS"):
            self.deposit(name, 2_345_67)
        for name in (*TRADERS, "ISS"):
            self.act("BANK2", CashDeposit(self.ids[name], OTHER_CASH, 9_000_00, f"first {name}"))
        self.master = self.contract(ContractKind.MASTER, None, TRADERS)

    def record(self) -> None:
        self.recording = True
        self.steps: list[Step] = []
        self.index: list[tuple[BlockResult, list[tuple[bytes, bytes]]]] = []
        """Each block with its index entries, as they were made right after it."""
        self.receipts: dict[bytes, Receipt] = {}
        self.codes: Counter[tuple[str, Code]] = Counter()
        self.watcher = Watch()
        self.kept, self.kept_after = dict(self.view.values), 0

    def sign(self, by: str, *operations: Operation, **options: Any) -> Decoded:
        """By the keys that the account has now: a recovery changed them."""
        if options.get("keys") is None:
            name = self.alias.get(by, by)
            options["keys"] = [key_of(name, options.get("purpose", TRADE))]
        return super().sign(by, *operations, **options)

    def act(self, by: str, *operations: Operation, **options: Any) -> Receipt:
        """In a life anything may be refused: only the helpers that need a success look."""
        if not self.recording:
            return super().act(by, *operations, **options)
        at = self.now + 1 if options.get("at") is None else options["at"]
        decoded = self.sign(by, *operations, purpose=options.get("purpose", TRADE), valid_until=at + 1)
        return self.block(decoded, at=at).receipts[0]

    def block(self, *transactions: Decoded, at: int | None = None) -> BlockResult:
        if not self.recording:
            return super().block(*transactions, at=at)
        at = self.now + 1 if at is None else at
        if transactions:
            self.catch_up(at)
        before = DictionaryView(dict(self.view.values))
        height, now = self.height, self.now
        try:
            result = super().block(*transactions, at=at)
        except Inadmissible:
            self.height, self.now = height, now
            raise
        self.watcher.block(State(before), self.state, result, at)
        failure_leaves_its_receipt_only(self, before, result, at)
        self.receipts.update({receipt.transaction: receipt for receipt in result.receipts})
        for decoded, receipt in zip(transactions, result.receipts, strict=True):
            for operation in decoded.transaction.body.operations:
                self.codes[type(operation).__name__, receipt.code] += 1
        for item in result.automatic:
            self.codes[item.kind, item.code] += 1
        for event in result.events:
            if isinstance(event, RecoveryChanged) and event.status is RecoveryStatus.COMPLETED:
                name = self.name_of(event.account)
                self.alias[name] = self.alias.get(name, name) + "'"
        self.index.append((result, event_index(self.height, result, self.view)))
        writes = encode(tuple(result.writes.items()))
        self.steps.append(Step(at, transactions, writes, result.receipts_root(), bool(result.automatic)))
        if len(self.steps) % 50 == 0:
            self.kept, self.kept_after = dict(self.view.values), len(self.steps)
        return result

    def signature(self, name: bytes, slot: int, party: str) -> Any:
        signed = super().signature(name, slot, party)
        return signed if party not in self.alias else replace(signed, key=key_of(self.alias[party], SIGN).public)

    def name_of(self, account: bytes) -> str:
        return next(name for name, known in self.ids.items() if known == account)


@cache
def ready() -> World:
    world = World()
    world.record()
    return world


Act = tuple[str, Operation, KeyPurpose]


LIVELY = frozenset({ProductStatus.APPROVED, ProductStatus.OPEN, ProductStatus.ALLOTTED, ProductStatus.ACTIVE})


MOVABLE = frozenset({ProductStatus.ACTIVE, ProductStatus.PAYMENT_OVERDUE, ProductStatus.DEFAULTED})


class Fate(Chooser):
    """Chooses what somebody does next, looking at the state so that most of it succeeds."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._number = 0

    def one(self, values: Iterable[V]) -> V | None:
        found = list(values)
        return self.pick(found) if found else None

    def sometimes(self) -> bool:
        return self._random.random() < 0.25

    def when(self, world: World) -> int:
        """Mostly soon; often just before, at or after what comes next by itself; now and then after much of that."""
        if self._random.random() < 0.012:
            coming = sorted({due_time(key) for key, _ in world.state.scan(DUE)})[: self.pick((4, 12))]
            return max(world.now, coming[-1] + self.pick((-1, 0, 0))) if coming else world.now
        due = next_due(world.view)
        if due is not None and due > world.now and self._random.random() < 0.07:
            return max(world.now, due + self.pick((-1, 0, 0, 1)))
        return world.now + self.pick((0, 0, 1, 1, 1, 1, 1, 2, 1_000, 60_000, 60_000, HOUR_MS // 2))

    def step(self, world: World) -> None:
        alive = [name for name, record in world.state.scan(PRODUCTS) if record.status in LIVELY]
        if self._random.random() < (0.05 if len(alive) < 2 else 0.002):
            self.issue(world)
            return
        note = self.one(name for name, record in world.state.scan(PRODUCTS) if record.status is ProductStatus.ACTIVE)
        world.note = note if note is not None else world.note
        chosen: Act | None = None
        while chosen is None:
            hurry = paused(world.state) and self.rarely()
            chosen = self.governing(world) if hurry else self.pick(self.ACTS)(self, world)
        by, operation, purpose = chosen
        at = self.when(world)
        options: dict[str, Any] = {"purpose": purpose, "valid_until": at + self.pick((1, 1, 60_000))}
        if self._random.random() < 0.03:
            by = self.pick((*TRADERS, "ISS", "BANK", "LIST", "AGT"))
        elif by in TRADERS and purpose is TRADE and self._random.random() < 0.5:
            entrusted = self.one(
                (name, record)
                for name, record in world.state.scan(ENTRUSTMENTS)
                if record.status is EntrustmentStatus.ACTIVE and record.principal == world.ids[by]
            )
            if entrusted is not None:
                options |= {"on_behalf_of": world.ids[by], "entrustment": entrusted[0]}
                by = "AGT"
        operations = [operation]
        if self._random.random() < 0.2:
            more = [self.pick(self.ACTS)(self, world) for _ in range(12)]
            operations += [act[1] for act in more if act is not None and (act[0], act[2]) == (chosen[0], purpose)]
        try:
            world.block(world.sign(by, *operations, **options), at=at)
        except Inadmissible:
            world.block(at=at)

    # what there is to do

    def trading(self, world: World) -> Act | None:
        return (*self.act(world), TRADE)

    def depositing(self, world: World) -> Act:
        cash = self.pick(CUSTODIANS)
        self._number += 1
        account = world.ids[self.pick((*TRADERS, "ISS"))]
        reference = f"d{self._number}" if self._random.random() < 0.9 else "again"
        return CUSTODIANS[cash], CashDeposit(account, cash, self.pick((1, 99_99, 3_000_00)), reference), TRADE

    def withdrawing(self, world: World) -> Act | None:
        standing = [e for e in world.state.scan(WITHDRAWALS) if e[1].status is WithdrawalStatus.LOCKED]
        found = self.one(standing)
        if found is None or self._random.random() < 0.4:
            by, cash = self.pick((*TRADERS, "ISS", "ISS")), self.pick(CUSTODIANS)
            balance = world.state.get(CASH_BALANCES, world.ids[by] + cash.encode())
            amount = balance.available if balance is not None else 1
            return by, CashWithdraw(cash, self.pick((amount, amount // 2, 1)), EVIDENCE), TRADE
        name, record = found
        if self.rarely():
            return world.name_of(record.account), CashWithdrawCancel(name), TRADE
        self._number += 1
        paid = not self.rarely()
        return CUSTODIANS[record.cash], CashWithdrawResult(name, paid, f"w{self._number}", "" if paid else "no"), TRADE

    def freezing(self, world: World) -> Act:
        freezes = [name for name, _ in world.state.scan(FREEZES)]
        found = self.one(freezes)
        if found is not None and self._random.random() < 0.6:
            return "REG", AccountUnfreeze(found, ORDER), TRADE
        account = world.ids[self.pick((*TRADERS, "ISS"))]
        asset, amount = self.pick(((None, 0), (CASH.encode(), 10_00), (world.note, 3), (OTHER_CASH.encode(), 1)))
        by, span = self.pick((("REG", None), ("REG", HOUR_MS), ("FRZ", DAY_MS)))
        return by, AccountFreeze(account, asset, amount, ORDER, None if span is None else world.now + span), TRADE

    def certifying(self, world: World) -> Act:
        until = world.now + self.pick((1, HOUR_MS, DAY_MS, 300 * DAY_MS, 300 * DAY_MS, 300 * DAY_MS))
        certificate = InvestorCertify(
            world.ids[self.pick(TRADERS)], 3, Category.QUALIFIED, until, self.pick((1, 1, 2)), EVIDENCE
        )
        return "KYC", certificate, TRADE

    def entrusting(self, world: World) -> Act | None:
        found = self.one(world.state.scan(ENTRUSTMENTS))
        if found is None or self._random.random() < 0.4:
            cap = self.pick((5_000_00, 100_000_00))
            powers = world.powers(
                per_action_cap=cap,
                total_cap=self.pick((cap, 3 * cap)),
                until=world.now + self.pick((DAY_MS, 9 * DAY_MS)),
            )
            return self.pick(TRADERS), EntrustGrant(world.ids["AGT"], powers), MANAGE
        name, record = found
        if record.status is EntrustmentStatus.PROPOSED:
            return "AGT", EntrustAccept(name), MANAGE
        return (world.name_of(record.principal), EntrustRevoke(name), MANAGE) if self.sometimes() else None

    def redeeming(self, world: World) -> Act | None:
        standing = [e for e in world.state.scan(REDEMPTIONS) if e[1].status is RedemptionStatus.REQUESTED]
        found = self.one(standing)
        if found is not None and self._random.random() < 0.7:
            return "ISS", RedeemDecide(found[0], not self.rarely(), "because"), TRADE
        until = world.now + self.pick((3 * DAY_MS, 9 * DAY_MS))
        return self.pick(TRADERS), RedeemRequest(world.note, self.pick((1, 3)), until), TRADE

    @staticmethod
    def _is_cooling_off(world: World, contract: bytes) -> bool:
        record = world.state.get(CONTRACTS, contract)
        return record is not None and record.status is ContractStatus.SIGNED

    def subscribing(self, world: World) -> Act | None:
        locked = [e for e in world.state.scan(SUBSCRIPTIONS) if e[1].status is SubscriptionStatus.LOCKED]
        cooling = [e for e in locked if self._is_cooling_off(world, e[1].contract)]
        # few are ever waiting for a callback, and none for long
        found = self.one(cooling or locked)
        if found is None:
            return None
        name, entry = found
        investor = world.name_of(entry.account)
        if cooling:
            if self.rarely():
                return investor, ContractRescind(entry.contract), SIGN
            return "CALL", ContractCallback(entry.contract, EVIDENCE), TRADE
        return (investor, ProductCancelSubscription(name), TRADE) if self.rarely() else None

    def governing(self, world: World) -> Act:
        found = self.one(e for e in world.state.scan(PROPOSALS) if e[1].status is ProposalStatus.PROPOSED)
        if found is not None:
            return "RCV", GovernanceApprove(found[0]), MANAGE
        sender, recipient = self._random.sample(TRADERS, 2)
        issued = [name for name, record in world.state.scan(PRODUCTS) if record.status in MOVABLE]
        moved = issued[len(world.steps) % len(issued)] if issued else world.note
        item = self.one(world.state.scan(TRADES))
        contract = self.one(name for name, _ in world.state.scan(CONTRACTS))
        if paused(world.state):
            return "REG", GovernancePropose(MarketPause(False), "why", PAPER), MANAGE
        actions: list[Any] = [
            CashCorrect(world.ids[sender], CASH, self.pick((1, 50_00)), self.pick(Direction)),
            ForcedTransfer(world.ids[sender], world.ids[recipient], moved, self.pick((1, 4)), ()),
            MarketPause(True),
        ]
        if item is not None:
            actions.append(ItemCancel(ItemKind.TRADE, item[0]))
        if contract is not None and contract != world.master and self.rarely():
            actions.append(ContractTerminate(contract))
        return "REG", GovernancePropose(self.pick(actions), "why", PAPER), MANAGE

    def recovering(self, world: World) -> Act | None:
        standing = [
            e for e in world.state.scan(RECOVERIES) if e[1].status in (RecoveryStatus.PROPOSED, RecoveryStatus.DELAYED)
        ]
        found = self.one(standing)
        if found is None:
            name = self.pick(TRADERS)
            fresh = world.alias.get(name, name) + "'"
            keys = tuple(NewKey(purpose, key_of(fresh, purpose).public) for purpose in KeyPurpose)
            return (
                "RCV",
                AccountRecover(world.ids[name], keys, Thresholds(1, 1, 1), bytes(32), EVIDENCE),
                TRADE,
            )
        if found[1].status is RecoveryStatus.PROPOSED:
            return "REG", AccountRecoverApprove(found[0]), TRADE
        return (world.name_of(found[1].account), AccountObject(), MANAGE) if self.sometimes() else None

    def adding_keys(self, world: World) -> Act:
        self._number += 1
        return self.pick(TRADERS), KeyAdd(SIGN, SigningKey(sha256(bytes([self._number % 256]))).public), MANAGE

    def cancelling(self, world: World) -> Act | None:
        found = self.one(name for name, record in world.state.scan(PRODUCTS) if record.status is ProductStatus.OPEN)
        if found is None or not self.rarely():
            return None
        return self.pick(("LIST", "REG", "ISS")), ProductCancel(found, "no more"), TRADE

    ACTS: tuple[Callable[[Fate, World], Act | None], ...] = (
        *[trading] * 16,
        *[depositing] * 2,
        *[withdrawing] * 2,
        *[freezing] * 2,
        certifying,
        *[entrusting] * 2,
        *[redeeming] * 2,
        *[subscribing] * 2,
        *[governing] * 2,
        recovering,
        adding_keys,
        cancelling,
    )

    def issue(self, world: World) -> None:
        """A new product and its subscribers, in a dozen transactions; whatever is refused ends it here."""
        if paused(world.state):
            return
        self._number += 1
        offset = self.pick((-720, 0, 480, 840))
        today = (world.now + offset * 60_000) // DAY_MS
        value_date = today + 3
        fixed = not self.rarely()
        terms: dict[str, Any] = {
            "type": ProductType.FIXED_NOTE if fixed else ProductType.DISCOUNT_NOTE,
            "rate_ppm": 60_000 if fixed else 0,
            "pay_dates": (value_date + 5, value_date + 20) if fixed else (),
            "maturity": value_date + 20,
            "value_date": value_date,
            "utc_offset_minutes": offset,
            "open": world.now,
            "close": world.now + self.pick((DAY_MS, 2 * DAY_MS)),
            "cash": self.pick(CUSTODIANS),
            "offered": 40,
            "min_raise": self.pick((1, 1, 30)),
            "min_allotment": self.pick((0, 0, 5)),
            "max_holders": self.pick((2, 4, 6)),
            "lockup_days": self.pick((0, 1)),
            "turnaround_days": self.pick((0, 1)),
            "trade_fee_ppm": self.pick((0, 3_333)),
            "grace_days": self.pick((0, 2)),
            "cooling_off": CoolingOffRule(HOUR_MS, True) if self.sometimes() else CoolingOffRule(0, False),
        }
        try:
            terms["contract"] = world.contract(ContractKind.ISSUANCE, None, ("ISS", "BANK"))
            product = world.approved(f"N{self._number}", **terms)
            for name in self._random.sample(TRADERS, self.pick((1, 2, 3, 4))):
                cooling = world.product_terms(product).cooling_off.callback
                effective = CoolingOff(HOUR_MS, True) if cooling else Immediately()
                contract = world.subscription_contract(product, name, effective)
                world.act(name, ProductSubscribe(product, self.pick((3, 8, 20, 25)), contract))
        except (ValueError, Inadmissible):
            return


def remembered(values: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The state but for ids of transactions, forgotten block by block, and totals by height."""
    return {key: value for key, value in values.items() if key[:1] not in (b"\x02", b"\x53")}


def without_ids(writes: dict[bytes, bytes | None]) -> dict[bytes, bytes | None]:
    return {key: value for key, value in writes.items() if key[:1] != b"\x02"}


def live(seed: int, steps: int) -> World:
    world, fate = deepcopy(ready()), Fate(seed)
    while len(world.steps) < steps:
        fate.step(world)
    if paused(world.state):
        proposal = world.put_forward(MarketPause(False))
        world.approve(proposal)
    world.block(at=world.now + 40 * DAY_MS)
    while world.block(at=world.now + 1).automatic:
        pass
    return world


@cache
def whole_life(seed: int, steps: int) -> World:
    world, first = live(seed, steps), ready()
    replays_are_refused(world)
    executing_again_gives_the_same(world, first)
    other_blocks_give_the_same(world, first)
    events_alone_reproduce_balances(world)
    any_later_state_gives_the_same_index(world)
    assert not list(contracts.signatures_verify(world.state, world.chain))
    return world


SEEDS, STEPS = range(8), 400
NOT_IN_LIVES = {
    "AccountApply",
    "AccountReview",
    "AccountClose",
    "KeyRevoke",
    "KeyRotate",
    "EntrustDecline",
    "ContractRevise",
    "ContractReject",
    "ContractVoid",
    "ContractRescind",
    "ContractAccede",
    "DisclosurePost",
    "CustodyAttest",
    "CustodyResume",
    "ValidatorReady",
    "ValidatorRotate",
    "EvidencePost",
    "AccessLog",
    "DocumentFile",
    "DocumentWithdraw",
}
"""Without influence on balances, or about heights; the tests of their families have them."""


@pytest.mark.parametrize("seed", SEEDS)
def test_whole_lives_keep_every_invariant(seed: int) -> None:
    whole_life(seed, STEPS)


def test_whole_lives_get_everywhere() -> None:
    """A property over lives in which an operation never succeeds would say nothing about it."""
    codes: Counter[tuple[str, Code]] = Counter()
    for seed in SEEDS:
        codes += whole_life(seed, STEPS).codes
    succeeded = {name for name, code in codes if code is Code.OK}
    assert {operation.__name__ for operation in OPERATIONS} - succeeded <= NOT_IN_LIVES
    assert len({code for _, code in codes}) >= 20, "many are wrong on purpose"


def test_a_ledger_that_depends_on_how_blocks_are_cut_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: transactions do not wait for what is due before them."""
    lives = [whole_life(seed, STEPS) for seed in SEEDS]
    monkeypatch.setattr(BlockExecution, "is_behind", property(lambda execution: False))
    monkeypatch.setattr(BlockExecution, "apply", hurried)
    noticed = 0
    for world in lives:
        try:
            other_blocks_give_the_same(world, ready())
        except (AssertionError, Inadmissible):
            noticed += 1
    assert noticed


APPLY = BlockExecution.apply


def hurried(execution: BlockExecution, decoded: Decoded) -> Receipt:
    execution._is_behind = False
    return APPLY(execution, decoded)


@pytest.mark.parametrize("seed", range(3))
def test_lives_under_a_queue_that_is_behind(seed: int) -> None:
    """One due item per block and lane: what waits is no excuse for a broken invariant."""
    world, fate = deepcopy(ready()), Fate(seed)
    world.limit(due_class1_weight_max=1, due_weight_max=1)
    while len(world.steps) < STEPS:
        fate.step(world)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1_000, 1_100))
def test_many_long_lives_keep_every_invariant(seed: int) -> None:
    whole_life(seed, 1_000)
