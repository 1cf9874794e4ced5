"""`otcnode simulate`: what people see and what scripts rely on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from click.testing import CliRunner

from otcnode.cli import simulate as command
from otcnode.cli.exits import EXIT_INTERRUPTED
from otcnode.cli.simulate import simulate
from otcnode.simulation import fleet
from otcnode.simulation import plan as plans
from otcnode.simulation.generate import Options, generate
from otcnode.simulation.mutants.voting import quorum_less_one
from otcnode.simulation.world import run


def test_seeds_end_with_a_summary() -> None:
    result = CliRunner().invoke(simulate, ["--seed", "1", "--seeds", "2", "--validators", "4", "--json"])
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["seeds"] == 2
    assert summary["commits"] > 0 and summary["messages"] > 0 and summary["faults"]


@pytest.mark.parametrize(("done", "advice"), [(0, "begin again with the same command"), (2, "--seed 3 --seeds 5")])
def test_who_stops_it_is_told_what_was_done_and_what_is_left(
    done: int, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried_out = command.reports

    def interrupted(jobs: Iterator[fleet.Job], processes: int) -> Iterator[fleet.Report]:
        yield from carried_out(islice(jobs, done), processes)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "reports", interrupted)
    result = CliRunner().invoke(simulate, ["--seeds", "7", "--validators", "4", "--json"])
    assert result.exit_code == EXIT_INTERRUPTED
    assert json.loads(result.stdout)["seeds"] == done
    assert result.stderr.startswith("stopped; ") and result.stderr.endswith(f"{advice}\n")


def test_a_violation_is_exit_code_1_a_plan_and_the_way_to_see_it_again(tmp_path: Path) -> None:
    with quorum_less_one():
        result = CliRunner().invoke(simulate, ["--seed", "1", "--validators", "4", "--out", str(tmp_path), "--shrink"])
    assert result.exit_code == 1
    kept = tmp_path / "plan-1-4.json"
    assert plans.load(kept) == generate(1, Options(validators=4))
    assert f"otcnode simulate --plan {kept} -v" in result.stderr
    assert any(f"{promise}: " in result.stderr for promise in ("certificate", "rules of signing"))
    small = plans.load(tmp_path / "plan-1-4-shrunk.json")
    assert small.faults == ()
    assert len(small.workload) <= 1


def test_a_plan_file_is_carried_out_with_its_trace(tmp_path: Path) -> None:
    plan = generate(2, Options(validators=4))
    plans.save(plan, tmp_path / "plan.json")
    result = CliRunner().invoke(simulate, ["--plan", str(tmp_path / "plan.json"), "-v"])
    assert result.exit_code == 0, result.output
    assert "every transaction has ended" in result.output
    assert run(plan).summary.trace_hash in result.output
