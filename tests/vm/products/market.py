"""A ledger with an issuer's product, investors and the contracts they subscribe under."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from otcnode.crypto import sha256
from otcnode.errors import Code
from otcnode.genesis import KeyPurpose
from otcnode.vm import balances
from otcnode.vm.accounts.records import CASH_BALANCES, HOLDINGS, Category, Holding
from otcnode.vm.arithmetic import DayCount, local_date
from otcnode.vm.context import Context
from otcnode.vm.contracts.events import ContractCreated
from otcnode.vm.contracts.operations import ContractConfirm, ContractCreate, ContractSign, ContractSubmit, NewSlot
from otcnode.vm.contracts.preimages import contract_signature_preimage, document_commitment, terms_hash
from otcnode.vm.contracts.records import (
    CONTRACTS,
    Contract,
    ContractKind,
    Effectiveness,
    Immediately,
    SlotRole,
    Term,
)
from otcnode.vm.events import Event
from otcnode.vm.executor import environment_at
from otcnode.vm.operations import Operation
from otcnode.vm.products.events import ProductDrafted, RedemptionRequested, Subscribed
from otcnode.vm.products.operations import (
    ProductCreate,
    ProductReview,
    ProductSubmit,
    ProductSubscribe,
    RedeemRequest,
    Verdict,
)
from otcnode.vm.products.records import (
    PRODUCT_TERMS,
    PRODUCTS,
    REDEMPTIONS,
    SUBSCRIPTIONS,
    CoolingOffRule,
    Product,
    ProductStatus,
    ProductTerms,
    ProductType,
    Redemption,
    RedemptionRule,
    Subscription,
)
from otcnode.vm.registry import HOOKS
from otcnode.vm.results import Receipt
from tests.vm.ledger import CASH, DAY_MS, START_MS, Ledger, key_of

OFFSET = 480
TODAY = local_date(START_MS, OFFSET)
VALUE_DATE = TODAY + 10
FIRST_PAY = VALUE_DATE + 91
MATURITY = VALUE_DATE + 182
DOCUMENT = document_commitment(sha256(b"salt"), b"the document")
TEXT = (Term("purpose", "bridge loan"),)
SIGN = KeyPurpose.SIGN


class Market(Ledger):
    """ISS issues, BANK keeps the cash, LIST lists; FEE, an investor's account, receives the fees."""

    def __init__(self, **parameters: int) -> None:
        super().__init__(**parameters)
        self.investor("FEE")
        self.issuance = self.contract(ContractKind.ISSUANCE, None, ("ISS", "BANK"))

    # operations in blocks

    def act(
        self,
        by: str,
        *operations: Operation,
        code: Code = Code.OK,
        at: int | None = None,
        purpose: KeyPurpose = KeyPurpose.TRADE,
    ) -> Receipt:
        """One transaction in a block of its own, 1 ms after the last or `at` an instant."""
        at = self.now + 1 if at is None else at
        result = self.block(self.sign(by, *operations, purpose=purpose, valid_until=at + 1), at=at)
        receipt = result.receipts[0]
        assert receipt.code is code, f"{receipt.code}: {result.explanations[0]}"
        return receipt

    def explained(self, by: str, operation: Operation, code: Code) -> str:
        self.act(by, operation, code=code)
        assert self.last is not None
        return self.last.explanations[0]

    def advance(self, at: int) -> list[Event]:
        """Empty blocks until nothing is due; the events of all."""
        events = list(self.block(at=at).events)
        while (more := self.block(at=self.now + 1)).automatic:
            events += more.events
        return events

    def context(self) -> Context:
        """To ask what other families ask; what it writes is not kept."""
        environment = environment_at(self.view, self.chain, self.height + 1, self.now)
        return Context(self.state, environment, environment.time_ms, HOOKS)

    # contracts

    def contract(
        self,
        kind: ContractKind,
        subject: bytes | None,
        parties: tuple[str, ...],
        effective: Effectiveness | None = None,
        **changes: Any,
    ) -> bytes:
        """Drafted by the first party, confirmed and signed by all of them."""
        draft = ContractCreate(
            kind=kind,
            open=False,
            subject=subject,
            document=DOCUMENT,
            terms=TEXT,
            terms_hash=terms_hash(TEXT),
            slots=tuple(NewSlot(self.ids[name], SlotRole.SIGNER, 0, 1) for name in parties),
            salesperson=None,
            confirm_by=self.now + DAY_MS,
            sign_by=self.now + 2 * DAY_MS,
            effective=Immediately() if effective is None else effective,
            required_fields=(),
            supersedes=None,
        )
        receipt = self.act(parties[0], replace(draft, **changes), purpose=SIGN)
        (name,) = [event.contract for event in receipt.events if isinstance(event, ContractCreated)]
        self.act(parties[0], ContractSubmit(name), purpose=SIGN)
        for slot, party in enumerate(parties):
            self.act(party, ContractConfirm(name, slot, 1, terms_hash(TEXT)), purpose=SIGN)
        for slot, party in enumerate(parties):
            self.act(party, self.signature(name, slot, party), purpose=SIGN)
        return name

    def signature(self, name: bytes, slot: int, party: str) -> ContractSign:
        preimage = contract_signature_preimage(
            chain=self.chain,
            contract=name,
            version=1,
            terms_hash=terms_hash(TEXT),
            document=DOCUMENT,
            slot=slot,
            principal=self.ids[party],
        )
        key = key_of(party, SIGN)
        return ContractSign(name, slot, 1, key.public, key.sign(preimage))

    def subscription_contract(self, product: bytes, name: str, effective: Effectiveness | None = None) -> bytes:
        return self.contract(ContractKind.SUBSCRIPTION, product, ("ISS", name), effective)

    def contract_record(self, name: bytes) -> Contract:
        found = self.state.get(CONTRACTS, name)
        assert found is not None
        return found

    # products

    def terms(self, **changes: Any) -> ProductTerms:
        """100 whole units at face and price 100.00, in steps of 1, a coupon of 5 % after 91 days and at maturity."""
        terms = ProductTerms(
            type=ProductType.FIXED_NOTE,
            cash=CASH,
            quantity_decimals=0,
            utc_offset_minutes=OFFSET,
            face=100_00,
            issue_price=100_0000,
            offered=100,
            min_raise=1,
            min_subscription=1,
            step=1,
            max_holders=200,
            risk=3,
            categories=(Category.QUALIFIED,),
            open=START_MS + DAY_MS,
            close=START_MS + 5 * DAY_MS,
            value_date=VALUE_DATE,
            maturity=MATURITY,
            rate_ppm=50_000,
            day_count=DayCount.ACT_365F,
            pay_dates=(FIRST_PAY, MATURITY),
            lockup_days=0,
            turnaround_days=0,
            subscription_fee_ppm=1_000,
            trade_fee_ppm=0,
            fee_payee=self.ids["FEE"],
            min_allotment=0,
            cooling_off=CoolingOffRule(0, False),
            redemption=RedemptionRule(True, 10_000, 2),
            grace_days=3,
            documents=(),
            contract=self.issuance,
        )
        return replace(terms, **changes)

    def draft(self, code: str = "NOTE-1", **changes: Any) -> bytes:
        receipt = self.act("ISS", ProductCreate(code, self.terms(**changes), None))
        (name,) = [event.product for event in receipt.events if isinstance(event, ProductDrafted)]
        return name

    def approved(self, code: str = "NOTE-1", **changes: Any) -> bytes:
        name = self.draft(code, **changes)
        self.act("ISS", ProductSubmit(name))
        self.act("LIST", ProductReview(name, Verdict.APPROVE, ""))
        return name

    def opened(self, code: str = "NOTE-1", **changes: Any) -> bytes:
        name = self.approved(code, **changes)
        if self.product(name).status is ProductStatus.APPROVED:
            self.block(at=self.product_terms(name).open)
        assert self.product(name).status is ProductStatus.OPEN
        return name

    def product(self, name: bytes) -> Product:
        found = self.state.get(PRODUCTS, name)
        assert found is not None
        return found

    def product_terms(self, name: bytes) -> ProductTerms:
        found = self.state.get(PRODUCT_TERMS, name)
        assert found is not None
        return found

    def status(self, name: bytes) -> ProductStatus:
        return self.product(name).status

    # subscriptions

    def subscribe(
        self, product: bytes, name: str, quantity: int, contract: bytes | None = None, at: int | None = None
    ) -> bytes:
        """By a contract effective at once, unless another is named."""
        contract = self.subscription_contract(product, name) if contract is None else contract
        receipt = self.act(name, ProductSubscribe(product, quantity, contract), at=at)
        (subscription,) = [event.subscription for event in receipt.events if isinstance(event, Subscribed)]
        return subscription

    def subscription(self, name: bytes) -> Subscription:
        found = self.state.get(SUBSCRIPTIONS, name)
        assert found is not None
        return found

    def established(self, holdings: dict[str, int], **changes: Any) -> bytes:
        """An ACTIVE product; the holders are made investors, with just the cash it takes."""
        for name in holdings:
            self.investor(name)
        product = self.opened(**changes)
        terms = self.product_terms(product)
        for name, quantity in holdings.items():
            self.deposit(name, outlay(terms, quantity))
            self.subscribe(product, name, quantity)
        self.advance(terms.close)
        self.advance(terms.start_of(terms.value_date))
        assert self.status(product) is ProductStatus.ACTIVE
        return product

    # redemptions

    def request(self, product: bytes, name: str, quantity: int, until: int, at: int | None = None) -> bytes:
        receipt = self.act(name, RedeemRequest(product, quantity, until), at=at)
        (redemption,) = [event.redemption for event in receipt.events if isinstance(event, RedemptionRequested)]
        return redemption

    def redemption(self, name: bytes) -> Redemption:
        found = self.state.get(REDEMPTIONS, name)
        assert found is not None
        return found

    # figures

    def figures(self, name: str) -> tuple[int, int, int]:
        """(available, locked, frozen) cash."""
        found = self.state.get(CASH_BALANCES, self.ids[name] + CASH.encode()) or balances.NO_CASH
        return found.available, found.locked, found.frozen

    def units(self, product: bytes, name: str) -> Holding:
        return self.state.get(HOLDINGS, product + self.ids[name]) or balances.NO_UNITS


def outlay(terms: ProductTerms, quantity: int) -> int:
    """Cost and fee by exact fractions, for whole units and cash of 2 decimals."""
    cost = (quantity * terms.issue_price + 50) // 100
    return cost + (2 * cost * terms.subscription_fee_ppm + 10**6) // (2 * 10**6)
