"""Let the pages begin one at a time, so that a flood of sign-ins does not keep the checks waiting."""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware


def in_turn() -> Middleware:
    """Make a middleware that lets one request pass in each round of the event loop, in the order they came.

    Both listeners share one loop, and a page costs ten checks: hundreds of pages begun in one round would hold up every
    check until nginx gives up on it (1 s), and shut out who is signed in. What a page waits for (WeCom) holds up nobody.
    """
    turn = asyncio.Lock()

    @web.middleware
    async def wait(request: web.Request, handler: Handler) -> web.StreamResponse:
        async with turn:
            await asyncio.sleep(0)
        return await handler(request)

    return wait
