"""The signature bound: how many transactions a second this machine could verify at most, if it did nothing else.

It is the measure of efficiency: Ed25519 verifications per second of all cores ÷ validators, taken in the same run.
"""

from __future__ import annotations

import multiprocessing
import os
import time

from otcnode.crypto import SigningKey, verify


def verifications_per_second(seconds: float) -> float:
    """All cores together, over `seconds` of pure verification of 32-byte messages."""
    cores = os.cpu_count() or 1
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        return sum(pool.map(_verify_for, [seconds] * cores, chunksize=1))


def verifications_per_second_of_one_core(seconds: float) -> float:
    """One core, over `seconds` of pure verification."""
    return _verify_for(seconds)


def _verify_for(seconds: float) -> float:
    key = SigningKey.generate()
    messages = [bytes([index]) * 32 for index in range(64)]
    signed = [(message, key.sign(message)) for message in messages]
    count = 0
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        for message, signature in signed:
            assert verify(key.public, message, signature)
        count += len(signed)
    return count / elapsed
