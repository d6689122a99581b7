"""Start the pieces, say what to try or walk the chain, and end everything."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

from gateway.demo import app, nginx
from gateway.demo.child import Child, running
from gateway.demo.invitation import invitation
from gateway.demo.plan import CannotRun, Plan, Ports
from gateway.demo.walk import walk
from gateway.sandbox import Sandbox

READY_S = 30
PACKAGES = Path(__file__).parents[2]

Say = Callable[[str], None]


def start(ports: Ports, state: Path | None, *, check: bool, say: Say) -> None:
    """Run the demo in the folder *state*, or in a temporary one that is removed at the end."""
    with ExitStack() as stack:
        folder = state or Path(stack.enter_context(TemporaryDirectory(prefix="wecom-demo-", ignore_cleanup_errors=True)))
        asyncio.run(run(Plan(folder.resolve(), ports), check=check, say=say))


async def run(plan: Plan, *, check: bool, say: Say) -> None:
    """Run the demo until SIGINT, SIGTERM or SIGHUP; with *check* walk the chain once instead.

    Raise CannotRun when it cannot start, when a piece of it dies, and when the walk finds something broken.
    """
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    program = nginx.find(f"{os.environ.get('PATH', '')}:{nginx.PLACES}")
    plan.ports.refuse_taken()
    plan.claim()
    async with AsyncExitStack() as stack:
        try:
            children = await _start(plan, program, stack)
        except OSError as error:
            raise CannotRun(f"cannot start: {error}") from error
        await _supervise(children, stop, _work(plan, check=check, say=say))
        say("正在结束 / ending …")


async def _start(plan: Plan, program: str, stack: AsyncExitStack) -> list[Child]:
    ports = plan.ports
    sandbox = await stack.enter_async_context(Sandbox.start(ports.sandbox, ports.control, oauth_domain=plan.origin.netloc))
    state = sandbox.state
    plan.write_settings(corp_id=state.corp_id, agent_id=state.agent_id, secret=state.secret)
    nginx.write(plan)
    await stack.enter_async_context(app.listening(ports.app))
    commands = {
        "gateway": [sys.executable, "-m", "gateway", "serve", "--config", str(plan.config)],
        "nginx": nginx.command(program, plan),
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WECOM_GATEWAY_")}
    return [
        await stack.enter_async_context(
            running(name, command, log=plan.logs / f"{name}.log", cwd=PACKAGES, environment=environment)
        )
        for name, command in commands.items()
    ]


async def _supervise(children: list[Child], stop: asyncio.Event, work: Coroutine[None, None, None]) -> None:
    """Do *work* until it is done or *stop* is set; CannotRun with a child's last words if one ends before."""
    working, stopped = asyncio.create_task(work), asyncio.create_task(stop.wait())
    ends = {asyncio.create_task(child.process.wait()): child for child in children}
    tasks: set[asyncio.Task[Any]] = {working, stopped, *ends}
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    dead = [child for task, child in ends.items() if task.done()]
    finished = working.done()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    if dead and not stop.is_set():
        raise CannotRun(dead[0].last_words())
    if finished:
        working.result()


async def _work(plan: Plan, *, check: bool, say: Say) -> None:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        await _answering(http, f"http://127.0.0.1:{plan.ports.ops}/healthz")
        await _answering(http, plan.other.url("/"))
        await _answering(http, plan.origin.url("/_wecom/logout"))  # the pages open after the ledger was read
        await _register_events(http, plan)
    if check:
        await walk(plan, say)
    else:
        say(invitation(plan, os.environ))
        await asyncio.Event().wait()


async def _register_events(http: aiohttp.ClientSession, plan: Plan) -> None:
    """What an administrator does in WeCom's console; it asks the gateway to decrypt something before it saves."""
    async with http.put(f"{plan.control_url}app/callback", json=plan.callback()) as response:
        if response.status != 200:
            raise CannotRun(f"the sandbox did not take {plan.callback()['url']}: {await response.text()}")


async def _answering(http: aiohttp.ClientSession, url: str) -> None:
    for _ in range(READY_S * 20):
        with suppress(aiohttp.ClientError):
            async with http.get(url) as response:
                if response.status == 200:
                    return
        await asyncio.sleep(0.05)
    raise CannotRun(f"{url} did not answer within {READY_S} seconds")
