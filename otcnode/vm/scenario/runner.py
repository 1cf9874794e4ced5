"""Playing a story step by step; what each step expected and what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from otcnode.errors import Code, ConfigurationError
from otcnode.vm.results import BlockResult
from otcnode.vm.scenario import checks, fixture
from otcnode.vm.scenario.checks import Mismatch
from otcnode.vm.scenario.document import FIXTURE, Reader, Step, Story, Submission, load
from otcnode.vm.scenario.fixture import MACROS
from otcnode.vm.scenario.malformed import ScenarioError
from otcnode.vm.scenario.playing import Block, Outcome
from otcnode.vm.scenario.values import block_time, show_instant
from otcnode.vm.scenario.world import World
from otcnode.vm.transactions import Decoded

CODES = frozenset(code.value for code in Code)


@dataclass(frozen=True, slots=True)
class Transcript:
    """What one transaction did, for people."""

    code: str
    explanation: str
    events: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Played:
    """One step that was played. It held if there are no mismatches."""

    file: str
    step: str
    height: int
    at: str
    automatic: tuple[Transcript, ...]
    transactions: tuple[Transcript, ...]
    mismatches: tuple[Mismatch, ...]

    @property
    def held(self) -> bool:
        return not self.mismatches


def play(file: str, read: Reader) -> Iterator[Played]:
    """Every step of the story in the file, up to the first that does not hold. Raises ScenarioError."""
    yield from Play(load(file, read)).steps()


class Play:
    """A story being played."""

    def __init__(self, story: Story) -> None:
        self._story = story
        try:
            self._world = World(story.start, story.genesis)
        except ConfigurationError as error:
            raise ScenarioError(str(error), file=story.file, field="genesis") from None
        except ScenarioError as error:
            raise error.at(file=story.file) from None
        self._sent: dict[str, Decoded] = {}

    def steps(self) -> Iterator[Played]:
        """Raises ScenarioError."""
        if not fixture.is_empty(self._story.fixture):
            yield self._fixture()
        for file, step in self._story.steps:
            try:
                played = self._step(file, step)
            except ScenarioError as error:
                raise error.at(file=file, step=step.name) from None
            except AssertionError as error:
                error.add_note(f"the ledger broke its own rule in {file}, step {step.name!r}")
                raise
            yield played
            if not played.held:
                return

    def _fixture(self) -> Played:
        block = Block(self._world, self._world.now + 1)
        try:
            fixture.play(block, self._story.fixture)
        except ScenarioError as error:
            raise error.at(file=self._story.file) from None
        result, wrong = block.close()
        self._remember(FIXTURE)
        return self._played(self._story.file, Step(name=FIXTURE), result, _wrong(wrong))

    def _remember(self, step: str) -> None:
        self._world.past[step] = self._world.view
        self._world.names.heights[step] = self._world.height

    def _step(self, file: str, step: Step) -> Played:
        world = self._world
        at_ms = block_time(step.at, world.now)
        if at_ms <= world.now:
            raise ScenarioError(f"not after the block before, at {show_instant(world.now, step.at)}", field="at")
        block = Block(world, at_ms)
        mismatches: list[Mismatch] = []
        for index, submission in enumerate(step.submissions):
            place = f"transactions[{index}]" if step.transactions else ""
            try:
                mismatches += self._submit(block, step, submission, place)
            except ScenarioError as error:
                raise error.within(place) if place else error from None
        result, wrong = block.close()
        self._remember(step.name)
        mismatches += [*_wrong(wrong), *checks.perform(world, result, step.check)]
        return self._played(file, step, result, mismatches)

    def _submit(self, block: Block, step: Step, submission: Submission, place: str) -> list[Mismatch]:
        if submission.expect not in CODES:
            raise ScenarioError(f"unknown code {submission.expect!r}", field="expect")
        if submission.do in MACROS:
            if submission.expect != Code.OK.value:
                raise ScenarioError(f"{submission.do} stands for several transactions, all of them OK", field="expect")
            MACROS[submission.do](block, submission)
            return []
        if submission.again:
            if submission.again not in self._sent:
                raise ScenarioError(f"no step {submission.again!r} sent a transaction", field="again")
            outcome = block.apply(self._sent[submission.again])
        elif not submission.acts:
            raise ScenarioError("a transaction needs do, operations or again")
        else:
            outcome = block.submit(submission)
        if outcome.decoded is not None:
            self._sent[step.name] = outcome.decoded
        return _judge(submission, outcome, place)

    def _played(self, file: str, step: Step, result: BlockResult, mismatches: list[Mismatch]) -> Played:
        world = self._world
        automatic = [
            Transcript(
                f"{receipt.kind} {world.names.show(receipt.item)} {receipt.code.value}",
                "",
                tuple([checks.event_text(world, event) for event in receipt.events]),
            )
            for receipt in result.automatic
        ]
        transactions = [
            Transcript(
                receipt.code.value, explanation, tuple([checks.event_text(world, event) for event in receipt.events])
            )
            for receipt, explanation in zip(result.receipts, result.explanations, strict=True)
        ]
        at = show_instant(world.now, step.at if not step.at.startswith("+") else world.start)
        return Played(file, step.name, world.height, at, tuple(automatic), tuple(transactions), tuple(mismatches))


def _wrong(violations: list[str]) -> list[Mismatch]:
    return [Mismatch("invariants", "all hold", violation) for violation in violations]


def _judge(submission: Submission, outcome: Outcome, place: str) -> list[Mismatch]:
    prefix = f"{place}." if place else ""
    actual = f"{outcome.code}: {outcome.explanation}" if outcome.explanation else outcome.code
    if outcome.code != submission.expect:
        return [Mismatch(f"{prefix}expect", submission.expect, actual)]
    found = []
    if submission.failing_operation is not None and outcome.operation != submission.failing_operation:
        found.append(Mismatch(f"{prefix}failing_operation", str(submission.failing_operation), str(outcome.operation)))
    if submission.because not in outcome.explanation:
        found.append(Mismatch(f"{prefix}because", submission.because, outcome.explanation))
    return found
