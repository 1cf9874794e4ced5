"""Subscribing and redeeming for a principal, inside what it entrusted."""

from __future__ import annotations

from typing import Any

import pytest

from otcnode.crypto import sha256
from otcnode.errors import Code
from otcnode.genesis import KeyPurpose
from otcnode.vm.accounts.events import EntrustmentChanged
from otcnode.vm.accounts.operations import EntrustAccept, EntrustGrant
from otcnode.vm.accounts.records import ENTRUSTMENTS, Powers
from otcnode.vm.operations import Operation
from otcnode.vm.products.events import Subscribed
from otcnode.vm.products.operations import (
    ProductCancelSubscription,
    ProductSubscribe,
    RedeemDecide,
    RedeemRequest,
)
from otcnode.vm.products.records import RedemptionRule
from otcnode.vm.results import Receipt
from otcnode.vm.rules import Scope
from tests.vm.ledger import DAY_MS
from tests.vm.products.market import Market


class Agency(Market):
    """AGT acts for ANN."""

    def __init__(self) -> None:
        super().__init__()
        self.investor("ANN", 10_000_00)
        self.investor("AGT", 10_000_00)

    def entrust(self, scope: Scope, **changes: Any) -> bytes:
        powers: dict[str, Any] = {
            "scopes": (scope,),
            "products": None,
            "min_price": None,
            "max_price": None,
            "per_action_cap": 10**9,
            "total_cap": 10**9,
            "valid_from": self.now,
            "until": self.now + 300 * DAY_MS,
            "document": sha256(b"power of attorney"),
            "allow_self_dealing": False,
        }
        grant = EntrustGrant(self.ids["AGT"], Powers(**(powers | changes)))
        receipt = self.act("ANN", grant, purpose=KeyPurpose.MANAGE)
        (name,) = [event.entrustment for event in receipt.events if isinstance(event, EntrustmentChanged)]
        self.act("AGT", EntrustAccept(name), purpose=KeyPurpose.MANAGE)
        return name

    def act_for_ann(self, entrustment: bytes, operation: Operation, code: Code = Code.OK) -> Receipt:
        decoded = self.sign("AGT", operation, on_behalf_of=self.ids["ANN"], entrustment=entrustment)
        result = self.block(decoded)
        assert result.receipts[0].code is code, result.explanations[0]
        return result.receipts[0]

    def used(self, entrustment: bytes) -> int:
        record = self.state.get(ENTRUSTMENTS, entrustment)
        assert record is not None
        return record.used


@pytest.fixture
def agency() -> Agency:
    return Agency()


def test_an_agent_subscribes_with_the_principals_cash_up_to_the_cap(agency: Agency) -> None:
    product = agency.opened()
    contract = agency.subscription_contract(product, "ANN")
    # 10 units cost 1,000.00 and a fee of 1.00
    tight = agency.entrust(Scope.SUBSCRIBE, per_action_cap=1_000_99)
    agency.act_for_ann(tight, ProductSubscribe(product, 10, contract), Code.ENTRUST_CAP)
    exact = agency.entrust(Scope.SUBSCRIBE, per_action_cap=1_001_00)
    receipt = agency.act_for_ann(exact, ProductSubscribe(product, 10, contract))
    (subscription,) = [event.subscription for event in receipt.events if isinstance(event, Subscribed)]
    assert agency.subscription(subscription).agent == agency.ids["AGT"]
    assert agency.subscription(subscription).account == agency.ids["ANN"]
    assert agency.figures("ANN") == (10_000_00 - 1_001_00, 1_001_00, 0)
    assert agency.figures("AGT") == (10_000_00, 0, 0)
    assert agency.used(exact) == 1_001_00
    # taking it back releases the cash; what was used stays used
    agency.act_for_ann(exact, ProductCancelSubscription(subscription))
    assert agency.figures("ANN") == (10_000_00, 0, 0)
    assert agency.used(exact) == 1_001_00


def test_scope_product_and_price_bound_the_agent(agency: Agency) -> None:
    product = agency.opened()
    contract = agency.subscription_contract(product, "ANN")
    operation = ProductSubscribe(product, 10, contract)
    agency.act_for_ann(agency.entrust(Scope.REDEEM), operation, Code.ENTRUST_SCOPE)
    other = agency.draft("NOTE-2")
    agency.act_for_ann(agency.entrust(Scope.SUBSCRIBE, products=(other,)), operation, Code.ENTRUST_SCOPE)
    # the product does not exist: what the act would cost cannot be told, and its own rules refuse it
    nothing = ProductSubscribe(bytes(32), 10, contract)
    agency.act_for_ann(agency.entrust(Scope.SUBSCRIBE), nothing, Code.NOT_FOUND)


def test_an_agent_redeems_the_principals_units(agency: Agency) -> None:
    product = agency.opened(redemption=RedemptionRule(True, 0, 0))
    agency.subscribe(product, "ANN", 50)
    terms = agency.product_terms(product)
    for at in (terms.close, terms.start_of(terms.value_date)):
        agency.advance(at)
    entrustment = agency.entrust(Scope.REDEEM, per_action_cap=0, total_cap=1)
    agency.act_for_ann(entrustment, RedeemRequest(product, 50, agency.now + DAY_MS))
    assert agency.units(product, "ANN").locked == 50
    agency.act_for_ann(entrustment, RedeemDecide(bytes(32), True, ""), Code.ROLE)
