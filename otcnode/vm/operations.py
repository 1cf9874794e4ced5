"""Every operation of the ledger, as one typed union; each family declares its own."""

from __future__ import annotations

from typing import TypeAlias

from otcnode.vm.accounts import operations as accounts
from otcnode.vm.contracts import operations as contracts
from otcnode.vm.documents import operations as documents
from otcnode.vm.governance import operations as governance
from otcnode.vm.products import operations as products
from otcnode.vm.trades import operations as trades

AccountsOperation: TypeAlias = (
    accounts.AccountApply
    | accounts.AccountReview
    | accounts.InvestorCertify
    | accounts.AccountFreeze
    | accounts.AccountUnfreeze
    | accounts.KeyAdd
    | accounts.KeyRevoke
    | accounts.KeyRotate
    | accounts.CashDeposit
    | accounts.CashWithdraw
    | accounts.CashWithdrawCancel
    | accounts.CashWithdrawResult
    | accounts.EntrustGrant
    | accounts.EntrustAccept
    | accounts.EntrustDecline
    | accounts.EntrustRevoke
    | accounts.AccountRecover
    | accounts.AccountRecoverApprove
    | accounts.AccountObject
    | accounts.AccountClose
    | accounts.CustodyAttest
    | accounts.CustodyResume
)

ContractsOperation: TypeAlias = (
    contracts.ContractCreate
    | contracts.ContractRevise
    | contracts.ContractSubmit
    | contracts.ContractConfirm
    | contracts.ContractSign
    | contracts.ContractReject
    | contracts.ContractVoid
    | contracts.ContractRescind
    | contracts.ContractCallback
    | contracts.ContractAccede
)

DocumentsOperation: TypeAlias = documents.DocumentFile | documents.DocumentWithdraw

ProductsOperation: TypeAlias = (
    products.ProductCreate
    | products.ProductSubmit
    | products.ProductCancel
    | products.ProductReview
    | products.ProductSuspend
    | products.ProductResume
    | products.DisclosurePost
    | products.ProductSubscribe
    | products.ProductCancelSubscription
    | products.RedeemRequest
    | products.RedeemDecide
)

TradesOperation: TypeAlias = (
    trades.TradePropose
    | trades.TradeAffirm
    | trades.TradeReject
    | trades.TradeWithdraw
    | trades.TradeCancel
    | trades.OfferList
    | trades.OfferTake
    | trades.OfferCancel
    | trades.RfqCreate
    | trades.RfqCancel
    | trades.QuoteSubmit
    | trades.QuoteCancel
    | trades.QuoteRespond
)

GovernanceOperation: TypeAlias = (
    governance.GovernancePropose
    | governance.GovernanceApprove
    | governance.ValidatorReady
    | governance.ValidatorRotate
    | governance.EvidencePost
    | governance.AccessLog
)

Operation: TypeAlias = (
    AccountsOperation
    | ContractsOperation
    | DocumentsOperation
    | ProductsOperation
    | TradesOperation
    | GovernanceOperation
)
