"""A market with an ACTIVE product, a seller, a buyer and a master agreement, ready to trade."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from otcnode.codec import encode
from otcnode.crypto import sha256
from otcnode.errors import Code
from otcnode.vm.accounts.operations import AccountFreeze
from otcnode.vm.accounts.records import ACCOUNTS, LOCKS, OPEN_ITEMS
from otcnode.vm.context import PARAMETERS
from otcnode.vm.contracts.records import ContractKind
from otcnode.vm.keys import SINGLE
from otcnode.vm.results import Receipt
from otcnode.vm.trades.events import (
    OfferListed,
    QuoteSubmitted,
    RfqCreated,
    TradeExecuted,
    TradeProposed,
)
from otcnode.vm.trades.operations import (
    OfferList,
    OfferTake,
    QuoteSubmit,
    RfqCreate,
    TradeAffirm,
    TradePropose,
)
from otcnode.vm.trades.records import (
    OFFERS,
    QUOTES,
    RFQS,
    TRADES,
    TRADING_OPEN,
    Offer,
    Quote,
    Rfq,
    Side,
    Trade,
)
from tests.vm.ledger import DAY_MS
from tests.vm.products.market import Market

HOUR_MS = 3_600_000
ORDER = sha256(b"court order")
PRICE = 101_2345
"""101.2345"""


class Floor(Market):
    """SAM holds 60 units, OWN 40, BEN 1,000,000.00; a master agreement binds the three.

    Trades cost each side 2,000 ppm, paid to FEE, which starts with the subscriptions' 10.00.
    """

    def __init__(self, *, holdings: dict[str, int] | None = None, **changes: Any) -> None:
        super().__init__()
        holdings = {"SAM": 60, "OWN": 40} if holdings is None else holdings
        self.note = self.established(holdings, **{"trade_fee_ppm": 2_000, **changes})
        self.investor("BEN", 1_000_000_00)
        self.master = self.contract(ContractKind.MASTER, None, (*holdings, "BEN"))

    # negotiated trades

    def proposal(self, **changes: Any) -> TradePropose:
        """SAM sells 10 units to BEN at 101.2345, to settle in a day, to be affirmed within an hour."""
        fields: dict[str, Any] = {
            "counterparty": self.ids["BEN"],
            "side": Side.SELL,
            "product": self.note,
            "quantity": 10,
            "price": PRICE,
            "contract": self.master,
            "affirm_by": self.now + HOUR_MS,
            "settle_at": self.now + DAY_MS,
        }
        return TradePropose(**{**fields, **changes})

    def propose(self, by: str = "SAM", **changes: Any) -> bytes:
        receipt = self.act(by, self.proposal(**changes))
        (name,) = [event.trade for event in receipt.events if isinstance(event, TradeProposed)]
        return name

    def locked(self, **changes: Any) -> bytes:
        """A trade that both agreed to, on its way to settle."""
        name = self.propose(**changes)
        self.act("BEN", TradeAffirm(name))
        return name

    def trade(self, name: bytes) -> Trade:
        found = self.state.get(TRADES, name)
        assert found is not None
        return found

    # offers and requests

    def offering(self, **changes: Any) -> OfferList:
        """SAM sells 50 units at 101.2345, in takes of at least 5, for a day."""
        fields: dict[str, Any] = {
            "side": Side.SELL,
            "product": self.note,
            "quantity": 50,
            "price": PRICE,
            "contract": self.master,
            "min_fill": 5,
            "all_or_none": False,
            "not_before": 0,
            "until": self.now + DAY_MS,
            "whitelist": (),
            "cash_cap": 0,
        }
        return OfferList(**{**fields, **changes})

    def list_offer(self, by: str = "SAM", **changes: Any) -> bytes:
        return created(self.act(by, self.offering(**changes)))

    def take(
        self, offer: bytes, quantity: int, by: str = "BEN", code: Code = Code.OK, at: int | None = None
    ) -> Receipt:
        return self.act(by, OfferTake(offer, quantity), code=code, at=at)

    def asking(self, **changes: Any) -> RfqCreate:
        """BEN asks SAM and OWN to sell it 20 units, within an hour, at T+0."""
        fields: dict[str, Any] = {
            "side": Side.BUY,
            "product": self.note,
            "quantity": 20,
            "contract": self.master,
            "responders": self.named("SAM", "OWN"),
            "until": self.now + HOUR_MS,
            "settle_at": None,
        }
        return RfqCreate(**{**fields, **changes})

    def ask(self, by: str = "BEN", **changes: Any) -> bytes:
        return created(self.act(by, self.asking(**changes)))

    def quoting(self, rfq: bytes, price: int | None = PRICE, **changes: Any) -> QuoteSubmit:
        fields: dict[str, Any] = {
            "rfq": rfq,
            "firm": True,
            "price": price,
            "commitment": None,
            "cash_cap": 0,
            "until": self.rfq(rfq).until,
        }
        return QuoteSubmit(**{**fields, **changes})

    def submit(self, by: str, rfq: bytes, price: int | None = PRICE, **changes: Any) -> bytes:
        return created(self.act(by, self.quoting(rfq, price, **changes)))

    def named(self, *names: str) -> tuple[bytes, ...]:
        return tuple(sorted(self.ids[name] for name in names))

    def offer(self, name: bytes) -> Offer:
        found = self.state.get(OFFERS, name)
        assert found is not None
        return found

    def rfq(self, name: bytes) -> Rfq:
        found = self.state.get(RFQS, name)
        assert found is not None
        return found

    def quote(self, name: bytes) -> Quote:
        found = self.state.get(QUOTES, name)
        assert found is not None
        return found

    # the rest

    def limit(self, **parameters: int) -> None:
        """Change parameters of the chain from the next block on."""
        before = self.state.get(PARAMETERS, SINGLE)
        assert before is not None
        self.view.write({PARAMETERS.prefix: encode(replace(before, **parameters))})

    def freeze(self, name: str) -> None:
        self.freeze_at(name, self.now + 1)

    def freeze_at(self, name: str, at: int) -> None:
        self.act("REG", AccountFreeze(self.ids[name], None, 0, ORDER, None), at=at)

    def holds(self, name: str) -> tuple[int, int]:
        """(balance, locked) units."""
        units = self.units(self.note, name)
        return units.balance, units.locked

    def everything(self, *names: str) -> list[object]:
        """Cash and units of the accounts, to be compared before and after."""
        return [(self.figures(name), self.units(self.note, name)) for name in names]

    def nothing_is_open(self, *names: str) -> bool:
        """Whether the accounts have no open item and no lock, and nothing stands on the product."""
        for name in names:
            account = self.state.get(ACCOUNTS, self.ids[name])
            assert account is not None
            items, locks = self.state.scan(OPEN_ITEMS, self.ids[name]), self.state.scan(LOCKS, self.ids[name])
            if account.open_items or items or locks:
                return False
        return not self.state.scan(TRADING_OPEN, self.note)


def created(receipt: Receipt) -> bytes:
    """The id of the offer, request, quote or executed trade that a transaction made."""
    for event in receipt.events:
        match event:
            case OfferListed(offer=name) | QuoteSubmitted(quote=name) | RfqCreated(rfq=name):
                return name
            case TradeExecuted(trade=name):
                return name
    raise AssertionError(f"nothing created: {receipt.code}")
