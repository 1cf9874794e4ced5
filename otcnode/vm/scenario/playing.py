"""One block of a story: transactions built one after the other, each on the state that the one before left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from otcnode.crypto import SigningKey, sha256
from otcnode.errors import Inadmissible
from otcnode.vm.accounts.operations import AccountApply
from otcnode.vm.context import created_id
from otcnode.vm.executor import BlockExecution, environment_at, execute_block
from otcnode.vm.folding import state_figures
from otcnode.vm.invariants import check_state
from otcnode.vm.registry import OPERATIONS
from otcnode.vm.results import BlockResult, Receipt
from otcnode.vm.scenario.building import Actor
from otcnode.vm.scenario.conveniences import build
from otcnode.vm.scenario.document import Act, Submission
from otcnode.vm.scenario.malformed import ScenarioError
from otcnode.vm.scenario.values import instant
from otcnode.vm.scenario.world import Reading, World
from otcnode.vm.transactions import TRANSACTION_VERSION, Body, Decoded, sign_transaction


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one transaction; without a receipt it was inadmissible."""

    code: str
    operation: int | None
    explanation: str
    receipt: Receipt | None
    decoded: Decoded | None


class Block:
    """The next block of a world, open until `close`."""

    def __init__(self, world: World, at_ms: int) -> None:
        self.world = world
        self.at_ms = at_ms
        self.environment = environment_at(world.view, world.chain, world.height + 1, at_ms)
        self._execution = BlockExecution(world.view, self.environment)
        self._execution.run_due()
        self._included: list[Decoded] = []

    def reading(self) -> Reading:
        """The state as the next transaction will find it."""
        world = self.world
        view = world.view.after(self._execution.finish().writes)
        return Reading(world.names, view, self.at_ms, world.genesis.cash[0].id)

    def submit(self, submission: Submission) -> Outcome:
        """Build, sign and execute. Raises ScenarioError if the story makes no transaction of it."""
        reading = self.reading()
        actor = self._actor(reading, submission)
        operations = []
        for index, act in enumerate(submission.acts):
            try:
                operations.append(build(reading, actor, act.do, act.fields))
            except ScenarioError as error:
                raise error.within(f"operations[{index}]") if submission.operations else error from None
        applies = isinstance(operations[0], AccountApply)
        keys = self._keys(reading, actor, operations)
        self.world.submissions += 1
        body = Body(
            version=TRANSACTION_VERSION,
            chain=actor.chain,
            sender=b"" if applies else reading.names.account(actor.name),
            salt=sha256(self.world.submissions.to_bytes(8, "big")),
            valid_until=instant(submission.valid_until, self.at_ms),
            on_behalf_of=reading.names.account(submission.on_behalf_of) if submission.on_behalf_of else None,
            entrustment=actor.entrustment,
            operations=tuple(operations),  # type: ignore[arg-type]  # built from the union's own types
        )
        try:
            decoded = sign_transaction(body, keys)
        except Inadmissible as error:
            return Outcome(error.code.value, None, error.detail, None, None)
        outcome = self.apply(decoded)
        if outcome.code == "OK":
            self._name(submission.acts, actor, decoded)
        return outcome

    def apply(self, decoded: Decoded) -> Outcome:
        """Execute a transaction that exists already."""
        try:
            receipt = self._execution.apply(decoded)
        except Inadmissible as error:
            return Outcome(error.code.value, None, error.detail, None, decoded)
        self._included.append(decoded)
        explanation = self._execution.finish().explanations[-1]
        return Outcome(receipt.code.value, receipt.operation, explanation, receipt, decoded)

    def _actor(self, reading: Reading, submission: Submission) -> Actor:
        """`by`: an account, or keys ACCOUNT/LABEL, the first of which says whose transaction it is."""
        wanted = (submission.by,) if isinstance(submission.by, str) else submission.by
        if not wanted or not all(wanted):
            raise ScenarioError("says who signs", field="by")
        name, _, label = wanted[0].partition("/")
        if label == "" and len(wanted) > 1:
            raise ScenarioError("several signers are named ACCOUNT/LABEL each", field="by")
        keys = [reading.names.key(*entry.split("/", 1)) for entry in wanted if "/" in entry]
        applies = [act.do for act in submission.acts] == ["account.apply"]
        account = b"" if applies else reading.names.account(name)
        principal = reading.names.account(submission.on_behalf_of) if submission.on_behalf_of else account
        entrustment = reading.identifier(submission.entrustment) if submission.entrustment else None
        chain = reading.identifier(submission.chain) if submission.chain else self.world.chain
        return Actor(name, principal, entrustment, tuple(keys), chain)

    def _keys(self, reading: Reading, actor: Actor, operations: Sequence[object]) -> list[SigningKey]:
        """Those that the story chose, else as many live keys of each purpose needed as the threshold asks."""
        if actor.keys:
            return list(actor.keys)
        first = operations[0]
        if isinstance(first, AccountApply):
            own = {entry.key for entry in first.keys if entry.purpose is OPERATIONS[AccountApply].purpose}
            keys = [key for public, (_, _, key) in reading.names.keys.items() if public in own]
            return keys[: max(1, first.thresholds.manage)]
        chosen: dict[bytes, SigningKey] = {}
        account = reading.account(actor.name)
        for operation in operations:
            rule = OPERATIONS[type(operation)]
            if rule.one_key and (public := getattr(operation, "key", None)) in reading.names.keys:
                keys = [reading.names.keys[public][2]]
            else:
                count = 1 if rule.one_key else max(1, account.thresholds.of(rule.purpose))
                keys = [key for _, key in reading.live_keys(actor.name, rule.purpose)][:count]
                keys = keys or [reading.names.key(actor.name, rule.purpose.value.lower())]
            chosen |= {key.public: key for key in keys}
        return list(chosen.values())

    def _name(self, acts: Sequence[Act], actor: Actor, decoded: Decoded) -> None:
        reading = self.reading()
        names = self.world.names
        for index, act in enumerate(acts):
            item = created_id(decoded.id, index)
            if act.do == "account.apply":
                names.accounts[act.creates or actor.name] = item
            elif act.creates:
                if reading.record(item) is None:
                    raise ScenarioError(f"{act.do} created nothing that could be named", field="as")
                if act.creates in names.items:
                    raise ScenarioError(f"${act.creates} is named already", field="as")
                names.items[act.creates] = item

    def close(self) -> tuple[BlockResult, list[str]]:
        """Make the block the world's last. Also what is wrong with the ledger after it: broken invariants, events that
        do not add up to the state, a second execution that differs."""
        world = self.world
        result = self._execution.finish()
        again = execute_block(world.view, self.environment, self._included)
        world.view = world.view.after(result.writes)
        world.height += 1
        world.now = self.at_ms
        wrong = [str(violation) for violation in check_state(world.view)]
        if again != result:
            wrong.append("executing the block again gives another result")
        world.fold.add(result.events)
        folded, figures = world.fold.figures(), state_figures(world.view)
        wrong += [
            f"events say {folded.get(figure, 0)}, the state {figures.get(figure, 0)}: {figure}"
            for figure in sorted({*folded, *figures}, key=str)
            if folded.get(figure, 0) != figures.get(figure, 0)
        ]
        return result, wrong
