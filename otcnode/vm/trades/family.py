"""The family's tables, and its acts that other families' acts call for."""

from __future__ import annotations

from otcnode.vm.rules import DueHandler, Rule
from otcnode.vm.trades import negotiated

OPERATIONS: dict[type, Rule] = {**negotiated.OPERATIONS}

DUE_KINDS: dict[str, DueHandler] = {**negotiated.DUE_KINDS}
