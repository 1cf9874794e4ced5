"""A large ledger to measure on: bulk written as records, everything that is measured done by operations.

Times are ledger milliseconds. Transactions carry no valid signature: the processor is handed only envelopes that were
verified before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from otcnode.bench.investor import investor
from otcnode.blocks import transaction_full_hash
from otcnode.codec import encode
from otcnode.crypto import SigningKey, sha256, tagged_hash
from otcnode.errors import Code
from otcnode.genesis import (
    CashAsset,
    Clock,
    Genesis,
    GenesisAccount,
    GenesisKey,
    GenesisValidator,
    KeyPurpose,
    Role,
    chain_id,
    genesis_account_id,
)
from otcnode.storage.kv import MemoryKeyValue, Write
from otcnode.storage.schema import Table as Place
from otcnode.storage.state_view import CommittedState
from otcnode.vm.accounts.keyring import LIVE_KEYS
from otcnode.vm.accounts.records import (
    ACCOUNTS,
    CASH_ASSETS,
    CASH_BALANCES,
    KEYS,
    CashBalance,
    Category,
    Certificate,
    Key,
)
from otcnode.vm.arithmetic import DayCount, local_date
from otcnode.vm.context import ITEM_DOMAIN
from otcnode.vm.contracts.operations import ContractConfirm, ContractCreate, ContractSign, ContractSubmit, NewSlot
from otcnode.vm.contracts.preimages import contract_signature_preimage, terms_hash
from otcnode.vm.contracts.records import (
    ACCESSIONS,
    CONTRACTS,
    CONTRACTS_BY_PARTY,
    ContractKind,
    Immediately,
    SlotRole,
    Term,
)
from otcnode.vm.executor import BlockExecution, environment_at
from otcnode.vm.genesis_state import genesis_writes
from otcnode.vm.keys import MARKER, Table
from otcnode.vm.operations import Operation
from otcnode.vm.products.operations import ProductCreate, ProductReview, ProductSubmit, Verdict
from otcnode.vm.products.records import CoolingOffRule, ProductTerms, ProductType, RedemptionRule
from otcnode.vm.results import BlockResult
from otcnode.vm.state import State
from otcnode.vm.transactions import Body, Decoded, KeySignature, Transaction, transaction_id

START_MS = 1_800_000_000_000
DAY_MS = 86_400_000
LIFE_MS = 60_000
"""How long a transaction is valid."""
CASH = "CNY@BANK"
DESKS = {
    "BANK": Role.CUSTODIAN,
    "ISSUER": Role.ISSUER,
    "KYC": Role.KYC,
    "LISTING": Role.LISTING,
    "REGULATOR": Role.REGULATOR,
}
INVESTORS_AT_ONCE = 100_000
CASH_EACH = 10**9
"""Minor units that every investor starts with; the issuer has enough to repay everything."""
UNITS_EACH = 100
"""Units that every subscriber asks for and gets."""
PRICE = 101_2345
UTC_OFFSET_MINUTES = 480
TEXT = (Term("purpose", "loan"),)
EVIDENCE = sha256(b"evidence")

Sender = str | int
"""A desk, or the number of an investor."""


def key_of(sender: Sender, purpose: KeyPurpose) -> SigningKey:
    return SigningKey(sha256(f"{sender}/{purpose.value}".encode()))


class Market:
    """`accounts` investors, each ACTIVE, certified and with cash; the first `signers` of them can sign contracts.

    The state is read as a node reads it, through CommittedState, over a dictionary in memory instead of a disk.
    """

    def __init__(self, accounts: int, signers: int, say: Callable[[str], None] = lambda text: None) -> None:
        genesis = _genesis()
        self.chain = chain_id(genesis)
        self.height = 0
        self.now = START_MS
        self._kv = MemoryKeyValue()
        self.view = CommittedState(self._kv)
        self._salt = 0
        self._desks = {name: genesis_account_id(name) for name in DESKS}
        self._investors = [sha256(b"investor" + number.to_bytes(8, "big")) for number in range(accounts)]
        self._write(genesis_writes(genesis))
        for first in range(0, accounts, INVESTORS_AT_ONCE):
            if first:
                say(f"{first} of {accounts} accounts")
            self._add_investors(range(first, min(accounts, first + INVESTORS_AT_ONCE)), signers)
        self._write(self._money_writes())

    def _write(self, writes: dict[bytes, bytes | None] | dict[bytes, bytes]) -> None:
        batch: list[Write] = [(Place.STATE.value + key, value) for key, value in writes.items()]
        self._kv.write(batch)
        self.view.update(writes)

    def put(self, records: Sequence[tuple[Table[Any], bytes, Any]]) -> None:
        """Write records without operations."""
        self._write({table.prefix + suffix: encode(record) for table, suffix, record in records})

    def _add_investors(self, numbers: range, signers: int) -> None:
        """Into the store alone: what nobody has read is in no cache."""
        certificate = Certificate(5, Category.PROFESSIONAL, START_MS + 2 * 365 * DAY_MS, EVIDENCE)
        account = encode(investor(START_MS, EVIDENCE, certificate))
        keys = {purpose: encode(Key(purpose, START_MS, None)) for purpose in KeyPurpose}
        cash, marker = encode(CashBalance(CASH_EACH, 0, 0, None)), encode(MARKER)
        state, batch = Place.STATE.value, list[Write]()
        for number in numbers:
            name = self._investors[number]
            batch.append((state + ACCOUNTS.prefix + name, account))
            batch.append((state + CASH_BALANCES.prefix + name + CASH.encode(), cash))
            for purpose in KeyPurpose if number < signers else (KeyPurpose.TRADE,):
                public = self.public(number, purpose)
                batch.append((state + KEYS.prefix + name + public, keys[purpose]))
                batch.append((state + LIVE_KEYS.prefix + name + public, marker))
        self._kv.write(batch)

    def _money_writes(self) -> dict[bytes, bytes]:
        """The issuer's cash, and what all cash adds up to."""
        writes = {}
        issuer = CASH_EACH * len(self._investors)
        writes[CASH_BALANCES.prefix + self._desks["ISSUER"] + CASH.encode()] = encode(CashBalance(issuer, 0, 0, None))
        asset = State(self.view).get(CASH_ASSETS, CASH.encode())
        assert asset is not None
        total = 2 * issuer
        writes[CASH_ASSETS.prefix + CASH.encode()] = encode(replace(asset, total=total, deposited=total))
        return writes

    def public(self, sender: Sender, purpose: KeyPurpose) -> bytes:
        """A real key only where the processor itself verifies: SIGN keys. Any other 32 bytes do as well."""
        if purpose is KeyPurpose.SIGN or isinstance(sender, str):
            return key_of(sender, purpose).public
        return sha256(purpose.value.encode() + self._investors[sender])

    def id_of(self, sender: Sender) -> bytes:
        return self._desks[sender] if isinstance(sender, str) else self._investors[sender]

    # transactions and blocks

    def transaction(
        self,
        by: Sender | None,
        *operations: Operation,
        purpose: KeyPurpose = KeyPurpose.TRADE,
        key: bytes | None = None,
        on_behalf_of: Sender | None = None,
        entrustment: bytes | None = None,
    ) -> Decoded:
        """For a block LIFE_MS or less after now; `by` None is an applicant, who signs with `key`."""
        self._salt += 1
        body = Body(
            version=1,
            chain=self.chain,
            sender=b"" if by is None else self.id_of(by),
            salt=sha256(self._salt.to_bytes(8, "big")),
            valid_until=self.now + LIFE_MS,
            on_behalf_of=None if on_behalf_of is None else self.id_of(on_behalf_of),
            entrustment=entrustment,
            operations=operations,
        )
        if key is None:
            assert by is not None
            key = self.public(by, purpose)
        transaction = Transaction(body, (KeySignature(key, bytes(64)),))
        raw = encode(transaction)
        return Decoded(transaction, raw, transaction_id(body), transaction_full_hash(raw))

    def begin(self, at: int | None = None) -> BlockExecution:
        """The next block, 1 ms after the last or `at` a time; nothing has run in it yet."""
        at = self.now + 1 if at is None else at
        return BlockExecution(self.view, environment_at(self.view, self.chain, self.height + 1, at))

    def commit(self, result: BlockResult, at: int | None = None) -> BlockResult:
        """Make the block the last one. Everything in it must have gone well."""
        for explanation, entry in zip(result.explanations, result.receipts, strict=True):
            assert entry.code is Code.OK, f"{entry.code}: {explanation}"
        assert all(entry.code is Code.OK for entry in result.automatic), result.automatic
        self._write(result.writes)
        self.height += 1
        self.now = self.now + 1 if at is None else at
        return result

    def block(self, transactions: Sequence[Decoded] = (), at: int | None = None) -> BlockResult:
        execution = self.begin(at)
        execution.run_due()
        for transaction in transactions:
            execution.apply(transaction)
        return self.commit(execution.finish(), at)

    def do(self, by: Sender, operation: Operation, purpose: KeyPurpose = KeyPurpose.TRADE) -> bytes:
        """One operation in a block of its own; the id of what it created."""
        transaction = self.transaction(by, operation, purpose=purpose)
        self.block([transaction])
        return created(transaction)

    # contracts

    def draft(
        self, kind: ContractKind, first: Sender, second: Sender, subject: bytes | None = None, *, joinable: bool = False
    ) -> ContractCreate:
        return ContractCreate(
            kind=kind,
            open=joinable,
            subject=subject,
            document=EVIDENCE,
            terms=TEXT,
            terms_hash=terms_hash(TEXT),
            slots=tuple([NewSlot(self.id_of(party), SlotRole.SIGNER, 0, 1) for party in (first, second)]),
            salesperson=None,
            confirm_by=self.now + DAY_MS,
            sign_by=self.now + 2 * DAY_MS,
            effective=Immediately(),
            required_fields=(),
            supersedes=None,
        )

    def preimage(self, contract: bytes, slot: int, party: Sender) -> bytes:
        """What the party signs."""
        return contract_signature_preimage(
            chain=self.chain,
            contract=contract,
            version=1,
            terms_hash=terms_hash(TEXT),
            document=EVIDENCE,
            slot=slot,
            principal=self.id_of(party),
        )

    def signature(self, contract: bytes, slot: int, party: Sender) -> ContractSign:
        key = key_of(party, KeyPurpose.SIGN)
        return ContractSign(contract, slot, 1, key.public, key.sign(self.preimage(contract, slot, party)))

    def conclude(
        self, kind: ContractKind, first: Sender, second: Sender, subject: bytes | None = None, *, joinable: bool = False
    ) -> bytes:
        """Drafted by the first, confirmed and signed by both, effective at once."""
        sign = KeyPurpose.SIGN
        name = self.do(first, self.draft(kind, first, second, subject, joinable=joinable), sign)
        self.do(first, ContractSubmit(name), sign)
        for slot, party in enumerate((first, second)):
            self.do(party, ContractConfirm(name, slot, 1, terms_hash(TEXT)), sign)
        for slot, party in enumerate((first, second)):
            self.do(party, self.signature(name, slot, party), sign)
        return name

    def join(self, contract: bytes, investors: range) -> None:
        """Write accessions."""
        names = [self.id_of(number) for number in investors]
        self.put([(ACCESSIONS, contract + name, MARKER) for name in names])
        self.put([(CONTRACTS_BY_PARTY, name + contract, MARKER) for name in names])

    def subscription_contracts(self, product: bytes, subscribers: range) -> list[bytes]:
        """Write one for every subscriber, as the one that the first concludes by operations."""
        sample = State(self.view).get(
            CONTRACTS, self.conclude(ContractKind.SUBSCRIPTION, "ISSUER", subscribers[0], product)
        )
        assert sample is not None
        names = []
        records: list[tuple[Table[Any], bytes, Any]] = []
        for number in subscribers:
            account = self.id_of(number)
            name = sha256(product + account)
            own = replace(sample.slots[1], account=account, confirmed_by=account)
            records.append((CONTRACTS, name, replace(sample, root=name, slots=(sample.slots[0], own))))
            records += [(CONTRACTS_BY_PARTY, party + name, MARKER) for party in (account, sample.creator)]
            names.append(name)
        self.put(records)
        return names

    # products

    def product(self, subscribers: int) -> tuple[bytes, ProductTerms]:
        """A note that is OPEN for exactly what the subscribers will ask for, pays a coupon after 91 days and matures
        after 182."""
        issuance = self.conclude(ContractKind.ISSUANCE, "ISSUER", "BANK")
        today = local_date(self.now, UTC_OFFSET_MINUTES)
        terms = ProductTerms(
            type=ProductType.FIXED_NOTE,
            cash=CASH,
            quantity_decimals=0,
            utc_offset_minutes=UTC_OFFSET_MINUTES,
            face=100_00,
            issue_price=100_0000,
            offered=UNITS_EACH * subscribers,
            min_raise=1,
            min_subscription=1,
            step=1,
            max_holders=4 * subscribers,
            risk=3,
            categories=(Category.QUALIFIED,),
            open=self.now + DAY_MS,
            close=self.now + 2 * DAY_MS,
            value_date=today + 4,
            maturity=today + 186,
            rate_ppm=50_000,
            day_count=DayCount.ACT_365F,
            pay_dates=(today + 95, today + 186),
            lockup_days=0,
            turnaround_days=0,
            subscription_fee_ppm=1_000,
            trade_fee_ppm=2_000,
            fee_payee=self.id_of("BANK"),
            min_allotment=0,
            cooling_off=CoolingOffRule(0, False),
            redemption=RedemptionRule(True, 10_000, 0),
            grace_days=3,
            documents=(),
            contract=issuance,
        )
        name = self.do("ISSUER", ProductCreate("NOTE", terms, None))
        self.do("ISSUER", ProductSubmit(name))
        self.do("LISTING", ProductReview(name, Verdict.APPROVE, ""))
        self.block(at=terms.open)
        return name, terms


def created(transaction: Decoded) -> bytes:
    """The id of what the transaction's only operation creates."""
    return tagged_hash(ITEM_DOMAIN, transaction.id + bytes(4))


def _genesis() -> Genesis:
    accounts = tuple(
        GenesisAccount(
            name=name,
            organisation=name,
            roles=(role,),
            keys=tuple([GenesisKey(purpose=purpose, key=key_of(name, purpose).public) for purpose in KeyPurpose]),
        )
        for name, role in DESKS.items()
    )
    return Genesis(
        network="benchmark",
        clock=Clock(origin_ms=START_MS),
        time_ms=START_MS,
        validators=(GenesisValidator(name="V", id=key_of("V", KeyPurpose.SIGN).public, organisation="V"),),
        accounts=accounts,
        cash=(CashAsset(id=CASH, custodian="BANK"),),
    )
