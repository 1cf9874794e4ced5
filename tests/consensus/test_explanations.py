"""What a replica says of itself where no script can put it: as data as well as in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from otcnode.blocks import Header
from otcnode.cli.conclusion import conclude
from otcnode.consensus import record
from otcnode.consensus.events import Complaint, Work
from otcnode.consensus.explain import Cause, Explanation
from otcnode.consensus.messages import Message, PrePrepare, Status, status_preimage
from tests.consensus.answers import answer_of, check_explanations
from tests.consensus.cluster import Cluster, Node, commit_of, pre_prepare_of
from tests.consensus.script import run_script
from tests.consensus.toy import CHAIN, entries_of, execute, fake_sign

Execution = Callable[[Header, tuple[bytes, ...]], None]
SCRIPTS = Path(__file__).with_name("scripts")


def _explain(node: Node) -> Explanation:
    assert node.replica is not None
    return node.replica.explain(node.now())


def _causes(node: Node) -> list[Cause]:
    return [reason.cause for reason in _explain(node).causes]


def test_halted_is_the_first_cause() -> None:
    cluster = Cluster(4)
    cluster.start()
    cluster.advance(600)
    node = cluster.nodes[3]
    right = node.execute
    node.execute = lambda header, bodies: right(header, (*bodies, b"a fault of this node"))  # type: ignore[method-assign]
    cluster.submit(b"a")
    cluster.advance(3_000)
    explained = _explain(node)
    assert explained.causes[0].cause is Cause.HALTED
    assert "certified block 1 executes differently here" in explained.reasons[0]
    assert cluster.heights()[:3] == [1, 1, 1]


def test_a_record_ahead_of_its_store_is_named_with_the_height_that_is_missing() -> None:
    cluster = Cluster(4)
    cluster.start()
    cluster.submit(b"a")
    cluster.advance(600)
    node = cluster.nodes[3]
    node.crash()
    node.disk.chain.clear()
    cluster.isolate(3)
    node.start()
    cluster.advance(3_000)
    held_back = [reason for reason in _explain(node).causes if reason.cause is Cause.HELD_BACK]
    assert [reason.height for reason in held_back] == [1] and node.disk.record is not None
    assert record.read(node.disk.record) is not None


def test_a_complaint_about_the_primary_is_told_with_its_reason_and_costs_no_patience() -> None:
    cluster = Cluster(4)
    cluster.start()
    cluster.advance(600)
    node = cluster.nodes[2]
    node.feed(Complaint(1, 0, "transaction abc is overdue"))
    asked = [reason for reason in _explain(node).causes if reason.cause is Cause.ASKED]
    assert [reason.text for reason in asked] == ["asked for view 1: transaction abc is overdue"]
    assert node.replica is not None and node.replica.state.timeout_steps == 0
    missing = [reason for reason in _explain(node).causes if reason.cause is Cause.ASKING]
    assert missing[0].missing == 2 and len(missing[0].nodes) == 3
    cluster.nodes[1].feed(Complaint(1, 0, "transaction abc is overdue"))
    cluster.advance(1_000)
    assert [node.replica.state.view for node in cluster.nodes if node.replica is not None] == [1] * 4


def test_a_complaint_about_another_view_or_by_who_hears_nobody_changes_nothing() -> None:
    cluster = Cluster(4)
    cluster.start()
    cluster.advance(600)
    node = cluster.nodes[2]
    node.feed(Complaint(1, 7, "of another view"))
    node.feed(Complaint(9, 0, "of another epoch"))
    cluster.nodes[0].feed(Complaint(1, 0, "of the primary about itself"))
    cluster.isolate(3)
    cluster.advance(5_000)
    cluster.nodes[3].feed(Complaint(1, 0, "hears nobody"))
    assert [node.replica.state.view for node in cluster.nodes if node.replica is not None] == [0] * 4


def test_who_is_behind_says_behind_whom() -> None:
    cluster = Cluster(4)
    cluster.sync_works = False
    cluster.start()
    cluster.isolate(3)
    for name in (b"a", b"b"):
        cluster.submit(name)
        cluster.advance(1_000)
    cluster.heal()
    cluster.nodes[3].crash()
    cluster.nodes[3].start()
    cluster.advance(150)
    assert Cause.BEHIND in _causes(cluster.nodes[3])


def test_what_one_validator_says_of_its_height_makes_nobody_behind() -> None:
    """Node 2 is dead, node 3 does not vote and claims a height that nobody has."""
    cluster = Cluster(4)
    cluster.liars.add(3)
    liar = cluster.nodes[3]

    def lie(sender: Node, _receiver: Node, message: Message) -> Message | None:
        if sender is not liar:
            return message
        if not isinstance(message, Status):
            return None
        plain = replace(message, committed=1_000_000_000, heights=())
        return replace(plain, signature=fake_sign(liar.name, status_preimage(CHAIN, plain)))

    cluster.on_send = lie
    cluster.start()
    cluster.advance(600)
    cluster.nodes[2].crash()
    cluster.submit(b"a")
    cluster.advance(5_000)
    for node in cluster.nodes[:2]:
        assert Cause.CLAIMED in _causes(node) and Cause.BEHIND not in _causes(node)
    found = conclude({f"address {node.index}": answer_of(cluster, node) for node in cluster.nodes[:2]})
    assert found.nodes["node 2"].startswith("silent") and not {"node 0", "node 1"} & found.nodes.keys()


def test_only_a_commit_within_the_shortest_timeout_is_progress() -> None:
    cluster = Cluster(4)
    cluster.start()
    cluster.submit(b"a")
    cluster.advance(100)
    cluster.nodes[0].crash()
    cluster.nodes[1].crash()
    cluster.submit(b"b")
    node = cluster.nodes[2]
    assert _explain(node).progressing
    cluster.advance(2_000)
    assert node.replica is not None and not _explain(node).progressing
    node.replica.state.timeout_steps = 4
    assert not _explain(node).progressing
    node.crash()
    node.start()
    assert not _explain(node).progressing, "a start is no commit"


def test_a_new_epoch_forgets_no_commit() -> None:
    cluster = Cluster(4)
    cluster.start()
    cluster.submit(b"validators:" + b"".join(node.name for node in cluster.nodes[:3]))
    cluster.advance(100)
    cluster.submit(b"a")
    cluster.advance(100)
    replica = cluster.nodes[1].replica
    assert replica is not None and replica.state.epoch.number == 3
    assert replica.state.last_commit_ms is not None and replica.state.last_commit_ms > 100


def test_a_false_list_is_held_against_the_primary_only_if_it_came_from_it() -> None:
    cluster = Cluster(4)
    cluster.start()
    cluster.advance(600)
    primary, node = cluster.nodes[:2]
    primary.crash()
    cluster.liars.update((0, 3))
    header, _ = execute(node.tip_state(), (b"a", b"b"), primary.now().ledger_ms, primary.name)
    message = pre_prepare_of(primary.name, 1, 0, header, entries_of((b"b", b"a")))
    cluster.inject(3, 1, message)
    assert Cause.REFUSED not in _causes(node) and [peer for peer, _ in node.blamed] == [cluster.nodes[3].name]
    cluster.inject(0, 1, message)
    assert [reason.nodes for reason in _explain(node).causes if reason.cause is Cause.REFUSED] == [(primary.name,)]
    node.submit(b"a")
    assert Cause.NO_PROPOSAL not in _causes(node)
    cluster.inject(0, 1, pre_prepare_of(primary.name, 1, 0, header, entries_of((b"a", b"b"))))
    assert Cause.REFUSED not in _causes(node), "the true list came after all"


def test_a_lie_is_told_until_the_chain_is_past_it() -> None:
    cluster = Cluster(4)
    cluster.start()
    cluster.advance(600)
    cluster.liars.add(3)
    liar, node = cluster.nodes[3], cluster.nodes[1]
    for block in (b"x", b"y"):
        cluster.inject(3, 1, commit_of(liar.name, 1, 0, 1, block.ljust(32)))
    told = [(reason.cause, reason.height, reason.nodes) for reason in _explain(node).causes]
    assert told == [(Cause.LIED, 1, (liar.name,))]
    cluster.submit(b"a")
    cluster.advance(100)
    assert _causes(node) == [] and node.tip_state().height == 1


def test_every_cause_is_the_true_one_of_some_script() -> None:
    """Those of which no script can be made are shown above."""
    shown: set[Cause] = set()
    for path in sorted(SCRIPTS.glob("*.txt")):
        text = path.read_text()
        if "\nexplain " in text:
            run_script(text, shown.add)
    assert set(Cause) - shown == {Cause.HALTED, Cause.HELD_BACK, Cause.CLAIMED}


def test_a_primary_whose_block_is_not_built_says_whether_it_is_slow_or_has_nothing_to_build() -> None:
    cluster = Cluster(4)
    cluster.start()
    cluster.advance(600)
    node = cluster.nodes[0]
    node.feed(Work(1, None))
    assert "proposes nothing: nothing that waits can go into a block now" in _explain(node).reasons
    node.build = lambda request: None  # type: ignore[method-assign]
    cluster.submit(b"a")
    assert _explain(node).reasons == ("proposes nothing yet: its block is being built",)
    assert not _explain(node).progressing


def test_a_former_primarys_bad_block_is_not_held_against_the_honest_one_after_it() -> None:
    """Its execution is slow, and is over only when the next view is open."""
    cluster = Cluster(4)
    cluster.liars.add(0)
    liar, others = cluster.nodes[0], cluster.nodes[1:]
    cluster.on_send = lambda sender, _receiver, message: None if sender is liar else message
    slow: list[Callable[[], None]] = []
    for node in others:

        def execute_later(header: Header, bodies: tuple[bytes, ...], right: Execution = node.execute) -> None:
            slow.append(lambda: right(header, bodies))

        node.execute = execute_later  # type: ignore[method-assign]
    cluster.start()
    cluster.advance(600)
    header, _ = execute(cluster.genesis, (b"x",), liar.now().ledger_ms, liar.name)
    header = replace(header, state_root=bytes(32))
    for node in others:
        node.submit(b"x")
        cluster.inject(0, node.index, pre_prepare_of(liar.name, 1, 0, header, entries_of((b"x",))))
    assert cluster.advance_until(lambda: all(_is_active_in(node, 1) for node in others), 10_000)
    cluster.on_send = lambda sender, _receiver, message: (
        None if sender is liar or isinstance(message, PrePrepare) else message
    )
    while slow:
        slow.pop(0)()
    check_explanations(cluster)
    for node in others:
        assert Cause.REFUSED not in _causes(node)
    assert Cause.NO_PROPOSAL in _causes(cluster.nodes[2])


def _is_active_in(node: Node, view: int) -> bool:
    assert node.replica is not None
    return node.replica.state.active and node.replica.state.view == view
