"""Faults on demand: what a test or a person asked to go wrong with the next calls."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from gateway.sandbox.answers import TEXTS, refusal

KINDS = ("errcode", "hang", "slow", "reset", "html", "truncated", "cut", "redirect", "revoke-tokens")


@dataclass(slots=True)
class Fault:
    """One thing that goes wrong.

    ``path`` is ``user/get`` or ``*``; ``times`` None means always; ``remote`` limits it to one caller's address;
    ``after`` lets the call take effect first (a code is consumed) and spoils only the answer.
    """

    path: str = "*"
    kind: str = "errcode"
    errcode: int = -1
    times: int | None = None
    seconds: float = 1.0
    status: int = 502
    location: str = "http://127.0.0.1:1/"
    remote: str = ""
    after: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}")
        self.path = self.path.removeprefix("/cgi-bin/")

    def concerns(self, path: str, remote: str) -> bool:
        return self.path in ("*", path) and self.times != 0 and self.remote in ("", remote)


def take(faults: list[Fault], path: str, remote: str) -> Fault | None:
    """Return the first fault for this call, counting it; drop it from the list when it is used up."""
    fault = next((fault for fault in faults if fault.concerns(path, remote)), None)
    if fault is not None and fault.times is not None:
        fault.times -= 1
        if fault.times <= 0:
            faults.remove(fault)
    return fault


@dataclass(frozen=True, slots=True)
class Spoiler:
    """What a fault needs to spoil one answer; ``stopping`` ends the calls that hang."""

    request: web.Request
    answer: Callable[[], web.Response]
    revoke_tokens: Callable[[], None]
    now: float
    stopping: asyncio.Event

    async def spoil(self, fault: Fault) -> web.StreamResponse:
        """Answer the call as the fault says."""
        if fault.after:
            answered = self.answer()
        match fault.kind:
            case "errcode":
                text = TEXTS.get(fault.errcode, "error")
                return refusal(fault.errcode, text, now=self.now, remote=self.request.remote or "")
            case "slow":
                await self._wait(fault.seconds)
                return answered if fault.after else self.answer()
            case "hang":
                await self._wait(None)
                return _reset(self.request)
            case "reset":
                return _reset(self.request)
            case "html":
                return web.Response(status=fault.status, text=_HTML, content_type="text/html")
            case "redirect":
                return web.Response(status=302, headers={"Location": fault.location})
            case "truncated" | "cut":
                whole = answered if fault.after else self.answer()
                return await _shortened(self.request, whole, honest=fault.kind == "truncated")
            case _:
                self.revoke_tokens()
                return answered if fault.after else self.answer()

    async def _wait(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return


_HTML = "<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad Gateway</h1></center></body></html>"


def _reset(request: web.Request) -> web.Response:
    """Drop the connection with a TCP reset."""
    if request.transport is not None:
        sock = request.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response()


async def _shortened(request: web.Request, whole: web.Response, *, honest: bool) -> web.StreamResponse:
    """Send half the body: as if that were all of it, or with the length of the whole and the connection closed."""
    body = bytes(whole.body) if isinstance(whole.body, bytes) else b""
    half = body[: len(body) // 2]
    if honest:
        return web.Response(body=half, headers={"Content-Type": whole.headers["Content-Type"]})
    response = web.StreamResponse(headers={"Content-Type": whole.headers["Content-Type"]})
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(half)
    if request.transport is not None:
        request.transport.close()
    return response
