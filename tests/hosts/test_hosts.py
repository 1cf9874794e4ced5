"""Validators on hosts of their own, over lines that delay, lose and break."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.hosts.conftest import Hosts

pytestmark = pytest.mark.process


@pytest.fixture(autouse=True)
def good_lines(hosts: Hosts) -> Iterator[None]:
    """Each test begins with four hosts that hear each other well, and must leave the chain whole."""
    yield
    hosts.wire.heal()
    hosts.wire.every(delay_ms=0.0, loss=0.0)
    for host in hosts.homes:
        hosts.until(f"host {host} meets the others", lambda host=host: hosts.connected(host) == 3)  # type: ignore[misc]
    hosts.execute(1)
    assert hosts.equal_roots()


def test_a_tenth_of_a_second_and_one_packet_in_a_hundred_lost(hosts: Hosts) -> None:
    hosts.wire.every(delay_ms=100, loss=0.01)
    lost = hosts.wire.lost
    began = time.monotonic()
    for number in range(10):
        hosts.execute(1 + number % 4)
    print(f"{(time.monotonic() - began) / 10:.2f} s each, {hosts.wire.lost - lost} packets lost")
    assert hosts.wire.lost > lost


def test_halves_stand_still_and_say_why_and_go_on_when_healed(hosts: Hosts) -> None:
    hosts.wire.between({1, 2}, {3, 4}, cut=True)
    name = hosts.submit(1)
    before = hosts.height(1)
    assert not hosts.is_final(1, name, 5)
    assert hosts.height(1) == before
    said = hosts.ask(1, "node_explain")
    assert "node3" in said["text"] and "node4" in said["text"], said
    why = hosts.ask(1, "mempool_explain", id=name)
    assert "node3" in why["text"] and "node4" in why["text"], why
    hosts.wire.heal()
    assert hosts.is_final(4, name, 60)


def test_three_go_on_and_the_fourth_catches_up(hosts: Hosts) -> None:
    hosts.wire.between({1, 2, 3}, {4}, cut=True)
    for number in range(5):
        hosts.execute(1 + number % 3, {1, 2, 3})
    height = hosts.height(1)
    assert hosts.height(4) < height
    hosts.wire.heal()
    hosts.until("host 4 catches up", lambda: hosts.height(4) >= height)


def test_two_that_do_not_hear_each_other_are_joined_by_the_others(hosts: Hosts) -> None:
    """What only one of them is told reaches the other, and both commit everything."""
    hosts.wire.between({1}, {2}, cut=True)
    for number in range(6):
        hosts.execute(1 + number % 4)


def test_a_host_that_changes_its_address_under_a_running_node_is_found_again(hosts: Hosts) -> None:
    """All its connections die without a word; nobody is restarted or told."""
    hosts.wire.move(4, "10.99.0.44")
    began = time.monotonic()
    hosts.execute(4)
    print(f"final on the host that moved {time.monotonic() - began:.1f} s after it moved")
    hosts.until("the others see it there", lambda: "10.99.0.44" in addresses(hosts, 1))


def test_two_that_have_both_moved_find_each_other_by_what_they_announce(hosts: Hosts) -> None:
    """Neither knows where the other is now; those in between pass on the signed announcements."""
    for host in (1, 4):
        hosts.stop(host)
        hosts.wire.move(host, f"10.99.0.{100 + host}")
        hosts.configure(host)
    for host in (1, 4):
        hosts.start(host)
    for host in (1, 4):
        hosts.until("both meet everybody", lambda host=host: hosts.connected(host) == 3)  # type: ignore[misc]
    hosts.execute(1)


def addresses(hosts: Hosts, host: int) -> str:
    return " ".join(peer["address"] for peer in hosts.ask(host, "node_peers")["peers"])


@pytest.mark.long
@pytest.mark.parametrize("minutes", [3])
def test_a_link_that_is_cut_for_minutes(hosts: Hosts, minutes: int) -> None:
    hosts.wire.every(delay_ms=30, loss=0.01)
    hosts.wire.between({1, 2, 3}, {4}, cut=True)
    ends = time.monotonic() + 60 * minutes
    while time.monotonic() < ends:
        hosts.execute(1, {1, 2, 3})
        time.sleep(0.5)
    height = hosts.height(1)
    hosts.wire.heal()
    took_s = hosts.until("host 4 catches up", lambda: hosts.height(4) >= height)
    print(f"{height} blocks, caught up {took_s:.1f} s after the cut was healed")
