"""Every operation against every state of every item it names: a listed transition, or refused with the listed code and
no trace.

The items are those of the town's examples (tests/vm/town.py), found by reflection, so an operation or a reference that
the tables do not list fails here. Each item is put into each of its statuses with everything else as it is. The ways by
which items really come to each status, and what an operation does there, are in the tests of the families.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from otcnode.codec import encode
from otcnode.errors import Code
from otcnode.vm.accounts.records import (
    ACCOUNTS,
    ENTRUSTMENTS,
    ENTRUSTMENTS_ACTIVE,
    AccountStatus,
    EntrustmentStatus,
    Scope,
)
from otcnode.vm.contracts.records import ContractStatus
from otcnode.vm.keys import MARKER, Table
from otcnode.vm.products.records import PRODUCT_TERMS, PRODUCTS, ProductStatus
from otcnode.vm.registry import OPERATIONS
from otcnode.vm.state import State
from otcnode.vm.view import Overlay
from tests.vm.test_bad_input import KINDS, UNKNOWN, dotted, example, places, refused, run, town
from tests.vm.watch import MACHINES, reachable

TABLES: tuple[Table[Any], ...] = tuple(table for table, _ in MACHINES)
TRANSITIONS = {table.prefix: transitions for table, transitions in MACHINES}
EFFECTIVE = Code.CONTRACT_NOT_EFFECTIVE


class Only(NamedTuple):
    """The statuses in which the operation is done, and the code in all others."""

    allowed: str
    refusal: Code = Code.STATE
    untested: str = ""
    """Statuses that an item cannot be put into alone."""


ANY_ACCOUNT = Only("PENDING ACTIVE REJECTED RECOVERING CLOSED")
ACTIVE_ACCOUNT = Only("ACTIVE")
SENDER = Only("ACTIVE", Code.ACCOUNT_STATE)
TRADED = Only("ACTIVE")
UNDER = Only("EFFECTIVE", EFFECTIVE, untested="AMENDED")
"""An AMENDED contract stands for the one in force (tests/vm/contracts/test_binding.py)."""
LIVE_PRODUCT = "APPROVED OPEN CLOSED ALLOTTED ACTIVE PAYMENT_OVERDUE"
ANY_CONTRACT = Only(" ".join(ContractStatus))

PAIRS: dict[tuple[str, str], Only] = {
    # the account whose status it is, where the operation names it
    ("AccountReview", "account"): Only("PENDING"),
    ("AccountClose", "account"): SENDER,
    ("AccountFreeze", "account"): Only("ACTIVE RECOVERING"),
    ("AccountRecover", "account"): ACTIVE_ACCOUNT,
    ("InvestorCertify", "account"): ACTIVE_ACCOUNT,
    ("CashDeposit", "account"): Only("ACTIVE RECOVERING"),
    ("EntrustGrant", "agent"): ACTIVE_ACCOUNT,
    ("ContractCreate", "slots.0.account"): SENDER,
    ("ContractCreate", "slots.1.account"): ACTIVE_ACCOUNT,
    ("ContractCreate", "salesperson"): ANY_ACCOUNT,
    ("ProductCreate", "terms.fee_payee"): ACTIVE_ACCOUNT,
    ("TradePropose", "counterparty"): ACTIVE_ACCOUNT,
    ("RfqCreate", "responders.0"): ACTIVE_ACCOUNT,
    ("RfqCreate", "responders.1"): ACTIVE_ACCOUNT,
    # who may take is asked when somebody takes
    ("OfferList", "whitelist.0"): ANY_ACCOUNT,
    ("OfferList", "whitelist.1"): ANY_ACCOUNT,
    # a sealed document may be for whoever is known
    ("DocumentFile", "recipients.0"): ANY_ACCOUNT,
    # a proposal is judged again when it is executed
    ("GovernancePropose", "action.account"): ANY_ACCOUNT,
    # recoveries, withdrawals, entrustments, proposals
    ("AccountRecoverApprove", "recovery"): Only("PROPOSED"),
    ("CashWithdrawCancel", "withdrawal"): Only("LOCKED"),
    ("CashWithdrawResult", "withdrawal"): Only("LOCKED"),
    ("EntrustAccept", "entrustment"): Only("PROPOSED"),
    ("EntrustDecline", "entrustment"): Only("PROPOSED"),
    ("EntrustRevoke", "entrustment"): Only("ACTIVE"),
    ("GovernanceApprove", "proposal"): Only("PROPOSED"),
    # contracts
    ("ContractCreate", "supersedes"): Only("EFFECTIVE"),
    ("ContractRevise", "contract"): Only("DRAFT CONFIRMING"),
    ("ContractSubmit", "contract"): Only("DRAFT"),
    ("ContractConfirm", "contract"): Only("CONFIRMING"),
    ("ContractSign", "contract"): Only("SIGNING"),
    ("ContractReject", "contract"): Only("CONFIRMING SIGNING"),
    ("ContractVoid", "contract"): Only("DRAFT CONFIRMING SIGNING"),
    ("ContractRescind", "contract"): Only("SIGNED"),
    ("ContractCallback", "contract"): Only("SIGNED"),
    ("ContractAccede", "contract"): Only("EFFECTIVE"),
    # products; the contract of a draft is asked for at its review
    ("ProductCreate", "revises"): Only("DRAFT RETURNED"),
    ("ProductCreate", "terms.contract"): ANY_CONTRACT,
    ("ProductSubmit", "product"): Only("DRAFT"),
    ("ProductReview", "product"): Only("REVIEW"),
    ("ProductCancel", "product"): Only("DRAFT REVIEW RETURNED APPROVED"),
    ("ProductSuspend", "product"): Only(LIVE_PRODUCT),
    ("ProductResume", "product"): Only("DRAFT REVIEW RETURNED " + LIVE_PRODUCT),
    ("DisclosurePost", "product"): Only("DRAFT REVIEW RETURNED FAILED MATURED DEFAULTED " + LIVE_PRODUCT),
    ("ProductSubscribe", "product"): Only("OPEN"),
    ("ProductSubscribe", "contract"): Only("SIGNED EFFECTIVE", EFFECTIVE, untested="AMENDED"),
    ("ProductCancelSubscription", "subscription"): Only("LOCKED"),
    ("RedeemRequest", "product"): TRADED,
    ("RedeemDecide", "redemption"): Only("REQUESTED"),
    # trades, offers, requests, quotes
    ("TradePropose", "product"): TRADED,
    ("TradePropose", "contract"): UNDER,
    ("TradeAffirm", "trade"): Only("PROPOSED"),
    ("TradeReject", "trade"): Only("PROPOSED"),
    ("TradeWithdraw", "trade"): Only("PROPOSED"),
    ("TradeCancel", "trade"): Only("LOCKED"),
    ("OfferList", "product"): TRADED,
    ("OfferList", "contract"): UNDER,
    ("OfferTake", "offer"): Only("OPEN"),
    ("OfferCancel", "offer"): Only("OPEN"),
    ("RfqCreate", "product"): TRADED,
    ("RfqCreate", "contract"): UNDER,
    ("RfqCancel", "rfq"): Only("OPEN"),
    ("QuoteSubmit", "rfq"): Only("OPEN"),
    ("QuoteCancel", "quote"): Only("ACTIVE"),
    ("QuoteRespond", "quote"): Only("ACTIVE"),
}
"""(operation, field that names an item) to what is done in which status of the item."""

BEHIND: dict[tuple[str, str], Only] = {
    ("AccountRecoverApprove", "recovery→account"): ACTIVE_ACCOUNT,
    ("EntrustAccept", "entrustment→principal"): ACTIVE_ACCOUNT,
    ("GovernanceApprove", "proposal→action.account"): Only("ACTIVE RECOVERING"),
    ("ProductReview", "product→terms.contract"): UNDER,
    ("RedeemDecide", "redemption→product"): Only("ACTIVE"),
    ("TradeAffirm", "trade→product"): TRADED,
    ("TradeAffirm", "trade→contract"): UNDER,
    ("TradeAffirm", "trade→seller"): ACTIVE_ACCOUNT,
    ("OfferTake", "offer→product"): TRADED,
    ("OfferTake", "offer→contract"): UNDER,
    ("OfferTake", "offer→account"): ACTIVE_ACCOUNT,
    ("QuoteSubmit", "rfq→product"): TRADED,
    ("QuoteSubmit", "rfq→contract"): UNDER,
    ("QuoteSubmit", "rfq→requester"): ACTIVE_ACCOUNT,
    ("QuoteRespond", "quote→rfq→product"): TRADED,
    ("QuoteRespond", "quote→rfq→contract"): UNDER,
    ("QuoteRespond", "quote→responder"): ACTIVE_ACCOUNT,
    # what ends something needs nothing else to be alive
    ("ProductCancelSubscription", "subscription→product"): Only(" ".join(ProductStatus)),
    ("TradeReject", "trade→product"): Only(" ".join(ProductStatus)),
    ("TradeWithdraw", "trade→product"): Only(" ".join(ProductStatus)),
    ("TradeCancel", "trade→product"): Only(" ".join(ProductStatus)),
    ("TradeCancel", "trade→contract"): ANY_CONTRACT,
    ("OfferCancel", "offer→product"): Only(" ".join(ProductStatus)),
    ("OfferCancel", "offer→contract"): ANY_CONTRACT,
    ("RfqCancel", "rfq→product"): Only(" ".join(ProductStatus)),
    ("QuoteCancel", "quote→rfq→product"): Only(" ".join(ProductStatus)),
}
"""The same for what stands behind the item that is named."""

NOT_WHILE_SUSPENDED = {
    "ProductSubscribe",
    "ProductSuspend",
    "RedeemRequest",
    "RedeemDecide",
    "TradePropose",
    "TradeAffirm",
    "OfferList",
    "OfferTake",
    "RfqCreate",
    "QuoteSubmit",
    "QuoteRespond",
}
"""What the flag SUSPENDED of the product refuses with E_STATE, as its absence does ProductResume; all else goes on."""


def items(value: Any) -> Iterator[tuple[str, Table[Any], bytes, Any]]:
    """(path, table, id, record) of every item that an operation or a record names."""
    state = State(town().view)
    for path, found in places(value):
        if isinstance(found, bytes) and len(found) == 32:
            for table in TABLES:
                record = state.get(table, found)
                if record is not None:
                    yield dotted(path), table, found, record


def follow(operation: Any, way: str) -> tuple[Table[Any], bytes, Any]:
    """The item at the end of a way like "quote→rfq→product"."""
    value: Any = operation
    name = b""
    steps = way.split("→")
    for step in steps:
        if step.startswith("terms."):
            value, step = State(town().view).get(PRODUCT_TERMS, name), step.removeprefix("terms.")
        table, name, record = next(found[1:] for found in items(value) if found[0] == step)
        value = record
    return table, name, value


def in_status(table: Table[Any], name: bytes, record: Any, **fields: Any) -> Overlay:
    overlay = Overlay(town().view)
    overlay.put(table.prefix + name, encode(replace(record, **fields)))
    return overlay


def check(kind: type, table: Table[Any], name: bytes, record: Any, only: Only) -> None:
    by, operation = example(kind)
    statuses = type(record.status)
    assert set(only.allowed.split()) | set(only.untested.split()) <= {status.value for status in statuses}
    for status in statuses:
        if status.value in only.untested.split():
            continue
        expected = Code.OK if status.value in only.allowed.split() else only.refusal
        view = in_status(table, name, record, status=status)
        assert refused(by, operation, view) is expected, f"{kind.__name__} while {status.value}"


def test_the_table_lists_every_reference_of_every_operation() -> None:
    found = {(kind.__name__, path) for kind in KINDS for path, *_ in items(example(kind)[1])}
    assert found == set(PAIRS)
    assert {table.name for kind in KINDS for _, table, *_ in items(example(kind)[1])} == {
        table.name for table in TABLES
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_operation_in_every_state_of_what_it_names(kind: type) -> None:
    for path, table, name, record in items(example(kind)[1]):
        check(kind, table, name, record, PAIRS[kind.__name__, path])


@pytest.mark.parametrize(("kind", "way"), BEHIND)
def test_every_operation_in_every_state_of_what_stands_behind(kind: str, way: str) -> None:
    operation = next(known for known in KINDS if known.__name__ == kind)
    check(operation, *follow(example(operation)[1], way), BEHIND[kind, way])


@pytest.mark.parametrize("kind", KINDS)
def test_what_succeeds_moves_what_it_names_by_its_table(kind: type) -> None:
    by, operation = example(kind)
    code, result = run(by, operation)
    assert code is Code.OK
    after = Overlay(town().view)
    after.absorb(result.writes)
    for _, table, name, record in items(operation):
        now = State(after).get(table, name)
        assert now is not None and now.status in reachable(TRANSITIONS[table.prefix], record.status)


@pytest.mark.parametrize("kind", KINDS)
def test_the_flag_suspended(kind: type) -> None:
    ways = [path for path, table, *_ in items(example(kind)[1]) if table is PRODUCTS]
    ways += [way for name, way in BEHIND if name == kind.__name__ and way.endswith("→product")]
    by, operation = example(kind)
    for way in ways:
        table, name, record = follow(operation, way)
        expected = Code.STATE if kind.__name__ in NOT_WHILE_SUSPENDED else Code.OK
        assert refused(by, operation, in_status(table, name, record, suspended=True)) is expected, way
        if kind.__name__ == "ProductResume":
            assert refused(by, operation, in_status(table, name, record, suspended=False)) is Code.STATE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", AccountStatus)
def test_every_operation_in_every_state_of_its_sender(kind: type, status: AccountStatus) -> None:
    """Only an objection comes from an account in recovery, and nothing from one that is not open."""
    by, operation = example(kind)
    if OPERATIONS[kind].signatory.value != "ACCOUNT":
        return
    account = State(town().view).get(ACCOUNTS, town().ids[by])
    assert account is not None
    natural = kind.__name__ == "AccountObject" and status is AccountStatus.RECOVERING
    code = refused(by, operation, in_status(ACCOUNTS, town().ids[by], account, status=status))
    if status is AccountStatus.ACTIVE:
        assert code is (Code.STATE if kind.__name__ == "AccountObject" else Code.OK)
    else:
        assert code is (Code.OK if natural else Code.ACCOUNT_STATE)


SCOPED = [kind for kind in KINDS if OPERATIONS[kind].scope is not None]


def entrusted(by: str, **fields: Any) -> Overlay:
    """The town's state in which the agent may do everything for `by`."""
    here = town()
    record = next(record for _, record in here.state.scan(ENTRUSTMENTS) if record.status is EntrustmentStatus.ACTIVE)
    powers = replace(
        record.powers,
        scopes=tuple(sorted(Scope)),
        products=None,
        min_price=None,
        max_price=None,
        per_action_cap=2**60,
        total_cap=2**60,
        allow_self_dealing=True,
    )
    mandate = replace(record, principal=here.ids[by], agent=here.ids["AGT"], powers=powers, used=0)
    overlay = in_status(ENTRUSTMENTS, UNKNOWN, mandate, **fields)
    overlay.put(ENTRUSTMENTS_ACTIVE.prefix + here.ids["AGT"] + here.ids[by] + UNKNOWN, encode(MARKER))
    return overlay


@pytest.mark.parametrize("kind", SCOPED)
@pytest.mark.parametrize("status", EntrustmentStatus)
def test_every_act_on_behalf_in_every_state_of_the_entrustment(kind: type, status: EntrustmentStatus) -> None:
    by, operation = example(kind)
    options: dict[str, Any] = {"on_behalf_of": town().ids[by], "entrustment": UNKNOWN}
    code = refused("AGT", operation, entrusted(by, status=status), **options)
    # the example's signature in a contract is the principal's own
    done = Code.AUTH if kind.__name__ == "ContractSign" else Code.OK
    assert code is (done if status is EntrustmentStatus.ACTIVE else Code.STATE)


@pytest.mark.parametrize("kind", SCOPED)
@pytest.mark.parametrize("status", AccountStatus)
def test_every_act_on_behalf_in_every_state_of_the_principal(kind: type, status: AccountStatus) -> None:
    by, operation = example(kind)
    options: dict[str, Any] = {"on_behalf_of": town().ids[by], "entrustment": UNKNOWN}
    account = State(town().view).get(ACCOUNTS, town().ids[by])
    assert account is not None
    view = entrusted(by)
    view.put(ACCOUNTS.prefix + town().ids[by], encode(replace(account, status=status)))
    code = refused("AGT", operation, view, **options)
    done = Code.AUTH if kind.__name__ == "ContractSign" else Code.OK
    assert code is (done if status is AccountStatus.ACTIVE else Code.STATE)


@pytest.mark.parametrize("kind", SCOPED)
def test_every_act_on_behalf_at_the_bounds_of_its_time(kind: type) -> None:
    by, operation = example(kind)
    options: dict[str, Any] = {"on_behalf_of": town().ids[by], "entrustment": UNKNOWN}
    at = town().now + 1
    record = State(entrusted(by)).get(ENTRUSTMENTS, UNKNOWN)
    assert record is not None
    done = Code.AUTH if kind.__name__ == "ContractSign" else Code.OK
    for valid_from, until, expected in ((at, at + 1, done), (at + 1, at + 2, Code.STATE), (0, at, Code.EXPIRED)):
        powers = replace(record.powers, valid_from=valid_from, until=until)
        assert refused("AGT", operation, entrusted(by, powers=powers), **options) is expected
