"""docs/api.md, written from the table of methods and their types, with the rules that hold for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc

import msgspec

from otcnode import limits
from otcnode.ids import Prefix
from otcnode.rpc.access import CHALLENGE_MS, SIGHT_OF_ROLES, TOKEN_MS, Subject
from otcnode.rpc.discovery import document
from otcnode.rpc.method import PageParams, ReadParams
from otcnode.rpc.methods import METHODS

_HEAD = f"""# The API

Written by `make reference` from the table of methods in `otcnode/rpc/methods.py`; a test holds this file to it. Every
type is in the OpenRPC document that `rpc.discover` returns.

JSON-RPC 2.0 by HTTP POST to `/` and over a WebSocket at `/ws`, on one port; parameters by name or by position. Batches
hold up to {limits.rpc_batch_entries_max} calls, requests up to {limits.rpc_request_bytes_max >> 20} MiB (else 413),
uncompressed: a `Content-Encoding` other than `identity` is refused with 415. Beside it `GET /healthz`, `/readyz`,
`/metrics` and `/version`.

## Values

- **Ids** are Bech32m of 32 bytes; the prefix says what is named:
  {{prefixes}}.
- **Integers** of the ledger (money in minor units, quantities in 10^-quantity_decimals units, prices in 10^-4) are
  decimal strings without a point. Rates in ppm, heights and counts are numbers. Bytes are base64.
- **Times** are answered as `{{{{ms, iso}}}}` and asked for as integer ms or as ISO 8601 with an offset; days are
  `YYYY-MM-DD`.

## Reading

- Every read says `height`, `block_hash` and `time` of the state it shows. `at_height` asks for a past one, as far back
  as this node keeps history (−32007 names the heights); `min_height` waits up to {limits.rpc_min_height_wait_ms_max} ms
  for the node to reach it (then −32005): so one reads one's own writes after changing nodes.
- Lists have `limit` ({limits.page_entries_default} unless said, at most {limits.page_entries_max}) and `next`, which
  goes on at the same height and is null at the end. A page may hold fewer rows than `limit`, even none, and still
  have a `next`. Filters are ANDed equality; `from` and `to` are a half-open range of time.
- Lists come from indexes that are part of the state, so they answer for past heights too. The index of events behind
  `account_statement` and `events_list` is beside the state: it only grows, and is complete for every height.

## Events

A cursor is `height:number` of an event; what follows is after it. `events_list` reads on from one. Over a WebSocket
`events_subscribe` answers with a name, then notifications `events_event` {{{{subscription, cursor, event}}}} come in
order, each once, after finality only. Close codes: 4008, the reader took nothing for
{limits.rpc_subscriber_stall_ms_max // 1000} s; 4001, the token ended; 4010, what follows the cursor is no longer kept.
Subscribing again with the last cursor, at any node, loses nothing.

## Who may read what

`auth_challenge`, then `auth_login` with the challenge signed by any key of the account but ENC, within
{CHALLENGE_MS // 1000} s; then `Authorization: Bearer <token>`, good for {TOKEN_MS // 60_000} minutes at this node only
and void once the key is revoked. A refusal (−32003) is the same whether or not the thing exists.

- *open*: anybody. *rows*: each row is for its parties. *sees-all*: for roles that see everything.
- An account's parties are its holder; a contract's the creator and the slots; a trade's buyer and seller; an
  entrustment's principal and agent. A custodian sees its own cash, an issuer the units, subscriptions and redemptions
  of its products. Open offers are for all who are logged in, or for their whitelist. A quote is for who gave it and
  who asked: others never learn a losing price.
- `state_proof` proves to a party its own entries that exist, and anything to roles that see blocks.

{{roles}}

## Errors

| code | meaning | data |
|---|---|---|
| −32700, −32600, −32601, −32602, −32603 | as in JSON-RPC 2.0 | |
| −32000 | the ledger's code | `code`, `operation` (from 0), `definite`, `detail` |
| −32001 | there is none | |
| −32002 | log in, or again | |
| −32003 | forbidden, or it does not exist | |
| −32004 | too many requests | `retry_after_ms` |
| −32005 | not ready; another node may be | |
| −32006 | overloaded | |
| −32007 | that height is not available | `first`, `last` |
| −32008 | that cursor is none, or what it names is pruned | `first` |

`definite` true: it has not happened and never will. Anything else may still happen, also through another node.

## What calls cost

A caller is the account that has logged in, else the address. It has {limits.rpc_cost_per_second:,} units per second, of
which {limits.rpc_cost_burst:,} can be saved up. A call takes its cost (the table below) before it begins; one that the
budget does not hold is refused with −32004 and not begun. What a request then takes of the node's
processor beyond the costs of its calls is charged too, a unit for every
{limits.rpc_cost_unit_ns // 1_000} µs, as it is taken, so that no
caller gets much more than {limits.rpc_cost_per_second * limits.rpc_cost_unit_ns * 100 // 10**9} % of a core for long,
whatever it asks for; while a call waits, for a block or for `min_height`, it takes nothing. An HTTP request takes
{limits.rpc_request_cost} units besides, whatever comes of it (a path that is not there, a wrong method, an
`Expect` that is not known, a body that breaks off), a WebSocket {limits.rpc_websocket_cost} more, and a message
over it, or a ping, {limits.rpc_message_cost}: batches and WebSockets are cheaper than many requests.
`tx_simulate` takes {limits.rpc_signature_cost} more for each signature, once the transaction is admissible without
them; `tx_submit` and `tx_submitAndWait` as much, where one of them turns out to be false.

Whoever owes units waits until it has paid, for up to {limits.rpc_debt_wait_ms_max} ms;
then the whole request is refused, with −32004 and `id` null, or with 429 where it is no POST of calls; a ping is
answered late. A body of more than {limits.rpc_look_bytes_max:,} bytes is not read before that.
`retry_after_ms` says when to come again: for the same call if one was refused, else when nothing is owed.
Another node has a budget of its own.

Where a request is answered before all of its body has come, the rest is not read, and the connection is closed.

All addresses together have {limits.rpc_cost_per_second_of_addresses:,} units per second, all accounts
{limits.rpc_cost_per_second_of_accounts:,}, and all looks at the node (below)
{limits.rpc_cost_per_second_of_watchers:,}, but for those from the machine
itself: the rest of a core is consensus'. Who comes while that is spent waits as who owes does, in order of arrival.

What subscriptions tell takes units of a second budget of the caller, as large: where that owes, they go on when it has
paid, and no call waits for it.

The four pages take units of a budget of the address besides. `/metrics` and `/readyz` answer 429 where it owes for more
than {limits.rpc_debt_wait_ms_max} ms; `/healthz` and `/version` are only late then. {{looks}}, alone in a
message of at most {limits.rpc_look_bytes_max:,} bytes (sent without `Expect`), take of that budget
too, or of one that the account has beside that for its calls, where one has logged in: whoever runs a node learns how
it is while others at the same address owe.

## Methods

`*` required; *paged*: also `limit`, `next`; *read*: also `at_height`, `min_height`. Cost is the least that a call takes
of its caller's budget.
"""


def api_reference() -> str:
    """The whole document."""
    head = _HEAD.format(
        prefixes=", ".join(f"`{prefix.value}` {prefix.name.lower()}" for prefix in Prefix),
        roles="\n".join(_roles()),
        looks=" and ".join(f"`{name}`" for name, method in METHODS.items() if method.look),
    )
    return head + "\n" + "\n".join(_methods()) + "\n\n" + "\n".join(_notes()).rstrip() + "\n"


def _roles() -> Iterator[str]:
    yield "| role | sees of everybody |"
    yield "|---|---|"
    for role, subjects in SIGHT_OF_ROLES.items():
        names = sorted(subject.name.lower() for subject in subjects)
        yield f"| {role.value} | {'everything' if len(subjects) == len(Subject) else ', '.join(names)} |"


def _own_fields(params: type[msgspec.Struct]) -> list[str]:
    shared = {"limit", "next", "at_height", "min_height"} if issubclass(params, PageParams) else set()
    shared |= {"at_height", "min_height"} if issubclass(params, ReadParams) else set()
    return [name for name in params.__struct_encode_fields__ if name not in shared]


def _methods() -> Iterator[str]:
    described = {entry["name"]: entry for entry in document(METHODS)["methods"]}
    yield "| method | parameters | | who | cost | |"
    yield "|---|---|---|---|---|---|"
    for name, method in METHODS.items():
        required = {entry["name"] for entry in described[name]["params"] if entry["required"]}
        fields = ", ".join(f"`{field}`{'*' if field in required else ''}" for field in _own_fields(method.params))
        kind = ""
        if issubclass(method.params, PageParams):
            kind = "paged, read"
        elif issubclass(method.params, ReadParams):
            kind = "read"
        yield f"| `{name}` | {fields} | {kind} | {method.access.value} | {method.cost} | {method.summary} |"


def _notes() -> Iterator[str]:
    """What the docstrings of parameters and results add, where they have one of their own."""
    inherited = {"", cleandoc(ReadParams.__doc__ or ""), cleandoc(PageParams.__doc__ or "")}
    for name, method in METHODS.items():
        texts = [_own_doc(kind) for kind in (method.params, method.result)]
        told = [text for text in texts if text not in inherited]
        if told:
            yield f"**{name}**. " + " ".join(" ".join(text.split()) for text in told)
            yield ""


def _own_doc(kind: object) -> str:
    return cleandoc(vars(kind).get("__doc__") or "") if isinstance(kind, type) and kind is not dict else ""
