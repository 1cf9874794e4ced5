"""Whom a block's writes may have robbed of the right to sign what it already has waiting."""

from __future__ import annotations

from collections.abc import Mapping

from otcnode.vm.accounts.records import ACCOUNTS, KEYS, AccountStatus
from otcnode.vm.governance.records import NODES
from otcnode.vm.writes import writes_to


def authority_changed(writes: Mapping[bytes, bytes | None]) -> list[bytes]:
    """Accounts with a key written or a status other than ACTIVE, and nodes turned away, ascending."""
    changed = {account_and_key[:32] for account_and_key, _ in writes_to(KEYS, writes)}
    changed |= {account for account, value in writes_to(ACCOUNTS, writes) if not _is_active(value)}
    changed |= {node for node, value in writes_to(NODES, writes) if value is None}
    return sorted(changed)


def _is_active(account: bytes | None) -> bool:
    return account is not None and ACCOUNTS.decode(account).status is AccountStatus.ACTIVE
