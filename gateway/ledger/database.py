"""A connection to the ledger's SQLite file that follows the file, for one thread."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from gateway.ledger.schema import prepare
from gateway.ledger.store import LedgerBroken, LedgerUnavailable

BUSY_S = 2.0
"""How long a writer waits for another process."""

_BROKEN = {sqlite3.SQLITE_CORRUPT: "is corrupted", sqlite3.SQLITE_NOTADB: "is no SQLite database"}
_UNAVAILABLE = {
    sqlite3.SQLITE_BUSY: "is locked by another process",
    sqlite3.SQLITE_LOCKED: "is locked by another process",
    sqlite3.SQLITE_FULL: "cannot grow: the disk is full",
    sqlite3.SQLITE_READONLY: "cannot be written: it or its folder is read-only",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_IOERR: "cannot be read or written: the disk fails or is full",
}

_Place = tuple[int, int] | None
"""Which file: its device and number."""


class Database:
    """One connection; it is opened anew when another file stands in its file's place, or what stands there was cut short."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._file: _Place = None
        self._size = 0
        self._beside: tuple[_Place, ...] = ()  #: its ``-wal`` and ``-shm``
        self.replaced = False  #: another file stands there than at first, or less of it; told to the next reader, once

    def create(self) -> None:
        """Make the file if there is none, for its owner only; a root who does it leaves it to the folder's owner."""
        try:
            made = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            try:
                if os.geteuid() == 0:
                    folder = self.path.parent.stat()
                    os.fchown(made, folder.st_uid, folder.st_gid)  # by its number: the folder's owner may move its name
            finally:
                os.close(made)
        except FileExistsError:
            pass
        except OSError as error:
            fix = f"; {self.path.parent} must be there, and writable for the gateway's user"
            raise LedgerBroken(f"{self.path} cannot be made: {(error.strerror or str(error)).lower()}{fix}") from error
        if not self.path.is_file():
            raise LedgerBroken(f"{self.path} is no file")
        for place in (self.path, self.path.parent):
            if not os.access(place, os.R_OK | os.W_OK):
                raise LedgerBroken(f"{place} cannot be read and written by user {os.geteuid()}; SQLite needs file and folder")

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Write, all or nothing; on the disk itself when it ends, if *durable*."""
        with self.connection() as connection:
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                yield connection

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """The connection; what SQLite raises becomes LedgerUnavailable or LedgerBroken."""
        try:
            yield self._open()
            self._same()
        except sqlite3.Error as error:
            self.close()
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if code in _UNAVAILABLE:
                raise LedgerUnavailable(f"{self.path} {_UNAVAILABLE[code]} ({error})") from error
            raise LedgerBroken(f"{self.path} {_BROKEN.get(code, 'cannot be used')} ({error})") from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        found, file = self._is_there()
        shorter, self._size = found.st_size < self._size, found.st_size
        if self._connection is not None and file == self._file and not shorter:
            self._not_taken_apart()
            return self._connection
        self.replaced = self.replaced or shorter or self._file not in (None, file)
        self.close()
        uri = f"file:{quote(str(self.path))}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_S)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._connection, self._file, self._beside = connection, file, self._found_beside()
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise LedgerBroken(f"{self.path} cannot be shared by processes: its file system has no shared memory")
        prepare(connection, self.path)

    def _same(self) -> None:
        """What was written to a file that is no longer at its place is gone with it."""
        if self._is_there()[1] != self._file:
            raise LedgerUnavailable(f"{self.path} was replaced in that moment")
        self._not_taken_apart()

    def _not_taken_apart(self) -> None:
        """Whoever opens the file now makes a ``-wal`` of its own: neither would hear of what the other stores.

        The connection stays open: closed, it would write what is in its old ``-wal`` over what may stand there by now.
        """
        if self._found_beside() != self._beside:
            raise LedgerUnavailable(f"{self.path}: its -wal or -shm was taken away while it was in use; {_MOVE}")

    def _found_beside(self) -> tuple[_Place, ...]:
        return tuple(_place(Path(f"{self.path}{each}")) for each in ("-wal", "-shm"))

    def _is_there(self) -> tuple[os.stat_result, _Place]:
        """What stands at the path, and which file it is."""
        try:
            found = self.path.stat()
        except FileNotFoundError as error:
            raise LedgerUnavailable(f"{self.path} was deleted; {_RESTORE}") from error
        except OSError as error:
            raise LedgerUnavailable(f"{self.path} cannot be opened: {error.strerror}") from error
        return found, (found.st_dev, found.st_ino)


def _place(path: Path) -> _Place:
    """Which file stands there; None: none that we can see."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


_RESTORE = "put its backup there, or an empty file: what is known of revocations is written into it"
_MOVE = "put its backup, or a copy of it, in its place by `mv`: a new file, not `cp` over the old one"
