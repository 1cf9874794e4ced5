"""The shape of the tables by which operations and due items are dispatched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
    while_paused: bool = False
    while_recovering: bool = False
