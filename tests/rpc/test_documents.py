"""Sealed documents over the API, and opened by those they are sealed to."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from otcnode.client.documents import DocumentError, Sealed, SealedDocument, open_document, seal
from otcnode.codec import decode, encode
from otcnode.crypto import sha256, x25519_public
from otcnode.errors import Code
from otcnode.genesis import KeyPurpose
from otcnode.rpc import format as form
from otcnode.vm.contracts.preimages import document_commitment
from otcnode.vm.documents.records import SEALED_BYTES_MAX
from otcnode.vm.governance.operations import AccessLog
from tests.client.test_client import serving
from tests.rpc.calls import Api
from tests.rpc.fake import BANK, INVESTOR, ISSUER, KYC, OTHER, REGULATOR, FakeNode, account_of, key_of

SECRETS = {name: sha256(f"{name}/ENC".encode()) for name in (INVESTOR, OTHER, REGULATOR)}
TEXT = b"the power of attorney"
SUBJECT = sha256(b"a contract")


def sealed_to(*names: str) -> Sealed:
    return seal(TEXT, {account_of(name): x25519_public(SECRETS[name]) for name in names})


async def filed(node: FakeNode, sealed: Sealed, by: str = ISSUER) -> None:
    transaction = node.sign(by, sealed.filing(SUBJECT))
    await node.submit([transaction.raw])
    assert node.transaction(transaction.id).code is Code.OK


def test_recipients_open_what_is_sealed_to_them_and_nobody_else_does() -> None:
    sealed = sealed_to(INVESTOR, REGULATOR)
    for name in (INVESTOR, REGULATOR):
        document = open_document(sealed.raw, account_of(name), SECRETS[name], sealed.commitment)
        assert (document.content, document.salt) == (TEXT, sealed.salt)
    assert sealed.commitment == document_commitment(sealed.salt, TEXT)
    for name, secret in ((OTHER, SECRETS[OTHER]), (INVESTOR, SECRETS[OTHER]), (OTHER, SECRETS[INVESTOR])):
        with pytest.raises(DocumentError):
            open_document(sealed.raw, account_of(name), secret, sealed.commitment)


def test_two_sealings_of_one_text_have_nothing_in_common() -> None:
    one, two = sealed_to(INVESTOR), sealed_to(INVESTOR)
    assert one.name != two.name and one.commitment != two.commitment


def test_a_changed_file_or_another_text_is_noticed() -> None:
    sealed = sealed_to(INVESTOR)
    file = decode(SealedDocument, sealed.raw)
    changed = bytearray(file.ciphertext)
    changed[-1] ^= 1
    for raw in (encode(replace(file, ciphertext=bytes(changed))), sealed.raw[:-1], b""):
        with pytest.raises(DocumentError):
            open_document(raw, account_of(INVESTOR), SECRETS[INVESTOR], sealed.commitment)
    with pytest.raises(DocumentError, match="committed"):
        open_document(sealed.raw, account_of(INVESTOR), SECRETS[INVESTOR], bytes(32))


def test_what_cannot_be_sealed_is_said() -> None:
    with pytest.raises(DocumentError, match="bytes when sealed"):
        seal(bytes(SEALED_BYTES_MAX), {account_of(INVESTOR): x25519_public(SECRETS[INVESTOR])})
    with pytest.raises(DocumentError, match="recipients"):
        seal(TEXT, {})
    with pytest.raises(DocumentError, match="X25519"):
        seal(TEXT, {account_of(INVESTOR): bytes(32)})


@given(st.binary(max_size=200))
@settings(max_examples=50)
def test_junk_opens_as_nothing(raw: bytes) -> None:
    with pytest.raises(DocumentError):
        open_document(raw, account_of(INVESTOR), SECRETS[INVESTOR], bytes(32))


async def test_a_file_is_taken_once_it_is_filed_and_given_to_whom_it_is_for() -> None:
    node = FakeNode()
    api, sealed = Api(node), sealed_to(INVESTOR)
    put = {"content": form.base64_text(sealed.raw)}
    asked = {"document": form.base64_text(sealed.name)}
    issuer = await api.login(ISSUER)
    assert (await api.call("document_put", put))["code"] == -32002
    assert (await api.call("document_put", put, issuer))["code"] == -32602
    assert (await api.call("document_get", asked, issuer))["code"] == -32003
    await filed(node, sealed)
    assert (await api.call("document_get", asked, issuer))["code"] == -32005
    for _ in range(2):
        assert (await api.call("document_put", put, issuer))["document"] == asked["document"]
    for name in (ISSUER, INVESTOR):
        answer = await api.call("document_get", asked, await api.login(name))
        assert base64.b64decode(answer["content"]) == sealed.raw
    unknown = await api.call("document_get", {"document": form.base64_text(bytes(32))}, issuer)
    for name in (OTHER, KYC, BANK):
        assert await api.call("document_get", asked, await api.login(name)) == unknown


async def test_whoever_hands_in_what_the_disk_does_not_take_is_sent_to_another_node() -> None:
    node = FakeNode()
    api, sealed = Api(node), sealed_to(INVESTOR)
    await filed(node, sealed)
    node.keeps_documents = False
    put = {"content": form.base64_text(sealed.raw)}
    answer = await api.call("document_put", put, await api.login(ISSUER))
    assert answer["code"] == -32005 and answer["data"] == {"document": form.base64_text(sealed.name)}


async def test_a_regulator_reads_what_it_has_logged_a_reason_for() -> None:
    for item in ("document", "subject"):
        node = FakeNode()
        api, sealed = Api(node), sealed_to(INVESTOR, REGULATOR)
        sealed = replace(sealed, recipients=(account_of(INVESTOR),))
        await filed(node, sealed)
        node.put_document(sealed.raw)
        asked = {"document": form.base64_text(sealed.name)}
        token = await api.login(REGULATOR)
        assert (await api.call("document_get", asked, token))["code"] == -32003
        log = AccessLog(sealed.name if item == "document" else SUBJECT, "a complaint", sha256(b"order"))
        await node.submit([node.sign(REGULATOR, log).raw])
        assert base64.b64decode((await api.call("document_get", asked, token))["content"]) == sealed.raw


async def test_documents_are_listed_for_their_parties() -> None:
    node = FakeNode()
    api, mine, other = Api(node), sealed_to(INVESTOR), sealed_to(OTHER)
    for sealed in (mine, other):
        await filed(node, sealed)

    async def names(name: str, **filters: Any) -> set[str]:
        rows: set[str] = set()
        following = None
        while True:
            page = await api.call("document_list", {"limit": 1, "next": following, **filters}, await api.login(name))
            rows |= {row["document"] for row in page["documents"]}
            following = page["next"]
            if following is None:
                return rows

    own, others = form.base64_text(mine.name), form.base64_text(other.name)
    assert await names(INVESTOR) == {own}
    assert await names(OTHER) == {others}
    assert await names(ISSUER) == {own, others}
    assert await names(ISSUER, belongs_to=form.base64_text(SUBJECT)) == {own, others}
    assert await names(ISSUER, belongs_to=form.base64_text(bytes(32))) == set()
    assert await names(KYC) == set()
    assert await names(REGULATOR) == {own, others}


async def test_the_client_files_hands_in_and_opens() -> None:
    node, liar = FakeNode(), FakeNode()
    sealed = sealed_to(INVESTOR)

    class Liar(FakeNode):
        def document(self, name: bytes) -> bytes | None:
            return b"something else"

    liar = Liar()
    async with serving(node) as client:
        client.identify(account_of(ISSUER), key_of(ISSUER))
        outcome = await client.execute(node.sign(ISSUER, sealed.filing(), purpose=KeyPurpose.TRADE))
        await client.put_document(sealed, outcome.height)
    liar.__dict__.update(node.__dict__)
    async with serving(liar, node) as client:
        client.identify(account_of(INVESTOR), key_of(INVESTOR))
        assert (await client.document(sealed.name, SECRETS[INVESTOR])).content == TEXT
        with pytest.raises(DocumentError):
            await client.document(sealed.name, SECRETS[OTHER])
