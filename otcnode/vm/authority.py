"""Whom a block's writes may have robbed of the right to sign what it already has waiting."""

from __future__ import annotations

from collections.abc import Mapping

from otcnode.vm.accounts.records import ACCOUNTS, KEYS, AccountStatus
from otcnode.vm.governance.records import NODES


def authority_changed(writes: Mapping[bytes, bytes | None]) -> list[bytes]:
    """Accounts with a key written or a status other than ACTIVE, and nodes turned away, ascending."""
    changed: set[bytes] = set()
    for key, value in writes.items():
        table, author = key[:1], key[1:33]
        if (
            table == KEYS.prefix
            or (table == ACCOUNTS.prefix and not _is_active(value))
            or (table == NODES.prefix and value is None)
        ):
            changed.add(author)
    return sorted(changed)


def _is_active(account: bytes | None) -> bool:
    return account is not None and ACCOUNTS.decode(account).status is AccountStatus.ACTIVE
