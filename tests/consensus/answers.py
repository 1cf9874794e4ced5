"""What nodes of a cluster answer when asked to explain, as `otcnode explain` gets it, and what must be true of it."""

from __future__ import annotations

from otcnode.cli.conclusion import conclude
from otcnode.codec import decode, encode
from otcnode.consensus.explain import Cause, Explanation
from tests.consensus.cluster import Cluster, Node, Violation

GUILT = (Cause.PRIMARY_LIED, Cause.LIED, Cause.NEW_VIEW_REFUSED)


def name_of(cluster: Cluster, name: bytes) -> str:
    return f"node {cluster.by_name[name].index}"


def readable(cluster: Cluster, text: str) -> str:
    """With names in place of the first digits of ids."""
    for node in cluster.nodes:
        text = text.replace(node.name.hex()[:12], f"node {node.index}")
    return text


def explained(node: Node) -> Explanation:
    assert node.replica is not None
    return node.replica.explain(node.now())


def answer_of(cluster: Cluster, node: Node) -> dict[str, object]:
    if node.replica is None or node.paused:
        return {"error": "no answer"}
    seen = explained(node)
    peers = {
        name_of(cluster, peer.validator): "never heard"
        if peer.heard_ms_ago is None
        else f"silent {peer.heard_ms_ago / 1000:.1f} s"
        for peer in seen.inspection.peers
    }
    return {
        "name": name_of(cluster, node.name),
        "progressing": seen.progressing,
        "height": seen.inspection.committed,
        "view": seen.inspection.view,
        "validators": [name_of(cluster, name) for name in node.tip_state().epoch.validators],
        "quorum": seen.inspection.quorum,
        "causes": [
            {
                "kind": cause.cause.value,
                "text": readable(cluster, cause.text),
                "height": cause.height,
                "missing": cause.missing,
                "nodes": [name_of(cluster, name) for name in cause.nodes],
            }
            for cause in seen.causes
        ],
        "peers": peers,
    }


def check_explanations(cluster: Cluster) -> None:
    """Whatever has happened: every explanation is data that survives its own encoding, whoever waits says for what, and
    nobody honest is called a liar, by a node or by the conclusion of all honest nodes."""
    truthful = [node for node in cluster.nodes if node.index not in cluster.liars]
    # One that is down now may have said truly how far it was, and is that far on its disk.
    highest = max(node.tip_state().height for node in truthful)
    honest = [node for node in truthful if node.replica is not None]
    for node in honest:
        seen = explained(node)
        assert decode(Explanation, encode(seen)) == seen
        if not seen.progressing and not seen.causes:
            raise Violation(f"node {node.index} waits and does not say for what")
        for cause in seen.causes:
            accused = [cluster.by_name[name].index for name in cause.nodes] if cause.cause in GUILT else []
            if cause.cause is Cause.BEHIND and (cause.height or 0) > highest:
                raise Violation(f"node {node.index} believes itself behind what no honest node has: {cause.text}")
            if cause.cause is Cause.REFUSED and "executes differently" in cause.text:
                accused = [cluster.by_name[name].index for name in cause.nodes]
            if not set(accused) <= cluster.liars:
                raise Violation(f"node {node.index} says of an honest node: {readable(cluster, cause.text)}")
    found = conclude({f"address {node.index}": answer_of(cluster, node) for node in honest})
    if "waits for the validators of this epoch" in found.text and not found.nodes:
        raise Violation(f"a standstill without a cause: {found.text}")
    said, proposed, _ = found.text.partition(" proposed two blocks")
    if proposed and int(said.rpartition(" ")[2]) not in cluster.liars:
        raise Violation(f"an honest primary is said to have proposed twice: {found.text}")
