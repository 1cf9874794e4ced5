"""`otcnode verify evidence`: a validator's misbehaviour, proven with the genesis file alone."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from otcnode.blocks import (
    HEADER_VERSION,
    Certificate,
    Epoch,
    Header,
    ValidatorSignature,
    block_hash,
    commit_preimage,
    validators_hash,
)
from otcnode.cli.verify import verify
from otcnode.consensus.evidence import Kind, Offence
from otcnode.consensus.messages import Evidence, InvalidViewChange, Proof, ViewChange, view_change_preimage
from otcnode.epochs import EpochChange
from otcnode.errors import DecodeError, ProofError
from otcnode.evidence import misconduct
from otcnode.genesis import chain_id, dump, first_epoch
from tests.engine.network import genesis_of, key_of
from tests.engine.test_evidence import double

GENESIS = genesis_of(4)
CHAIN = chain_id(GENESIS)
KEYS = {key_of(f"node {index}").public: key_of(f"node {index}") for index in range(4)}
LIAR = GENESIS.validators[2]


def _evidence() -> Evidence:
    return double(CHAIN, KEYS[LIAR.id], view=3, height=7)


def _certified_change() -> EpochChange:
    """From height 3 on other parameters decide; the first epoch has certified that."""
    first = first_epoch(GENESIS)
    following = Epoch(3, first.validators, replace(first.parameters, window=2))
    roots = (bytes(32),) * 3
    parts = (CHAIN, 2, bytes(32), GENESIS.time_ms + 1, first.validators[0], 0, *roots)
    header = Header(HEADER_VERSION, *parts, validators_hash(first), validators_hash(following))
    name = block_hash(header)
    signed = commit_preimage(CHAIN, 1, 0, 2, name)
    votes = tuple(ValidatorSignature(voter, KEYS[voter].sign(signed)) for voter in first.validators[:3])
    return EpochChange(header, Certificate(1, 0, 2, name, votes), following)


def run(file: Path, raw: bytes, *options: str) -> tuple[int, str]:
    file.write_bytes(raw)
    genesis = file.parent / "genesis.json"
    genesis.write_bytes(dump(GENESIS))
    result = CliRunner().invoke(verify, ["evidence", str(file), "--genesis", str(genesis), *options])
    return result.exit_code, result.output


def test_a_file_of_evidence_says_who_did_what(tmp_path: Path) -> None:
    raw = misconduct.write(_evidence(), ())
    code, output = run(tmp_path / "file", raw)
    assert code == 0 and output.startswith(f"proven: {LIAR.name} committed a double COMMIT\n")
    assert "  view: 3\n" in output and "  height: 7\n" in output
    code, output = run(tmp_path / "file", base64.b64encode(raw) + b"\n", "--json")
    shown = json.loads(output)
    assert code == 0 and (shown["proven"], shown["name"], shown["kind"]) == (True, LIAR.name, "double COMMIT")


def test_what_proves_nothing_is_exit_code_1(tmp_path: Path) -> None:
    foreign = misconduct.write(double(bytes(32), KEYS[LIAR.id]), ())
    code, output = run(tmp_path / "file", foreign)
    assert code == 1 and output.startswith("proves nothing: a vote with a false signature")
    code, output = run(tmp_path / "file", b"junk!", "--json")
    assert code == 1 and json.loads(output)["proven"] is False


def test_a_padded_view_change_is_not_the_word_of_a_validator(tmp_path: Path) -> None:
    """As large as they come, one that is wrong is proven; larger than that it is nothing at all."""
    header = Header(HEADER_VERSION, CHAIN, 1, bytes(32), 1, LIAR.id, 0, *(bytes(32),) * 5)
    proof = Proof(0, header, tuple(ValidatorSignature(validator.id, bytes(64)) for validator in GENESIS.validators[:3]))
    window = GENESIS.parameters.consensus.window
    for proofs, said in ((window, "proven: "), (window + 1, "proves nothing: not a VIEW-CHANGE")):
        plain = ViewChange(1, 1, 0, None, (proof,) * proofs, LIAR.id, bytes(64))
        signed = replace(plain, signature=KEYS[LIAR.id].sign(view_change_preimage(CHAIN, plain)))
        code, output = run(tmp_path / "file", misconduct.write(InvalidViewChange(signed), ()))
        assert output.startswith(said) and code == (proofs > window)


def test_an_epoch_that_is_not_proven_is_not_believed() -> None:
    """A file may not bring validators of its own making."""
    stranger = key_of("stranger")
    forged = double(CHAIN, stranger)
    with pytest.raises(ProofError, match="not a vote of a validator"):
        misconduct.check(misconduct.write(forged, ()), GENESIS)
    own = replace(_certified_change(), epoch=Epoch(3, (stranger.public,), GENESIS.parameters.consensus))
    with pytest.raises(ProofError):
        misconduct.check(misconduct.write(double(CHAIN, stranger, epoch=3), (own,)), GENESIS)
    with pytest.raises(DecodeError):
        misconduct.check(misconduct.write(forged, ()) + b"x", GENESIS)


def test_the_evidence_of_a_later_epoch_needs_the_step_to_it() -> None:
    change = _certified_change()
    later = double(CHAIN, KEYS[LIAR.id], epoch=change.epoch.number, height=change.epoch.number)
    with pytest.raises(ProofError, match="up to epoch 1, not of epoch 3"):
        misconduct.check(misconduct.write(later, ()), GENESIS)
    offence = misconduct.check(misconduct.write(later, (change,)), GENESIS)
    assert offence == Offence(LIAR.id, Kind.DOUBLE_COMMIT, 3, 0, 3)
