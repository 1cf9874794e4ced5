"""The client against real daemons: one that stands still, and a transaction whose time is over."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest

from otcnode.bench import workload
from otcnode.client.client import Client
from otcnode.client.connection import MARGIN_SECONDS
from otcnode.client.errors import OutcomeUnknown, TransactionRefused
from otcnode.genesis import chain_id
from otcnode.vm.transactions import decode_transaction
from tests.processes import cluster as daemons

pytestmark = pytest.mark.process


def test_a_stopped_node_is_not_waited_for_and_one_node_s_word_is_no_proof(tmp_path: Path) -> None:
    with daemons.make(tmp_path / "net", 4) as cluster:
        cluster.start_all()
        cluster.wait_ready()
        deposits = [decode_transaction(raw) for raw in daemons.deposits(cluster, 2)]
        past_ms = time.time_ns() // 1_000_000 - 60_000
        (late,) = map(decode_transaction, workload.deposits(chain_id(cluster.genesis), 1, past_ms, holders=1))

        async def play() -> None:
            async with Client(cluster.urls, cluster.genesis) as client:
                await client.execute(deposits[0])
                first = client.passed_over
                cluster.signal("node1", signal.SIGSTOP)
                began = time.monotonic()
                await client.execute(deposits[1])
                assert time.monotonic() - began < MARGIN_SECONDS
                assert first == {} and list(client.passed_over) == [cluster.member("node1").url]
                with pytest.raises(TransactionRefused, match="more than f validators have signed") as caught:
                    await client.execute(late)
                assert (caught.value.code, caught.value.definite) == ("E_TX_EXPIRED", True)
            async with Client([cluster.member("node2").url], cluster.genesis) as client:
                with pytest.raises(OutcomeUnknown, match="only the signed words of 2 different validators"):
                    await client.execute(late)

        try:
            asyncio.run(play())
        finally:
            cluster.signal("node1", signal.SIGCONT)
