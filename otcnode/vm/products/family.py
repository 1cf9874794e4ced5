"""Everything of products that registry.py joins with the other families."""

from __future__ import annotations

from msgspec.structs import replace

from otcnode.errors import Code
from otcnode.vm import balances
from otcnode.vm.accounts.records import HOLDERS, HOLDINGS_BY_ACCOUNT, OPEN_ITEMS
from otcnode.vm.arithmetic import stored
from otcnode.vm.context import Context, fail
from otcnode.vm.keys import OPEN_SUBSCRIPTION
from otcnode.vm.products import handlers, issuance, lifecycle, payments, redemptions, subscriptions
from otcnode.vm.products.eligibility import product, terms
from otcnode.vm.products.records import PRODUCTS, SUBSCRIPTIONS
from otcnode.vm.rules import DueHandler, DueWeight, Rule

OPERATIONS: dict[type, Rule] = {**handlers.OPERATIONS, **subscriptions.OPERATIONS, **redemptions.OPERATIONS}
DUE_KINDS: dict[str, DueHandler] = {
    **handlers.DUE_KINDS,
    **issuance.DUE_KINDS,
    **payments.DUE_KINDS,
    **redemptions.DUE_KINDS,
}
DUE_WEIGHTS: dict[str, DueWeight] = {**issuance.DUE_WEIGHTS, **payments.DUE_WEIGHTS}
CANCELLERS = redemptions.CANCELLERS
market_resumed = issuance.resume_issuance
contract_rescinded = subscriptions.release_rescinded
is_party_of_live_product = lifecycle.is_party_of_live_product


def issuer_of(context: Context, name: bytes) -> bytes | None:
    record = context.get(PRODUCTS, name)
    return None if record is None else record.issuer


def holders_changed(context: Context, account: bytes, change: int) -> None:
    """An investor was certified for another number of ultimate holders: count anew what it holds and subscribed.

    Failed(E_HOLDER_CAP) if a product held would have too many holders. For a subscription the cap is tested at the
    establishment.
    """
    for suffix, _ in context.state.scan(HOLDINGS_BY_ACCOUNT, account):
        name = suffix[32:]
        count = context.get(HOLDERS, name) or balances.NO_HOLDERS
        people = count.ultimate_holders + change
        if change > 0 and people > terms(context, name).max_holders:
            fail(Code.HOLDER_CAP, f"{people} holders of {product(context, name).code}")
        context.put(HOLDERS, name, replace(count, ultimate_holders=people))
    for suffix, _ in context.state.scan(OPEN_ITEMS, account + OPEN_SUBSCRIPTION):
        entry = context.need(SUBSCRIPTIONS, suffix[33:], "subscription")
        record = product(context, entry.product)
        people = stored(record.subscriber_holders + change)
        context.put(PRODUCTS, entry.product, replace(record, subscriber_holders=people))
        context.put(SUBSCRIPTIONS, suffix[33:], replace(entry, ultimate_holders=entry.ultimate_holders + change))
