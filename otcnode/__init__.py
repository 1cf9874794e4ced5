"""otcnode: a peer-to-peer blockchain node for issuing and trading products off exchange."""

__version__ = "0.1.0"
