"""Every operation of the ledger, as one typed union; each family declares its own."""

from __future__ import annotations

from typing import TypeAlias

from otcnode.vm.accounts import operations as accounts

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
)

Operation: TypeAlias = AccountsOperation
