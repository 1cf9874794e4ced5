"""What honest nodes say of themselves, and what others believe that they said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from otcnode.consensus.messages import Status
from otcnode.consensus.state import Heard
from otcnode.simulation.violation import Promise, Violation


class Hearsay:
    """Told of every STATUS that an honest node says. What somebody believes of it is one of these, to the last bit."""

    def __init__(self, nodes: Sequence[bytes], honest: Iterable[int]) -> None:
        self._nodes = tuple(nodes)
        self._said: dict[bytes, dict[bytes, Status]] = {nodes[index]: {} for index in honest}
        """Per honest node its STATUSes by their signatures."""

    def said(self, node: int, status: Status) -> None:
        self._said[self._nodes[node]][status.signature] = status

    def believes(self, node: int, heard: Mapping[bytes, Heard]) -> None:
        """`heard`: what a node knows of the others. Raises Violation(HEARSAY)."""
        for name, known in heard.items():
            said, status = self._said.get(name), known.status
            if said is not None and status is not None and said.get(status.signature) != status:
                other = self._nodes.index(name)
                raise Violation(
                    Promise.HEARSAY,
                    f"n{node} believes that n{other} is at height {status.committed}, view {status.view}, "
                    f"{status.mode.name}, which n{other} never said",
                )
