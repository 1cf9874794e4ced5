"""What the handler of an operation or of a due item works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

import msgspec

from otcnode.codec import Record
from otcnode.crypto import tagged_hash
from otcnode.errors import Code, Failed
from otcnode.genesis import ChainParameters, Role
from otcnode.types import Hash
from otcnode.vm import due
from otcnode.vm.accounts.records import ACCOUNTS, OPEN_ITEMS, Account, AccountStatus
from otcnode.vm.events import Event
from otcnode.vm.keys import MARKER, SINGLE, Prefix, Table
from otcnode.vm.state import Deleter, Getter, Putter, State

R = TypeVar("R")
ITEM_DOMAIN = "otcnode/item/1"
NOBODY = b""


def created_id(transaction: Hash, operation: int) -> Hash:
    """The id of what an operation creates: a hash of the transaction's id and the operation's index."""
    return tagged_hash(ITEM_DOMAIN, transaction + operation.to_bytes(4, "big"))


class Environment(Record, frozen=True):
    """What is fixed for one block. `parameters` are those in force at its start (`executor.environment_at`)."""

    chain: Hash
    height: int
    time_ms: int
    parameters: ChainParameters


def _no_product(context: Context, product: bytes) -> bytes | None:
    return None


def _no_party(context: Context, account: bytes) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Hooks:
    """Where one family's act must be felt in another, assembled in registry.py."""

    cancellers: Mapping[bytes, Callable[[Context, bytes, bytes], None]]
    """Kind byte of an open item that a REGULATOR's FULL freeze ends, to (context, account, item)."""
    holders_changed: tuple[Callable[[Context, bytes, int], None], ...]
    """(context, account, signed change of its ultimate holders): an investor was certified anew; these keep the counts
    of the products it holds, and raise Failed(E_HOLDER_CAP) if one would have too many."""
    open_item_releasers: tuple[Callable[[Context, bytes, int], int], ...] = ()
    """(context, product, about how many): end what the family has open on the product, because its maturity is about
    to pay; how many it ended. Less than asked for: nothing of it is open any more."""
    market_resumed: tuple[Callable[[Context], None], ...] = ()
    """(context): a pause of the market ended; these bring back what came due meanwhile and had to wait."""
    product_issuer: Callable[[Context, bytes], bytes | None] = _no_product
    """(context, product) to its issuer, None if there is no such product."""
    contract_rescinded: tuple[Callable[[Context, bytes], None], ...] = ()
    """(context, contract): the investor rescinded it; these release what rests on it."""
    recovery_cancellers: Mapping[bytes, Callable[[Context, bytes, bytes], None]] = field(default_factory=dict)
    """Kind byte of an open item that a recovery of its account ends, to (context, account, item)."""
    party_of_live_product: Callable[[Context, bytes], bool] = _no_party
    """(context, account): whether it is issuer, fee payee or custodian of a product that has not ended."""


class Pause(Record, frozen=True):
    paused: bool


PAUSE = Table(Prefix.PAUSE, Pause)
PARAMETERS: Table[ChainParameters] = Table(Prefix.PARAMETERS, ChainParameters)


class Context:
    """One transaction or one due item being executed.

    `now` is the block's time for an operation and the due time for a due item: deadlines are compared with it.
    `principal` is whom the act binds, `actor` who signed; they differ when an agent acts on behalf. Both are empty
    in a due item and in account.apply.
    """

    __slots__ = (
        "actor",
        "actor_roles",
        "delete",
        "emit",
        "entrustment",
        "environment",
        "events",
        "get",
        "hooks",
        "now",
        "operation_index",
        "principal",
        "put",
        "signers",
        "state",
        "transaction_id",
    )

    def __init__(self, state: State, environment: Environment, now: int, hooks: Hooks) -> None:
        self.state = state
        self.hooks = hooks
        self.environment = environment
        self.now = now
        self.events: list[Event] = []
        # Kept at hand: a transaction calls them some fifty times.
        self.get: Getter = state.get
        self.put: Putter = state.put
        self.delete: Deleter = state.delete
        self.emit: Callable[[Event], None] = self.events.append
        self.actor: bytes = NOBODY
        self.principal: bytes = NOBODY
        self.actor_roles: tuple[Role, ...] = ()
        self.entrustment: bytes | None = None
        """Under which the actor acts for the principal."""
        self.signers: tuple[bytes, ...] = ()
        """The keys that signed the transaction."""
        self.transaction_id: bytes = b""
        self.operation_index = 0

    @property
    def agent(self) -> bytes | None:
        """Who acts for the principal, None if the principal acts itself."""
        return None if self.actor == self.principal else self.actor

    @property
    def block_time(self) -> int:
        return self.environment.time_ms

    def need(self, table: Table[R], suffix: bytes, what: str) -> R:
        """The record, or Failed(E_NOT_FOUND)."""
        record = self.get(table, suffix)
        if record is None:
            fail(Code.NOT_FOUND, what)
        return record

    def new_id(self) -> bytes:
        """The id of what this operation creates."""
        assert self.transaction_id
        return created_id(self.transaction_id, self.operation_index)

    def schedule(
        self,
        due_ms: int,
        due_class: due.DueClass,
        kind: str,
        item: bytes,
        *,
        product: bytes | None = None,
        weight: int = 1,
    ) -> None:
        """Have DUE_KINDS[kind] called with the item in the first block whose time is ≥ due_ms."""
        assert due_ms >= self.now or self.transaction_id, "an item schedules for before itself"
        due.schedule(self.state, due_ms, due_class, due.DueItem(kind, item, product, weight))

    def unschedule(self, item: bytes, kind: str | None = None) -> None:
        due.cancel(self.state, item, kind)

    def refuse_if_due_pending(self, product: bytes) -> None:
        """Failed(E_STATE) while a delayed coupon, maturity, close or establishment of the product has to run first."""
        if due.product_has_pending(self.state, product, self.now):
            fail(Code.STATE, "a coupon, maturity or issuance step of the product is due and runs first")

    def account(self, account: bytes) -> Account:
        """Failed(E_NOT_FOUND) if there is none."""
        record = self.get(ACCOUNTS, account)
        if record is None:
            fail(Code.NOT_FOUND, "account")
        return record

    def is_frozen(self, account: bytes) -> bool:
        """Whether the account is under a FULL freeze."""
        return self.account(account).full_freezes > 0

    def refuse_if_frozen(self, account: bytes) -> None:
        """Failed(E_FROZEN) under a FULL freeze."""
        if self.is_frozen(account):
            fail(Code.FROZEN, "account")

    def refuse_unless_active(self, account: bytes) -> None:
        """Failed(E_STATE) unless a counterparty's account is ACTIVE."""
        if self.account(account).status is not AccountStatus.ACTIVE:
            fail(Code.STATE, "account is not active")

    def open_item(self, account: bytes, kind: bytes, item: bytes) -> None:
        """Count an open item of the account (`kind` one byte, keys.OPEN_*). Failed(E_LIMIT) above the bound."""
        record = self.account(account)
        if record.open_items >= self.environment.parameters.open_items_per_account_max:
            fail(Code.LIMIT, "open items of the account")
        self.state.put(ACCOUNTS, account, msgspec.structs.replace(record, open_items=record.open_items + 1))
        self.state.put(OPEN_ITEMS, account + kind + item, MARKER)

    def close_item(self, account: bytes, kind: bytes, item: bytes) -> None:
        record = self.account(account)
        assert self.state.get(OPEN_ITEMS, account + kind + item) is not None
        self.state.put(ACCOUNTS, account, msgspec.structs.replace(record, open_items=record.open_items - 1))
        self.state.delete(OPEN_ITEMS, account + kind + item)

    def attempt(self) -> tuple[int, int]:
        """A savepoint of state and events, for `undo`."""
        return self.state.savepoint(), len(self.events)

    def undo(self, savepoint: tuple[int, int]) -> None:
        """Take back everything since the savepoint: a settlement that failed leaves nothing behind."""
        self.state.rollback(savepoint[0])
        del self.events[savepoint[1] :]


def fail(code: Code, detail: str = "") -> NoReturn:
    raise Failed(code, detail)


def paused(state: State) -> bool:
    """Whether the market is paused by governance."""
    record = state.get(PAUSE, SINGLE)
    return record is not None and record.paused
