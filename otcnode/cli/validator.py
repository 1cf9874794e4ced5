"""`otcnode validator`: what a validator does with its own key."""

from __future__ import annotations

from pathlib import Path

import click

from otcnode import genesis as genesis_module
from otcnode import ids
from otcnode.cli.acting import execute_signed, json_option, tell, url_option
from otcnode.client.client import Client
from otcnode.config import Home
from otcnode.crypto import random_bytes
from otcnode.genesis import chain_id
from otcnode.node_key import NodeKey
from otcnode.vm.governance.operations import ValidatorRotate
from otcnode.vm.governance.validators import rotation_preimage
from otcnode.vm.transactions import Decoded, sign_as_node


@click.group()
def validator() -> None:
    """What a validator does with its own key."""


@validator.command()
@click.option("--home", "directory", type=click.Path(path_type=Path), required=True, help="The validator's home.")
@click.option(
    "--successor", type=click.Path(path_type=Path), required=True, help="The home of the new key, as `init` made it."
)
@click.option("--name", required=True, help="How the new node is called.")
@click.option("--address", default="", help="host:port where peers find the new node.")
@url_option
@json_option
def rotate(directory: Path, successor: Path, name: str, address: str, urls: tuple[str, ...], as_json: bool) -> None:
    """Sign a validator over to a new key.

    The new key is a node of its own, admitted by this very act: run it beside the old one. Once it has synced it says
    that it is ready, and from the second block after that it votes in the old one's place.
    """
    home = Home(directory)
    genesis = genesis_module.load(home.genesis)
    old, new = NodeKey.load(home.key), NodeKey.load(Home(successor).key)
    consent = new.signing.sign(rotation_preimage(chain_id(genesis), old.id, new.id))
    operation = ValidatorRotate(old.id, new.id, name, address, consent)

    def transaction(client: Client) -> Decoded:
        return sign_as_node(client.chain, operation, old.signing, random_bytes(32), client.valid_until())

    outcome = execute_signed(urls, genesis, transaction)
    shown = ids.show(ids.Prefix.NODE, new.id)
    tell(
        as_json,
        f"{shown} is admitted at height {outcome.height}; it takes over once it runs and has synced",
        height=outcome.height,
        successor=shown,
    )
