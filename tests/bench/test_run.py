"""What `otcnode bench` says of a cluster is of all transactions that it was given."""

from __future__ import annotations

import pytest

from otcnode.bench import run
from tests.processes.cluster import free_ports


@pytest.mark.process
def test_a_cluster_is_loaded_and_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "PORT", free_ports(8))
    monkeypatch.setattr(run, "BOUND_SECONDS", 0.2)
    said: list[str] = []
    result = run.measure(run.Options(transactions=60, clients=3, per_request=10), said.append)
    assert (result.sent, result.committed, result.failures) == (60, 60, {})
    assert result.view_changes == 0
    assert 0 < result.latency.p50 <= result.latency.maximum < 60_000
    assert said[-1] == "loading …"
