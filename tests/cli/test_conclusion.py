"""One conclusion of several nodes' explanations. That it names the true cause of each standstill is shown by the
scripts of tests/consensus/scripts with `conclude` in them."""

from __future__ import annotations

from typing import Any

from otcnode.cli.conclusion import Answer, conclude
from otcnode.consensus.explain import Cause

NAMES = ["n0", "n1", "n2", "n3"]


def _cause(kind: Cause, text: str, *nodes: str, height: int | None = None, missing: int = 0) -> dict[str, Any]:
    return {"kind": kind.value, "text": text, "height": height, "missing": missing, "nodes": list(nodes)}


def _answer(name: str, *causes: dict[str, Any], height: int = 811, view: int = 3, goes_on: bool = False) -> Answer:
    return {
        "name": name,
        "text": "",
        "progressing": goes_on,
        "height": height,
        "view": view,
        "validators": NAMES,
        "quorum": 3,
        "causes": list(causes),
        "peers": {other: "silent 4.1 s" for other in NAMES if other != name},
    }


def test_who_is_missing_says_itself_why_and_who_does_not_answer_is_as_others_see_it() -> None:
    waits = "height 812, view 3: waits for 1 of 3 PREPARE; missing n2 (silent 4.1 s), n3 (at height 811, view 3)"
    found = conclude(
        {
            "a": _answer("n0", _cause(Cause.PREPARE, waits, "n2", "n3", height=812, missing=1)),
            "b": _answer("n3", _cause(Cause.REFUSED, "height 812, view 3: refused: clock -38.0 s", height=812)),
            "c": {"error": "no answer"},
        }
    )
    assert found.text == (
        "height 812, view 3: waits for 1 of 3 PREPARE; n3 refused: clock -38.0 s, n2 silent 4.1 s, c no answer"
    )
    assert not found.goes_on and (found.height, found.view) == (811, 3)
    assert found.nodes == {"n3": "refused: clock -38.0 s", "n2": "silent 4.1 s", "c": "no answer"}


def test_a_chain_that_goes_on_without_one_says_so() -> None:
    halted = _cause(Cause.HALTED, "this node has stopped: certified block 9 executes differently here")
    going = {name: _answer(name, goes_on=True) for name in NAMES[:3]}
    found = conclude(going | {"d": _answer("n3", halted, height=8)})
    assert found.goes_on and found.text.startswith("height 811, view 3: the chain goes on; n3 this node has stopped")


def test_a_chain_that_goes_on_names_who_is_cut_off() -> None:
    def deaf(name: str, *others: str) -> Answer:
        return _answer(name, _cause(Cause.UNHEARD, "not heard", *others), goes_on=True)

    majority = {name: deaf(name, "n3") for name in NAMES[:3]}
    found = conclude(majority)
    assert found.goes_on and found.nodes == {"n3": "is not heard by n0, n1 and n2"}
    assert found.text == "height 811, view 3: the chain goes on; n3 is not heard by n0, n1 and n2"
    alone = _answer("n3", _cause(Cause.UNHEARD, "not heard", *NAMES[:3]), height=8)
    assert conclude(majority | {"d": alone}).nodes == found.nodes
    behind = _answer("n3", _cause(Cause.BEHIND, "behind"), _cause(Cause.UNHEARD, "not heard", *NAMES[:3]), height=8)
    assert conclude(majority | {"d": behind}).nodes == {"n3": "behind and is not heard by n0, n1 and n2"}


def test_a_node_that_hears_no_quorum_names_all_it_does_not_hear() -> None:
    waits = _cause(Cause.NO_PROPOSAL, "height 812, view 3: waits for a proposal from the primary n0", "n0", height=812)
    held = _cause(Cause.TIMER_HELD, "hears 0 others, a quorum needs 2: the view timer is held", *NAMES[:3], missing=2)
    found = conclude({"d": _answer("n3", waits, held)})
    assert found.text.startswith("height 812, view 3: nobody hears a quorum; waits for a proposal from the primary n0")
    assert found.nodes == dict.fromkeys(NAMES[:3], "silent 4.1 s")


def test_a_line_that_is_down_between_two_is_named_from_its_ends() -> None:
    ends = {"n0": "n1", "n1": "n0"}
    answers = {
        name: _answer(name, *([_cause(Cause.UNHEARD, "not heard", ends[name])] if name in ends else []), goes_on=True)
        for name in NAMES
    }
    assert conclude(answers).nodes == {"n0": "does not hear n1", "n1": "does not hear n0"}


def test_one_node_that_believes_it_goes_on_is_no_quorum() -> None:
    waits = _cause(Cause.COMMIT, "height 812, view 3: waits for 1 of 3 COMMIT; missing n3", "n3", height=812, missing=1)
    found = conclude({"a": _answer("n0", goes_on=True), "b": _answer("n1", waits), "c": _answer("n2", waits)})
    assert found.text == "height 812, view 3: waits for 1 of 3 COMMIT; n3 silent 4.1 s"


def test_the_furthest_that_anybody_has_come_is_what_is_waited_for() -> None:
    prepare = _cause(
        Cause.PREPARE, "height 812, view 3: waits for 2 of 3 PREPARE; missing n3", "n3", height=812, missing=2
    )
    commit = _cause(
        Cause.COMMIT, "height 812, view 3: waits for 1 of 3 COMMIT; missing n3", "n3", height=812, missing=1
    )
    behind = _answer("n2", _cause(Cause.NO_PROPOSAL, "waits for a proposal", "n3"), height=5)
    found = conclude({"a": _answer("n0", prepare), "b": _answer("n1", commit), "c": behind})
    assert found.text.startswith("height 812, view 3: waits for 1 of 3 COMMIT")


def test_two_halves_that_do_not_hear_each_other_are_named() -> None:
    def half(name: str, *others: str) -> Answer:
        return _answer(
            name,
            _cause(Cause.UNHEARD, "not heard", *others),
            _cause(Cause.ASKED, "asked for view 3: the primary of view 2 left something undone for 2.0 s"),
            _cause(Cause.ASKING, "view 3: 2 of 3 ask for it or higher; missing", *others, missing=1),
        )

    found = conclude(
        {
            "a": half("n0", "n2", "n3"),
            "b": half("n1", "n2", "n3"),
            "c": half("n2", "n0", "n1"),
            "d": half("n3", "n0", "n1"),
        }
    )
    assert found.text.startswith(
        "height 812, view 3: 2 of 3 ask for it or higher (the primary of view 2 left something undone for 2.0 s); "
        "n0 and n1 do not hear n2 and n3, n2 and n3 do not hear n0 and n1"
    )


def test_when_too_few_can_vote_it_says_what_to_do() -> None:
    silent = _cause(Cause.SILENT, "silent: no intact voting record; waits for a block")
    waits = _cause(Cause.NO_PROPOSAL, "waits for a proposal from the primary n0", "n0", height=812)
    found = conclude({name: _answer(name, silent, waits) for name in NAMES[1:]})
    assert "--vote-again-after-loss" in found.text and found.nodes["n2"].startswith("silent")


def test_a_key_in_two_processes_is_no_lost_record() -> None:
    """To let such a key vote again is what makes it vote twice."""
    silent = _cause(Cause.SILENT, "silent: no intact voting record; waits for a block")
    in_use = _cause(Cause.KEY_IN_USE, "silent: others showed a PREPARE (a second process with its key?)")
    waits = _cause(Cause.NO_PROPOSAL, "waits for a proposal from the primary n0", "n0", height=812)
    for first, advice in (
        (silent, "n2; then, if the voting record is lost, start n1 and no other with --vote-again-after-loss; "),
        (in_use, "n1 and n2; "),
    ):
        found = conclude({"b": _answer("n1", first, waits), "c": _answer("n2", in_use, waits)})
        stop = "height 812, view 3: too few can vote: stop the second process that signs with the key of "
        assert found.text.startswith(stop + advice)
        assert found.text.count("--vote-again-after-loss") == (first is silent)
        assert found.nodes["n2"] == "silent: others showed a PREPARE (a second process with its key?)"
    most = {"b": _answer("n1", in_use, waits)} | {name: _answer(name, silent, waits) for name in ("n2", "n3")}
    assert "key of n1; then, if the voting record is lost, start n2 and n3 and no other with" in conclude(most).text
    alone = conclude({"b": _answer("n1", in_use, waits)})
    assert "too few can vote" not in alone.text and alone.nodes["n1"].startswith("silent: others showed")


def test_what_one_did_to_all_is_told_before_what_they_wait_for() -> None:
    invalid = "asked for view 3: the NEW-VIEW of view 2 from n2 is invalid: a proof of 2 PREPAREs, not of exactly 3"
    refused = _cause(Cause.NEW_VIEW_REFUSED, invalid, "n2")
    lied = _cause(Cause.PRIMARY_LIED, "n2 is proved to lie: invalid NEW-VIEW of view 2", "n2")
    waits = _cause(Cause.ASKING, "view 3: 2 of 3 ask for it or higher; missing n1, n3", "n1", "n3", missing=1)
    found = conclude({"a": _answer("n0", lied, refused, waits), "c": _answer("n1", lied, waits)})
    assert found.text == (
        "height 812, view 3: the NEW-VIEW of view 2 from n2 is invalid: a proof of 2 PREPAREs, not of exactly 3; "
        "2 of 3 ask for it or higher; n2 is proved to lie: invalid NEW-VIEW of view 2, n3 silent 4.1 s"
    )


def test_only_two_who_say_it_of_each_other_show_that_the_primary_proposed_two_blocks() -> None:
    def divided(name: str, *others: str) -> Answer:
        text = f"height 812, view 3: accepted another block from the primary n3 than {' and '.join(others)} voted for"
        waits = "height 812, view 3: waits for 1 of 3 PREPARE; missing n3"
        return _answer(
            name,
            _cause(Cause.DIVIDED, text, "n3", *others, height=812),
            _cause(Cause.PREPARE, waits, "n3", height=812, missing=1),
        )

    both = conclude({"a": divided("n0", "n1"), "b": divided("n1", "n0")})
    assert both.text.startswith(
        "height 812, view 3: the primary n3 proposed two blocks at height 812; waits for 1 of 3"
    )
    one = conclude({"a": divided("n0", "n2"), "b": divided("n1", "n2")})
    assert one.text.startswith("height 812, view 3: waits for 1 of 3 PREPARE; n0 and n1 accepted another block")


def test_votes_that_were_cast_and_did_not_arrive_are_named() -> None:
    def lacks(name: str, kind: Cause, word: str, *missing: str) -> Answer:
        text = f"height 812, view 3: waits for 1 of 3 {word}; missing {', '.join(missing)}"
        return _answer(name, _cause(kind, text, *missing, height=812, missing=1))

    found = conclude(
        {
            "a": lacks("n0", Cause.COMMIT, "COMMIT", "n1", "n2"),
            "b": lacks("n1", Cause.PREPARE, "PREPARE", "n0", "n2"),
            "c": lacks("n2", Cause.PREPARE, "PREPARE", "n1", "n2"),
        }
    )
    assert found.text == (
        "height 812, view 3: waits for 1 of 3 COMMIT; n1 has not received the PREPARE of n0, "
        "n2 has not received the PREPARE of n1"
    )


def test_who_is_further_and_waits_for_nothing_is_not_asked_why_the_others_wait() -> None:
    waits = _cause(Cause.COMMIT, "height 812, view 3: waits for 1 of 3 COMMIT; missing n3", "n3", height=812, missing=1)
    apart = _answer("n3", _cause(Cause.UNHEARD, "not heard: n0, n1", "n0", "n1"), height=812, goes_on=True)
    found = conclude({"a": _answer("n0", waits), "b": _answer("n1", waits), "d": apart})
    assert found.text == "height 812, view 3: waits for 1 of 3 COMMIT; n3 does not hear n0 and n1"


def test_where_only_followers_have_come_the_validators_of_the_epoch_say_why_they_have_not() -> None:
    """A set that has ended and still has work waiting, while those who come after it are cut off below."""
    follows = _cause(Cause.FOLLOWS, "this node is not a validator of the current epoch: it follows and signs nothing")
    waits = "height 811, view 2: waits for 1 of 3 COMMIT; missing n2 (silent 4.1 s)"
    behind = _answer("n0", _cause(Cause.COMMIT, waits, "n2", height=811, missing=1), height=810, view=2)
    lost = _answer("n1", _cause(Cause.SILENT, "silent: no intact voting record"), height=810, view=2)
    found = conclude({"a": behind, "b": lost, "c": _answer("n8", follows), "d": {"error": "no answer"}})
    assert found.text.startswith("height 812, view 3: waits for the validators of this epoch; ")
    assert found.nodes == {
        "n0": "is at height 810 (height 811, view 2: waits for 1 of 3 COMMIT)",
        "n1": "is at height 810 (silent: no intact voting record)",
        "n2": "silent 4.1 s",
        "n3": "silent 4.1 s",
        "d": "no answer",
    }


def test_nobody_answers() -> None:
    found = conclude({"a": {"error": "refused"}, "b": {"error": "timeout"}})
    assert (found.text, found.goes_on, found.height) == ("no node answers", False, None)
    assert found.nodes == {"a": "refused", "b": "timeout"}
