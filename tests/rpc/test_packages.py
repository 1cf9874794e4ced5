"""Evidence over the API: for the parties, and the same refusal for everybody else."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from otcnode import limits
from otcnode.client.connection import RESPONSE_BYTES_MAX
from otcnode.evidence.verdict import Outcome
from otcnode.evidence.verify import verify
from otcnode.rpc import format as form
from tests.evidence.story import Story
from tests.rpc.calls import Api
from tests.rpc.fake import BANK, INVESTOR, ISSUER, KYC, OTHER, REGULATOR


async def of_contract() -> tuple[Story, str, dict[str, Any]]:
    story = Story()
    await story.sign_a_contract()
    return story, "contract_evidence", {"contract": form.contract(story.contract)}


async def of_trade() -> tuple[Story, str, dict[str, Any]]:
    story = Story()
    await story.settle_a_trade()
    return story, "trade_evidence", {"trade": form.trade(story.trade)}


@pytest.mark.parametrize(
    ("made", "readers", "strangers"),
    [
        (of_contract, (ISSUER, INVESTOR, BANK, REGULATOR), (KYC,)),
        (of_trade, (INVESTOR, OTHER, REGULATOR), (BANK,)),
    ],
)
async def test_parties_get_a_package_that_verifies(
    made: Any, readers: tuple[str, ...], strangers: tuple[str, ...]
) -> None:
    story, method, params = await made()
    api = Api(story.node)
    for reader in readers:
        answer = await api.call(method, params, await api.login(reader))
        raw = base64.b64decode(answer["package"])
        assert verify(raw, story.node.chain).outcome is Outcome.OK
        assert answer["height"] == story.node.state().height
    unknown = {name: _another(name) for name in params}
    for stranger in strangers:
        token = await api.login(stranger)
        refused = await api.call(method, params, token)
        assert refused == await api.call(method, unknown, token)
        assert refused["code"] == -32003
    assert (await api.call(method, params))["code"] == -32002


async def test_others_have_their_turn_while_a_package_is_collected_and_blocks_may_come() -> None:
    """A draft revised a thousand times, and full blocks around it, held up the node for as long as it took."""
    story, method, params = await of_contract()
    api = Api(story.node)
    token = await api.login(ISSUER)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            if turns == 4:
                await story.node.commit()
            await asyncio.sleep(0)

    before = story.node.state().height
    task = asyncio.create_task(others())
    try:
        answer = await api.call(method, params, token)
    finally:
        task.cancel()
    assert turns >= len(list(story.node.item_places(story.contract))) > 5
    assert answer["height"] == story.node.state().height == before + 1
    assert verify(base64.b64decode(answer["package"]), story.node.chain).outcome is Outcome.OK


@pytest.mark.parametrize("bound", ["evidence_transactions_max", "evidence_package_bytes_max"])
async def test_what_is_more_than_a_package_holds_is_refused(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    story, method, params = await of_contract()
    api = Api(story.node)
    monkeypatch.setattr(limits, bound, 4)
    assert (await api.call(method, params, await api.login(ISSUER)))["code"] == -32602


@pytest.mark.parametrize("made", [of_contract, of_trade])
async def test_what_a_node_makes_a_reader_takes_to_the_byte(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proofs, certificates and the history of the validators count as well as what was signed."""
    story, method, params = await made()
    api = Api(story.node)
    token = await api.login(INVESTOR)
    raw = base64.b64decode((await api.call(method, params, token))["package"])
    monkeypatch.setattr(limits, "evidence_package_bytes_max", len(raw))
    assert verify(raw, story.node.chain).outcome is Outcome.OK
    assert base64.b64decode((await api.call(method, params, token))["package"]) == raw
    monkeypatch.setattr(limits, "evidence_package_bytes_max", len(raw) - 1)
    assert verify(raw, story.node.chain).outcome is Outcome.PROOF_INVALID
    refused = await api.call(method, params, token)
    assert refused["code"] == -32602 and "may hold" in refused["message"]


def test_the_largest_package_fits_an_answer_that_a_client_takes() -> None:
    assert len(base64.b64encode(bytes(limits.evidence_package_bytes_max))) + 10_000 < RESPONSE_BYTES_MAX


def _another(field: str) -> str:
    return form.contract(bytes(32)) if field == "contract" else form.trade(bytes(32))
