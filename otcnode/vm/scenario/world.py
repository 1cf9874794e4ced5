"""A ledger on a dictionary, its past, and the names that a story gives to accounts, keys and created things."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Any

from otcnode.codec import Record
from otcnode.crypto import SigningKey, tagged_hash
from otcnode.genesis import (
    CashAsset,
    ChainParameters,
    Clock,
    Genesis,
    GenesisAccount,
    GenesisKey,
    GenesisValidator,
    KeyPurpose,
    Role,
    chain_id,
    check_document,
    genesis_account_id,
)
from otcnode.vm.accounts.records import (
    ACCOUNTS,
    CASH_ASSETS,
    ENTRUSTMENTS,
    FREEZES,
    KEYS,
    RECOVERIES,
    WITHDRAWALS,
    Account,
)
from otcnode.vm.contracts.records import CONTRACTS
from otcnode.vm.folding import Fold
from otcnode.vm.genesis_state import genesis_writes
from otcnode.vm.governance.records import PROPOSALS
from otcnode.vm.keys import Table
from otcnode.vm.products.records import PRODUCT_TERMS, PRODUCTS, REDEMPTIONS, SUBSCRIPTIONS
from otcnode.vm.scenario.document import Desk, GenesisPart, Keyring
from otcnode.vm.scenario.malformed import ScenarioError
from otcnode.vm.scenario.values import Scale, Unit, block_time, decimal
from otcnode.vm.state import State
from otcnode.vm.trades.records import OFFERS, QUOTES, RFQS, TRADES
from otcnode.vm.view import StateView

KEY_DOMAIN = "otcnode/scenario-key/1"
VALIDATOR = "validator"
DESKS: dict[str, Role] = {
    "ISSUER": Role.ISSUER,
    "LISTING": Role.LISTING,
    "KYC": Role.KYC,
    "CALLBACK": Role.CALLBACK,
    "FREEZER": Role.FREEZER,
    "RECOVERY": Role.RECOVERY,
    "REGULATOR": Role.REGULATOR,
}
"""Accounts of every story's genesis, beside the custodians of its cash."""
ITEM_TABLES: tuple[Table[Any], ...] = (
    PRODUCTS,
    CONTRACTS,
    SUBSCRIPTIONS,
    TRADES,
    OFFERS,
    RFQS,
    QUOTES,
    REDEMPTIONS,
    WITHDRAWALS,
    FREEZES,
    ENTRUSTMENTS,
    RECOVERIES,
    PROPOSALS,
)
"""Where what an operation creates is found by its id."""


class MemoryView:
    """A state in memory that never changes; the next one is made by `after`."""

    def __init__(self, values: dict[bytes, bytes]) -> None:
        self._values = values
        self._keys = sorted(values)

    def get(self, key: bytes) -> bytes | None:
        return self._values.get(key)

    def scan(
        self, prefix: bytes, after: bytes | None = None, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        start = bisect_left(self._keys, prefix)
        if after is not None:
            start = max(start, bisect_right(self._keys, after))
        for count, key in enumerate(self._keys[start:]):
            if not key.startswith(prefix) or (limit is not None and count >= limit):
                return
            yield key, self._values[key]

    def after(self, writes: dict[bytes, bytes | None]) -> MemoryView:
        """The state that the writes make of this one, which stays as it is."""
        merged: dict[bytes, bytes | None] = {**self._values, **writes}
        return MemoryView({key: value for key, value in merged.items() if value is not None})


class Names:
    """What a story calls things. Accounts and created things have names of their own each; keys are OWNER/LABEL."""

    def __init__(self) -> None:
        self.accounts: dict[str, bytes] = {}
        self.items: dict[str, bytes] = {}
        self.keys: dict[bytes, tuple[str, str, SigningKey]] = {}
        """Public key to (owner, label, key), in the order they were first named."""
        self.heights: dict[str, int] = {}
        """Step to the height of its block."""

    def key(self, owner: str, label: str) -> SigningKey:
        """The key of that name; it follows from the name alone."""
        key = SigningKey(tagged_hash(KEY_DOMAIN, f"{owner}/{label}".encode()))
        self.keys.setdefault(key.public, (owner, label, key))
        return key

    def account(self, name: str) -> bytes:
        """Raises ScenarioError."""
        if name not in self.accounts:
            raise ScenarioError(f"there is no account {name!r} (yet); accounts: {', '.join(sorted(self.accounts))}")
        return self.accounts[name]

    def item(self, name: str) -> bytes:
        """Raises ScenarioError."""
        if name not in self.items:
            raise ScenarioError(f"nothing was named {name!r} (yet); names: {', '.join(sorted(self.items)) or 'none'}")
        return self.items[name]

    def show(self, value: bytes) -> str:
        """What the story calls an id or a key, or its first digits."""
        for names, mark in ((self.accounts, ""), (self.items, "$")):
            for name, known in names.items():
                if known == value:
                    return mark + name
        if value in self.keys:
            return "key:" + "/".join(self.keys[value][:2])
        return value.hex()[:16] + "…"


class World:
    """The state after the last block, its past by step, and the names."""

    def __init__(self, start: str, part: GenesisPart) -> None:
        self.names = Names()
        self.now = block_time(start, 0)
        self.start = start
        self.genesis = self._make_genesis(part)
        self.chain = chain_id(self.genesis)
        self.view = MemoryView(genesis_writes(self.genesis))
        self.height = 0
        self.past: dict[str, MemoryView] = {}
        """Step to the state after it."""
        self.fold = Fold()
        self.submissions = 0

    def _make_genesis(self, part: GenesisPart) -> Genesis:
        desks = {name: Desk(roles=(role,)) for name, role in DESKS.items()}
        cash = [self._cash(entry) for entry in part.cash]
        desks |= {asset.custodian: Desk(roles=(Role.CUSTODIAN,)) for asset in cash}
        genesis = Genesis(
            network="scenario",
            clock=Clock(origin_ms=self.now),
            time_ms=self.now,
            parameters=self._parameters(part.parameters),
            validators=(
                GenesisValidator(name=VALIDATOR, id=self.names.key(VALIDATOR, "node").public, organisation=VALIDATOR),
            ),
            accounts=tuple([self._account(name, desk) for name, desk in {**desks, **part.accounts}.items()]),
            cash=tuple(cash),
        )
        check_document(genesis)
        return genesis

    @staticmethod
    def _parameters(changes: dict[str, int]) -> ChainParameters:
        for name in changes:
            if name not in ChainParameters.__struct_fields__:
                raise ScenarioError(f"unknown parameter {name!r}", field="genesis.parameters")
        return ChainParameters(**changes)

    @staticmethod
    def _cash(entry: Any) -> CashAsset:
        if isinstance(entry, str):
            return CashAsset(id=entry, custodian=entry.partition("@")[2])
        asset = CashAsset(id=entry.id, custodian=entry.id.partition("@")[2], decimals=entry.decimals)
        if entry.daily_deposit_limit is None:
            return asset
        limit = decimal(entry.daily_deposit_limit, entry.decimals, Unit.MONEY)
        return CashAsset(id=asset.id, custodian=asset.custodian, decimals=asset.decimals, daily_deposit_limit=limit)

    def _account(self, name: str, desk: Desk) -> GenesisAccount:
        self.names.accounts[name] = genesis_account_id(name)
        keys = tuple([GenesisKey(purpose=purpose, key=key) for purpose, key in self.keyring(name, desk)])
        return GenesisAccount(
            name=name,
            organisation=desk.organisation or name,
            roles=desk.roles,
            keys=keys,
            thresholds=dict(desk.thresholds),
        )

    def keyring(self, owner: str, ring: Keyring) -> list[tuple[KeyPurpose, bytes]]:
        """The account's first keys; a purpose that the ring does not name gets a key called after it."""
        labels = dict(ring.keys)
        for purpose in KeyPurpose:
            if purpose not in labels.values():
                labels[purpose.value.lower()] = purpose
        return [(purpose, self.names.key(owner, label).public) for label, purpose in labels.items()]

    def view_at(self, as_of: object) -> MemoryView:
        """The state now, or after an earlier step. Raises ScenarioError."""
        if as_of == "":
            return self.view
        if not isinstance(as_of, str) or as_of not in self.past:
            raise ScenarioError(f"no step {as_of!r} was played before this one")
        return self.past[as_of]

    def desk(self, role: Role) -> str:
        """The first account of the genesis with a role. Raises ScenarioError."""
        for account in self.genesis.accounts:
            if role in account.roles:
                return account.name
        raise ScenarioError(f"no account of the genesis has the role {role.value}")


class Reading:
    """What a step sees when it writes names and numbers: the state just before its operation."""

    def __init__(self, names: Names, view: StateView, now_ms: int, cash: str) -> None:
        self.names = names
        self.state = State(view)
        self.now_ms = now_ms
        self.cash = cash
        """The first cash id, whose decimals money has where nothing else says so."""

    def identifier(self, text: object) -> bytes:
        """$NAME, key:OWNER/LABEL, hash:TEXT, hex:DIGITS or the name of an account. Raises ScenarioError."""
        if not isinstance(text, str):
            raise ScenarioError(f"expected $NAME, an account's name, key:…, hash:… or hex:…, not {text!r}")
        if text.startswith("$"):
            return self.names.item(text[1:])
        kind, separator, rest = text.partition(":")
        if not separator:
            return self.names.account(text)
        match kind:
            case "hash":
                return tagged_hash("otcnode/scenario-hash/1", rest.encode())
            case "key":
                owner, _, label = rest.partition("/")
                if not owner or not label:
                    raise ScenarioError(f"a key is named key:ACCOUNT/LABEL, not {text!r}")
                return self.names.key(owner, label).public
            case "hex":
                try:
                    return bytes.fromhex(rest)
                except ValueError:
                    raise ScenarioError(f"{text!r} is not hexadecimal") from None
        raise ScenarioError(f"{text!r} is none of $NAME, ACCOUNT, key:ACCOUNT/LABEL, hash:TEXT and hex:DIGITS")

    def asset(self, text: object) -> bytes:
        """A cash id or a product. Raises ScenarioError."""
        if isinstance(text, str) and self.state.get(CASH_ASSETS, text.encode()) is not None:
            return text.encode()
        return self.identifier(text)

    def account(self, name: str) -> Account:
        """Raises ScenarioError."""
        record = self.state.get(ACCOUNTS, self.names.account(name))
        if record is None:
            raise ScenarioError(f"the account {name!r} is gone")
        return record

    def live_keys(self, owner: str, purpose: KeyPurpose) -> list[tuple[str, SigningKey]]:
        """Those that the account has now and whose names the story knows, as (label, key), in the order named."""
        account = self.names.account(owner)
        found = []
        for public, (_, label, key) in self.names.keys.items():
            record = self.state.get(KEYS, account + public)
            if record is not None and record.purpose is purpose and record.revoked_at is None:
                found.append((label, key))
        return found

    def record(self, item: bytes) -> Record | None:
        """What has this id, in whichever table."""
        for table in ITEM_TABLES:
            found: Record | None = self.state.get(table, item)
            if found is not None:
                return found
        return None

    def scale_of(self, asset: bytes) -> Scale:
        """How money and quantities are written about a cash id, a product, or an item that is about one."""
        cash, quantity_decimals, is_product = self.cash, 0, False
        product = self._product_of(asset)
        if product is not None and (terms := self.state.get(PRODUCT_TERMS, product)) is not None:
            cash, quantity_decimals, is_product = terms.cash, terms.quantity_decimals, product == asset
        elif self.state.get(CASH_ASSETS, asset) is not None:
            cash = asset.decode()
        elif isinstance(stated := getattr(self.record(asset), "cash", None), str):
            cash = stated
        return Scale(self.decimals(cash), quantity_decimals, is_product, self.now_ms)

    def decimals(self, cash: str) -> int:
        """Of a cash id; of an unknown one 2."""
        asset = self.state.get(CASH_ASSETS, cash.encode())
        return 2 if asset is None else asset.decimals

    def _product_of(self, item: bytes) -> bytes | None:
        if self.state.get(PRODUCTS, item) is not None:
            return item
        record = self.record(item)
        for name in ("product", "subject", "rfq"):
            about = getattr(record, name, None)
            if isinstance(about, bytes):
                return self._product_of(about)
        return None
