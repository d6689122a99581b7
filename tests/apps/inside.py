"""An application inside the test: it answers with what it was told, and echoes websockets."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote, unquote

from aiohttp import web


@contextlib.asynccontextmanager
async def application(folder: Path, name: str = "app") -> AsyncIterator[str]:
    """Serve it, and give where, as a ``proxy_pass`` has it."""
    app = web.Application(client_max_size=1 << 30)
    app.router.add_get("/ws/echo", _echo)
    app.router.add_route("*", "/{path:.*}", _told)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.UnixSite(runner, f"{folder}/{name}.sock").start()
        yield f"http://unix:{folder}/{name}.sock:"
    finally:
        await runner.cleanup()


async def _told(request: web.Request) -> web.StreamResponse:
    length = 0
    async for chunk in request.content.iter_chunked(1 << 16):
        length += len(chunk)
    environ = {f"HTTP_{name.upper().replace(b'-', b'_').decode()}": quote(value) for name, value in request.raw_headers}
    user, name = request.headers.get("X-WeCom-UserId", ""), unquote(request.headers.get("X-WeCom-Name", ""))
    answer = {"user": user, "name": name, "length": length, "environ": environ}
    return web.json_response(answer, status=int(request.query.get("status", 200)))


async def _echo(request: web.Request) -> web.StreamResponse:
    """Greet by name, then echo; ``close`` ends it."""
    channel = web.WebSocketResponse()
    await channel.prepare(request)
    await channel.send_str(f"{request.headers.get('X-WeCom-UserId')} {unquote(request.headers.get('X-WeCom-Name', ''))}")
    async for message in channel:
        await channel.send_str(f"echo {message.data}")
    return channel
