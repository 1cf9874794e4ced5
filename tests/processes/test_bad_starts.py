"""A node that cannot start says why in one line and exits with the documented code."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from otcnode.cli.exits import EXIT_USAGE
from otcnode.localnet import Cluster
from tests.processes import cluster as daemons

pytestmark = pytest.mark.process


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return daemons.make(tmp_path / "net", 1)


def start(cluster: Cluster) -> str:
    """What a node that does not start prints."""
    command = [sys.executable, "-m", "otcnode", "run", "--home", str(cluster.members[0].home.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == EXIT_USAGE, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_no_home(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "otcnode", "run", "--home", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == EXIT_USAGE
    assert "nowhere has no node.toml: otcnode init" in done.stderr and len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('level = "info"', 'level = "loud"', "log.level"),
        ("[rpc]", "[rcp]", "rcp"),
        ("view_timeout_ms = 1000", 'view_timeout_ms = "fast"', "view_timeout_ms"),
        ('[p2p]\nlisten = "127.0.0.1:', '[p2p]\nlisten = "127.0.0.1/', "host:port"),
        ('[p2p]\nlisten = "', "[p2p]\nlisten = ", "node.toml"),
    ],
)
def test_a_wrong_configuration(cluster: Cluster, old: str, new: str, named: str) -> None:
    path = cluster.members[0].home.configuration
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert named in start(cluster)


def test_another_networks_genesis(cluster: Cluster, tmp_path: Path) -> None:
    cluster.start_all()
    cluster.wait_ready()
    cluster.stop_all()
    other = daemons.make(tmp_path / "other", 1)
    cluster.members[0].home.genesis.write_bytes(other.members[0].home.genesis.read_bytes())
    assert "chain" in start(cluster)


def test_a_damaged_genesis(cluster: Cluster) -> None:
    path = cluster.members[0].home.genesis
    path.write_bytes(path.read_bytes().replace(b'"validators"', b'"valediators"'))
    assert "genesis" in start(cluster)


def test_a_genesis_beyond_what_governance_may_ever_set(cluster: Cluster) -> None:
    path = cluster.members[0].home.genesis
    path.write_bytes(path.read_bytes().replace(b'"heartbeat_real_ms": 10000', b'"heartbeat_real_ms": 0'))
    assert "parameters.heartbeat_real_ms must be 500 to 600000, not 0" in start(cluster)


def test_a_view_timeout_for_which_blocks_proposed_again_would_be_too_old(cluster: Cluster) -> None:
    path = cluster.members[0].home.configuration
    path.write_text(path.read_text().replace("view_timeout_ms = 1000", "view_timeout_ms = 2501"))
    said = start(cluster)
    assert "view_timeout_ms is 2501" in said and "drift_real_ms (5000)" in said


def test_a_damaged_key(cluster: Cluster) -> None:
    cluster.members[0].home.key.write_text("{}")
    assert "node.key" in start(cluster)


@pytest.mark.parametrize("which", ["p2p_port", "rpc_port"])
def test_a_port_in_use(cluster: Cluster, which: str) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", getattr(cluster.members[0], which)))
        taken.listen()
        assert str(getattr(cluster.members[0], which)) in start(cluster)


def test_a_directory_in_use(cluster: Cluster) -> None:
    with cluster:
        cluster.start_all()
        cluster.wait_ready()
        assert "in use" in start(cluster)
