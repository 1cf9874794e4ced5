"""Who plays: the institutions in the genesis, the investors who apply later, and everybody's keys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from otcnode.client import keystore
from otcnode.client.keystore import KeyKind, Secret
from otcnode.crypto import SigningKey
from otcnode.genesis import CashAsset, GenesisAccount, GenesisKey, KeyPurpose, Role, genesis_account_id

CASH = "CNY@HARBOUR"
PASSPHRASE = b"localnet"
"""Of a local cluster's keystores: a playground's keys are sealed in the same format as real ones, not in secret."""
KEYSTORE_MEMORY_BYTES = 8 << 20
KEYS_DIRECTORY = "keys"

INSTITUTIONS: dict[str, tuple[str, tuple[Role, ...]]] = {
    "BANK": ("Harbour Bank", (Role.CUSTODIAN,)),
    "ISSUER": ("Meridian Leasing", (Role.ISSUER,)),
    "DEALER": ("Castle Securities", (Role.DEALER,)),
    "LISTING": ("Exchange Operations", (Role.LISTING,)),
    "KYC": ("Exchange Compliance", (Role.KYC,)),
    "CALLBACK": ("Exchange Client Service", (Role.CALLBACK,)),
    "FREEZER": ("Exchange Surveillance", (Role.FREEZER,)),
    "RECOVERY": ("Exchange Registry", (Role.RECOVERY,)),
    "REGULATOR": ("Market Regulator", (Role.REGULATOR,)),
}
"""Account name to (organisation, roles)."""
INVESTORS = ("ADA", "BO", "CHEN", "DORA")
TRAFFIC = "TRAFFIC"
"""An account that is only there to be paid to while the cluster is disturbed."""


@dataclass
class Actor:
    """`account` is empty until the account exists."""

    name: str
    account: bytes
    keys: dict[KeyPurpose, SigningKey]


@dataclass(frozen=True)
class Cast:
    actors: dict[str, Actor]
    accounts: tuple[GenesisAccount, ...]
    cash: tuple[CashAsset, ...]


def new_cast(directory: Path) -> Cast:
    """New keys for everybody, sealed in keystores under `directory`/keys."""
    actors: dict[str, Actor] = {}
    accounts: list[GenesisAccount] = []
    for name in (*INSTITUTIONS, *INVESTORS, TRAFFIC):
        secrets = {purpose.value: Secret.generate(KeyKind.ED25519) for purpose in KeyPurpose}
        (directory / KEYS_DIRECTORY).mkdir(parents=True, exist_ok=True)
        keystore.write(_path(directory, name), secrets, PASSPHRASE, memory_bytes=KEYSTORE_MEMORY_BYTES, operations=1)
        keys = {KeyPurpose(purpose): secret.signing_key() for purpose, secret in secrets.items()}
        account = b"" if name in INVESTORS else genesis_account_id(name)
        actors[name] = Actor(name, account, keys)
        if name not in INVESTORS:
            organisation, roles = INSTITUTIONS.get(name, (name, ()))
            public = tuple(GenesisKey(purpose=purpose, key=key.public) for purpose, key in sorted(keys.items()))
            accounts.append(GenesisAccount(name=name, organisation=organisation, roles=roles, keys=public))
    return Cast(actors, tuple(accounts), (CashAsset(id=CASH, custodian="BANK"),))


def load_cast(directory: Path) -> dict[str, Actor]:
    """The actors of an existing cluster; investors have no account until they apply."""
    actors = {}
    for name in (*INSTITUTIONS, *INVESTORS, TRAFFIC):
        secrets = keystore.read(_path(directory, name), PASSPHRASE)
        keys = {KeyPurpose(purpose): secret.signing_key() for purpose, secret in secrets.items()}
        actors[name] = Actor(name, b"" if name in INVESTORS else genesis_account_id(name), keys)
    return actors


def _path(directory: Path, name: str) -> Path:
    return directory / KEYS_DIRECTORY / f"{name}.json"
