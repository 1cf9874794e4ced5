"""A ledger with parties who draft, confirm and sign, and a neighbour that says who issues the one product."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as with_fields

from otcnode.crypto import SigningKey, sha256
from otcnode.errors import Code
from otcnode.genesis import KeyPurpose
from otcnode.vm.accounts.events import AccountFrozen
from otcnode.vm.accounts.operations import AccountFreeze, AccountUnfreeze, KeyAdd
from otcnode.vm.context import PARAMETERS, Context
from otcnode.vm.contracts.events import ContractCreated
from otcnode.vm.contracts.operations import (
    ContractConfirm,
    ContractCreate,
    ContractSign,
    ContractSubmit,
    NewSlot,
)
from otcnode.vm.contracts.preimages import contract_signature_preimage, document_commitment, terms_hash
from otcnode.vm.contracts.records import (
    CONTRACTS,
    Contract,
    ContractKind,
    ContractStatus,
    CoolingOff,
    Immediately,
    SlotRole,
    Term,
)
from otcnode.vm.executor import environment_at
from otcnode.vm.invariants import check_state
from otcnode.vm.keys import SINGLE
from otcnode.vm.registry import HOOKS
from otcnode.vm.results import Receipt
from tests.vm.ledger import EVIDENCE, Ledger, key_of

PRODUCT = sha256(b"product")
DOCUMENT = document_commitment(sha256(b"salt"), b"the document")
TERMS = (Term("amount", 1_000_000), Term("purpose", "bridge loan"))
HOUR_MS = 3_600_000
SIGN = KeyPurpose.SIGN


def slot_of(account: bytes, order: int = 0, keys: int = 1) -> NewSlot:
    return NewSlot(account, SlotRole.SIGNER, order, keys)


def second_key(name: str) -> SigningKey:
    return SigningKey(sha256(f"{name}/seal".encode()))


class Desk(Ledger):
    """ISS drafts; ANN, BEN and CAT are investors."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **parameters: int) -> None:
        super().__init__(**parameters)
        self.rescinded: list[bytes] = []

        def product_issuer(context: Context, product: bytes) -> bytes | None:
            return self.ids["ISS"] if product == PRODUCT else None

        def rescinded(context: Context, contract: bytes) -> None:
            self.rescinded.append(contract)

        hooks = replace(HOOKS, product_issuer=product_issuer, contract_rescinded=(rescinded,))
        monkeypatch.setattr("otcnode.vm.executor.HOOKS", hooks)
        for name in ("ANN", "BEN", "CAT"):
            self.investor(name)

    # operations

    def creation(self, **changes: Any) -> ContractCreate:
        """A transfer between ISS and ANN, one key each, in order; confirmed within an hour, signed within two."""
        draft = ContractCreate(
            kind=ContractKind.TRANSFER,
            open=False,
            subject=PRODUCT,
            document=DOCUMENT,
            terms=TERMS,
            terms_hash=terms_hash(TERMS),
            slots=(slot_of(self.ids["ISS"]), slot_of(self.ids["ANN"], 1)),
            salesperson=None,
            confirm_by=self.now + HOUR_MS,
            sign_by=self.now + 2 * HOUR_MS,
            effective=Immediately(),
            required_fields=(),
            supersedes=None,
        )
        return with_fields(draft, **changes)

    def subscription(self, period_ms: int, callback: bool, **changes: Any) -> ContractCreate:
        return self.creation(kind=ContractKind.SUBSCRIPTION, effective=CoolingOff(period_ms, callback), **changes)

    def act(
        self, by: str, operation: Any, code: Code = Code.OK, at: int | None = None, purpose: KeyPurpose = SIGN
    ) -> Receipt:
        """One operation in a block of its own, 1 ms after the last or `at` an instant."""
        at = self.now + 1 if at is None else at
        result = self.block(self.sign(by, operation, purpose=purpose, valid_until=at + 1), at=at)
        receipt = result.receipts[0]
        assert receipt.code is code, f"{receipt.code}: {result.explanations[0]}"
        return receipt

    def create(self, by: str = "ISS", **changes: Any) -> bytes:
        return self.created(self.act(by, self.creation(**changes)))

    @staticmethod
    def created(receipt: Receipt) -> bytes:
        (name,) = [event.contract for event in receipt.events if isinstance(event, ContractCreated)]
        return name

    def name_of(self, account: bytes) -> str:
        return next(name for name, found in self.ids.items() if found == account)

    def contract(self, name: bytes) -> Contract:
        found = self.state.get(CONTRACTS, name)
        assert found is not None
        return found

    def status(self, name: bytes) -> ContractStatus:
        return self.contract(name).status

    def confirmation(self, name: bytes, slot: int) -> ContractConfirm:
        contract = self.contract(name)
        return ContractConfirm(name, slot, contract.version, contract.terms_hash)

    def signature(
        self, name: bytes, slot: int, key: SigningKey | None = None, changes: dict[str, Any] | None = None
    ) -> ContractSign:
        """By the slot's account; `changes` make the signed text another than the contract's."""
        contract = self.contract(name)
        owner = contract.slots[slot].account
        key = key_of(self.name_of(owner), SIGN) if key is None else key
        signed: dict[str, Any] = {
            "chain": self.chain,
            "contract": name,
            "version": contract.version,
            "terms_hash": contract.terms_hash,
            "document": contract.document,
            "slot": slot,
            "principal": owner,
        } | (changes or {})
        return ContractSign(name, slot, contract.version, key.public, key.sign(contract_signature_preimage(**signed)))

    # steps

    def confirm(self, name: bytes, slot: int, code: Code = Code.OK, at: int | None = None) -> Receipt:
        by = self.name_of(self.contract(name).slots[slot].account)
        return self.act(by, self.confirmation(name, slot), code, at)

    def put_signature(self, name: bytes, slot: int, code: Code = Code.OK, at: int | None = None) -> Receipt:
        by = self.name_of(self.contract(name).slots[slot].account)
        return self.act(by, self.signature(name, slot), code, at)

    def bring_to(self, name: bytes, status: ContractStatus) -> bytes:
        """Walk a DRAFT on through confirming and signing until it has the status."""
        by = self.name_of(self.contract(name).creator)
        if self.status(name) is ContractStatus.DRAFT and status is not ContractStatus.DRAFT:
            self.act(by, ContractSubmit(name))
        while self.status(name) is not status:
            turn = self.contract(name).waiting_for[0]
            if self.status(name) is ContractStatus.CONFIRMING:
                self.confirm(name, turn)
            else:
                assert self.status(name) is ContractStatus.SIGNING
                self.put_signature(name, turn)
        return name

    def effective(self, **changes: Any) -> bytes:
        return self.bring_to(self.create(**changes), ContractStatus.EFFECTIVE)

    def amendment(self, old: bytes, **changes: Any) -> bytes:
        slots = tuple([slot_of(account) for account in self.contract(old).signers])
        fields = {"kind": ContractKind.AMENDMENT, "supersedes": old, "subject": None, "slots": slots} | changes
        return self.create(**fields)

    def add_seal(self, name: str) -> SigningKey:
        key = second_key(name)
        self.do(name, KeyAdd(SIGN, key.public), purpose=KeyPurpose.MANAGE)
        return key

    def keep(self, act: Callable[[Context], None]) -> None:
        """What a neighbour does to contracts while one of its own due items runs."""
        context = self.context()
        act(context)
        self.view.write(context.state.writes())
        assert check_state(self.view) == []

    def slow_down(self) -> None:
        """From now on the queue runs one expiry per block, on the same chain."""
        state = self.state
        parameters = state.get(PARAMETERS, SINGLE)
        assert parameters is not None
        state.put(PARAMETERS, SINGLE, with_fields(parameters, due_class1_weight_max=1))
        self.view.write(state.writes())

    def freeze(self, name: str) -> bytes:
        """FULL, by the regulator; the id of the freeze."""
        receipt = self.do("REG", AccountFreeze(self.ids[name], None, 0, EVIDENCE, None))
        (freeze,) = [event.freeze for event in receipt.events if isinstance(event, AccountFrozen)]
        return freeze

    def unfreeze(self, freeze: bytes) -> None:
        self.do("REG", AccountUnfreeze(freeze, EVIDENCE))

    def context(self, at: int | None = None) -> Context:
        """To ask what products and trades ask; what it writes is not kept."""
        environment = environment_at(self.view, self.chain, self.height + 1, self.now if at is None else at)
        return Context(self.state, environment, environment.time_ms, HOOKS)
