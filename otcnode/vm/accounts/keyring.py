"""The keys of accounts: those that may sign, listed apart from the revoked ones, which only grow in number."""

from __future__ import annotations

from msgspec.structs import replace

from otcnode.genesis import KeyPurpose
from otcnode.vm.accounts.events import KeyAdded, KeyRevoked
from otcnode.vm.accounts.records import KEYS, Key
from otcnode.vm.context import Context
from otcnode.vm.keys import MARKER, Marker, Prefix, Table
from otcnode.vm.state import State

LIVE_KEYS = Table(Prefix.KEY_LIVE, Marker)
"""account id ‖ public key, while it is not revoked"""


def enter(state: State, account: bytes, key: bytes, purpose: KeyPurpose, at: int) -> None:
    """A key that the account did not have, live from now on."""
    state.put(KEYS, account + key, Key(purpose, at, None))
    state.put(LIVE_KEYS, account + key, MARKER)


def add(context: Context, account: bytes, key: bytes, purpose: KeyPurpose) -> None:
    enter(context.state, account, key, purpose, context.now)
    context.emit(KeyAdded(account, key, purpose))


def revoke(context: Context, account: bytes, key: bytes, record: Key) -> None:
    """The key never signs again; it stays known, so that old signatures remain explicable."""
    assert record.revoked_at is None
    context.put(KEYS, account + key, replace(record, revoked_at=context.now))
    context.delete(LIVE_KEYS, account + key)
    context.emit(KeyRevoked(account, key))


def live_keys(state: State, account: bytes) -> dict[bytes, Key]:
    """Public key to key. However many were revoked, it costs what is live."""
    names = [suffix[32:] for suffix, _ in state.scan(LIVE_KEYS, account)]
    return {name: key for name in names if (key := state.get(KEYS, account + name)) is not None}


def forget(context: Context, account: bytes) -> None:
    """The account was never opened: its keys leave nothing behind."""
    for key in live_keys(context.state, account):
        context.delete(KEYS, account + key)
        context.delete(LIVE_KEYS, account + key)
