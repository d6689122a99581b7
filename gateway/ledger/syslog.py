"""Every entry of the ledger to a syslog server: RFC 5424 messages over TCP or TLS, each preceded by its length (RFC 6587).

From a position kept in the store, so that a restart loses nothing; an entry may arrive twice. By asyncio's own streams: the
standard library's SysLogHandler blocks, forgets what it could not send, and frames by line feeds.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import json
import logging
import secrets
import socket
import ssl
import termios
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

from gateway.ledger.store import LedgerBroken, LedgerLost, LedgerUnavailable, Store
from gateway.records import AUDIT_ONLY, Entry

log = logging.getLogger("wecom_gateway")

TOGETHER = 200
NOTICED_S = 5.0
CONNECT_S = 10.0
ACKNOWLEDGED_S = 30.0
LEASE_S = 30.0
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0
AUDIT = 13  #: the facility "log audit"
INFORMATIONAL, NOTICE = 6, 5


@dataclass(frozen=True, slots=True)
class SyslogServer:
    """Where entries go; ``tls`` proves the server by the system's certificates, or by those in *ca_file*."""

    host: str
    port: int
    tls: bool
    ca_file: str = ""

    @classmethod
    def at(cls, address: str, ca_file: str = "") -> SyslogServer:
        parts = urlsplit(address)
        tls = parts.scheme == "tls"
        return cls(parts.hostname or "", parts.port or (6514 if tls else 514), tls, ca_file)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = ssl.create_default_context(cafile=self.ca_file or None) if self.tls else None
        async with asyncio.timeout(CONNECT_S):
            return await asyncio.open_connection(self.host, self.port, ssl=context)


class Exporter:
    """Sends what *store*, its own to read, holds; of all processes on one store, one at a time does."""

    def __init__(self, store: Store, server: SyslogServer, clock: Callable[[], float]) -> None:
        self.problems: list[str] = []
        self._store = store
        self._server = server
        self._clock = clock
        self._me = secrets.token_hex(8)

    async def run(self) -> None:
        """Send, for ever; after a failure wait a little longer each time."""
        retry_s = FIRST_RETRY_S
        while True:
            try:
                await self._store.open()
                if not await self._leads():
                    await asyncio.sleep(LEASE_S / 3)
                    continue
                reader, writer = await self._server.connect()
                try:
                    while await self._leads():
                        await self._send_some(reader, writer)
                        retry_s = FIRST_RETRY_S
                finally:
                    writer.close()
            except (OSError, TimeoutError, LedgerUnavailable, LedgerBroken) as error:
                self._trouble(str(error) or "no answer in time")
            except Exception:
                log.exception("syslog: a mistake of ours")
                self._trouble("the log has more")
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, LAST_RETRY_S)

    async def close(self) -> None:
        await self._store.close()

    async def _leads(self) -> bool:
        """Whether this process is the one that sends; it says so anew each time."""
        now = self._clock()
        if await self._store.get("syslog") != self._me and not await self._store.claim("syslog", now + LEASE_S):
            self.problems = []
            return False
        await self._store.put("syslog", self._me, now + LEASE_S)
        return True

    async def _send_some(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send the next entries, and keep how far we are once the server's machine has them."""
        position = await self._store.mark("syslog")
        try:
            entries = await self._store.read(position, TOGETHER)
        except LedgerLost:
            log.warning("syslog: the entry sent last is no longer in the ledger; all of it is sent again")
            entries = await self._store.read("", TOGETHER)
        if entries:
            writer.write(b"".join(map(framed, entries)))
            async with asyncio.timeout(ACKNOWLEDGED_S):
                await writer.drain()
                await _acknowledged(reader, writer)
            await self._store.keep_mark("syslog", entries[-1].position)
        self.problems = []
        if len(entries) < TOGETHER:
            await self._store.wait(entries[-1].position if entries else position, NOTICED_S)

    def _trouble(self, what: str) -> None:
        if not self.problems:
            log.error("syslog: %s:%d: %s; entries wait in the ledger", self._server.host, self._server.port, what)
        self.problems = [f"syslog: {self._server.host}:{self._server.port}: {what}; entries wait in the ledger"]


def framed(entry: Entry) -> bytes:
    """The entry as one message: the record as JSON in ASCII, with its position and digest."""
    record = entry.record
    severity = INFORMATIONAL if record.kind in AUDIT_ONLY else NOTICE
    body = {"position": entry.position, **record.mapping(), "digest": entry.digest}
    text = json.dumps(body, default=dict)
    host, kind = _name(socket.gethostname(), 255), _name(record.kind, 32)
    message = f"<{AUDIT * 8 + severity}>1 {_time(record.at)} {host} wecom-gateway - {kind} - {text}"
    return f"{len(message)} {message}".encode("ascii")


def _time(at: float) -> str:
    """``-`` for what is no time: one entry that somebody else wrote into the store must not keep back all after it."""
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError, TypeError):
        return "-"


def _name(text: str, longest: int) -> str:
    """A field of the header: printable ASCII without blanks, ``-`` for nothing."""
    return "".join(letter for letter in text if "!" <= letter <= "~")[:longest] or "-"


async def _acknowledged(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Wait until the other machine has all that was written: what only our kernel has is lost when the connection breaks."""
    connection = writer.get_extra_info("socket")
    waiting = array.array("i", [1])
    while waiting[0]:
        if reader.at_eof() or writer.is_closing() or connection.fileno() < 0:
            raise ConnectionResetError("the server closed the connection")
        fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, waiting)
        await asyncio.sleep(0.01 if waiting[0] else 0)
