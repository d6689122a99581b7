"""The clock, the sandbox WeCom, a gateway in front of it and a browser's view of its pages listener."""

from __future__ import annotations

import itertools
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import hypothesis
import pytest

from gateway.app import Gateway
from gateway.config import Config
from gateway.loading import from_mapping
from gateway.sandbox import Sandbox
from tests.browser_double import Browser
from tests.unhurried import Unhurried

hypothesis.settings.register_profile("gateway", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("gateway")


def pytest_asyncio_loop_factories() -> dict[str, type[Unhurried]]:
    """Every test that is a coroutine runs in a loop that counts no time in which the machine stood still."""
    return {"unhurried": Unhurried}


KEY = "k" * 43
WECOM_UA = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)  Mobile/15E148 "
    "wxwork/4.1.30 MicroMessenger/7.0.1 Language/zh ColorScheme/Light wwmver/3.26.13.714"
)
DESKTOP_UA = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"


class Clock:
    """A clock that stands still until told."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def sandbox(clock: Clock) -> AsyncIterator[Sandbox]:
    """A WeCom whose trusted domain is the gateway's ``localhost:8080``."""
    async with Sandbox.start(clock=clock, oauth_domain="localhost:8080") as sandbox:
        yield sandbox


def _own_ports() -> Iterator[int]:
    """Those of a block that no other run of these tests on this machine has: each holds its block's name, an abstract socket."""
    for block in random.sample(range(10000, 32000, 2000), 11):
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0wecom-gateway-tests-{block}")
        except OSError:
            name.close()
            continue
        name.detach()
        return itertools.cycle(random.sample(range(block, block + 2000), 2000))
    return itertools.cycle(random.sample(range(10000, 32000), 22000))


_PORTS = _own_ports()


def free_port() -> int:
    """A port that no other call got, below those that outgoing connections take: one could have it by the time it is wanted."""
    for port in _PORTS:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("a cycle does not end")


@pytest.fixture
def make_config(sandbox: Sandbox, tmp_path: Path) -> Callable[..., Config]:
    """Settings for the sandbox's app, with any value replaced; gateways of one test share a ledger unless told otherwise."""

    def make(**changes: Any) -> Config:
        table: dict[str, Any] = {
            "corp_id": sandbox.state.corp_id,
            "agent_id": sandbox.state.agent_id,
            "app_secret": sandbox.state.secret,
            "public_url": "http://localhost:8080",
            "signing_keys": [KEY],
            "store": f"sqlite://{tmp_path}/ledger.sqlite3",
            "recheck": {"every": 0},
            "wecom": {"api_url": sandbox.url, "authorize_url": sandbox.url, "login_url": sandbox.url},
            "listen": {name: f"127.0.0.1:{free_port()}" for name in ("check", "pages", "ops")},
        }
        for name, value in changes.items():
            table[name] = table.get(name, {}) | value if isinstance(value, dict) else value
        if "site" in changes:
            del table["public_url"]
        return from_mapping(table, {})

    return make


@pytest.fixture
async def gateway(make_config: Callable[..., Config], clock: Clock) -> AsyncIterator[Gateway]:
    async with Gateway(make_config(), clock=clock) as running:
        yield running


@pytest.fixture
async def start(clock: Clock) -> AsyncIterator[Callable[[Config], Awaitable[Gateway]]]:
    """Start further gateways; they end with the test."""
    async with AsyncExitStack() as stack:

        async def started(config: Config) -> Gateway:
            return await stack.enter_async_context(Gateway(config, clock=clock))

        yield started


@pytest.fixture
async def browse(gateway: Gateway, clock: Clock) -> AsyncIterator[Callable[..., Browser]]:
    """Make browsers: a desktop by default; with *member*, that member's WeCom client."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as http:

        def made(member: str = "", at: Gateway = gateway, **how: Any) -> Browser:
            sites = {site.at(host).netloc: site.name for site in at.live.now.sites.all for host in site.hosts}
            how = {"user_agent": WECOM_UA if member else DESKTOP_UA, "sites": sites} | how
            browser = Browser(http, clock, at.addresses, **how)
            if member:
                browser.put("http://127.0.0.1/", "sandbox_member", quote(member, safe="@"))
            return browser

        yield made
