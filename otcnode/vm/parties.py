"""Whom an event concerns: the accounts that may read it, in one table over all events. Pure.

Most events name their accounts. Those that name a contract, a trade, a request or a cash id concern its parties, who
are looked up in the state; an item's parties never change once it is there, so any later state gives the same answer.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from otcnode.vm.accounts import events as accounts
from otcnode.vm.accounts.records import CASH_ASSETS, WITHDRAWALS
from otcnode.vm.contracts import events as contracts
from otcnode.vm.contracts.records import CONTRACTS
from otcnode.vm.documents import events as documents
from otcnode.vm.events import Event
from otcnode.vm.governance import events as governance
from otcnode.vm.keys import Table
from otcnode.vm.products import events as products
from otcnode.vm.products.records import PRODUCTS
from otcnode.vm.trades import events as trades
from otcnode.vm.trades.records import RFQS, TRADES
from otcnode.vm.view import StateView

Parties = tuple[bytes, ...]
Find = Callable[["Records", Any], Parties]

_UNREAD = object()
"""In place of a record that was not looked for yet."""
EVERYBODY = b""
"""Among the parties of an event: whoever asks may read it."""


class Records:
    """Records of a state, each decoded once: many events of a block concern the same few."""

    __slots__ = ("_known", "_view")

    def __init__(self, view: StateView) -> None:
        self._view = view
        self._known: dict[bytes, Any] = {}

    def get(self, table: Table[Any], name: bytes) -> Any:
        key = table.prefix + name
        record = self._known.get(key, _UNREAD)
        if record is _UNREAD:
            raw = self._view.get(key)
            record = self._known[key] = None if raw is None else table.decode(raw)
        return record


def _named(*fields: str) -> Find:
    """The accounts in these fields of the event."""
    if len(fields) == 1:
        account = attrgetter(fields[0])
        return lambda records, event: (account(event),)
    return lambda records, event: tuple([getattr(event, field) for field in fields])


def _owner_and_recipients(records: Records, event: Any) -> Parties:
    return (event.owner, *event.recipients)


def _everybody(records: Records, event: Any) -> Parties:
    return (EVERYBODY,)


def contract_parties(records: Records, name: bytes) -> Parties:
    """The creator and every slot's account."""
    record = records.get(CONTRACTS, name)
    return () if record is None else (record.creator, *(slot.account for slot in record.slots))


def _of_contract(*fields: str) -> Find:
    def find(records: Records, event: Any) -> Parties:
        return (*contract_parties(records, event.contract), *(getattr(event, field) for field in fields))

    return find


def _of_custodian(records: Records, event: Any) -> Parties:
    record = records.get(CASH_ASSETS, event.cash.encode())
    return () if record is None else (record.custodian,)


def _holder_and_custodian(records: Records, event: Any) -> Parties:
    return (event.account, *_of_custodian(records, event))


def _of_withdrawal(records: Records, event: Any) -> Parties:
    record = records.get(WITHDRAWALS, event.withdrawal)
    return (event.account,) if record is None else (event.account, *_of_custodian(records, record))


def _holder_and_issuer(records: Records, event: Any) -> Parties:
    record = records.get(PRODUCTS, event.product)
    return (event.account,) if record is None else (event.account, record.issuer)


def _of_trade(records: Records, event: Any) -> Parties:
    record = records.get(TRADES, event.trade)
    return (event.account,) if record is None else (record.buyer, record.seller)


def _of_quote(records: Records, event: Any) -> Parties:
    """The one who quotes and the one who asked; the other responders never learn of it."""
    record = records.get(RFQS, event.rfq)
    return (event.responder,) if record is None else (event.responder, record.requester)


def _requested(records: Records, event: Any) -> Parties:
    record = records.get(RFQS, event.rfq)
    return (event.requester,) if record is None else (event.requester, *record.responders)


def _asked(records: Records, event: Any) -> Parties:
    return (event.requester, *event.responders)


_account = _named("account")
_both = _named("buyer", "seller")
_entrusted = _named("principal", "agent")
_contract = _of_contract()

_NOBODY: Find = _named()
"""For roles that see everything of the kind only."""

PARTIES: dict[type[Any], Find] = {
    accounts.CashMoved: _account,
    accounts.CashTotalMoved: _of_custodian,
    accounts.UnitsMoved: _account,
    accounts.LotMoved: _account,
    accounts.UnitsTotalMoved: _everybody,
    accounts.LockOpened: _account,
    accounts.LockReduced: _account,
    accounts.AccountApplied: _account,
    accounts.AccountChanged: _account,
    accounts.InvestorCertified: _account,
    accounts.AccountFrozen: _account,
    accounts.AccountUnfrozen: _account,
    accounts.KeyAdded: _account,
    accounts.KeyRevoked: _account,
    accounts.CashDeposited: _holder_and_custodian,
    accounts.WithdrawalChanged: _of_withdrawal,
    accounts.EntrustmentChanged: _entrusted,
    accounts.EntrustmentUsed: _entrusted,
    accounts.RecoveryChanged: _account,
    accounts.CloseRequested: _account,
    accounts.ReconOk: _of_custodian,
    accounts.ReconBreak: _of_custodian,
    accounts.DepositsResumed: _of_custodian,
    contracts.ContractCreated: _of_contract("creator"),
    contracts.ContractRevised: _contract,
    contracts.ContractConfirmed: _of_contract("by"),
    contracts.ContractSlotSigned: _of_contract("by"),
    contracts.ContractCalledBack: _of_contract("by"),
    contracts.ContractAcceded: _of_contract("account"),
    contracts.ContractChanged: _contract,
    products.ProductDrafted: _everybody,
    products.ProductChanged: _everybody,
    products.ProductCancelRequested: _everybody,
    products.ProductSuspended: _everybody,
    documents.DocumentFiled: _owner_and_recipients,
    documents.DocumentWithdrawn: _owner_and_recipients,
    products.DisclosurePosted: _everybody,
    products.Subscribed: _holder_and_issuer,
    products.SubscriptionChanged: _holder_and_issuer,
    products.ProductAllotted: _everybody,
    products.ProductPaid: _everybody,
    products.PaymentOverdue: _everybody,
    products.RedemptionRequested: _holder_and_issuer,
    products.RedemptionChanged: _holder_and_issuer,
    trades.TradeProposed: _named("proposer", "counterparty"),
    trades.TradeExecuted: _both,
    trades.TradeChanged: _both,
    trades.TradeCancelAsked: _of_trade,
    trades.OfferListed: _account,
    trades.OfferFilled: _account,
    trades.OfferChanged: _account,
    trades.RfqCreated: _asked,
    trades.RfqChanged: _requested,
    trades.QuoteSubmitted: _of_quote,
    trades.QuoteChanged: _of_quote,
    governance.ProposalChanged: _NOBODY,
    governance.ProposalApproved: _account,
    governance.RolesSet: _account,
    governance.ParametersSet: _everybody,
    governance.MarketPaused: _everybody,
    governance.EpochScheduled: _everybody,
    governance.ValidatorsChanged: _everybody,
    governance.ValidatorSignedOver: _everybody,
    governance.ValidatorReadied: _everybody,
    governance.MisconductProven: _everybody,
    governance.ValidatorSuspended: _everybody,
    governance.NodeAdmitted: _everybody,
    governance.NodeRemoved: _everybody,
    governance.CashCorrected: _holder_and_custodian,
    governance.UnitsForced: _named("sender", "recipient"),
    governance.AccessLogged: _named("regulator"),
}
"""Event to whom it concerns."""


def parties_of(view: StateView, event: Event) -> frozenset[bytes]:
    """The accounts that an event concerns; EVERYBODY among them opens it to all."""
    return frozenset(PARTIES[type(event)](Records(view), event))
