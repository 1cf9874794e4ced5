"""The shape of the tables by which operations and due items are dispatched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from otcnode.genesis import KeyPurpose, Role
from otcnode.vm.accounts.records import Scope as Scope
from otcnode.vm.context import Context
from otcnode.vm.due import DueItem
from otcnode.vm.state import State

Handler: TypeAlias = Callable[[Context, Any], None]
DueHandler: TypeAlias = Callable[[Context, DueItem], None]
DueWeight: TypeAlias = Callable[[State, DueItem], int]


@dataclass(frozen=True, slots=True)
class Mandate:
    """What an act on behalf would commit, as far as it can be told before its own rules: for the entrustment's limits.

    `outlay` is all money that may leave the principal, fees included, in minor units; `others` are the counterparties
    and other signers.
    """

    product: bytes | None = None
    price: int | None = None
    outlay: int = 0
    others: tuple[bytes, ...] = ()


class Signatory(Enum):
    """Whose signatures carry an operation. Only an account's operations come with a sender and with others of their
    kind; every other stands alone in a transaction that has no sender (executor.admit)."""

    ACCOUNT = "account"
    """The sender's keys of the rule's purpose, as many as its threshold says."""
    APPLICANT = "applicant"
    """Keys that the operation itself brings: an account that does not exist yet."""
    NODE = "node"
    """The identity key of the node that the operation names, which must be admitted."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How one kind of operation is judged. No roles means anyone; several mean any one of them."""

    handler: Handler
    purpose: KeyPurpose
    roles: frozenset[Role] = frozenset()
    scope: Scope | None = None
    """What an entrustment must allow; None cannot be done on behalf at all."""
    mandate: Callable[[Context, Any], Mandate] | None = None
    one_key: bool = False
    """One signature suffices, whatever the account's threshold."""
    signatory: Signatory = Signatory.ACCOUNT
    while_paused: bool = False
    while_recovering: bool = False
