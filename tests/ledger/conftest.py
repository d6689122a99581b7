"""Stores to prove the contract on: each kind as a place that several processes open."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway.ledger import Store
from gateway.ledger.redis import RedisStore
from gateway.ledger.redis_clients import Bounds
from gateway.ledger.sqlite import SqliteStore
from gateway.redis_url import RedisUrl
from tests.conftest import Clock
from tests.ledger.redis_server import RedisServer, running
from tests.patience import PATIENCE_S

Opened = Callable[..., RedisStore]

PATIENT = Bounds(*[PATIENCE_S] * 5)
"""What a Redis takes that a busy machine lets wait is not what is looked at."""

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
            return RedisStore(RedisUrl.parse(server.url), "ww0123456789abcdef:1000002", clock, PATIENT)

        async def opened() -> Store:
            store = make()
            await store.open()
            stack.push_async_callback(store.close)
            return store

        yield opened


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with running(tmp_path / "redis") as server:
        yield server


@pytest.fixture
async def opened() -> AsyncIterator[Opened]:
    """Makes stores, each as a process of its own has one; with the bounds of one where it is looked at that they hold."""
    made: list[RedisStore] = []

    def make(url: str, bounds: Bounds = PATIENT) -> RedisStore:
        made.append(RedisStore(RedisUrl.parse(url), "corp:1", time.time, bounds))
        return made[-1]

    yield make
    for store in made:
        await store.close()


@pytest.fixture
async def store(stores: Stores) -> Store:
    return await stores()


async def members(store: Store) -> list[str]:
    """Of whom it has records, in their order."""
    return [entry.record.member for entry in await store.read()]
