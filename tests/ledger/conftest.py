"""Stores to prove the contract on: each kind as a place that several processes open."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway.ledger import Store
from gateway.ledger.redis import RedisStore
from gateway.ledger.sqlite import SqliteStore
from gateway.redis_url import RedisUrl
from tests.conftest import Clock
from tests.ledger.redis_server import running

Stores = Callable[[], Awaitable[Store]]
"""Opens one more store on the same data, as another process would."""


@pytest.fixture(params=["sqlite", "redis"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Stores]:
    """Every kind of store in turn."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running(tmp_path / "redis")) if request.param == "redis" else None

        def make() -> Store:
            if server is None:
                return SqliteStore(tmp_path / "ledger.sqlite3", clock)
            return RedisStore(RedisUrl.parse(server.url), "ww0123456789abcdef:1000002", clock)

        async def opened() -> Store:
            store = make()
            await store.open()
            stack.push_async_callback(store.close)
            return store

        yield opened


@pytest.fixture
async def store(stores: Stores) -> Store:
    return await stores()
