"""`otcnode db`: looking into the data directory of a node that is not running."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
from rich.console import Console

from otcnode import genesis as genesis_module
from otcnode.blocks import Entry, transactions_root
from otcnode.cli.exits import EXIT_NO
from otcnode.cli.progress import bars
from otcnode.cli.snapshots import restore, snapshot
from otcnode.config import Home
from otcnode.errors import Inadmissible, StorageDamage
from otcnode.genesis import chain_id
from otcnode.storage import tools
from otcnode.storage.level import LevelKeyValue
from otcnode.storage.schema import Table
from otcnode.storage.store import Store
from otcnode.vm.invariants import CHECKS, check_state
from otcnode.vm.transactions import decode_transaction

home_option = click.option(
    "--home", "directory", type=click.Path(path_type=Path), required=True, help="The node's home directory."
)


@click.group()
def db() -> None:
    """Look into the data directory of a node that is not running."""


@db.command()
@home_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def verify(directory: Path, as_json: bool) -> None:
    """Check everything: hashes, certificates, roots, indexes, history, and the ledger's invariants.

    Ends with 0 if all is in order, 2 if something is damaged (it is named), 1 if the state breaks an invariant.
    """
    home = Home(directory)
    chain = chain_id(genesis_module.load(home.genesis))
    console = Console(stderr=True, highlight=False)
    kv = LevelKeyValue(home.database)
    try:
        with bars(console) as show:
            found = tools.verify(kv, chain, _transactions_root, show)
        violations = check_state(Store.open(kv, chain, 0).state)
    finally:
        kv.close()
    if as_json:
        answer = {**found._asdict(), "violations": [str(violation) for violation in violations]}
        click.echo(msgspec.json.encode(answer))
    else:
        for name, value in found._asdict().items():
            click.echo(f"{name.replace('_', ' '):<18} {value}")
        for violation in violations:
            click.echo(f"invariant {violation.invariant}: {violation.detail}", err=True)
        click.echo(f"{len(CHECKS)} groups of invariants: {'broken' if violations else 'in order'}")
    if violations:
        raise SystemExit(EXIT_NO)


@db.command()
@home_option
@click.argument("table", type=click.Choice([table.name.lower() for table in Table]))
@click.argument("key")
def inspect(directory: Path, table: str, key: str) -> None:
    """Show one record: its table, and its key in hexadecimal (heights are 8 bytes, big-endian)."""
    try:
        raw = bytes.fromhex(key)
    except ValueError:
        raise click.BadParameter(f"{key!r} is not hexadecimal") from None
    kv = LevelKeyValue(Home(directory).database)
    try:
        record = tools.inspect(kv, Table[table.upper()], raw)
    finally:
        kv.close()
    if record is None:
        click.echo("there is no such record", err=True)
        raise SystemExit(EXIT_NO)
    click.echo(msgspec.json.format(msgspec.json.encode(_readable(record)), indent=2))


def _readable(value: object) -> object:
    """With bytes in hexadecimal, and fields by their names."""
    match value:
        case bytes():
            return value.hex()
        case tuple() | list():
            return [_readable(entry) for entry in value]
        case msgspec.Struct():
            return {name: _readable(getattr(value, name)) for name in value.__struct_fields__}
        case _:
            return value


def _transactions_root(raws: tuple[bytes, ...]) -> tuple[bytes, tuple[bytes, ...]]:
    try:
        decoded = [decode_transaction(raw) for raw in raws]
    except Inadmissible as error:
        raise StorageDamage(f"a stored transaction does not decode: {error}") from None
    entries = [Entry(entry.id, entry.full_hash) for entry in decoded]
    return transactions_root(entries), tuple(entry.id for entry in decoded)


for _command in (snapshot, restore):
    db.add_command(_command)
