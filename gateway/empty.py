"""An answer without body, written in one piece: what the check gives."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter

_FIRST = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Length: 0\r\n" for status in HTTPStatus}
_FIRST[204] = "HTTP/1.1 204 No Content\r\n"  # which has no length (RFC 9110, 8.6)
_CLOSE = "Connection: close\r\n\r\n"


class Empty(web.StreamResponse):
    """*status* and *headers*, lines as they travel, then nothing; with *last* the connection ends.

    What aiohttp's own does besides is a third of a check: a mapping of its headers, in which it looks for eight, and Date and
    Server, which nginx leaves out. So its beginning is left out, too: nothing can be changed in this one.
    """

    def __init__(self, status: int, headers: str, *, last: bool = False) -> None:
        self.head = _FIRST[status] + headers
        self.last = last

    @property
    def keep_alive(self) -> bool:
        """Whether the connection stays; known once the answer is prepared."""
        return not self.last

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Write all of it. Whoever says nothing of the connection and keeps it speaks HTTP/1.1, as nginx does."""
        if not request.keep_alive or (hdrs.CONNECTION in request.headers and request.version != HttpVersion11):
            self.last = True
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("whoever asked is gone")
        transport.write((self.head + (_CLOSE if self.last else "\r\n")).encode())
        if transport.get_write_buffer_size():
            await request.writer.drain()  # who asks on and does not read has to wait
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to be written."""
