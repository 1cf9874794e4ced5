"""Which accounts a block's writes may have robbed of the right to sign what they already have waiting."""

from __future__ import annotations

from collections.abc import Mapping

from otcnode.vm.accounts.records import ACCOUNTS, KEYS, AccountStatus


def authority_changed(writes: Mapping[bytes, bytes | None]) -> list[bytes]:
    """Accounts with a key written or a status other than ACTIVE, ascending."""
    changed: set[bytes] = set()
    for key, value in writes.items():
        table, account = key[:1], key[1:33]
        if table == KEYS.prefix or (
            table == ACCOUNTS.prefix and (value is None or ACCOUNTS.decode(value).status is not AccountStatus.ACTIVE)
        ):
            changed.add(account)
    return sorted(changed)
