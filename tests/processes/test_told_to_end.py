"""A command that is told to end, by a service manager or a script, takes along what it started."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import cluster as daemons
from tests.processes.cluster import free_ports

pytestmark = pytest.mark.process


def nodes_of(directory: Path) -> list[int]:
    """Daemons with a home there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().decode(errors="replace").split("\0")
            if "run" in words and any(word.startswith(str(directory)) for word in words):
                found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_no_node_is_left_behind(tmp_path: Path, number: signal.Signals) -> None:
    """While they start and the command waits for them."""
    arguments = ["--directory", str(tmp_path / "net"), "--port", str(free_ports(8))]
    process = subprocess.Popen(
        [sys.executable, "-m", "otcnode", "localnet", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        # A shell's background jobs, such as this test perhaps, ignore Ctrl-C and pass that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("Starting 4 nodes")
    while len(nodes_of(tmp_path)) < 4:
        assert process.poll() is None
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said.strip()) == (130, "stopped")
    assert nodes_of(tmp_path) == []


def test_a_node_that_does_not_come_up_again_is_named_and_the_others_run(tmp_path: Path) -> None:
    """Four of which one is damaged are a network; `localnet` does not end them for its sake."""
    cluster = daemons.make(tmp_path / "net", 4)
    cluster.member("node3").home.genesis.write_text("{}")
    process = subprocess.Popen(
        [sys.executable, "-m", "otcnode", "localnet", "--directory", str(tmp_path / "net")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    said: list[str] = []
    while not any("is stopped by `kill PID`" in line for line in said):
        assert process.poll() is None, said
        said.append(process.stdout.readline())
    running = nodes_of(tmp_path)
    assert len(running) == 3
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0
    told = "".join(said)
    assert sorted(re.findall(r"  pid (\d+)  ", told)) == sorted(map(str, running)), "each by what stops it"
    assert told.count("  not running  ") == 1
    assert any("node3 ended with code 2" in line for line in said), said
