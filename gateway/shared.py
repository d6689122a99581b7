"""What processes share and may lose: access tokens, departments. In memory with one machine's file, in Redis with Redis."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiocache import SimpleMemoryCache
from aiocache.base import BaseCache
from aiocache.serializers import BaseSerializer

from gateway.config import Config
from gateway.redis_url import SCHEMES, RedisUrl
from gateway.sealing import Forged, Sealer

PATIENCE_S = 0.5
"""For one look into the cache: without it a sign-in fetches what it needs from WeCom."""


class Sealed(BaseSerializer):  # type: ignore[misc]
    """Only gateways with one of our signing keys can read what stands in the cache: a copy of Redis shows no access token."""

    DEFAULT_ENCODING = None

    def __init__(self, sealer: Sealer) -> None:
        super().__init__()
        self._sealer = sealer

    def dumps(self, value: Any) -> str:
        return self._sealer.encrypt("cache", value)

    def loads(self, value: str | None) -> Any:
        try:
            return self._sealer.decrypt("cache", value) if value else None
        except Forged:  # by a key of another gateway
            return None


def cache_for(config: Config) -> tuple[BaseCache, Callable[[], Awaitable[None]]]:
    """The cache that goes with the setting ``store``, and what closes it."""
    if str(config.store).partition("://")[0] not in SCHEMES:
        cache = SimpleMemoryCache()
        return cache, cache.close
    from gateway.ledger.redis_cache import Cache  # here: it needs the package redis, which the ledger has asked for by now
    from gateway.ledger.redis_clients import Clients

    url = RedisUrl.parse(config.store)
    clients = Clients(url)
    pool = clients.make(answer_s=PATIENCE_S).connection_pool
    shared = Cache(
        serializer=Sealed(Sealer(config.signing_keys)),
        connection_pool_class=lambda **_: pool,
        namespace=f"wecom-gateway:{url.prefix or config.owner}:cache",
        timeout=PATIENCE_S,
    )
    return shared, clients.close
