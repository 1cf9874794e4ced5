"""Sealed documents: what the ledger says of them. Their bytes are kept by the nodes, beside the chain."""
