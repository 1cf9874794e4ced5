"""Which chain parameters can be changed: those in genesis.PARAMETER_BOUNDS, and no further than it says."""

from __future__ import annotations

import msgspec

from otcnode.errors import Code
from otcnode.genesis import PARAMETER_BOUNDS, ChainParameters, window_fault
from otcnode.vm.context import PARAMETERS, Context, fail
from otcnode.vm.governance.events import ParametersSet
from otcnode.vm.governance.records import ParameterSet
from otcnode.vm.governance.roles import governing_organisations
from otcnode.vm.governance.validators import begin_epoch
from otcnode.vm.keys import SINGLE

_OF_A_WINDOW = frozenset({"window", "block_transactions_max"})


def check_parameters(context: Context, action: ParameterSet) -> None:
    """Failed(E_FIELD{name}): not a parameter that can be changed, out of bounds, unsorted or named twice; approvals of
    more organisations than govern; a window of blocks that holds too many transactions."""
    names = [change.name for change in action.changes]
    if names != sorted(set(names)):
        fail(Code.FIELD, "changes")
    for change in action.changes:
        least, greatest = PARAMETER_BOUNDS.get(change.name, (1, 0))
        if not least <= change.value <= greatest:
            fail(Code.FIELD, change.name)
        if change.name == "governance_approvals" and change.value > len(governing_organisations(context)):
            fail(Code.FIELD, change.name)
    if not _OF_A_WINDOW.isdisjoint(names):
        fault = window_fault(_changed(context, action))
        if fault is not None:
            fail(Code.FIELD, fault)


def _changed(context: Context, action: ParameterSet) -> ChainParameters:
    before = context.need(PARAMETERS, SINGLE, "parameters")
    return msgspec.structs.replace(before, **{change.name: change.value for change in action.changes})


def set_parameters(context: Context, action: ParameterSet) -> None:
    """Change the parameters from the next block on; those of consensus are the next epoch's. Failed(E_STATE) where one
    of these changes while another epoch is about to begin."""
    check_parameters(context, action)
    before, after = context.need(PARAMETERS, SINGLE, "parameters"), _changed(context, action)
    if after.consensus != before.consensus:
        begin_epoch(context, parameters=after.consensus)
    context.put(PARAMETERS, SINGLE, after)
    context.emit(ParametersSet(action.changes))
