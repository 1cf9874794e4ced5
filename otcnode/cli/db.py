"""`otcnode db`: looking into and working on the data directory of a node that is not running."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from otcnode.audit import ledger_violations, verified
from otcnode.cli.exits import EXIT_INTERRUPTED, EXIT_NO
from otcnode.cli.maintenance import export, prune, replay, rollback
from otcnode.cli.progress import bars
from otcnode.cli.snapshots import restore, snapshot
from otcnode.cli.stopped import home_option, json_option, opened, readable, verifying
from otcnode.cli.text import shown
from otcnode.config import Home
from otcnode.storage import tools
from otcnode.storage.level import LevelKeyValue, NoDatabase
from otcnode.storage.progress import Progress
from otcnode.storage.schema import Table
from otcnode.storage.store import Store
from otcnode.vm.invariants import CHECKS


@click.group()
def db() -> None:
    """Look into, check, cut and export the data directory of a node that is not running."""


@db.command()
@home_option
@click.option(
    "--from", "first", type=click.IntRange(min=1), help="Leave the blocks below out: they were checked before."
)
@json_option
def verify(directory: Path, first: int | None, as_json: bool) -> None:
    """Check everything against the certified headers, and the ledger's invariants.

    Of every kept block: header, certificate, transactions, receipts, and the entries of all indexes, made anew from the
    receipts. Then the whole state, every past state that is kept (put back block by block, down to the root in each
    header), sealed documents, and the evidence of misbehaviour. Whether the blocks execute to what they say is not
    checked: that is what replay does. With --from, blocks below and their index entries are left out, all else is not.

    Ends with 0 if all is in order, 2 if something is damaged (it is named), 1 if the state breaks an invariant. Stopped
    by Ctrl-C, it says with which --from to go on.
    """
    with verifying(), opened(directory) as stopped:
        reached = 0
        try:
            with bars() as show:

                def note(part: str, done: int, whole: int) -> None:
                    nonlocal reached
                    reached = done if part == tools.BLOCKS else reached
                    show(part, done, whole)

                found = verified(stopped.kv, stopped.chain, note, first)
                store = Store.open(stopped.kv, stopped.chain, 0)
                violations = ledger_violations(store, stopped.chain, show)
                fields = {**found._asdict(), "documents": _documents(stopped.home, show)}
        except KeyboardInterrupt:
            click.echo(f"stopped; go on with --from {reached + 1}", err=True)
            raise SystemExit(EXIT_INTERRUPTED) from None
    if as_json:
        answer = {**fields, "violations": [str(violation) for violation in violations]}
        click.echo(msgspec.json.encode(answer))
    else:
        click.echo(readable(fields))
        for violation in violations:
            click.echo(f"invariant {violation.invariant}: {violation.detail}", err=True)
        click.echo(f"{len(CHECKS)} groups of invariants: {'broken' if violations else 'in order'}")
    if violations:
        raise SystemExit(EXIT_NO)


def _documents(home: Home, progress: Progress) -> int:
    """Verify the sealed documents; how many there are."""
    try:
        kv = LevelKeyValue(home.documents)
    except NoDatabase:
        return 0
    try:
        return tools.verify_documents(kv, progress)
    finally:
        kv.close()


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
    home = Home(directory)
    kv = LevelKeyValue(home.documents if table.startswith("document") else home.database)
    try:
        record = tools.inspect(kv, Table[table.upper()], raw)
    finally:
        kv.close()
    if record is None:
        click.echo("there is no such record", err=True)
        raise SystemExit(EXIT_NO)
    click.echo(msgspec.json.format(msgspec.json.encode(shown(record)), indent=2))


for _command in (replay, rollback, prune, snapshot, restore, export):
    db.add_command(_command)
