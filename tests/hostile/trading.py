"""A client in a process of its own that keeps the chain at work: whenever a block is final, its next transactions wait.

python -m tests.hostile.trading CLUSTER NAME..., until it is told to end.
"""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import sys
import threading
import time
from pathlib import Path

from otcnode.bench import workload
from otcnode.crypto import random_bytes
from otcnode.genesis import chain_id
from otcnode.localnet import Cluster, Member
from tests.processes.cluster import TTL_MS

HANDS = 3
"""So many transactions are under way at once: when some are in a block, others wait for the next."""
PAUSE_S = 0.02


def trade(member: Member, chain: bytes, numbers: itertools.count[int], salt: bytes) -> None:
    """One transaction after the other, each when the one before is final."""
    connection = http.client.HTTPConnection("127.0.0.1", member.rpc_port, timeout=60)
    for number in numbers:
        valid_until_ms = time.time_ns() // 1_000_000 + TTL_MS // 2
        [transaction] = workload.signed_deposits(chain, number, 1, valid_until_ms, salt, 10)
        params = {"transaction": base64.b64encode(transaction.raw).decode(), "timeout_ms": 30_000}
        call = {"jsonrpc": "2.0", "id": number, "method": "tx_submitAndWait", "params": params}
        connection.request("POST", "/", json.dumps(call), {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        if "error" in answer:
            print(answer["error"], file=sys.stderr, flush=True)
        time.sleep(PAUSE_S)


def main(directory: Path, names: list[str]) -> None:
    cluster = Cluster(directory)
    chain, numbers, salt = chain_id(cluster.genesis), itertools.count(), random_bytes(24)
    hands = [
        threading.Thread(target=trade, args=(cluster.member(names[hand % len(names)]), chain, numbers, salt))
        for hand in range(HANDS)
    ]
    for hand in hands:
        hand.start()
    for hand in hands:
        hand.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
