"""`otcnode localnet`: a cluster on this machine in one command, with or without the story."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import click
from rich.console import Console

from otcnode import localnet as local
from otcnode.cli.exits import EXIT_NO
from otcnode.demo import story
from otcnode.demo.cast import load_cast, new_cast
from otcnode.genesis import ChainParameters

DEFAULT_DIRECTORY = Path("localnet")


@click.command()
@click.option("--validators", default=4, show_default=True, type=click.IntRange(1, 31))
@click.option(
    "--full-nodes",
    default=0,
    show_default=True,
    type=click.IntRange(0, 31),
    help="Nodes that follow, serve clients and do not vote.",
)
@click.option(
    "--directory", type=click.Path(path_type=Path), default=DEFAULT_DIRECTORY, show_default=True, help="Where it lives."
)
@click.option("--port", default=26650, show_default=True, type=click.IntRange(1024, 65_000), help="The first port.")
@click.option("--reset", is_flag=True, help="Delete an existing cluster in the directory first.")
@click.option("--demo", is_flag=True, help="Play the story of a product on a fresh cluster (implies --reset).")
@click.option("--exit", "exit_after", is_flag=True, help="With --demo: stop the cluster when the story is over.")
def localnet(
    validators: int, full_nodes: int, directory: Path, port: int, reset: bool, demo: bool, exit_after: bool
) -> None:
    """Make and run a cluster on this machine; Ctrl-C stops it.

    Without --reset an existing cluster in the directory is started again where it stopped.
    """
    console = Console(highlight=False)
    if reset or demo:
        local.remove(directory)
    if not any(directory.glob("node*")):
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
        cluster.wait_ready()
        if demo and not story.play(cluster, load_cast(directory), console):
            raise SystemExit(EXIT_NO)
        if exit_after:
            return
        told = _told_to_stop()
        console.print("\nThe cluster is up; Ctrl-C stops it.")
        for member in cluster.members:
            console.print(f"  {member.name}  {member.url}  (log: {member.home.log})")
        told.wait()
        console.print("Stopping …")


def _told_to_stop() -> threading.Event:
    """Set by a signal; from here on none ends the process by itself."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    return stopped
