"""The network that is simulated, and what its clients do there: real transactions of the real ledger."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import assert_never

from msgspec.structs import replace

from otcnode.crypto import SigningKey, sha256, tagged_hash
from otcnode.genesis import (
    CashAsset,
    ChainParameters,
    Clock,
    Genesis,
    GenesisAccount,
    GenesisKey,
    GenesisNode,
    GenesisValidator,
    KeyPurpose,
    Role,
    chain_id,
    genesis_account_id,
)
from otcnode.simulation.plan import Act, Admit, Apply, Deposit, Freeze, Plan, Reform, Review, Rotate, Submission, Tune
from otcnode.vm.accounts.operations import AccountApply, AccountFreeze, AccountReview, CashDeposit, NewKey
from otcnode.vm.accounts.records import AccountKind, Thresholds
from otcnode.vm.context import ITEM_DOMAIN
from otcnode.vm.governance.operations import GovernanceApprove, GovernancePropose, ValidatorRotate
from otcnode.vm.governance.records import NodeAdmit, ParameterChange, ParameterSet, ValidatorSet
from otcnode.vm.governance.validators import rotation_preimage
from otcnode.vm.operations import Operation
from otcnode.vm.transactions import TRANSACTION_VERSION, Body, Decoded, sign_transaction

TIME_MS = 1_800_000_000_000
"""Ledger time at the start of every simulation."""
CASH = "CNY@BANK"
BANK, KYC, REGULATOR = "bank", "kyc", "regulator"
INVESTORS = tuple(f"investor {index}" for index in range(4))
STATE_BUCKETS = 16
APPROVAL_DELAYS_MS = (300, 1_500, 4_000, 8_000, 13_000)
"""When a change that was proposed is approved: often too early for those that join."""


@cache
def key_of(name: str) -> SigningKey:
    return SigningKey(sha256(f"otcnode simulation {name}".encode()))


@cache
def validator_keys(count: int) -> tuple[SigningKey, ...]:
    """Sorted by id, as validators are."""
    return tuple(sorted((key_of(f"validator {index}") for index in range(count)), key=lambda key: key.public))


@cache
def node_keys(validators: int, others: int) -> tuple[SigningKey, ...]:
    """The first validators, then the others: spares, and strangers after them."""
    return (*validator_keys(validators), *(key_of(f"spare {index}") for index in range(others)))


def keys_of(plan: Plan) -> tuple[SigningKey, ...]:
    """By the index of the node."""
    return node_keys(plan.validators, plan.spares + plan.strangers)


def manager_of(name: str) -> SigningKey:
    """The key with which an account governs."""
    return key_of(f"{name} manager")


def second_key_of(name: str) -> SigningKey:
    """The other key with which an account trades."""
    return key_of(f"{name} second")


def _account(name: str, role: Role, governs: bool = False, second: bool = False) -> GenesisAccount:
    keys = [GenesisKey(purpose=KeyPurpose.TRADE, key=key_of(name).public)]
    if second:
        keys.append(GenesisKey(purpose=KeyPurpose.TRADE, key=second_key_of(name).public))
    if governs:
        keys.append(GenesisKey(purpose=KeyPurpose.MANAGE, key=manager_of(name).public))
    return GenesisAccount(name=name, organisation=name, roles=(role,), keys=tuple(keys))


def genesis_of(plan: Plan) -> Genesis:
    """The genesis that a plan's network starts from."""
    roles = {BANK: Role.CUSTODIAN, KYC: Role.KYC, REGULATOR: Role.REGULATOR}
    governs = {KYC, REGULATOR} if plan.governs else frozenset()
    accounts = [
        _account(name, role, name in governs, second=name == BANK and plan.second_key) for name, role in roles.items()
    ]
    accounts += [_account(name, Role.INVESTOR) for name in INVESTORS]
    return Genesis(
        network="simulation",
        clock=Clock(origin_ms=TIME_MS),
        time_ms=TIME_MS,
        parameters=ChainParameters(
            window=plan.window,
            block_transactions_max=plan.block_transactions_max,
            rotation_blocks=plan.rotation_blocks,
            drift_real_ms=plan.drift_ms,
            state_buckets=STATE_BUCKETS,
        ),
        validators=tuple(
            GenesisValidator(name=f"n{index}", id=key.public, organisation=f"organisation {index}")
            for index, key in enumerate(validator_keys(plan.validators))
        ),
        nodes=tuple(
            GenesisNode(name=f"n{plan.validators + index}", id=key.public, organisation=f"spare organisation {index}")
            for index, key in enumerate(node_keys(plan.validators, plan.spares)[plan.validators :])
        ),
        accounts=tuple(accounts),
        cash=(CashAsset(id=CASH, custodian=BANK),),
    )


@dataclass(frozen=True, slots=True)
class Client:
    """A submission with the transaction that follows from it."""

    submission: Submission
    transaction: Decoded

    @property
    def valid_until_ms(self) -> int:
        return self.transaction.transaction.body.valid_until

    @property
    def is_unauthorised(self) -> bool:
        """Nobody may take it."""
        act = self.submission.act
        return isinstance(act, Rotate) and act.usurped


def clients_of(plan: Plan) -> tuple[Client, ...]:
    """Every client of the plan, in its order. A transaction follows from its submission alone, so that leaving out
    others does not change it."""
    chain = chain_id(genesis_of(plan))
    clients: list[Client] = []
    for submission in plan.workload:
        transaction = _transaction(chain, plan, submission)
        clients.append(Client(submission, transaction))
        if submission.twin_node is not None:
            assert isinstance(submission.act, Deposit), "only the custodian has two keys"
            twin = sign_transaction(transaction.transaction.body, [second_key_of(BANK)])
            clients.append(Client(replace(submission, node=submission.twin_node), twin))
        if isinstance(submission.act, Reform | Admit | Tune):
            clients += _approvals(chain, plan, submission, created_by(transaction))
    return tuple(clients)


def _approvals(chain: bytes, plan: Plan, submission: Submission, proposal: bytes) -> list[Client]:
    """The KYC desk approves again and again; what comes after the one that did it fails."""
    clients = []
    for delay_ms in APPROVAL_DELAYS_MS:
        later = replace(submission, at_ms=submission.at_ms + delay_ms, node=(submission.node + 1) % plan.nodes)
        sender, key = genesis_account_id(KYC), manager_of(KYC)
        clients.append(Client(later, _signed(chain, plan, later, sender, key, GovernanceApprove(proposal))))
    return clients


def _transaction(chain: bytes, plan: Plan, submission: Submission) -> Decoded:
    sender, key = _signer(plan, submission.act)
    return _signed(chain, plan, submission, sender, key, _operation(chain, plan, submission))


def _signed(
    chain: bytes, plan: Plan, submission: Submission, sender: bytes, key: SigningKey, operation: Operation
) -> Decoded:
    body = Body(
        version=TRANSACTION_VERSION,
        chain=chain,
        sender=sender,
        salt=sha256(repr((plan.seed, submission.at_ms, submission.act)).encode()),
        valid_until=TIME_MS + submission.at_ms + submission.lives_ms,
        on_behalf_of=None,
        entrustment=None,
        operations=(operation,),
    )
    return sign_transaction(body, [key])


def created_by(transaction: Decoded) -> bytes:
    """The id of what the first operation of a transaction makes."""
    return tagged_hash(ITEM_DOMAIN, transaction.id + bytes(4))


def _signer(plan: Plan, act: Act) -> tuple[bytes, SigningKey]:
    match act:
        case Deposit():
            return genesis_account_id(BANK), key_of(BANK)
        case Freeze():
            return genesis_account_id(REGULATOR), key_of(REGULATOR)
        case Review():
            return genesis_account_id(KYC), key_of(KYC)
        case Apply(applicant=applicant):
            return b"", key_of(f"applicant {applicant}")
        case Reform() | Admit() | Tune():
            return genesis_account_id(REGULATOR), manager_of(REGULATOR)
        case Rotate(validator=validator, successor=successor, usurped=usurped):
            return b"", keys_of(plan)[successor if usurped else validator]
        case _:
            assert_never(act)


def _operation(chain: bytes, plan: Plan, submission: Submission) -> Operation:
    act = submission.act
    match act:
        case Deposit(investor=investor, amount=amount):
            account = genesis_account_id(INVESTORS[investor])
            return CashDeposit(account, CASH, amount, f"{submission.at_ms}-{investor}-{amount}")
        case Freeze(investor=investor, amount=amount):
            account = genesis_account_id(INVESTORS[investor])
            return AccountFreeze(account, CASH.encode(), amount, sha256(b"order"), None)
        case Apply(applicant=applicant):
            keys = (NewKey(KeyPurpose.MANAGE, key_of(f"applicant {applicant}").public),)
            commitment = sha256(f"applicant {applicant}".encode())
            return AccountApply(AccountKind.PERSON, commitment, keys, commitment, Thresholds(1, 0, 0), 1)
        case Review(applicant=applicant, approve=approve):
            return AccountReview(_applied(chain, plan, applicant), approve, "" if approve else "incomplete")
        case Reform(members=members):
            names = tuple(sorted(keys_of(plan)[index].public for index in members))
            return GovernancePropose(ValidatorSet(names), "a reform", sha256(b"minutes"))
        case Admit(member=member, admitted=admitted):
            node, where = keys_of(plan)[member].public, f"organisation {member}"
            return GovernancePropose(NodeAdmit(node, admitted, f"n{member}", where, ""), "a node", sha256(b"minutes"))
        case Rotate(validator=validator, successor=successor):
            old, new = keys_of(plan)[validator].public, keys_of(plan)[successor]
            consent = new.sign(rotation_preimage(chain, old, new.public))
            return ValidatorRotate(old, new.public, f"n{successor}", "", consent)
        case Tune(window=window):
            return GovernancePropose(ParameterSet((ParameterChange("window", window),)), "tuned", sha256(b"minutes"))
        case _:
            assert_never(act)


def _applied(chain: bytes, plan: Plan, applicant: int) -> bytes:
    """The account that the application, if the plan has one, will have made."""
    for submission in plan.workload:
        if submission.act == Apply(applicant=applicant):
            return created_by(_transaction(chain, plan, submission))
    return sha256(b"nobody")
