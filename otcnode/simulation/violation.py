"""A promise that was not kept."""

from __future__ import annotations

from enum import StrEnum


class Promise(StrEnum):
    """What the checkers hold the nodes to."""

    AGREEMENT = "agreement"
    """one block per height, over all nodes and all time"""
    CERTIFICATE = "certificate"
    """whatever is committed has a certificate that independent code confirms"""
    ONCE = "exactly once"
    """a transaction is in the chain once at most"""
    VALIDITY = "validity"
    """what is committed was submitted, byte for byte"""
    VOTES = "no double vote"
    """an honest node never signs two votes for one (epoch, view, height), nor one below its VIEW-CHANGE"""
    RULES = "rules of signing"
    """an honest node signs nothing before what it rests on has been signed or committed"""
    DURABILITY = "durability"
    """what was final stays final over a crash, and so do the bodies of what was proved"""
    ROOTS = "equal roots"
    """the state and the receipts that a node holds are those its headers name"""
    INVARIANTS = "ledger invariants"
    MEMORY = "bounded memory"
    BLAME = "no false blame"
    """an honest node never punishes, accuses or halts because of another honest node"""
    DAMAGE = "damage named"
    """a node that meets a damaged, full or failing disk ends and says so, and tells nobody anything after that"""
    HEARSAY = "no hearsay"
    """a node believes of an honest node only what that one said of itself"""
    ADMISSION = "admission"
    """a node stays connected with nobody whom its state does not admit"""
    EVIDENCE = "evidence kept"
    """a node accuses whoever contradicts itself under its eyes, and what it has against a validator it keeps, over
    restarts too, as long as there is room for it"""
    LIVENESS = "liveness"
    """with a quorum healed, every submitted transaction ends in time; no view lasts longer than it may"""
    DEFECT = "no defect"
    """the program never fails by itself"""


class Violation(Exception):
    """`promise` was broken; the text says by whom and how."""

    def __init__(self, promise: Promise, text: str) -> None:
        super().__init__(f"{promise.value}: {text}")
        self.promise = promise
        self.text = text
