"""The whole node but for the world: replica, pool, ledger, store, gossip and sync joined into one synchronous machine.

`Engine` performs the replica's effects strictly in order and talks to the world only through the `Host` it is given.
The asyncio node and the simulator are two hosts of this one engine, so what is simulated is what runs. Everything
happens on one task: there are no locks.
"""
