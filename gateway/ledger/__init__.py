"""The ledger: one append-only log that is both the audit trail and the revocation list."""

from gateway.ledger.ledger import Ledger
from gateway.ledger.store import LedgerBroken, LedgerLost, LedgerUnavailable, Store, in_force
from gateway.ledger.stores import store_at
from gateway.records import KINDS, Entry, Record

__all__ = [
    "KINDS",
    "Entry",
    "Ledger",
    "LedgerBroken",
    "LedgerLost",
    "LedgerUnavailable",
    "Record",
    "Store",
    "in_force",
    "store_at",
]
