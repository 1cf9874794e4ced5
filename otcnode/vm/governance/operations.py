"""Operations of governance."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from otcnode import limits
from otcnode.codec import Record
from otcnode.types import Bytes32, Ed25519Signature, EpochNumber, Hash, Height, NodeId, View
from otcnode.vm.governance.records import Action, Address, Name, Reason


class GovernancePropose(Record, frozen=True, tag="governance.propose"):
    """Propose an action; it counts as the approval of the sender's organisation. Signed by: REGULATOR or an OPERATOR
    desk, for CASH_CORRECT also a CUSTODIAN, for FORCED_TRANSFER a REGULATOR or OPERATOR.RECOVERY (MANAGE keys).

    Fields: `action`, with the fields of its kind; `reason`, required; `document`, the hash of what it rests on.
    Effects: a proposal, PROPOSED, named by this operation's id; it expires after 7 days. An action is executed by the
    approval that completes `governance_approvals` (FORCED_TRANSFER: at least one REGULATOR and one OPERATOR.RECOVERY)
    from different organisations.
    Errors: E_NOT_FOUND (what the action names), E_NOT_PARTY (the sender's role is not for this action), E_FROZEN,
    E_FIELD{reason, or a field of the action}, E_AMOUNT, E_LIMIT (open items).
    """

    action: Action
    reason: Reason
    document: Hash


class GovernanceApprove(Record, frozen=True, tag="governance.approve"):
    """Approve a proposal for the sender's organisation. Signed by: as for governance.propose (MANAGE keys).

    Fields: `proposal`. Effects: the approval that completes the number executes the action in this transaction. An
    approval whose account has since lost its role, or is not ACTIVE, does not count.
    Errors: E_NOT_FOUND, E_NOT_PARTY (the sender's role is not for this action), E_FOUR_EYES (its organisation has
    approved), E_EXPIRED (7 days), E_STATE (not PROPOSED), E_FROZEN; then those of the action: E_NOT_FOUND, E_STATE,
    E_EXPIRED, E_FROZEN, E_FIELD, E_FORBIDDEN, E_OVERFLOW, E_LACK_CASH, E_LACK_QTY, E_NOT_QUALIFIED, E_SUITABILITY,
    E_HOLDER_CAP, E_LIMIT (the recipient's lots).
    """

    proposal: Bytes32


class NodeOperation(Record, frozen=True):
    """What a node does by itself: alone in a transaction without a sender, signed by `node`'s identity key."""

    node: NodeId


class ValidatorReady(NodeOperation, frozen=True, tag="validator.ready"):
    """A node says that it has synced and is connected, so that it can join the validators. Signed by: the node
    (sender empty, sole operation).

    Fields: `node`, an admitted one; `height`, the last one it committed.
    Errors: E_NOT_FOUND (not an admitted node), E_AUTH, E_FIELD{height} (not before this block, or more than 64 blocks
    ago), E_FORBIDDEN (with a sender).
    """

    height: Height


class ValidatorRotate(NodeOperation, frozen=True, tag="validator.rotate"):
    """A validator signs over to a new key, which is a node of its own. Signed by: the validator (sender empty, sole
    operation).

    Fields: `node`, the validator; `successor`, the new key; `name` and `address` of the new node; `consent`, the new
    key's signature over (domain, chain, node, successor).
    Effects: the successor is admitted for the same organisation. Once it has synced and says that it is ready
    (validator.ready), it votes in the validator's place from the second height on, if no other change is pending. The
    old node stays admitted. Signing over again before that turns the first successor away.
    Errors: E_NOT_FOUND (not an admitted node), E_AUTH, E_STATE (not a validator, or one that has said less than 20,000
    blocks ago that it is ready, to become one), E_DUPLICATE (the successor is admitted), E_FIELD{name, consent},
    E_FORBIDDEN (with a sender).
    """

    successor: NodeId
    name: Name
    address: Address
    consent: Ed25519Signature


class EvidencePost(NodeOperation, frozen=True, tag="evidence.post"):
    """A node shows that a validator did what an honest one never does. Signed by: the node (sender empty, sole
    operation). The evidence is checked by every node before this is executed, as signatures are; the parameter
    `suspension_validators_min` says whether the validator leaves the set.

    Fields: `node`, an admitted one; `validator`, `kind`, `epoch`, `view` and `height` (0: of a whole view), which name
    the offence; `evidence`, the canonical messages that prove it.
    Errors: E_NOT_FOUND (not an admitted node), E_AUTH, E_DUPLICATE (the offence is on the chain), E_LIMIT (16 of the
    validator in this epoch are), E_FORBIDDEN (with a sender).
    """

    validator: NodeId
    kind: Annotated[str, Meta(min_length=1, max_length=32)]
    epoch: EpochNumber
    view: View
    height: Height
    evidence: Annotated[bytes, Meta(min_length=1, max_length=limits.evidence_in_transaction_bytes_max)]


class AccessLog(Record, frozen=True, tag="access.log"):
    """Record that and why sealed material is to be opened. Signed by: REGULATOR (TRADE key).

    Fields: `item`, the id of what it belongs to; `reason`, required; `document`, the legal document's hash.
    Effects: an entry; nodes open sealed material to a regulator only against one.
    Errors: E_FIELD{reason}.
    """

    item: Bytes32
    reason: Reason
    document: Hash
