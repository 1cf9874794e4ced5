"""Every bound of a node that is not a parameter of its chain, in one place. Units are in the names."""

from __future__ import annotations

# frames and connections
message_bytes_max = 16 * 1024 * 1024
handshake_timeout_ms = 5_000
connections_inbound_max = 128
connections_per_address_max = 32
connections_handshaking_max = 64
"""Inbound connections that have not proven who they are."""
keepalive_ms = 5_000
silence_ms_max = 15_000
"""A peer from which nothing comes, not even the answer to a ping, for this long is gone."""
record_ms_max = 10_000
"""From the first byte of an encrypted record (at most 64 KiB) to its last."""
message_ms_max = 120_000
"""From the first fragment of a message to its last, as far as this node waits for something to come."""
message_held_ms_max = 1_200_000
"""The same, however late this node reads what comes: the connection ends, without blame, for as little is read of an
honest one where many guests want much of this node."""
overtaking_bytes_max = 64 << 10
"""What may go ahead of a message that has begun, of each more urgent channel, for every fragment of it: so it ends, and
whoever holds it up is known, however late this node reads."""
overtaking_message_bytes_min = 4 << 10
"""What a message counts at least that goes ahead."""
deaf_ms_max = 10_000
"""A peer that talks but takes nothing of what is sent to it for this long lets it pile up by intent."""
farewell_ms_max = 1_000
"""How long a closed connection is kept so that the other side can read why."""
channel_message_bytes_max = {
    "consensus": message_bytes_max,
    "sync": message_bytes_max,
    "transactions": 2 << 20,
    "documents": 3 << 20,
}
channel_queue_bytes_max = {
    "consensus": 64 << 20,
    "sync": 32 << 20,
    "transactions": 16 << 20,
    "documents": 16 << 20,
}
channel_rate_per_second = {
    "consensus": (1_000, 64 << 20),
    "sync": (1_000, 64 << 20),
    "transactions": (10_000, 32 << 20),
    "documents": (1_000, 16 << 20),
}
"""(messages, bytes) that are read from one peer; twice as much may come at once. More waits in the peer's own TCP."""
guests_work_us = 250_000
"""Of each second, for the messages of all peers that are no validators: half of it in equal parts, the other half in
equal parts for those of them who are held back."""
flood_ms_max = 3_000
"""A peer that sends more than is read of it for about twice this time is not busy but hostile."""
control_frames_per_second = 50
control_frames_burst = 500
ban_ms_first = 1_000
ban_ms_max = 3_600_000
bans_max = 10_000
inbound_per_address_per_second = 20
inbound_per_address_burst = 100
inbound_per_node_per_second = 1
inbound_per_node_burst = 60
"""Connections that one admitted peer may open, from whatever addresses; restarts in a row need fewer."""
addresses_remembered_max = 1_000
announcement_interval_ms_min = 1_000
announcement_interval_ms_max = 60_000
"""Between two announcements of one node that are taken and passed on; each interval is twice as long as the last."""
announced_dials_per_second = 4
announced_dials_burst = 20
"""Attempts at addresses that were announced, of all peers together: who is found there may be somebody whom many liars
mean to be overrun by all others. Those that are configured do not wait."""
names_looked_up_at_once = 4
"""Host names in the addresses that peers announced, and as many in those that are configured."""
names_looked_up_max = 256
addresses_per_name_max = 4
"""Tried one after another."""
misled_ms_first = 1_000
misled_ms_max = 600_000
"""For how long a node is not looked for again where somebody else was found in its place."""
moved_ms_max = 60_000
"""The same once it has announced another address, and where somebody who says not who it is answers at that one."""
refusals_told_per_second = 1
refusals_told_burst = 20
"""How many of the refused connections of strangers are reported one by one."""
reconnect_ms_first = 100
reconnect_ms_max = 5_000

# consensus
validators_max = 100
"""That decide one height. All nodes of a chain must agree on it."""
view_max = 2**40
window_max = 64
"""Heights in flight that a chain can ask for at most."""
window_transactions_max = 500_000
"""Of the blocks in flight together, each as large as can be: the lists of a window that waits are 32 MB."""
buffered_heights_windows = 2
"""Votes are kept up to committed + this many windows."""
votes_other_views_per_validator_max = 2
waiting_transactions_min = 8_192
"""Listed by the proposals of one validator that wait, however few a window of full blocks has: no more than 0.5 MB."""
candidates_per_height_max = 8
"""Blocks remembered per height; those accepted in this view, proved or certified are never the ones forgotten."""
own_vote_views_max = 64
"""Views whose own votes are remembered for comparison with what others show."""
commit_times_kept = 64
decisions_behind_max = 64
"""Whoever is further behind is helped by block sync, not by certificates."""
decisions_sent_per_second_max = 64
"""Certificates of committed heights, read from the store, to one peer that lacks them."""
offences_per_validator_max = 64
"""Remembered of one validator in one epoch with evidence that a transaction can hold; more would tell nothing new."""
large_offences_per_validator_max = 3
"""Besides, with evidence that no transaction can hold: it must not take the room of what comes on the chain. All that
is held of one validator is 16 MiB at most."""
evidence_bytes_max = 4 << 20
"""Of one piece: a NEW-VIEW of a hundred validators is larger than half of it."""
evidence_greeting_bytes_max = 256 << 10
"""Of evidence that is sent to a peer that has just connected."""
evidence_greeting_large_bytes_max = 1 << 20
"""Besides, of one piece that is larger than that by itself: a NEW-VIEW of 31 validators and more."""
urgent_per_validator_max = 100
"""Waiting transactions that one validator may push past the quotas of the primary's pool."""
urgent_per_second_max = 200
"""Bodies of one validator that a primary looks at for that."""
urgent_bytes_max = 1 << 20
"""Of bodies in one message."""
view_changes_per_second_max = 8
"""Of one author, whose proofs are then looked at; more are not."""
status_interval_ms = 500
status_interval_ms_min = 100
hearing_ms_max = 2_500
"""A validator not heard for this long counts as not heard."""
serve_again_ms_max = 10_000
"""The longest pause before the same peer is served the same block again."""
resend_after_ms = 200
"""What is younger is probably still on its way."""
sync_after_behind_ms = 400
wake_interval_real_ms = 1_000
wake_blocks_max = 300
"""Empty blocks for one silent validator, or for what one passes on of others, between two blocks with transactions."""
silent_told_per_second_max = 2
"""STATUSes of one silent validator that are passed on to the primary."""
view_answers_per_second_max = 4
"""To one peer that lacks VIEW-CHANGEs or a NEW-VIEW: each answer can be all of them, and twice a second it says again
what it lacks."""
windows_resent_per_second_max = 3
"""Votes and proposals sent again to one peer: as many times all that a window can hold. An honest one says twice a
second what it lacks, and oftener only as it gets on."""
epoch_answers_per_second_max = 4
"""To one peer that sends messages of epochs that are over; the last block of the epoch is all there is to say."""
blocks_per_timeout_step = 10
"""Committed blocks after which the view timeout falls one step."""
record_bytes_before_compaction = 1 << 20

ready_interval_ms = 5_000
"""Between two times that a node says it is ready to be a validator, should the first not come through."""
consensus_signatures_per_second = 1_000
"""That one peer may make this node verify: an eighth of a core."""
consensus_signatures_burst = 1_000
consensus_signatures_burst_per_pair_and_height = 2
"""On top of it, for each pair of validators, and each height of a window and the one below it: whoever was away is told
the VIEW-CHANGEs of all and a NEW-VIEW of a quorum of them, each with a quorum of signatures for each of the heights."""
consensus_view_changes_per_second = 20
consensus_view_changes_per_second_and_validator = 10
"""VIEW-CHANGE and NEW-VIEW from one peer, its own and those it passes on; twice as many may come at once. Each can hold
dozens of signatures."""
block_transactions_max = 100_000
"""That a chain can ask for at most. In one answer there are never more, of however many blocks: where there are several
they are small."""

# gossip and mempool
transaction_bytes_max = 64 * 1024
evidence_in_transaction_bytes_max = transaction_bytes_max - 2_048
"""What fits a transaction beside the rest of it."""
operations_per_transaction_max = 100
signatures_per_transaction_max = 32
mempool_transactions_max = 50_000
mempool_bytes_max = 64 << 20
mempool_transactions_per_account_max = 10_000
mempool_bytes_per_author_max = mempool_bytes_max // 8
"""Nobody fills the pool alone, with large transactions as little as with many."""
mempool_few_transactions_max = 25
mempool_few_bytes_max = transaction_bytes_max
"""Of one author. Who has no more finds room as long as there is any; a quarter of the pool is kept for that, so that
500 accounts are needed to fill it with small transactions, and 256 with the largest."""
mempool_applications_max = 1_000
mempool_transactions_per_node_max = 32
"""Of what a node says by itself: its readiness, evidence."""
gossip_batch_bytes_max = 1 << 20
gossip_push_bytes_max = 2_048
"""A larger transaction is offered by its hash instead of sent unasked."""
gossip_hashes_per_message_max = 4_096
gossip_request_hashes_max = 256
gossip_wanted_max = 50_000
gossip_wanted_per_peer_max = 10_000
gossip_outgoing_max = 100_000
gossip_announced_at_connect_max = 10_000
gossip_greeting_ms = 2_000
"""What a peer names within this time of its first names waited with it before it connected."""
gossip_pull_delay_ms = 50
"""How long a body that a peer merely has is given to arrive from its origin before it is asked for."""
gossip_request_timeout_ms = 1_000
gossip_refused_per_second = 500
"""Transactions from one peer that are inadmissible here. Above it the peer is not listened to for a while: a tenth of
a millisecond each, and a message can hold thousands."""
gossip_repeats_per_second = 100
gossip_repeats_burst = 2_000
"""Bodies that a peer sends again, and names that it repeats while they are being asked for."""
gossip_pushed_remembered_max = 4_096
gossip_names_per_second = 20_000
gossip_names_burst = 100_000
"""Transactions that one peer names (pushes, announces, asks for). A full pool twice over may come at once."""
gossip_served_bytes_per_second = 16 << 20
seen_cache_entries_max = 200_000
verified_cache_entries_max = 100_000
evidence_verdicts_remembered_max = 10_000
evidence_judged_at_once_bytes = 64 << 10
"""Of evidence in transactions, looked at in one go on the loop: ten milliseconds, besides the
signatures in it, which are verified elsewhere. One piece may go beyond it."""
signatures_per_batch_min = 128
signatures_per_batch_max = 4_096
"""Of arriving transactions, verified in one go: about a quarter of a second of one core that has nothing else to do."""
signatures_batch_ms = 100
"""How long a batch should take: it is halved where it takes twice as long, and doubled where it takes half."""
reconsidered_transactions_max = 10_000
"""Of those that wait, looked at once more before a primary is held to account for them: a fifth of a second."""
ended_transactions_remembered_max = 50_000
refused_transactions_remembered_max = 50_000
sightings_slice_ms = 10_000
"""Of those that are refused beyond that it is remembered in which slice of time they came."""
sightings_slices_max = 64
sightings_outline_bytes = 256 << 10
"""For each slice: 16 MiB for them all, whoever sends how much."""
sightings_per_outline_max = 160_000
"""16,000 a second, more than one core verifies the signatures of; above it the node does not judge by what came."""
explanations_remembered_max = 20_000
blocks_in_flight_kept = 16
"""Above it, executed blocks that the replica no longer considers are dropped."""
block_hashes_remembered_max = 256
validators_hashes_remembered_max = 16
vote_preimages_remembered_max = 64

# storage
state_buckets_max = 1 << 20
"""Their hashes are in memory: 64 MB."""
store_cache_bytes_min = 1 << 20
blocks_kept_min = 1_000
"""The shortest window of blocks: peers that were away for a while catch up by blocks within it."""

# sync
sync_blocks_per_request_max = 64
sync_response_bytes_max = 2 << 20
sync_served_bytes_per_second = 16 << 20
"""To one peer."""
sync_buffer_bytes_max = 64 << 20
"""Fetched and not yet applied; the lowest heights stay."""
sync_blocks_ahead_max = 64
sync_transactions_ahead_max = 8_000
"""Of blocks that are checked while those below them are executed; one block more may be on top of it."""

# snapshots
snapshot_chunk_bytes = 512 << 10
"""A snapshot has so many chunks that they are not larger on average."""
snapshot_chunk_pairs = 8_192
"""Nor hold more keys on average."""
snapshot_chunk_pairs_max = 4 * snapshot_chunk_pairs
"""A chunk with more is not decoded: what a liar's costs is bounded by what is needed. Keys are spread by their hashes;
where somebody has chosen them so that they are not, chunks are cut deeper. A state tree one of whose buckets has more
is not served as a snapshot."""
snapshot_chunk_bytes_max = message_bytes_max - 4_096
"""A state tree one of whose buckets is larger is not served as a snapshot."""
snapshot_manifest_bytes_max = message_bytes_max - 4_096
"""It holds every change of the validators since the genesis; where it is larger, no snapshot is served."""
snapshot_unwritten_bytes_max = 2 << 20
"""Of a snapshot that is gathered: proven, and not yet written; fetched again by whoever is killed. A chunk more may be
on top of it."""
snapshots_kept = 2
snapshot_spare_bytes = 512 << 20
"""What snapshots leave free on their file system, made or taken: the chain has to go on there."""
snapshot_no_room_pause_ms = 60_000
"""Before another snapshot is taken where there was no room for one."""
snapshot_damage_pause_ms = 10_000
"""Before a snapshot is gathered again after the second one in a row was damaged on this disk; it doubles each time."""
snapshot_damage_pause_ms_max = 600_000
snapshots_offered_max = 8
"""More of one peer are not looked at."""
snapshot_chunks_asked_max = 4
"""Of one peer, at a time."""
snapshot_requests_waiting_max = snapshot_chunks_asked_max + 2
"""Of one peer, for their turn: chunks, a manifest, and what there is; the oldest go first where there are more."""

# storage
disk_spare_bytes = 64 << 20
"""Where a write would begin with less left on its file system, a node stops instead: LevelDB opens nothing on a disk
that is full, so nobody could give back what the chain takes. To open it may take two buffers of 16 MiB, to give back
what lies in a piece of it as much again."""
pruned_bytes_before_compaction = 4 << 20
"""Of deletions by a pruning of a stopped node's store, before it gives back what it can: until then they take room in
LevelDB's log and again in a table, and to merge that with what is deleted takes some 16 MiB more. All has to find room
in `disk_spare_bytes`, half of which may be taken by opening the store."""
pruning_growth_bytes_max = 8 << 20
"""By how much a store may have grown in a pruning, with the blocks given back, before the deletions that lie everywhere
in a table are merged with what they delete: that rewrites the whole of the table. On a disk with room, more."""
pruning_growth_divisor = 4
"""By this part of what is free beyond `disk_spare_bytes`. Each merging gives back more than the store had grown by,
so the next one comes later: there are a few of them, not one for each so many bytes of a long chain."""
state_buckets_read_ahead = 32
"""Of the state tree, read from disk at each tick after a start, until all are in memory: 2,000 of 4,000,000 keys."""

# rpc
rpc_request_bytes_max = 4 << 20
rpc_batch_entries_max = 100
rpc_wait_ms_max = 60_000
rpc_wait_ms_default = 30_000
rpc_min_height_wait_ms_max = 2_000
rpc_calls_in_flight_max = 50_000
rpc_calls_in_flight_per_caller_max = 10_000
rpc_connections_max = 800
"""TCP connections; each holds a file descriptor, of which a process often has 1024."""
rpc_connections_per_address_max = 700
rpc_websocket_messages_in_flight_max = 64
rpc_cost_per_second = 20_000
rpc_cost_burst = 40_000
"""Of one caller. What calls take beyond their prices is charged by the unit below, so that a caller gets a fifth of a
core."""
rpc_cost_per_second_of_addresses = 25_000
rpc_cost_per_second_of_accounts = 25_000
rpc_cost_per_second_of_watchers = 10_000
"""Of all addresses, accounts and looks at the node together; a second of each can be saved up. The rest of the core is
consensus'."""
rpc_cost_unit_ns = 10_000
rpc_request_cost = 20
"""Of an HTTP request besides what is called by it: reading and answering one is a fifth of a millisecond."""
rpc_websocket_cost = 40
"""Of a WebSocket besides its request: opening and closing one is another 0.4 ms."""
rpc_message_cost = 6
"""Of a WebSocket message, also of a ping, besides what is called by it: decoding one and sending the answer."""
rpc_signature_cost = 7
"""Of a signature that is verified outside the thread whose time is charged."""
rpc_look_bytes_max = 1_024
"""Of a request that may be a look at the node, and is read although its caller owes."""
receipts_kept_bytes_max = 32 << 20
"""Of the blocks whose transactions were asked for last: of some dozens of full ones."""
rpc_debt_wait_ms_max = 1_000
"""A caller that owes is not read for this long, and then refused if it still does."""
rpc_subscription_look_cost = 10
"""Of one look at what is new for one subscription, at most once a block."""
rpc_connections_per_caller_max = 64
"""WebSockets."""
rpc_callers_remembered_max = 10_000
rpc_sessions_max = 10_000
rpc_sessions_per_account_max = 16
rpc_stop_ms = 2_000
rpc_subscriptions_per_connection_max = 16
rpc_subscriber_stall_ms_max = 10_000
"""A reader that takes no notification for this long is too slow; it resumes by its cursor."""
rpc_subscription_wait_ms = 5_000
"""Between looks at whether a quiet subscription's token still holds."""
page_entries_default = 100
page_entries_max = 1_000

# evidence packages
evidence_package_bytes_max = 48_000_000
"""In base64 it fits an answer that a client takes (`client.connection.RESPONSE_BYTES_MAX`)."""
evidence_key_bytes_max = 256
evidence_transactions_max = 4_096
"""Of one contract or trade: what made it, not what happened under it."""

# documents
documents_asked_max = 4
"""Sealed files being fetched at one time, each from another peer."""
documents_wanted_max = 1_000
"""Names remembered as missing; a sweep over the state finds the others later."""
documents_answer_ms_max = 5_000
documents_sweep_entries = 64
documents_sweep_interval_ms = 1_000
documents_pause_ms = 10_000
"""Before a file that no peer held is asked for again."""
documents_served_bytes_per_second = 4 << 20
"""To one peer."""
