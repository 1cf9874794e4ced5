"""`otcnode db`: looking into and working on the data directory of a node that is not running."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from otcnode.audit import ledger_violations, verified
from otcnode.cli.exits import EXIT_NO
from otcnode.cli.maintenance import export, prune, replay, rollback
from otcnode.cli.progress import bars
from otcnode.cli.snapshots import restore, snapshot
from otcnode.cli.stopped import home_option, json_option, open_chain, opened, readable, verifying
from otcnode.cli.stopping import Stopping, stoppable
from otcnode.config import Home
from otcnode.maintenance import inspection
from otcnode.storage import tools
from otcnode.storage.documents import ADVICE_DOCUMENT, ADVICE_DOCUMENTS
from otcnode.storage.level import LevelKeyValue, NoDatabase
from otcnode.storage.progress import Progress
from otcnode.storage.records import ADVICE_RESTORE
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
@stoppable("go on with the same command")
def verify(stopping: Stopping, directory: Path, first: int | None, as_json: bool) -> None:
    """Check everything against the certified headers, and the ledger's invariants.

    Of every kept block: header, certificate, transactions, receipts, and the entries of all indexes, made anew from the
    receipts. Then the whole state, every past state that is kept (put back block by block, down to the root in each
    header), sealed documents, and the evidence of misbehaviour. Whether the blocks execute to what they say is not
    checked: that is what replay does. With --from, blocks below and their index entries are left out, all else is not.

    Ends with 0 if all is in order, 2 if something is damaged (it is named), 1 if the state breaks an invariant. Stopped
    by Ctrl-C, it says with which --from to go on.
    """
    with verifying(ADVICE_RESTORE), opened(directory) as stopped:
        with bars(stopping.check) as show:

            def note(part: str, done: int, whole: int) -> None:
                if part == tools.BLOCKS:
                    stopping.advise(f"go on with --from {done + 1}")
                show(part, done, whole)

            found = verified(stopped.kv, stopped.chain, note, first)
            store = Store.open(stopped.kv, stopped.chain, 0)
            violations = ledger_violations(store, stopped.chain, show)
            fields = {**found._asdict(), "documents": _documents(stopped.home, show)}
        stopping.settle()
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
    """Verify the sealed documents; how many there are. The chain does not depend on them."""
    try:
        with verifying(ADVICE_DOCUMENTS):
            kv = LevelKeyValue(home.documents)
    except NoDatabase:
        return 0
    try:
        with verifying(ADVICE_DOCUMENT):
            return tools.verify_documents(kv, progress)
    finally:
        kv.close()


@db.command()
@home_option
@click.argument("what", nargs=-1, required=True)
@click.option("--at-height", type=click.IntRange(min=0), help="Of the state: as it was after the block at this height.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Of several, how many.")
def inspect(directory: Path, what: tuple[str, ...], at_height: int | None, limit: int) -> None:
    """Show a record, or the records whose keys begin alike, as JSON.

    WHAT is an id as the API writes it (an account, contract, product, trade, transaction, block …) or a height, alone;
    or a table and the parts of a key: ids, numbers in decimal, hexadecimal behind 0x, text. Of the state and of its
    history a table of the ledger comes first.

    \b
      inspect acc1…                            an account
      inspect tx1…                             a transaction, its place and its receipt
      inspect 250                              the header at this height; blk1… the same by hash
      inspect receipts 250                     also body, certificate, indexed, touched, epoch
      inspect state cash_balance acc1…         all that an account holds in cash
      inspect state cash_balance acc1… CNY@BANK --at-height 200
      inspect history acc1…                    what the record was, and which blocks changed it
      inspect meta head                        how far the store is and what it keeps

    Nothing is verified: that is what verify does. Ends with 1 if there is no such record.
    """
    asked = inspection.wanted(what)
    home = Home(directory)
    kv = LevelKeyValue(home.documents) if asked.table.name.startswith("DOCUMENT") else open_chain(home)
    try:
        found = inspection.record(kv, asked, at_height)
        if found is None and asked.table is not Table.HISTORY:
            found = inspection.records(kv, asked, limit, at_height) or None
    finally:
        kv.close()
    if found is None:
        click.echo("there is no such record", err=True)
        raise SystemExit(EXIT_NO)
    click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))


for _command in (replay, rollback, prune, snapshot, restore, export):
    db.add_command(_command)
