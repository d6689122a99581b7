"""Checks do not wait for pages: these begin one at a time, and what they wait for holds up nobody."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from gateway.app import Gateway
from gateway.turns import in_turn


async def test_one_page_a_round() -> None:
    """However many pages are asked for at once, whatever else is ready runs between any two of them, in their order."""
    begun: list[str] = []
    rounds: list[int] = [0]
    middleware = in_turn()

    async def page(request: web.Request) -> web.StreamResponse:
        begun.append(request.path)
        rounds.append(passed)
        return web.Response()

    passed = 0
    asked = [asyncio.ensure_future(middleware(make_mocked_request("GET", f"/{number}"), page)) for number in range(50)]
    while not all(task.done() for task in asked):
        passed += 1
        await asyncio.sleep(0)

    assert begun == [f"/{number}" for number in range(50)]
    assert len(set(rounds)) == 51


async def test_a_page_that_waits_holds_up_nobody() -> None:
    """While one page waits for WeCom, the next is answered."""
    wecom, middleware = asyncio.Event(), in_turn()

    async def page(request: web.Request) -> web.StreamResponse:
        if request.path == "/slow":
            await wecom.wait()
        return web.Response(text=request.path)

    slow = asyncio.ensure_future(middleware(make_mocked_request("GET", "/slow"), page))
    quick = await middleware(make_mocked_request("GET", "/quick"), page)

    assert (quick.status, slow.done()) == (200, False)
    wecom.set()
    assert (await slow).status == 200


async def test_a_caller_that_leaves_gives_its_turn_away() -> None:
    """A browser that goes away while it waits for its turn takes nobody else's."""
    middleware = in_turn()

    async def page(_: web.Request) -> web.StreamResponse:
        return web.Response()

    asked = [asyncio.ensure_future(middleware(make_mocked_request("GET", "/"), page)) for _ in range(3)]
    await asyncio.sleep(0)
    asked[0].cancel()
    asked[1].cancel()

    assert (await asked[2]).status == 200


@pytest.mark.parametrize("listener", ["check", "pages"])
async def test_a_burst_is_let_in(gateway: Gateway, listener: str) -> None:
    """Hundreds of connections made before we come to accept the first are there at once, none of them a second later."""
    host, port = gateway.addresses[listener].split(":")

    with ExitStack() as stack:
        burst = [stack.enter_context(socket.create_connection((host, int(port)), timeout=0.5)) for _ in range(400)]

        assert len(burst) == 400
