"""What the ledger promises of one account's cash, as a model to hold clients' histories against. Pure.

A deposit only adds. A withdrawal locks what is available, and is refused if that is too little. Its end is a race: the
custodian pays it out or the holder cancels it, whichever comes first, and the other is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, assert_never

from otcnode.errors import Code


@dataclass(frozen=True)
class Deposit:
    amount: int


@dataclass(frozen=True)
class Withdraw:
    name: str
    amount: int


@dataclass(frozen=True)
class Pay:
    """Out, what a withdrawal of that name has locked."""

    name: str


@dataclass(frozen=True)
class Cancel:
    name: str


@dataclass(frozen=True)
class Read:
    pass


@dataclass(frozen=True)
class Cash:
    """What a read shows."""

    available: int
    locked: int


Action: TypeAlias = Deposit | Withdraw | Pay | Cancel | Read
Answer: TypeAlias = Code | Cash


@dataclass(frozen=True)
class Account:
    available: int = 0
    locked: frozenset[tuple[str, int]] = frozenset()
    """Withdrawals that are under way, and how much each has locked."""
    ended: frozenset[str] = frozenset()
    """Those that are paid or cancelled."""


def perform(action: Action, account: Account) -> tuple[Account, Answer]:
    """What becomes of an account, and what is answered."""
    match action:
        case Deposit(amount):
            return Account(account.available + amount, account.locked, account.ended), Code.OK
        case Withdraw(name, amount):
            if account.available < amount:
                return account, Code.LACK_CASH
            locked = account.locked | {(name, amount)}
            return Account(account.available - amount, locked, account.ended), Code.OK
        case Pay(name):
            return _end(account, name, released=False)
        case Cancel(name):
            return _end(account, name, released=True)
        case Read():
            return account, Cash(account.available, sum(amount for _, amount in account.locked))
        case _:
            assert_never(action)


def _end(account: Account, name: str, *, released: bool) -> tuple[Account, Answer]:
    if name in account.ended:
        return account, Code.STATE
    amount = next((amount for other, amount in account.locked if other == name), None)
    if amount is None:
        return account, Code.NOT_FOUND
    available = account.available + (amount if released else 0)
    return Account(available, account.locked - {(name, amount)}, account.ended | {name}), Code.OK
