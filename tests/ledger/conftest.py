"""Stores to prove the contract on: each kind as a place that several processes open."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway.ledger import Store
from gateway.ledger.sqlite import SqliteStore
from tests.conftest import Clock

Stores = Callable[[], Awaitable[Store]]
"""Opens one more store on the same data, as another process would."""


@pytest.fixture(params=["sqlite"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Stores]:
    """Every kind of store in turn."""
    make = {"sqlite": lambda: SqliteStore(tmp_path / "ledger.sqlite3", clock)}[request.param]
    async with AsyncExitStack() as stack:

        async def opened() -> Store:
            store = make()
            await store.open()
            stack.push_async_callback(store.close)
            return store

        yield opened


@pytest.fixture
async def store(stores: Stores) -> Store:
    return await stores()
