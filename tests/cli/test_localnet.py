"""What `otcnode localnet` says before it starts anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from otcnode.cli.localnet import localnet
from otcnode.localnet import Plan, create
from tests.storage.test_shelf import full_disk


@pytest.mark.parametrize(
    "changed",
    [["--validators", "3"], ["--full-nodes", "1"], ["--port", "20000"], ["--validators", "2", "--port", "9999"]],
)
def test_another_cluster_than_the_one_that_is_there_is_refused(tmp_path: Path, changed: list[str]) -> None:
    """Not started as it is, as if that were what was asked for."""
    create(Plan(tmp_path, 2, 30_000, accounts=(), cash=()))
    done = CliRunner().invoke(localnet, ["--directory", str(tmp_path), *changed])
    assert done.exit_code == 2
    assert "2 validators and 0 full nodes, ports from 30000 on" in done.output and "--reset" in done.output


@pytest.mark.parametrize("file_bytes", [16, 6_000])
def test_of_a_new_cluster_that_cannot_be_made_nothing_stays(tmp_path: Path, file_bytes: int) -> None:
    """Half of one could neither be started nor be made again: its first keys, or all of them and a part of a node."""
    (tmp_path / "mine").write_text("")

    with full_disk(file_bytes):
        done = CliRunner().invoke(localnet, ["--directory", str(tmp_path), "--exit"])
    made = {path.name for path in tmp_path.iterdir()}
    assert done.exception is not None and not isinstance(done.exception, SystemExit)
    assert made == {"mine"}
