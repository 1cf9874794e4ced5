"""The pool is bounded, fair between accounts and in order of arrival."""

import itertools
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otcnode import limits
from otcnode.blocks import transaction_full_hash
from otcnode.mempool import Limits, Mempool, Refusal
from otcnode.vm.accounts.operations import KeyRevoke
from otcnode.vm.governance.operations import ValidatorReady
from otcnode.vm.operations import Operation
from otcnode.vm.transactions import Body, Decoded, KeySignature, Transaction, transaction_id

REVOKE = KeyRevoke(bytes(32))


def transaction(
    number: int,
    *,
    sender: int | None = 0,
    valid_until: int = 1_000,
    signature: int = 0,
    operation: Operation = REVOKE,
) -> Decoded:
    body = Body(
        1,
        bytes(32),
        b"" if sender is None else bytes([sender]) * 32,
        number.to_bytes(32, "big"),
        valid_until,
        None,
        None,
        (operation,),
    )
    envelope = Transaction(body, (KeySignature(bytes(32), bytes([signature]) * 64),))
    raw = number.to_bytes(32, "big") + bytes([signature]) + bytes(200)
    return Decoded(envelope, raw, transaction_id(body), transaction_full_hash(raw))


def test_order_of_arrival() -> None:
    pool = Mempool()
    arrived = [transaction(number) for number in (3, 1, 2)]
    for each in arrived:
        assert pool.add(each) is None
    assert list(pool) == arrived


def test_the_place_of_what_waits() -> None:
    pool = Mempool()
    decoded = [transaction(number) for number in range(3)]
    for entry in decoded:
        pool.add(entry)
    assert [pool.place(entry.id) for entry in decoded] == [0, 1, 2]
    pool.remove([decoded[0].id])
    assert [pool.place(entry.id) for entry in decoded] == [None, 0, 1]


def test_one_id_is_held_once_and_the_first_copy_stays() -> None:
    pool = Mempool()
    first, forged = transaction(1), transaction(1, signature=7)
    pool.add(first)
    assert pool.add(forged) is None
    assert list(pool) == [first]
    assert pool.by_full_hash(forged.full_hash) is None


def test_bounds() -> None:
    size = len(transaction(1).raw)
    assert _fill(Limits(3, 10**6, 10)) == (3, Refusal.FULL)
    assert _fill(Limits(10, 2 * size, 10)) == (2, Refusal.FULL)
    assert _fill(Limits(10, 10**6, 4)) == (4, Refusal.QUOTA)


def test_those_without_an_account_share_a_small_quota_of_their_own() -> None:
    pool = Mempool(Limits(10, 10**6, 10, applications_max=2))
    applications = [transaction(number, sender=None) for number in range(3)]
    assert [pool.add(each) for each in applications] == [None, None, Refusal.QUOTA]
    assert pool.add(transaction(9)) is None


@pytest.mark.parametrize("sender", [0, None])
def test_nobody_fills_the_pool_with_large_transactions(sender: int | None) -> None:
    """An account has a share of the bytes, as have those without one; what leaves makes room."""
    size = len(transaction(1).raw)
    pool = Mempool(Limits(10, 10**6, 10, per_author_bytes_max=2 * size))
    mine = [transaction(number, sender=sender) for number in range(3)]
    assert [pool.add(each) for each in mine] == [None, None, Refusal.QUOTA_BYTES]
    assert pool.add(transaction(9, sender=1)) is None
    pool.remove([mine[0].id])
    assert [pool.add(each) for each in (mine[2], mine[0])] == [None, Refusal.QUOTA_BYTES]
    pool.remove([each.id for each in mine])
    assert list(pool._bytes_per_author) == [bytes([1]) * 32]


def test_the_share_of_bytes_is_far_from_the_pool_and_holds_the_largest_transactions() -> None:
    share = Limits().per_author_bytes_max
    assert 100 * limits.transaction_bytes_max <= share <= Limits().bytes_max // 8


_ROOM = Limits(400, 400 * 233, 400, few_max=3, few_bytes_max=3 * 233, per_author_bytes_max=400 * 233)
"""Of 400 places 300 are open to all, 100 to those with few."""


def _greedy(pool: Mempool, authors: Iterable[int], numbers: Iterator[int]) -> None:
    """Each of them sends until it is refused, one after the other."""
    for author in authors:
        while pool.add(transaction(next(numbers), sender=author)) is None:
            pass


@pytest.mark.parametrize("accomplices", [1, 2, 5, 10, 29])
def test_accounts_in_league_leave_a_part_for_everybody_else(accomplices: int) -> None:
    """Whatever the order: the places that are open to all are never all taken, the others hardly."""
    pool, numbers = Mempool(_ROOM), itertools.count()
    _greedy(pool, range(accomplices), numbers)
    _greedy(pool, range(accomplices), numbers)
    assert len(pool) <= 300 - 300 // (accomplices + 1) + 3 * accomplices
    few = [pool.add(transaction(next(numbers), sender=200)) for _ in range(3)]
    assert few == [None, None, None]


def test_one_account_alone_has_more_than_a_third_of_the_open_places() -> None:
    pool, numbers = Mempool(_ROOM), itertools.count()
    _greedy(pool, [0], numbers)
    assert len(pool) > 300 // 3
    assert pool.add(transaction(next(numbers), sender=0)) is Refusal.SHARE


def test_a_share_follows_what_is_free() -> None:
    """What leaves the pool makes room for whoever was refused."""
    pool, numbers = Mempool(_ROOM), itertools.count()
    _greedy(pool, [0, 1, 2], numbers)
    before = len(pool.of_author(bytes([2]) * 32))
    pool.remove([decoded.id for decoded in pool.of_author(bytes(32))])
    _greedy(pool, [2], numbers)
    assert len(pool.of_author(bytes([2]) * 32)) > before


def test_large_transactions_share_the_bytes_alike() -> None:
    bounds = Limits(10**6, 400 * 233, 400, few_max=3, few_bytes_max=3 * 233, per_author_bytes_max=400 * 233)
    pool, numbers = Mempool(bounds), itertools.count()
    _greedy(pool, range(10), numbers)
    assert pool.bytes_held <= 233 * (300 - 300 // 11 + 3 * 10)
    assert pool.add(transaction(next(numbers), sender=0)) is Refusal.SHARE_BYTES
    assert [pool.add(transaction(next(numbers), sender=200)) for _ in range(3)] == [None] * 3


def test_it_takes_hundreds_of_accounts_to_fill_the_places_of_those_with_few() -> None:
    bounds = Limits()
    kept, kept_bytes = bounds.transactions_max // 4, bounds.bytes_max // 4
    assert kept // bounds.few_max >= 500 and kept_bytes // bounds.few_bytes_max >= 250
    assert bounds.few_bytes_max >= limits.transaction_bytes_max


def test_a_node_has_a_quota_of_its_own() -> None:
    pool = Mempool(Limits(10, 10**6, 10, applications_max=1, per_node_max=2))
    said = [
        transaction(number, sender=None, operation=ValidatorReady(bytes([node]) * 32, 1))
        for node in (1, 2)
        for number in range(3 * node, 3 * node + 3)
    ]
    assert [pool.add(each) for each in said] == [None, None, Refusal.QUOTA] * 2
    assert pool.add(transaction(9, sender=None)) is None
    assert pool.of_author(bytes([2]) * 32) == said[3:5]
    pool.remove([said[3].id])
    assert pool.add(said[5]) is None
    assert pool.of_author(bytes([2]) * 32) == [said[4], said[5]]


def _fill(bounds: Limits) -> tuple[int, Refusal | None]:
    pool = Mempool(bounds)
    for number in range(100):
        refusal = pool.add(transaction(number))
        if refusal is not None:
            return len(pool), refusal
    return len(pool), None


@pytest.mark.parametrize(("time_ms", "expired"), [(999, False), (1_000, True), (1_001, True)])
def test_validity_ends_to_the_millisecond(time_ms: int, expired: bool) -> None:
    pool = Mempool()
    each = transaction(1, valid_until=1_000)
    pool.add(each)
    assert pool.expired(time_ms) == ([each.id] if expired else [])


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20), st.integers(0, 2))))
def test_counts_always_agree_with_the_contents(steps: list[tuple[bool, int, int]]) -> None:
    pool = Mempool(Limits(10, 10**6, 4))
    for adds, number, sender in steps:
        each = transaction(number, sender=sender)
        if adds:
            pool.add(each)
        else:
            pool.remove([each.id])
        held = list(pool)
        assert len(pool) == len(held) <= 10
        assert pool.bytes_held == sum(len(entry.raw) for entry in held)
        for account in range(3):
            of_account = pool.of_author(bytes([account]) * 32)
            assert of_account == [entry for entry in held if entry.transaction.body.sender == bytes([account]) * 32]
            assert len(of_account) <= 4


def test_a_validator_pushes_so_many_past_the_quotas_and_no_more() -> None:
    pool = Mempool(Limits(transactions_max=2, bytes_max=10**6, per_account_max=1, urgent_per_validator_max=2))
    assert pool.add(transaction(1)) is None
    assert pool.add(transaction(2)) is Refusal.QUOTA
    first, second = b"v" * 32, b"w" * 32
    assert [pool.add(transaction(number), bearer=first) for number in (2, 3, 4)] == [None, None, Refusal.URGENT]
    assert pool.add(transaction(4), bearer=second) is None
    pool.remove([transaction(2).id])
    assert pool.add(transaction(5), bearer=first) is None


def test_what_is_pushed_takes_no_room_from_others() -> None:
    size = len(transaction(1).raw)
    pool = Mempool(Limits(transactions_max=2, bytes_max=2 * size))
    for number in range(10):
        assert pool.add(transaction(number), bearer=b"v" * 32) is None
    assert [pool.add(transaction(number, sender=1)) for number in (10, 11, 12)] == [None, None, Refusal.FULL]
    pool.remove([*(transaction(number).id for number in range(10)), transaction(10, sender=1).id])
    assert pool.add(transaction(13, sender=1)) is None
    assert (len(pool), pool.bytes_held) == (2, 2 * size)


def test_remembers_when_a_transaction_came() -> None:
    pool = Mempool()
    pool.add(transaction(1), 17)
    pool.add(transaction(1), 99)
    assert pool.seen_ms(transaction(1).id) == 17
    pool.remove([transaction(1).id])
    assert pool.seen_ms(transaction(1).id) is None
