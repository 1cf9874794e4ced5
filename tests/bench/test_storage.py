"""The benchmark of storage on a small state: everything is measured, in processes that are killed and started again."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from otcnode.bench.storage import KEYS_PER_ACCOUNT
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
