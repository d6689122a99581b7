"""A real Redis that keeps what it confirmed: killed and started again on the same data."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class Redis:
    """``appendfsync always``: what was confirmed is on the disk."""

    folder: Path
    port: int
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        options = {"port": self.port, "bind": "127.0.0.1", "dir": self.folder, "save": "", "appendonly": "yes"}
        options |= {"appendfsync": "always", "maxmemory-policy": "noeviction", "daemonize": "no"}
        command = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        nowhere = asyncio.subprocess.DEVNULL
        self.process = await asyncio.create_subprocess_exec("redis-server", *command, stdout=nowhere, stderr=nowhere)
        async with asyncio.timeout(20):
            while not await self._answers():
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        if self.process and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def _answers(self) -> bool:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(b"PING\r\n")
            said = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return said == b"+PONG\r\n"
        return False
