"""A server that answers as it is told, a clock that stands still, and secrets to look for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from gateway.wecom import WeCom
from tests.patience import PATIENCE_S

SECRET = "the-app-secret-nobody-may-see"
TOKEN = "access-token-nobody-may-see"
CODE = "code+nobody/may=see&spend"

STOPPING = web.AppKey("STOPPING", asyncio.Event)

Client = Callable[..., WeCom]
Step = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Clock:
    """A time that passes only when told to."""

    now: float = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class Pauses:
    """Remembers how long it was asked to wait, and does not."""

    seconds: list[float] = field(default_factory=list)

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@dataclass(slots=True)
class Script:
    """A server: each API has its queue of steps, and the last one stays; ``asked`` are the requests, in order."""

    steps: dict[str, deque[Step]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    url: str = ""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def on(self, path: str, *steps: Step | dict[str, Any]) -> None:
        """Answer *path* with these, one after another."""
        self.steps[path] = deque(says(step) if isinstance(step, dict) else step for step in steps)

    async def wait(self) -> None:
        """Wait for the next request."""
        async with asyncio.timeout(PATIENCE_S):
            await self.arrived.wait()
        self.arrived.clear()

    def count(self, path: str) -> int:
        return sum(1 for asked, _ in self.asked if asked == path)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/cgi-bin/")
        self.asked.append((path, dict(request.query)))
        self.bodies.append(await request.text())
        self.arrived.set()
        queue = self.steps[path]
        return await (queue.popleft() if len(queue) > 1 else queue[0])(request)


def says(answer: Any, status: int = 200) -> Step:
    """A step that answers JSON."""

    async def step(request: web.Request) -> web.StreamResponse:
        return web.json_response(answer, status=status)

    return step


def sends(body: bytes, status: int = 200, **headers: str) -> Step:
    """A step that answers these bytes."""

    async def step(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers={"Content-Type": "text/html", **headers})

    return step


async def closes(request: web.Request) -> web.StreamResponse:
    """A step that closes the connection without an answer."""
    assert request.transport is not None
    request.transport.close()
    return web.Response()


def good_token(text: str = TOKEN, expires_in: int = 7200) -> dict[str, Any]:
    return {"errcode": 0, "errmsg": "ok", "access_token": text, "expires_in": expires_in}


def refusal(errcode: int, text: str = "no") -> dict[str, Any]:
    more = f"more info at https://open.work.weixin.qq.com/devtool/query?e={errcode}"
    return {"errcode": errcode, "errmsg": f"{text}, hint: [1686402237354962763423746], from ip: 203.0.113.9, {more}"}


async def hangs(request: web.Request) -> web.StreamResponse:
    """A step that never answers; the server's end ends it."""
    await request.app[STOPPING].wait()
    return web.Response()


def everything_said(error: BaseException | None) -> str:
    """All that printing this error could show, and the same of the errors it hangs on."""
    said = ""
    while error is not None:
        said += f"{error} {error!r} {error.args!r} {vars(error)!r}\n"
        error = error.__cause__ or error.__context__
    return said
