"""The tests' event loop: a machine that lets nobody here run for a while makes nothing late.

The product waits 2 s for its store, 5 s for WeCom, and WeCom's console 1 s for us. Where the whole process stood still meanwhile,
that says nothing about any of them.
"""

from __future__ import annotations

import asyncio
import selectors
import time

LOOK_S, MOST_S = 0.05, 0.1


class Unhurried(asyncio.SelectorEventLoop):
    """Its clock goes on by ``MOST_S`` at most from one look at it to the next, and whoever waits looks every ``LOOK_S``."""

    def __init__(self) -> None:
        self._passed, self._seen = 0.0, time.monotonic()
        super().__init__(_Looking())

    def time(self) -> float:
        now = time.monotonic()
        self._passed, self._seen = self._passed + min(now - self._seen, MOST_S), now
        return self._passed


class _Looking(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(LOOK_S if timeout is None else min(timeout, LOOK_S))  # type: ignore[no-any-return]
