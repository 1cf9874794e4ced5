"""The beginning of a store above the genesis: the state after one certified block, and what is needed to go on from it.

Nothing here is believed or checked: whoever has the parts has checked them. The state comes in batches of any size; the
foundation is written last, because a store without a head does not open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from otcnode.blocks import Certificate, Epoch, Header, block_hash
from otcnode.codec import encode
from otcnode.storage.kv import Write
from otcnode.storage.leaves import bucket_writes
from otcnode.storage.records import ChainMeta, Head
from otcnode.storage.schema import FORMAT, Meta, Table, height_key
from otcnode.storage.state_proof import key_hash, value_hash


def state_batch(pairs: Iterable[tuple[bytes, bytes]]) -> list[Write]:
    """What puts these state keys and their values into a store."""
    batch: list[Write] = []
    for key, value in pairs:
        batch.append((Table.STATE.value + key, value))
        batch.append((Table.TREE.value + key_hash(key), value_hash(value)))
    return batch


def foundation(
    chain: bytes,
    buckets: int,
    bucket_hashes: Mapping[int, bytes],
    genesis_state_root: bytes,
    epochs: Sequence[Epoch],
    epoch_ends: Sequence[tuple[Header, Certificate]],
    header: Header,
    certificate: Certificate,
) -> list[Write]:
    """What makes a store that begins at the state after `header`, and whose first block will be the one above.

    `epochs` are all from the first one on, also one that begins at the height above; `epoch_ends` are the certified
    headers of the last block of every epoch but the running one, by which the validator sets are followed;
    `bucket_hashes` are those of the state's leaves (`leaves.hashes_of_leaves`).
    """
    assert {epoch.number for epoch in epochs} == {1, *(end.height + 1 for end, _ in epoch_ends)}
    batch = bucket_writes(bucket_hashes)
    batch += [(height_key(Table.EPOCH, epoch.number), encode(epoch)) for epoch in epochs]
    for kept, proof in (*epoch_ends, (header, certificate)):
        assert proof.block_hash == block_hash(kept)
        batch.append((height_key(Table.HEADER, kept.height), encode(kept)))
        batch.append((height_key(Table.CERTIFICATE, kept.height), encode(proof)))
    batch.append((Meta.CHAIN.value, encode(ChainMeta(FORMAT, chain, buckets, genesis_state_root))))
    head = Head(header.height, block_hash(header), header.height, header.height + 1)
    batch.append((Meta.HEAD.value, encode(head)))
    return batch
