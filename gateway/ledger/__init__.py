"""The ledger: one append-only log that is both the audit trail and the revocation list."""

from gateway.ledger.records import KINDS, Entry, Record
from gateway.ledger.store import LedgerBroken, LedgerLost, LedgerUnavailable, Store

__all__ = ["KINDS", "Entry", "LedgerBroken", "LedgerLost", "LedgerUnavailable", "Record", "Store"]
