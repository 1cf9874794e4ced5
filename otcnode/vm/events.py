"""Every event of the ledger, as one typed union; each family declares its own."""

from __future__ import annotations

from typing import TypeAlias

from otcnode.vm.accounts import events as accounts
from otcnode.vm.contracts import events as contracts
from otcnode.vm.documents import events as documents
from otcnode.vm.governance import events as governance
from otcnode.vm.products import events as products
from otcnode.vm.trades import events as trades

AccountsEvent: TypeAlias = (
    accounts.CashMoved
    | accounts.CashTotalMoved
    | accounts.UnitsMoved
    | accounts.LotMoved
    | accounts.UnitsTotalMoved
    | accounts.LockOpened
    | accounts.LockReduced
    | accounts.AccountApplied
    | accounts.AccountChanged
    | accounts.InvestorCertified
    | accounts.AccountFrozen
    | accounts.AccountUnfrozen
    | accounts.KeyAdded
    | accounts.KeyRevoked
    | accounts.CashDeposited
    | accounts.WithdrawalChanged
    | accounts.EntrustmentChanged
    | accounts.EntrustmentUsed
    | accounts.RecoveryChanged
    | accounts.CloseRequested
    | accounts.ReconOk
    | accounts.ReconBreak
    | accounts.DepositsResumed
)

ContractsEvent: TypeAlias = (
    contracts.ContractCreated
    | contracts.ContractRevised
    | contracts.ContractConfirmed
    | contracts.ContractSlotSigned
    | contracts.ContractCalledBack
    | contracts.ContractAcceded
    | contracts.ContractChanged
)

DocumentsEvent: TypeAlias = documents.DocumentFiled | documents.DocumentWithdrawn

ProductsEvent: TypeAlias = (
    products.ProductDrafted
    | products.ProductChanged
    | products.ProductCancelRequested
    | products.ProductSuspended
    | products.DisclosurePosted
    | products.Subscribed
    | products.SubscriptionChanged
    | products.ProductAllotted
    | products.ProductPaid
    | products.PaymentOverdue
    | products.RedemptionRequested
    | products.RedemptionChanged
)

TradesEvent: TypeAlias = (
    trades.TradeProposed
    | trades.TradeExecuted
    | trades.TradeChanged
    | trades.TradeCancelAsked
    | trades.OfferListed
    | trades.OfferFilled
    | trades.OfferChanged
    | trades.RfqCreated
    | trades.RfqChanged
    | trades.QuoteSubmitted
    | trades.QuoteChanged
)

GovernanceEvent: TypeAlias = (
    governance.ProposalChanged
    | governance.ProposalApproved
    | governance.RolesSet
    | governance.ParametersSet
    | governance.MarketPaused
    | governance.EpochScheduled
    | governance.ValidatorsChanged
    | governance.ValidatorSignedOver
    | governance.ValidatorReadied
    | governance.MisconductProven
    | governance.ValidatorSuspended
    | governance.NodeAdmitted
    | governance.NodeRemoved
    | governance.CashCorrected
    | governance.UnitsForced
    | governance.AccessLogged
)

Event: TypeAlias = AccountsEvent | ContractsEvent | DocumentsEvent | ProductsEvent | TradesEvent | GovernanceEvent
