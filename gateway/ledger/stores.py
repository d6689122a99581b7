"""Which store an address in the settings means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gateway.ledger.sqlite import SqliteStore
from gateway.ledger.store import Store


def store_at(address: str, clock: Callable[[], float]) -> Store:
    """The store that the setting ``store`` names, not yet open."""
    return SqliteStore(Path("/" + address.removeprefix("sqlite:").lstrip("/")), clock)
