"""Whole nodes on virtual time: seeded plans of faults, checkers of everything promised, shrinking of what fails.

The nodes are the engine that runs in the real world, with real codec, framing, pool, ledger and storage; only the
world around them is made up. One plan gives one trace, bit for bit, on any machine.
"""
