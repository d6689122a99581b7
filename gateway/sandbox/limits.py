"""WeCom's frequency limits: a window that is overrun blocks for as long as the window is (path/90312)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Limits:
    """How many calls are too many."""

    api_minute: int = 10_000
    api_hour: int = 150_000
    ip_minute: int = 20_000
    ip_hour: int = 600_000
    debug_minute: int = 5
    wrong_secrets_hour: int = 2_000
    concurrent: int = 400


@dataclass(slots=True)
class _Window:
    started_at: float
    count: int = 0
    blocked_until: float = 0.0


@dataclass(slots=True)
class Counters:
    """What was counted, by a key and the window's length in seconds."""

    windows: dict[tuple[str, int], _Window] = field(default_factory=dict)
    running: dict[str, int] = field(default_factory=dict)

    def add(self, key: str, *, now: float, window_s: int, limit: int) -> bool:
        """Count one call; return whether it is one too many, or within a block."""
        if self.blocked(key, now=now, window_s=window_s):
            return True
        window = self.windows.get((key, window_s))
        if window is None or now - window.started_at >= window_s:
            window = self.windows[key, window_s] = _Window(now)
        window.count += 1
        if window.count > limit:
            window.blocked_until = now + window_s
        return window.count > limit

    def blocked(self, key: str, *, now: float, window_s: int) -> bool:
        window = self.windows.get((key, window_s))
        return window is not None and now < window.blocked_until
