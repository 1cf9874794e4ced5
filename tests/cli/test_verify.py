"""`otcnode verify package`: what whoever gets a file sees."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from otcnode.cli.verify import verify
from otcnode.evidence.package import Kind, write
from otcnode.genesis import dump
from otcnode.ids import Prefix, show
from tests.evidence.story import CONTENT, SALT, Story


@pytest.fixture
async def story() -> Story:
    made = Story()
    await made.sign_a_contract()
    return made


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(verify, ["package", *arguments])
    return result.exit_code, result.output


async def test_a_contract_is_shown_with_its_signatures(story: Story, tmp_path: Path) -> None:
    file, genesis, document = tmp_path / "contract.evidence", tmp_path / "genesis.json", tmp_path / "document"
    file.write_bytes(write(story.package(Kind.CONTRACT, story.contract)))
    genesis.write_bytes(dump(story.node.genesis))
    document.write_bytes(CONTENT)
    code, output = run(str(file), "--genesis", str(genesis), "--document", str(document), "--salt", SALT.hex())
    assert code == 0, output
    assert output.startswith("OK\n")
    for expected in ("status: EFFECTIVE", "version: 2", "the document is the one that was signed", "key: "):
        assert expected in output
    assert "time_ms: 2027-01-15T08:00:0" in output and "Time(" not in output
    code, output = run(str(file), "--chain", story.node.chain.hex(), "--json")
    assert code == 0, output
    shown = json.loads(output)
    assert (shown["outcome"], shown["facts"]["status"], shown["document_compared"]) == ("OK", "EFFECTIVE", False)


async def test_what_does_not_hold_is_said_with_exit_code_1(story: Story, tmp_path: Path) -> None:
    file, other = tmp_path / "contract.evidence", tmp_path / "other"
    file.write_bytes(write(story.package(Kind.CONTRACT, story.contract)))
    other.write_bytes(b"another text")
    chain = ("--chain", story.node.chain.hex())
    code, output = run(str(file), *chain, "--document", str(other), "--salt", SALT.hex())
    assert (code, output) == (1, "DOC_HASH_MISMATCH the document is not the one that was signed\n")
    code, output = run(str(file), "--chain", bytes(32).hex())
    assert (code, output) == (1, "GENESIS_MISMATCH the package is of another chain\n")
    code, output = run(str(other), *chain)
    assert code == 1 and output.startswith("PROOF_INVALID no evidence package")


async def test_a_true_package_of_another_contract_or_of_before_is_not_what_was_asked_for(
    story: Story, tmp_path: Path
) -> None:
    file, chain = tmp_path / "contract.evidence", ("--chain", story.node.chain.hex())
    package = story.package(Kind.CONTRACT, story.contract)
    file.write_bytes(write(package))
    own, other = (show(Prefix.CONTRACT, name) for name in (story.contract, bytes(32)))
    height = package.last.header.height
    assert run(str(file), *chain, "--subject", own, "--min-height", str(height))[0] == 0
    asked = ("--subject", other)
    assert run(str(file), *chain, *asked) == (1, f"UNEXPECTED it is true, but of {own}\n")
    code, output = run(str(file), *chain, "--min-height", str(height + 1))
    assert (code, output) == (1, f"UNEXPECTED it is true, but as of height {height}\n")
    code, output = run(str(file), *chain, *asked, "--json")
    assert (code, json.loads(output)["outcome"]) == (1, "UNEXPECTED")
    assert run(str(file), *chain, "--subject", own[:-1] + "q")[0] == 2


def test_wrong_usage_is_exit_code_2(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    for arguments in ((), ("--chain", "abc"), ("--chain", bytes(32).hex(), "--salt", bytes(32).hex())):
        code, output = run(str(file), *arguments)
        assert code == 2, output
