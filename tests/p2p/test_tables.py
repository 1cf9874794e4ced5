"""Bans, back-off, rates, addresses and announcements: pure tables with time handed in."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otcnode import crypto
from otcnode.crypto import SigningKey, sha256
from otcnode.p2p import announcements
from otcnode.p2p.announcements import (
    ANNOUNCEMENTS_PER_FRAME_MAX,
    AnnouncementTable,
    Due,
    NodeAnnouncement,
    announce,
    in_frames,
)
from otcnode.p2p.close import PeerError
from otcnode.p2p.framing import Channel
from otcnode.p2p.peers import AddressBook, Backoff, Pauses, parse_address
from otcnode.p2p.rates import ChannelRates, PeerRates, Rate, Saturation, SharedWork, TokenBucket, WorkBudget

NODE, OTHER = b"n" * 32, b"o" * 32
CHAIN = sha256(b"chain")


def test_bans_double_to_a_bound_and_end_on_the_millisecond() -> None:
    bans = Pauses[bytes](1_000, 5_000, 10)
    now = 0
    for expected in (1_000, 2_000, 4_000, 5_000, 5_000):
        until = bans.begin(NODE, now)
        assert until == now + expected
        assert bans.until(NODE, until - 1) == until
        assert bans.until(NODE, until) == 0
        now = until
    assert bans.until(OTHER, now) == 0


def test_a_clean_time_forgives() -> None:
    bans = Pauses[bytes](1_000, 5_000, 10)
    bans.begin(NODE, 0)
    assert bans.begin(NODE, 1_000 + 5_000 - 1) == 5_999 + 2_000
    assert bans.begin(NODE, 7_999 + 5_000) == 12_999 + 1_000


def test_the_table_of_bans_is_bounded_and_forgets_the_longest_untouched() -> None:
    bans = Pauses[bytes](1_000, 5_000, 2)
    for node in (b"1" * 32, b"2" * 32, b"1" * 32, b"3" * 32):
        bans.begin(node, 0)
    assert [bool(bans.until(node * 32, 1)) for node in (b"1", b"2", b"3")] == [True, False, True]


def test_backoff_doubles_with_jitter_and_resets() -> None:
    backoff = Backoff(100, 500)
    assert [backoff.delay_ms(0.0) for _ in range(4)] == [100, 200, 400, 500]
    assert backoff.delay_ms(0.999_999) == 251
    backoff.reset()
    assert backoff.delay_ms(0.5) == 75


def test_a_bucket_lets_the_burst_through_then_the_rate() -> None:
    bucket = TokenBucket(Rate(per_second=100, burst=50), 0)
    assert bucket.take(50, 0) == 0
    assert bucket.take(1, 0) == 10
    assert bucket.take(0, 9) == 1
    assert bucket.take(0, 10) == 0
    assert not bucket.try_take(1, 19)
    assert bucket.try_take(1, 20)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 50)), max_size=60))
def test_who_waits_as_told_never_exceeds_rate_plus_burst(steps: list[tuple[int, int]]) -> None:
    bucket = TokenBucket(Rate(per_second=1_000, burst=50), 0)
    now = spent = 0
    for pause, amount in steps:
        now += pause
        spent += amount
        now += bucket.take(amount, now)
        assert spent <= 50 + now


def test_time_that_stands_still_or_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(Rate(per_second=1_000, burst=1), 1_000)
    assert bucket.try_take(1, 1_000)
    assert not bucket.try_take(1, 0)
    assert not bucket.try_take(1, 1_000)


def test_channels_have_their_own_rates_in_messages_and_bytes() -> None:
    rates = PeerRates(dict.fromkeys(Channel, ChannelRates(Rate(10, 10), Rate(1_000, 1_000))), 0)
    assert rates.take(Channel.TRANSACTIONS, 11, 100, 0) == 100
    assert rates.take(Channel.SYNC, 1, 3_000, 0) == 2_000
    assert rates.take(Channel.CONSENSUS, 10, 1_000, 0) == 0


def test_the_work_of_a_peer_is_bounded_in_the_long_run_and_half_a_second_of_its_share_may_come_at_once() -> None:
    budget = WorkBudget(0)
    budget.take(0, 100_000, 10_000)
    assert budget.take(50_000, 100_000, 10_000) == 0
    assert budget.take(10_000, 100_000, 10_000) == 100
    now_ms, worked_us = 10_000, 0
    for _ in range(500):
        now_ms += budget.take(3_000, 100_000, now_ms)
        worked_us += 3_000
    assert worked_us <= (now_ms - 10_000) * 100 + 3_000


@pytest.mark.parametrize("guests", [1, 2, 3, 16, 64])
def test_all_guests_together_get_no_more_than_their_work_whoever_is_held_back(guests: int) -> None:
    shared = SharedWork(250_000)
    shared.guests = guests
    for held_back in range(guests + 1):
        shared.held_back = held_back
        given = held_back * shared.share_us(held_back=True) + (guests - held_back) * shared.share_us(held_back=False)
        assert 0.45 * 250_000 <= given <= 250_000
    shared.held_back = 1
    assert shared.share_us(held_back=True) >= 125_000, "the others have nothing to say"


def test_who_is_held_back_half_of_the_time_is_busy_and_who_is_always_is_a_flood() -> None:
    busy = Saturation(1_000, 0)
    assert not any(busy.held_back(100, now_ms) for now_ms in range(200, 600_000, 200))
    flood, now_ms = Saturation(1_000, 0), 100
    while not flood.held_back(100, now_ms):
        now_ms += 100
    assert 1_000 < now_ms <= 2_100


def test_one_long_wait_is_a_burst_and_a_clock_that_goes_back_forgives_nothing() -> None:
    burst = Saturation(1_000, 5_000)
    assert not burst.held_back(2_000, 7_000)
    assert burst.held_back(1, 0)
    assert not burst.held_back(1, 9_000)


def test_addresses_configured_and_announced_are_both_tried() -> None:
    book = AddressBook()
    assert book.of(NODE) == ()
    book.announce(NODE, "b:2")
    book.configure(NODE, "a:1")
    assert book.of(NODE) == ("a:1", "b:2")
    book.announce(NODE, "a:1")
    assert book.of(NODE) == ("a:1",)
    book.configure(OTHER, "c:3")
    assert book.nodes() == (NODE, OTHER)


def test_an_announcement_that_says_nothing_new_is_told_from_one_that_does() -> None:
    book = AddressBook()
    assert [book.announce(NODE, address) for address in ("a:1", "a:1", "b:2", "a:1")] == [True, False, True, True]


def test_a_node_whose_announcements_lead_to_others_is_looked_for_ever_more_rarely_wherever_it_says_to_be() -> None:
    book, dialled_ms = AddressBook(1_000, 60_000), []
    for now_ms in range(0, 600_000, 500):
        address = f"somebody:{1 + now_ms // 500}"
        book.announce(NODE, address)
        if book.to_dial(NODE, now_ms):
            dialled_ms.append(now_ms)
            book.misled(NODE, address, now_ms)
    pauses_ms = [later - earlier for earlier, later in itertools.pairwise(dialled_ms)]
    assert pauses_ms[:7] == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000]
    assert set(pauses_ms[7:]) == {60_000}


def test_another_address_cuts_a_long_rest_and_gives_no_liar_more_than_that() -> None:
    """A node that somebody else was found in place of for long, and that has moved, is looked for within a minute."""
    book, dialled_ms = AddressBook(1_000, 600_000, 60_000), []
    book.announce(NODE, "old:1")
    now_ms = 0
    for _ in range(12):
        book.misled(NODE, "old:1", now_ms)
        now_ms = book.rest_until(NODE, now_ms)
    book.misled(NODE, "old:1", now_ms)
    book.announce(NODE, "new:2")
    assert book.to_dial(NODE, now_ms + 59_999) == () and book.to_dial(NODE, now_ms + 60_000) == ("new:2",)
    for later_ms in range(now_ms, now_ms + 600_000, 500):
        book.announce(NODE, f"somebody:{1 + later_ms // 500}")
        if book.to_dial(NODE, later_ms):
            dialled_ms.append(later_ms)
            book.misled(NODE, f"somebody:{1 + later_ms // 500}", later_ms)
    assert {later - earlier for earlier, later in itertools.pairwise(dialled_ms)} == {60_000}


def test_where_a_node_is_found_its_rest_ends() -> None:
    book = AddressBook(1_000, 600_000, 60_000)
    book.configure(NODE, "here:1")
    for now_ms in (0, 1_000, 3_000):
        book.misled(NODE, "here:1", now_ms)
    book.met(NODE, "here:1")
    assert book.to_dial(NODE, 3_000) == ("here:1",)
    book.misled(NODE, "here:1", 3_000)
    assert book.rest_until(NODE, 3_000) == 11_000, "twice as long as the one that was ended"
    book.misled(NODE, "here:1", 611_000)
    assert book.rest_until(NODE, 611_000) == 612_000, "what is long past is forgiven"
    book.configure(NODE, "here:1")
    book.announce(NODE, "there:2")
    book.misled(NODE, "there:2", 3_000)
    book.met(NODE, "here:1")
    assert book.to_dial(NODE, 3_000) == ("here:1",), "the other source rests for itself"


@pytest.mark.parametrize("there", ["somebody else", "nobody who says who it is"])
def test_who_is_found_now_and_then_sends_nobody_to_a_third_any_more_often_for_it(there: str) -> None:
    """It announces the address of a third and its own by turns."""
    book, dialled_ms = AddressBook(1_000, 600_000, 60_000), []
    for now_ms in range(0, 1_200_000, 500):
        place = ("third:1", "own:2")[now_ms // 60_000 % 2]
        book.announce(NODE, place)
        if not book.to_dial(NODE, now_ms):
            continue
        if place == "own:2":
            book.met(NODE, place)
            continue
        dialled_ms.append(now_ms)
        if there == "somebody else":
            book.misled(NODE, place, now_ms)
        book.unmet(NODE, place, now_ms)
    assert len(dialled_ms) <= 6 + 1_200_000 // 60_000
    later_ms = [dial_ms for dial_ms in dialled_ms if dial_ms >= 120_000]
    assert all(later - earlier >= 60_000 for earlier, later in itertools.pairwise(later_ms))


def test_where_nobody_is_found_what_was_announced_is_dialled_ever_more_rarely_and_what_is_configured_is_not() -> None:
    book, dialled_ms = AddressBook(1_000, 600_000, 60_000), []
    book.announce(NODE, "nobody:1")
    for now_ms in range(0, 400_000, 500):
        if book.to_dial(NODE, now_ms):
            dialled_ms.append(now_ms)
            book.unmet(NODE, "nobody:1", now_ms)
    pauses_ms = [later - earlier for earlier, later in itertools.pairwise(dialled_ms)]
    assert pauses_ms[:7] == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000]
    book.announce(NODE, "moved:2")
    assert book.to_dial(NODE, 400_000) == ("moved:2",)
    book.configure(OTHER, "nobody:1")
    book.unmet(OTHER, "nobody:1", 0)
    assert book.to_dial(OTHER, 0) == ("nobody:1",)


def test_each_source_of_a_nodes_addresses_rests_for_itself() -> None:
    book = AddressBook(1_000, 60_000)
    book.configure(NODE, "old:1")
    book.announce(NODE, "new:2")
    book.misled(NODE, "old:1", 0)
    assert (book.to_dial(NODE, 999), book.rest_until(NODE, 999)) == (("new:2",), 0)
    book.misled(NODE, "new:2", 500)
    assert (book.to_dial(NODE, 999), book.rest_until(NODE, 999)) == ((), 1_000)
    assert book.of(NODE) == ("old:1", "new:2")
    book.announce(NODE, "newer:3")
    assert book.to_dial(NODE, 1_000) == ("old:1",)
    assert book.to_dial(NODE, 1_500) == ("old:1", "newer:3")


def test_what_was_announced_when_it_was_dialled_rests_though_it_has_been_replaced() -> None:
    book = AddressBook(1_000, 60_000)
    book.announce(NODE, "somebody:1")
    book.announce(NODE, "somebody:2")
    book.misled(NODE, "somebody:1", 0)
    assert book.to_dial(NODE, 0) == ()


def test_an_announced_name_that_is_not_found_in_time_rests_and_a_configured_one_does_not() -> None:
    book = AddressBook(1_000, 60_000)
    book.announce(NODE, "slow.example:1")
    book.slow_name(NODE, "slow.example:1", 0)
    assert (book.to_dial(NODE, 0), book.rest_until(NODE, 0)) == ((), 1_000)
    book.configure(NODE, "bank.example:1")
    book.slow_name(NODE, "bank.example:1", 0)
    assert book.to_dial(NODE, 0) == ("bank.example:1",)


def test_a_slow_name_rests_as_long_as_one_that_leads_to_others_and_is_looked_up_again_when_the_network_is_back() -> (
    None
):
    book, dialled_ms = AddressBook(1_000, 600_000, 60_000), []
    book.announce(NODE, "slow.example:1")
    for now_ms in range(0, 2_000_000, 500):
        if book.to_dial(NODE, now_ms):
            dialled_ms.append(now_ms)
            book.slow_name(NODE, "slow.example:1", now_ms)
    pauses_ms = [later - earlier for earlier, later in itertools.pairwise(dialled_ms)]
    assert pauses_ms[5:] == [32_000, 64_000, 128_000, 256_000, 512_000, 600_000]
    book.announce(OTHER, "other.example:1")
    book.misled(OTHER, "other.example:1", 2_000_000)
    assert book.to_dial(NODE, 2_000_000) == ()
    assert book.look_up_again() == (NODE,)
    assert book.to_dial(NODE, 2_000_000) == ("slow.example:1",)
    assert book.to_dial(OTHER, 2_000_000) == (), "somebody else was found there"


def test_the_operators_word_ends_the_rest_of_what_was_configured() -> None:
    book = AddressBook(1_000, 60_000)
    book.configure(NODE, "old:1")
    book.announce(NODE, "old:1")
    book.misled(NODE, "old:1", 0)
    assert book.to_dial(NODE, 0) == ()
    book.configure(NODE, "new:2")
    assert book.to_dial(NODE, 0) == ("new:2",)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("10.0.0.1:26650", ("10.0.0.1", 26_650)),
        ("node.example:1", ("node.example", 1)),
        ("[::1]:65535", ("::1", 65_535)),
        ("::1:80", None),
        ("host:0", None),
        ("host:65536", None),
        ("host:-1", None),
        ("host:8o", None),
        ("host:٣", None),
        ("host", None),
        (":80", None),
        ("[]:80", None),
        ("[fe80::1%eth0]:80", None),
        (f"[fe80::1%{'a' * 100}]:80", None),
        ("", None),
    ],
)
def test_addresses_are_host_and_port(text: str, parsed: tuple[str, int] | None) -> None:
    assert parse_address(text) == parsed


SIGNER = SigningKey(sha256(b"signer"))


NOTHING_DUE = Due((), ())


def table(*admitted: bytes) -> AnnouncementTable:
    return AnnouncementTable(CHAIN, lambda node: node in admitted)


def test_the_highest_sequence_holds() -> None:
    newest = table(SIGNER.public)
    first, second = announce(SIGNER, CHAIN, "a:1", 1), announce(SIGNER, CHAIN, "b:2", 2)
    assert newest.accept(first, OTHER, 0)
    assert not newest.accept(first, OTHER, 10_000)
    assert newest.accept(second, OTHER, 20_000)
    assert not newest.accept(first, OTHER, 30_000)
    assert newest.all() == (second,)


def test_a_node_that_announces_itself_without_end_is_heard_ever_more_rarely() -> None:
    newest, taken_ms = table(SIGNER.public), []
    for now_ms in range(0, 400_000, 500):
        fresh = newest.accept(announce(SIGNER, CHAIN, "a:1", now_ms + 1), OTHER, now_ms)
        if fresh or newest.due(now_ms).taken:
            taken_ms.append(now_ms)
    intervals_ms = [later - earlier for earlier, later in itertools.pairwise(taken_ms)]
    assert intervals_ms[:8] == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]
    assert newest.accept(announce(SIGNER, CHAIN, "a:1", 10**9), OTHER, 10**9)


def test_news_that_come_too_soon_are_taken_later_the_newest_of_them() -> None:
    """A node that starts elsewhere learns its neighbour's old address and the new one within the same second."""
    newest = table(SIGNER.public)
    assert newest.accept(announce(SIGNER, CHAIN, "old:1", 1), OTHER, 0)
    latest = announce(SIGNER, CHAIN, "latest:1", 3)
    assert not newest.accept(announce(SIGNER, CHAIN, "new:1", 2), OTHER, 10)
    assert not newest.accept(latest, OTHER, 20)
    assert not newest.accept(announce(SIGNER, CHAIN, "new:1", 2), OTHER, 30)
    assert newest.due(999) == NOTHING_DUE
    assert newest.due(1_000) == Due(((latest, OTHER),), ())
    assert newest.all() == (latest,)
    assert newest.due(2_000) == NOTHING_DUE


def test_a_false_announcement_that_waits_displaces_no_true_one_and_its_bearer_is_named() -> None:
    newest = table(SIGNER.public)
    assert newest.accept(announce(SIGNER, CHAIN, "old:1", 1), OTHER, 0)
    true = announce(SIGNER, CHAIN, "new:1", 2)
    false = NodeAnnouncement(true.node, "elsewhere:1", 9, true.signature)
    assert not newest.accept(true, NODE, 10)
    assert not newest.accept(false, OTHER, 20)
    assert newest.due(1_000) == Due(((true, NODE),), (OTHER,))
    assert newest.all() == (true,)


def test_of_what_one_bearer_brings_too_soon_one_signature_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[bytes] = []

    def verify(node: bytes, message: bytes, signature: bytes) -> bool:
        looked.append(signature)
        return crypto.verify(node, message, signature)

    monkeypatch.setattr(announcements, "verify", verify)
    newest = table(SIGNER.public)
    for sequence in range(1, 1_000):
        newest.accept(announce(SIGNER, CHAIN, "a:1", sequence), OTHER, sequence)
    assert newest.due(1_001).taken and len(looked) == 2


def test_what_was_said_of_a_node_that_is_turned_away_meanwhile_is_forgotten() -> None:
    admitted = {SIGNER.public}
    newest = AnnouncementTable(CHAIN, lambda node: node in admitted)
    assert newest.accept(announce(SIGNER, CHAIN, "a:1", 1), OTHER, 0)
    assert not newest.accept(announce(SIGNER, CHAIN, "b:2", 2), OTHER, 10)
    admitted.clear()
    assert newest.due(1_000) == NOTHING_DUE
    admitted.add(SIGNER.public)
    assert newest.due(2_000) == NOTHING_DUE


def test_a_nodes_own_announcement_is_known_to_it_as_soon_as_it_is_made() -> None:
    newest = table(SIGNER.public)
    newest.publish(announce(SIGNER, CHAIN, "a:1", 5))
    assert not newest.accept(announce(SIGNER, CHAIN, "old:1", 4), OTHER, 0)
    assert newest.accept(announce(SIGNER, CHAIN, "future:1", 6), OTHER, 0)


def test_strangers_are_ignored_and_those_no_longer_admitted_not_passed_on() -> None:
    admitted = {SIGNER.public}
    newest = AnnouncementTable(CHAIN, lambda node: node in admitted)
    assert not newest.accept(announce(SigningKey(sha256(b"x")), CHAIN, "a:1", 1), OTHER, 0)
    assert newest.accept(announce(SIGNER, CHAIN, "a:1", 1), OTHER, 0)
    admitted.clear()
    assert newest.all() == ()


def test_an_announcement_of_another_or_for_another_chain_is_refused() -> None:
    true = announce(SIGNER, CHAIN, "a:1", 1)
    for false in (
        NodeAnnouncement(true.node, "b:2", 1, true.signature),
        NodeAnnouncement(true.node, "a:1", 2, true.signature),
        announce(SIGNER, sha256(b"another chain"), "a:1", 1),
        announce(SIGNER, CHAIN, "nowhere", 1),
    ):
        newest = table(SIGNER.public)
        with pytest.raises(PeerError, match="not valid"):
            newest.accept(false, OTHER, 0)
        assert newest.all() == ()


def test_announcements_are_cut_to_frames() -> None:
    entries = [announce(SIGNER, CHAIN, "a:1", number) for number in range(ANNOUNCEMENTS_PER_FRAME_MAX + 1)]
    assert [len(frame) for frame in in_frames(entries)] == [ANNOUNCEMENTS_PER_FRAME_MAX, 1]
    assert in_frames([]) == []
