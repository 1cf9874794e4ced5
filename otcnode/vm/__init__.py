"""The transaction processor: a pure, deterministic function from state and transactions to receipts and writes."""
