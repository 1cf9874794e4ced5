"""Checking the certified blocks that come next, a few ahead of the one that is executed.

Signatures are verified beside the loop: while one block is executed, those of the blocks above it are looked at, its
certificate's and its transactions'. A block is checked against the validators that are known to decide its height;
above a change of them nothing is checked before that change is committed. Nothing here is final: whoever executes a
block asks whether both verdicts have come, and what stands on a block that proves false is forgotten with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from otcnode import limits
from otcnode.blocks import (
    Block,
    CertifiedBlock,
    ConsensusParameters,
    Epoch,
    block_hash,
    certificate_checks,
    transaction_full_hash,
)
from otcnode.chain import Listed
from otcnode.consensus.events import Tip
from otcnode.crypto import SignatureCheck
from otcnode.engine.authenticity import Authenticity
from otcnode.engine.host import Host
from otcnode.engine.intake import Intake
from otcnode.errors import Inadmissible, ProofError
from otcnode.sync import BlockSync
from otcnode.vm.transactions import Decoded, decode_transaction

PER_STEP_MAX = 8
"""Blocks whose checking begins for each one that is executed: the lead grows, and no step is long."""
TRANSACTIONS_PER_STEP = 1_000
"""No other block is begun with in a step once those before have so many."""


@dataclass(slots=True)
class Prepared:
    """A block with the bodies of its header. `certified`: whether its certificate holds for the validators of `epoch`;
    `authentic`: whether its transactions' signatures are true; None: still being verified."""

    certified_block: CertifiedBlock
    block_hash: bytes
    source: bytes
    transactions: Listed
    epoch: Epoch
    votes: list[SignatureCheck]
    """The certificate's signatures."""
    certified: bool | None = None
    authentic: bool | None = None

    @property
    def fault(self) -> str | None:
        """What is wrong with it for certain."""
        if self.certified is False:
            return "a signature in its certificate is false"
        # A certificate vouches for full bodies, so false ones are the server's own.
        return "a transaction with a false signature in a certified block" if self.authentic is False else None

    @property
    def judged(self) -> bool:
        return self.certified is not None and self.authentic is not None


class Preparation:
    """`ready` is called when signatures have been verified."""

    def __init__(
        self,
        chain_id: bytes,
        sync: BlockSync,
        intake: Intake,
        authenticity: Authenticity,
        host: Host,
        ready: Callable[[], None],
    ) -> None:
        self._chain = chain_id
        self._sync = sync
        self._intake = intake
        self._authenticity = authenticity
        self._host = host
        self._ready = ready
        self._blocks: dict[int, Prepared] = {}

    @property
    def holds_blocks(self) -> bool:
        return bool(self._blocks)

    @property
    def highest(self) -> int:
        """The height of the highest block held whose certificate proves that it is committed; 0: none is."""
        return max((height for height, block in self._blocks.items() if block.certified), default=0)

    def get(self, height: int) -> Prepared | None:
        return self._blocks.get(height)

    def forget_above(self, height: int) -> None:
        """What was prepared may stand on a block that is no longer believed."""
        self._blocks = {above: block for above, block in self._blocks.items() if above <= height}

    def go_on(self, tip: Tip) -> tuple[bytes, str] | None:
        """Begin with the next few blocks that are here; who served a false one, and what is wrong with it."""
        self._blocks = {height: block for height, block in self._blocks.items() if height > tip.height}
        below = self._blocks.get(tip.height + 1)
        if below is not None and below.certified_block.block.header.parent != tip.block_hash:
            self._blocks.clear()
        begun: list[Prepared] = []
        try:
            for height in range(tip.height + 1, tip.height + 1 + limits.sync_blocks_ahead_max):
                if height in self._blocks:
                    continue
                following = self._sync.next(height - 1)
                if following is None or not self._has_room(begun) or self._undecided(following[0], tip):
                    return None
                certified, source = following
                try:
                    begun.append(self._begin(certified, source, tip))
                except (ProofError, Inadmissible) as error:
                    return source, str(error)
            return None
        finally:
            self._verify(begun)

    def _has_room(self, begun: list[Prepared]) -> bool:
        held = sum(len(block.transactions) for block in self._blocks.values())
        own = sum(len(block.transactions) for block in begun)
        return held < limits.sync_transactions_ahead_max and len(begun) < PER_STEP_MAX and own < TRANSACTIONS_PER_STEP

    def _undecided(self, certified: CertifiedBlock, tip: Tip) -> bool:
        """Whether the block below has to be committed, or judged, first: it announces other validators, or it is not
        the parent and may be the false one of the two."""
        header = certified.block.header
        below = self._blocks.get(header.height - 1)
        if below is None or header.height == tip.height + 1:
            return False
        under = below.certified_block.block.header
        changes = under.next_validators_hash != under.validators_hash
        return changes or (header.parent != below.block_hash and not below.certified)

    def _begin(self, certified: CertifiedBlock, source: bytes, tip: Tip) -> Prepared:
        """Everything that can be checked without executing, but for signatures; what is cheap comes first. Raises
        ProofError or Inadmissible."""
        header, certificate = certified.block.header, certified.certificate
        below = self._blocks.get(header.height - 1)
        parent = tip.block_hash if below is None else below.block_hash
        name = block_hash(header)
        if header.parent != parent:
            raise ProofError("the block does not extend this chain")
        if certificate.height != header.height or certificate.block_hash != name:
            raise ProofError("the certificate is for another block")
        _require_room(certified.block, tip.next_epoch.parameters)
        votes = certificate_checks(certificate, self._chain, tip.next_epoch)
        transactions = Listed.of([self._decoded(raw) for raw in certified.block.transactions])
        if not transactions.are_those_of(header):
            raise ProofError("the bodies are not those of the header")
        block = self._blocks[header.height] = Prepared(certified, name, source, transactions, tip.next_epoch, votes)
        return block

    def _decoded(self, raw: bytes) -> Decoded:
        full_hash = transaction_full_hash(raw)
        return self._intake.pool.by_full_hash(full_hash) or decode_transaction(raw, full_hash)

    def _verify(self, begun: list[Prepared]) -> None:
        """The certificates all at once, the transactions block by block."""

        def certified(verdicts: Sequence[bool]) -> None:
            position = 0
            for block in begun:
                end = position + len(block.votes)
                block.certified = all(verdicts[position:end])
                position = end
            assert position == len(verdicts)
            self._ready()

        if begun:
            self._host.verify_votes([vote for block in begun for vote in block.votes], certified)
        for block in begun:
            self._authenticate(block)

    def _authenticate(self, block: Prepared) -> None:
        def done(verdicts: list[bool]) -> None:
            block.authentic = all(verdicts)
            self._ready()

        self._authenticity.require(block.transactions, done)


def _require_room(block: Block, parameters: ConsensusParameters) -> None:
    """Raise ProofError for what no block of these parameters holds, before one of its bodies is decoded: a message has
    room for many times as many as most chains allow."""
    count, size_bytes = len(block.transactions), sum(map(len, block.transactions))
    if count != block.header.transaction_count:
        raise ProofError(f"{count} bodies for a header of {block.header.transaction_count}")
    if count > parameters.block_transactions_max:
        raise ProofError(f"{count} transactions, at most {parameters.block_transactions_max}")
    if size_bytes > parameters.block_bytes_max:
        raise ProofError(f"{size_bytes} bytes of transactions, at most {parameters.block_bytes_max}")
