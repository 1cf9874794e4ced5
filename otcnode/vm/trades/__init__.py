"""Trades in the units of products: negotiated, taken from standing offers, or by request for quotes."""
