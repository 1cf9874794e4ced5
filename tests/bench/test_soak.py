"""A long steady load is looked at as it runs."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otcnode.bench import soak
from otcnode.bench.soak import Minute, growth
from tests.processes.cluster import free_ports

MINUTE = Minute(
    number=1, committed=0, latency=None, own_bytes=1_000_000, resident_bytes=2_000_000, disk_bytes=3_000_000, view=0
)


def test_growth_is_since_a_sixth_of_the_time() -> None:
    """Twelve minutes: from the third, when caches are full, to the last."""
    own = [400, 900, 1_000, *[1_020] * 8, 1_050]
    minutes = tuple(replace(MINUTE, own_bytes=size * 1_000) for size in own)
    assert growth(minutes) == 0.05
    assert growth(minutes[:5]) is None


def test_a_minute_without_finality_says_so() -> None:
    assert "0 final, nothing final, memory 1.0 MB own" in soak.describe(MINUTE)


@pytest.mark.process
def test_everything_sent_is_final_and_each_minute_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "PORT", free_ports(8))
    monkeypatch.setattr(soak, "MINUTE_S", 2.0)
    said: list[str] = []
    result = soak.measure(soak.Options(minutes=3, rate=20.0), said.append)
    assert (result.committed, result.failures, result.view_changes) == (120, {}, 0)
    assert [minute.number for minute in result.minutes] == [1, 2, 3]
    assert all(minute.own_bytes < minute.resident_bytes for minute in result.minutes)
    assert 0 < result.latency.p50 <= result.latency.maximum
    assert len(said) == 4 and said[-1].startswith("minute 3: ")
