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
        checks = [signature_checks(decoded) for decoded in unknown]

        def verdict(results: Sequence[bool]) -> None:
            position = 0
            false_hashes: set[bytes] = set()
            for decoded, group in zip(unknown, checks, strict=True):
                if all(results[position : position + len(group)]) and self._is_proven(decoded):
                    self._remember(decoded.full_hash)
                else:
                    false_hashes.add(decoded.full_hash)
                position += len(group)
            done([decoded.full_hash not in false_hashes for decoded in batch])

        self._host.verify([check for group in checks for check in group], verdict)

    def _is_proven(self, decoded: Decoded) -> bool:
        operations = decoded.transaction.body.operations
        return all(self._proves(operation) for operation in operations if isinstance(operation, EvidencePost))

    def _remember(self, full_hash: bytes) -> None:
        self._verified[full_hash] = None
        while len(self._verified) > limits.verified_cache_entries_max:
            self._verified.popitem(last=False)
