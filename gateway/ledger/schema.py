"""The tables of a SQLite ledger, and how those of an earlier release become those of this one."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from gateway.ledger.store import LedgerBroken
from gateway.records import AUDIT_ONLY

APPLICATION_ID = 0x57434C47  # "WCLG"
VERSION = 1
READABLE_VERSION = VERSION + 1  #: release N reads N+1: an upgrade can be taken back

IN_FORCE = f"kind NOT IN ({', '.join(repr(kind) for kind in AUDIT_ONLY)})"
"""The condition of the index as a query must repeat it."""

STEPS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE record (id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, kind TEXT NOT NULL, member TEXT NOT NULL,"
        " session TEXT NOT NULL, site TEXT NOT NULL, address TEXT NOT NULL, browser TEXT NOT NULL, reason TEXT NOT NULL,"
        " rule TEXT NOT NULL, details TEXT NOT NULL, digest TEXT NOT NULL)",
        "CREATE INDEX record_at ON record (at)",
        f"CREATE INDEX record_in_force ON record (id) WHERE {IN_FORCE}",
        "CREATE TABLE claim (key TEXT PRIMARY KEY, until REAL NOT NULL, value TEXT) WITHOUT ROWID",
        "CREATE TABLE mark (name TEXT PRIMARY KEY, position TEXT NOT NULL) WITHOUT ROWID",
        f"PRAGMA application_id = {APPLICATION_ID}",
    ),
)
"""The statements that lead from each version to the next; from 0, the empty file, to 1 first."""


def prepare(connection: sqlite3.Connection, path: Path, steps: tuple[tuple[str, ...], ...] = STEPS) -> None:
    """Bring the file to this release's version; LedgerBroken where it is not ours or of a release after the next."""
    if _version(connection, path) >= len(steps):
        return
    connection.execute("BEGIN IMMEDIATE")
    with connection:  # commits, or rolls back
        version = _version(connection, path)  # another process may have been quicker
        for number in range(version, len(steps)):
            for statement in steps[number]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number + 1}")


def _version(connection: sqlite3.Connection, path: Path) -> int:
    version, application = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "application_id"))
    used = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if used and application != APPLICATION_ID:
        raise LedgerBroken(f"{path} is a database of something else, not a ledger")
    if version > READABLE_VERSION:
        raise LedgerBroken(f"{path} was written by a later release (version {version}; this one reads up to {READABLE_VERSION})")
    return int(version)
