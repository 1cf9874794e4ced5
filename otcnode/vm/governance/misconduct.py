"""What validators were proven to have done wrong: on the chain once, with what the parameters say follows.

The ledger does not read evidence: consensus is another's language. Like signatures, evidence is checked before it comes
here, by every node, in the pool and in every proposal (`engine/authenticity.py`): what is executed proves what it says.
"""

from __future__ import annotations

from otcnode.codec import encode
from otcnode.crypto import sha256, tagged_hash
from otcnode.errors import Code
from otcnode.genesis import KeyPurpose
from otcnode.types import EpochNumber, Hash, Height, NodeId, View
from otcnode.vm.context import Context, fail
from otcnode.vm.governance.events import MisconductProven, ValidatorsChanged, ValidatorSuspended
from otcnode.vm.governance.operations import EvidencePost
from otcnode.vm.governance.records import MISCONDUCT, MISCONDUCT_COUNTS, Misconduct, MisconductCount
from otcnode.vm.governance.validators import begin_epoch, schedule_at
from otcnode.vm.keys import integer
from otcnode.vm.rules import Rule, Signatory

OFFENCE_DOMAIN = "otcnode/offence/1"
OFFENCES_PER_EPOCH_MAX = 16
"""Of one validator: more of them would only fill the state."""


def offence_name(validator: NodeId, kind: str, epoch: EpochNumber, view: View, height: Height) -> Hash:
    """Names an offence, whatever evidence shows it."""
    return tagged_hash(OFFENCE_DOMAIN, encode([validator, kind, epoch, view, height]))


def offence_named(operation: EvidencePost) -> Hash:
    """The name of the offence that the evidence is said to prove."""
    return offence_name(operation.validator, operation.kind, operation.epoch, operation.view, operation.height)


def post(context: Context, operation: EvidencePost) -> None:
    validator, epoch = operation.validator, operation.epoch
    name = offence_named(operation)
    if context.get(MISCONDUCT, validator + name) is not None:
        fail(Code.DUPLICATE, "this offence is on the chain")
    place = validator + integer(epoch)
    counted = context.get(MISCONDUCT_COUNTS, place) or MisconductCount(0)
    if counted.offences >= OFFENCES_PER_EPOCH_MAX:
        fail(Code.LIMIT, "enough is known of this validator in this epoch")
    context.put(MISCONDUCT_COUNTS, place, MisconductCount(counted.offences + 1))
    fingerprint = sha256(operation.evidence)
    context.put(
        MISCONDUCT,
        validator + name,
        Misconduct(operation.kind, epoch, operation.view, operation.height, operation.node, fingerprint),
    )
    context.emit(
        MisconductProven(
            validator, operation.kind, epoch, operation.view, operation.height, operation.node, fingerprint
        )
    )
    _suspend(context, validator)


def _suspend(context: Context, validator: NodeId) -> None:
    """As the parameter `suspension_validators_min` says. While another change is pending nothing follows: whoever
    governs sees the event."""
    least = context.environment.parameters.suspension_validators_min
    schedule = schedule_at(context.state, context.environment.height)
    left = tuple(name for name in schedule.current.validators if name != validator)
    if not least or schedule.pending is not None or left == schedule.current.validators or len(left) < least:
        return
    pending = begin_epoch(context, validators=left)
    context.emit(ValidatorsChanged(pending.number, pending.validators))
    context.emit(ValidatorSuspended(validator, pending.number))


OPERATIONS: dict[type, Rule] = {EvidencePost: Rule(post, KeyPurpose.TRADE, signatory=Signatory.NODE, while_paused=True)}
