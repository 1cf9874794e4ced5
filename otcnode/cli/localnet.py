"""`otcnode localnet`: a cluster on this machine in one command, with or without the story."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import click
from click.core import ParameterSource
from rich.console import Console

from otcnode import genesis
from otcnode import localnet as local
from otcnode.cli.exits import EXIT_NO
from otcnode.demo import story
from otcnode.demo.cast import load_cast, new_cast
from otcnode.errors import ConfigurationError
from otcnode.genesis import ChainParameters

DEFAULT_DIRECTORY = Path("localnet")


@click.command()
@click.option(
    "--validators", default=4, show_default=True, type=click.IntRange(1, 31), help="Of a new cluster: nodes that vote."
)
@click.option(
    "--full-nodes",
    default=0,
    show_default=True,
    type=click.IntRange(0, 31),
    help="Of a new cluster: nodes that follow, serve clients and do not vote.",
)
@click.option(
    "--directory", type=click.Path(path_type=Path), default=DEFAULT_DIRECTORY, show_default=True, help="Where it lives."
)
@click.option(
    "--port",
    default=26650,
    show_default=True,
    type=click.IntRange(1024, 65_000),
    help="Of a new cluster: the first port. Each node takes two, for peers and for clients.",
)
@click.option("--reset", is_flag=True, help="Delete an existing cluster in the directory first.")
@click.option("--demo", is_flag=True, help="Play the story of a product on a fresh cluster (implies --reset).")
@click.option("--exit", "exit_after", is_flag=True, help="Stop the cluster once it is up, with --demo after the story.")
def localnet(
    validators: int, full_nodes: int, directory: Path, port: int, reset: bool, demo: bool, exit_after: bool
) -> None:
    """Make and run a cluster on this machine; Ctrl-C stops it.

    Without --reset an existing cluster in the directory is started again where it stopped. A node of it that does not
    come up is named, and the others run.
    """
    console = Console(highlight=False)
    if reset or demo:
        local.remove(directory)
    is_new = not any(directory.glob("node*"))
    if not is_new:
        _refuse_another(directory)
    else:
        with local.made_whole(directory):
            cast = new_cast(directory)
            local.create(
                local.Plan(
                    directory=directory,
                    validators=validators,
                    full_nodes=full_nodes,
                    base_port=port,
                    accounts=cast.accounts,
                    cash=cast.cash,
                    clock_rate=story.CLOCK_RATE if demo else 1,
                    parameters=story.PARAMETERS if demo else ChainParameters(),
                )
            )
    with local.Cluster(directory) as cluster:
        console.print(f"Starting {len(cluster.members)} nodes in {directory} …")
        cluster.start_all()
        if is_new:
            cluster.wait_ready()
        else:
            _wait_for_most(cluster, console)
        if demo and not story.play(cluster, load_cast(directory), console):
            raise SystemExit(EXIT_NO)
        if exit_after:
            return
        told = _told_to_stop()
        console.print("\nThe cluster is up; Ctrl-C stops it.")
        for line in _described(cluster):
            console.print(line, soft_wrap=True)
        told.wait()
        console.print("Stopping …")


def _refuse_another(directory: Path) -> None:
    """Raises UsageError where options describe another cluster than the one that is there."""
    context, members = click.get_current_context(), local.members(directory)
    document = genesis.load(members[0].home.genesis)
    there = {
        "validators": len(document.validators),
        "full_nodes": len(document.nodes),
        "port": members[0].p2p_port,
    }
    for name, value in there.items():
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and context.params[name] != value:
            raise click.UsageError(
                f"{directory} holds a cluster of {there['validators']} validators and {there['full_nodes']} full "
                f"nodes, ports from {there['port']} on: choose another --directory, or pass --reset to delete it"
            )


def _described(cluster: local.Cluster) -> Iterator[str]:
    """Each node, and what one does to a single one."""
    for member in cluster.members:
        alive = cluster.alive(member.name)
        state = f"pid {cluster.process_id(member.name)}" if alive else "not running"
        yield f"  {member.name}  {member.url}  {state}  (log: {member.home.log})"
    home = cluster.members[-1].home.path
    yield f"One of them is stopped by `kill PID`, and started again by `otcnode run --home {home}` or the like."


def _wait_for_most(cluster: local.Cluster, console: Console) -> None:
    """Raises ConfigurationError if no node comes up."""
    failed = []
    for member in cluster.members:
        try:
            cluster.wait_ready([member.name])
        except ConfigurationError as error:
            failed.append(error)
            console.print(str(error), style="yellow", markup=False, soft_wrap=True)
    if len(failed) == len(cluster.members):
        raise failed[0]


def _told_to_stop() -> threading.Event:
    """Set by a signal; from here on none ends the process by itself."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    return stopped
