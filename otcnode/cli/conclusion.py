"""One conclusion from what several nodes say of themselves (node_explain): why the chain stands still, or that it does
not. Pure.

Each node knows whom it waits for, and each of those knows why it does not do its part: together they name the cause.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from otcnode.consensus.explain import Cause

WAITS = (
    Cause.COMMIT,
    Cause.PREPARE,
    Cause.NEW_VIEW,
    Cause.ASKING,
    Cause.BASE,
    Cause.REFUSED,
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
    Cause.KEY_IN_USE,
    Cause.BEHIND,
    Cause.DIVIDED,
    Cause.REFUSED,
    Cause.BODIES,
    Cause.VIEW_CLOSED,
    Cause.NOTHING_PROPOSED,
)
"""Why a node does not do its part, the gravest first."""
WAITING = (Cause.BASE, Cause.NEW_VIEW, Cause.NO_PROPOSAL)
"""What a node waits for that is not as far as others."""
LASTING = (Cause.HALTED, Cause.HELD_BACK, Cause.SILENT, Cause.KEY_IN_USE, Cause.BEHIND, Cause.VIEW_CLOSED)
"""What is worth saying of a node while the chain goes on."""
LEAVING = (Cause.NEW_VIEW, Cause.ASKING, Cause.BASE)
"""Where the view before was left for a reason."""
LEFT = (Cause.ASKED, Cause.JOINED)
"""The reason, the first one first."""
ROOTS = (Cause.NEW_VIEW_REFUSED, Cause.PRIMARY_LIED)
"""What one validator did that stops all others."""
VOTES = (Cause.PREPARE, Cause.COMMIT)
"""Whoever has cast the later one has cast the earlier one."""
PLURAL = {"does": "do", "has": "have", "is": "are", "waits": "wait"}
LIES = (Cause.PRIMARY_LIED, Cause.LIED)
IN_USE = "too few can vote: stop the second process that signs with the key of {}"
LOST_BESIDES = "then, if the voting record is lost, start {} and no other with --vote-again-after-loss"
"""A key that was in use elsewhere votes again by itself once there are blocks."""
LOST = "too few can vote: if their voting records are lost, start them with --vote-again-after-loss"
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
    """`answers` by address; those with an `error` did not come, with `retry_after_ms` because the node is busy."""
    silent = {address: str(answer["error"]) for address, answer in answers.items() if "error" in answer}
    heard = [answer for answer in answers.values() if "error" not in answer]
    if not heard:
        busy = any("retry_after_ms" in answer for answer in answers.values())
        text = "no node answers now: some are reached, but busy" if busy else "no node answers"
        return Conclusion(text, False, None, None, silent)
    front = _furthest(heard)
    going = sum(answer["progressing"] for answer in heard if answer["name"] in answer["validators"])
    goes_on = going >= min(front[0]["quorum"], sum(answer["name"] in answer["validators"] for answer in heard))
    if not goes_on:
        # Who has nothing to wait for may be further, and cut off.
        front = _furthest([answer for answer in heard if not answer["progressing"]])
    height, view = front[0]["height"], front[0]["view"]
    place = f"height {height if goes_on else height + 1}, view {view}"
    if goes_on:
        nodes = {answer["name"]: said for answer in heard if (said := _trouble(answer, LASTING)) is not None}
        for name, said in _apart(heard).items():
            nodes[name] = f"{nodes[name]} and {said}" if name in nodes else said
        return _worded(f"{place}: the chain goes on", True, height, view, nodes | silent)
    root = _root(front, [answer for answer in heard if answer["height"] == height])
    waits, nodes = _waits(front, heard, [kind for kind in TROUBLES if root is None or kind is not Cause.DIVIDED])
    text = waits if root is None else f"{root}; {waits}"
    return _worded(f"{place}: {text}", False, height, view, nodes | silent)


def _furthest(heard: list[Answer]) -> list[Answer]:
    """Those at the greatest height, in the view that most of them are in."""
    height = max(answer["height"] for answer in heard)
    views = Counter(answer["view"] for answer in heard if answer["height"] == height)
    view = max(views, key=lambda view: (views[view], view))
    return [answer for answer in heard if (answer["height"], answer["view"]) == (height, view)]


def _worded(text: str, goes_on: bool, height: int, view: int, nodes: dict[str, str]) -> Conclusion:
    same: dict[str, list[str]] = {}
    for name, said in nodes.items():
        if said not in text or name not in text:
            same.setdefault(said, []).append(name)
    details = ", ".join(f"{_and(names)} {_agreeing(said, len(names))}" for said, names in same.items())
    return Conclusion(f"{text}; {details}" if details else text, goes_on, height, view, nodes)


def _agreeing(said: str, count: int) -> str:
    verb, space, rest = said.partition(" ")
    return f"{PLURAL.get(verb, verb) if count > 1 else verb}{space}{rest}"


def _root(front: list[Answer], here: list[Answer]) -> str | None:
    """What made everybody wait, where more can be said than for whom: it comes first. `here`: all at that height."""
    voting = [answer for answer in here if answer["name"] in answer["validators"]]
    dispensable = len(front[0]["validators"]) - front[0]["quorum"]
    lost, in_use = _saying(here, Cause.SILENT), _saying(here, Cause.KEY_IN_USE)
    if len(lost) + len(in_use) > dispensable:
        return _unable(lost, in_use)
    if voting and all(any(cause["kind"] == Cause.TIMER_HELD for cause in answer["causes"]) for answer in voting):
        return "nobody hears a quorum"
    found = [(ROOTS.index(cause["kind"]), str(cause["text"])) for _, cause in _causes(here) if cause["kind"] in ROOTS]
    if not found:
        return _proposed_two(here)
    return re.sub(r"^asked for view \d+: ", "", min(found)[1])


def _unable(lost: list[str], in_use: list[str]) -> str:
    """What brings enough votes back, where those who are silent are too many."""
    if not in_use:
        return LOST
    stop = IN_USE.format(_and(in_use))
    return f"{stop}; {LOST_BESIDES.format(_and(lost))}" if lost else stop


def _proposed_two(heard: list[Answer]) -> str | None:
    """Who accepted and voted says so of each other: the primary proposed one block to one and another to the other."""
    divided = [
        (one["name"], cause["height"], cause["nodes"])
        for one, cause in _causes(heard)
        if cause["kind"] == Cause.DIVIDED
    ]
    for (one, height, (primary, *others)), (other, again, (_, *names)) in itertools.combinations(divided, 2):
        if height == again and one in names and other in others:
            return f"the primary {primary} proposed two blocks at height {height}"
    return None


def _waits(front: list[Answer], heard: list[Answer], troubles: Sequence[Cause]) -> tuple[str, dict[str, str]]:
    """What those who are furthest wait for, and what is known of each who is missing."""
    found = [
        (WAITS.index(cause["kind"]), cause["height"] or 0, cause["missing"], place)
        for place, (_, cause) in enumerate(_causes(front))
        if cause["kind"] in WAITS
    ]
    nodes = _lies(front)
    nodes |= {answer["name"]: said for answer in heard if (said := _trouble(answer, troubles)) is not None}
    if not found:
        return "waits for the validators of this epoch", nodes | _not_there(front, heard, nodes)
    answer, cause = list(_causes(front))[min(found)[3]]
    names = {answer["name"] for answer in heard}
    unheard = [name for _, other in _causes([answer]) if other["kind"] == Cause.TIMER_HELD for name in other["nodes"]]
    unasked = [name for name in dict.fromkeys([*cause["nodes"], *unheard]) if name not in names]
    behind = {one["name"]: said for one in front if (said := _trouble(one, WAITING)) is not None}
    for more in (
        {name: answer["peers"].get(name, "does not answer") for name in unasked},
        _unreached(heard, cause),
        {name: said for name, said in behind.items() if said not in cause["text"]},
    ):
        nodes |= {name: said for name, said in more.items() if name not in nodes}
    return _wait_text(cause, [answer, *front]), nodes


def _not_there(front: list[Answer], heard: list[Answer], known: Mapping[str, str]) -> dict[str, str]:
    """Why no validator of the epoch does anything in it, where those who are furthest only follow: it does not answer,
    or is still at a lower height and waits for something there."""
    answers = {answer["name"]: answer for answer in heard}
    here = {answer["name"] for answer in front}
    found = {}
    for name in front[0]["validators"]:
        if name not in answers:
            found[name] = front[0]["peers"].get(name, "does not answer")
        elif name not in here:
            height, wait = answers[name]["height"], _gravest(answers[name], WAITS)
            said = known.get(name) or (wait and str(wait["text"]).partition("; missing")[0])
            found[name] = f"is at height {height}" + (f" ({said})" if said else "")
    return found


def _wait_text(cause: Mapping[str, Any], front: list[Answer]) -> str:
    if cause["kind"] == Cause.REFUSED:
        return f"the proposal of {_and(cause['nodes'])} is refused"
    text = _PLACE.sub("", cause["text"]).partition("; missing")[0]
    if cause["kind"] in LEAVING:
        left = [(LEFT.index(one["kind"]), one["text"]) for _, one in _causes(front) if one["kind"] in LEFT]
        text += f" ({min(left)[1].partition(': ')[2]})" if left else ""
    return text


def _unreached(heard: list[Answer], cause: Mapping[str, Any]) -> dict[str, str]:
    """Who does not hear others that answer, and who lacks votes, at the place of this cause, of others that it hears:
    their authors count them as cast."""
    names = {answer["name"] for answer in heard}
    deaf = {
        one["name"]: [name for name in other["nodes"] if name in names]
        for one, other in _causes(heard)
        if other["kind"] == Cause.UNHEARD
    }
    place = str(cause["text"]).partition(": ")[0]
    waiting = [
        (one["name"], other)
        for one, other in _causes(heard)
        if other["kind"] in VOTES and str(other["text"]).startswith(f"{place}: ")
    ]
    found = {name: f"does not hear {_and(others)}" for name, others in deaf.items() if others}
    for name, other in waiting:
        later = VOTES[VOTES.index(other["kind"]) :]
        voted = {author for author, theirs in waiting if theirs["kind"] in later and author not in theirs["nodes"]}
        lost = [author for author in other["nodes"] if author in voted and author not in deaf.get(name, ())]
        if lost:
            said = f"has not received the {str(other['kind']).partition(' ')[0]} of {_and(lost)}"
            found[name] = f"{found[name]} and {said}" if name in found else said
    return found


def _lies(answers: list[Answer]) -> dict[str, str]:
    """Who is proved to lie, and how."""
    proved = [cause for _, cause in _causes(answers) if cause["kind"] in LIES]
    return {cause["nodes"][0]: str(cause["text"]).removeprefix(cause["nodes"][0]).strip() for cause in proved}


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


def _saying(answers: list[Answer], kind: Cause) -> list[str]:
    """Who says so of itself."""
    return [answer["name"] for answer in answers if any(cause["kind"] == kind for cause in answer["causes"])]


def _causes(answers: list[Answer]) -> Iterator[tuple[Answer, Mapping[str, Any]]]:
    for answer in answers:
        for cause in answer["causes"]:
            yield answer, cause


def _trouble(answer: Answer, kinds: Sequence[Cause]) -> str | None:
    """The gravest of these that a node says of itself."""
    gravest = _gravest(answer, kinds)
    return None if gravest is None else _PLACE.sub("", str(gravest["text"]))


def _gravest(answer: Answer, kinds: Sequence[Cause]) -> Mapping[str, Any] | None:
    found = [cause for cause in answer["causes"] if cause["kind"] in kinds]
    return min(found, key=lambda cause: kinds.index(cause["kind"]), default=None)
