"""Evidence of a validator's misbehaviour as a file: checked with the genesis file alone. Pure."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from otcnode.codec import Record, decode, encode
from otcnode.consensus.evidence import Offence, check_evidence, epoch_of
from otcnode.consensus.messages import Evidence
from otcnode.crypto import verify
from otcnode.epochs import EpochChange, ProvenEpochs
from otcnode.errors import ProofError
from otcnode.genesis import Genesis, chain_id, first_epoch

FILE_VERSION = 1


class MisconductFile(Record, frozen=True, tag="otcnode/misconduct"):
    """The evidence, and how the epoch it is about follows from the genesis."""

    version: Annotated[int, Meta(ge=FILE_VERSION, le=FILE_VERSION)]
    epochs: tuple[EpochChange, ...]
    evidence: Evidence


def write(evidence: Evidence, epochs: tuple[EpochChange, ...]) -> bytes:
    return encode(MisconductFile(FILE_VERSION, epochs, evidence))


def check(raw: bytes, genesis: Genesis) -> Offence:
    """The offence that the file proves of a validator of this network. Raises ProofError if it proves none, DecodeError
    if it is no such file."""
    file: MisconductFile = decode(MisconductFile, raw)
    proven = ProvenEpochs(chain_id(genesis), first_epoch(genesis))
    for change in file.epochs:
        proven.extend(change)
    wanted = epoch_of(file.evidence)
    if proven.last.number != wanted:
        raise ProofError(f"the file proves the validators up to epoch {proven.last.number}, not of epoch {wanted}")
    return check_evidence(file.evidence, proven.chain, proven.last, verify)
