"""Which store an address in the settings means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gateway.ledger.sqlite import SqliteStore
from gateway.ledger.store import Store
from gateway.redis_url import RedisUrl


def store_at(address: str, owner: str, clock: Callable[[], float]) -> Store:
    """The store that the setting ``store`` names, not yet open; *owner* tells apart whose it is where several share one."""
    if not address.startswith("sqlite:"):
        from gateway.ledger.redis import RedisStore  # a quarter of a second that a start without it does not spend

        return RedisStore(RedisUrl.parse(address), owner, clock)
    return SqliteStore(Path("/" + address.removeprefix("sqlite:").lstrip("/")), clock)
