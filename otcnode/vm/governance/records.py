"""What the state holds about governance: proposals and what they propose, the validators' schedule, access entries."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeAlias

from msgspec import Meta

from otcnode import limits
from otcnode.blocks import Epoch
from otcnode.codec import Record
from otcnode.genesis import Role
from otcnode.types import AccountId, Bytes32, EpochNumber, Hash, Height, Milliseconds, Natural, NodeId, View
from otcnode.vm.arithmetic import DAY_MS
from otcnode.vm.keys import Marker, Prefix, Table

TRADES_MAX = 64
PROPOSAL_OPEN_MS = 7 * DAY_MS

GOVERNING = frozenset({Role.REGULATOR, Role.LISTING, Role.KYC, Role.CALLBACK, Role.FREEZER, Role.RECOVERY})
"""Roles whose organisations decide together."""

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64)]
Address: TypeAlias = Annotated[str, Meta(max_length=128)]
Reason: TypeAlias = Annotated[str, Meta(max_length=256)]


# actions


class RoleSet(Record, frozen=True, tag="ROLE_SET"):
    """Give an account exactly these roles, ascending."""

    account: AccountId
    roles: Annotated[tuple[Role, ...], Meta(max_length=len(Role))]


class ParameterChange(Record, frozen=True):
    name: Name
    value: Natural


class ParameterSet(Record, frozen=True, tag="PARAM_SET"):
    """Change chain parameters, ascending by name, from the next block on; those of consensus begin an epoch two heights
    later."""

    changes: Annotated[tuple[ParameterChange, ...], Meta(min_length=1, max_length=64)]


class MarketPause(Record, frozen=True, tag="MARKET_PAUSE"):
    """Pause the market, or with False let it go on."""

    paused: bool


class ValidatorSet(Record, frozen=True, tag="VALIDATOR_SET"):
    """The validators from two heights later on, ascending; every joiner said lately that it is ready."""

    validators: Annotated[tuple[NodeId, ...], Meta(max_length=limits.validators_max)]


class NodeAdmit(Record, frozen=True, tag="NODE_ADMIT"):
    """Admit a node, or with `admitted` False turn one away that does not vote."""

    node: NodeId
    admitted: bool
    name: Name
    organisation: Name
    address: Address


class Direction(StrEnum):
    RAISE = "RAISE"
    LOWER = "LOWER"


class CashCorrect(Record, frozen=True, tag="CASH_CORRECT"):
    """Correct a wrong deposit: an amount of cash, in minor units, comes to an account or goes from what it has
    available."""

    account: AccountId
    cash: Annotated[str, Meta(min_length=1, max_length=31)]
    amount: Natural
    direction: Direction


class ForcedTransfer(Record, frozen=True, tag="FORCED_TRANSFER"):
    """Move units without the holder: frozen ones first, then available ones; locked ones only of the trades named,
    which fail first. No cash moves."""

    sender: AccountId
    recipient: AccountId
    product: Bytes32
    quantity: Natural
    trades: Annotated[tuple[Bytes32, ...], Meta(max_length=TRADES_MAX)]


class ContractTerminate(Record, frozen=True, tag="CONTRACT_TERMINATE"):
    """End a contract that is EFFECTIVE, or the amendment in force for it."""

    contract: Bytes32


class ItemKind(StrEnum):
    CONTRACT = "CONTRACT"
    SUBSCRIPTION = "SUBSCRIPTION"
    REDEMPTION = "REDEMPTION"
    TRADE = "TRADE"
    OFFER = "OFFER"
    RFQ = "RFQ"
    QUOTE = "QUOTE"
    WITHDRAWAL = "WITHDRAWAL"
    ENTRUSTMENT = "ENTRUSTMENT"


class ItemCancel(Record, frozen=True, tag="ITEM_CANCEL"):
    """Cancel an open item; its locks are released."""

    kind: ItemKind
    item: Bytes32


Action: TypeAlias = (
    RoleSet
    | ParameterSet
    | MarketPause
    | ValidatorSet
    | NodeAdmit
    | CashCorrect
    | ForcedTransfer
    | ContractTerminate
    | ItemCancel
)


# proposals


class ProposalStatus(StrEnum):
    PROPOSED = "PROPOSED"
    EXECUTED = "EXECUTED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"


class Approval(Record, frozen=True):
    """An organisation's yes, given by one of its accounts."""

    account: AccountId
    organisation: Bytes32
    approved_at: Milliseconds


class Proposal(Record, frozen=True):
    """`approvals` begin with the proposer's. It can be approved while t < expires_at."""

    action: Action
    reason: Reason
    document: Hash
    approvals: tuple[Approval, ...]
    status: ProposalStatus
    created_at: Milliseconds
    expires_at: Milliseconds
    ended_at: Milliseconds | None

    @property
    def proposer(self) -> bytes:
        return self.approvals[0].account


# validators and nodes


class Node(Record, frozen=True):
    """An admitted node; who votes is in the schedule. `succeeds`: the validator that has signed over to it; it votes in
    that one's place once it says that it is ready."""

    name: str
    organisation: Bytes32
    address: str
    succeeds: NodeId | None = None


class Schedule(Record, frozen=True):
    """Who decides which heights, by which parameters: `current` from its number on, `pending` from its own on."""

    current: Epoch
    pending: Epoch | None


class Misconduct(Record, frozen=True):
    """What a validator was proven to have done, and which node showed it; `evidence` is the SHA-256 of what it showed.
    Height 0: of a whole view."""

    kind: str
    epoch: EpochNumber
    view: View
    height: Height
    posted_by: NodeId
    evidence: Hash


class MisconductCount(Record, frozen=True):
    offences: Natural


class Readiness(Record, frozen=True):
    """The last height that a node said it had committed."""

    height: Height


class Access(Record, frozen=True):
    """That a regulator may have sealed material opened: a node does it only against an entry here."""

    regulator: AccountId
    item: Bytes32
    reason: Reason
    document: Hash
    logged_at: Milliseconds


PROPOSALS = Table(Prefix.PROPOSAL, Proposal)
"""proposal id"""
PROPOSALS_BY_TIME = Table(Prefix.PROPOSAL_BY_TIME, Marker)
"""created_at ‖ proposal id"""
NODES = Table(Prefix.VALIDATORS, Node)
"""node id"""
SCHEDULE = Table(Prefix.VALIDATOR_SCHEDULE, Schedule)
READINESS = Table(Prefix.VALIDATOR_READY, Readiness)
"""node id"""
MISCONDUCT = Table(Prefix.MISCONDUCT, Misconduct)
"""validator id ‖ name of the offence"""
MISCONDUCT_COUNTS = Table(Prefix.MISCONDUCT_COUNT, MisconductCount)
"""validator id ‖ epoch"""
ACCESS_LOG = Table(Prefix.ACCESS_LOG, Access)
"""item id ‖ entry id"""
GOVERNORS = Table(Prefix.GOVERNOR, Marker)
"""account id: those with a role that governs"""
