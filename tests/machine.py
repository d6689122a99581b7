"""A machine with gateways of their own as processes: settings in a file, a sandbox by the real clock, a browser."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from gateway.sandbox import Sandbox
from tests.browser_double import Browser
from tests.conftest import WECOM_UA, free_port
from tests.patience import PATIENCE_S

KEY = "old-key-" + "k" * 32
LISTENERS = ("check", "pages", "ops")


@dataclass
class Process:
    """``python -m gateway serve`` and what it says; its log is read all along, so that it never waits for us."""

    process: asyncio.subprocess.Process
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._looked_at = 0
        self._more = asyncio.Event()
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr
        while line := (await self.process.stderr.readline()).decode():
            self.said.append(line)
            self._more.set()
        self._more.set()

    async def says(self, text: str) -> str:
        """Wait for the next line of its log that holds *text*."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    while self._looked_at < len(self.said):
                        self._looked_at += 1
                        if text in (line := self.said[self._looked_at - 1]):
                            return line
                    assert not self.reading.done(), f"ended without saying {text!r}: {''.join(self.said)}"
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"does not say {text!r}: {''.join(self.said)}") from None

    async def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ends(self) -> int:
        """Wait for its end; its exit status."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.shield(self.reading)
                return await self.process.wait()
        except TimeoutError:
            raise AssertionError(f"has not ended: {''.join(self.said)}") from None


@dataclass
class Machine:
    """One settings file, one sandbox by the real clock, one browser; gateways come and go."""

    sandbox: Sandbox
    file: Path
    listen: dict[str, str]
    http: aiohttp.ClientSession
    stack: AsyncExitStack
    store: str = ""  #: another than the SQLite file beside the settings

    def write(self, *, keys: tuple[str, ...] = (KEY,), more: str = "") -> None:
        state = self.sandbox.state
        listen = "\n".join(f'{name} = "{address}"' for name, address in self.listen.items())
        self.file.write_text(
            f'corp_id = "{state.corp_id}"\nagent_id = {state.agent_id}\napp_secret = "{state.secret}"\n'
            f'public_url = "http://localhost:8080"\nsigning_keys = {list(keys)}\n{more}\n'
            f'store = "{self.store or f"sqlite://{self.file.parent}/ledger.sqlite3"}"\n'
            f"[wecom]\ntimeout = {PATIENCE_S}\n"
            f'api_url = "{self.sandbox.url}"\nauthorize_url = "{self.sandbox.url}"\nlogin_url = "{self.sandbox.url}"\n'
            f"[listen]\n{listen}\n",
            "utf-8",
        )

    async def serve(self, environment: Mapping[str, str] | None = None, *, before: Sequence[str] = (), **how: Any) -> Process:
        """Start one, the command *before* it in front; more of them need an address for ops each."""
        command = [*before, sys.executable, "-m", "gateway", "serve", "--config", str(self.file)]
        given = {**os.environ, "STATE_DIRECTORY": str(self.file.parent), **(environment or {})}
        process = Process(await asyncio.create_subprocess_exec(*command, env=given, stderr=asyncio.subprocess.PIPE, **how))
        self.stack.push_async_callback(self._finish, process)
        return process

    async def running(self, environment: Mapping[str, str] | None = None) -> Process:
        process = await self.serve(environment)
        await process.says("listening:")
        return process

    async def _finish(self, process: Process) -> None:
        if process.process.returncode is None:
            process.process.kill()
        await process.reading
        await process.process.wait()

    def browser(self, member: str = "zhangsan") -> Browser:
        browser = Browser(self.http, time.time, self.listen, {"localhost:8080": ""}, WECOM_UA)
        browser.put("http://127.0.0.1/", "sandbox_member", member)
        return browser


@asynccontextmanager
async def machine_in(folder: Path) -> AsyncIterator[Machine]:
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(Sandbox.start(oauth_domain="localhost:8080"))
        http = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        listen = {name: f"127.0.0.1:{free_port()}" for name in LISTENERS}
        machine = Machine(sandbox, folder / "gateway.toml", listen, http, stack)
        machine.write()
        yield machine
