"""A chain whose state is large: the records of many accounts, of the ledger's forms, written without operations."""

from __future__ import annotations

from collections.abc import Iterator

from otcnode.bench import chain
from otcnode.bench.investor import investor
from otcnode.blocks import HEADER_VERSION, Header, transactions_root, validators_hash
from otcnode.codec import encode
from otcnode.crypto import sha256
from otcnode.genesis import KeyPurpose
from otcnode.merkle import root
from otcnode.vm.accounts.keyring import LIVE_KEYS
from otcnode.vm.accounts.records import ACCOUNTS, CASH_BALANCES, KEYS, CashBalance, Key
from otcnode.vm.keys import MARKER

ACCOUNTS_PER_BLOCK = 20_000
CASH = b"CNY@BENCH0"


def grow(builder: chain.ChainBuilder, accounts: int) -> None:
    """So many investors with a key and cash, four keys of the state each, in certified blocks without transactions.
    Nobody could execute them: let the chain keep its last block only."""
    for writes in _writes(accounts):
        _commit(builder, writes)


def _writes(accounts: int) -> Iterator[dict[bytes, bytes | None]]:
    """Investors with a key and cash, in blocks."""
    account = encode(investor(chain.START_MS, sha256(b"identity"), None))
    key, marker = encode(Key(KeyPurpose.TRADE, chain.START_MS, None)), encode(MARKER)
    for first in range(0, accounts, ACCOUNTS_PER_BLOCK):
        writes: dict[bytes, bytes | None] = {}
        for number in range(first, min(first + ACCOUNTS_PER_BLOCK, accounts)):
            name, public = sha256(b"investor %d" % number), sha256(b"key %d" % number)
            writes[ACCOUNTS.prefix + name] = account
            writes[CASH_BALANCES.prefix + name + CASH] = encode(CashBalance(1_000_000 + number, 0, 0, None))
            writes[KEYS.prefix + name + public] = key
            writes[LIVE_KEYS.prefix + name + public] = marker
        yield writes


def _commit(builder: chain.ChainBuilder, writes: dict[bytes, bytes | None]) -> None:
    """A certified block without transactions after which the state holds these pairs too. Nobody could execute it, and
    nobody is given it: the chain keeps the last block only."""
    store = builder.store
    tip = store.tip
    changes = store.tree.speculate(writes)
    epoch = store.epoch_of(tip.height + 1)
    header = Header(
        version=HEADER_VERSION,
        chain=builder.chain,
        height=tip.height + 1,
        parent=tip.block_hash,
        time_ms=chain.START_MS + chain.BLOCK_MS * (tip.height + 1),
        proposer=epoch.validators[0],
        transaction_count=0,
        transactions_root=transactions_root(()),
        receipts_root=root(()),
        state_root=changes.root,
        validators_hash=validators_hash(epoch),
        next_validators_hash=validators_hash(epoch),
    )
    store.commit(
        header=header,
        certificate=builder.certificate(header),
        entries=(),
        transactions=(),
        receipts=(),
        automatic_count=0,
        state_writes=writes,
        tree_changes=changes,
    )
