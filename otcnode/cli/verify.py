"""`otcnode verify`: check files of evidence offline, with nothing but the genesis hash."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any, assert_never

import click
import msgspec

from otcnode import genesis as documents
from otcnode.cli.exits import EXIT_NO
from otcnode.errors import ConfigurationError, DecodeError, ProofError
from otcnode.evidence import misconduct
from otcnode.evidence.contracts import ContractFacts
from otcnode.evidence.package import Document
from otcnode.evidence.trades import TradeFacts
from otcnode.evidence.verdict import Outcome
from otcnode.evidence.verify import Facts, Verdict
from otcnode.evidence.verify import verify as verify_package
from otcnode.ids import Prefix, parse, show
from otcnode.rpc.render import render


@click.group("verify")
def verify() -> None:
    """Check files of evidence offline.

    Nothing is asked of any node. What is believed is the genesis hash alone, so get that from somewhere you trust.
    """


class _Hash(click.ParamType[bytes]):
    name = "hash"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> bytes:
        if isinstance(value, bytes):
            return value
        try:
            raw = bytes.fromhex(value)
        except ValueError:
            raw = b""
        if len(raw) != 32:
            self.fail("expected 64 hexadecimal digits", param, context)
        return raw


class _Subject(click.ParamType[bytes]):
    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> bytes:
        if isinstance(value, bytes):
            return value
        prefix = Prefix.TRADE if value.startswith(f"{Prefix.TRADE.value}1") else Prefix.CONTRACT
        try:
            return parse(prefix, value)
        except DecodeError as error:
            self.fail(str(error), param, context)


@verify.command("package")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--chain", type=_Hash(), help="The genesis hash, 64 hexadecimal digits.")
@click.option(
    "--genesis",
    "genesis_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The genesis file, instead of its hash.",
)
@click.option(
    "--document",
    "document_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The signed document, to be compared with what was signed.",
)
@click.option("--salt", type=_Hash(), help="The document's salt, 64 hexadecimal digits; needed with --document.")
@click.option("--subject", type=_Subject(), help="The contract or trade that it has to be of: con1… or tra1….")
@click.option("--min-height", type=click.IntRange(min=1), help="The least height that it has to be of.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
def package(
    file: Path,
    chain: bytes | None,
    genesis_file: Path | None,
    document_file: Path | None,
    salt: bytes | None,
    subject: bytes | None,
    min_height: int | None,
    as_json: bool,
) -> None:
    """Check an evidence package of a contract or trade.

    Exit code 0 if it proves what it says, 1 if it does not. Whoever shows it may choose which: of another contract, or
    of long ago, it is just as true. Say with --subject and --min-height what you asked for: anything else is then
    UNEXPECTED, with exit code 1.
    """
    if (chain is None) == (genesis_file is None):
        raise click.UsageError("give either --chain or --genesis")
    if (document_file is None) != (salt is None):
        raise click.UsageError("--document and --salt go together")
    if genesis_file is not None:
        chain = documents.chain_id(documents.load(genesis_file))
    assert chain is not None
    document = None
    if document_file is not None and salt is not None:
        document = Document(salt, _read(document_file))
    verdict = verify_package(_read(file), chain, document)
    unexpected = None if verdict.facts is None else _unexpected(verdict.facts, subject, min_height)
    if as_json:
        data = _as_data(verdict)
        click.echo(msgspec.json.encode(data if unexpected is None else data | _said(unexpected)))
    elif unexpected is not None:
        click.echo("{outcome} {detail}".format(**_said(unexpected)))
    else:
        _print(verdict)
    if verdict.outcome is not Outcome.OK or unexpected is not None:
        raise click.exceptions.Exit(EXIT_NO)


def _unexpected(facts: Facts, subject: bytes | None, min_height: int | None) -> str | None:
    """Why what is proven is not what was asked for."""
    match facts:
        case ContractFacts(contract=name):
            shown = show(Prefix.CONTRACT, name)
        case TradeFacts(trade=name):
            shown = show(Prefix.TRADE, name)
        case _:
            assert_never(facts)
    if subject not in (None, name):
        return f"it is true, but of {shown}"
    if min_height is not None and facts.as_of_height < min_height:
        return f"it is true, but as of height {facts.as_of_height}"
    return None


def _said(unexpected: str) -> dict[str, str]:
    return {"outcome": "UNEXPECTED", "detail": unexpected}


@verify.command("evidence")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--genesis",
    "genesis_file",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The genesis file of the network.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the offence as JSON.")
def evidence(file: Path, genesis_file: Path, as_json: bool) -> None:
    """Check evidence of a validator's misbehaviour.

    FILE is the `file` of evidence_get, its bytes or its base64. Exit code 0 if it proves an offence, 1 if it does not.
    """
    document = documents.load(genesis_file)
    try:
        offence = misconduct.check(_bytes_or_base64(_read(file)), document)
    except (ProofError, DecodeError) as error:
        if as_json:
            click.echo(msgspec.json.encode({"proven": False, "detail": str(error)}))
        else:
            click.echo(f"proves nothing: {error}")
        raise click.exceptions.Exit(EXIT_NO) from None
    names = {validator.id: validator.name for validator in document.validators}
    facts = {
        "validator": show(Prefix.NODE, offence.validator),
        "name": names.get(offence.validator, ""),
        "kind": offence.kind.value,
        "epoch": offence.epoch,
        "view": offence.view,
        "height": offence.height,
    }
    if as_json:
        click.echo(msgspec.json.encode({"proven": True, **facts}))
        return
    click.echo(f"proven: {facts['name'] or facts['validator']} committed a {offence.kind.value}")
    _print_tree(facts, 2)


def _bytes_or_base64(raw: bytes) -> bytes:
    """What a file of evidence begins with is never base64."""
    try:
        return base64.b64decode(raw.strip(), validate=True)
    except binascii.Error:
        return raw


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None


def _as_data(verdict: Verdict) -> dict[str, Any]:
    facts = None if verdict.facts is None else render(verdict.facts)
    return {
        "outcome": verdict.outcome.value,
        "detail": verdict.detail,
        "document_compared": verdict.document,
        "facts": facts,
    }


def _print(verdict: Verdict) -> None:
    click.echo(f"{verdict.outcome.value} {verdict.detail}".rstrip())
    if verdict.facts is None:
        return
    _print_tree(_facts(verdict.facts), 2)
    if verdict.document:
        click.echo("  the document is the one that was signed")


def _facts(facts: Facts) -> dict[str, Any]:
    shown = msgspec.to_builtins(render(facts), builtin_types=(bytes,))
    assert isinstance(shown, dict)
    return shown


def _print_tree(value: dict[str, Any], indent: int) -> None:
    """Names and values, a line each; what is nested goes below its name."""
    for name, entry in value.items():
        if isinstance(entry, dict) and set(entry) == {"ms", "iso"}:
            click.echo(f"{' ' * indent}{name}: {entry['iso']}")
        elif isinstance(entry, dict):
            click.echo(f"{' ' * indent}{name}")
            _print_tree(entry, indent + 2)
        elif isinstance(entry, list) and entry and isinstance(entry[0], dict):
            for place, row in enumerate(entry):
                click.echo(f"{' ' * indent}{name} {place}")
                _print_tree(row, indent + 2)
        elif isinstance(entry, bytes):
            click.echo(f"{' ' * indent}{name}: {entry.hex()}")
        elif entry is not None:
            click.echo(f"{' ' * indent}{name}: {entry}")
