"""A fake node whose ledger has a contract that two parties and an agent signed, and a trade that settled."""

from __future__ import annotations

from typing import Any

from otcnode.crypto import SigningKey, sha256
from otcnode.errors import Code
from otcnode.evidence.collect import collect
from otcnode.evidence.package import Kind, Package
from otcnode.genesis import KeyPurpose
from otcnode.types import Bytes32
from otcnode.vm.accounts.operations import EntrustAccept, EntrustGrant, InvestorCertify
from otcnode.vm.accounts.records import (
    HOLDINGS,
    HOLDINGS_BY_ACCOUNT,
    LOTS,
    Category,
    Holding,
    Lot,
    Powers,
)
from otcnode.vm.context import created_id
from otcnode.vm.contracts.operations import (
    ContractConfirm,
    ContractCreate,
    ContractRevise,
    ContractSign,
    ContractSubmit,
    NewSlot,
)
from otcnode.vm.contracts.preimages import contract_signature_preimage, document_commitment, terms_hash
from otcnode.vm.contracts.records import (
    ACCESSIONS,
    ContractKind,
    ContractStatus,
    Immediately,
    SlotRole,
    Term,
)
from otcnode.vm.keys import MARKER, integer
from otcnode.vm.products.records import ProductStatus, ProductType
from otcnode.vm.rules import Scope
from otcnode.vm.trades.operations import TradeAffirm, TradePropose
from otcnode.vm.trades.records import Side
from tests.rpc import items
from tests.rpc.fake import BANK, INVESTOR, ISSUER, KYC, OTHER, REGULATOR, START_MS, FakeNode, account_of, key_of

SIGN, MANAGE = KeyPurpose.SIGN, KeyPurpose.MANAGE
SALT, CONTENT = sha256(b"salt"), b"the prospectus"
TERMS = (Term("amount", 1_000_000), Term("law", "PRC"))
HOUR_MS = 3_600_000


class Story:
    def __init__(self) -> None:
        self.node = FakeNode()
        self.contract = self.trade = bytes(32)

    async def act(self, name: str, operation: Any, purpose: KeyPurpose = KeyPurpose.TRADE, **fields: Any) -> bytes:
        """One transaction in a block of its own; the id of what it created."""
        decoded = self.node.sign(name, operation, purpose=purpose, **fields)
        await self.node.submit([decoded.raw])
        state = self.node.transaction(decoded.id)
        assert state.code is Code.OK, state
        return created_id(decoded.id, 0)

    async def sign_a_contract(self) -> None:
        """ISSUER drafts and revises; INVESTOR is confirmed and signed for by OTHER, who was entrusted; two ISSUER keys.

        The validators change in the middle.
        """
        powers = Powers((Scope.CONFIRM, Scope.SIGN), None, None, None, 0, 0, START_MS, START_MS + HOUR_MS, SALT, False)
        mandate = await self.act(INVESTOR, EntrustGrant(account_of(OTHER), powers), MANAGE)
        await self.act(OTHER, EntrustAccept(mandate), MANAGE)
        acting = {"on_behalf_of": account_of(INVESTOR), "entrustment": mandate}
        document = document_commitment(SALT, CONTENT)
        slots = (
            NewSlot(account_of(ISSUER), SlotRole.SIGNER, 1, 1),
            NewSlot(account_of(INVESTOR), SlotRole.SIGNER, 0, 1),
            NewSlot(account_of(REGULATOR), SlotRole.APPROVER, 0, 0),
            NewSlot(account_of(BANK), SlotRole.CC, 0, 0),
        )
        draft = ContractCreate(
            kind=ContractKind.MASTER,
            open=False,
            subject=None,
            document=document,
            terms=TERMS[:1],
            terms_hash=terms_hash(TERMS[:1]),
            slots=slots,
            salesperson=None,
            confirm_by=START_MS + HOUR_MS,
            sign_by=START_MS + 2 * HOUR_MS,
            effective=Immediately(),
            required_fields=(),
            supersedes=None,
        )
        name = self.contract = await self.act(ISSUER, draft, SIGN)
        await self.act(ISSUER, ContractRevise(name, TERMS, terms_hash(TERMS), document), SIGN)
        await self.act(ISSUER, ContractSubmit(name), SIGN)
        joiner = SigningKey(sha256(b"joiner"))
        await self.node.commit(next_validators=[*self.node.validator_keys[:3], joiner])
        await self.node.commit()
        for slot, by, fields in ((0, ISSUER, {}), (1, OTHER, acting), (2, REGULATOR, {})):
            await self.act(by, ContractConfirm(name, slot, 2, terms_hash(TERMS)), SIGN, **fields)
        for slot, by, principal, fields in ((1, OTHER, INVESTOR, acting), (0, ISSUER, ISSUER, {})):
            message = contract_signature_preimage(
                chain=self.node.chain,
                contract=name,
                version=2,
                terms_hash=terms_hash(TERMS),
                document=document,
                slot=slot,
                principal=account_of(principal),
                entrustment=mandate if fields else None,
            )
            key = key_of(by, SIGN)
            await self.act(by, ContractSign(name, slot, 2, key.public, key.sign(message)), SIGN, **fields)

    async def settle_a_trade(self, settle_in_ms: int | None = None, *, by_agent: bool = False) -> None:
        """OTHER sells INVESTOR 10 units of a note, under a master contract both acceded to; at once, or later.

        With `by_agent` BANK affirms for INVESTOR.
        """
        node = self.node
        items.put_product(node, items.NOTE, ProductType.FIXED_NOTE, ProductStatus.ACTIVE)
        items.put_contract(node, items.MASTER, ContractKind.MASTER, ContractStatus.EFFECTIVE, open_=True)
        for name in (INVESTOR, OTHER):
            node.put(ACCESSIONS, items.MASTER + account_of(name), MARKER)
            await self.act(KYC, InvestorCertify(account_of(name), 5, Category.PROFESSIONAL, START_MS + 10**10, 1, SALT))
        seller = account_of(OTHER)
        node.put(HOLDINGS, items.NOTE + seller, Holding(100, 0, 0, (), 1, 1, integer(START_MS) + integer(0)))
        node.put(HOLDINGS_BY_ACCOUNT, seller + items.NOTE, MARKER)
        node.put(LOTS, seller + items.NOTE + integer(START_MS) + integer(0), Lot(100, 0))
        await node.submit([node.deposit(1_000_000_00, "for the trade").raw])
        settle_at = None if settle_in_ms is None else START_MS + settle_in_ms
        proposal = TradePropose(
            counterparty=account_of(INVESTOR),
            side=Side.SELL,
            product=items.NOTE,
            quantity=10,
            price=1_000_050,
            contract=items.MASTER,
            affirm_by=START_MS + (HOUR_MS if settle_in_ms is None else settle_in_ms),
            settle_at=settle_at,
        )
        self.trade = await self.act(OTHER, proposal)
        if by_agent:
            cap = 10**9
            powers = Powers((Scope.TRADE,), None, None, None, cap, cap, START_MS, START_MS + HOUR_MS, SALT, False)
            mandate = await self.act(INVESTOR, EntrustGrant(account_of(BANK), powers), MANAGE)
            await self.act(BANK, EntrustAccept(mandate), MANAGE)
            acting = {"on_behalf_of": account_of(INVESTOR), "entrustment": mandate}
            await self.act(BANK, TradeAffirm(self.trade), **acting)
        else:
            await self.act(INVESTOR, TradeAffirm(self.trade))
        if settle_in_ms is not None:
            await node.commit(step_ms=settle_in_ms)

    def package(self, kind: Kind, subject: Bytes32) -> Package:
        latest = self.node.state()
        return collect(self.node, kind, subject, latest.view, latest.height)
