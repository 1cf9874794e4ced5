"""Everything the nodes promise, checked from outside with as little of their code as possible."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgpack
import msgspec

from otcnode.audit import ledger_violations
from otcnode.blocks import COMMIT_DOMAIN, PREPARE_DOMAIN, VALIDATORS_DOMAIN, Certificate, Epoch, Header, block_hash
from otcnode.codec import decode
from otcnode.consensus.messages import Commit, Message, NewView, Prepare, PrePrepare, ViewChange
from otcnode.consensus.record import Accepted, Asked, Entered, Proved, RecordEntry
from otcnode.crypto import tagged_hash, verify
from otcnode.remembered import remembered
from otcnode.simulation.marks import Marks
from otcnode.simulation.patience import Patience
from otcnode.simulation.plan import ClockStep, Plan
from otcnode.simulation.readiness import Readiness
from otcnode.simulation.roots import list_root_of, state_root_of
from otcnode.simulation.rules import Place, Rules
from otcnode.simulation.signing import Verify
from otcnode.simulation.violation import Promise, Violation
from otcnode.simulation.workload import Client
from otcnode.storage.store import Store
from otcnode.vm.transactions import decode_transaction, signature_checks

Vote = tuple[int, str, Place]
"""(node, PREPARE or COMMIT, where)"""

EPOCHS_REMEMBERED = 16
_PREPARE, _COMMIT = "PREPARE", "COMMIT"
_ENTERED, _ASKED = b"\xa7entered", b"\xa5asked"
"""How the tags of entries of the voting record are encoded."""


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
    """Sees every commit, every signature made and every message sent by an honest node."""

    def __init__(
        self,
        plan: Plan,
        chain: bytes,
        nodes: Sequence[bytes],
        clients: Sequence[Client],
        verify_vote: Verify,
        marks: Marks,
        now_ms: Callable[[], int],
    ) -> None:
        """`now_ms` is the right ledger time."""
        honest = frozenset(range(plan.nodes)) - plan.unbound
        sets = [tuple(sorted(nodes[index] for index in members)) for members in plan.sets]
        self._chain_id = chain
        self._nodes = tuple(nodes)
        self._index = {name: index for index, name in enumerate(nodes)}
        self._sets = frozenset(sets)
        self._epochs = {1: sets[0]}
        """Number to validators, of every epoch that some node has come to."""
        self._deciders: dict[int, bytes] = {}
        """Number of an epoch to what headers call its validators, once a block of it is committed."""
        self._honest = honest
        self._verify = verify_vote
        self._view_max = plan.view_max
        self._now_ms = now_ms
        self._ahead_ms_max = plan.drift_ms + max(
            *plan.skews_ms, 0, *(fault.skew_ms for fault in plan.faults if isinstance(fault, ClockStep))
        )
        self._times_ms: dict[int, int] = {}
        self._patience = Patience(plan.view_timeout_ms, plan.view_timeout_ms_max, plan.nodes)
        self._submitted = {client.transaction.raw: client.transaction.id for client in clients}
        self._unauthorised = frozenset(client.transaction.id for client in clients if client.is_unauthorised)
        self._blocks: dict[int, tuple[bytes, bytes]] = {}
        """Height to (block hash, state root)."""
        self._bodies: dict[int, tuple[bytes, ...]] = {}
        """Height to its transactions, signatures included."""
        self._in_chain: dict[bytes, int] = {}
        self._votes: dict[Vote, bytes] = {}
        self._witnesses = [_Witness() for _ in nodes]
        self._rules = Rules(honest, len(plan.unbound))
        self._readiness = Readiness(self._nodes)
        self._sound_roots: set[bytes] = set()
        self._views: set[tuple[int, int]] = set()
        self._marks = marks
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
        certificate, block = store.certificate(height), store.block(height)
        if certificate is None or block is None:
            raise Violation(Promise.DURABILITY, f"n{node} committed height {height} and does not hold it")
        header, witness = block.header, self._witnesses[node]
        if height != witness.committed + 1:
            raise Violation(Promise.DURABILITY, f"n{node} committed height {height} after {witness.committed}")
        name = block_hash(header)
        self._check_certificate(node, header, certificate)
        known = height in self._blocks
        if not known:
            self._check_validity(node, height, block.transactions, transactions)
            self._check_once(height, transactions)
            self._blocks[height] = (name, header.state_root)
            self._bodies[height] = block.transactions
            self._readiness.committed(height, block.transactions)
        self._check_agreement(node, header, block.transactions)
        self._check_time(node, header)
        self._check_root(node, header, store, known)
        self._check_receipts(node, header, store)
        self._check_epoch(node, store, header)
        witness.committed = height
        witness.final.update(dict.fromkeys(transactions, height))
        self._rules.committed(node, height)
        self._patience.committed(node)
        self._marks.committed(node, height, certificate, len(transactions))

    def _check_agreement(self, node: int, header: Header, bodies: Sequence[bytes]) -> None:
        height, name, (known, _) = header.height, block_hash(header), self._blocks[header.height]
        if known != name:
            raise Violation(
                Promise.AGREEMENT,
                f"height {height} is {name.hex()[:12]} for n{node}, and was {known.hex()[:12]} before",
            )
        if height > 1 and self._blocks[height - 1][0] != header.parent:
            raise Violation(Promise.AGREEMENT, f"n{node}: block {height} does not extend block {height - 1}")
        if self._bodies[height] != bodies:
            raise Violation(Promise.AGREEMENT, f"n{node} holds other copies of the transactions of block {height}")

    def _check_time(self, node: int, header: Header) -> None:
        """Later than that of the block below, and within the drift of the honest clock that is furthest ahead."""
        height, time_ms = header.height, header.time_ms
        if time_ms <= self._times_ms.get(height - 1, 0):
            raise Violation(Promise.VALIDITY, f"n{node}: the time of block {height} is not after its parent's")
        if height not in self._times_ms and time_ms > self._now_ms() + self._ahead_ms_max:
            ahead_ms = time_ms - self._now_ms()
            raise Violation(Promise.VALIDITY, f"n{node}: block {height} is {ahead_ms} ms ahead of the time")
        self._times_ms[height] = time_ms

    def _check_validity(self, node: int, height: int, bodies: Sequence[bytes], transactions: Sequence[bytes]) -> None:
        names = [self._name_of(raw) for raw in bodies]
        if None in names:
            raise Violation(Promise.VALIDITY, f"n{node}: block {height} holds a transaction nobody submitted")
        if not self._unauthorised.isdisjoint(transactions):
            raise Violation(Promise.VALIDITY, f"n{node}: block {height} holds what its signer may not do")
        if names != list(transactions):
            raise Violation(Promise.VALIDITY, f"n{node}: block {height} names other transactions than it holds")

    def _check_once(self, height: int, transactions: Sequence[bytes]) -> None:
        for transaction in transactions:
            earlier = self._in_chain.setdefault(transaction, height)
            if earlier != height or list(transactions).count(transaction) > 1:
                raise Violation(Promise.ONCE, f"{transaction.hex()[:12]} is in blocks {earlier} and {height}")

    def _check_root(self, node: int, header: Header, store: Store, known: bool) -> None:
        """The first state of a height is hashed anew; the others must have the same root as it."""
        if store.tree.root != header.state_root:
            raise Violation(Promise.ROOTS, f"n{node} at height {header.height}")
        if not known and state_root_of(store.state.scan(b""), store.tree.buckets) != header.state_root:
            raise Violation(Promise.ROOTS, f"block {header.height} names another state root than n{node}'s state has")

    def _check_receipts(self, node: int, header: Header, store: Store) -> None:
        """One for each transaction after those of what was due, and all of them under the header's root."""
        stored = store.receipts(header.height)
        if stored is None or len(stored.receipts) != stored.automatic_count + header.transaction_count:
            raise Violation(Promise.DURABILITY, f"n{node} does not hold the receipts of height {header.height}")
        if list_root_of(stored.receipts) != header.receipts_root:
            raise Violation(Promise.ROOTS, f"block {header.height} names another receipts root than n{node}'s have")

    def _name_of(self, raw: bytes) -> bytes | None:
        """The id of what a client submitted or a validator said in its own name; None: nobody did."""
        name = self._submitted.get(raw)
        if name is None:
            decoded = decode_transaction(raw)
            authors = [entry.key for entry in decoded.transaction.signatures]
            own = not decoded.transaction.body.sender and set(authors) <= set(self._nodes)
            if own and all(verify(*check) for check in signature_checks(decoded)):
                name = self._submitted[raw] = decoded.id
                if self._readiness.heard(decoded):
                    self._marks.hit("a node says that it is ready")
        return name

    def _check_epoch(self, node: int, store: Store, header: Header) -> None:
        """A header names who decides it and who decides the next; another epoch begins only as the ledger's clients
        wanted."""
        where, height = f"n{node}, height {header.height}", header.height
        announced = store.epoch_of(height + 1)
        named = _name_of_epoch(announced)
        if named != header.next_validators_hash or store.epochs()[-1].number > height + 1:
            raise Violation(Promise.CERTIFICATE, f"{where}: another epoch than the header announces")
        begins = announced.number == height + 1
        if begins is (header.next_validators_hash == header.validators_hash):
            raise Violation(Promise.CERTIFICATE, f"{where}: an epoch that the header does not show")
        self._deciders.setdefault(self._epoch_at(height), header.validators_hash)
        if not begins:
            return
        if self._epochs.setdefault(announced.number, announced.validators) != announced.validators:
            raise Violation(Promise.AGREEMENT, f"{where}: an epoch of others than before")
        if announced.validators not in self._sets:
            raise Violation(Promise.VALIDITY, f"{where}: an epoch of validators that nobody proposed")
        before = self._epoch_at(height)
        self._readiness.begins(announced.number, self._epochs[before], announced.validators)
        changed = any(epoch == before for epoch, _ in self._views)
        self._marks.began(announced.number, self._epochs[before], announced.validators, changed)

    def _epoch_at(self, height: int) -> int:
        return max(number for number in self._epochs if number <= height)

    def _author(self, epoch: int, view: int) -> int:
        """The primary of a view."""
        validators = self._epochs[epoch]
        return self._index[validators[view % len(validators)]]

    def _check_certificate(self, node: int, header: Header, certificate: Certificate) -> None:
        """By the published rule, in code of its own."""
        where = f"n{node}, height {header.height}"
        encoded = msgpack.packb(
            [COMMIT_DOMAIN, self._chain_id, certificate.epoch, certificate.view, header.height, block_hash(header)]
        )
        signers = [entry.validator for entry in certificate.signatures]
        epoch = self._epoch_at(header.height)
        validators = self._epochs[epoch]
        if certificate.epoch != epoch:
            raise Violation(Promise.CERTIFICATE, f"{where}: of epoch {certificate.epoch}, where {epoch} decides")
        if len(set(signers)) != len(signers) or not set(signers) <= set(validators):
            raise Violation(Promise.CERTIFICATE, f"{where}: a signer twice or unknown")
        if len(signers) < quorum_of(len(validators)):
            raise Violation(Promise.CERTIFICATE, f"{where}: {len(signers)} of {quorum_of(len(validators))} signatures")
        for entry in certificate.signatures:
            if not self._verify(entry.validator, encoded, entry.signature):
                raise Violation(Promise.CERTIFICATE, f"{where}: a false signature of n{self._index[entry.validator]}")

    # ---- votes

    def said(self, node: int, message: Message) -> None:
        """A node hands a message to the network; votes in it are its own word or another's."""
        match message:
            case PrePrepare(epoch, view, header):
                author = self._author(epoch, view)
                place = (epoch, view, header.height)
                if node == author and self._deciders.get(epoch, header.validators_hash) != header.validators_hash:
                    raise Violation(
                        Promise.RULES,
                        f"n{node} proposes height {header.height} in epoch {epoch}, which another decides",
                    )
                self._vote(node, author, _PREPARE, place, block_hash(header), message.signature)
            case Prepare(epoch, view, height, name, validator, signature):
                self._vote(node, self._index.get(validator), _PREPARE, (epoch, view, height), name, signature)
            case Commit(epoch, view, height, name, validator, signature):
                self._vote(node, self._index.get(validator), _COMMIT, (epoch, view, height), name, signature)
            case NewView(epoch, view, _, reproposals, validator):
                if self._index.get(validator) == node and (epoch, view) not in self._views:
                    self._views.add((epoch, view))
                    self.view_max = max(self.view_max, view)
                    self._marks.opened(message)
                    self._rules.opened(node, message)
                for again in reproposals:
                    author, place = self._author(epoch, view), (epoch, view, again.header.height)
                    name = block_hash(again.header)
                    self._vote(node, author, _PREPARE, place, name, again.signature)
            case ViewChange(epoch=epoch, view=view, validator=validator):
                if self._index.get(validator) == node:
                    asked = self._witnesses[node].asked_view
                    if view > asked.get(epoch, -1):
                        asked[epoch] = view
                        self._rules.asked(node, message)
                        self._marks.asked(node, message)
            case _:
                pass

    def _vote(
        self,
        sender: int,
        author: int | None,
        kind: str,
        place: Place,
        name: bytes,
        signature: bytes,
    ) -> None:
        if author is None or author not in self._honest or sender not in self._honest:
            return
        vote = (author, kind, place)
        earlier = self._votes.get(vote)
        if earlier is None:
            self._votes[vote] = name
            if author == sender:
                proposes = kind == _PREPARE and author == self._author(place[0], place[1])
                self._rules.voted(author, kind, place, name, quorum_of(len(self._epochs[place[0]])), proposes)
            return
        if earlier == name:
            return
        epoch, view, height = place
        domain = PREPARE_DOMAIN if kind == _PREPARE else COMMIT_DOMAIN
        message = msgpack.packb([domain, self._chain_id, epoch, view, height, name])
        if self._verify(self._nodes[author], message, signature):
            raise Violation(
                Promise.VOTES,
                f"n{author} signed {kind} in view {view} at height {height} for two blocks: "
                f"{earlier.hex()[:12]} and {name.hex()[:12]}",
            )

    def signed(self, node: int, message: bytes) -> None:
        """A node makes a signature."""
        self._rules.signed(node, message)

    def saved(self, node: int, entries: Sequence[bytes]) -> None:
        """A node writes to its voting record."""
        for raw in entries:
            if _ENTERED in raw[:16] or _ASKED in raw[:16]:
                match decode(RecordEntry, raw):
                    case Entered(new_view):
                        self._rules.entered(node, new_view, quorum_of(len(self._epochs[new_view.epoch])))
                        self._marks.entered(node, new_view)
                    case Asked(view_change):
                        quorum = quorum_of(len(self._epochs[view_change.epoch]))
                        self._rules.wants(node, view_change, quorum)
                        self._check_deposed(node, view_change.view)
                        self._patience.asked(node)

    def _check_deposed(self, node: int, view: int) -> None:
        """Where the plan says that from some view on every primary does its part."""
        if self._view_max is not None and node in self._honest and view > self._view_max:
            raise Violation(
                Promise.LIVENESS,
                f"n{node} asks for view {view}: the primary of view {self._view_max} does its part, and is deposed",
            )

    def record_durable(self, node: int) -> None:
        """A node's voting record has reached its disk."""
        self._rules.record_durable(node)

    def waits(self, node: int, delay_ms: int) -> None:
        """A node sets its view timer."""
        if node in self._honest:
            self._patience.waits(node, delay_ms)

    # ---- over crashes and at the end

    def forgot_blocks(self, node: int, down_to: int = 0) -> None:
        """Its store was taken away, but for what it was at a height; what it had committed comes back by block sync."""
        self._witnesses[node].committed = down_to
        self._witnesses[node].final.clear()
        self._rules.forgot_blocks(node)

    def lost_record(self, node: int) -> None:
        """Its voting record was taken away."""
        self._rules.lost_record(node)

    def started(self, node: int, store: Store, kept: Sequence[bytes] | None) -> None:
        """A process has opened its store again; `kept` is its voting record."""
        self._patience.started(node)
        entries: list[RecordEntry] = [decode(RecordEntry, raw) for raw in kept or ()]
        self._check_bodies_kept(node, store.tip.height, entries)
        self._marks.started(node, store.tip.height, entries)
        self._rules.started(node)
        for entry in entries:
            if isinstance(entry, Entered):
                self._rules.entered(node, entry.new_view, quorum_of(len(self._epochs[entry.new_view.epoch])))
        witness = self._witnesses[node]
        height = store.tip.height
        if height < witness.committed:
            raise Violation(
                Promise.DURABILITY, f"n{node} had committed height {witness.committed} and starts at {height}"
            )
        if store.blocks_first > witness.committed + 1:
            self._jumped(node, store)
        witness.final = {name: at for name, at in witness.final.items() if at >= store.blocks_first}
        for transaction, at in witness.final.items():
            location = store.transaction_location(transaction)
            if location is None or location.height != at:
                raise Violation(Promise.DURABILITY, f"n{node} lost the final {transaction.hex()[:12]} of height {at}")
        while witness.committed < height:
            # A crash right after the write: durable, and nobody was told.
            block = store.block(witness.committed + 1)
            assert block is not None
            names = [self._name_of(raw) or tagged_hash("unknown", raw) for raw in block.transactions]
            self.committed_silently(node, store, witness.committed + 1, names)

    def _jumped(self, node: int, store: Store) -> None:
        """It goes on from a snapshot: a block of the chain that everybody has, with that block's state."""
        tip = store.tip
        assert tip.header is not None and tip.certificate is not None
        self._check_certificate(node, tip.header, tip.certificate)
        known = self._blocks.get(tip.height)
        if known is None or known[0] != tip.block_hash:
            raise Violation(
                Promise.AGREEMENT, f"n{node} goes on from a snapshot of height {tip.height} of another chain"
            )
        if store.tree.root != known[1]:
            raise Violation(Promise.ROOTS, f"n{node} goes on from a snapshot of height {tip.height}")
        self._witnesses[node].committed = tip.height
        self._rules.committed(node, tip.height)
        self._marks.hit("a node went on from a snapshot")

    def _check_bodies_kept(self, node: int, height: int, entries: Sequence[RecordEntry]) -> None:
        """Whoever holds a proof can serve the block that it proves."""
        bodies = {block_hash(entry.header): entry for entry in entries if isinstance(entry, Accepted)}
        for entry in entries:
            if not isinstance(entry, Proved) or entry.proof.header.height <= height:
                continue
            header = entry.proof.header
            accepted = bodies.get(block_hash(header))
            if accepted is None or len(accepted.bodies) != header.transaction_count:
                raise Violation(Promise.DURABILITY, f"n{node} has a proof of height {header.height} without bodies")

    def committed_silently(self, node: int, store: Store, height: int, transactions: Sequence[bytes]) -> None:
        self._marks.hit("block found durable at start that nobody was told of")
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
            self._check_ledger(node, store)

    def _check_ledger(self, node: int, store: Store) -> None:
        for found in ledger_violations(store, self._chain_id):
            raise Violation(
                Promise.INVARIANTS, f"n{node}, height {store.tip.height}: {found.invariant}, {found.detail}"
            )


@remembered(EPOCHS_REMEMBERED)
def _name_of_epoch(epoch: Epoch) -> bytes:
    """By the published rule, in code of its own."""
    return tagged_hash(VALIDATORS_DOMAIN, msgpack.packb(_plain(epoch)))


def _plain(record: msgspec.Struct) -> list[object]:
    """The array that a record is on the wire."""
    fields = msgspec.structs.astuple(record)
    return [_plain(field) if isinstance(field, msgspec.Struct) else field for field in fields]
