"""A long real chain, quickly: signed transactions executed and committed block by block, without a network.

Everything is as in a node but that nobody else is asked: each transaction carries its client's signature, each block
its certificate by all validators, and every block is one synced write.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from otcnode import genesis as genesis_module
from otcnode.bench.workload import accounts, cash, signed_deposits
from otcnode.blocks import Certificate, Header, ValidatorSignature, block_hash, commit_preimage
from otcnode.crypto import SigningKey, sha256
from otcnode.engine.flight import Flight
from otcnode.genesis import ChainParameters, Clock, Genesis, GenesisValidator, chain_id, first_epoch
from otcnode.storage.kv import KeyValue
from otcnode.storage.level import LevelKeyValue
from otcnode.storage.store import Store
from otcnode.vm.genesis_state import genesis_writes

START_MS = 1_800_000_000_000
BLOCK_MS = 1_000
LIFE_MS = 60_000
"""How long a transaction is valid: ids of the last 60 blocks are remembered in the state."""
HISTORY_BLOCKS = 100_000


def genesis_of(validators: int = 1, buckets: int = 65_536) -> Genesis:
    """The chain's beginning: eight custodians, and a thousand holders that they credit."""
    keys = sorted(validator_keys(validators), key=lambda key: key.public)
    return Genesis(
        network="bench-chain",
        clock=Clock(origin_ms=START_MS),
        time_ms=START_MS,
        parameters=ChainParameters(state_buckets=buckets),
        validators=tuple(
            GenesisValidator(name=f"validator{place}", id=key.public, organisation=f"Bank {place}")
            for place, key in enumerate(keys)
        ),
        accounts=accounts(),
        cash=cash(),
    )


def validator_keys(validators: int) -> list[SigningKey]:
    return [SigningKey(sha256(b"otcnode bench validator" + bytes([place]))) for place in range(validators)]


class ChainBuilder:
    """Grows the chain of a genesis made by `genesis_of`. The same calls make the same chain, byte for byte, also where
    it is opened again in between."""

    def __init__(
        self,
        kv: KeyValue,
        genesis: Genesis,
        *,
        history_blocks: int = HISTORY_BLOCKS,
        blocks_kept: int | None = None,
    ) -> None:
        self.genesis = genesis
        self.chain = chain_id(genesis)
        if Store.exists(kv):
            self.store = Store.open(kv, self.chain, history_blocks, blocks_kept)
        else:
            epoch, buckets = first_epoch(genesis), genesis.parameters.state_buckets
            writes = genesis_writes(genesis)
            self.store = Store.create(kv, self.chain, writes, buckets, epoch, history_blocks, blocks_kept)
        self._flight = Flight(self.store, self.chain, genesis.time_ms)
        self._keys = sorted(validator_keys(len(genesis.validators)), key=lambda key: key.public)

    def grow(self, blocks: int, transactions: int, told: Callable[[int], None] = lambda height: None) -> None:
        """So many blocks of so many transactions each; `told` hears of every height."""
        for _ in range(blocks):
            self.append(transactions)
            told(self.store.tip.height)

    def append(self, transactions: int) -> Header:
        """One more block."""
        time_ms = self._flight.time_ms + BLOCK_MS
        parent = self._flight.committed()
        salt = (parent.height + 1).to_bytes(8, "big") + bytes(16)
        signed = signed_deposits(self.chain, 0, transactions, time_ms + LIFE_MS - 1, salt)
        speculation, refused = self._flight.build(parent, self._keys[0].public, time_ms, iter(signed), transactions)
        assert not refused and len(speculation.entries) == transactions
        self._flight.commit(speculation, self.certificate(speculation.header))
        return speculation.header

    def certificate(self, header: Header) -> Certificate:
        """By all validators."""
        epoch, name = self.store.epoch_of(header.height), block_hash(header)
        message = commit_preimage(self.chain, epoch.number, 0, header.height, name)
        signatures = tuple(ValidatorSignature(key.public, key.sign(message)) for key in self._keys)
        return Certificate(epoch.number, 0, header.height, name, signatures)


def make_home(
    directory: Path,
    blocks: int,
    transactions: int,
    told: Callable[[int], None] = lambda height: None,
    genesis: Genesis | None = None,
) -> Genesis:
    """A home with genesis and database but without key and configuration, for tools that look into one."""
    genesis = genesis or genesis_of()
    directory.mkdir(parents=True)
    (directory / "genesis.json").write_bytes(genesis_module.dump(genesis))
    kv = LevelKeyValue(directory / "data" / "chain", create=True)
    try:
        ChainBuilder(kv, genesis).grow(blocks, transactions, told)
    finally:
        kv.close()
    return genesis
