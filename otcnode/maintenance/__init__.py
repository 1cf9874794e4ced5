"""Work on the data directory of a stopped node that needs the ledger as well as the store: replay and export."""
