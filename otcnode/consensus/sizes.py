"""How large each kind of message of the CONSENSUS channel can be, whatever validators and parameters a chain has."""

from __future__ import annotations

from msgspec.structs import replace

from otcnode import limits
from otcnode.blocks import HEADER_BYTES_MAX, SIGNATURE_BYTES_MAX, Epoch
from otcnode.consensus.messages import (
    Accusation,
    Bodies,
    BodyRequest,
    Commit,
    Decision,
    Entries,
    Message,
    NewView,
    Prepare,
    PrePrepare,
    Status,
    Urgent,
    ViewChange,
)
from otcnode.genesis import PARAMETER_BOUNDS, ChainParameters
from otcnode.message_reader import SMALL_BYTES, MessageReader

_TRANSACTIONS_MAX = PARAMETER_BOUNDS["block_transactions_max"][1]
_BLOCK_BYTES_MAX = PARAMETER_BOUNDS["block_bytes_max"][1]
_ENTRY_BYTES = 69
"""Of two hashes."""
_POSITION_BYTES = 5
_BODY_BYTES = 11
"""What stands around a body and its position."""
_HEIGHT_STATUS_BYTES = 128
"""Of a hash and two sets of a hundred validators."""
_ENTRIES_BYTES = _TRANSACTIONS_MAX * _ENTRY_BYTES
_CERTIFICATE_BYTES = limits.validators_max * SIGNATURE_BYTES_MAX + SMALL_BYTES


def _view_change_bytes(validators: int) -> int:
    """With as many proofs as an epoch of so many validators allows."""
    parameters = replace(ChainParameters().consensus, window=limits.window_max)
    epoch = Epoch(1, tuple(index.to_bytes(32, "big") for index in range(validators)), parameters)
    proof_bytes = epoch.quorum * SIGNATURE_BYTES_MAX + HEADER_BYTES_MAX
    return SMALL_BYTES + validators * SIGNATURE_BYTES_MAX + HEADER_BYTES_MAX + epoch.window * proof_bytes


MESSAGES: MessageReader[Message] = MessageReader(
    Message,
    {
        PrePrepare: SMALL_BYTES + HEADER_BYTES_MAX + _ENTRIES_BYTES,
        Prepare: SMALL_BYTES,
        Commit: SMALL_BYTES,
        ViewChange: max(map(_view_change_bytes, range(1, limits.validators_max + 1))),
        # What Epoch.window sees to.
        NewView: limits.message_bytes_max,
        Status: SMALL_BYTES + limits.window_max * _HEIGHT_STATUS_BYTES,
        BodyRequest: SMALL_BYTES + _TRANSACTIONS_MAX * _POSITION_BYTES,
        Entries: SMALL_BYTES + _ENTRIES_BYTES,
        Bodies: SMALL_BYTES + _BLOCK_BYTES_MAX + _TRANSACTIONS_MAX * _BODY_BYTES,
        Decision: HEADER_BYTES_MAX + _CERTIFICATE_BYTES,
        Accusation: SMALL_BYTES + limits.evidence_bytes_max,
        Urgent: SMALL_BYTES + limits.urgent_bytes_max + limits.urgent_per_validator_max * _BODY_BYTES,
    },
)
