"""What a block costs, counted; and that the table in the documents is what is counted."""

from __future__ import annotations

from pathlib import Path

from otcnode.blocks import quorum
from otcnode.cli.simulate_report import as_table
from otcnode.simulation.measure import BLOCKS, measure

DOCUMENT = Path(__file__).parents[2] / "docs" / "research.md"


def test_what_four_nodes_need_for_a_block_is_what_the_document_says() -> None:
    row = measure(4)
    assert row.blocks == BLOCKS and row.quorum == quorum(4)
    assert as_table([row]).splitlines()[-1] in DOCUMENT.read_text()


def test_messages_grow_with_the_square_of_the_nodes() -> None:
    """Everybody tells everybody: PREPAREs and COMMITs of each to all others, and STATUSes."""
    four, seven = measure(4), measure(7)
    assert seven.blocks == four.blocks
    growth = seven.messages / four.messages
    assert 2 < growth < (7 * 6) / (4 * 3) * 1.3
    votes_per_block = 2 * 4 * 3
    assert four.messages / four.blocks > votes_per_block
    assert four.signatures_made / four.blocks >= 2 * 4
