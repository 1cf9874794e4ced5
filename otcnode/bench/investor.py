"""The account that large benchmark states consist of."""

from __future__ import annotations

from otcnode.genesis import Role
from otcnode.vm.accounts.records import Account, AccountKind, AccountStatus, Certificate, Thresholds


def investor(created_at: int, identity_commitment: bytes, certificate: Certificate | None) -> Account:
    """A person who is ACTIVE and in whose name nothing is open."""
    return Account(
        organisation=bytes(32),
        kind=AccountKind.PERSON,
        status=AccountStatus.ACTIVE,
        roles=(Role.INVESTOR,),
        thresholds=Thresholds(1, 1, 1),
        encryption_key=bytes(32),
        identity_commitment=identity_commitment,
        ultimate_holders=1,
        certificate=certificate,
        full_freezes=0,
        freezer_until=0,
        open_items=0,
        closing=False,
        created_at=created_at,
    )
