"""Every bound of a node that is not a parameter of its chain, in one place. Units are in the names."""

from __future__ import annotations

# frames and connections
message_bytes_max = 16 * 1024 * 1024
handshake_timeout_ms = 5_000
connections_inbound_max = 128
connections_per_address_max = 32
frame_read_idle_ms_max = 30_000
channel_queue_bytes_max = {
    "consensus": 64 << 20,
    "sync": 32 << 20,
    "transactions": 16 << 20,
    "documents": 16 << 20,
}
ban_ms_first = 1_000
ban_ms_max = 3_600_000
reconnect_ms_first = 100
reconnect_ms_max = 5_000

# consensus
view_max = 2**40
buffered_heights_windows = 2
"""Votes are kept up to committed + this many windows."""
votes_other_views_per_validator_max = 2

# gossip and mempool
transaction_bytes_max = 64 * 1024
operations_per_transaction_max = 100
signatures_per_transaction_max = 32
mempool_transactions_max = 50_000
mempool_bytes_max = 64 << 20
mempool_transactions_per_account_max = 20_000
gossip_batch_bytes_max = 1 << 20
seen_cache_entries_max = 200_000
verified_cache_entries_max = 100_000
ended_transactions_remembered_max = 50_000

# sync
sync_blocks_per_request_max = 64
sync_response_bytes_max = 4 << 20

# rpc
rpc_request_bytes_max = 4 << 20
rpc_batch_entries_max = 100
rpc_wait_ms_max = 60_000
page_entries_default = 100
page_entries_max = 1_000
