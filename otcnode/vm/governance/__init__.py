"""Governance: what several organisations decide together, the validators, and the record of regulators' access."""
