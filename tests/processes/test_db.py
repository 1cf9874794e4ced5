"""Looking into a stopped node's directory by the commands an operator types."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.processes import cluster as daemons
from tests.processes.test_cluster import execute_all
from tests.processes.test_operations import otcnode

pytestmark = pytest.mark.process


def test_verify_finds_all_in_order_refuses_a_running_node_and_names_damage(tmp_path: Path) -> None:
    final: list[bytes] = []
    with daemons.make(tmp_path / "net", 1) as cluster:
        cluster.start_all()
        cluster.wait_ready()
        asyncio.run(execute_all(cluster, daemons.deposits(cluster, 20), asyncio.Event(), final))
        home = cluster.members[0].home
        otcnode("db", "verify", "--home", str(home.path), code=2)
    found = json.loads(otcnode("db", "verify", "--json", "--home", str(home.path)))
    assert found["transactions"] == len(final) == 20
    assert found["violations"] == []
    assert "in order" in otcnode("db", "verify", "--home", str(home.path))
    header = json.loads(otcnode("db", "inspect", "--home", str(home.path), "header", "0000000000000001"))
    assert header["height"] == 1
    otcnode("db", "inspect", "--home", str(home.path), "header", "00000000000fffff", code=1)
    otcnode("db", "inspect", "--home", str(home.path), "header", "nothex", code=2)
    largest = max(home.database.iterdir(), key=lambda path: path.stat().st_size)
    raw = bytearray(largest.read_bytes())
    raw[len(raw) // 2] ^= 0x10
    largest.write_bytes(raw)
    otcnode("db", "verify", "--home", str(home.path), code=2)
