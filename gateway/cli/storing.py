"""What verbs that read or write the ledger share: the store that the settings name, open for as long as it takes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import TypeVar

import click

from gateway.ledger import LedgerBroken, LedgerUnavailable, Store
from gateway.records import Entry

T = TypeVar("T")
TOGETHER = 5000


def in_store(config_path: Path | None, work: Callable[[Store], Coroutine[None, None, T]]) -> T:
    """Do *work* with the store of the settings; no gateway need run. Exit status 1 where the store does not confirm."""
    from gateway.ledger import store_at
    from gateway.loading import load

    config = load(config_path)

    async def run() -> T:
        store = store_at(config.store, config.owner, time.time)
        try:
            await store.open()
            return await work(store)
        finally:
            await store.close()

    try:
        return asyncio.run(run())
    except (LedgerUnavailable, LedgerBroken) as error:
        raise click.ClickException(f"store: {str(error).rstrip('.')}; nothing was confirmed") from None


def operator() -> str:
    """Who gives the command, for the record."""
    return os.environ.get("SUDO_USER") or os.environ.get("USER") or f"uid {os.getuid()}"


async def entries(store: Store, *, after: str = "") -> AsyncIterator[Entry]:
    """Every entry *after* a position, oldest first."""
    position = after
    while True:
        found = await store.read(position, TOGETHER)
        for entry in found:
            yield entry
        if len(found) < TOGETHER:
            return
        position = found[-1].position
