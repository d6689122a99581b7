"""Start the sandbox: two ports on loopback, and nothing but loopback."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

from gateway.sandbox.changes import Changes
from gateway.sandbox.control import control_app
from gateway.sandbox.events import Outbox
from gateway.sandbox.organisation import sample
from gateway.sandbox.public import public_app
from gateway.sandbox.state import Member, State

OAUTH_DOMAIN = "localhost:8080"
_GRACE_S = 0.5


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A running local WeCom; ``url`` without a slash at its end, ``control_url`` with one."""

    url: str
    control_url: str
    state: State
    outbox: Outbox

    @classmethod
    @contextlib.asynccontextmanager
    async def start(
        cls,
        port: int = 0,
        control_port: int = 0,
        *,
        clock: Callable[[], float] = time.time,
        host: str = "127.0.0.1",
        oauth_domain: str = OAUTH_DOMAIN,
        weblogin_domain: str = "",
        retry_after_s: float = 5.0,
    ) -> AsyncIterator[Sandbox]:
        """Serve the sample organisation; raise ValueError for a host that is not loopback, OSError for a taken port.

        ``oauth_domain`` and ``weblogin_domain`` are the host[:port] of the gateway's callback.
        """
        refuse_others(host)
        state = sample(clock, oauth_domain=oauth_domain, weblogin_domain=weblogin_domain)
        stopping = asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            http = await stack.enter_async_context(aiohttp.ClientSession())
            outbox = Outbox(http, retry_after_s=retry_after_s)
            stack.push_async_callback(outbox.stop)
            url = await _serve(stack, public_app(state, stopping), host, port)
            control_url = await _serve(stack, control_app(state, outbox, url), host, control_port)
            stack.callback(stopping.set)
            yield cls(url, f"{control_url}/_sandbox/", state, outbox)

    def change_member(self, userid: str, wanted: Mapping[str, Any]) -> Member:
        """Change a member in WeCom's own words and send the events; ``await outbox.settle()`` to see them arrive."""
        return Changes(self.state, self.outbox.send).change_member(userid, wanted)

    def remove_member(self, userid: str) -> None:
        """Remove a member and send the events."""
        Changes(self.state, self.outbox.send).remove_member(userid)


def refuse_others(host: str) -> None:
    """Raise ValueError unless the host is a loopback address."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        raise ValueError(f"the sandbox hands out identities and listens on loopback only, not on {host}")


async def _serve(stack: contextlib.AsyncExitStack, app: web.Application, host: str, port: int) -> str:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_GRACE_S)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, host, port).start()
    bound = runner.addresses[0][1]
    return f"http://[{host}]:{bound}" if ":" in host else f"http://{host}:{bound}"


def run(
    port: int = 9190,
    control_port: int = 9191,
    *,
    host: str = "127.0.0.1",
    oauth_domain: str = OAUTH_DOMAIN,
    weblogin_domain: str = "",
    ready: Callable[[Sandbox], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; ``ready`` is called once both ports answer."""
    asyncio.run(_run(port, control_port, host, oauth_domain, weblogin_domain, ready))


async def _run(
    port: int,
    control_port: int,
    host: str,
    oauth_domain: str,
    weblogin_domain: str,
    ready: Callable[[Sandbox], None] | None,
) -> None:
    stop = asyncio.Event()
    for signal_ in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signal_, stop.set)
    async with Sandbox.start(
        port, control_port, host=host, oauth_domain=oauth_domain, weblogin_domain=weblogin_domain
    ) as sandbox:
        if ready is not None:
            ready(sandbox)
        await stop.wait()
