"""Executing blocks: due items first, then transactions, each all or none.

The caller hands in only envelopes whose signatures are cryptographically valid (transactions.signature_checks, verified
in batches outside); here it is judged whether those keys may sign: unregistered E_AUTH, revoked E_KEY_REVOKED, not for
this purpose E_KEY_PURPOSE, too few E_THRESHOLD. What is wrong up to there is *inadmissible*: it raises, leaves no trace
and must not be in a block. What is wrong after it is *failed*: a receipt with the code, the state untouched.

The ledger is one sequence: the due items in order of (due time, class, creation), and each transaction after everything
that is due by its block's time. The budgets decide only how many blocks that takes: while something due is left over,
blocks hold no transaction. So nothing sees a later moment than its own, and cutting blocks differently changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from otcnode.errors import Code, Failed, Inadmissible
from otcnode.genesis import KeyPurpose
from otcnode.vm import delegation, due
from otcnode.vm.accounts.operations import AccountApply
from otcnode.vm.accounts.records import ACCOUNTS, KEYS, Account, AccountStatus
from otcnode.vm.context import PARAMETERS, Context, Environment, fail, paused
from otcnode.vm.governance.operations import NodeOperation
from otcnode.vm.governance.records import NODES
from otcnode.vm.keys import MARKER, SINGLE, Marker, Prefix, Table, integer
from otcnode.vm.registry import DUE_KINDS, DUE_WEIGHTS, HOOKS, OPERATIONS
from otcnode.vm.results import AutomaticReceipt, BlockResult, Receipt
from otcnode.vm.rules import Rule, Signatory
from otcnode.vm.state import State
from otcnode.vm.transactions import Body, Decoded
from otcnode.vm.view import StateView

SEEN = Table(Prefix.SEEN, Marker)
"""valid_until ‖ transaction id"""
SEEN_BATCH = 64

# Looked up once: a member of an enumeration, asked of its class, costs as much as a read of the state.
_OK = Code.OK
_ACTIVE = AccountStatus.ACTIVE
_BY_ACCOUNT = Signatory.ACCOUNT


def environment_at(view: StateView, chain: bytes, height: int, time_ms: int) -> Environment:
    """The environment of a block on top of `view`, with the parameters in force there."""
    parameters = State(view).get(PARAMETERS, SINGLE)
    assert parameters is not None, "a state begins with its genesis"
    return Environment(chain, height, time_ms, parameters)


class BlockExecution:
    """One block in the making: `run_due` once, `apply` per transaction, `finish`.

    A transaction that `apply` refuses as Inadmissible is simply not in the block, so the primary can try candidates.
    """

    def __init__(self, view: StateView, environment: Environment) -> None:
        self._state = State(view)
        self._environment = environment
        self._automatic: list[AutomaticReceipt] = []
        self._receipts: list[Receipt] = []
        self._explanations: list[str] = []
        self._due_has_run = False
        self._is_behind = False

    @property
    def is_behind(self) -> bool:
        """Whether something that is due had to be left to the next block: then this one holds no transaction."""
        return self._is_behind

    def run_due(self) -> tuple[AutomaticReceipt, ...]:
        """Run what is due in its order, as far as the budgets go; the rest waits for the next block, in the same order.

        An item that alone is more than its whole budget runs when nothing of that budget is used yet.
        """
        assert not self._due_has_run
        self._due_has_run = True
        self._forget_expired()
        parameters = self._environment.parameters
        budgets = {due.LANE_RELEASE: parameters.due_class1_weight_max, due.LANE_REST: parameters.due_weight_max}
        left = dict(budgets)
        lanes = {prefix: due.Lane(self._state, prefix, self._environment.time_ms) for prefix in budgets}
        while (entry := _next_due(tuple(lanes.values()))) is not None:
            key, item = entry
            lane = key[:1]
            weigh = DUE_WEIGHTS.get(item.kind)
            weight = item.weight if weigh is None else weigh(self._state, item)
            if weight > left[lane] and left[lane] < budgets[lane]:
                self._is_behind = True
                break
            lanes[lane].take()
            left[lane] -= weight
            self._run(key, item)
        return tuple(self._automatic)

    def _run(self, key: bytes, item: due.DueItem) -> None:
        state = self._state
        due.remove(state, key, item)
        context = Context(state, self._environment, due.due_time(key), HOOKS)
        savepoint = state.savepoint()
        code = _OK
        try:
            DUE_KINDS[item.kind](context, item)
        except Failed as error:
            state.rollback(savepoint)
            context.events.clear()
            code = error.code
        self._automatic.append(AutomaticReceipt(item.item, item.kind, code, tuple(context.events)))

    def _forget_expired(self) -> None:
        """Ids need remembering only while valid; at most twice a block's worth is forgotten per block, which keeps up
        with any rate at which they can arrive."""
        most = 2 * self._environment.parameters.block_transactions_max
        until = integer(self._environment.time_ms + 1)
        expired: list[bytes] = []
        while len(expired) < most:
            cursor = expired[-1] if expired else None
            entries = self._state.scan(SEEN, after=cursor, limit=min(most - len(expired), SEEN_BATCH))
            found = [suffix for suffix, _ in entries if suffix < until]
            expired += found
            if len(found) < SEEN_BATCH:
                break
        # Not before all are found: a search has to go through what its own block has written.
        for suffix in expired:
            self._state.delete(SEEN, suffix)

    def apply(self, decoded: Decoded) -> Receipt:
        """Execute one transaction. Raises Inadmissible, and then nothing has happened."""
        assert self._due_has_run
        if self._is_behind:
            raise Inadmissible(Code.STATE, "what is due by the block's time goes first")
        state = self._state
        body = decoded.transaction.body
        account = admit(state, self._environment, decoded)
        state.put(SEEN, integer(body.valid_until) + decoded.id, MARKER)
        context = Context(state, self._environment, self._environment.time_ms, HOOKS)
        context.transaction_id = decoded.id
        context.signers = tuple([entry.key for entry in decoded.transaction.signatures])
        context.actor = body.sender
        context.actor_roles = account.roles if account is not None else ()
        savepoint = state.savepoint()
        explanation = ""
        try:
            _perform(context, body, account)
            receipt = Receipt(decoded.id, _OK, None, tuple(context.events))
        except Failed as error:
            state.rollback(savepoint)
            receipt = Receipt(decoded.id, error.code, context.operation_index, ())
            explanation = error.detail
        self._receipts.append(receipt)
        self._explanations.append(explanation)
        return receipt

    def finish(self) -> BlockResult:
        assert self._due_has_run
        return BlockResult(
            tuple(self._automatic),
            tuple(self._receipts),
            tuple(self._explanations),
            self._state.writes(),
            self._is_behind,
        )


def _next_due(lanes: Sequence[due.Lane]) -> tuple[bytes, due.DueItem] | None:
    """The first due entry of the lanes. A lane is never walked back: no item schedules for a moment before itself."""
    heads = [head for lane in lanes if (head := lane.head()) is not None]
    if len(heads) > 1:
        return min(heads, key=lambda entry: entry[0][1:])
    return heads[0] if heads else None


def execute_block(view: StateView, environment: Environment, transactions: Sequence[Decoded]) -> BlockResult:
    """The door of the ledger. Raises Inadmissible if any transaction may not be in a block: the block is refused."""
    execution = BlockExecution(view, environment)
    execution.run_due()
    for decoded in transactions:
        execution.apply(decoded)
    return execution.finish()


def simulate(view: StateView, environment: Environment, decoded: Decoded) -> BlockResult:
    """What a block with this one transaction would do now; nothing is kept. Raises Inadmissible."""
    return execute_block(view, environment, [decoded])


def check_admissible(state: State, environment: Environment, decoded: Decoded) -> None:
    """Raises Inadmissible if the transaction could not be in a block now. For the pool, which keeps the `state` while
    what is committed stays the same: it is not written to, and what was read is not decoded again."""
    admit(state, environment, decoded)


def admit(state: State, environment: Environment, decoded: Decoded) -> Account | None:
    """The checks before execution, in their fixed order: chain, validity, duplicate, account, key and purpose,
    threshold. Returns the sender's account, None where there is no sender. Raises Inadmissible; writes nothing."""
    body = decoded.transaction.body
    if body.chain != environment.chain:
        raise Inadmissible(Code.CHAIN, "made for another network")
    remaining = body.valid_until - environment.time_ms
    if remaining <= 0:
        raise Inadmissible(Code.TX_EXPIRED, f"valid until {body.valid_until}")
    if remaining > environment.parameters.max_transaction_ttl_ms:
        raise Inadmissible(Code.TX_EXPIRED, "valid_until is too far ahead")
    if state.get(SEEN, integer(body.valid_until) + decoded.id) is not None:
        raise Inadmissible(Code.TX_DUPLICATE, "already in the chain")
    rules = [OPERATIONS[type(operation)] for operation in body.operations]
    if not body.sender:
        _admit_without_sender(state, rules[0], decoded)
        return None
    account = state.get(ACCOUNTS, body.sender)
    if account is None:
        raise Inadmissible(Code.NOT_FOUND, "sender")
    if account.status is not _ACTIVE and not (
        account.status is AccountStatus.RECOVERING and all(rule.while_recovering for rule in rules)
    ):
        raise Inadmissible(Code.ACCOUNT_STATE, f"the sender's account is {account.status.value}")
    _check_keys(state, account, rules, decoded)
    return account


def _check_keys(state: State, account: Account, rules: list[Rule], decoded: Decoded) -> None:
    sender = decoded.transaction.body.sender
    given: list[KeyPurpose] = []
    revoked = False
    for entry in decoded.transaction.signatures:
        key = state.get(KEYS, sender + entry.key)
        if key is None:
            raise Inadmissible(Code.AUTH, "signed by a key that is not the sender's")
        revoked |= key.revoked_at is not None
        given.append(key.purpose)
    if revoked:
        raise Inadmissible(Code.KEY_REVOKED, "signed by a key that was revoked")
    wanted = [rule.purpose for rule in rules]
    for purpose in given:
        if purpose not in wanted:
            raise Inadmissible(Code.KEY_PURPOSE, "signed by a key of another purpose")
    for rule in rules:
        # never none: an account without keys of a purpose has a threshold of 0 for it
        needed = 1 if rule.one_key else account.thresholds.of(rule.purpose) or 1
        if given.count(rule.purpose) < needed:
            raise Inadmissible(Code.THRESHOLD, f"{needed} {rule.purpose.value} keys must sign")


def _admit_without_sender(state: State, rule: Rule, decoded: Decoded) -> None:
    operations = decoded.transaction.body.operations
    admission = ADMISSIONS.get(rule.signatory)
    if admission is None or len(operations) != 1:
        raise Inadmissible(Code.NOT_FOUND, "the sender: only an application or a node's operation, alone, has none")
    admission(state, operations[0], [entry.key for entry in decoded.transaction.signatures])


def _admit_applicant(state: State, application: AccountApply, signers: Sequence[bytes]) -> None:
    purposes = {entry.key: entry.purpose for entry in application.keys}
    given = [purposes.get(key) for key in signers]
    if None in given:
        raise Inadmissible(Code.AUTH, "signed by a key that is not in the application")
    if any(purpose is not KeyPurpose.MANAGE for purpose in given):
        raise Inadmissible(Code.KEY_PURPOSE, "an application is signed by MANAGE keys")
    if len(given) < application.thresholds.manage:
        raise Inadmissible(Code.THRESHOLD, f"{application.thresholds.manage} MANAGE keys must sign")


def _admit_node(state: State, operation: NodeOperation, signers: Sequence[bytes]) -> None:
    if state.get(NODES, operation.node) is None:
        raise Inadmissible(Code.NOT_FOUND, "node: it is not admitted to this network")
    if list(signers) != [operation.node]:
        raise Inadmissible(Code.AUTH, "a node's operation is signed by the node's identity key alone")


ADMISSIONS: Mapping[Signatory, Callable[[State, Any, Sequence[bytes]], None]] = {
    Signatory.APPLICANT: _admit_applicant,
    Signatory.NODE: _admit_node,
}
"""Who may sign an operation that stands alone in a transaction without a sender: (state, operation, signing keys).
Raises Inadmissible."""


def _perform(context: Context, body: Body, account: Account | None) -> None:
    """The operations in order: pause, role, entrustment, the operation's own rules."""
    on_behalf = body.on_behalf_of is not None or body.entrustment is not None
    context.principal = body.sender if body.on_behalf_of is None else body.on_behalf_of
    context.entrustment = body.entrustment
    market_paused = paused(context.state)
    committed = 0
    for index, operation in enumerate(body.operations):
        context.operation_index = index
        rule = OPERATIONS[type(operation)]
        if market_paused and not rule.while_paused:
            fail(Code.PAUSED, "the market is paused")
        if body.sender and rule.signatory is not _BY_ACCOUNT:
            fail(Code.FORBIDDEN, "it stands alone in a transaction without a sender")
        if on_behalf:
            account = context.account(context.principal)
        if rule.roles and (account is None or rule.roles.isdisjoint(account.roles)):
            fail(Code.ROLE, "needs " + " or ".join(sorted(rule.roles)))
        if on_behalf:
            committed += delegation.check(context, rule, operation, committed)
        rule.handler(context, operation)
    if on_behalf:
        delegation.commit(context, committed)
