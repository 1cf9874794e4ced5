"""The tables that the executor dispatches by, assembled from the families."""

from __future__ import annotations

from otcnode.vm.accounts import handlers as accounts
from otcnode.vm.accounts import withdrawals
from otcnode.vm.context import Hooks
from otcnode.vm.contracts import handlers as contracts
from otcnode.vm.rules import DueHandler, Rule

OPERATIONS: dict[type, Rule] = {**accounts.OPERATIONS, **withdrawals.OPERATIONS, **contracts.OPERATIONS}
"""Type of the operation to the rule by which it is judged."""

DUE_KINDS: dict[str, DueHandler] = {**accounts.DUE_KINDS, **contracts.DUE_KINDS}
"""Kind of a due item to its handler."""

HOOKS = Hooks(cancellers={}, holders_changed=())
