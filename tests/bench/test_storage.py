"""The benchmark of storage on a small state: everything is measured, in processes that are killed and started again."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner

from otcnode.bench.storage import KEYS_PER_ACCOUNT, _in_process
from otcnode.cli.bench import bench

pytestmark = pytest.mark.process


def test_every_figure_is_measured() -> None:
    result = CliRunner().invoke(bench, ["storage", "--accounts", "1000", "--blocks", "3", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    (size,) = found["sizes"]
    assert (size["accounts"], size["keys"]) == (1_000, 1_000 * KEYS_PER_ACCOUNT)
    assert all(value > 0 for value in size.values())
    assert size["state_root_best_ms"] <= size["state_root_median_ms"]
    assert size["memory_after_start_bytes"] <= size["resident_peak_bytes"]
    assert found["disk_bytes_per_transaction_pruned"] < found["disk_bytes_per_transaction"] / 2


def interrupt_the_bench(number: Path) -> None:
    """Work that nobody ends but who began it."""
    number.write_text(str(os.getpid()))
    os.kill(os.getppid(), signal.SIGINT)
    while True:
        signal.pause()


def test_a_bench_that_is_stopped_leaves_no_process_behind(tmp_path: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        _in_process(interrupt_the_bench, tmp_path / "number")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "number").read_text()), 0)
