"""The genesis document: everything a network's first state follows from, and whose hash is the network's name.

The file is JSON with keys and hashes in base64; its identity is the hash of the canonical MessagePack of the same
values, so spaces and the order of keys in the file do not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import msgspec

from otcnode import limits
from otcnode.blocks import ConsensusParameters, Epoch
from otcnode.codec import encode
from otcnode.crypto import tagged_hash
from otcnode.errors import ConfigurationError
from otcnode.types import AccountId, BlockHash, Bytes32, ChainId, Milliseconds, Natural, NodeId, PublicKey

GENESIS_DOMAIN = "otcnode/genesis/1"
GENESIS_ACCOUNT_DOMAIN = "otcnode/genesis-account/1"
GENESIS_BLOCK_DOMAIN = "otcnode/genesis-block/1"
GENESIS_VERSION = 1
PPM = 1_000_000
CASH_DECIMALS_MAX = 18
"""An amount has at most 19 digits."""
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """JSON objects in the file; the canonical bytes are a map of all fields, in the order of the class."""


class Clock(_Document, frozen=True, kw_only=True):
    """Block time. `rate` 1 is a production network; above 1 the network is a rehearsal whose ledger time runs
    `rate` times as fast as UTC from `origin_ms` (UTC) on, so that a product's year can be played in minutes."""

    origin_ms: Milliseconds
    rate: Natural = 1

    def ledger_ms(self, utc_ms: int) -> int:
        """Ledger time for a UTC instant; before the origin a rehearsal clock stands still."""
        if self.rate == 1:
            return utc_ms
        return self.origin_ms + max(0, utc_ms - self.origin_ms) * self.rate

    def real_ms(self, ledger_ms: int) -> int:
        """Real milliseconds for a span of ledger time, rounded up."""
        return -(-ledger_ms // self.rate)


class ChainParameters(_Document, frozen=True, kw_only=True):
    """What every node of a chain must agree on. Times are ledger milliseconds unless the name says real."""

    # consensus
    window: Natural = 4
    drift_real_ms: Natural = 5_000
    heartbeat_real_ms: Natural = 10_000
    rotation_blocks: Natural = 1_000
    inclusion_timeout_real_ms: Natural = 4_000
    block_transactions_max: Natural = 2_000
    block_bytes_max: Natural = 4 << 20
    # ledger
    max_transaction_ttl_ms: Natural = 600_000
    state_buckets: Natural = 65_536
    due_class1_weight_max: Natural = 2_000
    due_weight_max: Natural = 20_000
    open_items_per_account_max: Natural = 10_000
    pending_accounts_max: Natural = 10_000
    settle_horizon_ms: Natural = 366 * 86_400_000
    attest_window_blocks: Natural = 10_000
    governance_approvals: Natural = 2
    suspension_validators_min: Natural = 0
    """A validator proven to have misbehaved leaves the set if at least so many are left; 0: it is told, and stays."""

    @property
    def consensus(self) -> ConsensusParameters:
        """Those that are an epoch's."""
        return ConsensusParameters(*[getattr(self, name) for name in ConsensusParameters.__struct_fields__])


PARAMETER_BOUNDS: Mapping[str, tuple[int, int]] = {
    # at least twice the shortest view timeout, so that a re-proposed block is not refused for its age
    "drift_real_ms": (4_000, 60_000),
    "heartbeat_real_ms": (500, 600_000),
    "window": (1, limits.window_max),
    "rotation_blocks": (10, 10_000_000),
    "inclusion_timeout_real_ms": (1_000, 60_000),
    "block_transactions_max": (1, limits.block_transactions_max),
    # any admissible transaction fits a block, and a block fits a message
    "block_bytes_max": (limits.transaction_bytes_max, limits.message_bytes_max * 3 // 4),
    "max_transaction_ttl_ms": (10_000, _DAY_MS),
    "due_class1_weight_max": (100, 1_000_000),
    "due_weight_max": (100, 1_000_000),
    "open_items_per_account_max": (100, 1_000_000),
    "pending_accounts_max": (100, 10_000_000),
    "settle_horizon_ms": (_HOUR_MS, 3_660 * _DAY_MS),
    "attest_window_blocks": (10, 10_000_000),
    # one organisation alone never decides
    "governance_approvals": (2, 100),
    # 0: nobody is suspended
    "suspension_validators_min": (0, 100),
}
"""Name to the least and greatest value, so that neither a genesis nor governance can stop or drown the chain.
`state_buckets` shapes the state's tree and never changes."""


def window_fault(parameters: ChainParameters) -> str | None:
    """What is wrong with two parameters that are within their bounds and too much together."""
    most = limits.window_transactions_max
    if parameters.window * parameters.block_transactions_max <= most:
        return None
    return (
        f"window times block_transactions_max must be at most {most}, "
        f"not {parameters.window} times {parameters.block_transactions_max}"
    )


class GenesisValidator(_Document, frozen=True, kw_only=True):
    """`address` is host:port for peers; it may be empty and configured or announced later."""

    name: str
    id: NodeId
    organisation: str
    address: str = ""


class GenesisNode(_Document, frozen=True, kw_only=True):
    """An admitted full node: follows, serves the API, does not vote."""

    name: str
    id: NodeId
    organisation: str
    address: str = ""


class KeyPurpose(StrEnum):
    """What a key may do: MANAGE account, key, entrust and governance operations; SIGN contracts; TRADE all else."""

    MANAGE = "MANAGE"
    TRADE = "TRADE"
    SIGN = "SIGN"


class Role(StrEnum):
    INVESTOR = "INVESTOR"
    ISSUER = "ISSUER"
    DEALER = "DEALER"
    CUSTODIAN = "CUSTODIAN"
    LISTING = "OPERATOR.LISTING"
    KYC = "OPERATOR.KYC"
    CALLBACK = "OPERATOR.CALLBACK"
    FREEZER = "OPERATOR.FREEZER"
    RECOVERY = "OPERATOR.RECOVERY"
    REGULATOR = "REGULATOR"
    AUDITOR = "AUDITOR"


class GenesisKey(_Document, frozen=True, kw_only=True):
    purpose: KeyPurpose
    key: PublicKey


class GenesisAccount(_Document, frozen=True, kw_only=True):
    """An account that exists from the first block, with its roles and first keys. Its id follows from its name."""

    name: str
    organisation: str
    roles: tuple[Role, ...]
    keys: tuple[GenesisKey, ...]
    thresholds: dict[KeyPurpose, Natural] = {}
    """Distinct keys needed per purpose; 1 where absent."""
    encryption_key: Bytes32 | None = None


class CashAsset(_Document, frozen=True, kw_only=True):
    """Cash named by currency and custodian, for example CNY@BANK; only that custodian creates or destroys it."""

    id: str
    custodian: str
    """The name of the custodian's genesis account."""
    decimals: Natural = 2
    daily_deposit_limit: Natural = 2**63 - 1


class Genesis(_Document, frozen=True, kw_only=True):
    version: Natural = GENESIS_VERSION
    network: str
    clock: Clock
    time_ms: Milliseconds
    parameters: ChainParameters = ChainParameters()
    validators: tuple[GenesisValidator, ...]
    nodes: tuple[GenesisNode, ...] = ()
    accounts: tuple[GenesisAccount, ...]
    cash: tuple[CashAsset, ...]

    @property
    def rehearsal(self) -> bool:
        return self.clock.rate != 1


def chain_id(genesis: Genesis) -> ChainId:
    """SHA-256(domain ‖ canonical genesis document): the network's name, bound into every signature."""
    return tagged_hash(GENESIS_DOMAIN, encode(genesis))


def genesis_block_hash(chain: bytes, state_root: bytes) -> BlockHash:
    """The parent of block 1: block 0 is the genesis itself and its state; it has no header and no certificate."""
    return tagged_hash(GENESIS_BLOCK_DOMAIN, chain + state_root)


def genesis_account_id(name: str) -> AccountId:
    return tagged_hash(GENESIS_ACCOUNT_DOMAIN, name.encode())


def first_epoch(genesis: Genesis) -> Epoch:
    validators = tuple(sorted(validator.id for validator in genesis.validators))
    return Epoch(1, validators, genesis.parameters.consensus)


def admitted(genesis: Genesis) -> frozenset[bytes]:
    """The node identities that may connect at the start."""
    return frozenset([*(v.id for v in genesis.validators), *(n.id for n in genesis.nodes)])


def load(path: Path) -> Genesis:
    """Read and check a genesis file. Raises ConfigurationError with one readable line."""
    try:
        genesis = msgspec.json.decode(path.read_bytes(), type=Genesis)
    except OSError as error:
        raise ConfigurationError(f"cannot read the genesis file {path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not a genesis file: {error}") from None
    check(genesis)
    return genesis


def dump(genesis: Genesis) -> bytes:
    return msgspec.json.format(msgspec.json.encode(genesis), indent=2) + b"\n"


def check(genesis: Genesis) -> None:
    """Raise ConfigurationError unless a network can start from this document, and go on."""
    check_document(genesis)
    for name, (least, greatest) in PARAMETER_BOUNDS.items():
        value = getattr(genesis.parameters, name)
        if name == "max_transaction_ttl_ms":
            # A rehearsal's clients sign in the time of people, of which the ledger's runs `rate` times as much.
            greatest *= genesis.clock.rate
        if not least <= value <= greatest:
            raise ConfigurationError(f"parameters.{name} must be {least} to {greatest}, not {value}")
    fault = window_fault(genesis.parameters)
    if fault is not None:
        raise ConfigurationError(f"parameters: {fault}")
    for cash in genesis.cash:
        if cash.decimals > CASH_DECIMALS_MAX:
            raise ConfigurationError(f"cash {cash.id}: decimals must be 0 to {CASH_DECIMALS_MAX}, not {cash.decimals}")
    for account in genesis.accounts:
        for purpose, threshold in account.thresholds.items():
            keys = sum(key.purpose is purpose for key in account.keys)
            if not 0 < threshold <= max(keys, 1):
                raise ConfigurationError(
                    f"account {account.name!r}: thresholds.{purpose} is {threshold}, and it has {keys} such keys"
                )


def check_document(genesis: Genesis) -> None:
    """Raise ConfigurationError where the document contradicts itself; a ledger alone runs with any other parameters."""
    if genesis.version != GENESIS_VERSION:
        raise ConfigurationError(f"genesis version {genesis.version}: this node knows version {GENESIS_VERSION}")
    if not genesis.validators:
        raise ConfigurationError("the genesis names no validator")
    if len(genesis.validators) > limits.validators_max:
        most = limits.validators_max
        raise ConfigurationError(f"the genesis names {len(genesis.validators)} validators, at most {most} can be")
    for what, names in (
        ("validator or node id", [*(v.id for v in genesis.validators), *(n.id for n in genesis.nodes)]),
        ("validator or node name", [*(v.name for v in genesis.validators), *(n.name for n in genesis.nodes)]),
        ("account name", [a.name for a in genesis.accounts]),
        ("cash id", [c.id for c in genesis.cash]),
        ("account key", [k.key for a in genesis.accounts for k in a.keys]),
    ):
        if len(names) != len(set(names)):
            raise ConfigurationError(f"the genesis names the same {what} twice")
    custodians = {account.name for account in genesis.accounts if Role.CUSTODIAN in account.roles}
    for cash in genesis.cash:
        if cash.custodian not in custodians:
            raise ConfigurationError(f"cash {cash.id}: {cash.custodian!r} is not an account with role CUSTODIAN")
        if not cash.id.isascii() or not 1 <= len(cash.id) <= 31:
            raise ConfigurationError(f"cash {cash.id!r}: an id is 1 to 31 ASCII characters")
    buckets = genesis.parameters.state_buckets
    if not 16 <= buckets <= limits.state_buckets_max or buckets & (buckets - 1) or (buckets.bit_length() - 1) % 4:
        most = limits.state_buckets_max
        raise ConfigurationError(f"parameters.state_buckets must be a power of 16 from 16 to {most}, not {buckets}")
    if genesis.clock.rate < 1:
        raise ConfigurationError("clock.rate must be at least 1")
