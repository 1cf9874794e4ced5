"""All planted bugs, with what must find them."""

from __future__ import annotations

from dataclasses import replace

from otcnode.simulation.generate import Options, Swarm
from otcnode.simulation.mutants import blocks, disks, joining, membership, offences, records, views, voting
from otcnode.simulation.mutants.planting import Mutant
from otcnode.simulation.plan import Habit
from otcnode.simulation.violation import Promise

P = Promise
JOINING = Options(validators=4, swarm=Swarm.MIXED, snapshots_permille=1_000, shelf_permille=0, safety_ms=24_000)
COUNTERFEITS = Options(validators=4, swarm=Swarm.LIARS, habits=(Habit.COUNTERFEIT,), snapshots_permille=1_000)
ALTERATIONS = Options(
    validators=4,
    swarm=Swarm.LIARS,
    habits=(Habit.JUNK,),
    snapshots_permille=1_000,
    submissions=40,
    shelf_permille=0,
)
JUNK = Options(validators=4, swarm=Swarm.LIARS, habits=(Habit.JUNK,))
ROTTEN = Options(validators=4, swarm=Swarm.LIARS, rots=True)
FULL = Options(validators=4, swarm=Swarm.MIXED, disk_permille=1_000)
SHELVES = Options(
    validators=4,
    swarm=Swarm.MIXED,
    snapshots_permille=1_000,
    shelf_permille=1_000,
    reforms_permille=0,
    safety_ms=24_000,
)
EQUIVOCATING = Options(validators=4, swarm=Swarm.LIARS, habits=(Habit.EQUIVOCATE,))
EQUIVOCATING_BEHIND = replace(EQUIVOCATING, snapshots_permille=1_000, safety_ms=24_000)
CHANGING = Options(validators=4, swarm=Swarm.MIXED, reforms_permille=1_000)

STORM, LIARS = Options(validators=4, swarm=Swarm.STORM), Options(validators=4, swarm=Swarm.LIARS)
_SAFETY = frozenset(
    {P.AGREEMENT, P.CERTIFICATE, P.VOTES, P.RULES, P.BLAME, P.DURABILITY, P.ROOTS, P.LIVENESS, P.DEFECT}
)
"""Whoever votes wrongly breaks one of these; where others see it first and stop listening, progress is what is lost."""


def _only(habit: Habit) -> Options:
    """Liars that do nothing else."""
    return replace(LIARS, habits=(habit,))


def _one(promise: Promise, *others: Promise) -> frozenset[Promise]:
    return frozenset({promise, *others})


MUTANTS = (
    # votes
    Mutant(
        "quorum less one",
        "two quorums share an honest validator",
        voting.quorum_less_one,
        _one(P.CERTIFICATE, P.RULES),
        5,
    ),
    Mutant(
        "quorum of 2f + 1 of five",
        "two quorums share an honest validator",
        voting.quorum_two_f_plus_one,
        _one(P.CERTIFICATE, P.RULES),
        5,
        options=Options(validators=5),
    ),
    Mutant(
        "quorum of 2f + 1 of six",
        "two quorums share an honest validator",
        voting.quorum_two_f_plus_one,
        _one(P.CERTIFICATE, P.RULES),
        5,
        options=Options(validators=6),
    ),
    Mutant(
        "COMMITs of two views added up",
        "a certificate is of one view",
        voting.views_added_up,
        _SAFETY,
        300,
        options=STORM,
    ),
    Mutant("signatures of votes unchecked", "votes are authentic", voting.signatures_unchecked, _SAFETY, 300),
    Mutant(
        "PREPARE without the parent",
        "PREPARE on a parent that is committed or prepared here",
        voting.prepare_without_parent,
        _SAFETY,
        300,
        options=LIARS,
    ),
    Mutant(
        "COMMIT without the parent",
        "COMMIT on a parent that is committed or proved here",
        voting.commit_without_parent,
        _SAFETY,
        300,
    ),
    Mutant("votes without the parent", "no vote without what lies below", voting.votes_without_parent, _SAFETY, 300),
    Mutant(
        "COMMIT without a PREPARE",
        "COMMIT what was executed and prepared here",
        voting.commit_without_prepare,
        _SAFETY,
        300,
    ),
    Mutant(
        "COMMIT of a view that was left",
        "nothing of a lower view is signed",
        voting.votes_after_view_change,
        _SAFETY,
        300,
    ),
    Mutant(
        "PREPARE of a view that was left",
        "nothing of a lower view is signed",
        voting.prepares_after_view_change,
        _one(P.VOTES),
        150,
        options=STORM,
    ),
    Mutant(
        "proposal of a view that was left",
        "nothing of a lower view is signed",
        voting.proposals_after_view_change,
        _one(P.VOTES),
        150,
        options=STORM,
    ),
    Mutant(
        "signatures counted in books",
        "a quorum is of validators, not of signatures",
        voting.signatures_counted,
        _SAFETY,
        150,
        options=_only(Habit.DOUBLE),
    ),
    Mutant(
        "signatures counted in certificates",
        "a quorum is of validators, not of signatures",
        voting.signers_counted_twice,
        _SAFETY,
        150,
        options=_only(Habit.PAD),
    ),
    Mutant("STATUS counts as votes", "a STATUS is a hint", voting.status_is_a_vote, _SAFETY, 300),
    Mutant(
        "STATUS unsigned",
        "a STATUS is its sender's own word",
        voting.status_of_anybody,
        _one(P.HEARSAY),
        300,
        options=Options(validators=4, swarm=Swarm.LIARS, habits=(Habit.FORGE,)),
    ),
    Mutant("STATUS moves views", "a STATUS is a hint", voting.status_moves_views, _SAFETY, 300),
    Mutant(
        "no barrier between epochs",
        "nothing of an epoch before the last block of the one before",
        voting.epoch_barrier_dropped,
        _SAFETY,
        300,
        options=LIARS,
    ),
    # views
    Mutant(
        "NEW-VIEW without proofs",
        "what was prepared is proposed again",
        views.proofs_ignored,
        _SAFETY,
        300,
        options=STORM,
    ),
    Mutant(
        "proof of the lower view",
        "the proof of the highest view counts",
        views.lower_proof,
        _SAFETY,
        600,
        options=STORM,
    ),
    Mutant(
        "VIEW-CHANGE without proofs",
        "a VIEW-CHANGE shows what its sender holds",
        views.proof_forgotten,
        _SAFETY,
        300,
        options=STORM,
    ),
    Mutant(
        "NEW-VIEW unchecked", "everybody recomputes a NEW-VIEW", views.new_view_unchecked, _SAFETY, 600, options=LIARS
    ),
    Mutant(
        "VIEW-CHANGE unchecked",
        "proofs and certificates are verified",
        views.view_change_unchecked,
        _SAFETY,
        600,
        options=LIARS,
    ),
    Mutant(
        "certificate of another height",
        "a VIEW-CHANGE's certificate is of the height that it claims",
        views.certificate_of_another_height,
        _SAFETY,
        150,
        options=_only(Habit.OVERSTATE),
    ),
    Mutant(
        "re-proposals unsigned",
        "a re-proposal is the new primary's own PREPARE",
        views.reproposals_unsigned,
        _one(P.BLAME),
        150,
        options=_only(Habit.MISSIGN),
    ),
    Mutant(
        "base not committed by the primary",
        "a primary opens a view on what it has committed",
        views.uncommitted_base,
        _SAFETY,
        600,
        options=STORM,
    ),
    Mutant(
        "no base barrier",
        "active after the base is committed, fresh above it",
        views.base_barrier_dropped,
        _one(P.RULES),
        600,
        options=Options(validators=4, swarm=Swarm.LIARS, habits=(Habit.REWRITE,)),
    ),
    Mutant(
        "votes below the base",
        "nothing up to the base of a view is voted for in it",
        views.below_the_base,
        _one(P.RULES),
        150,
        options=_only(Habit.REWRITE),
    ),
    Mutant(
        "another block again",
        "where a block is proposed again no other one is accepted",
        views.another_block_again,
        _one(P.RULES),
        150,
        options=replace(STORM, habits=(Habit.REWRITE,)),
    ),
    Mutant(
        "fresh at once",
        "fresh proposals start above what is proposed again",
        views.fresh_at_once,
        _SAFETY,
        150,
        options=STORM,
    ),
    Mutant(
        "invalid NEW-VIEW left alone",
        "a view is asked for after a quorum asked for the one below",
        views.refused_at_once,
        _one(P.RULES),
        300,
        options=Options(validators=4, swarm=Swarm.LIARS, habits=(Habit.OPEN,)),
    ),
    Mutant("one validator moves all", "join what f + 1 ask for", views.join_anybody, _SAFETY, 300),
    Mutant(
        "timer never falls back",
        "patience comes back with blocks",
        views.timer_never_falls_back,
        _one(P.LIVENESS),
        300,
        options=LIARS,
    ),
    Mutant(
        "timer stops after asking",
        "a view that nobody opens is left",
        views.timer_stops_after_asking,
        _one(P.LIVENESS),
        300,
    ),
    Mutant(
        "no inclusion time-out",
        "who leaves a transaction out for long is no primary any more",
        views.no_inclusion_timeout,
        _one(P.LIVENESS),
        50,
        options=Options(validators=4, swarm=Swarm.CENSORED),
    ),
    # records
    Mutant("skipped sync", "durable before it leaves", records.skipped_sync, _SAFETY, 300),
    Mutant("votes not saved", "every vote is in the record", records.votes_not_saved, _SAFETY, 300),
    Mutant("proofs not saved", "every proof is in the record", records.proofs_not_saved, _SAFETY, 300, options=STORM),
    Mutant(
        "VIEW-CHANGE not saved",
        "the own VIEW-CHANGE is in the record",
        records.view_changes_not_saved,
        _SAFETY,
        300,
        options=STORM,
    ),
    Mutant(
        "proposal saved without bodies",
        "a proposal is saved with its bodies",
        records.bodies_not_saved,
        _one(P.DURABILITY),
        300,
        options=LIARS,
    ),
    Mutant(
        "record truncated",
        "heights above the committed one stay in the record",
        records.record_truncated,
        _SAFETY,
        300,
        options=STORM,
    ),
    Mutant(
        "record born again",
        "a key without its record is silent",
        records.record_born_again,
        _SAFETY,
        600,
        options=LIARS,
    ),
    Mutant(
        "silence of no length",
        "silence lasts until nothing said before can matter",
        records.silence_of_no_length,
        _SAFETY,
        600,
        options=LIARS,
    ),
    Mutant(
        "silence by the own clock",
        "silence ends above all that the lost record may have voted for",
        records.silence_by_the_own_clock,
        _one(P.VOTES),
        300,
        options=Options(validators=4, swarm=Swarm.STORM, directories_lost=True),
    ),
    Mutant(
        "floor ignored",
        "nothing is signed below the floor",
        records.floor_ignored,
        _SAFETY,
        600,
        options=Options(validators=4, swarm=Swarm.STORM, stores_lost=True),
    ),
    Mutant(
        "block not synced",
        "a block is durable before anybody is told",
        records.block_not_synced,
        _one(P.DURABILITY),
        300,
        options=LIARS,
    ),
    # disks
    Mutant(
        "checksum not compared",
        "what is read is what was written",
        disks.checksum_not_compared,
        _one(P.DAMAGE, P.BLAME, P.ROOTS, P.DEFECT),
        300,
        options=ROTTEN,
    ),
    Mutant(
        "damaged leaf served",
        "a leaf is judged by the hash of its bucket",
        disks.damaged_leaf_served,
        _one(P.DAMAGE, P.BLAME, P.ROOTS),
        300,
        options=ROTTEN,
    ),
    Mutant(
        "full disk swallowed",
        "what the disk refuses is not durable",
        disks.refused_write_swallowed,
        _one(P.DAMAGE, P.DURABILITY),
        300,
        options=FULL,
    ),
    Mutant(
        "refused sync swallowed",
        "no vote leaves that the disk did not take",
        disks.refused_sync_swallowed,
        _one(P.DAMAGE, P.DEFECT),
        300,
        options=FULL,
    ),
    Mutant(
        "record believed as read",
        "a voting record that is read is made durable before it is acted upon",
        disks.record_believed_as_read,
        _one(P.DURABILITY, P.VOTES),
        300,
        options=FULL,
    ),
    Mutant(
        "damaged record cut off",
        "only what was never written whole may be missing from a voting record",
        disks.damaged_record_cut_off,
        _SAFETY | {P.DAMAGE},
        600,
        options=ROTTEN,
    ),
    Mutant(
        "damage passed over",
        "a node that finds damage ends and names it",
        disks.damage_passed_over,
        _one(P.DAMAGE),
        300,
        options=ROTTEN,
    ),
    # blocks
    Mutant(
        "bodies unchecked",
        "a body is the one its full hash names",
        blocks.bodies_unchecked,
        _SAFETY,
        600,
        options=JUNK,
    ),
    Mutant(
        "signatures not in the root",
        "the root of transactions covers signatures",
        blocks.signatures_not_in_the_root,
        _one(P.AGREEMENT),
        300,
        options=Options(validators=4, swarm=Swarm.MIXED, twins_permille=1_000),
    ),
    Mutant(
        "clients' signatures unchecked",
        "a transaction is its signer's",
        blocks.client_signatures_unchecked,
        _one(P.VALIDITY),
        600,
        options=JUNK,
    ),
    Mutant(
        "roots not compared",
        "a vote says that execution gives the header's roots",
        blocks.roots_not_compared,
        _one(P.ROOTS),
        600,
        options=Options(validators=4, swarm=Swarm.LIARS, habits=(Habit.ROOTS,)),
    ),
    Mutant(
        "receipts beside the root",
        "the receipts root covers every receipt",
        blocks.receipts_beside_the_root,
        _one(P.ROOTS),
        300,
        options=Options(validators=4, swarm=Swarm.MIXED),
    ),
    Mutant(
        "child leaks into parent",
        "speculation leaves no trace",
        blocks.child_leaks_into_parent,
        _SAFETY | {P.INVARIANTS},
        600,
        options=STORM,
    ),
    Mutant("flight leaks into store", "speculation leaves no trace", blocks.flight_leaks_into_store, _SAFETY, 300),
    Mutant("duplicates accepted", "a transaction is executed once", blocks.duplicates_accepted, _one(P.ONCE), 300),
    Mutant(
        "another order",
        "transactions are executed in the order of the block",
        blocks.executed_in_another_order,
        _SAFETY,
        300,
    ),
    Mutant("credits count twice", "cash adds up to its total", blocks.credits_count_twice, _one(P.INVARIANTS), 300),
    Mutant(
        "votes kept for ever",
        "everything that is collected is bounded",
        blocks.votes_kept_for_ever,
        _one(P.MEMORY),
        600,
        options=Options(validators=4, swarm=Swarm.LIARS, habits=(Habit.FLOOD,)),
    ),
    # membership
    Mutant(
        "anybody signs over",
        "a validator's key passes on by that key's word alone",
        membership.anybody_signs_over,
        _one(P.VALIDITY),
        300,
        options=CHANGING,
    ),
    Mutant(
        "the old key votes on",
        "a successor votes in its validator's place, not beside it",
        membership.old_key_votes_on,
        _one(P.VALIDITY),
        300,
        options=CHANGING,
    ),
    Mutant(
        "successor at once",
        "a successor votes once it says that it is ready",
        membership.successor_at_once,
        _one(P.VALIDITY),
        300,
        options=CHANGING,
    ),
    Mutant(
        "joiners unready",
        "nobody becomes a validator who has not said lately that it is ready",
        membership.joiners_unready,
        _one(P.VALIDITY),
        300,
        options=CHANGING,
    ),
    Mutant(
        "epoch begins early",
        "nobody decides a height before the block that announces him is final",
        membership.epoch_begins_early,
        _one(P.CERTIFICATE, P.RULES, P.AGREEMENT),
        300,
        options=CHANGING,
    ),
    Mutant(
        "turned away and still connected",
        "nobody stays connected with whom its state does not admit",
        membership.turned_away_stays,
        _one(P.ADMISSION),
        300,
        options=CHANGING,
    ),
    # offences
    Mutant(
        "evidence in memory only",
        "what is held against a validator is held over a restart",
        offences.evidence_in_memory_only,
        _one(P.EVIDENCE),
        300,
        options=EQUIVOCATING,
    ),
    Mutant(
        "evidence left behind",
        "what is held against a validator is held on where a snapshot takes the chain's place",
        offences.left_behind_by_a_snapshot,
        _one(P.EVIDENCE),
        300,
        options=EQUIVOCATING_BEHIND,
    ),
    Mutant(
        "later offences drive out earlier",
        "no offence takes the place of another of its epoch",
        offences.later_drives_out_earlier,
        _one(P.EVIDENCE),
        300,
        options=EQUIVOCATING,
    ),
    Mutant(
        "one room for all evidence",
        "the small room is for what no transaction can hold",
        offences.all_in_the_small_room,
        _one(P.EVIDENCE),
        300,
        options=EQUIVOCATING,
    ),
    # joining
    Mutant(
        "chunk without proof",
        "a chunk is proven against the state root of its snapshot",
        joining.chunk_without_proof,
        _one(P.ROOTS, P.DEFECT, P.DAMAGE),
        300,
        options=ALTERATIONS,
    ),
    Mutant(
        "history unchecked",
        "who decides is proven from the genesis on",
        joining.history_unchecked,
        _one(P.CERTIFICATE, P.DEFECT),
        300,
        options=COUNTERFEITS,
    ),
    Mutant(
        "uncertified height",
        "a snapshot is of a certified height",
        joining.uncertified_height,
        _one(P.CERTIFICATE, P.DEFECT),
        300,
        options=COUNTERFEITS,
    ),
    Mutant(
        "installed before it is whole",
        "a snapshot counts once all of it is there",
        joining.installed_before_it_is_whole,
        _one(P.DURABILITY, P.DEFECT, P.ROOTS, P.DAMAGE),
        300,
        options=JOINING,
    ),
    Mutant(
        "noted before it is kept",
        "a chunk and the note of it are one write",
        joining.noted_before_it_is_kept,
        _one(P.ROOTS, P.DEFECT, P.DURABILITY, P.LIVENESS, P.DAMAGE),
        600,
        options=JOINING,
    ),
    Mutant(
        "damaged snapshot served",
        "a file of a snapshot is what was written, or is not served",
        disks.damaged_snapshot_served,
        _one(P.DAMAGE),
        300,
        options=SHELVES,
    ),
    Mutant(
        "refused snapshot kept",
        "a snapshot is whole once all of it is durable",
        disks.refused_snapshot_kept,
        _one(P.DAMAGE),
        300,
        options=SHELVES,
    ),
    Mutant(
        "snapshot given up in silence",
        "trouble of the disk is said",
        disks.snapshot_trouble_unsaid,
        _one(P.DAMAGE),
        300,
        options=SHELVES,
    ),
    Mutant(
        "snapshot trouble ends the node",
        "what was gathered and is damaged is gathered again",
        disks.snapshot_trouble_ends_the_node,
        _one(P.DAMAGE),
        300,
        options=SHELVES,
    ),
    Mutant("nothing sent again", "what is lost is sent again", blocks.nothing_sent_again, _one(P.LIVENESS), 300),
)


def mutant_named(name: str) -> Mutant:
    """Raises KeyError."""
    return {mutant.name: mutant for mutant in MUTANTS}[name]
