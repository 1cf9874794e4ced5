"""Evidence of misbehaviour that transactions carry is verified once on this node, whatever transactions carry it: the
signatures in it beside the loop like all others, a piece of the work at a time. Verdicts are remembered by the evidence
and what it is said to prove, so that copies under ever new envelopes cost no more than their own signatures."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from otcnode import limits
from otcnode.blocks import Epoch, Verify, validators_hash
from otcnode.codec import decode, encode
from otcnode.consensus.evidence import check_evidence
from otcnode.consensus.messages import Evidence
from otcnode.crypto import SignatureCheck, sha256
from otcnode.engine.host import Host
from otcnode.errors import DecodeError, ProofError
from otcnode.vm.governance.misconduct import offence_named
from otcnode.vm.governance.operations import EvidencePost
from otcnode.vm.transactions import Decoded

SIGNATURE_BYTES = 96
"""At least, of one signature in evidence: a validator's key beside it is what it is verified with."""


def signatures_in(decoded: Decoded) -> int:
    """How many signatures are to be verified of an admissible transaction: its own, and as many as there is room for in
    evidence that it carries, which is not decoded for that."""
    operation = decoded.transaction.body.operations[0]
    own = len(decoded.transaction.signatures)
    return own + len(operation.evidence) // SIGNATURE_BYTES if isinstance(operation, EvidencePost) else own


def _proves(operation: EvidencePost, chain: bytes, epoch: Epoch, verify: Verify) -> bool:
    """Whether the evidence in the operation proves the very offence that it names."""
    try:
        evidence: Evidence = decode(Evidence, operation.evidence)
        offence = check_evidence(evidence, chain, epoch, verify)
    except (DecodeError, ProofError):
        return False
    named = (operation.validator, operation.kind, operation.epoch, operation.view, operation.height)
    return named == (offence.validator, offence.kind, offence.epoch, offence.view, offence.height)


def _signatures_of(operation: EvidencePost, chain: bytes, epoch: Epoch) -> list[SignatureCheck]:
    """All that can matter for the verdict: it is clear with the first false one, and until then nothing else is asked
    for than if all were true."""
    asked: list[SignatureCheck] = []

    def note(public: bytes, message: bytes, signature: bytes) -> bool:
        asked.append(SignatureCheck(public, message, signature))
        return True

    _proves(operation, chain, epoch, note)
    return asked


class _Claim:
    """An operation, with the epoch that its evidence is judged by."""

    __slots__ = ("epoch", "name", "operation")

    def __init__(self, operation: EvidencePost, epoch: Epoch) -> None:
        self.operation = operation
        self.epoch = epoch
        self.name = sha256(encode([validators_hash(epoch), offence_named(operation), sha256(operation.evidence)]))


class Proving:
    """Verdicts on evidence in transactions; the oldest are forgotten first. `epochs`: those of the committed chain."""

    def __init__(self, chain: bytes, epochs: Callable[[], Iterable[Epoch]], host: Host) -> None:
        self._chain = chain
        self._epochs = epochs
        self._host = host
        self._verdicts: OrderedDict[bytes, bool] = OrderedDict()

    def require(self, operations: Sequence[EvidencePost], done: Callable[[list[bool]], None]) -> None:
        """Call `done` with a verdict per operation; at once when all are known. What is of no epoch that has begun here
        proves nothing yet."""
        epochs = {epoch.number: epoch for epoch in self._epochs()}
        claims = [
            _Claim(operation, epochs[operation.epoch]) if operation.epoch in epochs else None
            for operation in operations
        ]
        names = [None if claim is None else claim.name for claim in claims]
        known = {name: self._verdicts[name] for name in names if name is not None and name in self._verdicts}
        unknown = {claim.name: claim for claim in claims if claim is not None and claim.name not in known}

        def judged(verdicts: dict[bytes, bool]) -> None:
            known.update(verdicts)
            done([name is not None and known[name] for name in names])

        self._judge(list(unknown.values()), {}, judged)

    def _judge(
        self, claims: list[_Claim], verdicts: dict[bytes, bool], judged: Callable[[dict[bytes, bool]], None]
    ) -> None:
        """So much in one go that the loop is not held for long, then the rest."""
        if not claims:
            self._remember(verdicts)
            judged(verdicts)
            return
        piece, room_bytes = 0, limits.evidence_judged_at_once_bytes
        while piece < len(claims) and room_bytes > 0:
            room_bytes -= len(claims[piece].operation.evidence)
            piece += 1
        now, rest = claims[:piece], claims[piece:]
        asked = [_signatures_of(claim.operation, self._chain, claim.epoch) for claim in now]
        checks = list(dict.fromkeys(check for each in asked for check in each))

        def verified(results: Sequence[bool]) -> None:
            true = {check for check, result in zip(checks, results, strict=True) if result}

            def verify(public: bytes, message: bytes, signature: bytes) -> bool:
                return SignatureCheck(public, message, signature) in true

            for claim in now:
                verdicts[claim.name] = _proves(claim.operation, self._chain, claim.epoch, verify)
            self._judge(rest, verdicts, judged)

        self._host.verify_votes(checks, verified)

    def _remember(self, verdicts: dict[bytes, bool]) -> None:
        self._verdicts.update(verdicts)
        while len(self._verdicts) > limits.evidence_verdicts_remembered_max:
            self._verdicts.popitem(last=False)
