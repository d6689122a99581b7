"""What a store of the ledger must do; implemented by SQLite (one machine) and by Redis (several), under one set of tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.errors import GatewayError
from gateway.ledger.records import Entry, Record


class LedgerUnavailable(GatewayError):
    """The store did not confirm in time: the record may be missing. Signed-in people are unaffected."""

    reason = "ledger-unavailable"


class LedgerBroken(GatewayError):
    """The store answers, but what it holds cannot be trusted or read: corrupted, of a later version, not ours."""

    reason = "ledger-broken"


class LedgerLost(GatewayError):
    """What stood at a position is no longer there: data lost, an older copy took over, trimmed or made anew.

    Who reads on from there reads from the start again (``after=""``), and appends again what it knows to be in force
    and does not find.
    """

    reason = "ledger-lost"


class Store(Protocol):
    """Durable, ordered, shared by processes. Every method raises LedgerUnavailable or LedgerBroken, nothing else.

    Only :meth:`read` raises LedgerLost as well.
    """

    @property
    def address(self) -> str:
        """Where it is, without a password, for logs and messages."""

    async def open(self) -> None: ...
    async def close(self) -> None: ...

    async def append(self, records: Sequence[Record]) -> list[Entry]:
        """Store *records*, all or none; they are durable when this returns."""

    async def read(self, after: str = "", limit: int = 1000) -> list[Entry]:
        """The entries after a position, oldest first; fewer than *limit* at the end.

        LedgerLost when *after* is not in the store, or another entry stands there.
        """

    async def wait(self, after: str, timeout_s: float) -> None:
        """Return when there is something after *after*, or after *timeout_s*; within 1 s of an append by another process.

        Also when *after* is no longer there: :meth:`read` then says so.
        """

    async def claim(self, key: str, until: float) -> bool:
        """True for the first caller in any process, until the Unix second *until*."""

    async def put(self, key: str, value: str, until: float) -> None:
        """Keep a short-lived value for other processes: the result of what was claimed."""

    async def get(self, key: str) -> str | None: ...

    async def trim(self, before: float) -> int:
        """Drop the entries taken before *before* that nothing in force depends on; gives how many."""

    async def problems(self) -> list[str]:
        """What weakens it right now, a sentence each with the setting to change; empty when all is well."""
