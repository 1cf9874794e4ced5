"""Products, contracts and trades put straight into a fake node's state, for tests of reading."""

from __future__ import annotations

from otcnode.crypto import sha256
from otcnode.errors import Code
from otcnode.vm.accounts.records import (
    HOLDINGS,
    HOLDINGS_BY_ACCOUNT,
    LOCKS,
    LOTS,
    UNIT_TOTALS,
    Category,
    Holding,
    Lock,
    LockPurpose,
    Lot,
    UnitTotal,
)
from otcnode.vm.arithmetic import DayCount
from otcnode.vm.contracts import records as contracts
from otcnode.vm.contracts.records import (
    AtTime,
    Contract,
    ContractKind,
    ContractStatus,
    CoolingOff,
    Slot,
    SlotRole,
    Term,
)
from otcnode.vm.documents.records import DOCUMENTS, Filing, sealed_name
from otcnode.vm.keys import MARKER, OPEN_TRADE, integer
from otcnode.vm.products import records as products
from otcnode.vm.products.records import Product, ProductStatus, ProductTerms, ProductType
from otcnode.vm.trades import records as trades
from otcnode.vm.trades.records import Trade, TradeStatus
from tests.rpc.fake import INVESTOR, ISSUER, OTHER, START_MS, FakeNode, account_of

SEALED = b"a sealed file"
NOTE, EQUITY = sha256(b"note"), sha256(b"equity")
DRAFT, MASTER = sha256(b"draft"), sha256(b"master")
TRADES = [sha256(b"trade" + bytes([place])) for place in range(4)]


def populate(node: FakeNode) -> None:
    """Two products of ISSUER, of which INVESTOR holds NOTE; a contract between INVESTOR and ISSUER that waits for
    INVESTOR; an open master contract; four trades, the last between OTHER and ISSUER."""
    for name, kind, status in (
        (NOTE, ProductType.FIXED_NOTE, ProductStatus.ACTIVE),
        (EQUITY, ProductType.EQUITY, ProductStatus.OPEN),
    ):
        put_product(node, name, kind, status)
    node.put(UNIT_TOTALS, NOTE, UnitTotal(100, 0))
    node.put(HOLDINGS, NOTE + account_of(INVESTOR), Holding(100, 40, 0, (), 2, 2, integer(START_MS) + integer(0)))
    node.put(HOLDINGS_BY_ACCOUNT, account_of(INVESTOR) + NOTE, MARKER)
    for sequence, (quantity, until) in enumerate(((60, START_MS + 1), (40, 0))):
        suffix = account_of(INVESTOR) + NOTE + integer(START_MS + sequence) + integer(sequence)
        node.put(LOTS, suffix, Lot(quantity, until))
    node.put(LOCKS, account_of(INVESTOR) + TRADES[0], Lock(NOTE, 40, LockPurpose.TRADE, TRADES[0]))
    node.put(LOCKS, account_of(INVESTOR) + TRADES[1], Lock(b"CNY@BANK", 7, LockPurpose.TRADE, TRADES[1]))
    owner = account_of(ISSUER)
    node.put(DOCUMENTS, sealed_name(SEALED), Filing(owner, bytes(32), len(SEALED), (owner,), NOTE, START_MS))
    put_contract(node, DRAFT, ContractKind.SUBSCRIPTION, ContractStatus.SIGNING, open_=False)
    put_contract(node, MASTER, ContractKind.MASTER, ContractStatus.EFFECTIVE, open_=True)
    for place, name in enumerate(TRADES):
        put_trade(node, name, START_MS + place, INVESTOR if place < 3 else OTHER)


def put_product(node: FakeNode, name: bytes, kind: ProductType, status: ProductStatus) -> None:
    terms = ProductTerms(
        type=kind,
        cash="CNY@BANK",
        quantity_decimals=0,
        utc_offset_minutes=480,
        face=100_00,
        issue_price=1_000_000,
        offered=2**62,
        min_raise=10,
        min_subscription=1,
        step=1,
        max_holders=200,
        risk=3,
        categories=(Category.QUALIFIED,),
        open=START_MS,
        close=START_MS + 1,
        value_date=20_833,
        maturity=21_198,
        rate_ppm=45_000,
        day_count=next(iter(DayCount)),
        pay_dates=(21_014, 21_198),
        lockup_days=0,
        turnaround_days=0,
        subscription_fee_ppm=0,
        trade_fee_ppm=1_000,
        fee_payee=account_of(ISSUER),
        min_allotment=0,
        cooling_off=products.CoolingOffRule(86_400_000, True),
        redemption=products.RedemptionRule(False, 0, 0),
        grace_days=3,
        documents=(bytes(32),),
        contract=MASTER,
    )
    product = Product(
        issuer=account_of(ISSUER),
        code=kind.value,
        status=status,
        reason="",
        suspended=False,
        cancelling=products.Cancelling(account_of(ISSUER), "ISSUER"),
        accepted=1,
        live=1,
        subscribed=100,
        subscriber_holders=1,
        allotted=100,
        next_payment=0,
        unpaid=(21_014,),
        disclosures=0,
        created_at=START_MS,
        changed_at=START_MS,
    )
    node.put(products.PRODUCTS, name, product)
    node.put(products.PRODUCT_TERMS, name, terms)
    node.put(products.PRODUCTS_BY_ISSUER, account_of(ISSUER) + name, MARKER)
    node.put(products.PRODUCTS_BY_STATUS, products.status_key(status, name), MARKER)


def put_contract(node: FakeNode, name: bytes, kind: ContractKind, status: ContractStatus, *, open_: bool) -> None:
    signer = Slot(account_of(ISSUER), SlotRole.SIGNER, 0, 1, 1, account_of(ISSUER))
    waiting = Slot(account_of(INVESTOR), SlotRole.SIGNER, 1, 1, 0, account_of(INVESTOR))
    contract = Contract(
        kind=kind,
        nature=kind,
        open=open_,
        creator=account_of(ISSUER),
        subject=NOTE,
        root=name,
        supersedes=None,
        superseded_by=None,
        successors_open=0,
        salesperson=None,
        effective=AtTime(START_MS) if open_ else CoolingOff(86_400_000, False),
        confirm_by=START_MS + 1,
        sign_by=START_MS + 2,
        version=1,
        terms_hash=bytes(32),
        document=bytes(32),
        slots=(signer,) if open_ else (signer, waiting),
        status=status,
        reason="",
        created_at=START_MS,
        signing_at=START_MS,
        signed_at=None,
        effective_at=None,
        ended_at=None,
    )
    text = contracts.ContractText((Term("amount", 2**60), Term("law", "42")), ("law",))
    signature = contracts.ContractSignature(1, bytes(64), START_MS, 0, account_of(ISSUER), None)
    node.put(contracts.CONTRACTS, name, contract)
    node.put(contracts.CONTRACT_TEXTS, name, text)
    node.put(contracts.CONTRACT_SIGNATURES, name + b"\x00" + bytes(32), signature)
    for slot in contract.slots:
        node.put(contracts.CONTRACTS_BY_PARTY, slot.account + name, MARKER)


def put_trade(node: FakeNode, name: bytes, created_at: int, buyer: str) -> None:
    trade = Trade(
        proposer=account_of(buyer),
        agent=None,
        buyer=account_of(buyer),
        seller=account_of(ISSUER),
        product=NOTE,
        quantity=10,
        price=1_000_050,
        contract=MASTER,
        affirm_by=created_at + 1,
        settle_at=None,
        source=None,
        clean=100_01,
        accrued=5,
        fee=10,
        status=TradeStatus.FAILED if name == TRADES[1] else TradeStatus.SETTLED,
        failure=Code.FROZEN if name == TRADES[1] else None,
        cancel_asked_by=None,
        created_at=created_at,
        executed_at=created_at,
        ended_at=None,
    )
    node.put(trades.TRADES, name, trade)
    for party in (trade.buyer, trade.seller):
        node.put(trades.TRADING_BY_ACCOUNT, party + OPEN_TRADE + integer(created_at) + name, MARKER)
    node.put(trades.TRADING_BY_PRODUCT, NOTE + OPEN_TRADE + integer(created_at) + name, MARKER)
