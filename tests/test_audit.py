"""The audit of a whole store: its state against its receipts, each shown what it must find."""

from __future__ import annotations

from msgspec.structs import replace

from otcnode.audit import ledger_violations
from otcnode.blocks import Certificate
from otcnode.chain import Parent
from otcnode.codec import decode, encode
from otcnode.genesis import KeyPurpose
from otcnode.storage.records import StoredReceipts
from otcnode.storage.schema import Table
from otcnode.storage.store import Store
from otcnode.vm.accounts.operations import AccountFreeze, CashDeposit
from otcnode.vm.accounts.records import CASH_BALANCES, CashBalance
from otcnode.vm.operations import Operation
from otcnode.vm.results import Receipt
from tests.test_chain import Growing
from tests.vm.ledger import CASH, EVIDENCE


class Kept(Growing):
    """A chain whose blocks are committed, with a deposit and a freeze of a part of it."""

    def __init__(self) -> None:
        super().__init__()
        account = self.signer.ids["ISS"]
        self.do("BANK", CashDeposit(account, CASH, 700, "in"))
        self.do("REG", AccountFreeze(account, CASH.encode(), 200, EVIDENCE, None))
        self.deposit_key = Table.RECEIPTS.value + (1).to_bytes(8, "big")
        self.balance_key = Table.STATE.value + CASH_BALANCES.prefix + account + CASH.encode()

    def do(self, by: str, operation: Operation) -> None:
        block = self.grow(self.signed(by, operation, KeyPurpose.TRADE))
        self.store.commit(
            header=block.header,
            certificate=Certificate(1, 0, block.header.height, block.block_hash, ()),
            entries=block.entries,
            transactions=[decoded.raw for decoded in block.transactions],
            receipts=block.receipts,
            automatic_count=len(block.result.automatic),
            state_writes=block.result.writes,
            tree_changes=block.tree,
        )
        self.parent = Parent(
            block.header.height, block.block_hash, block.header.time_ms, self.store.state, None, block.next_epoch
        )

    def found(self) -> list[int]:
        store = Store.open(self.kv, self.chain, 10)
        return [violation.invariant for violation in ledger_violations(store, self.chain)]


def test_a_sound_store_has_no_violations() -> None:
    assert Kept().found() == []


def test_a_receipt_that_lost_its_events_does_not_come_to_the_state() -> None:
    kept = Kept()
    raw = kept.kv.get(kept.deposit_key)
    assert raw is not None
    stored = decode(StoredReceipts, raw)
    emptied = encode(replace(decode(Receipt, stored.receipts[0]), events=()))
    kept.kv.write([(kept.deposit_key, encode(replace(stored, receipts=(emptied,))))])
    assert kept.found() == [31, 31], "the balance and the total"


def test_a_balance_that_no_receipt_tells_of_is_found_twice() -> None:
    kept = Kept()
    kept.kv.write([(kept.balance_key, encode(CashBalance(701, 0, 200, None)))])
    assert kept.found() == [1, 31]
