"""Checking the certified blocks that come next, a few ahead of the one that is executed.

Signatures are verified beside the loop: while one block is executed, those of the blocks above it are looked at. A
block is checked against the validators that are known to decide its height; above a change of them nothing is checked
before that change is committed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from otcnode import limits
from otcnode.blocks import CertifiedBlock, Verify, block_hash, check_certificate, transaction_full_hash
from otcnode.consensus.events import Tip
from otcnode.engine.authenticity import Authenticity
from otcnode.engine.flight import bodies_match
from otcnode.engine.intake import Intake
from otcnode.errors import Inadmissible, ProofError
from otcnode.sync import BlockSync
from otcnode.vm.transactions import Decoded

PER_STEP_MAX = 2
"""Blocks whose checking begins for each one that is executed: the lead grows, and no step is long."""


@dataclass(slots=True)
class Prepared:
    """A block with a valid certificate and the bodies of its header. `authentic` None: its transactions' signatures are
    still being verified."""

    certified: CertifiedBlock
    block_hash: bytes
    source: bytes
    transactions: list[Decoded]
    authentic: bool | None = None


class Preparation:
    """`ready` is called when signatures have been verified."""

    def __init__(
        self,
        chain_id: bytes,
        sync: BlockSync,
        intake: Intake,
        authenticity: Authenticity,
        verify: Verify,
        ready: Callable[[], None],
    ) -> None:
        self._chain = chain_id
        self._sync = sync
        self._intake = intake
        self._authenticity = authenticity
        self._verify = verify
        self._ready = ready
        self._blocks: dict[int, Prepared] = {}

    @property
    def holds_blocks(self) -> bool:
        return bool(self._blocks)

    @property
    def highest(self) -> int:
        """The height of the highest block held, which a certificate proves to be committed; 0: none is."""
        return max(self._blocks, default=0)

    def get(self, height: int) -> Prepared | None:
        return self._blocks.get(height)

    def forget_above(self, height: int) -> None:
        """What was prepared may stand on a block that is no longer believed."""
        self._blocks = {above: block for above, block in self._blocks.items() if above <= height}

    def go_on(self, tip: Tip) -> tuple[bytes, str] | None:
        """Begin with the next few blocks that are here; who served a false one, and what is wrong with it."""
        self._blocks = {height: block for height, block in self._blocks.items() if height > tip.height}
        below = self._blocks.get(tip.height + 1)
        if below is not None and below.certified.block.header.parent != tip.block_hash:
            self._blocks.clear()
        begun = 0
        for height in range(tip.height + 1, tip.height + 1 + limits.sync_blocks_ahead_max):
            if height in self._blocks:
                continue
            following = self._sync.next(height - 1)
            if following is None or begun == PER_STEP_MAX or not self._has_room() or self._unknown(height, tip):
                return None
            certified, source = following
            try:
                self._begin(certified, source, tip)
            except (ProofError, Inadmissible) as error:
                return source, str(error)
            begun += 1
        return None

    def _has_room(self) -> bool:
        held = sum(len(block.transactions) for block in self._blocks.values())
        return held < limits.sync_transactions_ahead_max

    def _unknown(self, height: int, tip: Tip) -> bool:
        """Whether the block below announces a change: who decides this height is not known before it is committed."""
        below = self._blocks.get(height - 1)
        if below is None or height == tip.height + 1:
            return False
        header = below.certified.block.header
        return header.next_validators_hash != header.validators_hash

    def _begin(self, certified: CertifiedBlock, source: bytes, tip: Tip) -> None:
        """Everything that can be checked without executing. Raises ProofError or Inadmissible."""
        header, certificate = certified.block.header, certified.certificate
        below = self._blocks.get(header.height - 1)
        parent = tip.block_hash if below is None else below.block_hash
        name = block_hash(header)
        if header.parent != parent:
            raise ProofError("the block does not extend this chain")
        if certificate.height != header.height or certificate.block_hash != name:
            raise ProofError("the certificate is for another block")
        check_certificate(certificate, self._chain, tip.next_epoch, self._verify)
        transactions = [self._intake.decoded(transaction_full_hash(raw), raw) for raw in certified.block.transactions]
        if not bodies_match(header.transactions_root, header.transaction_count, transactions):
            raise ProofError("the bodies are not those of the header")
        block = self._blocks[header.height] = Prepared(certified, name, source, transactions)

        def done(verdicts: list[bool]) -> None:
            block.authentic = all(verdicts)
            self._ready()

        self._authenticity.require(transactions, done)
