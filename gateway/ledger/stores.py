"""Which store an address in the settings means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gateway.errors import ConfigError
from gateway.ledger.sqlite import SqliteStore
from gateway.ledger.store import Store
from gateway.redis_url import RedisUrl


def store_at(address: str, owner: str, clock: Callable[[], float]) -> Store:
    """The store that the setting ``store`` names, not yet open; *owner* tells apart whose it is where several share one."""
    if not address.startswith("sqlite:"):
        try:
            from gateway.ledger.redis import RedisStore  # a quarter of a second that a start without it does not spend
        except ModuleNotFoundError as error:
            missing = f"store: Redis needs a further package ({error.name}): pip install 'wecom-gateway[redis]'"
            raise ConfigError([missing]) from None
        return RedisStore(RedisUrl.parse(address), owner, clock)
    return SqliteStore(Path("/" + address.removeprefix("sqlite:").lstrip("/")), clock, owner.partition(":")[0])
