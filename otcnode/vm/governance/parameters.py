"""Which chain parameters can be changed, and how far, so that no change can stop or drown the chain."""

from __future__ import annotations

import msgspec

from otcnode import limits
from otcnode.errors import Code
from otcnode.vm.arithmetic import DAY_MS, HOUR_MS
from otcnode.vm.context import PARAMETERS, Context, fail
from otcnode.vm.governance.events import ParametersSet
from otcnode.vm.governance.records import ParameterSet
from otcnode.vm.governance.roles import governing_organisations
from otcnode.vm.governance.validators import begin_epoch
from otcnode.vm.keys import SINGLE

BOUNDS: dict[str, tuple[int, int]] = {
    # at least twice the shortest view timeout, so that a re-proposed block is not refused for its age
    "drift_real_ms": (4_000, 60_000),
    "heartbeat_real_ms": (500, 600_000),
    "window": (1, limits.window_max),
    "rotation_blocks": (10, 10_000_000),
    "inclusion_timeout_real_ms": (1_000, 60_000),
    "block_transactions_max": (1, 100_000),
    # any admissible transaction fits a block, and a block fits a message
    "block_bytes_max": (limits.transaction_bytes_max, limits.message_bytes_max * 3 // 4),
    "max_transaction_ttl_ms": (10_000, DAY_MS),
    "due_class1_weight_max": (100, 1_000_000),
    "due_weight_max": (100, 1_000_000),
    "open_items_per_account_max": (100, 1_000_000),
    "pending_accounts_max": (100, 10_000_000),
    "settle_horizon_ms": (HOUR_MS, 3_660 * DAY_MS),
    "attest_window_blocks": (10, 10_000_000),
    # one organisation alone never decides
    "governance_approvals": (2, 100),
    # 0: nobody is suspended
    "suspension_validators_min": (0, 100),
}
"""Name to the least and greatest value. `state_buckets` shapes the state's tree and never changes."""


def check_parameters(context: Context, action: ParameterSet) -> None:
    """Failed(E_FIELD{name}): not a parameter that can be changed, out of bounds, unsorted or named twice; approvals of
    more organisations than govern."""
    names = [change.name for change in action.changes]
    if names != sorted(set(names)):
        fail(Code.FIELD, "changes")
    for change in action.changes:
        least, greatest = BOUNDS.get(change.name, (1, 0))
        if not least <= change.value <= greatest:
            fail(Code.FIELD, change.name)
        if change.name == "governance_approvals" and change.value > len(governing_organisations(context)):
            fail(Code.FIELD, change.name)


def set_parameters(context: Context, action: ParameterSet) -> None:
    """Change the parameters from the next block on; those of consensus are the next epoch's. Failed(E_STATE) where one
    of these changes while another epoch is about to begin."""
    check_parameters(context, action)
    before = context.need(PARAMETERS, SINGLE, "parameters")
    changes = {change.name: change.value for change in action.changes}
    after = msgspec.structs.replace(before, **changes)
    if after.consensus != before.consensus:
        begin_epoch(context, parameters=after.consensus)
    context.put(PARAMETERS, SINGLE, after)
    context.emit(ParametersSet(action.changes))
