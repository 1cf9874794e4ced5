"""Reconciliation: what the custodian's bank holds against what the ledger says, as of one height."""

from __future__ import annotations

from msgspec.structs import replace

from otcnode.errors import Code
from otcnode.genesis import KeyPurpose, Role
from otcnode.vm.accounts.events import DepositsResumed, ReconBreak, ReconOk
from otcnode.vm.accounts.operations import CustodyAttest, CustodyResume
from otcnode.vm.accounts.records import ATTESTATIONS, CASH_ASSETS, Attestation
from otcnode.vm.accounts.totals import total_at
from otcnode.vm.context import Context, fail
from otcnode.vm.keys import integer
from otcnode.vm.rules import Rule


def attest(context: Context, operation: CustodyAttest) -> None:
    cash, height = operation.cash, operation.height
    asset = context.need(CASH_ASSETS, cash.encode(), "cash")
    if asset.custodian != context.actor:
        fail(Code.NOT_PARTY, "another custodian's cash")
    environment = context.environment
    if not environment.height - environment.parameters.attest_window_blocks <= height < environment.height:
        fail(Code.FIELD, "height")
    ledger_total = total_at(context.state, cash, height)
    if ledger_total is None:
        fail(Code.FIELD, "height: the total is not remembered that far back")
    name, bank_total = context.new_id(), operation.bank_total
    record = Attestation(cash, height, bank_total, ledger_total, operation.statement, context.actor, context.now)
    context.put(ATTESTATIONS, integer(context.now) + name, record)
    if bank_total == ledger_total:
        context.emit(ReconOk(name, cash, height, ledger_total))
        return
    context.put(CASH_ASSETS, cash.encode(), replace(asset, stopped=True))
    context.emit(ReconBreak(name, cash, height, bank_total, ledger_total, bank_total - ledger_total))


def resume(context: Context, operation: CustodyResume) -> None:
    asset = context.need(CASH_ASSETS, operation.cash.encode(), "cash")
    if not asset.stopped:
        fail(Code.STATE, "deposits are not stopped")
    context.put(CASH_ASSETS, operation.cash.encode(), replace(asset, stopped=False))
    context.emit(DepositsResumed(operation.cash, operation.document))


OPERATIONS: dict[type, Rule] = {
    CustodyAttest: Rule(attest, KeyPurpose.TRADE, frozenset({Role.CUSTODIAN}), while_paused=True),
    CustodyResume: Rule(resume, KeyPurpose.TRADE, frozenset({Role.REGULATOR}), while_paused=True),
}
