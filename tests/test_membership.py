"""Who may connect follows the committed state; what the operator wrote down comes on top."""

from __future__ import annotations

import pytest

from otcnode import ids
from otcnode.errors import ConfigurationError
from otcnode.membership import Membership
from otcnode.vm.governance.records import NodeAdmit
from tests.vm.governance.council import Council
from tests.vm.ledger import key_of

OWN, NEW, STRANGER = (key_of(name).public for name in ("v", "new", "stranger"))


def admit(council: Council, admitted: bool = True, address: str = "10.0.0.5:26650") -> None:
    council.decide(NodeAdmit(NEW, admitted, "node5", "Fifth bank", address))


def test_a_node_is_let_in_from_the_block_that_admits_it_to_the_one_that_turns_it_away() -> None:
    council = Council()
    membership = Membership(STRANGER, {})
    membership.read(council.view)
    assert (membership.admits(OWN), membership.admits(NEW)) == (True, False)
    admit(council)
    assert membership.read(council.view) == {NEW: "10.0.0.5:26650"}
    assert membership.admits(NEW) and not membership.admits(STRANGER)
    assert membership.name_of(NEW) == "node5" and membership.named(f"waits for {NEW.hex()[:12]}") == "waits for node5"
    admit(council, address="10.0.0.6:26650")
    assert membership.read(council.view) == {NEW: "10.0.0.6:26650"}
    assert membership.read(council.view) == {}, "only what is new is said"
    admit(council, admitted=False)
    membership.read(council.view)
    assert not membership.admits(NEW)


def test_no_two_nodes_are_told_by_the_same_name() -> None:
    """The ledger lets them share one; metrics, explanations and logs would take one for the other."""
    council = Council()
    membership = Membership(OWN, {})
    membership.read(council.view)
    own = membership.name_of(OWN)
    assert membership.own_name("as configured") == own
    assert Membership(OWN, {}).own_name("as configured") == "as configured"

    def named(name: str) -> str:
        """The newcomer, under this name."""
        council.decide(NodeAdmit(NEW, True, name, "Fifth bank", "10.0.0.5:26650"))
        membership.read(council.view)
        return membership.name_of(NEW)

    new, old = NEW.hex()[:12], OWN.hex()[:12]
    assert named("node5") == "node5" and membership.name_of(OWN) == own
    assert named(own) == f"{own} ({new})" and membership.name_of(OWN) == f"{own} ({old})"
    assert membership.named(f"{old} waits for {new}") == f"{own} ({old}) waits for {own} ({new})"
    assert membership.own_name("as configured") == f"{own} ({old})"
    assert named(f"{own} ({old})") == f"{own} ({old}) ({new})" and membership.name_of(OWN) == own
    assert named(old) == f"{old} ({new})"
    assert membership.named(f"{old} waits for {new}") == f"{own} waits for {old} ({new})"


def test_the_operators_addresses_come_before_those_on_the_chain() -> None:
    council = Council()
    admit(council)
    assert Membership(STRANGER, {"node5": "192.0.2.1:1"}).read(council.view) == {NEW: "192.0.2.1:1"}
    assert NEW not in Membership(NEW, {}).read(council.view), "nobody dials itself"


def test_a_newcomer_begins_with_whom_its_operator_names_by_id() -> None:
    name = ids.show(ids.Prefix.NODE, NEW)
    membership = Membership(STRANGER, {name: "192.0.2.1:1"})
    assert membership.read(Council().view) == {NEW: "192.0.2.1:1"}
    assert membership.admits(NEW)


@pytest.mark.parametrize("address", ["somewhere", f"[fe80::1%{'a' * 100}]:26600"])
def test_an_address_that_is_none_stops_no_node(address: str) -> None:
    """Governance can write any text; a node that did not start because of it could not be told by governance either."""
    council = Council()
    admit(council, address=address)
    assert Membership(STRANGER, {}).read(council.view) == {}


@pytest.mark.parametrize(
    ("name", "address"), [("node5", "nowhere"), (ids.show(ids.Prefix.NODE, NEW)[:-1] + "q", "192.0.2.1:1")]
)
def test_a_mistyped_peer_is_refused(name: str, address: str) -> None:
    with pytest.raises(ConfigurationError, match=r"p2p\.peers"):
        Membership(STRANGER, {name: address})
