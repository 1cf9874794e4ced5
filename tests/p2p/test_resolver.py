"""Host names are looked up in threads of their own, a few at once; the slow hold up nobody but themselves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator

import pytest

from otcnode import limits
from otcnode.p2p.resolver import Resolver

WAIT_S = 20


class NameServer:
    """Answers what it knows; names that begin with "slow" only once it is told to."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.second_asked = threading.Event()
        self.asked: list[str] = []

    def __call__(self, host: str) -> Iterable[str]:
        self.asked.append(host)
        if len(self.asked) == 2:
            self.second_asked.set()
        if host.startswith("slow"):
            self.released.wait(WAIT_S)
        if host == "nowhere":
            raise OSError("no such name")
        if host == "empty":
            return []
        if host == "many":
            return [f"10.0.0.{number}" for number in range(200)]
        return ["10.0.0.1", "10.0.0.1", "fd00::1"]


@pytest.fixture
def names() -> Iterator[NameServer]:
    server = NameServer()
    yield server
    server.released.set()


async def test_addresses_are_their_own_names_and_ask_nobody(names: NameServer) -> None:
    resolver = Resolver(names)
    assert await resolver.addresses("127.0.0.1") == ("127.0.0.1",)
    assert await resolver.addresses("0:0::1") == ("::1",)
    assert names.asked == []


async def test_without_a_thread_a_name_is_not_found_now(names: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    resolver = Resolver(names)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for host in ("node.example", "other.example"):
            with pytest.raises(OSError, match="can't start new thread"):
                await resolver.addresses(host)
    assert await resolver.addresses("node.example") == ("10.0.0.1", "fd00::1")


async def test_a_name_has_a_few_distinct_addresses(names: NameServer) -> None:
    resolver = Resolver(names)
    assert await resolver.addresses("node.example") == ("10.0.0.1", "fd00::1")
    assert len(await resolver.addresses("many")) == limits.addresses_per_name_max
    for name, error in (("nowhere", "no such name"), ("empty", "no such host")):
        with pytest.raises(OSError, match=error):
            await resolver.addresses(name)


async def test_the_system_is_asked_by_default() -> None:
    assert "127.0.0.1" in await Resolver().addresses("localhost")
    with pytest.raises((OSError, UnicodeError)):
        await Resolver().addresses("x" * 200)


async def test_slow_names_wait_for_one_another_and_hold_up_no_other_thread(names: NameServer) -> None:
    resolver, loop = Resolver(names, at_once=2), asyncio.get_running_loop()
    slow = [asyncio.create_task(resolver.addresses(f"slow{number}")) for number in range(40)]
    async with asyncio.timeout(WAIT_S):
        assert await loop.run_in_executor(None, names.second_asked.wait, WAIT_S)
        assert names.asked == ["slow0", "slow1"]
        assert [resolver.is_looking_up(name) for name in ("slow1", "slow2", "other")] == [True, False, False]
        names.released.set()
        assert set(await asyncio.gather(*slow)) == {("10.0.0.1", "fd00::1")}
    assert sorted(names.asked) == sorted(f"slow{number}" for number in range(40))


async def test_a_name_for_which_nobody_waits_any_more_is_not_looked_up(names: NameServer) -> None:
    resolver = Resolver(names, at_once=1)
    first, second = (asyncio.create_task(resolver.addresses(f"slow{number}")) for number in (1, 2))
    await asyncio.sleep(0)
    for task in (first, second):
        task.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    names.released.set()
    assert await resolver.addresses("other") == ("10.0.0.1", "fd00::1")
    assert names.asked == ["slow1", "other"]


async def test_many_that_want_one_name_ask_once(names: NameServer) -> None:
    resolver = Resolver(names)
    tasks = [asyncio.create_task(resolver.addresses("slow")) for _ in range(10)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    names.released.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert answers[1:] == [("10.0.0.1", "fd00::1")] * 9
    assert names.asked == ["slow"]


async def test_what_waits_is_bounded(names: NameServer) -> None:
    resolver = Resolver(names, at_once=1)
    waiting = [asyncio.create_task(resolver.addresses(f"slow{number}")) for number in range(limits.names_looked_up_max)]
    await asyncio.sleep(0)
    with pytest.raises(OSError, match="too many host names"):
        await resolver.addresses("one too many")
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
