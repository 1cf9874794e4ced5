"""What commands that act on a network share: whose account, which keys, at which nodes, and how the outcome is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click
import msgspec

from otcnode import genesis as genesis_module
from otcnode import ids
from otcnode.cli.keygen import read_passphrase
from otcnode.client import keystore
from otcnode.client.client import Client, Outcome
from otcnode.client.errors import ClientError
from otcnode.crypto import SigningKey
from otcnode.errors import ConfigurationError, DecodeError
from otcnode.genesis import Genesis, KeyPurpose, genesis_account_id
from otcnode.vm.operations import Operation
from otcnode.vm.transactions import Decoded

TIMEOUT_MS = 60_000


@dataclass(frozen=True)
class Actor:
    """An account whose MANAGE keys are at hand, and the nodes through which it acts."""

    urls: tuple[str, ...]
    genesis: Genesis
    account: bytes
    keys: tuple[SigningKey, ...]
    as_json: bool

    def execute(self, operation: Operation) -> Outcome:
        """The proven outcome. Raises TransactionRefused or OutcomeUnknown."""

        async def act() -> Outcome:
            async with Client(self.urls, self.genesis) as client:
                await _learn_parameters(client)
                signed = client.sign(client.build(self.account, [operation]), self.keys)
                return await _execute(client, signed)

        return asyncio.run(act())

    def call(self, method: str, params: Any, result: type[Any]) -> Any:
        """A question, asked as this account."""

        async def ask() -> Any:
            async with Client(self.urls, self.genesis) as client:
                client.identify(self.account, self.keys[0])
                return await client.call(method, params, result)

        return asyncio.run(ask())


def execute_signed(urls: Sequence[str], genesis: Genesis, transaction: Callable[[Client], Decoded]) -> Outcome:
    """As Actor.execute, for a transaction that no account signs."""

    async def act() -> Outcome:
        async with Client(urls, genesis) as client:
            await _learn_parameters(client)
            return await _execute(client, transaction(client))

    return asyncio.run(act())


async def _execute(client: Client, transaction: Decoded) -> Outcome:
    outcome = await client.execute(transaction, TIMEOUT_MS)
    for told in client.passed_over.values():
        click.echo(f"passed over: {told}", err=True)
    return outcome


async def _learn_parameters(client: Client) -> None:
    with contextlib.suppress(ClientError):  # `execute` goes on trying, and says what is wrong
        await client.learn_parameters()


url_option = click.option(
    "--url", "urls", multiple=True, default=("http://127.0.0.1:26651",), show_default=True, help="A node's RPC address."
)
genesis_option = click.option(
    "--genesis", "genesis_file", type=click.Path(path_type=Path), required=True, help="The network's genesis file."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def acting(command: Callable[..., None]) -> Callable[..., None]:
    """Options that say who acts; the command gets an Actor first."""

    @url_option
    @genesis_option
    @click.option("--account", required=True, help="Who acts: a name in the genesis, or an id (acc1…).")
    @click.option(
        "--keys",
        "keystores",
        type=click.Path(path_type=Path),
        multiple=True,
        required=True,
        help="A keystore with a MANAGE key of the account; several where its threshold asks for it.",
    )
    @click.option(
        "--passphrase-file",
        type=click.Path(path_type=Path),
        help="Read the passphrase from the first line of this file; without it, it is asked for.",
    )
    @json_option
    @wraps(command)
    def with_actor(
        urls: tuple[str, ...],
        genesis_file: Path,
        account: str,
        keystores: tuple[Path, ...],
        passphrase_file: Path | None,
        as_json: bool,
        **rest: Any,
    ) -> None:
        genesis = genesis_module.load(genesis_file)
        passphrase = read_passphrase(passphrase_file, confirm=False)
        keys = tuple(_manage_key(path, passphrase) for path in keystores)
        command(Actor(urls, genesis, account_of(account), keys, as_json), **rest)

    return with_actor


def _manage_key(path: Path, passphrase: bytes) -> SigningKey:
    secret = keystore.read(path, passphrase).get(KeyPurpose.MANAGE.value)
    if secret is None:
        raise ConfigurationError(f"{path} holds no key with the name {KeyPurpose.MANAGE.value}")
    return secret.signing_key()


def account_of(text: str) -> bytes:
    """An id, or the name of an account in the genesis."""
    if not text.startswith(f"{ids.Prefix.ACCOUNT.value}1"):
        return genesis_account_id(text)
    return identifier(ids.Prefix.ACCOUNT, text)


def identifier(prefix: ids.Prefix, text: str) -> bytes:
    """Raises ConfigurationError in one line."""
    try:
        return ids.parse(prefix, text)
    except DecodeError as error:
        raise ConfigurationError(str(error)) from None


def tell(as_json: bool, text: str, **fields: object) -> None:
    """The outcome: a sentence for people, or the same as data."""
    click.echo(msgspec.json.encode(fields) if as_json else text)
