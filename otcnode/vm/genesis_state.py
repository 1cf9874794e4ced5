"""The state before block 1: what the genesis document says, written into the tables."""

from __future__ import annotations

from collections.abc import Iterator

from otcnode.genesis import (
    Genesis,
    GenesisAccount,
    GenesisNode,
    GenesisValidator,
    KeyPurpose,
    first_epoch,
    genesis_account_id,
)
from otcnode.vm.accounts import keyring
from otcnode.vm.accounts.records import (
    ACCOUNTS,
    CASH_ASSETS,
    ORGANISATIONS,
    Account,
    AccountKind,
    AccountStatus,
    CashAsset,
    Organisation,
    Thresholds,
    organisation_id,
)
from otcnode.vm.accounts.totals import note_total
from otcnode.vm.context import PARAMETERS
from otcnode.vm.governance.records import GOVERNING, GOVERNORS, NODES, SCHEDULE, Node, Schedule
from otcnode.vm.keys import MARKER, SINGLE
from otcnode.vm.state import State


class _Nothing:
    """The view under the genesis."""

    def get(self, key: bytes) -> bytes | None:
        return None

    def scan(
        self, prefix: bytes, after: bytes | None = None, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        return iter(())


def genesis_writes(genesis: Genesis) -> dict[bytes, bytes]:
    """Key to value of the first state, ascending by key."""
    state = State(_Nothing())
    state.put(PARAMETERS, SINGLE, genesis.parameters)
    nodes: list[GenesisValidator | GenesisNode] = [*genesis.validators, *genesis.nodes]
    for node in nodes:
        _write_node(state, node)
    epoch = first_epoch(genesis)
    state.put(SCHEDULE, SINGLE, Schedule(epoch, None))
    for account in genesis.accounts:
        _write_account(state, account, genesis.time_ms)
    for cash in genesis.cash:
        asset = CashAsset(
            custodian=genesis_account_id(cash.custodian),
            decimals=cash.decimals,
            daily_deposit_limit=cash.daily_deposit_limit,
            day=0,
            day_deposited=0,
            total=0,
            deposited=0,
            withdrawn=0,
            corrected_up=0,
            corrected_down=0,
            stopped=False,
        )
        state.put(CASH_ASSETS, cash.id.encode(), asset)
        note_total(state, cash.id, 0, 0, 0)
    return {key: value for key, value in state.writes().items() if value is not None}


def _name_organisation(state: State, name: str) -> None:
    state.put(ORGANISATIONS, organisation_id(name), Organisation(name))


def _write_node(state: State, node: GenesisValidator | GenesisNode) -> None:
    _name_organisation(state, node.organisation)
    state.put(NODES, node.id, Node(node.name, organisation_id(node.organisation), node.address))


def _write_account(state: State, account: GenesisAccount, time_ms: int) -> None:
    _name_organisation(state, account.organisation)
    name = genesis_account_id(account.name)
    purposes = {entry.purpose for entry in account.keys}
    needed = {purpose: account.thresholds.get(purpose, 1 if purpose in purposes else 0) for purpose in KeyPurpose}
    record = Account(
        organisation=organisation_id(account.organisation),
        kind=AccountKind.COMPANY,
        status=AccountStatus.ACTIVE,
        roles=account.roles,
        thresholds=Thresholds(needed[KeyPurpose.MANAGE], needed[KeyPurpose.TRADE], needed[KeyPurpose.SIGN]),
        encryption_key=account.encryption_key,
        identity_commitment=None,
        ultimate_holders=1,
        certificate=None,
        full_freezes=0,
        freezer_until=0,
        open_items=0,
        closing=False,
        created_at=time_ms,
    )
    state.put(ACCOUNTS, name, record)
    if not GOVERNING.isdisjoint(account.roles):
        state.put(GOVERNORS, name, MARKER)
    for entry in account.keys:
        keyring.enter(state, name, entry.key, entry.purpose, time_ms)
