"""aiocache's cache in Redis, without the commands that the library is about to drop."""

from __future__ import annotations

from typing import Any

from aiocache import RedisCache


class Cache(RedisCache):  # type: ignore[misc]
    """Every value has its end."""

    async def _set(self, key: str, value: str, ttl: float | None = None, _cas_token: Any = None, _conn: Any = None) -> Any:
        return await self.client.set(key, value, ex=None if ttl is None else max(1, int(ttl)))
