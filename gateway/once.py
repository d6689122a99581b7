"""Do a thing once for a key, and give whoever asks again within a minute the first result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")
REMEMBERED_S = 60
LIMIT = 10_000


class Once(Generic[T]):
    """Run a coroutine per key; a second caller waits for the first run and gets its result or its error.

    The run is not cancelled when a caller goes away: an OAuth code in flight is spent either way.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._runs: dict[str, tuple[float, asyncio.Task[T]]] = {}

    async def run(self, key: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Give the result of *work* for *key*, begun now or in the last 60 s."""
        now = self._clock()
        self._forget(now)
        if key not in self._runs:
            self._runs[key] = (now + REMEMBERED_S, asyncio.create_task(work()))
        return await asyncio.shield(self._runs[key][1])

    async def close(self) -> None:
        """Wait for what is in flight."""
        await asyncio.gather(*(task for _, task in self._runs.values()), return_exceptions=True)

    def _forget(self, now: float) -> None:
        """Runs are kept in the order they began: the oldest go first."""
        done: list[str] = []
        for key, (until, task) in self._runs.items():
            if until > now and len(self._runs) - len(done) < LIMIT:
                break
            if task.done():
                done.append(key)
        for key in done:
            _, task = self._runs.pop(key)
            if not task.cancelled():
                task.exception()  # asked for, so that asyncio does not complain that nobody did
