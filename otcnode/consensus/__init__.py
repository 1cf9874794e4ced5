"""PBFT over a chain of blocks, pure: a state machine from events to effects (docs/design.md, "Consensus")."""
