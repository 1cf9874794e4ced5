"""A ledger on a dictionary, driven block by block, with accounts whose keys follow from their names."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from otcnode.crypto import SigningKey, sha256
from otcnode.errors import Code
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
    genesis_account_id,
)
from otcnode.vm.accounts.events import AccountApplied
from otcnode.vm.accounts.operations import (
    AccountApply,
    AccountReview,
    CashDeposit,
    InvestorCertify,
    NewKey,
)
from otcnode.vm.accounts.records import CASH_BALANCES, AccountKind, CashBalance, Category, Thresholds
from otcnode.vm.executor import BlockExecution, environment_at
from otcnode.vm.folding import Fold, state_figures
from otcnode.vm.genesis_state import genesis_writes
from otcnode.vm.invariants import check_state
from otcnode.vm.operations import Operation
from otcnode.vm.results import BlockResult, Receipt
from otcnode.vm.state import State
from otcnode.vm.transactions import Body, Decoded, sign_transaction

START_MS = 1_800_000_000_000
DAY_MS = 86_400_000
CASH = "CNY@BANK"
EVIDENCE = sha256(b"evidence")

DESKS = {
    "BANK": Role.CUSTODIAN,
    "ISS": Role.ISSUER,
    "KYC": Role.KYC,
    "LIST": Role.LISTING,
    "CALL": Role.CALLBACK,
    "FRZ": Role.FREEZER,
    "RCV": Role.RECOVERY,
    "REG": Role.REGULATOR,
}


class DictionaryView:
    def __init__(self, values: dict[bytes, bytes]) -> None:
        self.values = values
        self._keys = sorted(values)

    def get(self, key: bytes) -> bytes | None:
        return self.values.get(key)

    def scan(
        self, prefix: bytes, after: bytes | None = None, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        start = bisect_left(self._keys, prefix)
        if after is not None:
            start = max(start, bisect_right(self._keys, after))
        end = len(self._keys) if limit is None else min(len(self._keys), start + limit)
        for position in range(start, end):
            key = self._keys[position]
            if not key.startswith(prefix):
                return
            yield key, self.values[key]

    def write(self, writes: dict[bytes, bytes | None]) -> None:
        for key, value in writes.items():
            if value is None:
                self.values.pop(key, None)
            else:
                self.values[key] = value
        self._keys = sorted(self.values)


def key_of(name: str, purpose: KeyPurpose = KeyPurpose.TRADE) -> SigningKey:
    return SigningKey(sha256(f"{name}/{purpose.value}".encode()))


def make_genesis(**parameters: int) -> Genesis:
    accounts = tuple(
        GenesisAccount(
            name=name,
            organisation=f"{name} organisation",
            roles=(role,),
            keys=tuple(GenesisKey(purpose=purpose, key=key_of(name, purpose).public) for purpose in KeyPurpose),
        )
        for name, role in DESKS.items()
    )
    return Genesis(
        network="test",
        clock=Clock(origin_ms=START_MS),
        time_ms=START_MS,
        parameters=ChainParameters(**parameters),
        validators=(GenesisValidator(name="v", id=key_of("v").public, organisation="V"),),
        accounts=accounts,
        cash=(CashAsset(id=CASH, custodian="BANK", daily_deposit_limit=10**12),),
    )


class Ledger:
    """`do` runs one transaction in a block of its own and checks every invariant after it."""

    def __init__(self, **parameters: int) -> None:
        genesis = make_genesis(**parameters)
        self.chain = chain_id(genesis)
        self.view = DictionaryView(genesis_writes(genesis))
        self.height = 0
        self.now = START_MS
        self.ids = {name: genesis_account_id(name) for name in DESKS}
        self.last: BlockResult | None = None
        self.fold = Fold()
        self._salt = 0

    @property
    def state(self) -> State:
        return State(self.view)

    def sign(
        self,
        by: str,
        *operations: Operation,
        purpose: KeyPurpose = KeyPurpose.TRADE,
        keys: list[SigningKey] | None = None,
        chain: bytes | None = None,
        valid_until: int | None = None,
        sender: bytes | None = None,
        on_behalf_of: bytes | None = None,
        entrustment: bytes | None = None,
    ) -> Decoded:
        self._salt += 1
        body = Body(
            version=1,
            chain=self.chain if chain is None else chain,
            sender=self.ids[by] if sender is None else sender,
            salt=hashlib.sha256(self._salt.to_bytes(8, "big")).digest(),
            valid_until=self.now + 60_000 if valid_until is None else valid_until,
            on_behalf_of=on_behalf_of,
            entrustment=entrustment,
            operations=operations,
        )
        return sign_transaction(body, [key_of(by, purpose)] if keys is None else keys)

    def begin(self, at: int) -> BlockExecution:
        """The next block in the making, after what is due."""
        execution = BlockExecution(self.view, environment_at(self.view, self.chain, self.height + 1, at))
        execution.run_due()
        return execution

    def catch_up(self, at: int) -> int:
        """Blocks without transactions at `at`, until what is due then fits into the next; how many it took."""
        blocks = 0
        while self.begin(at).is_behind:
            self.block(at=at)
            blocks += 1
        return blocks

    def block(self, *transactions: Decoded, at: int | None = None) -> BlockResult:
        at = self.now + 1 if at is None else at
        if transactions:
            self.catch_up(at)
        execution = self.begin(at)
        self.now = at
        self.height += 1
        for transaction in transactions:
            execution.apply(transaction)
        result = execution.finish()
        self.view.write(result.writes)
        assert check_state(self.view) == []
        self.fold.add(result.events)
        assert self.fold.figures() == state_figures(self.view)
        self.last = result
        return result

    def do(
        self, by: str, *operations: Operation, code: Code = Code.OK, purpose: KeyPurpose = KeyPurpose.TRADE
    ) -> Receipt:
        result = self.block(self.sign(by, *operations, purpose=purpose))
        receipt = result.receipts[0]
        assert receipt.code is code, f"{receipt.code}: {result.explanations[0]}"
        return receipt

    def apply_for(self, name: str, *, ultimate_holders: int = 1) -> bytes:
        keys = tuple(NewKey(purpose, key_of(name, purpose).public) for purpose in KeyPurpose)
        operation = AccountApply(
            AccountKind.PERSON, sha256(name.encode()), keys, bytes(32), Thresholds(1, 1, 1), ultimate_holders
        )
        receipt = self.block(self.sign(name, operation, purpose=KeyPurpose.MANAGE, sender=b"")).receipts[0]
        assert receipt.code is Code.OK
        (account,) = [event.account for event in receipt.events if isinstance(event, AccountApplied)]
        self.ids[name] = account
        return account

    def investor(self, name: str, cash: int = 0) -> bytes:
        """An ACTIVE account, certified for everything for a year, with some cash."""
        account = self.apply_for(name)
        self.do("KYC", AccountReview(account, True, ""))
        until = self.now + 365 * DAY_MS
        self.do("KYC", InvestorCertify(account, 5, Category.PROFESSIONAL, until, 1, EVIDENCE))
        if cash:
            self.deposit(name, cash)
        return account

    def deposit(self, name: str, amount: int, reference: str | None = None, code: Code = Code.OK) -> Receipt:
        reference = f"ref-{self.height}" if reference is None else reference
        return self.do("BANK", CashDeposit(self.ids[name], CASH, amount, reference), code=code)

    def cash(self, name: str) -> CashBalance | None:
        return self.state.get(CASH_BALANCES, self.ids[name] + CASH.encode())
