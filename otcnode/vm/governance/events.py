"""What operations of governance report."""

from __future__ import annotations

from otcnode.codec import Record
from otcnode.genesis import Role
from otcnode.types import AccountId, Bytes32, EpochNumber, Hash, Height, Natural, NodeId, View
from otcnode.vm.governance.records import ParameterChange, ProposalStatus


class ProposalChanged(Record, frozen=True, tag="proposal.changed"):
    """The proposal reached a status; PROPOSED is its beginning. `kind` is the action's."""

    proposal: Bytes32
    kind: str
    status: ProposalStatus


class ProposalApproved(Record, frozen=True, tag="proposal.approved"):
    """`approvals` count so far, of `needed`."""

    proposal: Bytes32
    account: AccountId
    organisation: Bytes32
    approvals: Natural
    needed: Natural


class RolesSet(Record, frozen=True, tag="roles.set"):
    account: AccountId
    roles: tuple[Role, ...]


class ParametersSet(Record, frozen=True, tag="parameters.set"):
    changes: tuple[ParameterChange, ...]


class MarketPaused(Record, frozen=True, tag="market.paused"):
    """Paused, or with False going on."""

    paused: bool


class EpochScheduled(Record, frozen=True, tag="epoch.scheduled"):
    """From `first_height` on heights are decided by other validators or other parameters."""

    first_height: Height


class ValidatorsChanged(Record, frozen=True, tag="validators.changed"):
    """These decide the heights from `first_height` on."""

    first_height: Height
    validators: tuple[NodeId, ...]


class ValidatorReadied(Record, frozen=True, tag="validator.readied"):
    node: NodeId
    height: Height


class MisconductProven(Record, frozen=True, tag="misconduct.proven"):
    """`evidence` is the SHA-256 of what `posted_by` showed; height 0: of a whole view."""

    validator: NodeId
    kind: str
    epoch: EpochNumber
    view: View
    height: Height
    posted_by: NodeId
    evidence: Hash


class ValidatorSuspended(Record, frozen=True, tag="validator.suspended"):
    """It does not decide the heights from `first_height` on, for what was proven."""

    validator: NodeId
    first_height: Height


class NodeAdmitted(Record, frozen=True, tag="node.admitted"):
    node: NodeId
    name: str
    organisation: Bytes32
    address: str


class ValidatorSignedOver(Record, frozen=True, tag="validator.signed_over"):
    """The validator's key named the one that is to follow it."""

    node: NodeId
    successor: NodeId


class NodeRemoved(Record, frozen=True, tag="node.removed"):
    node: NodeId


class CashCorrected(Record, frozen=True, tag="cash.corrected"):
    """A signed amount, in minor units."""

    account: AccountId
    cash: str
    change: int


class UnitsForced(Record, frozen=True, tag="units.forced"):
    """Units moved by a forced transfer, `from_frozen` of them out of the frozen ones."""

    sender: AccountId
    recipient: AccountId
    product: Bytes32
    quantity: Natural
    from_frozen: Natural


class AccessLogged(Record, frozen=True, tag="access.logged"):
    entry: Bytes32
    regulator: AccountId
    item: Bytes32
    reason: str
    document: Hash
