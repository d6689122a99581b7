"""Claims in this process's own memory: what sign-in goes by while the store is away."""

from __future__ import annotations

from collections.abc import Callable

LIMIT = 20_000


class Memory:
    """Keys claimed by this process, with their results; bounded."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: dict[str, tuple[float, str | None]] = {}

    def claim(self, key: str, until: float) -> bool:
        """True for the first until then."""
        if self._found(key):
            return False
        self._keep(key, until, None)
        return True

    def put(self, key: str, value: str, until: float) -> None:
        self._keep(key, until, value)

    def get(self, key: str) -> str | None:
        found = self._found(key)
        return found[1] if found else None

    def _found(self, key: str) -> tuple[float, str | None] | None:
        found = self._kept.get(key)
        return found if found and found[0] > self._clock() else None

    def _keep(self, key: str, until: float, value: str | None) -> None:
        if len(self._kept) >= LIMIT:
            now = self._clock()
            self._kept = {each: kept for each, kept in self._kept.items() if kept[0] > now}
            while len(self._kept) >= LIMIT:  # a flood: the oldest go first
                del self._kept[next(iter(self._kept))]
        self._kept[key] = (until, value)
