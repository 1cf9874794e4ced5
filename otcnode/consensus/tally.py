"""What one step verified: by it the shell knows what a peer's message cost."""

from __future__ import annotations

from otcnode.blocks import Verify


class Tally:
    """Verifies, and counts."""

    def __init__(self, verify: Verify) -> None:
        self._verify = verify
        self.checked = 0

    def begin(self) -> None:
        """Count from here on."""
        self.checked = 0

    def __call__(self, public: bytes, message: bytes, signature: bytes) -> bool:
        self.checked += 1
        return self._verify(public, message, signature)
