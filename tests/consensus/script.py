"""Interaction scripts: commands, a line of dashes, and what the cluster shows.

A script is a text file of blocks separated by empty lines; a block is its commands, `----`, and the expected output.
Lines that begin with # are prose. `pytest tests/consensus --rewrite` writes the outputs anew.
"""

from __future__ import annotations

from collections.abc import Callable

from otcnode.blocks import Certificate, block_hash, prepare_preimage
from otcnode.cli.conclusion import conclude
from otcnode.consensus.explain import Cause
from otcnode.consensus.messages import (
    Commit,
    Message,
    NewView,
    Prepare,
    PrePrepare,
    Proof,
    Reproposal,
    ViewChange,
    new_view_preimage,
    view_change_preimage,
)
from otcnode.consensus.view_change import select
from otcnode.genesis import ChainParameters
from tests.consensus.answers import answer_of, explained, name_of, readable
from tests.consensus.cluster import Cluster, Node, commit_of, describe, pre_prepare_of, prepare_of
from tests.consensus.toy import CHAIN, CHANGE, WINDOW, ToyState, entries_of, execute, fake_sign

OPTIONS = {
    "nodes": "heartbeat window rotation block spare",
    "submit": "to",
    "start": "record blocks vote_again",
    "drop": "type from to height",
    "propose": "from to view name parent time shuffled",
    "vote": "from to view height block signature",
    "ask": "from to view committed forged",
    "open": "from to view lie",
}
"""What each command knows: any other option is a mistake of the script."""
WORDLESS = frozenset({"heal", "drop", "pass", "ask", "open", "show", "blamed"})


def run_script(text: str, explained: Callable[[Cause], None] = lambda _: None) -> str:
    """The same script with its true outputs. `explained` is told each cause that `explain` shows."""
    script = Script(explained)
    blocks = []
    for block in text.strip("\n").split("\n\n"):
        head, separator, _ = block.partition("----")
        if not separator:
            assert all(line.startswith("#") for line in block.splitlines()), f"a block that nobody runs: {block}"
            blocks.append(block)
            continue
        output: list[str] = []
        for line in head.strip().splitlines():
            if not line.startswith("#"):
                output.extend(script.command(line))
        blocks.append("\n".join([head.rstrip(), "----", *output]))
    return "\n\n".join(blocks) + "\n"


class Script:
    """Executes commands; each returns lines of output."""

    def __init__(self, explained: Callable[[Cause], None]) -> None:
        self._explained = explained
        self._cluster: Cluster | None = None
        self._rules: list[dict[str, str]] = []
        self._log: list[str] | None = None
        self._logged: set[str] = set()
        self._names: dict[str, bytes] = {}
        self._states: dict[str, ToyState] = {}

    @property
    def cluster(self) -> Cluster:
        assert self._cluster is not None, "a script begins with nodes"
        return self._cluster

    def command(self, line: str) -> list[str]:
        word, *rest = line.split()
        positional = [part for part in rest if "=" not in part]
        options = dict(part.split("=", 1) for part in rest if "=" in part)
        unknown = sorted(set(options) - set(OPTIONS.get(word, "").split()))
        assert not unknown, f"{word} has no {unknown}"
        assert not positional or word not in WORDLESS, f"{word} takes no {positional}"
        self._log = []
        method: Callable[[list[str], dict[str, str]], list[str] | None] = getattr(self, "do_" + word.replace("-", "_"))
        output = method(positional, options) or []
        return [*self._log, *output]

    # ---- the cluster

    def do_nodes(self, words: list[str], options: dict[str, str]) -> None:
        parameters = ChainParameters(
            heartbeat_real_ms=int(options.get("heartbeat", 3_600_000)),
            window=int(options.get("window", 4)),
            rotation_blocks=int(options.get("rotation", 10_000_000)),
            block_transactions_max=int(options.get("block", 100)),
        )
        self._cluster = Cluster(int(words[0]), parameters=parameters, spare=int(options.get("spare", 0)))
        self._cluster.route = self._route
        self._cluster.start()

    def do_submit(self, words: list[str], options: dict[str, str]) -> None:
        for node in self._some(options.get("to")):
            for word in words:
                node.submit(word.encode())

    def do_validators(self, words: list[str], options: dict[str, str]) -> None:
        """Submit a change of the validator set to these nodes."""
        names = sorted(self.cluster.nodes[int(word)].name for word in words)
        self.cluster.submit(CHANGE + b"".join(names))

    def do_window(self, words: list[str], options: dict[str, str]) -> None:
        """Submit a change of the window."""
        self.cluster.submit(WINDOW + words[0].encode())

    def do_advance(self, words: list[str], options: dict[str, str]) -> None:
        self.cluster.advance(int(words[0]))

    def do_crash(self, words: list[str], options: dict[str, str]) -> None:
        for word in words:
            self.cluster.nodes[int(word)].crash()

    def do_start(self, words: list[str], options: dict[str, str]) -> None:
        for word in words:
            node = self.cluster.nodes[int(word)]
            if options.get("record") == "lost":
                node.disk.record = None
            if options.get("blocks") == "lost":
                node.disk.chain.clear()
            node.vote_again = "vote_again" in options
            node.start()

    def do_pause(self, words: list[str], options: dict[str, str]) -> None:
        for word in words:
            self.cluster.nodes[int(word)].pause()

    def do_resume(self, words: list[str], options: dict[str, str]) -> None:
        for word in words:
            self.cluster.nodes[int(word)].resume()

    def do_skew(self, words: list[str], options: dict[str, str]) -> None:
        self.cluster.nodes[int(words[0])].skew_ms = int(words[1])

    def do_isolate(self, words: list[str], options: dict[str, str]) -> None:
        for word in words:
            self.cluster.isolate(int(word))

    def do_cut(self, words: list[str], options: dict[str, str]) -> None:
        """Groups of nodes, like 0,1 2,3: nothing passes between different groups."""
        groups = [[int(index) for index in word.split(",")] for word in words]
        for group in groups:
            for other in groups:
                if group is not other:
                    self.cluster.cut |= {(a, b) for a in group for b in other}

    def do_sync(self, words: list[str], options: dict[str, str]) -> None:
        """sync off: block sync does not work until `sync on`."""
        self.cluster.sync_works = words == ["on"]

    def do_heal(self, words: list[str], options: dict[str, str]) -> None:
        self.cluster.heal()

    def do_drop(self, words: list[str], options: dict[str, str]) -> None:
        """drop type=Commit from=0 to=1,2 height=3: messages that fit all of it are lost until `pass`."""
        self._rules.append(options)

    def do_pass(self, words: list[str], options: dict[str, str]) -> None:
        self._rules.clear()

    def do_log(self, words: list[str], options: dict[str, str]) -> None:
        """Show messages of these types as they are sent; nothing shows none."""
        self._logged = set(words)

    def _route(self, sender: Node, receiver: Node, message: Message) -> list[int]:
        if any(self._fits(rule, sender, receiver, message) for rule in self._rules):
            return []
        if type(message).__name__ in self._logged and self._log is not None:
            self._log.append(f"{self.cluster.time_ms:6d} {sender.index}->{receiver.index} {describe(message)}")
        return [1]

    def _fits(self, rule: dict[str, str], sender: Node, receiver: Node, message: Message) -> bool:
        height = message.header.height if isinstance(message, PrePrepare) else getattr(message, "height", None)
        return (
            ("type" not in rule or type(message).__name__ in rule["type"].split(","))
            and ("from" not in rule or str(sender.index) in rule["from"].split(","))
            and ("to" not in rule or str(receiver.index) in rule["to"].split(","))
            and ("height" not in rule or rule["height"] == str(height))
        )

    # ---- lies

    def do_propose(self, words: list[str], options: dict[str, str]) -> None:
        """propose from=0 to=1,2 view=0 name=A a b: a PRE-PREPARE of these transactions on the receiver's tip (or on
        the block named parent=)."""
        liar = self.cluster.nodes[int(options["from"])]
        self.cluster.liars.add(liar.index)
        bodies = tuple(word.encode() for word in words)
        parent = liar.tip_state() if "parent" not in options else self._states[options["parent"]]
        time_ms = int(options.get("time", liar.now().ledger_ms))
        header, state = execute(parent, bodies, time_ms, liar.name)
        entries = entries_of(tuple(reversed(bodies)) if "shuffled" in options else bodies)
        message = pre_prepare_of(liar.name, state.epoch.number, int(options["view"]), header, entries)
        if "name" in options:
            self._names[options["name"]] = block_hash(header)
            self._states[options["name"]] = state
        self._inject(liar, options, message)

    def do_vote(self, words: list[str], options: dict[str, str]) -> None:
        """vote prepare|commit from=0 to=1 view=0 height=1 block=A [signature=bad]"""
        liar = self.cluster.nodes[int(options["from"])]
        self.cluster.liars.add(liar.index)
        make = prepare_of if words[0] == "prepare" else commit_of
        block = self._block(options)
        epoch = self.cluster.nodes[int(options["to"].split(",")[0])].tip_state().epoch.number
        message: Prepare | Commit = make(liar.name, epoch, int(options["view"]), int(options["height"]), block)
        if options.get("signature") == "bad":
            message = type(message)(epoch, message.view, message.height, block, liar.name, bytes(64))
        self._inject(liar, options, message)

    def _block(self, options: dict[str, str]) -> bytes:
        """A block named by `propose`, `accepted` for the one the receiver has accepted, or any other word."""
        name = options["block"]
        if name == "accepted":
            receiver = self._some(options["to"])[0].replica
            assert receiver is not None
            return receiver.state.accepted[int(options["height"])]
        return self._names.get(name, name.encode().ljust(32, b"_"))

    def do_ask(self, words: list[str], options: dict[str, str]) -> None:
        """ask from=3 to=0,1 view=5 [committed=7 [forged=yes]]: a VIEW-CHANGE without proofs, with the certificate that
        the liar has of that height."""
        liar = self.cluster.nodes[int(options["from"])]
        self.cluster.liars.add(liar.index)
        self._inject(liar, options, self._view_change(liar, options))

    def _view_change(self, liar: Node, options: dict[str, str]) -> ViewChange:
        committed = int(options.get("committed", 0))
        certificate = liar.disk.chain[committed - 1][2] if committed and "forged" not in options else None
        if "forged" in options:
            certificate = self._forged(liar, committed)
        return _signed_view_change(liar, int(options["view"]), committed, certificate, ())

    def _forged(self, liar: Node, height: int) -> Certificate:
        """The COMMITs of block 1 under another height and block."""
        return Certificate(1, 0, height, bytes(32), liar.disk.chain[0][2].signatures)

    def _doctored(self, message: ViewChange, liar: Node, lie: str) -> ViewChange:
        if message.validator != liar.name:
            return message
        if lie == "forged":
            return _signed_view_change(liar, message.view, 9, self._forged(liar, 9), ())
        first, *others = message.proofs
        short = Proof(first.view, first.header, first.signatures[:-1])
        return _signed_view_change(liar, message.view, message.committed, message.certificate, (short, *others))

    def do_open(self, words: list[str], options: dict[str, str]) -> None:
        """open from=1 to=0,2 view=1 lie=repeated|empty|bare|forged|short: a NEW-VIEW from the VIEW-CHANGEs the liar
        holds: one of them repeated, no re-proposals, without any VIEW-CHANGE, or with its own signed anew, which has a
        forged certificate or a proof with a PREPARE too few."""
        liar = self.cluster.nodes[int(options["from"])]
        self.cluster.liars.add(liar.index)
        assert liar.replica is not None
        view = int(options["view"])
        held = [m for _, m in sorted(liar.replica.state.view_changes.items()) if m.view == view]
        quorum = liar.tip_state().epoch.quorum
        chosen = held[:quorum]
        match options.get("lie"):
            case "repeated":
                chosen = [held[0]] * quorum
            case "forged" | "short" as lie:
                chosen = [self._doctored(message, liar, lie) for message in chosen]
            case "bare":
                chosen = []
            case "empty":
                pass
            case other:
                raise ValueError(f"no such lie: {other}")
        headers = () if options["lie"] in ("empty", "bare") else select(chosen).headers
        reproposals = tuple(
            Reproposal(
                header,
                fake_sign(liar.name, prepare_preimage(CHAIN, 1, view, header.height, block_hash(header))),
            )
            for header in headers
        )
        plain = NewView(1, view, tuple(chosen), reproposals, liar.name, bytes(64))
        signature = fake_sign(liar.name, new_view_preimage(CHAIN, plain))
        self._inject(liar, options, NewView(1, view, plain.view_changes, reproposals, liar.name, signature))

    def _inject(self, liar: Node, options: dict[str, str], message: Message) -> None:
        for receiver in self._some(options["to"]):
            self.cluster.inject(liar.index, receiver.index, message)

    def _some(self, which: str | None) -> list[Node]:
        if which is None:
            return self.cluster.nodes
        return [self.cluster.nodes[int(index)] for index in which.split(",")]

    # ---- what is shown

    def do_show(self, words: list[str], options: dict[str, str]) -> list[str]:
        return [self._shown(node) for node in self.cluster.nodes]

    def _shown(self, node: Node) -> str:
        state = node.tip_state()
        if node.replica is None:
            return f"node {node.index}: down, committed {state.height}"
        inspection = node.replica.inspection()
        heights = "".join(
            f" [{view.height}: {view.prepares} PREPARE {view.commits} COMMIT]"
            for view in inspection.heights
            if view.block_hash is not None
        )
        alarms = "".join(f"; alarm: {self._readable(text)}" for text in node.alarms)
        return (
            f"node {node.index}: {inspection.mode.name.lower()} in view {inspection.view}, "
            f"committed {inspection.committed}{heights}{alarms}"
        )

    def do_chain(self, words: list[str], options: dict[str, str]) -> list[str]:
        """The longest chain, or these heights of it, and that every other is a prefix of it."""
        node = max(self.cluster.nodes, key=lambda node: len(node.disk.chain))
        lines = []
        for header, bodies, certificate, _ in node.disk.chain:
            if words and str(header.height) not in words:
                continue
            texts = " ".join("change" if body.startswith(CHANGE) else body.decode() for body in bodies)
            proposer = self.cluster.by_name[header.proposer].index
            lines.append(
                f"{header.height}: [{texts}] by node {proposer}, certified in view {certificate.view}"
                f" of epoch {certificate.epoch}"
            )
        return lines

    def do_opened(self, words: list[str], options: dict[str, str]) -> list[str]:
        """The VIEW-CHANGEs, with their proofs, in the NEW-VIEW that a node acts under."""
        (node,) = self._chosen(words)
        assert node.replica is not None and node.replica.state.new_view is not None
        return [self._asked(message) for message in node.replica.state.new_view.view_changes]

    def _asked(self, message: ViewChange) -> str:
        proofs = "; ".join(
            f"height {proof.header.height}: the block of {self._name(proof.header.proposer)}, "
            f"prepared in view {proof.view}"
            for proof in message.proofs
        )
        return f"{self._name(message.validator)} asks for view {message.view} with proofs of [{proofs}]"

    def do_accusations(self, words: list[str], options: dict[str, str]) -> list[str]:
        """What all nodes, or these, hold evidence of."""
        found = {
            f"{self._name(accusation.offence.validator)}: {accusation.offence.kind}"
            for node in self._chosen(words)
            for accusation in node.accusations
        }
        return sorted(found)

    def do_blamed(self, words: list[str], options: dict[str, str]) -> list[str]:
        """Whom the nodes blame for what it handed over."""
        found = {
            f"{self._name(peer)}: {self._readable(reason)}"
            for node in self.cluster.nodes
            for peer, reason in node.blamed
        }
        return sorted(found)

    def do_explain(self, words: list[str], options: dict[str, str]) -> list[str]:
        node = self.cluster.nodes[int(words[0])]
        causes = explained(node).causes
        for cause in causes:
            self._explained(cause.cause)
        return [self._readable(cause.text) for cause in causes]

    def do_conclude(self, words: list[str], options: dict[str, str]) -> list[str]:
        """What `otcnode explain` makes of the answers of all nodes, or of these."""
        answers = {f"address {node.index}": answer_of(self.cluster, node) for node in self._chosen(words)}
        return [conclude(answers).text]

    def _chosen(self, words: list[str]) -> list[Node]:
        return [self.cluster.nodes[int(word)] for word in words] if words else self.cluster.nodes

    def _name(self, name: bytes) -> str:
        return name_of(self.cluster, name)

    def _readable(self, text: str) -> str:
        return readable(self.cluster, text)


def _signed_view_change(
    liar: Node, view: int, committed: int, certificate: Certificate | None, proofs: tuple[Proof, ...]
) -> ViewChange:
    plain = ViewChange(1, view, committed, certificate, proofs, liar.name, bytes(64))
    signature = fake_sign(liar.name, view_change_preimage(CHAIN, plain))
    return ViewChange(1, view, committed, certificate, proofs, liar.name, signature)
