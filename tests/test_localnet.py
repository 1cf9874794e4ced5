"""Directories of local clusters, and processes that are never left behind."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from otcnode import localnet
from otcnode.errors import ConfigurationError
from otcnode.localnet import Cluster, Plan, create, remove


def test_a_clusters_directory_is_deleted(tmp_path: Path) -> None:
    for name in ("node1", "node12", "keys"):
        (tmp_path / "net" / name).mkdir(parents=True)
    remove(tmp_path / "net")
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize("stranger", ["node_modules", "nodes.txt", "node0", "work", ".git"])
def test_what_a_cluster_does_not_make_is_never_deleted(tmp_path: Path, stranger: str) -> None:
    (tmp_path / "node1").mkdir()
    (tmp_path / stranger).mkdir()
    with pytest.raises(ConfigurationError, match=stranger):
        remove(tmp_path)
    assert (tmp_path / stranger).exists() and (tmp_path / "node1").exists()


def test_a_node_that_was_just_begun_when_the_command_is_told_to_end_is_ended_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes when the process is there and nobody has noted it yet."""
    begun: list[subprocess.Popen[bytes]] = []

    def begin(*_: object, **__: Any) -> subprocess.Popen[bytes]:
        begun.append(real([sys.executable, "-c", "import time; time.sleep(600)"]))
        signal.raise_signal(signal.SIGINT)
        return begun[0]

    create(Plan(tmp_path, 1, 30_000, accounts=(), cash=()))
    real = subprocess.Popen
    monkeypatch.setattr(localnet.subprocess, "Popen", begin)
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), Cluster(tmp_path) as cluster:
            cluster.start_all()
        assert begun[0].poll() is not None, "a process is left that nobody knows of"
    finally:
        signal.signal(signal.SIGINT, former)
        begun[0].kill()
        begun[0].wait()
