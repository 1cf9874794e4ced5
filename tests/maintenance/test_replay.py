"""A replay confirms a sound chain from wherever it begins, and names the block and the thing that differ."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from otcnode.bench.chain import ChainBuilder, genesis_of
from otcnode.codec import decode, encode
from otcnode.errors import ConfigurationError, StorageDamage
from otcnode.maintenance import replay as replays
from otcnode.maintenance.replay import Differs, Replayed, Unusable, begin, first_height, replay
from otcnode.storage.kv import MemoryKeyValue
from otcnode.storage.pruning import prune
from otcnode.storage.records import StoredReceipts
from otcnode.storage.rollback import rollback
from otcnode.storage.schema import Meta, Table, height_key
from otcnode.storage.store import Store
from otcnode.vm import balances
from otcnode.vm.accounts.records import CASH_ASSETS, CashAsset
from otcnode.vm.context import Context

GENESIS = genesis_of(validators=4, buckets=256)
HEIGHT, TRANSACTIONS = 12, 3


@pytest.fixture
def kv() -> MemoryKeyValue:
    memory = MemoryKeyValue()
    ChainBuilder(memory, GENESIS).grow(HEIGHT, TRANSACTIONS)
    return memory


def opened(kv: MemoryKeyValue) -> Store:
    return ChainBuilder(kv, GENESIS).store


def run(kv: MemoryKeyValue, height: int | None = None, scratch: MemoryKeyValue | None = None) -> Replayed:
    source = opened(kv)
    store = begin(source, scratch or MemoryKeyValue(), GENESIS, first_height(source, height))
    return replay(source, kv, store, GENESIS.time_ms)


def stopped(scratch: MemoryKeyValue, kv: MemoryKeyValue, part: str, done: int, height: int | None = None) -> None:
    """A replay that is interrupted when this much is done."""

    def interrupt(name: str, reached: int, whole: int) -> None:
        if (name, reached) == (part, done):
            raise KeyboardInterrupt

    source = opened(kv)
    with pytest.raises(KeyboardInterrupt):
        store = begin(source, scratch, GENESIS, first_height(source, height), progress=interrupt)
        replay(source, kv, store, GENESIS.time_ms, interrupt)


def test_the_same_calls_build_the_same_chain(kv: MemoryKeyValue) -> None:
    again = MemoryKeyValue()
    ChainBuilder(again, GENESIS).grow(5, TRANSACTIONS)
    ChainBuilder(again, GENESIS).grow(HEIGHT - 5, TRANSACTIONS)
    assert list(again.scan(b"")) == list(kv.scan(b""))


@pytest.mark.parametrize("height", [None, 0, 1, 5, HEIGHT])
def test_a_sound_chain_comes_out_as_it_is_stored(kv: MemoryKeyValue, height: int | None) -> None:
    first = height or 0
    assert run(kv, height) == Replayed(first, HEIGHT, (HEIGHT - first) * TRANSACTIONS)


def test_a_pruned_chain_is_replayed_from_the_state_below_its_first_block(kv: MemoryKeyValue) -> None:
    prune(kv, opened(kv).chain, 4)
    assert run(kv) == Replayed(HEIGHT - 4, HEIGHT, 4 * TRANSACTIONS)
    for height in (0, HEIGHT - 5, HEIGHT + 1):
        with pytest.raises(ConfigurationError, match="can begin at heights 8 to 12"):
            run(kv, height)


def test_a_stopped_replay_goes_on_where_it_was(kv: MemoryKeyValue) -> None:
    scratch = MemoryKeyValue()
    stopped(scratch, kv, "blocks replayed", 7)
    assert run(kv, None, scratch) == Replayed(7, HEIGHT, (HEIGHT - 7) * TRANSACTIONS)


@pytest.mark.parametrize("keys", [50, 100, 1_000])
def test_one_that_is_stopped_while_the_state_is_copied_goes_on_with_that(
    kv: MemoryKeyValue, keys: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "BATCH_KEYS", 50)
    scratch = MemoryKeyValue()
    stopped(scratch, kv, "state copied", keys, 5)
    copied = list(scratch.scan(b""))
    assert len(copied) == 2 * keys, "keys and leaves"
    assert run(kv, 5, scratch) == Replayed(5, HEIGHT, (HEIGHT - 5) * TRANSACTIONS)


def test_a_pruned_chain_goes_on_too(kv: MemoryKeyValue) -> None:
    prune(kv, opened(kv).chain, 4)
    scratch = MemoryKeyValue()
    stopped(scratch, kv, "blocks replayed", 2)
    assert run(kv, None, scratch) == Replayed(HEIGHT - 2, HEIGHT, 2 * TRANSACTIONS)


def test_what_was_copied_wrongly_is_not_held_against_the_chain(
    kv: MemoryKeyValue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "BATCH_KEYS", 50)
    scratch = MemoryKeyValue()
    stopped(scratch, kv, "state copied", 100, 5)
    leaf = next(scratch.scan(Table.TREE.value))[0]
    scratch.write([(leaf, bytes(32))])
    with pytest.raises(Unusable, match="what had been copied does not go with the rest"):
        run(kv, 5, scratch)


def _another_chain(scratch: MemoryKeyValue, kv: MemoryKeyValue) -> None:
    other = MemoryKeyValue()
    ChainBuilder(other, GENESIS).grow(3, 1)
    run(other, None, scratch)


def _longer_chain(scratch: MemoryKeyValue, kv: MemoryKeyValue) -> None:
    run(kv, None, scratch)
    rollback(kv, opened(kv).chain, 9, lambda: None)


def _damaged_head(scratch: MemoryKeyValue, kv: MemoryKeyValue) -> None:
    stopped(scratch, kv, "blocks replayed", 7)
    scratch.write([(Meta.HEAD.value, b"?")])


def _damaged_leaves(scratch: MemoryKeyValue, kv: MemoryKeyValue) -> None:
    stopped(scratch, kv, "blocks replayed", 7)
    scratch.write([(key, bytes(32)) for key, _ in list(scratch.scan(Table.TREE.value))])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_another_chain, "of other blocks"),
        (_longer_chain, "of other blocks"),
        (_damaged_head, r"damaged \(the head .*; nothing else is\)"),
        (_damaged_leaves, r"damaged \(bucket .* of the state tree"),
    ],
)
def test_a_store_that_cannot_be_gone_on_with_says_so_and_nothing_of_the_chain(
    kv: MemoryKeyValue, spoil: Callable[[MemoryKeyValue, MemoryKeyValue], None], words: str
) -> None:
    scratch = MemoryKeyValue()
    spoil(scratch, kv)
    with pytest.raises(Unusable, match=words):
        run(kv, None, scratch)


def test_what_was_begun_lower_serves_once_it_is_there(kv: MemoryKeyValue) -> None:
    scratch = MemoryKeyValue()
    stopped(scratch, kv, "blocks replayed", 7)
    source = opened(kv)
    assert begin(source, scratch, GENESIS, 6, 0).tip.height == 7
    with pytest.raises(Unusable, match="begun at height 0 and had only reached 7"):
        begin(source, scratch, GENESIS, 8, 0)
    with pytest.raises(Unusable, match="begun at height 0 and had not reached anything"):
        begin(source, MemoryKeyValue(), GENESIS, 8, 0)


def _body(kv: MemoryKeyValue) -> None:
    key = height_key(Table.BODY, 7)
    first, second, third = decode(tuple[bytes, ...], kv.get(key) or b"")
    kv.write([(key, encode([second, first, third]))])


def _receipts(kv: MemoryKeyValue) -> None:
    key = height_key(Table.RECEIPTS, 7)
    stored = decode(StoredReceipts, kv.get(key) or b"")
    kv.write([(key, encode(StoredReceipts(stored.automatic_count, stored.receipts[::-1])))])


def _index(kv: MemoryKeyValue) -> None:
    key = next(key for key, _ in kv.scan(Table.INDEX.value) if key.endswith((7).to_bytes(8, "big")))
    kv.write([(key, b"")])


def _state(kv: MemoryKeyValue) -> None:
    """The value changed, and the state tree left as it is: the root does not tell."""
    key = Table.STATE.value + CASH_ASSETS.prefix + b"CNY@BENCH0"
    kv.write([(key, (kv.get(key) or b"") + b"!")])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_body, "block 7 executes differently: execution gives another transactions_root"),
        (_receipts, "block 7: the stored receipts"),
        (_index, "block 7: the index entry"),
        (_state, "the state at height 12 differs in the key"),
    ],
)
def test_what_differs_is_named(kv: MemoryKeyValue, damage: Callable[[MemoryKeyValue], None], words: str) -> None:
    damage(kv)
    with pytest.raises(Differs, match=words):
        run(kv)


def test_a_ledger_with_another_rule_is_named(kv: MemoryKeyValue, monkeypatch: pytest.MonkeyPatch) -> None:
    """What replay is for: a version that executes a block otherwise than its validators did."""
    true = balances.create_cash

    def generous(context: Context, asset: CashAsset, account: bytes, cash: str, amount: int) -> CashAsset:
        return true(context, asset, account, cash, amount + (context.environment.height == 9))

    monkeypatch.setattr(balances, "create_cash", generous)
    with pytest.raises(Differs, match=r"block 9 executes differently: .* receipts_root, state_root"):
        run(kv)


def test_a_past_state_that_is_not_the_headers_is_damage(kv: MemoryKeyValue) -> None:
    kv.write([(place, None) for place, _ in list(kv.scan(Table.HISTORY.value)) if b"CNY@BENCH0" in place])
    with pytest.raises(StorageDamage, match="the state of height 5 has another root than its header"):
        run(kv, 5)
