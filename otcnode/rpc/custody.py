"""Methods that read money on its way out, and what the banks say: for holders, and for the custodian of the cash."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from otcnode.ids import Prefix
from otcnode.rpc import format as form
from otcnode.rpc.access import Caller, Subject, require_login, whose
from otcnode.rpc.listing import RangeParams, Rows, answer, by_id, by_time, list_type, optional_id, span_of
from otcnode.rpc.method import Context
from otcnode.rpc.reader import Reader
from otcnode.rpc.render import render, shown_type
from otcnode.vm.accounts.records import (
    ATTESTATIONS,
    CASH_ASSETS,
    WITHDRAWALS,
    WITHDRAWALS_BY_PARTY,
    Attestation,
    Withdrawal,
    WithdrawalStatus,
)

WITHDRAWAL_LIST = "withdrawal_list"
RECON_LIST = "recon_list"
CashText = Annotated[str, Meta(max_length=31, description="cash id, such as CNY@BANK")]


class WithdrawalListParams(RangeParams, frozen=True):
    """Filters are ANDed; `from` and `to` are of the time of the request. `party` is a holder or a custodian."""

    party: form.AccountText | None = None
    cash: CashText | None = None
    status: WithdrawalStatus | None = None


class ReconListParams(RangeParams, frozen=True):
    """Filters are ANDed; `from` and `to` are of the time of the attestation. `broken` false keeps those that agree."""

    cash: CashText | None = None
    broken: bool | None = None


WithdrawalView = msgspec.defstruct(
    "WithdrawalView", [("id", form.WithdrawalText), ("withdrawal", shown_type(Withdrawal))], frozen=True
)
ReconView = msgspec.defstruct(
    "ReconView",
    [("attestation", shown_type(Attestation)), ("difference", form.Integer), ("deposits_stopped", bool)],
    frozen=True,
    namespace={
        "__doc__": "`difference` = bank − ledger in minor units; `deposits_stopped` is how the cash id stands at the"
        " height that is read."
    },
)
WithdrawalListResult = list_type("WithdrawalListResult", "withdrawals", WithdrawalView)
ReconListResult = list_type("ReconListResult", "reconciliations", ReconView)


async def withdrawal_list(context: Context, params: WithdrawalListParams) -> dict[str, Any]:
    """withdrawal_list: of a holder, or of all holders of a custodian's cash, in the order of request."""
    caller = require_login(context.caller())
    party = whose(caller, Subject.POSITION, optional_id(Prefix.ACCOUNT, params.party))
    span = span_of(params)

    def rows(state: Reader, after: bytes | None) -> Rows:
        keys = (
            by_id(state, WITHDRAWALS, after)
            if party is None
            else by_time(state, WITHDRAWALS_BY_PARTY, party, after, span)
        )
        for place, name in keys:
            record = state.get(WITHDRAWALS, name)
            assert record is not None
            wanted = (
                params.cash in (None, record.cash)
                and params.status in (None, record.status)
                and span.holds(record.requested_at)
            )
            yield place, {"id": form.withdrawal(name), "withdrawal": render(record)} if wanted else None

    return await answer(context, params, WITHDRAWAL_LIST, "withdrawals", rows)


async def recon_list(context: Context, params: ReconListParams) -> dict[str, Any]:
    """recon_list: what custodians attested, in the order of time; a custodian its own, the supervisors all."""
    caller = require_login(context.caller())

    def rows(state: Reader, after: bytes | None) -> Rows:
        return _attestations(state, caller, after, params)

    return await answer(context, params, RECON_LIST, "reconciliations", rows)


def _attestations(
    state: Reader, caller: Caller, after: bytes | None, params: ReconListParams
) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    for place, _ in by_time(state, ATTESTATIONS, b"", after, span_of(params)):
        record = state.get(ATTESTATIONS, place)
        assert record is not None
        asset = state.get(CASH_ASSETS, record.cash.encode())
        assert asset is not None
        difference = record.bank_total - record.ledger_total
        wanted = (
            (caller.account == record.custodian or caller.sees_all(Subject.CUSTODY))
            and params.cash in (None, record.cash)
            and params.broken in (None, difference != 0)
        )
        shown = {
            "attestation": render(record),
            "difference": str(difference),
            "deposits_stopped": asset.stopped,
        }
        yield place, shown if wanted else None
