"""The method that reads entrustments: for the principal and the agent."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from otcnode.ids import Prefix
from otcnode.rpc import format as form
from otcnode.rpc.access import Subject, require_login, whose
from otcnode.rpc.listing import RangeParams, Rows, answer, by_id, by_time, list_type, optional_id, span_of
from otcnode.rpc.method import Context
from otcnode.rpc.reader import Reader
from otcnode.rpc.render import render, shown_type
from otcnode.vm.accounts.records import ENTRUSTMENTS, ENTRUSTMENTS_BY_ACCOUNT, Entrustment, EntrustmentStatus

ENTRUSTMENT_LIST = "entrustment_list"


class EntrustmentListParams(RangeParams, frozen=True):
    """Filters are ANDed; `from` and `to` are of the time of granting. `side` keeps those in which the party is that."""

    party: form.AccountText | None = None
    side: Literal["principal", "agent"] | None = None
    status: EntrustmentStatus | None = None


EntrustmentView = msgspec.defstruct(
    "EntrustmentView", [("id", form.EntrustmentText), ("entrustment", shown_type(Entrustment))], frozen=True
)
EntrustmentListResult = list_type("EntrustmentListResult", "entrustments", EntrustmentView)


async def entrustment_list(context: Context, params: EntrustmentListParams) -> dict[str, Any]:
    """entrustment_list: given or held by a party, in the order of granting."""
    caller = require_login(context.caller())
    party = whose(caller, Subject.ENTRUSTMENT, optional_id(Prefix.ACCOUNT, params.party))
    span = span_of(params)

    def rows(state: Reader, after: bytes | None) -> Rows:
        keys = (
            by_id(state, ENTRUSTMENTS, after)
            if party is None
            else by_time(state, ENTRUSTMENTS_BY_ACCOUNT, party, after, span)
        )
        for place, name in keys:
            record = state.get(ENTRUSTMENTS, name)
            assert record is not None
            wanted = (
                params.status in (None, record.status)
                and (party is None or params.side is None or getattr(record, params.side) == party)
                and span.holds(record.created_at)
            )
            yield place, {"id": form.entrustment(name), "entrustment": render(record)} if wanted else None

    return await answer(context, params, ENTRUSTMENT_LIST, "entrustments", rows)
