"""Stop exchanging codes when too many were bad: WeCom's own limit (45009) would lock out everybody."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

WINDOW_S = 60


class Brake:
    """Count bad codes; :attr:`on` while *limit* of them fell into the last minute."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._bad: deque[float] = deque(maxlen=max(1, limit))

    def bad_code(self) -> None:
        self._bad.append(self._clock())

    @property
    def on(self) -> bool:
        return len(self._bad) == self._bad.maxlen and self._bad[0] > self._clock() - WINDOW_S
