"""Commands of those who run nodes: init, genesis, run, status, explain."""

from __future__ import annotations

import asyncio
import faulthandler
import time
from pathlib import Path
from typing import Any

import aiohttp
import click
import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from otcnode import genesis as genesis_module
from otcnode import ids
from otcnode.cli.conclusion import conclude
from otcnode.cli.exits import EXIT_NO, EXIT_UNREACHABLE
from otcnode.client.connection import in_words
from otcnode.client.errors import RpcFailure
from otcnode.client.wire import Malformed, decode_one, decode_result
from otcnode.config import Home
from otcnode.errors import ConfigurationError, DecodeError
from otcnode.genesis import Genesis, chain_id
from otcnode.home import create_home, create_key
from otcnode.node_key import NodeKey

home_option = click.option(
    "--home", "directory", type=click.Path(path_type=Path), required=True, help="The node's home directory."
)
urls_option = click.option(
    "--url",
    "urls",
    multiple=True,
    default=("http://127.0.0.1:26651",),
    show_default=True,
    help="A node's RPC address; give it several times to ask several nodes.",
)
_NEEDED = {
    "node_status": {
        "name",
        "mode",
        "height",
        "view",
        "mempool_transactions",
        "peers_connected",
        "peers_expected",
        "full_nodes_connected",
        "synced",
        "syncing",
    },
    "node_explain": {"name", "progressing", "height", "view", "quorum", "validators", "causes"},
}
"""Of the answer of a method, what is shown or concluded from."""
ANSWER_S_MAX = 5.0
"""Until a node counts as one that does not answer, and for how long it is asked again where it is busy."""
WATCH_S = 1.0
BAR_WIDTH = 24
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


@click.command()
@home_option
@click.option("--name", required=True, help="The node's name, as it stands in the genesis.")
@click.option("--genesis", "genesis_file", type=click.Path(path_type=Path), help="Without it, only the key is made.")
@click.option(
    "--joining", is_flag=True, help="The genesis does not name this node: governance admits it to a network that runs."
)
@click.option("--p2p", "p2p_listen", default="127.0.0.1:26650", show_default=True, help="Where peers connect.")
@click.option("--rpc", "rpc_listen", default="127.0.0.1:26651", show_default=True, help="Where clients connect.")
def init(
    directory: Path, name: str, genesis_file: Path | None, joining: bool, p2p_listen: str, rpc_listen: str
) -> None:
    """Make a home for a new node.

    First without --genesis on every machine: it makes the node's key and prints its id for the genesis file. Then
    again with --genesis: it adds the configuration, and the node can run. A node that joins a running network says so
    with --joining, and follows once governance has admitted it.
    """
    home = Home(directory)
    if genesis_file is None:
        directory.mkdir(parents=True, exist_ok=True)
        key = NodeKey.generate()
        create_key(home, key)
        click.echo(ids.show(ids.Prefix.NODE, key.id))
        return
    genesis = genesis_module.load(genesis_file)
    key = NodeKey.load(home.key)
    if not joining and key.id not in genesis_module.admitted(genesis):
        raise ConfigurationError(
            f"{genesis_file} does not name this node ({ids.show(ids.Prefix.NODE, key.id)}); "
            "pass --joining if governance admits it later"
        )
    create_home(home, name=name, genesis=genesis, p2p_listen=p2p_listen, rpc_listen=rpc_listen)
    click.echo(f"{name} is ready: otcnode run --home {directory}")


@click.group()
def genesis() -> None:
    """Build, check and show genesis files."""


@genesis.command("build")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), required=True, help="The genesis file to write (JSON).")
def genesis_build(source: Path, output: Path) -> None:
    """Turn a TOML description into a genesis file. See docs/operations.md for an example."""
    try:
        described = msgspec.toml.decode(source.read_bytes())
        for entry in (*described.get("validators", ()), *described.get("nodes", ())):
            if str(entry.get("id", "")).startswith(ids.Prefix.NODE):
                entry["id"] = ids.parse(ids.Prefix.NODE, entry["id"])
        document = msgspec.convert(described, Genesis)
    except OSError as error:
        raise ConfigurationError(f"cannot read {source}: {error.strerror}") from None
    except (msgspec.DecodeError, DecodeError, AttributeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{source}: {error}") from None
    genesis_module.check(document)
    if output.exists():
        raise ConfigurationError(f"{output} exists already: a genesis is never overwritten")
    output.write_bytes(genesis_module.dump(document))
    click.echo(f"chain {chain_id(document).hex()}")


@genesis.command("show")
@click.argument("file", type=click.Path(path_type=Path))
def genesis_show(file: Path) -> None:
    """Print what a genesis file says, and the chain's id."""
    document = genesis_module.load(file)
    console = Console()
    console.print(f"network   {document.network}")
    console.print(f"chain     {chain_id(document).hex()}")
    console.print(
        f"clock     {'rehearsal, ' + str(document.clock.rate) + ' times UTC' if document.rehearsal else 'UTC'}"
    )
    table = Table("validator", "organisation", "address", "id")
    for validator in document.validators:
        node = ids.show(ids.Prefix.NODE, validator.id)
        table.add_row(validator.name, validator.organisation, validator.address, node)
    console.print(table)
    accounts = Table("account", "organisation", "roles", "id")
    for account in document.accounts:
        name = ids.show(ids.Prefix.ACCOUNT, genesis_module.genesis_account_id(account.name))
        accounts.add_row(account.name, account.organisation, ", ".join(account.roles), name)
    console.print(accounts)


@click.command()
@home_option
@click.option(
    "--vote-again-after-loss",
    is_flag=True,
    help="Let a validator without an intact voting record vote at once. Only when a quorum lost its records: this "
    "validator then counts among the faulty ones that the network can bear.",
)
@click.option(
    "--record-events",
    "events_directory",
    type=click.Path(path_type=Path),
    help="Keep what this node's consensus is told and does in files there (at most 8 of 64 MiB), for replay-events.",
)
def run(directory: Path, vote_again_after_loss: bool, events_directory: Path | None) -> None:
    """Run a node until Ctrl-C or SIGTERM."""
    from otcnode.node import run_node

    # LevelDB reads its tables through memory: where the disk cannot, the process ends with SIGBUS, and this says where.
    faulthandler.enable()
    run_node(Home(directory), vote_again_after_loss=vote_again_after_loss, events_directory=events_directory)


@click.command()
@urls_option
@json_option
@click.option("--watch", is_flag=True, help="Show it again every second until Ctrl-C, with how far a node has synced.")
def status(urls: tuple[str, ...], as_json: bool, watch: bool) -> None:
    """Where one or more nodes stand."""
    if watch and as_json:
        raise click.UsageError("--watch is for people, --json for programs")
    answers = asyncio.run(_ask(urls, "node_status"))
    if as_json:
        click.echo(msgspec.json.encode(answers))
    elif watch:
        _watch(urls, answers)
    else:
        Console().print(_status_table(answers))
    _exit_if_none_answered(answers)


def _watch(urls: tuple[str, ...], answers: dict[str, dict[str, Any]]) -> None:
    with Live(_status_table(answers), auto_refresh=False) as live:
        try:
            while True:
                time.sleep(WATCH_S)
                live.update(_status_table(asyncio.run(_ask(urls, "node_status"))), refresh=True)
        except KeyboardInterrupt:
            return


def _status_table(answers: dict[str, dict[str, Any]]) -> Table:
    table = Table(Column("node", overflow="fold"), "mode", "height", "view", "peers", "pool", "state")
    for url, answer in answers.items():
        if "error" in answer:
            table.add_row(url, "", "", "", "", "", Text(str(answer["error"]), style="red"))
            continue
        table.add_row(
            str(answer["name"]),
            str(answer["mode"]),
            str(answer["height"]),
            str(answer["view"]),
            _peers(answer),
            str(answer["mempool_transactions"]),
            _syncing(answer) + _archives(answer),
        )
    return table


def _archives(answer: dict[str, Any]) -> str:
    """What the former chains take that this node has put aside, and where; one of an earlier version does not say."""
    archives = answer.get("archives") or []
    if not archives:
        return ""
    size_bytes = sum(archive["size_bytes"] for archive in archives)
    places = ", ".join(sorted({archive["place"] for archive in archives if "place" in archive}))
    return f"\nformer chains: {len(archives)}, {size_bytes / 1e6:,.1f} MB" + (f" in {places}" if places else "")


def _peers(answer: dict[str, Any]) -> str:
    """Validators of those there should be, and how many others."""
    others = answer["full_nodes_connected"]
    return f"{answer['peers_connected']}/{answer['peers_expected']}" + (f" +{others}" if others else "")


def _syncing(answer: dict[str, Any]) -> str:
    """Synced, or a bar and what it means."""
    syncing = answer["syncing"]
    if syncing is None:
        return "synced" if answer["synced"] else "halted"
    done, whole = syncing["done"], syncing["whole"]
    unit = "chunks" if syncing["what"] == "snapshot" else "blocks"
    text = f"{done:,}/{whole:,} {unit} to height {syncing['height']:,}"
    full = BAR_WIDTH * done // max(1, whole)
    return f"{'█' * full}{'░' * (BAR_WIDTH - full)}\n{text}"


@click.command()
@urls_option
@json_option
def explain(urls: tuple[str, ...], as_json: bool) -> None:
    """Why the chain does or does not move: one conclusion from what each node says.

    With --json also every node's own answer.
    """
    answers = asyncio.run(_ask(urls, "node_explain"))
    conclusion = conclude(answers)
    if as_json:
        click.echo(msgspec.json.encode({"conclusion": conclusion, "answers": answers}))
    else:
        click.echo(conclusion.text)
        for url, answer in answers.items():
            click.echo(f"  {answer.get('name', url)}: {answer.get('text', answer.get('error'))}")
    _exit_if_none_answered(answers)


def _exit_if_none_answered(answers: dict[str, dict[str, Any]]) -> None:
    if all("error" in answer for answer in answers.values()):
        busy = any("retry_after_ms" in answer for answer in answers.values())
        raise SystemExit(EXIT_NO if busy else EXIT_UNREACHABLE)


async def _ask(urls: tuple[str, ...], method: str) -> dict[str, dict[str, Any]]:
    """The answer of each node, or {"error": why}, with `retry_after_ms` where it is there and busy."""
    timeout = aiohttp.ClientTimeout(total=ANSWER_S_MAX)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        results = await asyncio.gather(*(_ask_one(session, url, method) for url in urls))
    return dict(zip(urls, results, strict=True))


async def _ask_one(
    session: aiohttp.ClientSession, url: str, method: str, patience_s: float = ANSWER_S_MAX
) -> dict[str, Any]:
    """A node that is busy is asked again when it says, as long as there is patience for that."""
    ends = time.monotonic() + patience_s
    while True:
        answer = await _ask_once(session, url, method)
        wait_s = answer.get("retry_after_ms", 0) / 1_000 if "error" in answer else 0
        if wait_s <= 0 or time.monotonic() + wait_s > ends:
            return answer
        await asyncio.sleep(wait_s)


async def _ask_once(session: aiohttp.ClientSession, url: str, method: str) -> dict[str, Any]:
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {}}
    try:
        async with session.post(url, json=request) as response:
            body = await response.read()
    except TimeoutError:
        return {"error": "no answer (timed out)"}
    except (aiohttp.ClientError, ValueError) as error:
        return {"error": f"no answer ({in_words(error)})"}
    try:
        outcome = decode_one(body)
        if isinstance(outcome, RpcFailure):
            return _refusal(outcome)
        result = decode_result(outcome, dict[str, Any])
    except Malformed as error:
        return {"error": f"what answers there is no node ({error})"}
    lacking = sorted(_NEEDED[method] - result.keys())
    return {"error": f"what answers there is no node of this version (no {lacking[0]})"} if lacking else result


def _refusal(failure: RpcFailure) -> dict[str, Any]:
    if (wait_ms := failure.retry_after_ms) is None:
        return {"error": failure.message}
    busy = f"reached, but busy with others ({failure.message}; ask again in {wait_ms / 1_000:.1f} s)"
    return {"error": busy, "retry_after_ms": wait_ms}
