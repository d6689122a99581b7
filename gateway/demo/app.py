"""The legacy app: it shows what reached it, as a page, or as JSON where asked."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from gateway.demo.templates import render

MAX_HEADER_BYTES = 256 * 1024
SHOWN_BYTES = 2000


async def show(request: web.Request) -> web.Response:
    """Echo method, URI, headers, cookies and the beginning of the body."""
    seen = await _seen(request)
    if "application/json" in request.headers.get("Accept", ""):
        return web.json_response(seen)
    name = unquote(request.headers.get("X-WeCom-Name", ""))
    return web.Response(text=render("app.html", name=name, **seen), content_type="text/html")


async def _seen(request: web.Request) -> dict[str, Any]:
    names = dict.fromkeys(request.headers)
    return {
        "method": request.method,
        "uri": request.raw_path,
        "user_id": request.headers.get("X-WeCom-UserId", ""),
        "headers": {name: ", ".join(request.headers.getall(name)) for name in names},
        "cookies": dict(request.cookies),
        "body": (await request.read())[:SHOWN_BYTES].decode("utf-8", "replace"),
    }


@contextlib.asynccontextmanager
async def listening(port: int) -> AsyncIterator[None]:
    """Serve the app on loopback."""
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", show)
    runner = web.AppRunner(
        app, access_log=None, shutdown_timeout=1, max_line_size=MAX_HEADER_BYTES, max_field_size=MAX_HEADER_BYTES
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield
    finally:
        await runner.cleanup()
