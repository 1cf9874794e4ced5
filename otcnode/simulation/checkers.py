"""Everything the nodes promise, checked from outside with as little of their code as possible."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgpack
import msgspec

from otcnode.audit import ledger_violations
from otcnode.blocks import COMMIT_DOMAIN, PREPARE_DOMAIN, Certificate, Header, block_hash
from otcnode.consensus.messages import Commit, Message, NewView, Prepare, PrePrepare, ViewChange
from otcnode.crypto import tagged_hash
from otcnode.simulation.signing import Verify
from otcnode.simulation.violation import Promise, Violation
from otcnode.simulation.workload import Client
from otcnode.storage.store import Store

Vote = tuple[int, str, int, int, int]
"""(node, PREPARE or COMMIT, epoch, view, height)"""

_PREPARE, _COMMIT = "PREPARE", "COMMIT"
_VIEW_CHANGE_MARKS = ("VIEW-CHANGE", "VIEW-CHANGE with a proof", "VIEW-CHANGE with two prepared heights")
_NEW_VIEW_MARKS = ("NEW-VIEW", "NEW-VIEW that proposes again", "NEW-VIEW that proposes two heights again")
_VOTE_DOMAINS = {PREPARE_DOMAIN: _PREPARE, COMMIT_DOMAIN: _COMMIT}


def quorum_of(count: int) -> int:
    """The least number of which any two sets share one more than may lie: 2·q − n > f, where 3·f < n."""
    faulty = max(number for number in range(count) if 3 * number < count)
    return min(size for size in range(count + 1) if 2 * size - count > faulty)


@dataclass
class _Witness:
    """What a node has shown to the world; it is held to it over all its lives."""

    committed: int = 0
    final: dict[bytes, int] = field(default_factory=dict)
    asked_view: dict[int, int] = field(default_factory=dict)
    """Epoch to the highest view it sent a VIEW-CHANGE for."""


class Checkers:
    """Sees every commit, every signature made and every message sent by an honest node. `honest` are indexes."""

    def __init__(
        self,
        chain: bytes,
        validators: Sequence[bytes],
        honest: frozenset[int],
        clients: Sequence[Client],
        verify: Verify,
    ) -> None:
        self._chain_id = chain
        self._validators = tuple(validators)
        self._index = {name: index for index, name in enumerate(validators)}
        self._quorum = quorum_of(len(validators))
        self._honest = honest
        self._verify = verify
        self._submitted = {client.transaction.raw: client.transaction.id for client in clients}
        self._blocks: dict[int, tuple[bytes, bytes]] = {}
        """Height to (block hash, state root)."""
        self._in_chain: dict[bytes, int] = {}
        self._votes: dict[Vote, bytes] = {}
        self._witnesses = [_Witness() for _ in validators]
        self._sound_roots: set[bytes] = set()
        self._views: set[tuple[int, int]] = set()
        self.marks: Counter[str] = Counter()
        self.view_max = 0

    @property
    def height(self) -> int:
        """The highest committed height of any node."""
        return max(self._blocks, default=0)

    def height_of(self, transaction: bytes) -> int | None:
        return self._in_chain.get(transaction)

    # ---- finality

    def committed(self, node: int, store: Store, height: int, transactions: Sequence[bytes]) -> None:
        """A node says that a block is durable."""
        header, certificate, block = store.header(height), store.certificate(height), store.block(height)
        if header is None or certificate is None or block is None:
            raise Violation(Promise.DURABILITY, f"n{node} committed height {height} and does not hold it")
        witness = self._witnesses[node]
        if height != witness.committed + 1:
            raise Violation(Promise.DURABILITY, f"n{node} committed height {height} after {witness.committed}")
        name = block_hash(header)
        self._check_certificate(node, header, certificate)
        known = self._blocks.get(height)
        if known is None:
            self._first_time(node, header, name, block.transactions, transactions)
        elif known[0] != name:
            raise Violation(
                Promise.AGREEMENT,
                f"height {height} is {name.hex()[:12]} for n{node}, and was {known[0].hex()[:12]} before",
            )
        if store.tree.root != header.state_root:
            raise Violation(Promise.ROOTS, f"n{node} at height {height}")
        witness.committed = height
        witness.final.update(dict.fromkeys(transactions, height))

    def _first_time(
        self, node: int, header: Header, name: bytes, bodies: Sequence[bytes], transactions: Sequence[bytes]
    ) -> None:
        height = header.height
        if height > 1 and self._blocks[height - 1][0] != header.parent:
            raise Violation(Promise.AGREEMENT, f"n{node}: block {height} does not extend block {height - 1}")
        for raw in bodies:
            if raw not in self._submitted:
                raise Violation(Promise.VALIDITY, f"n{node}: block {height} holds a transaction nobody submitted")
        if [self._submitted[raw] for raw in bodies] != list(transactions):
            raise Violation(Promise.VALIDITY, f"n{node}: block {height} names other transactions than it holds")
        for transaction in transactions:
            earlier = self._in_chain.setdefault(transaction, height)
            if earlier != height or list(transactions).count(transaction) > 1:
                raise Violation(Promise.ONCE, f"{transaction.hex()[:12]} is in blocks {earlier} and {height}")
        self._blocks[height] = (name, header.state_root)

    def _check_certificate(self, node: int, header: Header, certificate: Certificate) -> None:
        """By the published rule, in code of its own."""
        where = f"n{node}, height {header.height}"
        encoded = msgpack.packb(
            [COMMIT_DOMAIN, self._chain_id, certificate.epoch, certificate.view, header.height, block_hash(header)]
        )
        signers = [entry.validator for entry in certificate.signatures]
        if len(set(signers)) != len(signers) or not set(signers) <= set(self._validators):
            raise Violation(Promise.CERTIFICATE, f"{where}: a signer twice or unknown")
        if len(signers) < self._quorum:
            raise Violation(Promise.CERTIFICATE, f"{where}: {len(signers)} of {self._quorum} signatures")
        for entry in certificate.signatures:
            if not self._verify(entry.validator, encoded, entry.signature):
                raise Violation(Promise.CERTIFICATE, f"{where}: a false signature of n{self._index[entry.validator]}")

    # ---- votes

    def said(self, node: int, message: Message) -> None:
        """A node hands a message to the network; votes in it are its own word or another's."""
        match message:
            case PrePrepare(epoch, view, header):
                author = view % len(self._validators)
                self._vote(node, author, _PREPARE, epoch, view, header.height, block_hash(header), message.signature)
            case Prepare(epoch, view, height, name, validator, signature):
                self._vote(node, self._index.get(validator), _PREPARE, epoch, view, height, name, signature)
            case Commit(epoch, view, height, name, validator, signature):
                self._vote(node, self._index.get(validator), _COMMIT, epoch, view, height, name, signature)
            case NewView(epoch, view, _, reproposals, validator):
                if self._index.get(validator) == node and (epoch, view) not in self._views:
                    self._views.add((epoch, view))
                    self.view_max = max(self.view_max, view)
                    self.marks[_NEW_VIEW_MARKS[min(len(reproposals), 2)]] += 1
                for again in reproposals:
                    author, header = view % len(self._validators), again.header
                    self._vote(node, author, _PREPARE, epoch, view, header.height, block_hash(header), again.signature)
            case ViewChange(epoch, view, _, _, proofs, validator):
                if self._index.get(validator) == node:
                    asked = self._witnesses[node].asked_view
                    if view > asked.get(epoch, -1):
                        asked[epoch] = view
                        self.marks[_VIEW_CHANGE_MARKS[min(len(proofs), 2)]] += 1
            case _:
                pass

    def _vote(
        self,
        sender: int,
        author: int | None,
        kind: str,
        epoch: int,
        view: int,
        height: int,
        name: bytes,
        signature: bytes,
    ) -> None:
        if author is None or author not in self._honest or sender not in self._honest:
            return
        vote = (author, kind, epoch, view, height)
        earlier = self._votes.setdefault(vote, name)
        if earlier == name:
            return
        domain = PREPARE_DOMAIN if kind == _PREPARE else COMMIT_DOMAIN
        message = msgpack.packb([domain, self._chain_id, epoch, view, height, name])
        if self._verify(self._validators[author], message, signature):
            raise Violation(
                Promise.VOTES,
                f"n{author} signed {kind} in view {view} at height {height} for two blocks: "
                f"{earlier.hex()[:12]} and {name.hex()[:12]}",
            )

    def signed(self, node: int, message: bytes) -> None:
        """A node makes a signature. After its VIEW-CHANGE left, it makes none of a lower view."""
        if node not in self._honest:
            return
        fields = msgspec.msgpack.decode(message)
        kind = _VOTE_DOMAINS.get(fields[0])
        if kind is None:
            return
        _, _, epoch, view, height, _ = fields
        asked = self._witnesses[node].asked_view.get(epoch, -1)
        if view < asked:
            raise Violation(
                Promise.VOTES, f"n{node} signs {kind} (view {view}, height {height}) after it asked for view {asked}"
            )

    # ---- over crashes and at the end

    def started(self, node: int, store: Store) -> None:
        """A process has opened its store again."""
        witness = self._witnesses[node]
        height = store.tip.height
        if height < witness.committed:
            raise Violation(
                Promise.DURABILITY, f"n{node} had committed height {witness.committed} and starts at {height}"
            )
        for transaction, at in witness.final.items():
            location = store.transaction_location(transaction)
            if location is None or location.height != at:
                raise Violation(Promise.DURABILITY, f"n{node} lost the final {transaction.hex()[:12]} of height {at}")
        while witness.committed < height:
            # A crash right after the write: durable, and nobody was told.
            block = store.block(witness.committed + 1)
            assert block is not None
            names = [self._submitted.get(raw, tagged_hash("unknown", raw)) for raw in block.transactions]
            self.committed_silently(node, store, witness.committed + 1, names)

    def committed_silently(self, node: int, store: Store, height: int, transactions: Sequence[bytes]) -> None:
        self.marks["block found durable at start that nobody was told of"] += 1
        self.committed(node, store, height, transactions)

    def states(self, stores: Mapping[int, Store]) -> None:
        """At the end: equal states at equal heights, and a sound ledger."""
        digests: dict[int, tuple[int, bytes]] = {}
        for node, store in stores.items():
            height = store.tip.height
            digest = tagged_hash("state", msgpack.packb(list(store.state.scan(b""))))
            other, expected = digests.setdefault(height, (node, digest))
            if digest != expected:
                raise Violation(Promise.ROOTS, f"n{node} and n{other} hold different states at height {height}")
            if digest in self._sound_roots:
                continue
            self._sound_roots.add(digest)
            for found in ledger_violations(store, self._chain_id):
                raise Violation(Promise.INVARIANTS, f"n{node}, height {height}: {found.invariant}, {found.detail}")
