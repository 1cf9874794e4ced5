"""The story: a note is agreed, issued, traded and paid, while a validator is killed and comes back."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from otcnode import ids
from otcnode.client.client import Client
from otcnode.client.errors import ClientError
from otcnode.demo.audit import check_invariants, compare_roots
from otcnode.demo.cast import CASH, INVESTORS, TRAFFIC, Actor
from otcnode.demo.stage import Stage, StoryError
from otcnode.errors import Code
from otcnode.evidence.verdict import Outcome as PackageOutcome
from otcnode.evidence.verify import verify as verify_package
from otcnode.genesis import ChainParameters, KeyPurpose
from otcnode.localnet import Cluster
from otcnode.vm.accounts.operations import (
    AccountApply,
    AccountFreeze,
    AccountReview,
    AccountUnfreeze,
    CashDeposit,
    EntrustAccept,
    EntrustGrant,
    EntrustRevoke,
    InvestorCertify,
    NewKey,
)
from otcnode.vm.accounts.records import AccountKind, Category, Powers, Scope, Thresholds
from otcnode.vm.arithmetic import DAY_MS, DayCount
from otcnode.vm.contracts.operations import (
    ContractAccede,
    ContractConfirm,
    ContractCreate,
    ContractSign,
    ContractSubmit,
    NewSlot,
)
from otcnode.vm.contracts.preimages import contract_signature_preimage, document_commitment, terms_hash
from otcnode.vm.contracts.records import ContractKind, Immediately, SlotRole, Term
from otcnode.vm.products.operations import (
    ProductCreate,
    ProductReview,
    ProductSubmit,
    ProductSubscribe,
    RedeemDecide,
    RedeemRequest,
    Verdict,
)
from otcnode.vm.products.records import CoolingOffRule, ProductTerms, ProductType, RedemptionRule
from otcnode.vm.trades.operations import Hit, QuoteRespond, QuoteSubmit, RfqCreate, TradeAffirm, TradePropose
from otcnode.vm.trades.records import Side

CLOCK_RATE = 28_800
"""A day in three seconds: fast enough for a story, slow enough that what must be done within a day can be."""
PARAMETERS = ChainParameters(max_transaction_ttl_ms=90 * DAY_MS, state_buckets=4_096)

OPEN_DAYS, VALUE_DAYS, COUPON_DAYS, MATURITY_DAYS = 6, 7, 8, 12
"""From the day of drafting to the close; to the value date; from there to the first coupon and to maturity."""
FACE = 10_000
PRICE = 1_000_000
OFFERED = 1_000
WISHES = {"ADA": 400, "BO": 350, "CHEN": 300, "DORA": 150}
TRAFFIC_SECONDS = 6.0


@dataclass(frozen=True)
class _Paper:
    """A contract that everybody has confirmed: what its signatures cover."""

    id: bytes
    terms: bytes
    document: bytes


class Figures(NamedTuple):
    """What an account holds: minor units of cash, units of the product."""

    cash: int
    units: int
    locked_cash: int
    locked_units: int


class Story:
    """`play` returns when everything has happened as told; anything else raises StoryError."""

    def __init__(self, cluster: Cluster, client: Client, actors: dict[str, Actor], console: Console) -> None:
        self._cluster = cluster
        self._actors = actors
        self._console = console
        self._stage = Stage(client, cluster.genesis, console)
        self._client = client
        self._references = 0

    async def play(self) -> None:
        self._client.identify(self._actors["REGULATOR"].account, self._actors["REGULATOR"].keys[KeyPurpose.TRADE])
        await self._accounts()
        issuance = await self._issuance_contract()
        product = await self._product(issuance)
        await self._subscriptions(product)
        await self._kill_the_primary()
        await self._establishment(product)
        rules = await self._market_rules()
        trade = await self._settled_trade(product, rules)
        await self._failed_trade(product, rules)
        await self._request_for_quotes(product, rules)
        await self._entrusted_trade(product, rules)
        await self._coupon(product)
        await self._redemption(product)
        await self._maturity(product)
        await self._evidence(issuance, trade)
        self._console.print()
        self._console.print(await self._table(product))

    # ---- chapters

    async def _accounts(self) -> None:
        stage, kyc = self._stage, self._actors["KYC"]
        stage.chapter("1  Accounts: four investors apply, are reviewed and certified; the bank credits deposits")
        for name in INVESTORS:
            investor = self._actors[name]
            investor.account = await stage.act(investor, f"{name} applies for an account", _application(investor))
        for name in INVESTORS:
            investor = self._actors[name]
            certify = InvestorCertify(
                account=investor.account,
                risk=4,
                category=Category.QUALIFIED,
                valid_until=stage.ledger_ms() + 900 * DAY_MS,
                ultimate_holders=1,
                evidence=bytes(32),
            )
            approve = AccountReview(investor.account, True, "identity verified")
            await stage.act(
                kyc, f"the KYC desk admits {name} and certifies risk 4, in one transaction", approve, certify
            )
        for name, units in (*WISHES.items(), ("ISSUER", 500)):
            amount = 3 * units * FACE // 2
            await stage.act(
                self._actors["BANK"], f"BANK credits {name} with {_money(amount)}", self._deposit(name, amount)
            )

    async def _issuance_contract(self) -> bytes:
        stage = self._stage
        stage.chapter("2  The issuance contract: three parties confirm one text and sign it in order")
        parties = ("ISSUER", "DEALER", "BANK")
        slots = [(name, SlotRole.SIGNER, order) for order, name in enumerate(parties, start=1)]
        terms = {"amount": "up to 100,000.00 CNY", "rate": "5.00 % ACT/365F", "paying agent": "Harbour Bank"}
        paper = await self._agree("ISSUER", ContractKind.ISSUANCE, None, terms, slots)
        await self._sign(paper, 2, "BANK", "BANK signs before its turn", refused=Code.SIGN_TURN)
        for slot, name in enumerate(parties):
            await self._sign(paper, slot, name, f"{name} signs the issuance contract")
        return paper.id

    async def _product(self, issuance: bytes) -> bytes:
        stage = self._stage
        stage.chapter("3  The product: drafted under the contract, reviewed by the listing desk, opened by the ledger")
        today = stage.ledger_ms() // DAY_MS
        value_date = today + VALUE_DAYS
        terms = ProductTerms(
            type=ProductType.FIXED_NOTE,
            cash=CASH,
            quantity_decimals=0,
            utc_offset_minutes=0,
            face=FACE,
            issue_price=PRICE,
            offered=OFFERED,
            min_raise=500,
            min_subscription=10,
            step=1,
            max_holders=200,
            risk=3,
            categories=(Category.QUALIFIED,),
            open=stage.ledger_ms() + DAY_MS // 2,
            close=(today + OPEN_DAYS) * DAY_MS,
            value_date=value_date,
            maturity=value_date + MATURITY_DAYS,
            rate_ppm=50_000,
            day_count=DayCount.ACT_365F,
            pay_dates=(value_date + COUPON_DAYS, value_date + MATURITY_DAYS),
            lockup_days=0,
            turnaround_days=0,
            subscription_fee_ppm=1_000,
            trade_fee_ppm=500,
            fee_payee=self._actors["DEALER"].account,
            min_allotment=0,
            cooling_off=CoolingOffRule(0, False),
            redemption=RedemptionRule(True, 10_000, 1),
            grace_days=5,
            documents=(),
            contract=issuance,
        )
        issuer = self._actors["ISSUER"]
        text = "ISSUER drafts NOTE-1: 1,000 units of 100.00 at 5 %"
        product = await stage.act(issuer, text, ProductCreate("NOTE-1", terms, None))
        await stage.act(issuer, "ISSUER submits it for review", ProductSubmit(product))
        approve = ProductReview(product, Verdict.APPROVE, "")
        await stage.act(self._actors["LISTING"], "the listing desk approves it", approve)
        await self._until_product(product, "OPEN", "the ledger opens NOTE-1 at its time")
        return product

    async def _subscriptions(self, product: bytes) -> None:
        stage = self._stage
        stage.chapter("4  Four investors sign their contracts and ask for 1,200 of 1,000 units")
        for name, units in WISHES.items():
            slots = [("ISSUER", SlotRole.SIGNER, 1), (name, SlotRole.SIGNER, 1)]
            paper = await self._agree(name, ContractKind.SUBSCRIPTION, product, {"product": "NOTE-1"}, slots)
            await self._sign(paper, 0, "ISSUER", f"ISSUER signs the subscription contract of {name}")
            await self._sign(paper, 1, name, f"{name} signs it; it is effective")
            subscribe = ProductSubscribe(product, units, paper.id)
            await stage.act(
                self._actors[name], f"{name} subscribes for {units} units; the money stays, locked", subscribe
            )

    async def _kill_the_primary(self) -> None:
        stage = self._stage
        stage.chapter("5  The primary is killed under traffic")
        status = await self._client.status()
        validators = sorted(member.id for member in self._cluster.members)
        victim = self._cluster.member_of(validators[status.view % len(validators)])
        traffic = asyncio.create_task(self._traffic())
        await asyncio.sleep(1.0)
        height = (await self._client.status()).height
        self._cluster.kill(victim.name)
        killed = time.perf_counter()
        stage.say(f"kill -9 {victim.name}, the primary of view {status.view}, at height {height}")
        alone = len(self._cluster.members) == 1
        if alone:
            self._cluster.start(victim.name)
        await stage.until(
            "the chain goes on without it" if not alone else "it is back", self._height, lambda h: h > height + 1, 60
        )
        stage.say(f"the next blocks came {time.perf_counter() - killed:.1f} s after the kill")
        if not alone:
            self._cluster.start(victim.name)
        text = f"{victim.name} is started again and catches up"
        await stage.until(text, lambda: self._height_of(victim.url), lambda h: h >= height + 1, 60)
        sent, final = await traffic
        if sent != final:
            raise StoryError(f"{final} of {sent} transactions sent meanwhile became final")
        stage.say(f"{final} transactions were sent meanwhile, and all of them are final, each once")

    async def _establishment(self, product: bytes) -> None:
        stage = self._stage
        stage.chapter("6  The ledger closes, allots pro rata and establishes NOTE-1 by itself")
        await self._until_product(product, "ACTIVE", "closed, allotted and established at the value date")
        for name in INVESTORS:
            units = await self._units(name, product)
            stage.say(f"{name:<5} asked for {WISHES[name]:>3} and holds {units:>3} units")

    async def _market_rules(self) -> bytes:
        stage = self._stage
        stage.chapter("7  Market rules, which everybody who trades accedes to")
        slots = [("DEALER", SlotRole.SIGNER, 1)]
        terms = {"rules": "delivery versus payment, gross"}
        paper = await self._agree("DEALER", ContractKind.MASTER, None, terms, slots, is_open=True)
        await self._sign(paper, 0, "DEALER", "DEALER signs the market rules")
        for name in INVESTORS:
            await stage.act(self._actors[name], f"{name} accedes", ContractAccede(paper.id))
        return paper.id

    async def _settled_trade(self, product: bytes, rules: bytes) -> bytes:
        stage = self._stage
        stage.chapter("8  A negotiated trade, settled delivery versus payment")
        trade = await self._propose(product, rules, "BO", "ADA", 100, settle_at=None)
        await stage.act(
            self._actors["ADA"], "ADA affirms; units and money change hands in the same step", TradeAffirm(trade)
        )
        for name in ("ADA", "BO"):
            stage.say(f"{name:<5} holds {await self._units(name, product):>3} units")
        return trade

    async def _failed_trade(self, product: bytes, rules: bytes) -> None:
        stage, regulator = self._stage, self._actors["REGULATOR"]
        stage.chapter("9  A trade that must fail: the seller is frozen before it settles")
        settle_at = (stage.ledger_ms() // DAY_MS + 3) * DAY_MS
        trade = await self._propose(product, rules, "CHEN", "DORA", 50, settle_at=settle_at)
        await stage.act(self._actors["DORA"], "DORA affirms; both legs are locked until settlement", TradeAffirm(trade))
        freeze_operation = AccountFreeze(self._actors["CHEN"].account, None, 0, bytes(32), None)
        freeze = await stage.act(regulator, "REGULATOR freezes CHEN", freeze_operation)
        before = [await self._figures(name, product) for name in ("CHEN", "DORA")]
        if not (before[0].locked_units and before[1].locked_cash):
            raise StoryError(f"an affirmed trade must lock both legs: {before}")

        async def both() -> list[Figures]:
            return [await self._figures(name, product) for name in ("CHEN", "DORA")]

        def released(seen: list[Figures]) -> bool:
            return not any(figures.locked_cash or figures.locked_units for figures in seen)

        after = await stage.until("settlement fails at its time: the seller is frozen", both, released, 60)
        if any((old.cash, old.units) != (new.cash, new.units) for old, new in zip(before, after, strict=True)):
            raise StoryError(f"a failed trade moved something: {before} {after}")
        stage.say("nothing moved, and both locks are released")
        await stage.act(regulator, "REGULATOR lifts the freeze", AccountUnfreeze(freeze, bytes(32)))

    async def _coupon(self, product: bytes) -> None:
        stage = self._stage
        stage.chapter("12 The coupon is paid by the ledger on its date")
        before = {name: (await self._figures(name, product)).cash for name in (*INVESTORS, "ISSUER")}

        async def cash_of_issuer() -> int:
            return (await self._figures("ISSUER", product)).cash

        await stage.until(
            f"{COUPON_DAYS} days of 5 % on every unit", cash_of_issuer, lambda cash: cash < before["ISSUER"], 120
        )
        received = 0
        for name in INVESTORS:
            gain = (await self._figures(name, product)).cash - before[name]
            received += gain
            stage.say(f"{name:<5} receives {_money(gain):>8}")
        paid = before["ISSUER"] - await cash_of_issuer()
        if paid != received:
            raise StoryError(f"the issuer paid {paid}, the holders received {received}")
        stage.say(f"ISSUER pays {_money(paid):>8}, exactly the sum")

    async def _request_for_quotes(self, product: bytes, rules: bytes) -> None:
        stage = self._stage
        stage.chapter("10 A request for quotes: two answer, the better one is hit, the other never shows")
        now = stage.ledger_ms()
        bo, chen = self._actors["BO"], self._actors["CHEN"]
        responders = tuple(sorted((bo.account, chen.account)))
        create = RfqCreate(Side.BUY, product, 30, rules, responders, now + 2 * DAY_MS, None)
        rfq = await stage.act(self._actors["ADA"], "ADA asks BO and CHEN for 30 units", create)
        quotes = {}
        for actor, price in ((bo, 1_004_000), (chen, 1_006_000)):
            submit = QuoteSubmit(rfq, True, price, None, 0, now + 2 * DAY_MS)
            text = f"{actor.name} quotes {price / 10_000:.2f}, firm: its units are locked"
            quotes[actor.name] = await stage.act(actor, text, submit)
        hit = QuoteRespond(quotes["BO"], Hit(30, None))
        await stage.act(self._actors["ADA"], "ADA hits BO; CHEN's quote is the cover and is released", hit)
        if (await self._figures("CHEN", product)).locked_units:
            raise StoryError("the quote that was not hit is still locked")

    async def _entrusted_trade(self, product: bytes, rules: bytes) -> None:
        stage, dora, dealer = self._stage, self._actors["DORA"], self._actors["DEALER"]
        stage.chapter("11 An entrustment: DEALER may sell for DORA, within scope, price and cap")
        now = stage.ledger_ms()
        powers = Powers(
            scopes=(Scope.TRADE,),
            products=(product,),
            min_price=1_000_000,
            max_price=None,
            per_action_cap=100_000,
            total_cap=100_000,
            valid_from=now,
            until=now + 60 * DAY_MS,
            document=bytes(32),
            allow_self_dealing=False,
        )
        entrustment = await stage.act(dora, "DORA entrusts DEALER", EntrustGrant(dealer.account, powers))
        await stage.act(dealer, "DEALER accepts", EntrustAccept(entrustment))
        for price, refused in ((999_900, Code.ENTRUST_SCOPE), (1_003_000, None)):
            propose = TradePropose(
                counterparty=self._actors["BO"].account,
                side=Side.SELL,
                product=product,
                quantity=10,
                price=price,
                contract=rules,
                affirm_by=stage.ledger_ms() + DAY_MS,
                settle_at=None,
            )
            text = f"DEALER offers BO 10 of DORA's units at {price / 10_000:.2f}"
            trade = await stage.act(
                dealer, text, propose, refused=refused, on_behalf_of=dora.account, entrustment=entrustment
            )
        await stage.act(
            self._actors["BO"], "BO affirms; the units come from DORA, the money goes to DORA", TradeAffirm(trade)
        )
        await stage.act(dora, "DORA revokes the entrustment; what was done stands", EntrustRevoke(entrustment))

    async def _redemption(self, product: bytes) -> None:
        stage, issuer = self._stage, self._actors["ISSUER"]
        stage.chapter("13 An early redemption, after a day's notice and with a penalty of 1 %")
        request = RedeemRequest(product, 20, stage.ledger_ms() + 3 * DAY_MS)
        redemption = await stage.act(self._actors["ADA"], "ADA asks to redeem 20 units; they are locked", request)
        early = RedeemDecide(redemption, True, "")
        await stage.act(issuer, "ISSUER pays before the notice is over", early, refused=Code.STATE)
        await asyncio.sleep(1.5 * DAY_MS / CLOCK_RATE / 1000)
        before = (await self._figures("ADA", product)).cash
        await stage.act(issuer, "ISSUER pays; the units are burnt", early)
        stage.say(f"ADA   receives {_money((await self._figures('ADA', product)).cash - before):>9}")

    async def _maturity(self, product: bytes) -> None:
        stage = self._stage
        stage.chapter("14 Maturity: the last coupon and the principal, at once and to the minor unit")
        before = {name: (await self._figures(name, product)).cash for name in INVESTORS}
        await self._until_product(product, "MATURED", "the note is paid and its units are gone")
        for name in INVESTORS:
            held = await self._figures(name, product)
            if held.units:
                raise StoryError(f"{name} still holds {held.units} units of a matured note")
            stage.say(f"{name:<5} receives {_money(held.cash - before[name]):>9}")

    # ---- pieces

    async def _evidence(self, issuance: bytes, trade: bytes) -> None:
        """The files are checked here by the same function as `otcnode verify package` uses."""
        stage, client = self._stage, self._client
        stage.chapter("15 Evidence for whoever was not there: nothing but the genesis hash is believed")
        folder = self._cluster.directory / "evidence"
        folder.mkdir(exist_ok=True)
        for name, raw in (
            ("issuance-contract", await client.contract_evidence(issuance)),
            ("settled-trade", await client.trade_evidence(trade)),
        ):
            file = folder / f"{name}.evidence"
            file.write_bytes(raw)
            verdict = verify_package(raw, client.chain)
            if verdict.outcome is not PackageOutcome.OK:
                raise StoryError(f"{file}: {verdict.outcome} {verdict.detail}")
            stage.say(f"{file.name}: {len(raw):,} bytes, {verdict.outcome}")
        stage.say(f"otcnode verify package {file} --chain {client.chain.hex()}")

    async def _agree(
        self,
        creator: str,
        kind: ContractKind,
        subject: bytes | None,
        terms: dict[str, str],
        slots: list[tuple[str, SlotRole, int]],
        *,
        is_open: bool = False,
    ) -> _Paper:
        """Draft, submit and have confirmed by every party."""
        stage = self._stage
        listed = tuple(Term(name, value) for name, value in sorted(terms.items()))
        document = document_commitment(bytes(32), f"{kind.value} {terms}".encode())
        now = stage.ledger_ms()
        create = ContractCreate(
            kind=kind,
            open=is_open,
            subject=subject,
            document=document,
            terms=listed,
            terms_hash=terms_hash(listed),
            slots=tuple(NewSlot(self._actors[name].account, role, order, 1) for name, role, order in slots),
            salesperson=None,
            confirm_by=now + 30 * DAY_MS,
            sign_by=now + 60 * DAY_MS,
            effective=Immediately(),
            required_fields=tuple(sorted(terms)),
            supersedes=None,
        )
        what = kind.value.lower()
        contract = await stage.act(self._actors[creator], f"{creator} drafts the {what} contract", create)
        paper = _Paper(contract, create.terms_hash, document)
        await stage.act(self._actors[creator], f"{creator} submits the text to the parties", ContractSubmit(contract))
        for slot, (name, _, _) in enumerate(slots):
            confirm = ContractConfirm(contract, slot, 1, paper.terms)
            await stage.act(self._actors[name], f"{name} confirms version 1", confirm)
        return paper

    async def _sign(self, paper: _Paper, slot: int, name: str, text: str, refused: Code | None = None) -> None:
        actor = self._actors[name]
        key = actor.keys[KeyPurpose.SIGN]
        message = contract_signature_preimage(
            chain=self._client.chain,
            contract=paper.id,
            version=1,
            terms_hash=paper.terms,
            document=paper.document,
            slot=slot,
            principal=actor.account,
        )
        sign = ContractSign(paper.id, slot, 1, key.public, key.sign(message))
        await self._stage.act(actor, text, sign, refused=refused)

    def _deposit(self, name: str, amount: int) -> CashDeposit:
        self._references += 1
        return CashDeposit(self._actors[name].account, CASH, amount, f"HB-{self._references:06}")

    async def _traffic(self) -> tuple[int, int]:
        """One small deposit after another; (sent, final)."""
        bank = self._actors["BANK"]
        sent = final = 0
        until = time.perf_counter() + TRAFFIC_SECONDS
        while time.perf_counter() < until:
            body = self._client.build(bank.account, [self._deposit(TRAFFIC, 100)])
            sent += 1
            await self._client.execute(self._client.sign(body, [bank.keys[KeyPurpose.TRADE]]))
            final += 1
        return sent, final

    async def _height(self) -> int:
        return (await self._client.status()).height

    async def _height_of(self, url: str) -> int:
        try:
            async with Client([url], self._cluster.genesis) as client:
                return (await client.status()).height
        except ClientError:
            return -1

    async def _until_product(self, product: bytes, status: str, text: str) -> None:
        async def look() -> Any:
            return await self._client.call("product_get", {"product": ids.show(ids.Prefix.PRODUCT, product)}, dict)

        await self._stage.until(text, look, lambda seen: seen["product"]["product"]["status"] == status, 120)

    async def _propose(
        self, product: bytes, rules: bytes, seller: str, buyer: str, units: int, settle_at: int | None
    ) -> bytes:
        now = self._stage.ledger_ms()
        propose = TradePropose(
            counterparty=self._actors[buyer].account,
            side=Side.SELL,
            product=product,
            quantity=units,
            price=1_005_000,
            contract=rules,
            affirm_by=now + DAY_MS if settle_at is None else settle_at,
            settle_at=settle_at,
        )
        when = "now" if settle_at is None else "in some days"
        text = f"{seller} offers {buyer} {units} units at 100.50, to settle {when}"
        return await self._stage.act(self._actors[seller], text, propose)

    async def _figures(self, name: str, product: bytes) -> Figures:
        positions = await self._client.positions(self._actors[name].account)
        cash = {entry.cash: entry for entry in positions.cash}.get(CASH)
        units = {entry.product: entry for entry in positions.products}.get(ids.show(ids.Prefix.PRODUCT, product))
        return Figures(
            int(cash.balance) if cash else 0,
            int(units.balance) if units else 0,
            int(cash.locked) if cash else 0,
            int(units.locked) if units else 0,
        )

    async def _units(self, name: str, product: bytes) -> int:
        return (await self._figures(name, product)).units

    async def _table(self, product: bytes) -> Table:
        """What everybody holds at the end."""
        table = Table("account", "cash CNY", "locked", "units", "locked", title="Balances")
        for name in (*INVESTORS, "ISSUER", "DEALER", "BANK", TRAFFIC):
            held = await self._figures(name, product)
            table.add_row(name, _money(held.cash), _money(held.locked_cash), str(held.units), str(held.locked_units))
        return table


def play(cluster: Cluster, actors: dict[str, Actor], console: Console) -> bool:
    """Play the story on a running cluster and audit its end; False, and why on the console, if it went otherwise."""

    async def perform() -> None:
        async with Client(cluster.urls, cluster.genesis) as client:
            await Story(cluster, client, actors, console).play()
        await compare_roots(cluster, console)

    started = time.perf_counter()
    try:
        asyncio.run(perform())
        last = cluster.members[-1]
        console.print("\n[bold]Audit of a stopped node[/bold]")
        cluster.stop(last.name)
        check_invariants(cluster, last, console)
        cluster.start(last.name)
        cluster.wait_ready([last.name])
    except (StoryError, ClientError) as error:
        console.print(f"\n[red]The story went otherwise:[/red] {error}")
        return False
    console.print(f"\nThe story took {time.perf_counter() - started:.0f} s.")
    return True


def _application(investor: Actor) -> AccountApply:
    keys = tuple(NewKey(purpose, key.public) for purpose, key in sorted(investor.keys.items()))
    return AccountApply(AccountKind.PERSON, bytes(32), keys, bytes(32), Thresholds(1, 1, 1), 1)


def _money(minor: int) -> str:
    return f"{Decimal(minor) / 100:,.2f}"
