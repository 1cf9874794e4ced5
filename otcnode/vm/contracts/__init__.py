"""Contracts: drafted, confirmed and signed on the chain; what products and trades are bound to."""
