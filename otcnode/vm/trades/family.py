"""Everything of trades that registry.py joins with the other families."""

from __future__ import annotations

from otcnode.vm.context import Context
from otcnode.vm.keys import OPEN_OFFER, OPEN_QUOTE, OPEN_RFQ, OPEN_TRADE
from otcnode.vm.rules import DueHandler, DueWeight, Rule
from otcnode.vm.trades import negotiated, offers, rfqs
from otcnode.vm.trades.records import ACTIVE_QUOTES, TRADING_OPEN

OPERATIONS: dict[type, Rule] = {**negotiated.OPERATIONS, **offers.OPERATIONS, **rfqs.OPERATIONS}

DUE_KINDS: dict[str, DueHandler] = {**negotiated.DUE_KINDS, **offers.DUE_KINDS, **rfqs.DUE_KINDS}

DUE_WEIGHTS: dict[str, DueWeight] = rfqs.DUE_WEIGHTS

CANCELLERS = {OPEN_OFFER: offers.cancel_for, OPEN_QUOTE: rfqs.cancel_quote_for}

RECOVERY_CANCELLERS = {**CANCELLERS, OPEN_TRADE: negotiated.withdraw_for}
"""What the former keys stand to ends; a locked trade stays."""

_RELEASERS = {
    OPEN_TRADE: negotiated.release_for_maturity,
    OPEN_OFFER: offers.release_for_maturity,
    OPEN_RFQ: rfqs.release_for_maturity,
}


def release_open(context: Context, product: bytes, limit: int) -> int:
    """The product is about to mature: what stands on it ends, until that was `limit` items or more; how many they were.
    A request counts with the quotes that it takes along."""
    ended = 0
    for suffix, _ in context.state.scan(TRADING_OPEN, product, limit=limit):
        if ended >= limit:
            break
        kind, name = suffix[32:33], suffix[33:]
        ended += 1 + (len(context.state.scan(ACTIVE_QUOTES, name)) if kind == OPEN_RFQ else 0)
        _RELEASERS[kind](context, name)
    return ended
