"""What these tests share: a clock, a cache, a client session, and a server that answers as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiocache import SimpleMemoryCache
from aiocache.base import BaseCache
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.sandbox import Sandbox
from gateway.secret import Secret
from gateway.wecom import App, Endpoints, WeCom
from tests.patience import PATIENCE_S
from tests.wecom.scripted import SECRET, STOPPING, Client, Clock, Pauses, Script, good_token


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def cache() -> SimpleMemoryCache:
    return SimpleMemoryCache()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    """A server on a free port, with a good gettoken to begin with."""
    script = Script()
    script.on("gettoken", good_token())
    app = web.Application()
    app[STOPPING] = stopping = asyncio.Event()
    app.router.add_route("*", "/{path:.*}", script.handle)
    server = TestServer(app)
    await server.start_server(access_log=None)
    script.url = str(server.make_url("/"))
    yield script
    stopping.set()
    await server.close()


@pytest.fixture
def app() -> App:
    return App("ww0123456789abcdef", 1000002, Secret(SECRET))


@pytest.fixture
def wecom(script: Script, app: App, http: aiohttp.ClientSession, cache: SimpleMemoryCache, clock: Clock, pauses: Pauses) -> WeCom:
    """A client of the script; its pauses take no time."""
    return WeCom(app, Endpoints(api=script.url, timeout_s=PATIENCE_S), http, cache, clock, pause=pauses)


@pytest.fixture
async def sandbox(clock: Clock) -> AsyncIterator[Sandbox]:
    """A local WeCom with the sample organisation, living by the test's clock."""
    async with Sandbox.start(clock=clock) as running:
        yield running


@pytest.fixture
def client(sandbox: Sandbox, http: aiohttp.ClientSession, cache: SimpleMemoryCache, clock: Clock, pauses: Pauses) -> Client:
    """Makes clients of the sandbox's app, with another secret or cache where wanted."""
    state = sandbox.state

    def make(secret: str = "", *, other_cache: BaseCache | None = None, private: bool = False) -> WeCom:
        app = App(state.corp_id, state.agent_id, Secret(secret or state.secret))
        endpoints = Endpoints(api=sandbox.url, timeout_s=PATIENCE_S, private=private)
        return WeCom(app, endpoints, http, other_cache or cache, clock, pause=pauses)

    return make
