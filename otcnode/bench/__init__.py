"""Measuring a real cluster: every transaction signed by its client, verified by every validator, executed, synced."""
