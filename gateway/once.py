"""Do a thing once for a key, in this process and among processes; whoever asks again within a minute gets the first result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar

from gateway.errors import GatewayError

T = TypeVar("T")
REMEMBERED_S = 60
LIMIT = 10_000

ELSEWHERE_S = 5.0
"""How long the result of another process is waited for; it may have been killed in the middle."""
LOOK_S = 0.05


class Shared(Protocol):
    """What processes claim and leave each other (``Ledger``)."""

    async def claim(self, key: str, until: float) -> bool: ...
    async def put(self, key: str, value: str, until: float) -> None: ...
    async def get(self, key: str) -> str | None: ...


async def among_processes(
    shared: Shared,
    key: str,
    until: float,
    work: Callable[[], Coroutine[Any, Any, T]],
    pack: Callable[[T | GatewayError], str],
    *,
    waits_s: float = ELSEWHERE_S,
) -> T | str | None:
    """Give the result of *work* for *key*, done by whichever process claims it until the Unix second *until*.

    Where that is another, what *pack* made of its result or error; None where it left nothing in time.
    """
    if await shared.claim(key, until):
        try:
            result = await work()
        except GatewayError as error:
            await shared.put(key, pack(error), until)
            raise
        await shared.put(key, pack(result), until)
        return result
    loop = asyncio.get_running_loop()
    deadline = loop.time() + waits_s
    while (found := await shared.get(key)) is None and loop.time() < deadline:  # noqa: ASYNC110 - other processes
        await asyncio.sleep(LOOK_S)
    return found


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
