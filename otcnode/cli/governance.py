"""`otcnode governance`: what organisations decide together, of what concerns the network itself."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from otcnode import ids
from otcnode.cli.acting import Actor, acting, identifier, tell
from otcnode.client.client import Outcome
from otcnode.crypto import sha256
from otcnode.errors import ConfigurationError
from otcnode.rpc.governing import GovernanceListParams, GovernanceListResult
from otcnode.vm.governance.events import EpochScheduled, ProposalApproved, ProposalChanged
from otcnode.vm.governance.operations import GovernanceApprove, GovernancePropose
from otcnode.vm.governance.records import (
    Action,
    MarketPause,
    NodeAdmit,
    ParameterChange,
    ParameterSet,
    ProposalStatus,
    ValidatorSet,
)

reason_option = click.option("--reason", required=True, help="Why; it stays on the chain.")
document_option = click.option(
    "--document",
    type=click.Path(path_type=Path),
    help="What it rests on, for example minutes; its hash goes on the chain.",
)


@click.group()
def governance() -> None:
    """What organisations decide together.

    A proposal is its organisation's approval; the last approval needed executes it. The account must have a role that
    governs (REGULATOR or an OPERATOR desk) and signs with its MANAGE keys.
    """


@governance.command("list")
@acting
def governance_list(actor: Actor) -> None:
    """The proposals, newest last."""
    answer = actor.call("governance_list", GovernanceListParams(), GovernanceListResult)
    if actor.as_json:
        click.echo(msgspec.json.encode(answer))
        return
    table = Table("proposal", "kind", "status", "approvals")
    for entry in answer.proposals:
        proposal = entry.proposal
        table.add_row(entry.id, entry.kind, proposal.status, str(len(proposal.approvals)))
    Console().print(table)


@governance.command("approve")
@click.argument("proposal")
@acting
def governance_approve(actor: Actor, proposal: str) -> None:
    """Approve PROPOSAL (gov1…) for the account's organisation."""
    outcome = actor.execute(GovernanceApprove(identifier(ids.Prefix.GOVERNANCE, proposal)))
    _tell(actor, outcome)


@governance.group("propose")
def propose() -> None:
    """Propose a change; prints the proposal's id, which others approve."""


@propose.command("validator-set")
@click.argument("validators", nargs=-1, required=True)
@reason_option
@document_option
@acting
def propose_validator_set(actor: Actor, validators: tuple[str, ...], reason: str, document: Path | None) -> None:
    """Let exactly VALIDATORS (node1…) decide, from the second block after the last approval on.

    A node that joins must be admitted and run: it says by itself that it is ready once it has synced.
    """
    members = tuple(sorted(identifier(ids.Prefix.NODE, name) for name in validators))
    _propose(actor, ValidatorSet(members), reason, document)


@propose.command("admit")
@click.argument("node")
@click.option("--name", required=True, help="How the node is called.")
@click.option("--organisation", required=True, help="Whose it is.")
@click.option("--address", default="", help="host:port where peers find it; it may also announce one itself.")
@reason_option
@document_option
@acting
def propose_admit(
    actor: Actor, node: str, name: str, organisation: str, address: str, reason: str, document: Path | None
) -> None:
    """Admit NODE (node1…, as `init` prints it): it may connect and follow."""
    _propose(actor, NodeAdmit(identifier(ids.Prefix.NODE, node), True, name, organisation, address), reason, document)


@propose.command("turn-away")
@click.argument("node")
@reason_option
@document_option
@acting
def propose_turn_away(actor: Actor, node: str, reason: str, document: Path | None) -> None:
    """Admit NODE (node1…) no longer; it must not be a validator."""
    action = NodeAdmit(identifier(ids.Prefix.NODE, node), False, "-", "-", "")
    _propose(actor, action, reason, document)


@propose.command("parameters")
@click.argument("changes", nargs=-1, required=True)
@reason_option
@document_option
@acting
def propose_parameters(actor: Actor, changes: tuple[str, ...], reason: str, document: Path | None) -> None:
    """Change chain parameters: CHANGES are NAME=VALUE, for example window=8."""
    _propose(
        actor, ParameterSet(tuple(sorted(map(_change, changes), key=lambda change: change.name))), reason, document
    )


@propose.command("pause")
@click.option("--resume", is_flag=True, help="Let the market go on instead.")
@reason_option
@document_option
@acting
def propose_pause(actor: Actor, resume: bool, reason: str, document: Path | None) -> None:
    """Pause the market, or let it go on."""
    _propose(actor, MarketPause(not resume), reason, document)


def _change(text: str) -> ParameterChange:
    name, separator, value = text.partition("=")
    if not separator or not name or not value.isascii() or not value.isdigit():
        raise ConfigurationError(f"{text!r} is not NAME=VALUE with a whole number")
    return ParameterChange(name, int(value))


def _propose(actor: Actor, action: Action, reason: str, document: Path | None) -> None:
    try:
        content = b"" if document is None else document.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {document}: {error.strerror}") from None
    _tell(actor, actor.execute(GovernancePropose(action, reason, sha256(content))))


def _tell(actor: Actor, outcome: Outcome) -> None:
    events = outcome.receipt.events
    approved = next(event for event in events if isinstance(event, ProposalApproved))
    name = ids.show(ids.Prefix.GOVERNANCE, approved.proposal)
    executed = any(isinstance(event, ProposalChanged) and event.status is ProposalStatus.EXECUTED for event in events)
    epoch = next((event.first_height for event in events if isinstance(event, EpochScheduled)), None)
    text = f"{name} at height {outcome.height}: "
    text += "executed" if executed else f"{approved.approvals} of {approved.needed} approvals"
    if epoch is not None:
        text += f", in force from height {epoch}"
    tell(
        actor.as_json,
        text,
        proposal=name,
        height=outcome.height,
        executed=executed,
        approvals=approved.approvals,
        needed=approved.needed,
        first_height=epoch,
    )
