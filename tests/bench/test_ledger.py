"""The benchmark of the processor on a small ledger: every kind of work happens, and is measured once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from otcnode.bench import run
from otcnode.bench.ledger import Options, measure
from otcnode.bench.market import Market
from otcnode.cli.bench import bench
from otcnode.codec import encode
from otcnode.vm.accounts.records import ACCOUNTS, CASH_ASSETS, CASH_BALANCES
from otcnode.vm.registry import OPERATIONS
from otcnode.vm.state import State

SMALL = Options(accounts=1_000, holders=60, open_items=60, sample=20, rounds=1)


def test_every_kind_of_work_is_measured_once() -> None:
    result = measure(SMALL, lambda _: None)
    names = [figure.name for figure in result.figures]
    assert len(names) == len(set(names))
    assert {"allotment", "establishment", "coupon", "maturity", "offer.expire", "trade.settle"} < set(names)
    kinds: list[Any] = list(OPERATIONS)
    tags = {kind.__struct_config__.tag for kind in kinds}
    operations = {figure.name.split(" ")[0] for figure in result.figures if figure.per == "operation"}
    assert operations <= tags and len(operations) > 20
    assert all(0 < figure.best <= figure.median for figure in result.figures)
    assert {figure.count for figure in result.figures if figure.per == "holder"} == {SMALL.holders}


def test_the_bulk_is_what_operations_would_have_made() -> None:
    """The cash that accounts start with adds up to the total that its custodian answers for."""
    market = Market(accounts=50, signers=10)
    state = State(market.view)
    (_, asset), *others = state.scan(CASH_ASSETS)
    assert not others
    assert sum(record.balance for _, record in state.scan(CASH_BALANCES)) == asset.total == asset.deposited
    assert len(state.scan(ACCOUNTS)) == 50 + 5
    assert all(market.view.get(ACCOUNTS.prefix + key) == encode(record) for key, record in state.scan(ACCOUNTS))


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ValueError, match="holders"):
        measure(Options(accounts=1_000, holders=600, open_items=600, sample=10), lambda _: None)


def test_the_command_prints_json_for_programs(tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    arguments = ["--accounts", "1000", "--holders", "30", "--open-items", "30", "--sample", "10", "--rounds", "1"]
    told = CliRunner().invoke(bench, ["ledger", *arguments, "--json", "--output", str(output)])
    assert told.exit_code == 0, told.output
    assert json.loads(output.read_text())["accounts"] == 1_000
    refused = CliRunner().invoke(bench, ["ledger", "--sample", "2000", "--holders", "30"])
    assert refused.exit_code == 2


@pytest.mark.parametrize(
    "arguments", [["--validators", "7", "--rate", "50"], ["cluster", "--validators", "7", "--rate", "50"]]
)
def test_without_a_command_it_is_the_cluster(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[run.Options] = []

    def refuse(options: run.Options, say: object) -> None:
        asked.append(options)
        raise SystemExit(9)

    monkeypatch.setattr("otcnode.cli.bench.measure", refuse)
    assert CliRunner().invoke(bench, arguments).exit_code == 9
    assert asked == [run.Options(7, 20_000, 50.0, 16, 100, None)]
