"""Every envelope's signatures are verified once on this node, in batches, and remembered by full hash; so is
evidence of misbehaviour that an envelope carries. The ledger executes what is authentic and asks no further."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from otcnode import limits
from otcnode.engine.host import Host
from otcnode.engine.proving import Proving
from otcnode.vm.governance.operations import EvidencePost
from otcnode.vm.transactions import Decoded, signature_checks


class Authenticity:
    """Full hashes of envelopes whose every signature is valid; the oldest are forgotten first."""

    def __init__(self, host: Host, proving: Proving) -> None:
        self._host = host
        self._proving = proving
        self._verified: OrderedDict[bytes, None] = OrderedDict()

    def known(self, decoded: Decoded) -> bool:
        return decoded.full_hash in self._verified

    def require(self, batch: Sequence[Decoded], done: Callable[[list[bool]], None]) -> None:
        """Call `done` with a verdict per transaction; at once when all are known, else after one batch of work."""
        unknown = [decoded for decoded in batch if decoded.full_hash not in self._verified]
        if not unknown:
            done([True] * len(batch))
            return

        def verdict(results: Sequence[bool]) -> None:
            self._proven(unknown if all(results) else _signed(unknown, results), settle)

        def settle(authentic: list[Decoded]) -> None:
            full_hashes = [decoded.full_hash for decoded in authentic]
            self._remember(full_hashes)
            if len(authentic) == len(unknown):
                done([True] * len(batch))
                return
            false_hashes = {decoded.full_hash for decoded in unknown}.difference(full_hashes)
            done([decoded.full_hash not in false_hashes for decoded in batch])

        self._host.verify([check for decoded in unknown for check in signature_checks(decoded)], verdict)

    def _proven(self, signed: list[Decoded], settle: Callable[[list[Decoded]], None]) -> None:
        """Call `settle` with those whose evidence proves what it says, where they carry any; nobody's evidence is
        looked at whose signature is false."""
        carried = [
            (decoded, operation)
            for decoded in signed
            for operation in decoded.transaction.body.operations
            if isinstance(operation, EvidencePost)
        ]
        if not carried:
            settle(signed)
            return

        def judged(verdicts: list[bool]) -> None:
            false = {decoded.full_hash for (decoded, _), proven in zip(carried, verdicts, strict=True) if not proven}
            settle([decoded for decoded in signed if decoded.full_hash not in false])

        self._proving.require([operation for _, operation in carried], judged)

    def _remember(self, full_hashes: Sequence[bytes]) -> None:
        self._verified.update(dict.fromkeys(full_hashes))
        while len(self._verified) > limits.verified_cache_entries_max:
            self._verified.popitem(last=False)


def _signed(batch: Sequence[Decoded], results: Sequence[bool]) -> list[Decoded]:
    """Those whose every signature is true; the results are of all signatures in order."""
    signed: list[Decoded] = []
    position = 0
    for decoded in batch:
        end = position + len(decoded.transaction.signatures)
        if all(results[position:end]):
            signed.append(decoded)
        position = end
    assert position == len(results)
    return signed
