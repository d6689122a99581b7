"""A real Redis on a port of its own, to be killed, held up and filled."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.conftest import free_port
from tests.patience import PATIENCE_S

SAFE = ("--appendonly", "yes", "--appendfsync", "always")
CLUSTER = "--cluster-enabled"
READY = (b"Ready to accept connections", b"MASTER MODE", b"Sentinel ID is")


class RedisServer:
    """``await start()`` and it answers; what it keeps is in *folder*, also for the next start."""

    def __init__(self, folder: Path, *options: str, port: int = 0, safe: bool = True) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.options = (*(SAFE if safe else ()), *options)
        self.bus = free_port() if CLUSTER in options else 0  #: what it would take by itself, 10000 above, a client may have
        if self.bus:
            self.options += ("--cluster-port", str(self.bus))
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def settle(self, *lines: str) -> None:
        """Write its own file of settings, which a sentinel needs."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "redis.conf").write_text("\n".join(lines) + "\n", "utf-8")

    async def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "redis.conf").touch()  # into which sentinels and servers write what they learn
        place = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "")
        command = ("redis-server", str(self.folder / "redis.conf"), *place)
        self._process = await asyncio.create_subprocess_exec(
            *command, *self.options, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        assert self._process.stdout is not None
        said = b""
        async with asyncio.timeout(PATIENCE_S):
            while not any(word in said for word in READY):
                said += (line := await self._process.stdout.readline())
                assert line, f"redis-server has not started: {said.decode()}"

    async def kill(self) -> None:
        """As a power cut does to the process."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.communicate()

    async def restart(self) -> None:
        await self.kill()
        await self.start()

    def hold(self) -> None:
        """It keeps its connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def do(self, *words: str | int, password: str | None = None) -> Any:
        """Give it a command as its operator does, once."""
        where: dict[str, Any] = {"host": "127.0.0.1", "port": self.port, "password": password}
        once: dict[str, Any] = {"socket_timeout": PATIENCE_S, "retry": Retry(NoBackoff(), 0)}
        async with Redis(decode_responses=True, protocol=2, **where, **once) as client:
            client.response_callbacks.clear()
            return await client.execute_command(*words)


@asynccontextmanager
async def running(folder: Path, *options: str, port: int = 0, safe: bool = True) -> AsyncIterator[RedisServer]:
    server = RedisServer(folder, *options, port=port, safe=safe)
    try:
        await server.start()
        yield server
    finally:
        await server.kill()
