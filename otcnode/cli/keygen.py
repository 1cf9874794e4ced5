"""`otcnode keygen`: the keys of an account, sealed at rest."""

from __future__ import annotations

import base64
from pathlib import Path

import click

from otcnode.client import keystore
from otcnode.client.keystore import KeyKind, Secret
from otcnode.errors import ConfigurationError
from otcnode.genesis import KeyPurpose

ENCRYPTION = "ENC"


@click.command()
@click.option("--output", type=click.Path(path_type=Path), required=True, help="The keystore file to make.")
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    help="Read the passphrase from the first line of this file; without it, it is asked for.",
)
def keygen(output: Path, passphrase_file: Path | None) -> None:
    """Make the keys of an account: one per purpose, and one to receive sealed documents.

    Prints the public keys in base64, as they go into a genesis file or an application.
    """
    secrets = {purpose.value: Secret.generate(KeyKind.ED25519) for purpose in KeyPurpose}
    secrets[ENCRYPTION] = Secret.generate(KeyKind.X25519)
    keystore.write(output, secrets, read_passphrase(passphrase_file, confirm=True))
    for name, secret in secrets.items():
        click.echo(f"{name:<7} {base64.b64encode(secret.public).decode()}")


def read_passphrase(file: Path | None, *, confirm: bool) -> bytes:
    """The first line of the file, or what a person types (twice to `confirm`)."""
    if file is None:
        return str(click.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm)).encode()
    try:
        line = file.read_bytes().splitlines()[0]
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}") from None
    except IndexError:
        raise ConfigurationError(f"{file} is empty") from None
    return line
