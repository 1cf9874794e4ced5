"""What the load consists of: transactions signed beforehand, one operation each."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from os import cpu_count

from otcnode.crypto import SigningKey, random_bytes
from otcnode.genesis import CashAsset, GenesisAccount, GenesisKey, KeyPurpose, Role, genesis_account_id
from otcnode.vm.accounts.operations import CashDeposit
from otcnode.vm.transactions import TRANSACTION_VERSION, Body, Decoded, sign_transaction

CASH = "CNY@BENCH"
CUSTODIANS = 8
HOLDERS = 1_000
_CHUNK = 2_000


def _custodian_seed(index: int) -> bytes:
    return b"otcnode bench custodian" + index.to_bytes(9, "big")


def accounts() -> tuple[GenesisAccount, ...]:
    """Custodians that sign the load, and the holders they credit."""
    custodians = tuple(
        GenesisAccount(
            name=f"custodian{index}",
            organisation=f"Bank {index}",
            roles=(Role.CUSTODIAN,),
            keys=(GenesisKey(purpose=KeyPurpose.TRADE, key=SigningKey(_custodian_seed(index)).public),),
        )
        for index in range(CUSTODIANS)
    )
    holders = tuple(
        GenesisAccount(name=f"holder{index}", organisation=f"Holder {index}", roles=(Role.INVESTOR,), keys=())
        for index in range(HOLDERS)
    )
    return (*custodians, *holders)


def cash() -> tuple[CashAsset, ...]:
    return tuple(CashAsset(id=f"{CASH}{index}", custodian=f"custodian{index}") for index in range(CUSTODIANS))


def deposits(chain: bytes, count: int, valid_until_ms: int, holders: int = HOLDERS) -> Iterator[bytes]:
    """`count` signed deposits, each by its client's own key, made on all cores."""
    jobs = [
        (chain, first, min(_CHUNK, count - first), valid_until_ms, random_bytes(24), holders)
        for first in range(0, count, _CHUNK)
    ]
    with signers(cpu_count() or 1) as pool:
        for chunk in pool.map(sign_chunk, jobs):
            yield from chunk


Chunk = tuple[bytes, int, int, int, bytes, int]
"""The arguments of `signed_deposits`."""


def signers(count: int) -> ProcessPoolExecutor:
    """Processes that run `sign_chunk`."""
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"))


def sign_chunk(job: Chunk) -> list[bytes]:
    """What it names, signed and encoded."""
    return [decoded.raw for decoded in signed_deposits(*job)]


def signed_deposits(
    chain: bytes, first: int, count: int, valid_until_ms: int, salt: bytes, holder_count: int = HOLDERS
) -> list[Decoded]:
    """Deposits `first` to `first + count - 1`; the same arguments make the same transactions."""
    keys = [SigningKey(_custodian_seed(index)) for index in range(CUSTODIANS)]
    senders = [genesis_account_id(f"custodian{index}") for index in range(CUSTODIANS)]
    holders = [genesis_account_id(f"holder{index}") for index in range(holder_count)]
    signed = []
    for number in range(first, first + count):
        custodian = number % CUSTODIANS
        operation = CashDeposit(
            account=holders[number % holder_count],
            cash=f"{CASH}{custodian}",
            amount=100 + number % 10_000,
            bank_reference=f"{salt.hex()[:16]}-{number}",
        )
        body = Body(
            version=TRANSACTION_VERSION,
            chain=chain,
            sender=senders[custodian],
            salt=salt + number.to_bytes(8, "big"),
            valid_until=valid_until_ms,
            on_behalf_of=None,
            entrustment=None,
            operations=(operation,),
        )
        signed.append(sign_transaction(body, [keys[custodian]]))
    return signed
