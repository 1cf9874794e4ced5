"""Blocks built and checked on each other: the validators' change is announced by the block before it."""

from __future__ import annotations

import dataclasses

import pytest
from msgspec.structs import replace

from otcnode import chain
from otcnode.blocks import Epoch, validators_hash
from otcnode.chain import BlockFault, Listed, Parent, Speculation
from otcnode.genesis import KeyPurpose, chain_id, first_epoch
from otcnode.storage.kv import MemoryKeyValue
from otcnode.storage.store import Store
from otcnode.vm.accounts.operations import AccountFreeze, CashDeposit
from otcnode.vm.genesis_state import genesis_writes
from otcnode.vm.governance.events import ProposalChanged
from otcnode.vm.governance.operations import AccessLog, GovernanceApprove, GovernancePropose, ValidatorReady
from otcnode.vm.governance.records import NodeAdmit, ParameterChange, ParameterSet, ValidatorSet
from otcnode.vm.operations import Operation
from otcnode.vm.transactions import Decoded, sign_as_node
from tests.vm.ledger import CASH, EVIDENCE, START_MS, Ledger, key_of, make_genesis

MANAGE = KeyPurpose.MANAGE
OLD, NEW = key_of("v"), key_of("joiner")
OLD_EPOCH = first_epoch(make_genesis(state_buckets=16))


class Growing:
    """A chain of blocks in flight on the genesis, built by the validator and checked as another node would."""

    def __init__(self, **parameters: int) -> None:
        genesis = make_genesis(state_buckets=16, **parameters)
        self.chain = chain_id(genesis)
        self.kv = kv = MemoryKeyValue()
        Store.create(kv, self.chain, genesis_writes(genesis), 16, first_epoch(genesis), 10)
        self.store = Store.open(kv, self.chain, 10)
        tip = self.store.tip
        self.parent = Parent(0, tip.block_hash, START_MS, self.store.state, None, first_epoch(genesis))
        self.signer = Ledger(**parameters)
        self.signer.chain = self.chain

    def signed(self, by: str, operation: Operation, purpose: KeyPurpose = MANAGE) -> Decoded:
        return self.signer.sign(by, operation, purpose=purpose, valid_until=START_MS + 60_000)

    def grow(self, *transactions: Decoded, proposer: bytes | None = None) -> Speculation:
        proposer = self.parent.epoch.validators[0] if proposer is None else proposer
        time_ms = self.parent.time_ms + 1
        block, refused = chain.build(
            self.parent, self.chain, proposer, time_ms, transactions, 100, self.store.tree.speculate
        )
        assert not refused
        bodies = list(block.transactions)
        again = chain.check(self.parent, self.chain, block.header, bodies, self.store.tree.speculate)
        assert (again.block_hash, again.next_epoch) == (block.block_hash, block.next_epoch)
        self.parent = block.as_parent()
        return block

    def decide(self, action: NodeAdmit | ValidatorSet | ParameterSet) -> Speculation:
        block = self.grow(self.signed("REG", GovernancePropose(action, "why", EVIDENCE)))
        (name,) = [event.proposal for event in block.result.events if isinstance(event, ProposalChanged)]
        return self.grow(self.signed("LIST", GovernanceApprove(name)))


def test_a_change_executed_at_h_is_announced_at_h_plus_1_and_decides_h_plus_2() -> None:
    growing = Growing()
    growing.decide(NodeAdmit(NEW.public, True, "joiner", "Some bank", ""))
    said = growing.parent.height
    growing.grow(sign_as_node(growing.chain, ValidatorReady(NEW.public, said), NEW, bytes(32), START_MS + 60_000))
    deciding = growing.decide(ValidatorSet((NEW.public,)))
    here = deciding.header.height
    new_epoch = Epoch(here + 2, (NEW.public,), OLD_EPOCH.parameters)
    old, new = validators_hash(OLD_EPOCH), validators_hash(new_epoch)
    assert (deciding.header.validators_hash, deciding.header.next_validators_hash) == (old, old)
    assert deciding.next_epoch == OLD_EPOCH
    last = growing.grow()
    assert (last.header.validators_hash, last.header.next_validators_hash) == (old, new)
    assert last.next_epoch == new_epoch
    with pytest.raises(BlockFault, match="proposer"):
        growing.grow(proposer=OLD.public)
    first = growing.grow()
    assert (first.header.validators_hash, first.header.next_validators_hash) == (new, new)
    assert growing.grow().next_epoch == new_epoch


def test_a_header_commits_to_its_bodies_in_their_order_and_to_no_others() -> None:
    growing = Growing()
    signed = [
        growing.signed("LIST", AccessLog(EVIDENCE, f"why {number}", EVIDENCE), KeyPurpose.TRADE) for number in range(4)
    ]
    *inside, outside = signed
    header = growing.grow(*inside).header
    assert Listed.of(inside).are_those_of(header)
    for others in ([], inside[:2], inside[::-1], [*inside, inside[0]], [*inside, outside], [*inside[:2], outside]):
        assert not Listed.of(others).are_those_of(header)
    listed = Listed.of(inside)
    assert Listed.of(listed) is listed and listed.entries is listed.entries, "worked out once"


def test_a_block_that_announces_other_validators_is_refused() -> None:
    growing = Growing()
    block, _ = chain.build(
        growing.parent, growing.chain, OLD.public, START_MS + 1, [], 100, growing.store.tree.speculate
    )
    wrong = replace(block.header, next_validators_hash=validators_hash(Epoch(1, (NEW.public,), OLD_EPOCH.parameters)))
    with pytest.raises(BlockFault, match="next_validators_hash"):
        chain.check(growing.parent, growing.chain, wrong, (), growing.store.tree.speculate)


def test_transactions_wait_until_what_is_due_fits_into_a_block() -> None:
    """With room for one due item per block two expiries come first, and a primary that does not wait is refused."""
    growing = Growing(due_class1_weight_max=1)
    account = growing.signer.ids["ISS"]
    start = growing.parent.time_ms
    freezes = [AccountFreeze(account, None, 0, EVIDENCE, start + until) for until in (3, 4)]
    growing.grow(*(growing.signed("REG", freeze, KeyPurpose.TRADE) for freeze in freezes))
    growing.parent = dataclasses.replace(growing.parent, time_ms=start + 9)
    eager = growing.signed("LIST", AccessLog(EVIDENCE, "why", EVIDENCE), KeyPurpose.TRADE)
    parent = growing.parent
    behind = growing.grow(eager)
    assert (behind.header.transaction_count, len(behind.result.automatic)) == (0, 1)
    with pytest.raises(BlockFault, match="goes first"):
        chain.check(parent, growing.chain, behind.header, (eager,), growing.store.tree.speculate)
    following = growing.grow(eager)
    assert (following.header.transaction_count, len(following.result.automatic)) == (1, 1)


def test_limits_of_a_block_change_with_the_epoch_and_not_a_height_before() -> None:
    """The block between is decided by replicas that still keep to the old limits."""
    growing = Growing()
    growing.decide(ParameterSet((ParameterChange("block_transactions_max", 1),)))

    def deposits() -> list[Decoded]:
        names = [f"{growing.parent.height}-{number}" for number in range(2)]
        operations = [CashDeposit(growing.signer.ids["KYC"], CASH, 1, name) for name in names]
        return [growing.signed("BANK", operation, KeyPurpose.TRADE) for operation in operations]

    assert growing.grow(*deposits()).header.transaction_count == 2
    assert growing.grow(*deposits()).header.transaction_count == 1
