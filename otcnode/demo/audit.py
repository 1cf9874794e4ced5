"""The end of the story: do all nodes hold the same state, and does that state keep the ledger's invariants?"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from otcnode.audit import ledger_violations
from otcnode.client.client import Client
from otcnode.demo.stage import StoryError
from otcnode.genesis import chain_id
from otcnode.localnet import Cluster, Member
from otcnode.storage.level import LevelKeyValue
from otcnode.storage.store import Store
from otcnode.vm.invariants import CHECKS


async def compare_roots(cluster: Cluster, console: Console) -> None:
    """Every node proves its header of the highest height that all have. Raises StoryError if they differ."""
    heights = [await _height(member, cluster) for member in cluster.members]
    height = min(heights)
    roots = {}
    for member in cluster.members:
        async with Client([member.url], cluster.genesis) as client:
            roots[member.name] = (await client.header(height)).state_root
    console.print(f"\n[bold]State roots at height {height}[/bold]")
    for name, root in roots.items():
        console.print(f"  {name}  {root.hex()}")
    if len(set(roots.values())) != 1:
        raise StoryError("the state roots differ")
    console.print(f"  all {len(roots)} are equal")


async def _height(member: Member, cluster: Cluster) -> int:
    async with Client([member.url], cluster.genesis) as client:
        return (await client.status()).height


def check_invariants(cluster: Cluster, member: Member, console: Console) -> None:
    """Open the directory of a stopped node, which rebuilds its state root, and hold its state and receipts to the
    ledger's invariants. Raises StoryError."""
    chain = chain_id(cluster.genesis)
    store = Store.open(LevelKeyValue(member.home.database), chain, 0)
    try:
        violations: Sequence[object] = ledger_violations(store, chain)
    finally:
        store.close()
    if violations:
        raise StoryError("; ".join(str(violation) for violation in violations))
    console.print(f"  {member.name}, opened at height {store.tip.height}: {len(CHECKS)} groups of invariants hold")
