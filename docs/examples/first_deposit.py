"""A custodian credits an account and reads it back. Usage: first_deposit.py CLUSTER_DIRECTORY [NODE_URL...]"""

import asyncio
import secrets
import sys
from pathlib import Path

from otcnode import genesis, ids
from otcnode.client import keystore
from otcnode.client.client import Client
from otcnode.client.errors import TransactionRefused
from otcnode.genesis import genesis_account_id
from otcnode.vm.accounts.operations import CashDeposit


async def main(directory: Path) -> None:
    document = genesis.load(directory / "node1" / "genesis.json")
    bank = genesis_account_id("BANK")
    keys = keystore.read(directory / "keys" / "BANK.json", b"localnet")
    trade_key = keys["TRADE"].signing_key()
    urls = ["http://127.0.0.1:26651", "http://127.0.0.1:26653"]
    if len(sys.argv) > 2:
        urls = sys.argv[2:]
    async with Client(urls, document) as client:
        deposit = CashDeposit(genesis_account_id("TRAFFIC"), "CNY@HARBOUR", 125_00, f"HB-{secrets.token_hex(4)}")
        transaction = client.sign(client.build(bank, [deposit]), [trade_key])
        outcome = await client.execute(transaction)
        print(f"{ids.show(ids.Prefix.TRANSACTION, outcome.id)} is final at height {outcome.height}")
        again = await client.execute(transaction)
        print(f"the same bytes again: still one transaction, at height {again.height}")
        try:
            await client.execute(client.sign(client.build(bank, [deposit]), [trade_key]))
        except TransactionRefused as refusal:
            print(f"another transaction with the same bank reference: {refusal.code}, definite: {refusal.definite}")
        client.identify(bank, trade_key)
        positions = await client.positions(bank)
        print(f"BANK holds {[(entry.cash, entry.balance) for entry in positions.cash]}")


asyncio.run(main(Path(sys.argv[1])))
