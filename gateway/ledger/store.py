"""What a store of the ledger must do; implemented by SQLite (one machine) and by Redis (several), under one set of tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from gateway.errors import GatewayError
from gateway.records import Entry, Record

BATCH = 5000


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

    Only :meth:`read` and :meth:`in_force` raise LedgerLost as well.
    """

    @property
    def address(self) -> str:
        """Where it is, without a password, for logs and messages."""

    async def open(self) -> None: ...
    async def close(self) -> None: ...

    async def examine(self) -> None:
        """Look through all of it: LedgerBroken where something cannot be read, be it read today or not."""

    async def append(self, records: Sequence[Record]) -> list[Entry]:
        """Store *records*, all or none; they are durable when this returns.

        After revocations stands what ends those sessions before them that they do not reach by their time
        (:mod:`gateway.ledger.future`).
        """

    async def head(self) -> str:
        """The position of the last entry; "" while there is none."""

    async def seek(self, since: float) -> str:
        """A position with nothing taken at or after *since* before it; "" for the start."""

    async def read(self, after: str = "", limit: int = 1000) -> list[Entry]:
        """The entries after a position, oldest first; fewer than *limit* at the end.

        LedgerLost when *after* is not in the store, or another entry stands there.
        """

    async def in_force(self, after: str = "", limit: int = 1000) -> tuple[list[Record], str]:
        """Records after a position, oldest first, and the position to go on from: *after* itself at the end.

        Those of kinds that only tell what happened (``AUDIT_ONLY``) are left out: there may be none before the end.
        LedgerLost as for :meth:`read`. See :func:`in_force`.
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

    async def mark(self, name: str) -> str:
        """The position that the reader *name* kept last; "" at first."""

    async def keep_mark(self, name: str, position: str) -> None:
        """Keep how far the reader *name* has come; durable when this returns."""

    async def trim(self, before: float) -> int:
        """Drop the oldest entries, those before the first that was taken at or after *before*; gives how many.

        At most some thousands at once: call again until it gives 0. What is in force is appended again first
        (``retention.survivors``), and a ``trimmed`` record says where the chain of digests begins now.
        """

    async def problems(self) -> list[str]:
        """What weakens it right now, a sentence each with the setting to change; empty when all is well."""


async def in_force(store: Store, after: str = "") -> AsyncIterator[tuple[list[Record], str]]:
    """All that is in force in *store* after a position, batch by batch, each with the position to go on from."""
    while True:
        records, position = await store.in_force(after, BATCH)
        if position == after:
            return
        yield records, position
        after = position
