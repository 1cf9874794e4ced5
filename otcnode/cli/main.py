"""The command line: a lazy group of commands, and one line for every foreseeable error."""

from __future__ import annotations

import importlib
import signal
import sys
from typing import Any

import click

from otcnode import __version__
from otcnode.cli.exits import EXIT_DEFECT, EXIT_INTERRUPTED, EXIT_NO, EXIT_UNREACHABLE, EXIT_USAGE
from otcnode.cli.stopping import OWN_PROCESS
from otcnode.errors import ConfigurationError, NodeFailed, OtcnodeError, StorageDamage, Unreachable

COMMANDS: dict[str, tuple[str, str]] = {
    "localnet": ("otcnode.cli.localnet", "Make and run a cluster on this machine."),
    "init": ("otcnode.cli.node", "Make a home for a new node: key, voting record, configuration."),
    "keygen": ("otcnode.cli.keygen", "Make the keys of an account, sealed in a keystore."),
    "genesis": ("otcnode.cli.node", "Build, check and show genesis files."),
    "run": ("otcnode.cli.node", "Run a node."),
    "status": ("otcnode.cli.node", "Where one or more nodes stand."),
    "explain": ("otcnode.cli.node", "Why the chain does or does not move."),
    "governance": ("otcnode.cli.governance", "Propose, approve and list what organisations decide together."),
    "validator": ("otcnode.cli.validator", "Change a validator's key."),
    "verify": ("otcnode.cli.verify", "Check files of evidence offline, with nothing but the genesis hash."),
    "db": ("otcnode.cli.db", "Check, cut, take back and export the data of a node that is not running."),
    "replay-events": ("otcnode.cli.events", "Step a recorded node again: why it did what it did."),
    "scenario": ("otcnode.cli.scenario", "Play ledger stories from files."),
    "simulate": ("otcnode.cli.simulate", "Run whole networks in virtual time under faults."),
    "bench": ("otcnode.cli.bench", "Measure a local cluster honestly."),
}
"""Command name to (module, help). Modules are imported when they are used, so that each command starts fast; the
command is the module's attribute of the same name, with _ for -."""


class _LazyGroup(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(COMMANDS[name][0]), name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="otcnode")
def otcnode() -> None:
    """A peer-to-peer blockchain node for issuing and trading products off exchange.

    Begin with: otcnode localnet --demo
    """


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; every foreseeable error is one line on standard error and a documented exit code."""
    try:
        # To be told to end is to be interrupted: whatever Ctrl-C cleans up (nodes, processes, files) is cleaned up.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            _run(arguments)
        finally:
            _hear_no_more()
    except (click.exceptions.Abort, KeyboardInterrupt):
        _hear_no_more()
        click.echo("stopped", err=True)
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(0)


def _hear_no_more() -> None:
    """The outcome is known: interrupted now, Python would end itself by the signal, without a word."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _run(arguments: list[str] | None) -> None:
    try:
        otcnode.main(args=arguments, standalone_mode=False, obj=OWN_PROCESS)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (ConfigurationError, StorageDamage) as error:
        click.echo(f"otcnode: {error}", err=True)
        sys.exit(EXIT_USAGE)
    except OSError as error:
        # A file or directory that an operator named, or the disk of it.
        click.echo(f"otcnode: {_of_system(error)}", err=True)
        sys.exit(EXIT_USAGE)
    except NodeFailed as error:
        click.echo(f"otcnode: {error}", err=True)
        sys.exit(EXIT_DEFECT)
    except Unreachable as error:
        click.echo(f"otcnode: {error}", err=True)
        sys.exit(EXIT_UNREACHABLE)
    except OtcnodeError as error:
        click.echo(f"otcnode: {error}", err=True)
        sys.exit(EXIT_NO)


def _of_system(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    return f"cannot use {error.filename}: {reason}" if error.filename is not None else reason
