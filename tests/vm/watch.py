"""Properties of one block: what it may do to a state, seen from before, from after and from what it reports.

They complete the checkers of single states (vm/invariants.py): each method names the invariants it holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from otcnode.codec import decode, encode
from otcnode.errors import Code
from otcnode.vm.accounts import entrustments, recovery
from otcnode.vm.accounts.events import (
    AccountUnfrozen,
    CashDeposited,
    CashMoved,
    CashTotalMoved,
    EntrustmentUsed,
    LotMoved,
    UnitsMoved,
    UnitsTotalMoved,
    WithdrawalChanged,
)
from otcnode.vm.accounts.records import (
    ACCOUNTS,
    CASH_ASSETS,
    CASH_BALANCES,
    ENTRUSTMENTS,
    RECOVERIES,
    WITHDRAWALS,
    AccountStatus,
    Scope,
    WithdrawalStatus,
)
from otcnode.vm.arithmetic import PPM
from otcnode.vm.contracts import lifecycle as contracts
from otcnode.vm.contracts.records import CONTRACT_TEXTS, CONTRACTS
from otcnode.vm.due import DUE, due_time
from otcnode.vm.events import Event
from otcnode.vm.governance.events import CashCorrected, UnitsForced
from otcnode.vm.governance.records import PROPOSALS, ProposalStatus
from otcnode.vm.keys import Table
from otcnode.vm.products.events import ProductPaid
from otcnode.vm.products.records import (
    PRODUCT_TERMS,
    PRODUCTS,
    REDEMPTIONS,
    SUBSCRIPTION_TRANSITIONS,
    SUBSCRIPTIONS,
    TRANSITIONS,
    ProductStatus,
    RedemptionStatus,
)
from otcnode.vm.results import AutomaticReceipt, BlockResult, Receipt
from otcnode.vm.state import State
from otcnode.vm.trades.events import TradeChanged, TradeExecuted
from otcnode.vm.trades.records import (
    OFFER_TRANSITIONS,
    OFFERS,
    QUOTE_TRANSITIONS,
    QUOTES,
    RFQ_TRANSITIONS,
    RFQS,
    TRADE_TRANSITIONS,
    TRADES,
    TradeStatus,
)

_A, _W, _P, _R = AccountStatus, WithdrawalStatus, ProposalStatus, RedemptionStatus
Transitions = Mapping[Any, frozenset[Any]]

MACHINES: tuple[tuple[Table[Any], Transitions], ...] = (
    (
        ACCOUNTS,
        {
            _A.PENDING: frozenset({_A.ACTIVE, _A.REJECTED}),
            _A.ACTIVE: frozenset({_A.RECOVERING, _A.CLOSED}),
            _A.RECOVERING: frozenset({_A.ACTIVE}),
        },
    ),
    (PRODUCTS, TRANSITIONS),
    (CONTRACTS, contracts.TRANSITIONS),
    (SUBSCRIPTIONS, SUBSCRIPTION_TRANSITIONS),
    (RFQS, RFQ_TRANSITIONS),
    (QUOTES, QUOTE_TRANSITIONS),
    (OFFERS, OFFER_TRANSITIONS),
    (TRADES, TRADE_TRANSITIONS),
    (REDEMPTIONS, {_R.REQUESTED: frozenset({_R.PAID, _R.REJECTED, _R.EXPIRED})}),
    (WITHDRAWALS, {_W.LOCKED: frozenset({_W.PAID, _W.REJECTED, _W.CANCELLED})}),
    (ENTRUSTMENTS, entrustments.TRANSITIONS),
    (RECOVERIES, recovery.TRANSITIONS),
    (PROPOSALS, {_P.PROPOSED: frozenset({_P.EXECUTED, _P.EXPIRED, _P.CANCELLED})}),
)
MOVERS = (CashTotalMoved, UnitsTotalMoved, UnitsForced, ProductPaid)
"""Reports of what moves cash or units beside trades."""
LIVING_ON = frozenset({ACCOUNTS.prefix, PRODUCTS.prefix})
"""Their records change after the end: certificates of closed accounts, disclosures on products that matured."""


class Watch:
    """Remembers what may happen once only, over one life of a ledger."""

    def __init__(self) -> None:
        self._paid: set[tuple[bytes, int]] = set()
        self._references: set[tuple[str, str, str]] = set()

    def block(self, before: State, after: State, result: BlockResult, time_ms: int) -> None:
        self.queue_in_order(before, after, result, time_ms)
        self.statuses_follow(before, after, result)
        self.frozen_cash_stays(before, after, result)
        receipts: list[AutomaticReceipt | Receipt] = [*result.automatic, *result.receipts]
        for receipt in receipts:
            assert decode(type(receipt), encode(receipt)) == receipt, "what is reported can be read"
            self.conserved(receipt)
            self.totals_have_causes(receipt)
            self.once_only(receipt)
            self.lock_ups_hold(receipt, time_ms)
            self.trades_exact(before, after, receipt)
            self.mandates_hold(after, receipt, time_ms)
            if receipt.code is not Code.OK:
                assert not receipt.events, "9: a failure reports nothing"

    def queue_in_order(self, before: State, after: State, result: BlockResult, time_ms: int) -> None:
        """33: what was due runs in its order, each item once; and no transaction before something that was due."""
        waiting = {key: entry for key, entry in before.scan(DUE) if due_time(key) <= time_ms}
        places = {(entry.item, entry.kind): key[1:] for key, entry in waiting.items()}
        ran = [(receipt.item, receipt.kind) for receipt in result.automatic]
        known = [places[name] for name in ran if name in places]
        once = [name for name in ran if name in places]
        assert len(set(once)) == len(once) or len(set(ran)) < len(ran), "33: twice"
        firsts = [places[name] for name in dict.fromkeys(once)]
        assert firsts == sorted(firsts), f"33: out of order: {known}"
        if result.receipts:
            assert not any(after.get(DUE, key) is not None for key in waiting), "33: transactions came first"

    def statuses_follow(self, before: State, after: State, result: BlockResult) -> None:
        """19: no text changes once it is being signed. 20: statuses follow their tables; what has ended is as it was.
        23: what is used of an entrustment never falls."""
        machines = {table.prefix: (table, transitions) for table, transitions in MACHINES}
        for key in result.writes:
            found = machines.get(key[:1])
            if found is None:
                continue
            table, transitions = found
            old, new = before.get(table, key[1:]), after.get(table, key[1:])
            if old is None:
                continue
            if new is None:
                assert table is ACCOUNTS and old.status is _A.PENDING, "20: only applications are dropped"
                continue
            assert new.status in reachable(transitions, old.status), f"20: {old.status} to {new.status}"
            if old.status not in transitions and table.prefix not in LIVING_ON:
                assert old == new, f"20: {table} changed after its end"
            if table is CONTRACTS and old.signing_at is not None:
                assert (old.version, old.terms_hash, old.document) == (new.version, new.terms_hash, new.document), "19"
                assert before.get(CONTRACT_TEXTS, key[1:]) == after.get(CONTRACT_TEXTS, key[1:]), "19"
            if table is ENTRUSTMENTS:
                assert new.used >= old.used, "23"

    def frozen_cash_stays(self, before: State, after: State, result: BlockResult) -> None:
        """16: the cash of an account under a FULL freeze never falls."""
        freed = {event.account for event in result.events if isinstance(event, AccountUnfrozen)}
        for name, account in before.scan(ACCOUNTS):
            if not account.full_freezes or name in freed:
                continue
            for key, balance in before.scan(CASH_BALANCES, name):
                now = after.get(CASH_BALANCES, key)
                assert now is not None and now.balance >= balance.balance, f"16: {name.hex()}"

    def conserved(self, receipt: AutomaticReceipt | Receipt) -> None:
        """1, 2, 6, 24: within one act, what one side gets the other gives, but for what comes into being or ends."""
        cash: Counter[str] = Counter()
        units: Counter[bytes] = Counter()
        lots: Counter[tuple[bytes, bytes]] = Counter()
        for event in receipt.events:
            match event:
                case CashMoved(cash=name, balance=change):
                    cash[name] += change
                case CashTotalMoved(cash=name, change=change):
                    cash[name] -= change
                case UnitsMoved(account=account, product=product, balance=change):
                    units[product] += change
                    lots[account, product] += change
                case UnitsTotalMoved(product=product, issued=issued, redeemed=redeemed):
                    units[product] -= issued - redeemed
                case LotMoved(account=account, product=product, change=change):
                    lots[account, product] -= change
        assert not any((*cash.values(), *units.values(), *lots.values())), receipt

    def totals_have_causes(self, receipt: AutomaticReceipt | Receipt) -> None:
        """6: only deposits and corrections raise what all hold, only paid withdrawals and corrections lower it."""
        change = sum(event.change for event in receipt.events if isinstance(event, CashTotalMoved))
        for event in receipt.events:
            if isinstance(event, CashDeposited):
                change -= event.amount
            elif isinstance(event, CashCorrected):
                change -= event.change
        paid = any(isinstance(event, WithdrawalChanged) and event.status is _W.PAID for event in receipt.events)
        assert change == 0 or (paid and change < 0), "6"

    def once_only(self, receipt: AutomaticReceipt | Receipt) -> None:
        """24: each payment at most once. 26: each bank reference at most once per direction."""
        for event in receipt.events:
            if isinstance(event, ProductPaid):
                assert (event.product, event.date) not in self._paid, "24"
                self._paid.add((event.product, event.date))
            if isinstance(event, CashDeposited):
                assert (event.cash, "I", event.bank_reference) not in self._references, "26"
                self._references.add((event.cash, "I", event.bank_reference))

    def lock_ups_hold(self, receipt: AutomaticReceipt | Receipt, time_ms: int) -> None:
        """15: units leave a lot before its lock-up ends by forced transfer or maturity only."""
        if any(isinstance(event, UnitsForced | ProductPaid) for event in receipt.events):
            return
        for event in receipt.events:
            if isinstance(event, LotMoved) and event.change < 0:
                assert event.lockup_until <= time_ms, "15"

    def trades_exact(self, before: State, after: State, receipt: AutomaticReceipt | Receipt) -> None:
        """7, 10, 17, 32, 34: a settled trade moves its quantity and money, exactly; one that ended else, nothing."""
        cash: Counter[bytes] = Counter()
        units: Counter[bytes] = Counter()
        for event in receipt.events:
            if isinstance(event, CashMoved):
                cash[event.account] += event.balance
            elif isinstance(event, UnitsMoved):
                units[event.account] += event.balance
            elif isinstance(event, TradeExecuted):
                self.rounded(after, event)
        alone = sum(isinstance(event, MOVERS) or is_settled(event) for event in receipt.events) <= 1
        for event in receipt.events:
            if not isinstance(event, TradeChanged):
                continue
            trade = after.get(TRADES, event.trade)
            assert trade is not None
            if event.status is TradeStatus.SETTLED:
                rule, product = after.get(PRODUCT_TERMS, trade.product), before.get(PRODUCTS, trade.product)
                assert rule is not None and product is not None and not product.suspended, "32"
                assert product.status is ProductStatus.ACTIVE, "32"
                owed: Counter[bytes] = Counter({trade.buyer: -trade.cost})
                owed[trade.seller] += trade.proceeds
                owed[rule.fee_payee] += 2 * trade.fee
                assert not alone or nonzero(cash) == nonzero(owed), "7"
                assert not alone or nonzero(units) == {trade.buyer: trade.quantity, trade.seller: -trade.quantity}, "7"
                buyers = [state.get(ACCOUNTS, trade.buyer) for state in (before, after)]
                ends = [buyer.certificate.valid_until for buyer in buyers if buyer and buyer.certificate]
                assert trade.ended_at is not None and max(ends, default=0) > trade.ended_at, "17"
            elif event.status in (TradeStatus.FAILED, TradeStatus.CANCELLED, TradeStatus.EXPIRED):
                moved = any(isinstance(other, MOVERS) or is_settled(other) for other in receipt.events)
                assert moved or (not nonzero(cash) and not nonzero(units)), "10"

    def rounded(self, state: State, event: TradeExecuted) -> None:
        """34: no rounding is off by more than half a minor unit."""
        rule = state.get(PRODUCT_TERMS, event.product)
        assert rule is not None
        asset = state.get(CASH_ASSETS, rule.cash.encode())
        assert asset is not None
        exact = Fraction(event.quantity * event.price * 10**asset.decimals, 10 ** (rule.quantity_decimals + 4))
        assert abs(event.clean - exact) <= Fraction(1, 2), "34"
        assert abs(event.fee - Fraction(event.clean * rule.trade_fee_ppm, PPM)) <= Fraction(1, 2), "34"

    def mandates_hold(self, after: State, receipt: AutomaticReceipt | Receipt, time_ms: int) -> None:
        """22: what an agent commits is within its caps and its time."""
        for event in receipt.events:
            if isinstance(event, EntrustmentUsed):
                record = after.get(ENTRUSTMENTS, event.entrustment)
                assert record is not None
                powers = record.powers
                assert event.amount <= powers.per_action_cap and event.used <= powers.total_cap, "22"
                assert powers.valid_from <= time_ms < powers.until, "22"
                assert set(powers.scopes) & {Scope.SUBSCRIBE, Scope.TRADE, Scope.REDEEM}, "22"


def is_settled(event: Event) -> bool:
    return isinstance(event, TradeChanged) and event.status is TradeStatus.SETTLED


def reachable(transitions: Transitions, status: Any) -> set[Any]:
    """What a status can have become within one block."""
    found, fresh = {status}, [status]
    while fresh:
        following = transitions.get(fresh.pop(), frozenset()) - found
        found |= following
        fresh += sorted(following)
    return found


def nonzero(counts: Counter[bytes]) -> dict[bytes, int]:
    return {name: amount for name, amount in counts.items() if amount}
