"""Prometheus metrics: read from the node at the moment somebody asks, in a registry of the server's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from otcnode.rpc.dispatch import Dispatcher
from otcnode.rpc.service import NodeService, NodeStatus, PeerStatus

_GAUGES = (
    ("height", "Committed height"),
    ("target_height", "Height that more than f validators claim or a certificate proves"),
    ("epoch", "Epoch of the validators"),
    ("view", "View of consensus"),
    ("validators", "Validators of the epoch"),
    ("peers_connected", "Other validators connected"),
    ("peers_expected", "Other validators, all of which should be connected"),
    ("full_nodes_connected", "Connected nodes that do not vote"),
    ("mempool_transactions", "Transactions waiting"),
    ("mempool_bytes", "Bytes of the transactions waiting"),
)


class NodeMetrics:
    """One scrape is one look at the node."""

    def __init__(self, service: NodeService, dispatcher: Dispatcher) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_NodeCollector(service, dispatcher))

    def render(self) -> bytes:
        return generate_latest(self._registry)


class _NodeCollector(Collector):
    def __init__(self, service: NodeService, dispatcher: Dispatcher) -> None:
        self._service = service
        self._dispatcher = dispatcher

    def collect(self) -> Iterator[Metric]:
        status = self._service.status()
        for name, text in _GAUGES:
            yield GaugeMetricFamily(f"otcnode_{name}", text, value=getattr(status, name))
        yield GaugeMetricFamily(
            "otcnode_synced",
            "1 when the height is not below the target",
            value=int(status.synced),
        )
        yield GaugeMetricFamily("otcnode_halted", "1 when this node stopped taking part", value=int(_halted(status)))
        yield GaugeMetricFamily("otcnode_block_time_seconds", "Ledger time of the last block", status.time_ms / 1000)
        yield GaugeMetricFamily("otcnode_uptime_seconds", "Seconds since the start", status.uptime_ms / 1000)
        for name, total in sorted(status.counters.items()):
            yield CounterMetricFamily(f"otcnode_{name}", name.replace("_", " "), value=total)
        yield from _of_peers(self._service.peers())
        yield from self._rpc()

    def _rpc(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("otcnode_rpc_in_flight", "Calls being answered", value=self._dispatcher.in_flight)
        calls = CounterMetricFamily("otcnode_rpc_calls", "Calls by method", labels=["method"])
        for method, count in sorted(self._dispatcher.calls.items()):
            calls.add_metric([method], count)
        yield calls
        errors = CounterMetricFamily("otcnode_rpc_errors", "Errors by code", labels=["code"])
        for code, count in sorted(self._dispatcher.errors.items()):
            errors.add_metric([str(code)], count)
        yield errors


def _of_peers(peers: Sequence[PeerStatus]) -> Iterator[Metric]:
    """Labelled by the peer's name; peers are admitted nodes, so there are only so many."""
    for name, text, value in _PEER_GAUGES:
        gauge = GaugeMetricFamily(f"otcnode_peer_{name}", text, labels=["peer"])
        for peer in peers:
            gauge.add_metric([peer.name], value(peer))
        yield gauge
    offences = CounterMetricFamily("otcnode_peer_offences", "Bans of a peer by what it did", labels=["peer", "code"])
    misled = CounterMetricFamily("otcnode_peer_misled", "Somebody else was found at a peer's address", labels=["peer"])
    dropped = GaugeMetricFamily(
        "otcnode_peer_dropped_messages", "Given up by the full queues to a peer", labels=["peer", "channel"]
    )
    for peer in peers:
        for code, count in sorted(peer.offences.items()):
            offences.add_metric([peer.name, code], count)
        misled.add_metric([peer.name], peer.misled)
        for channel, count in sorted(peer.dropped.items()):
            dropped.add_metric([peer.name, channel], count)
    yield offences
    yield misled
    yield dropped


_PEER_GAUGES: tuple[tuple[str, str, Callable[[PeerStatus], float]], ...] = (
    ("connected", "1 while connected", lambda peer: int(peer.connected)),
    ("banned_seconds", "For how much longer a peer is kept out", lambda peer: peer.banned_ms / 1000),
    ("throttled_seconds", "Not read for sending too much, this connection", lambda peer: peer.throttled_ms / 1000),
    ("received_bytes", "From a peer, this connection", lambda peer: peer.bytes_in),
    ("sent_bytes", "To a peer, this connection", lambda peer: peer.bytes_out),
)


def _halted(status: NodeStatus) -> bool:
    return status.halted is not None
