"""Every entry of the ledger to a real syslog listener, over TCP and TLS, whatever breaks in between."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ConfigError
from gateway.ledger import Ledger, Record
from gateway.ledger.sqlite import SqliteStore
from gateway.ledger.syslog import Exporter, SyslogServer
from gateway.standing import Standing
from tests.certificates import certificate
from tests.conftest import Clock, free_port
from tests.patience import until

T = 1_800_000_000.0
HEADER = re.compile(r"<(\d+)>1 (\S+) (\S+) wecom-gateway - (\S+) - (\{.*\})")


@dataclass
class Listener:
    """A syslog server that reads messages by their length, and keeps them."""

    port: int = field(default_factory=free_port)
    context: ssl.SSLContext | None = None
    messages: list[str] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port, ssl=self.context)

    async def stop(self) -> None:
        if self._server:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            while True:
                length = int(await reader.readuntil(b" "))
                self.messages.append((await reader.readexactly(length)).decode("ascii"))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def bodies(self) -> list[dict[str, Any]]:
        found = [HEADER.fullmatch(message) for message in self.messages]
        return [json.loads(match[5]) for match in found if match]

    async def has(self, *members: str) -> None:
        """Wait until the last messages are about *members*."""
        await until(lambda: [body.get("member") for body in self.bodies()][-len(members) :] == list(members))


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    listener = Listener()
    yield listener
    await listener.stop()


Start = Callable[..., Awaitable[Ledger]]


@pytest.fixture
async def start(tmp_path: Path, clock: Clock) -> AsyncIterator[Start]:
    """Start a process that exports."""
    async with AsyncExitStack() as stack:

        async def started(server: SyslogServer) -> Ledger:
            file = tmp_path / "ledger.sqlite3"
            exporter = Exporter(SqliteStore(file, clock), server, clock)
            ledger = Ledger(SqliteStore(file, clock), Standing(), clock, exporter=exporter)
            stack.push_async_callback(ledger.close)
            await ledger.start()
            return ledger

        yield started


def tcp(listener: Listener) -> SyslogServer:
    return SyslogServer.at(f"tcp://127.0.0.1:{listener.port}")


def block(user_id: str) -> Record:
    return Record("blocked", T + 0.25, member=user_id, browser="企业微信 \n\0", details={"by": "root"})


async def test_every_entry_arrives(start: Start, listener: Listener) -> None:
    """An entry arrives as one RFC 5424 message of the facility for audits, whole, with position and digest, whatever it holds."""
    await listener.start()
    ledger = await start(tcp(listener))
    await ledger.append(block("lisi"), Record("signed-in", T, member="wangwu"))
    await listener.has("lisi", "wangwu")

    header = HEADER.fullmatch(listener.messages[0])
    assert header
    assert (header[1], header[2], header[4]) == ("109", "2027-01-15T08:00:00.250Z", "blocked")
    assert Record.of(listener.bodies()[0]) == block("lisi")
    assert {"position", "digest"} <= set(listener.bodies()[0])
    assert listener.messages[1].startswith("<110>1 ")


@pytest.mark.parametrize("at", [1e300, 1e12])
async def test_no_entry_keeps_back_those_after_it(start: Start, listener: Listener, at: float) -> None:
    """One whose time is none, by whoever else wrote into the store, is sent without it."""
    await listener.start()
    ledger = await start(tcp(listener))
    await ledger.append(block("lisi")._replace(at=at), block("wangwu"))
    await listener.has("lisi", "wangwu")

    assert listener.messages[0].startswith("<109>1 - ")


async def test_what_was_before_arrives_too(start: Start, listener: Listener) -> None:
    """While the server cannot be reached entries wait in the ledger and /readyz says so; then all arrive, in order."""
    ledger = await start(tcp(listener))
    await ledger.append(*(block(f"member{number}") for number in range(450)))
    await until(lambda: any(problem.startswith("syslog: 127.0.0.1:") for problem in ledger.problems))
    await listener.start()
    await listener.has("member449")

    assert [body["member"] for body in listener.bodies()] == [f"member{number}" for number in range(450)]
    await until(lambda: not ledger.problems)


async def test_a_restart_goes_on_where_it_was(start: Start, listener: Listener, clock: Clock) -> None:
    """A process that starts later sends what has not been sent, and not all of it again."""
    await listener.start()
    first = await start(tcp(listener))
    await first.append(*(block(f"member{number}") for number in range(450)))
    await listener.has("member449")
    await first.close()
    clock.advance(60)
    second = await start(tcp(listener))
    await second.append(block("wangwu"))
    await listener.has("wangwu")

    assert len(listener.bodies()) <= 450 + 200 + 1  # of the last batch it may not have known that it arrived


async def test_a_server_that_restarts(start: Start, listener: Listener) -> None:
    """A connection that breaks is made anew, and nothing is missing."""
    await listener.start()
    ledger = await start(tcp(listener))
    await ledger.append(block("lisi"))
    await listener.has("lisi")
    await listener.stop()
    await ledger.append(block("wangwu"))
    await listener.start()
    await listener.has("wangwu")

    assert {"lisi", "wangwu"} == {body["member"] for body in listener.bodies()}


async def test_one_of_several_processes_sends(start: Start, listener: Listener) -> None:
    """Of the processes on one ledger one sends: each entry arrives once."""
    await listener.start()
    ledgers = [await start(tcp(listener)) for _ in range(3)]
    for number, ledger in enumerate(ledgers):
        await ledger.append(block(f"member{number}"))
    await listener.has("member2")

    assert sorted(body["member"] for body in listener.bodies()) == ["member0", "member1", "member2"]


class TestTls:
    """Over TLS the server proves who it is."""

    @pytest.fixture
    def certificate(self, tmp_path: Path) -> Path:
        return certificate(tmp_path)

    @pytest.fixture
    async def secure(self, certificate: Path, tmp_path: Path) -> AsyncIterator[Listener]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, tmp_path / "key.pem")
        listener = Listener(context=context)
        await listener.start()
        yield listener
        await listener.stop()

    async def test_a_server_that_is_trusted(self, start: Start, secure: Listener, certificate: Path) -> None:
        """With a certificate that is trusted entries arrive."""
        ledger = await start(SyslogServer.at(f"tls://localhost:{secure.port}", str(certificate)))
        await ledger.append(block("lisi"))

        await secure.has("lisi")

    async def test_a_server_that_is_not(self, start: Start, secure: Listener) -> None:
        """To a server that cannot prove who it is nothing is sent, and /readyz says so."""
        ledger = await start(SyslogServer.at(f"tls://localhost:{secure.port}"))
        await ledger.append(block("lisi"))
        await until(lambda: any("certificate verify failed" in problem for problem in ledger.problems))

        assert secure.messages == []


@pytest.mark.parametrize(
    "address", ["udp://syslog:514", "syslog:514", "tcp://", "tcp://host:0", "tcp://host:99999", "tcp://host/path", "tcp://a@b"]
)
def test_an_address_that_is_none(make_config: Callable[..., Any], address: str) -> None:
    """The setting says what it needs."""
    with pytest.raises(ConfigError, match=r"syslog: an address like tcp://"):
        make_config(syslog=address)


@pytest.mark.parametrize("address, port", [("tcp://syslog.example.com", 514), ("tls://syslog.example.com", 6514)])
def test_ports(address: str, port: int) -> None:
    """Without a port it is the usual one."""
    assert SyslogServer.at(address).port == port
