"""Proofs for whoever was not there: what a chain says, checked offline from its genesis alone. Pure."""
