"""How a story is told: every act is a signed transaction whose outcome is proven, timed and printed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from rich.console import Console

from otcnode import ids
from otcnode.client.client import Client, Outcome
from otcnode.client.errors import TransactionRefused
from otcnode.demo.cast import Actor
from otcnode.errors import Code, OtcnodeError
from otcnode.genesis import Genesis
from otcnode.vm.context import created_id
from otcnode.vm.operations import Operation
from otcnode.vm.registry import OPERATIONS

T = TypeVar("T")
POLL_S = 0.1
WIDTH = 74


class StoryError(OtcnodeError):
    """Something happened that the story does not tell."""


class Stage:
    """One client, one console."""

    def __init__(self, client: Client, genesis: Genesis, console: Console) -> None:
        self.client = client
        self._genesis = genesis
        self._console = console

    def chapter(self, title: str) -> None:
        self._console.print(f"\n[bold]{title}[/bold]", soft_wrap=True)

    def say(self, text: str) -> None:
        self._console.print(f"  {text}", soft_wrap=True)

    def ledger_ms(self) -> int:
        return self._genesis.clock.ledger_ms(time.time_ns() // 1_000_000)

    async def act(
        self,
        actor: Actor,
        text: str,
        *operations: Operation,
        refused: Code | None = None,
        on_behalf_of: bytes | None = None,
        entrustment: bytes | None = None,
    ) -> bytes:
        """Have the operations executed atomically; returns the id of what the first one creates.

        With `refused` the transaction must fail with exactly that code. Raises StoryError on any other outcome.
        """
        purposes = {OPERATIONS[type(operation)].purpose for operation in operations}
        keys = [actor.keys[purpose] for purpose in sorted(purposes)]
        body = self.client.build(actor.account, operations, on_behalf_of=on_behalf_of, entrustment=entrustment)
        transaction = self.client.sign(body, keys)
        started = time.perf_counter()
        outcome: Outcome | None = None
        code, height = Code.OK, 0
        try:
            outcome = await self.client.execute(transaction)
        except TransactionRefused as refusal:
            code = Code(refusal.code)
        elapsed_ms = (time.perf_counter() - started) * 1000
        if code is not (refused or Code.OK):
            raise StoryError(f"{text}: {code.value}, expected {(refused or Code.OK).value}")
        if outcome is not None:
            height = outcome.height
        self._line(text, transaction.id, height, elapsed_ms, refused)
        return created_id(transaction.id, 0)

    def _line(self, text: str, transaction: bytes, height: int, elapsed_ms: float, refused: Code | None) -> None:
        name = ids.show(ids.Prefix.TRANSACTION, transaction)[:14] + "…"
        mark = "[green]✓[/green]" if refused is None else "[yellow]✗[/yellow]"
        told = text if refused is None else f"{text}: refused, {refused.value}"
        at = f"height {height:>4}" if height else " " * 11
        self._console.print(f"  {mark} {told:<{WIDTH}} {name}  {at}  {elapsed_ms:6.0f} ms", soft_wrap=True)

    async def until(self, text: str, look: Callable[[], Awaitable[T]], holds: Callable[[T], bool], limit_s: float) -> T:
        """Look again and again until it holds; for what the ledger does by itself. Raises StoryError after limit_s."""
        started = time.perf_counter()
        while True:
            seen = await look()
            if holds(seen):
                self._console.print(f"  [cyan]⟳[/cyan] {text}", soft_wrap=True)
                return seen
            if time.perf_counter() - started > limit_s:
                raise StoryError(f"waited {limit_s:.0f} s in vain: {text}; last seen {seen}")
            await asyncio.sleep(POLL_S)
