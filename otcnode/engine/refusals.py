"""Authentic transactions that found no place here, and why: so that whoever asks later hears more than "unknown".

Only what was admissible, and whose signatures are verified, is written here: a forged copy leaves nothing behind.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from otcnode import limits
from otcnode.engine.host import Stage, TransactionState
from otcnode.errors import Code
from otcnode.types import Milliseconds, TransactionId
from otcnode.vm.transactions import Decoded

NEVER_HAPPENED = TransactionState(
    Stage.EXPIRED, definite=True, code=Code.TX_EXPIRED, reason="valid_until has passed without it"
)


class _Refusal(NamedTuple):
    valid_until: Milliseconds
    state: TransactionState


class Refusals:
    """The latest of them by id, apart from what was accepted and given up here: a flood of the one never makes this
    node forget the other."""

    def __init__(self) -> None:
        self._refused: OrderedDict[TransactionId, _Refusal] = OrderedDict()

    def __len__(self) -> int:
        return len(self._refused)

    def remember(self, decoded: Decoded, state: TransactionState) -> None:
        """It was admissible when it came: no block held it before."""
        self._refused.pop(decoded.id, None)
        self._refused[decoded.id] = _Refusal(decoded.transaction.body.valid_until, state)
        while len(self._refused) > limits.refused_transactions_remembered_max:
            self._refused.popitem(last=False)

    def forget(self, transaction_ids: Iterable[TransactionId]) -> None:
        """They are in a block, or wait for one."""
        for transaction_id in transaction_ids:
            self._refused.pop(transaction_id, None)

    def state(self, transaction_id: TransactionId, block_time_ms: Milliseconds) -> TransactionState:
        """Definite once the time of a final block says that none can hold it any more."""
        refusal = self._refused.get(transaction_id)
        if refusal is None:
            return TransactionState(Stage.UNKNOWN)
        return NEVER_HAPPENED if refusal.valid_until <= block_time_ms else refusal.state
