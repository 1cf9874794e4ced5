"""One conclusion from what several nodes say of themselves (node_explain): why the chain stands still, or that it does
not. Pure.

Each node knows whom it waits for, and each of those knows why it does not do its part: together they name the cause.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from otcnode.consensus.explain import Cause

WAITS = (
    Cause.COMMIT,
    Cause.PREPARE,
    Cause.NEW_VIEW,
    Cause.ASKING,
    Cause.BASE,
    Cause.BODIES,
    Cause.EXECUTION,
    Cause.NO_PROPOSAL,
    Cause.NOTHING_PROPOSED,
    Cause.TIMER_HELD,
    Cause.UNHEARD,
)
"""What the chain can wait for, the furthest it has come first."""
TROUBLES = (
    Cause.HALTED,
    Cause.HELD_BACK,
    Cause.SILENT,
    Cause.BEHIND,
    Cause.REFUSED,
    Cause.BODIES,
    Cause.VIEW_CLOSED,
)
"""Why a node does not do its part, the gravest first."""
LASTING = (Cause.HALTED, Cause.HELD_BACK, Cause.SILENT, Cause.BEHIND, Cause.VIEW_CLOSED)
"""What is worth saying of a node while the chain goes on."""
LEAVING = (Cause.NEW_VIEW, Cause.ASKING, Cause.BASE)
"""Where the view before was left for a reason."""
LOST = "too few can vote; if their voting records are lost, start them with --vote-again-after-loss"
_PLACE = re.compile(r"^(height \d+, )?view \d+: ")

Answer = Mapping[str, Any]


class Conclusion(msgspec.Struct, frozen=True):
    """`nodes`: what is wrong with each that something is wrong with, by name (by address where it did not answer)."""

    text: str
    goes_on: bool
    height: int | None
    view: int | None
    nodes: dict[str, str]


def conclude(answers: Mapping[str, Answer]) -> Conclusion:
    """`answers` by address; those with an `error` did not come."""
    silent = {address: str(answer["error"]) for address, answer in answers.items() if "error" in answer}
    heard = [answer for answer in answers.values() if "error" not in answer]
    if not heard:
        return Conclusion("no node answers", False, None, None, silent)
    height = max(answer["height"] for answer in heard)
    front = [answer for answer in heard if answer["height"] == height]
    going = sum(answer["progressing"] for answer in heard if answer["name"] in answer["validators"])
    goes_on = going >= min(front[0]["quorum"], sum(answer["name"] in answer["validators"] for answer in heard))
    view = max(answer["view"] for answer in front)
    place = f"height {height if goes_on else height + 1}, view {view}"
    if goes_on:
        nodes = {answer["name"]: said for answer in heard if (said := _trouble(answer, LASTING)) is not None}
        for name, said in _apart(heard).items():
            nodes[name] = f"{nodes[name]} and {said}" if name in nodes else said
        return _worded(f"{place}: the chain goes on", True, height, view, nodes | silent)
    waits, nodes = _waits(front, heard)
    return _worded(f"{place}: {waits}", False, height, view, nodes | silent)


def _worded(text: str, goes_on: bool, height: int, view: int, nodes: dict[str, str]) -> Conclusion:
    details = ", ".join(f"{name} {said}" for name, said in nodes.items())
    return Conclusion(f"{text}; {details}" if details else text, goes_on, height, view, nodes)


def _waits(front: list[Answer], heard: list[Answer]) -> tuple[str, dict[str, str]]:
    """What those who are furthest wait for, and what is known of each who is missing."""
    by_name = {answer["name"]: answer for answer in heard}
    found = [
        (WAITS.index(cause["kind"]), cause["height"] or 0, cause["missing"], place)
        for place, (_, cause) in enumerate(_causes(front))
        if cause["kind"] in WAITS
    ]
    nodes = {answer["name"]: said for answer in heard if (said := _trouble(answer, TROUBLES)) is not None}
    if not found:
        return "nothing that a node could name is missing", nodes
    answer, cause = list(_causes(front))[min(found)[3]]
    for name in cause["nodes"]:
        if name not in nodes and name not in by_name:
            nodes[name] = answer["peers"].get(name, "does not answer")
    for one, other in _causes(heard):
        deaf = [name for name in other["nodes"] if name in by_name] if other["kind"] == Cause.UNHEARD else []
        if deaf:
            nodes.setdefault(one["name"], f"does not hear {_and(deaf)}")
    text = _PLACE.sub("", cause["text"]).partition("; missing")[0]
    if cause["kind"] in LEAVING:
        left = [other["text"] for _, other in _causes([answer, *front]) if other["kind"] == Cause.ASKED]
        text += f" ({left[0].partition(': ')[2]})" if left else ""
    silent = sum(any(other["kind"] == Cause.SILENT for other in one["causes"]) for one in heard)
    if silent > len(answer["validators"]) - answer["quorum"]:
        text = f"{text}: {LOST}"
    return text, nodes


def _apart(heard: list[Answer]) -> dict[str, str]:
    """Whose line is down: who is not heard by most of the others that answered, and who else does not hear somebody."""
    deaf = {one["name"]: set(cause["nodes"]) for one, cause in _causes(heard) if cause["kind"] == Cause.UNHEARD}
    unheard = {}
    for name in sorted({name for names in deaf.values() for name in names}):
        listeners = [other for other, names in sorted(deaf.items()) if name in names]
        if 2 * len(listeners) > sum(answer["name"] != name for answer in heard):
            unheard[name] = f"is not heard by {_and(listeners)}"
    rest = {listener: sorted(names - unheard.keys()) for listener, names in sorted(deaf.items())}
    others = {name: f"does not hear {_and(names)}" for name, names in rest.items() if names and name not in unheard}
    return unheard | others


def _and(names: list[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _causes(answers: list[Answer]) -> Iterator[tuple[Answer, Mapping[str, Any]]]:
    for answer in answers:
        for cause in answer["causes"]:
            yield answer, cause


def _trouble(answer: Answer, kinds: tuple[Cause, ...]) -> str | None:
    """The gravest of these that a node says of itself."""
    found = [cause for cause in answer["causes"] if cause["kind"] in kinds]
    if not found:
        return None
    gravest = min(found, key=lambda cause: kinds.index(cause["kind"]))
    return _PLACE.sub("", str(gravest["text"]))
