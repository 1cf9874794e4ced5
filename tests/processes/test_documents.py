"""What the guides show is what happens."""

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from otcnode.cli import main as command_line
from otcnode.demo.cast import new_cast
from otcnode.genesis import ChainParameters
from otcnode.localnet import Cluster, Plan, create
from tests.processes import cluster as daemons

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
COMMAND = re.compile(r"^\s*\$ (otcnode .*)$", re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    return [(path.name, found) for path in DOCUMENTS for found in COMMAND.findall(path.read_text())]


def test_there_are_commands_to_check() -> None:
    assert len(commands()) > 5


@pytest.mark.parametrize(("document", "command"), commands())
def test_every_command_in_the_documents_parses(document: str, command: str) -> None:
    """Names, options and the number of arguments are those of the command line; what they do is tested elsewhere."""
    words = command.replace("…", "somewhere").split()[1:]
    context = click.Context(command_line.otcnode, info_name="otcnode")
    current: click.Command = command_line.otcnode
    while isinstance(current, click.Group) and not (current.invoke_without_command and words[0].startswith("-")):
        name = words.pop(0)
        found = current.get_command(context, name)
        assert found is not None, f"{document}: {command}"
        current = found
    current.make_context(current.name, words, parent=context)


def test_every_link_in_the_documents_leads_somewhere() -> None:
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.process
def test_the_programs_of_the_guides(tmp_path: Path) -> None:
    directory = tmp_path / "net"
    cast = new_cast(directory)
    parameters = ChainParameters(state_buckets=256)
    create(Plan(directory, 4, daemons.free_ports(8), cast.accounts, cast.cash, parameters=parameters))
    with Cluster(directory) as cluster:
        cluster.start_all()
        cluster.wait_ready()
        done = run_example("first_deposit.py", str(directory), *cluster.urls)
        urls = [word for url in cluster.urls for word in ("--url", url)]
        load = run_example("steady_load.py", str(directory), "--per-second", "20", "--seconds", "2", *urls)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"tx1\w+ is final at height \d+", lines[0])
    assert lines[2].endswith("E_DUP_BANK_REF, definite: True")
    assert load.returncode == 0, load.stderr
    found = re.match(r"\d+ s: (\d+) final, 0 failed, 0 under way, height [1-9]\d*;", load.stdout.splitlines()[-1])
    assert found is not None and int(found[1]) >= 30, load.stdout


def run_example(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "docs" / "examples" / name), *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=dict(os.environ),
    )
