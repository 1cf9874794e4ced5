"""The tables that the executor dispatches by, assembled from the families."""

from __future__ import annotations

from otcnode.vm.accounts import closing, custody, entrustments, recovery, withdrawals
from otcnode.vm.accounts import handlers as accounts
from otcnode.vm.context import Hooks
from otcnode.vm.contracts import handlers as contracts
from otcnode.vm.documents import handlers as documents
from otcnode.vm.governance import proposals as governance
from otcnode.vm.products import family as products
from otcnode.vm.rules import DueHandler, DueWeight, Rule
from otcnode.vm.trades import family as trades

OPERATIONS: dict[type, Rule] = {
    **accounts.OPERATIONS,
    **withdrawals.OPERATIONS,
    **entrustments.OPERATIONS,
    **recovery.OPERATIONS,
    **closing.OPERATIONS,
    **custody.OPERATIONS,
    **contracts.OPERATIONS,
    **documents.OPERATIONS,
    **products.OPERATIONS,
    **trades.OPERATIONS,
    **governance.OPERATIONS,
}
"""Type of the operation to the rule by which it is judged."""

DUE_KINDS: dict[str, DueHandler] = {
    **accounts.DUE_KINDS,
    **entrustments.DUE_KINDS,
    **recovery.DUE_KINDS,
    **contracts.DUE_KINDS,
    **products.DUE_KINDS,
    **trades.DUE_KINDS,
    **governance.DUE_KINDS,
}
"""Kind of a due item to its handler."""

DUE_WEIGHTS: dict[str, DueWeight] = {
    **recovery.DUE_WEIGHTS,
    **contracts.DUE_WEIGHTS,
    **products.DUE_WEIGHTS,
    **trades.DUE_WEIGHTS,
}
"""Kinds whose weight is known only when they run; the others have the weight they were scheduled with."""

HOOKS = Hooks(
    cancellers={**products.CANCELLERS, **trades.CANCELLERS},
    holders_changed=(products.holders_changed,),
    market_resumed=(products.market_resumed,),
    product_issuer=products.issuer_of,
    contract_rescinded=(products.contract_rescinded,),
    open_item_releasers=(trades.release_open,),
    recovery_cancellers={**trades.RECOVERY_CANCELLERS, **recovery.CANCELLERS, **governance.CANCELLERS},
    party_of_live_product=products.is_party_of_live_product,
)
