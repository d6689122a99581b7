"""Reloading and restarting the gateway under load: whoever browses through nginx notices nothing."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import aiohttp
import pytest

from tests.conftest import free_port
from tests.machine import Machine, Process, machine_in

SITE = """
server {
    listen LISTEN;
    server_name localhost;
    include wecom/gateway.conf;
    location / { include wecom/protect.conf; include wecom/identity.conf; proxy_pass http://APP; }
}
"""
HOME = "http://localhost:8080/"
BROWSERS = 8
JSON = {"Host": "localhost:8080", "Accept": "application/json", "Sec-Fetch-Site": "same-origin"}

Serve = Callable[[int], Any]


@pytest.fixture
async def machine(tmp_path: Any) -> AsyncIterator[Machine]:
    async with machine_in(tmp_path) as machine:
        yield machine


async def browse(url: str, cookie: str, seen: Counter[str], stop: asyncio.Event) -> None:
    """One busy browser: pages of the app, and now and then a page of ours and a form of ours; counts what it is answered."""
    headers = JSON | {"Cookie": cookie}
    asked = 0
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        while not stop.is_set():
            asked += 1
            method, path, expected, sent = "GET", "/app", 200, headers
            if asked % 5 == 0:
                path = "/_wecom/me"
            elif asked % 7 == 0:
                method, path, expected, sent = "POST", "/_wecom/logout", 303, JSON
            async with http.request(method, url + path, headers=sent, allow_redirects=False) as answer:
                await answer.read()
                seen["good" if answer.status == expected else f"{method} {path} {answer.status}"] += 1


async def restarted(serve: Serve, processes: dict[int, Process], number: int) -> None:
    await processes[number].signal(signal.SIGTERM)
    assert await processes[number].ends() == 0
    processes[number] = await serve(number)
    await processes[number].says("listening:")


def shared(machine: Machine) -> Serve:
    """Two processes by ``listen.reuse_port``."""
    port = free_port()

    async def serve(number: int) -> Process:
        own = {"WECOM_GATEWAY_LISTEN_REUSE_PORT": "true", "WECOM_GATEWAY_LISTEN_OPS": f"127.0.0.{number}:{port}"}
        return await machine.serve(own)

    return serve


def held(machine: Machine, stack: ExitStack) -> Serve:
    """Two processes at sockets that somebody holds for them, as systemd does."""
    sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=4096)) for _ in range(2)]
    for name, each in zip(("check", "pages"), sockets, strict=True):
        machine.listen[name] = f"127.0.0.1:{each.getsockname()[1]}"
    check, pages = (each.fileno() for each in sockets)
    script = f'exec 3<&{check} 4<&{pages}; export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=check:pages; exec "$@"'
    port = free_port()

    async def serve(number: int) -> Process:
        own = {"WECOM_GATEWAY_LISTEN_OPS": f"127.0.0.{number}:{port}"}
        return await machine.serve(own, before=["bash", "-c", script, "bash"], pass_fds=[check, pages])

    return serve


@pytest.mark.parametrize("how", ["reuse_port", "systemd"])
async def test_no_request_fails(machine: Machine, start_nginx: Callable[..., Any], behind: Any, how: str) -> None:
    """Two processes reloaded, and restarted one after the other, under load: not one request fails."""
    with ExitStack() as sockets:
        serve = shared(machine) if how == "reuse_port" else held(machine, sockets)
        processes = {number: await serve(number) for number in (1, 2)}
        for process in processes.values():
            await process.says("listening:")
        browser = machine.browser()
        await browser.open(HOME)
        ports = {name: int(machine.listen[name].rpartition(":")[2]) for name in ("check", "pages")}
        nginx = start_nginx(SITE, cookie_name="wecom_session_8080", **ports)
        seen: Counter[str] = Counter()
        stop = asyncio.Event()
        cookie = f"wecom_session_8080={browser.session(HOME)}"
        url = f"http://127.0.0.1:{nginx.port}"
        async with asyncio.TaskGroup() as group, AsyncExitStack() as ending:
            ending.callback(stop.set)
            for _ in range(BROWSERS):
                group.create_task(browse(url, cookie, seen, stop))
            for number in (1, 2):
                await processes[number].signal(signal.SIGHUP)
                await processes[number].says("settings reloaded")
                await restarted(serve, processes, number)

    assert set(seen) == {"good"}, f"{seen}, {nginx.log()[-2000:]}"
    assert seen["good"] > 200
    assert not [line for process in processes.values() for line in process.said if "Traceback" in line]
