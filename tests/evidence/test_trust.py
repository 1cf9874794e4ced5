"""What a client believes: certificates and proofs from the genesis on, whatever a node says."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from otcnode import merkle
from otcnode.blocks import Certificate, Entry, Header, block_hash
from otcnode.codec import decode, encode
from otcnode.crypto import SigningKey
from otcnode.errors import ProofError
from otcnode.evidence.package import Leaf
from otcnode.evidence.trust import TrustedChain
from otcnode.vm.results import Receipt
from tests.rpc.fake import FakeNode


async def chain_of(node: FakeNode, heights: int) -> TrustedChain:
    node.automatic = False
    for place in range(heights):
        await node.submit([node.deposit(1, f"r{place}").raw])
        await node.commit()
    return TrustedChain(node.genesis)


async def test_a_certified_header_is_believed() -> None:
    node = FakeNode()
    trust = await chain_of(node, 1)
    assert trust.header(encode(node.header(1)), encode(node.certificate(1))) == node.header(1)


async def test_a_header_or_certificate_of_anything_else_is_not() -> None:
    node = FakeNode()
    trust = await chain_of(node, 2)
    header, certificate = node.header(1), node.certificate(1)
    signature = certificate.signatures[0]
    forged = replace(signature, signature=bytes(64))
    liars: list[tuple[Header, Certificate]] = [
        (header, node.certificate(2)),
        (replace(header, state_root=bytes(32)), certificate),
        (header, replace(certificate, signatures=certificate.signatures[:2])),
        (header, replace(certificate, signatures=(signature, signature, certificate.signatures[1]))),
        (header, replace(certificate, signatures=(forged, *certificate.signatures[1:]))),
        (header, replace(certificate, view=1)),
        (header, replace(certificate, epoch=2)),
        (header, replace(certificate, height=2)),
        (replace(header, chain=bytes(32)), certificate),
        (replace(header, height=0), replace(certificate, height=0)),
    ]
    for wrong_header, wrong_certificate in liars:
        with pytest.raises(ProofError):
            trust.header(encode(wrong_header), encode(wrong_certificate))
    for raw in (b"", b"\x90", encode(header) + b"\x00"):
        with pytest.raises(ProofError):
            trust.header(raw, encode(certificate))
        with pytest.raises(ProofError):
            trust.header(encode(header), raw)


async def test_validators_made_up_by_a_node_are_not_believed() -> None:
    node, liar = FakeNode(), FakeNode()
    trust = await chain_of(node, 1)
    liar.validator_keys = sorted((SigningKey(bytes([place]) * 32) for place in range(4)), key=lambda key: key.public)
    liar._epochs = [replace(liar.epochs()[0], validators=tuple(key.public for key in liar.validator_keys))]
    await liar.commit()
    with pytest.raises(ProofError, match="other validators"):
        trust.header(encode(liar.header(1)), encode(liar.certificate(1)))


async def test_a_transaction_and_its_receipt_are_believed_only_in_their_places() -> None:
    node = FakeNode(automatic=False)
    deposits = [node.deposit(1, f"r{place}") for place in range(3)]
    await node.submit([deposit.raw for deposit in deposits])
    await node.commit()
    trust = TrustedChain(node.genesis)
    header, certificate = encode(node.header(1)), encode(node.certificate(1))
    receipts = node.receipts(1).transactions
    entries = [Entry(deposit.id, deposit.full_hash) for deposit in deposits]
    names = [entry.id + entry.full_hash for entry in entries]
    places = [Leaf(index, 3, merkle.path(names, index)) for index in range(3)]
    outcomes = [Leaf(index, 3, merkle.path(receipts, index)) for index in range(3)]
    for index in range(3):
        shown = trust.transaction(header, certificate, entries[index], places[index], receipts[index], outcomes[index])
        assert shown == (node.header(1), decode(Receipt, receipts[index]))
    true = (entries[1], places[1], receipts[1], outcomes[1])
    for position, wrong in [
        (0, Entry(deposits[1].id, bytes(32))),
        (0, Entry(bytes(32), deposits[1].full_hash)),
        (0, entries[0]),
        (1, places[0]),
        (1, replace(places[1], path=())),
        (1, replace(places[1], index=2)),
        (1, replace(places[1], count=4)),
        (2, receipts[0]),
        (2, receipts[1] + b"\x00"),
        (3, outcomes[0]),
        (3, replace(outcomes[1], index=-1)),
        (3, replace(outcomes[1], path=(bytes(32), *outcomes[1].path[1:]))),
    ]:
        shown_falsely: Any = [*true]
        shown_falsely[position] = wrong
        with pytest.raises(ProofError):
            trust.transaction(header, certificate, *shown_falsely)
    with pytest.raises(ProofError, match="another transaction"):
        trust.transaction(header, certificate, entries[0], places[0], receipts[1], outcomes[1])


async def test_a_new_epoch_is_learnt_from_the_header_before_it() -> None:
    node = FakeNode()
    trust = await chain_of(node, 1)
    joiners = [SigningKey(bytes([place]) * 32) for place in range(1, 6)]
    await node.commit(next_validators=joiners)
    await node.commit()
    new = encode(node.header(3)), encode(node.certificate(3))
    with pytest.raises(ProofError):
        trust.header(*new)
    epoch = node.epochs()[1]
    before = encode(node.header(2)), encode(node.certificate(2))
    for wrong, proof in (
        (replace(epoch, validators=epoch.validators[:-1]), before),
        (replace(epoch, validators=epoch.validators[::-1]), before),
        (replace(epoch, number=2), before),
        (replace(epoch, number=4), before),
        (replace(epoch, parameters=replace(epoch.parameters, window=9)), before),
        (epoch, (encode(node.header(1)), encode(node.certificate(1)))),
        (epoch, new),
    ):
        with pytest.raises(ProofError):
            trust.extend(wrong, *proof)
    trust.extend(epoch, *before)
    assert block_hash(trust.header(*new)) == block_hash(node.header(3))
    with pytest.raises(ProofError):
        trust.extend(epoch, *before)


async def test_a_node_cannot_begin_an_epoch_of_the_same_validators() -> None:
    """It would have every later certificate, which is of the true epoch, taken for a false one."""
    node = FakeNode()
    trust = await chain_of(node, 2)
    made_up = replace(trust.last_epoch, number=2)
    with pytest.raises(ProofError, match="names other validators"):
        trust.extend(made_up, encode(node.header(1)), encode(node.certificate(1)))
    assert trust.header(encode(node.header(2)), encode(node.certificate(2))).height == 2
