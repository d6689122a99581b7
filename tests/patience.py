"""How long tests wait: for what comes, as long as a busy machine may need; for what must come soon, so many looks.

A wait ends with what it waits for, so patience costs only where something fails.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
PATIENCE_S = 120
LOOK_S = 0.01

Holds = Callable[[], object]
"""A function or coroutine function that tells whether something has come."""


async def until(holds: Holds) -> None:
    """Wait until *holds*."""
    async with asyncio.timeout(PATIENCE_S):
        while not await _told(holds):
            await asyncio.sleep(LOOK_S)


async def within(seconds: float, holds: Holds) -> None:
    """Wait until *holds*, *seconds* at most: the pauses between looks count, the looks and what holds up the machine do not."""
    for _ in range(round(seconds / LOOK_S)):
        if await _told(holds):
            return
        await asyncio.sleep(LOOK_S)
    assert await _told(holds), f"not within {seconds} s"


async def in_time(work: Awaitable[T], seconds: float) -> T:
    """The result of *work*, which may take *seconds*; a time in which the machine lets nobody here run does not count."""
    task = asyncio.ensure_future(work)
    for _ in range(round(seconds / LOOK_S)):
        if task.done():
            break
        await asyncio.wait({task}, timeout=LOOK_S)
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
        raise AssertionError(f"has not ended within {seconds} s")
    return await task


def unhurried(snippets: Path) -> None:
    """Have nginx wait as patiently for the gateway's answer to its question; shipped, it gives up after three seconds."""
    file = snippets / "gateway.conf"
    text = file.read_text("utf-8")
    assert "proxy_read_timeout 3s;" in text
    file.write_text(text.replace("proxy_read_timeout 3s;", f"proxy_read_timeout {PATIENCE_S}s;"), "utf-8")


async def _told(holds: Holds) -> object:
    told = holds()
    return await told if inspect.isawaitable(told) else told
