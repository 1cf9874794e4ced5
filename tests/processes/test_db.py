"""Looking into a stopped node's directory by the commands an operator types."""

import asyncio
import json
import shutil
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
    header = json.loads(otcnode("db", "inspect", "--home", str(home.path), "header", "1"))
    assert header["height"] == 1
    otcnode("db", "inspect", "--home", str(home.path), "header", "1048575", code=1)
    otcnode("db", "inspect", "--home", str(home.path), "header", "0xnothex", code=2)
    largest = max(home.database.iterdir(), key=lambda path: path.stat().st_size)
    raw = bytearray(largest.read_bytes())
    raw[len(raw) // 2] ^= 0x10
    largest.write_bytes(raw)
    otcnode("db", "verify", "--home", str(home.path), code=2)


def test_a_deleted_directory_is_rebuilt_from_a_snapshot(tmp_path: Path) -> None:
    final: list[bytes] = []
    snapshot = str(tmp_path / "snapshot")
    with daemons.make(tmp_path / "net", 1) as cluster:
        home = cluster.members[0].home
        cluster.start_all()
        cluster.wait_ready()
        asyncio.run(execute_all(cluster, daemons.deposits(cluster, 30), asyncio.Event(), final))
        otcnode("db", "snapshot", "--home", str(home.path), "--to", snapshot, code=2)
    made = json.loads(otcnode("db", "snapshot", "--json", "--home", str(home.path), "--to", snapshot))
    again = json.loads(otcnode("db", "snapshot", "--json", "--home", str(home.path), "--to", snapshot))
    assert again == made and made["height"] > 0
    otcnode("db", "restore", "--home", str(home.path), "--from", snapshot, code=2)
    otcnode("db", "restore", "--home", str(home.path), "--from", str(tmp_path), code=2)
    shutil.rmtree(home.database)
    restored = json.loads(otcnode("db", "restore", "--json", "--home", str(home.path), "--from", snapshot))
    assert restored == made
    assert not home.record.exists() and not home.incoming.exists()
    found = json.loads(otcnode("db", "verify", "--json", "--home", str(home.path)))
    assert (found["height"], found["state_keys"], found["violations"]) == (made["height"], made["keys"], [])
    otcnode("db", "restore", "--home", str(home.path), "--from", snapshot, "--replace")
    with cluster:
        cluster.start_all()
        cluster.wait_ready()
        status = json.loads(otcnode("status", "--json", "--url", cluster.members[0].url))
        assert status[cluster.members[0].url]["height"] == made["height"]
    chunk = next(Path(snapshot).glob("chunk-*"))
    raw = bytearray(chunk.read_bytes())
    raw[len(raw) // 2] ^= 1
    chunk.write_bytes(raw)
    otcnode("db", "restore", "--home", str(home.path), "--from", snapshot, "--replace", code=2)
    assert json.loads(otcnode("db", "verify", "--json", "--home", str(home.path)))["height"] >= made["height"]
