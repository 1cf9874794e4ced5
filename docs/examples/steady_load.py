"""Deposits at a steady rate on a cluster of `otcnode localnet`, over its validators in turn, until Ctrl-C.

Each is submitted once, awaited until final, and its proof checked; what a killed node does not answer, another does.
"""

import argparse
import asyncio
import contextlib
import secrets
import time
from pathlib import Path
from statistics import median

from otcnode import genesis
from otcnode.client import keystore
from otcnode.client.client import Client
from otcnode.client.errors import ClientError
from otcnode.crypto import SigningKey
from otcnode.genesis import genesis_account_id
from otcnode.vm.accounts.operations import CashDeposit

URLS = [f"http://127.0.0.1:{port}" for port in (26651, 26653, 26655, 26657)]
REPORT_S = 5.0


class Load:
    """What became of the deposits."""

    def __init__(self, client: Client, trade_key: SigningKey) -> None:
        self._client = client
        self._trade_key = trade_key
        self.under_way: set[asyncio.Task[None]] = set()
        self.final = self.height = 0
        self.failures: list[str] = []
        self.seconds: list[float] = []

    def begin(self) -> None:
        task = asyncio.create_task(self._deposit())
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)

    async def _deposit(self) -> None:
        began = time.perf_counter()
        deposit = CashDeposit(genesis_account_id("TRAFFIC"), "CNY@HARBOUR", 1_00, f"HB-{secrets.token_hex(8)}")
        transaction = self._client.sign(self._client.build(genesis_account_id("BANK"), [deposit]), [self._trade_key])
        try:
            outcome = await self._client.execute(transaction)
        except ClientError as error:
            self.failures.append(str(error))
            return
        self.final += 1
        self.height = max(self.height, outcome.height)
        self.seconds.append(time.perf_counter() - began)

    def report(self, elapsed_s: float) -> None:
        took = f"median {median(self.seconds):.3f} s, longest {max(self.seconds):.3f} s" if self.seconds else "none"
        counts = f"{self.final} final, {len(self.failures)} failed, {len(self.under_way)} under way"
        print(f"{elapsed_s:.0f} s: {counts}, height {self.height}; since the last line: {took}", flush=True)
        for failure in self.failures[-1:]:
            print(f"  the last failure: {failure}", flush=True)
        self.seconds.clear()


async def main(directory: Path, per_second: float, seconds: float, urls: list[str]) -> None:
    document = genesis.load(directory / "node1" / "genesis.json")
    trade_key = keystore.read(directory / "keys" / "BANK.json", b"localnet")["TRADE"].signing_key()
    async with Client(urls, document) as client:
        load, began, number = Load(client, trade_key), time.perf_counter(), 0
        reported = began
        try:
            while not seconds or time.perf_counter() - began < seconds:
                load.begin()
                number += 1
                await asyncio.sleep(max(0.0, began + number / per_second - time.perf_counter()))
                if time.perf_counter() - reported >= REPORT_S:
                    reported = time.perf_counter()
                    load.report(reported - began)
            await asyncio.gather(*load.under_way)
        finally:
            load.report(time.perf_counter() - began)
            for task in load.under_way:
                task.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="The cluster's directory.")
    parser.add_argument("--per-second", type=float, default=10.0, help="Deposits a second; 10 unless said.")
    parser.add_argument("--seconds", type=float, default=0.0, help="How long; until Ctrl-C unless said.")
    parser.add_argument("--url", action="append", help="A node; may be repeated. Else the first four of localnet.")
    given = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(given.directory, given.per_second, given.seconds, given.url or URLS))
