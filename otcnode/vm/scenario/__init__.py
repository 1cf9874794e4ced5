"""Stories about the ledger, written in TOML: who does what when, what comes of it. docs/scenarios.md tells how."""
