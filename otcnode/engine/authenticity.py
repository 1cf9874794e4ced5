"""Every envelope's signatures are verified once on this node, in batches, and remembered by full hash; so is
evidence of misbehaviour that an envelope carries. The ledger executes what is authentic and asks no further."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from otcnode import limits
from otcnode.engine.host import Host
from otcnode.vm.governance.operations import EvidencePost
from otcnode.vm.transactions import Decoded, signature_checks


class Authenticity:
    """Full hashes of envelopes whose every signature is valid; the oldest are forgotten first."""

    def __init__(self, host: Host, proves: Callable[[EvidencePost], bool]) -> None:
        self._host = host
        self._proves = proves
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
            signed = unknown if all(results) else _signed(unknown, results)
            authentic = [decoded.full_hash for decoded in signed if self._is_proven(decoded)]
            self._remember(authentic)
            if len(authentic) == len(unknown):
                done([True] * len(batch))
                return
            false_hashes = {decoded.full_hash for decoded in unknown}.difference(authentic)
            done([decoded.full_hash not in false_hashes for decoded in batch])

        self._host.verify([check for decoded in unknown for check in signature_checks(decoded)], verdict)

    def _is_proven(self, decoded: Decoded) -> bool:
        for operation in decoded.transaction.body.operations:
            if isinstance(operation, EvidencePost) and not self._proves(operation):
                return False
        return True

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
