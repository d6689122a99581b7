"""The ledger in a SQLite file: one machine, several processes."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from gateway.ledger import future
from gateway.ledger.chain import BEGINNING, digest
from gateway.ledger.database import Database
from gateway.ledger.retention import LATER, SURVIVES, survivors
from gateway.ledger.schema import IN_FORCE
from gateway.ledger.store import LedgerBroken, LedgerLost, LedgerUnavailable
from gateway.records import NOTHING, Entry, Record

T = TypeVar("T")

POLL_S = 0.25
TRIMMED_TOGETHER = 5000
EXAMINED_S = 120.0
ANSWER_S = 5.0
"""A disk that hangs does not hold up who asks; the record may be stored or not."""

_COLUMNS = "kind, at, member, session, site, address, browser, reason, rule, details"
_INSERT = f"INSERT INTO record ({_COLUMNS}, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SELECT = f"SELECT id, digest, {_COLUMNS} FROM record"
_NEXT = f"{_SELECT} WHERE id > ? ORDER BY id LIMIT ?"
_SEEK = (
    "SELECT id, digest FROM record WHERE id < coalesce((SELECT min(id) FROM record WHERE at >= ?), 9e18) ORDER BY id DESC LIMIT 1"
)
_OLDEST = f"{_SELECT} WHERE id < coalesce((SELECT min(id) FROM record WHERE at >= ?), 9e18) ORDER BY id LIMIT ?"
_FULL = f"SELECT id, digest FROM record WHERE id > ? AND {IN_FORCE} ORDER BY id LIMIT 1 OFFSET ?"
_LAST = f"SELECT id, digest FROM record WHERE id > ? AND {IN_FORCE} ORDER BY id DESC LIMIT 1"
"""Where a page ends: a full one, and the one at the end."""

_TICKS = 2**22
"""To a second, as many as a double can tell of Unix seconds: whole numbers of them are exact, where JSON would have 15 digits."""
_TIMED = "at < 1e11"  # not what somebody wrote there who did not know how: to SQLite a text is more than any number
_EMPTY = ("session", "site", "address", "browser", "rule", "details")
_PLAIN = " AND ".join(["kind = 'revoked'", _TIMED, *(f"{name} = ''" for name in _EMPTY)])
_TEXTS = f"id, CASE WHEN {_TIMED} THEN NULL ELSE at END, kind, session, site, address, browser, rule"
_REST = f"rtrim(json_array({_TEXTS}), ']') || ',' || coalesce(nullif(details, ''), '{{}}') || ']'"
_PACKED = ", ".join(
    f"json_group_array({each})"
    for each in (f"CAST(at * {_TICKS} AS INTEGER)", "member", "reason", f"CASE WHEN {_PLAIN} THEN 0 ELSE {_REST} END")
)
_FORCE = f"SELECT {_PACKED} FROM record INDEXED BY record_in_force WHERE id > ? AND id <= ? AND {IN_FORCE}"
"""A page as one row of four lists, in the order of the index: row by row a million would take a second longer. Most are
revocations of members: for all that those do without, the fourth list has a 0.
"""
_LATER = f"{_SELECT} WHERE id > ? AND kind IN ({', '.join(map(repr, LATER))}) AND {IN_FORCE}"
_BEGUN = f"{_SELECT} WHERE id >= (SELECT min(id) FROM record WHERE at >= ?) AND kind IN ({', '.join(map(repr, future.BEGINS))})"
_CLAIM = (
    "INSERT INTO claim (key, until) VALUES (?1, ?2) "
    "ON CONFLICT (key) DO UPDATE SET until = ?2, value = NULL WHERE claim.until <= ?3"
)


class _Thread:
    """Work that blocks, one piece after the other."""

    def __init__(self, name: str, path: Path) -> None:
        self.database = Database(path)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self, work: Callable[[Database], T], timeout_s: float = ANSWER_S) -> T:
        running = asyncio.get_running_loop().run_in_executor(self._executor, work, self.database)
        try:
            async with asyncio.timeout(timeout_s):
                return await running
        except TimeoutError as error:
            raise LedgerUnavailable(f"{self.database.path}: the disk does not answer") from error

    async def close(self) -> None:
        """Once: the second time there is nothing left to close."""
        with suppress(LedgerUnavailable, RuntimeError):
            await self.run(Database.close)
        self._executor.shutdown(wait=False)


class SqliteStore:
    """A store in the file *path*; *clock* gives Unix seconds for claims.

    With *corp_id* it is that company's, from its first opening on: two companies' members may have the same ids.
    """

    def __init__(self, path: Path, clock: Callable[[], float], corp_id: str = "") -> None:
        self._path = path
        self._clock = clock
        self._corp_id = corp_id
        self._writer = _Thread("ledger-write", path)
        self._reader = _Thread("ledger-read", path)

    @property
    def address(self) -> str:
        return str(self._path)

    async def open(self) -> None:
        await self._writer.run(Database.create)
        await self._writer.run(_opened)
        if self._corp_id:
            await self._writer.run(lambda database: _owned(database, self._corp_id))

    async def close(self) -> None:
        await self._writer.close()
        await self._reader.close()

    async def examine(self) -> None:
        await self._writer.run(_examined, EXAMINED_S)

    async def append(self, records: Sequence[Record]) -> list[Entry]:
        tidied, now = [record.tidied() for record in records], self._clock()
        return await self._writer.run(lambda database: _append(database, tidied, now))

    async def head(self) -> str:
        return await self._reader.run(_head)

    async def seek(self, since: float) -> str:
        return await self._reader.run(lambda database: _seek(database, since))

    async def read(self, after: str = "", limit: int = 1000) -> list[Entry]:
        return [_entry(row) for row in await self._reader.run(lambda database: _page(database, _NEXT, after, limit))]

    async def in_force(self, after: str = "", limit: int = 1000) -> tuple[list[Record], str]:
        return await self._reader.run(lambda database: _in_force(database, after, limit))

    async def wait(self, after: str, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        while await self._reader.run(_head) == after and (left := until - loop.time()) > 0:  # noqa: ASYNC110 - other processes
            await asyncio.sleep(min(POLL_S, left))

    async def claim(self, key: str, until: float) -> bool:
        now = self._clock()
        return await self._writer.run(lambda database: _claim(database, key, until, now))

    async def put(self, key: str, value: str, until: float) -> None:
        await self._writer.run(lambda database: _put(database, key, value, until))

    async def get(self, key: str) -> str | None:
        now = self._clock()
        return await self._reader.run(lambda database: _get(database, key, now))

    async def mark(self, name: str) -> str:
        return await self._reader.run(lambda database: _mark(database, name))

    async def keep_mark(self, name: str, position: str) -> None:
        await self._writer.run(lambda database: _keep_mark(database, name, position))

    async def trim(self, before: float) -> int:
        now = self._clock()
        return await self._writer.run(lambda database: _trim(database, before, now))

    async def problems(self) -> list[str]:
        return []


def _opened(database: Database) -> None:
    with database.connection():
        pass


def _examined(database: Database) -> None:
    """Half a second for a million entries: nobody is to find out later that half of it cannot be read."""
    with database.connection() as connection:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        fix = f"put its backup there, and take away {database.path.name}-wal and -shm: they are not of the backup"
        raise LedgerBroken(f"{database.path} is corrupted ({' '.join(found.split())}); {fix}")


def _owned(database: Database, corp_id: str) -> None:
    with database.connection() as connection:
        found = connection.execute("SELECT position FROM mark WHERE name = 'corp'").fetchone()
    if not found:
        _keep_mark(database, "corp", corp_id)
    elif found[0] != corp_id:
        raise LedgerBroken(f"{database.path} is the ledger of {found[0]}; give {corp_id} one of its own")


def _append(database: Database, records: Sequence[Record], now: float) -> list[Entry]:
    with database.transaction() as connection:
        begun = connection.execute(_BEGUN, (future.since(now),)) if future.revocations(records) else ()
        return _add(connection, [*records, *future.ended(records, (_entry(row).record for row in begun), now)])


def _add(connection: sqlite3.Connection, records: Sequence[Record]) -> list[Entry]:
    """Insert *records* after the last entry, in the transaction at hand."""
    last = connection.execute("SELECT digest FROM record ORDER BY id DESC LIMIT 1").fetchone()
    link, added = last[0] if last else BEGINNING, []
    for record in records:
        link = digest(link, record)
        details = json.dumps(dict(record.details), sort_keys=True, separators=(",", ":")) if record.details else ""
        texts = (record.member, record.session, record.site, record.address, record.browser, record.reason, record.rule)
        row = connection.execute(_INSERT, (record.kind, record.at, *texts, details, link))
        added.append(Entry(_position(row.lastrowid or 0, link), record, link))
    return added


def _trim(database: Database, before: float, now: float) -> int:
    """Drop the oldest; ``trimmed`` comes before what is carried on, so that it stands between that and the next trim."""
    with database.transaction() as connection:
        rows = connection.execute(_OLDEST, (min(before, now), TRIMMED_TOGETHER)).fetchall()
        if not rows:
            return 0
        dropped = [_entry(row) for row in rows]
        last, old = dropped[-1], [entry.record for entry in dropped if entry.record.kind in SURVIVES]
        later = connection.execute(_LATER, (rows[-1][0],)).fetchall() if old else []
        carried = survivors(old, [_entry(row).record for row in later], now)
        details = {"position": last.position, "digest": last.digest, "count": len(dropped)}
        _add(connection, [Record("trimmed", now, details=details), *carried])
        connection.execute("DELETE FROM record WHERE id <= ?", (rows[-1][0],))
    return len(dropped)


def _head(database: Database) -> str:
    with database.connection() as connection:
        last = connection.execute("SELECT id, digest FROM record ORDER BY id DESC LIMIT 1").fetchone()
    return _position(*last) if last else ""


def _seek(database: Database, since: float) -> str:
    with database.connection() as connection:
        before = connection.execute(_SEEK, (since,)).fetchone()
    return _position(*before) if before else ""


def _page(database: Database, select: str, after: str, limit: int) -> list[tuple[Any, ...]]:
    """The rows of *select* after a position."""
    with database.connection() as connection:
        return connection.execute(select, (_place(database, connection, after), limit)).fetchall()


def _in_force(database: Database, after: str, limit: int) -> tuple[list[Record], str]:
    with database.connection() as connection:
        start = _place(database, connection, after)
        last = connection.execute(_FULL, (start, limit - 1)).fetchone() or connection.execute(_LAST, (start,)).fetchone()
        if not last:
            return [], after
        packed = connection.execute(_FORCE, (start, last[0])).fetchone()
    new = tuple.__new__  # past the constructor, which takes as long as all the rest of it
    return [
        _record(ticks / _TICKS, member, reason, rest)
        if rest
        else new(Record, ("revoked", ticks / _TICKS, member, "", "", "", "", reason, "", NOTHING))
        for ticks, member, reason, rest in zip(*map(json.loads, packed), strict=True)
    ], _position(*last)


def _record(at: float, member: str, reason: str, rest: str) -> Record:
    try:
        _, written, kind, session, site, address, browser, rule, details = json.loads(rest)
    except ValueError as error:
        raise _damaged(int(rest[1:].partition(",")[0])) from error
    return Record(
        kind, at if written is None else written, member, session, site, address, browser, reason, rule, details or NOTHING
    )


def _entry(row: tuple[Any, ...]) -> Entry:
    """LedgerBroken where somebody wrote into it who did not know how."""
    number, link, details = row[0], row[1], row[-1]
    try:
        record = Record._make((*row[2:-1], json.loads(details) if details else NOTHING))
    except ValueError as error:
        raise _damaged(number) from error
    return Entry(_position(number, link), record, link)


def _damaged(number: int) -> LedgerBroken:
    return LedgerBroken(f"entry {number} is damaged: its details are no JSON")


def _place(database: Database, connection: sqlite3.Connection, position: str) -> int:
    """The number of the entry at *position*, if it is still the same one; 0 for the start."""
    if database.replaced:
        database.replaced = False
        raise LedgerLost(f"another file was put in the place of {database.path}, or it was cut short")
    if not position:
        return 0
    number, _, link = position.partition("-")
    found = connection.execute("SELECT digest FROM record WHERE id = ?", (int(number),)).fetchone()
    if not found or not found[0].startswith(link):
        raise LedgerLost(f"there is no entry {position} any more")
    return int(number)


def _position(number: int, link: str) -> str:
    """The number says where, the digest whether it is still the same entry."""
    return f"{number}-{link[:16]}"


def _claim(database: Database, key: str, until: float, now: float) -> bool:
    with database.transaction(durable=False) as connection:
        connection.execute("DELETE FROM claim WHERE until <= ?", (now,))
        return connection.execute(_CLAIM, (key, until, now)).rowcount == 1


def _put(database: Database, key: str, value: str, until: float) -> None:
    with database.transaction(durable=False) as connection:
        connection.execute("INSERT OR REPLACE INTO claim (key, until, value) VALUES (?, ?, ?)", (key, until, value))


def _get(database: Database, key: str, now: float) -> str | None:
    with database.connection() as connection:
        found = connection.execute("SELECT value FROM claim WHERE key = ? AND until > ?", (key, now)).fetchone()
    return found[0] if found else None


def _mark(database: Database, name: str) -> str:
    with database.connection() as connection:
        found = connection.execute("SELECT position FROM mark WHERE name = ?", (name,)).fetchone()
    return found[0] if found else ""


def _keep_mark(database: Database, name: str, position: str) -> None:
    with database.transaction() as connection:
        connection.execute("INSERT OR REPLACE INTO mark (name, position) VALUES (?, ?)", (name, position))
