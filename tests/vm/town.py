"""A ledger on which every operation there is can be done next: one valid example of each, all on one state."""

from __future__ import annotations

from typing import Any

from otcnode.crypto import sha256
from otcnode.genesis import KeyPurpose
from otcnode.vm.accounts import operations as accounts
from otcnode.vm.accounts.events import AccountFrozen, RecoveryChanged, WithdrawalChanged
from otcnode.vm.accounts.records import CASH_ASSETS, AccountKind, CashAsset, Category, NewKey, Thresholds
from otcnode.vm.accounts.totals import note_total
from otcnode.vm.contracts import operations as contracts
from otcnode.vm.contracts.events import ContractCreated
from otcnode.vm.contracts.preimages import terms_hash
from otcnode.vm.contracts.records import ContractKind, CoolingOff, Immediately, SlotRole, Term
from otcnode.vm.documents import operations as documents
from otcnode.vm.governance import operations as governance
from otcnode.vm.governance.records import CashCorrect, Direction
from otcnode.vm.governance.validators import rotation_preimage
from otcnode.vm.operations import Operation
from otcnode.vm.products import operations as products
from otcnode.vm.products.operations import Verdict
from otcnode.vm.trades import operations as trades
from tests.vm.governance.council import PAPER, Council
from tests.vm.ledger import CASH, DAY_MS, EVIDENCE, key_of
from tests.vm.products.market import DOCUMENT, TEXT
from tests.vm.trades.floor import ORDER

NODE = "v"
"""A node, which acts by itself and has no account."""
STOPPED = "EUR@BANK"
"""Its deposits are stopped."""
MANAGE, SIGN, TRADE = KeyPurpose.MANAGE, KeyPurpose.SIGN, KeyPurpose.TRADE


def keys_of(name: str) -> tuple[NewKey, ...]:
    return tuple(NewKey(purpose, key_of(name, purpose).public) for purpose in KeyPurpose)


class Town(Council):
    """`examples` names, per operation, who does it and with what."""

    def __init__(self) -> None:
        super().__init__(rate_ppm=50_000, trade_fee_ppm=1_000)
        for name in ("EVE", "LEA", "IDA"):
            self.investor(name, 0 if name == "IDA" else 90_000_00)
        self.requested = self.request(self.note, "SAM", 1, self.now + 9 * DAY_MS)
        self.block(at=self.redemption(self.requested).payable_from)
        self.pending = self.apply_for("NEW")
        self.examples: dict[type, tuple[str, Operation]] = {}
        self._accounts()
        self._contracts()
        self._products()
        self._trades()
        self._documents()
        self._governance()

    def can(self, by: str, operation: Operation) -> None:
        assert type(operation) not in self.examples
        self.examples[type(operation)] = (by, operation)

    def _accounts(self) -> None:
        ids = self.ids
        fresh = sha256(b"fresh")
        apply = accounts.AccountApply(AccountKind.PERSON, EVIDENCE, keys_of("MAX"), bytes(32), Thresholds(1, 1, 1), 1)
        self.can("MAX", apply)
        self.can("KYC", accounts.AccountReview(self.pending, True, ""))
        until = self.now + 300 * DAY_MS
        certificate = accounts.InvestorCertify(ids["BEN"], 3, Category.QUALIFIED, until, 1, EVIDENCE)
        self.can("KYC", certificate)
        self.can("FRZ", accounts.AccountFreeze(ids["LEA"], CASH.encode(), 1, ORDER, self.now + DAY_MS))
        frozen = self.act("REG", accounts.AccountFreeze(ids["LEA"], CASH.encode(), 2, ORDER, None))
        (freeze,) = [event.freeze for event in frozen.events if isinstance(event, AccountFrozen)]
        self.can("REG", accounts.AccountUnfreeze(freeze, ORDER))
        self.can("LEA", accounts.KeyAdd(SIGN, fresh))
        self.act("LEA", accounts.KeyAdd(SIGN, sha256(b"spare")), purpose=MANAGE)
        self.can("LEA", accounts.KeyRevoke(sha256(b"spare")))
        self.can("LEA", accounts.KeyRotate(sha256(b"spare"), fresh))
        self.can("BANK", accounts.CashDeposit(ids["BEN"], CASH, 1, "new"))
        self.can("BEN", accounts.CashWithdraw(CASH, 1, EVIDENCE))
        self.can("BEN", accounts.CashWithdrawCancel(self._withdrawal()))
        self.can("BANK", accounts.CashWithdrawResult(self._withdrawal(), True, "paid", ""))
        self.can("BEN", accounts.EntrustGrant(ids["AGT"], self.powers()))
        self.can("AGT", accounts.EntrustAccept(self.grant()))
        self.can("AGT", accounts.EntrustDecline(self.grant()))
        self.can("BEN", accounts.EntrustRevoke(self.entrusted()))
        proposal = accounts.AccountRecover(ids["LEA"], keys_of("LEA'"), Thresholds(1, 1, 1), bytes(32), EVIDENCE)
        self.can("RCV", proposal)
        self.can("REG", accounts.AccountRecoverApprove(self._recovery("EVE")))
        self.investor("LOST")
        self.act("REG", accounts.AccountRecoverApprove(self._recovery("LOST")))
        self.can("LOST", accounts.AccountObject())
        self.can("IDA", accounts.AccountClose(ids["IDA"]))
        self.can("BANK", accounts.CustodyAttest(CASH, self.height, 0, EVIDENCE))

    def _withdrawal(self) -> bytes:
        receipt = self.act("BEN", accounts.CashWithdraw(CASH, 5, EVIDENCE))
        (name,) = [event.withdrawal for event in receipt.events if isinstance(event, WithdrawalChanged)]
        return name

    def _recovery(self, of: str) -> bytes:
        proposal = accounts.AccountRecover(self.ids[of], keys_of(of + "'"), Thresholds(1, 1, 1), bytes(32), EVIDENCE)
        receipt = self.act("RCV", proposal)
        return next(event.recovery for event in receipt.events if isinstance(event, RecoveryChanged))

    def _contracts(self) -> None:
        creation = self._creation()
        self.can("SAM", creation)
        text = (Term("purpose", "another"),)
        draft = self._contract(creation)
        self.can("SAM", contracts.ContractRevise(draft, text, terms_hash(text), DOCUMENT))
        self.can("SAM", contracts.ContractSubmit(draft))
        self.can("SAM", contracts.ContractVoid(draft, "no"))
        confirming = self._contract(creation)
        self.act("SAM", contracts.ContractSubmit(confirming), purpose=SIGN)
        self.can("BEN", contracts.ContractConfirm(confirming, 1, 1, creation.terms_hash))
        self.can("BEN", contracts.ContractReject(confirming, "no"))
        signing = self._contract(creation)
        self.act("SAM", contracts.ContractSubmit(signing), purpose=SIGN)
        for slot, party in enumerate(("SAM", "BEN")):
            self.act(party, contracts.ContractConfirm(signing, slot, 1, creation.terms_hash), purpose=SIGN)
        self.can("SAM", self.signature(signing, 0, "SAM"))
        cooling = self.contract(ContractKind.SUBSCRIPTION, self.note, ("ISS", "BEN"), CoolingOff(DAY_MS, True))
        self.can("BEN", contracts.ContractRescind(cooling))
        old = self.contract(ContractKind.SUBSCRIPTION, self.note, ("ISS", "BEN"), CoolingOff(0, True))
        self.can("CALL", contracts.ContractCallback(old, EVIDENCE))
        self.can("EVE", contracts.ContractAccede(self.contract(ContractKind.MASTER, None, ("SAM", "BEN"), open=True)))

    def _creation(self) -> contracts.ContractCreate:
        slots = tuple(contracts.NewSlot(self.ids[name], SlotRole.SIGNER, 0, 1) for name in ("SAM", "BEN"))
        return contracts.ContractCreate(
            kind=ContractKind.AMENDMENT,
            open=False,
            subject=None,
            document=DOCUMENT,
            terms=TEXT,
            terms_hash=terms_hash(TEXT),
            slots=slots,
            salesperson=self.ids["EVE"],
            confirm_by=self.now + DAY_MS,
            sign_by=self.now + 2 * DAY_MS,
            effective=Immediately(),
            required_fields=("purpose",),
            supersedes=self.contract(ContractKind.MASTER, None, ("SAM", "BEN")),
        )

    def _contract(self, creation: contracts.ContractCreate) -> bytes:
        receipt = self.act("SAM", creation, purpose=SIGN)
        (name,) = [event.contract for event in receipt.events if isinstance(event, ContractCreated)]
        return name

    def soon(self, **changes: Any) -> dict[str, Any]:
        """Terms of a product that opens now."""
        today = self.product_terms(self.note).date_of(self.now)
        return {
            "open": self.now,
            "close": self.now + DAY_MS,
            "value_date": today + 3,
            "pay_dates": (today + 9, today + 30),
            "maturity": today + 30,
            "documents": (EVIDENCE,),
        } | changes

    def _products(self) -> None:
        self.can("ISS", products.ProductCreate("X-1", self.terms(**self.soon()), self.draft("X-0", **self.soon())))
        draft = self.draft("X-2", **self.soon())
        self.can("ISS", products.ProductSubmit(draft))
        self.can("ISS", products.ProductCancel(draft, "no"))
        review = self.draft("X-3", **self.soon())
        self.act("ISS", products.ProductSubmit(review))
        self.can("LIST", products.ProductReview(review, Verdict.APPROVE, ""))
        self.can("LIST", products.ProductSuspend(self.note, "rumours"))
        suspended = self.opened("X-4", **self.soon())
        self.act("LIST", products.ProductSuspend(suspended, "rumours"))
        self.can("LIST", products.ProductResume(suspended, "answered"))
        self.can("ISS", products.DisclosurePost(self.note, "news", EVIDENCE))
        opened = self.opened("X-5", **self.soon())
        contract = self.subscription_contract(opened, "LEA")
        self.can("LEA", products.ProductSubscribe(opened, 1, contract))
        self.can("EVE", products.ProductCancelSubscription(self.subscribe(opened, "EVE", 1)))
        self.can("SAM", products.RedeemRequest(self.note, 1, self.now + 9 * DAY_MS))
        self.can("ISS", products.RedeemDecide(self.requested, True, ""))

    def _trades(self) -> None:
        self.can("SAM", self.proposal())
        proposed = self.propose()
        self.can("BEN", trades.TradeAffirm(proposed))
        self.can("BEN", trades.TradeReject(proposed))
        self.can("SAM", trades.TradeWithdraw(proposed))
        self.can("SAM", trades.TradeCancel(self.locked()))
        self.can("SAM", self.offering(quantity=20, whitelist=self.named("BEN", "EVE")))
        offer = self.list_offer(quantity=20)
        self.can("BEN", trades.OfferTake(offer, 5))
        self.can("SAM", trades.OfferCancel(offer))
        self.can("BEN", self.asking(settle_at=self.now + DAY_MS))
        asked = self.ask()
        self.can("BEN", trades.RfqCancel(asked))
        self.can("OWN", self.quoting(asked))
        quote = self.submit("OWN", self.ask())
        self.can("OWN", trades.QuoteCancel(quote))
        self.can("BEN", trades.QuoteRespond(quote, trades.Hit(20, None)))

    def _documents(self) -> None:
        filing = documents.DocumentFile(EVIDENCE, 100, EVIDENCE, (self.ids["BEN"],), EVIDENCE)
        self.can("OWN", filing)
        kept = sha256(b"sealed")
        self.act("OWN", documents.DocumentFile(kept, 100, EVIDENCE, (self.ids["BEN"],), None))
        self.can("OWN", documents.DocumentWithdraw(kept))

    def _governance(self) -> None:
        action = CashCorrect(self.ids["BEN"], CASH, 1, Direction.LOWER)
        self.can("REG", governance.GovernancePropose(action, "why", PAPER))
        self.can("RCV", governance.GovernanceApprove(self.put_forward(action)))
        self.can("REG", governance.AccessLog(EVIDENCE, "why", PAPER))
        node, successor = key_of(NODE), key_of("successor")
        self.can(NODE, governance.ValidatorReady(node.public, self.height))
        self.can(NODE, governance.EvidencePost(node.public, bytes(32), "double COMMIT", 1, 0, 1, b"checked before"))
        consent = successor.sign(rotation_preimage(self.chain, node.public, successor.public))
        self.can(NODE, governance.ValidatorRotate(node.public, successor.public, "v2", "", consent))
        state = self.state
        state.put(CASH_ASSETS, STOPPED.encode(), CashAsset(self.ids["BANK"], 2, 1, 0, 0, 0, 0, 0, 0, 0, True))
        note_total(state, STOPPED, 0, 0, 0)
        self.view.write(state.writes())
        self.can("REG", accounts.CustodyResume(STOPPED, EVIDENCE))
