"""Who is at work with something that another one has replaced: it is closed after the last of them."""

from __future__ import annotations

import asyncio


class InUse:
    """Entered by each who works with it (``with in_use:``)."""

    __slots__ = ("_idle", "_workers")

    def __init__(self) -> None:
        self._workers = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def __enter__(self) -> None:
        self._workers += 1
        self._idle.clear()

    def __exit__(self, *_: object) -> None:
        self._workers -= 1
        if not self._workers:
            self._idle.set()

    async def idle(self) -> None:
        """Wait until nobody is at work with it."""
        await self._idle.wait()
