"""An answer without body: all of it in one piece, and the connection stays where both sides want it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import HttpVersion11, web

from gateway.empty import Empty
from tests.listening import listening
from tests.patience import PATIENCE_S

Ask = Callable[..., Any]


@pytest.fixture
async def ask() -> AsyncIterator[Ask]:
    """Ask a server that answers by the path, ``/STATUS`` or ``/STATUS/last``, and read until it closes."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        _, status, *last = request.path.split("/")
        return Empty(int(status), "X-Said: yes\r\n", last=bool(last))

    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    own = listening()
    await web.SockSite(runner, own).start()

    async def ask(text: str, *, then: str = "GET /200/last HTTP/1.1\r\nHost: a\r\n\r\n") -> bytes:
        """All that comes; what is asked *then* ends a connection that stays open."""
        reader, writer = await asyncio.open_connection(*own.getsockname())
        writer.write(f"{text}{then}".encode())
        found = await asyncio.wait_for(reader.read(), PATIENCE_S)
        writer.close()
        return found

    yield ask
    await runner.cleanup()


END = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Said: yes\r\nConnection: close\r\n\r\n"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nX-Said: yes\r\n"


async def test_it_is_head_and_nothing_else(ask: Ask) -> None:
    """No date and no server, which nginx leaves out; a 204 has no length."""
    assert await ask("GET /204 HTTP/1.1\r\nHost: a\r\n\r\n") == b"HTTP/1.1 204 No Content\r\nX-Said: yes\r\n\r\n" + END


async def test_another_status_has_the_length_of_nothing(ask: Ask) -> None:
    """Without it a client would read until the connection ends."""
    assert await ask("GET /404 HTTP/1.1\r\nHost: a\r\n\r\n") == NOT_FOUND + b"\r\n" + END


async def test_a_body_is_read_away(ask: Ask) -> None:
    """What follows it on the connection is answered."""
    assert await ask("POST /404 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody") == NOT_FOUND + b"\r\n" + END


@pytest.mark.parametrize(
    ("head", "stays"),
    [
        ("HTTP/1.1", True),
        ("HTTP/1.1\r\nConnection: keep-alive", True),
        ("HTTP/1.1\r\nConnection: close", False),
        ("HTTP/1.0", False),
        ("HTTP/1.0\r\nConnection: keep-alive", False),
    ],
    ids=["as nginx", "said", "close", "old", "old, wanting more"],
)
async def test_the_connection_stays_where_the_client_keeps_it(ask: Ask, head: str, stays: bool) -> None:
    """One that ends says so: a client of HTTP/1.0 that asks to stay would wait for a word of ours."""
    asked = f"GET /404 {head}\r\nHost: a\r\n\r\n"

    if stays:
        assert await ask(asked) == NOT_FOUND + b"\r\n" + END
    else:
        assert await ask(asked, then="") == NOT_FOUND + b"Connection: close\r\n\r\n"


async def test_the_last_answer_ends_the_connection(ask: Ask) -> None:
    """What was asked behind it is not answered: the client asks another process."""
    assert await ask("GET /404/last HTTP/1.1\r\nHost: a\r\n\r\n") == NOT_FOUND + b"Connection: close\r\n\r\n"


@dataclass
class Unread:
    """A request of somebody who reads no answers, and all that an answer looks at in it."""

    read: asyncio.Event = field(default_factory=asyncio.Event)
    sent: bytes = b""
    keep_alive: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    version = HttpVersion11

    @property
    def transport(self) -> Unread | None:
        return self

    @property
    def writer(self) -> Unread:
        return self

    def write(self, data: bytes) -> None:
        self.sent += data

    def get_write_buffer_size(self) -> int:
        return 0 if self.read.is_set() else len(self.sent)

    async def drain(self) -> None:
        await self.read.wait()


async def test_who_does_not_read_waits() -> None:
    """Else one who asks on and on would fill our memory with answers."""
    unread: Any = Unread()
    answering = asyncio.ensure_future(Empty(204, "").prepare(unread))
    await asyncio.sleep(0)

    assert unread.sent == b"HTTP/1.1 204 No Content\r\n\r\n"
    assert not answering.done()
    unread.read.set()
    assert await answering is unread


async def test_whoever_is_gone_gets_nothing() -> None:
    """aiohttp takes it for what it is: the connection is over, and nothing went wrong here."""

    class Gone(Unread):
        transport = None

    gone: Any = Gone()
    with pytest.raises(ConnectionError):
        await Empty(204, "").prepare(gone)
