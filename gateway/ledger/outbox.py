"""Records on their way to the store: a bounded queue that a store which is away does not empty into nothing."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from gateway.ledger.chain import canonical
from gateway.ledger.store import LedgerBroken, LedgerUnavailable, Store
from gateway.records import Record

log = logging.getLogger("wecom_gateway")

LIMIT = 10_000
TOGETHER = 500
FIRST_RETRY_S, LAST_RETRY_S = 0.5, 10.0


class Outbox:
    """Takes records at once and stores them one batch after the other.

    While the store does not confirm, each record is also written whole to the log, once: a process that is killed loses none.
    """

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._waiting: deque[Record] = deque()
        self._logged = 0  #: how many of those waiting, the oldest, are in the log already
        self._dropped = 0
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._away = False

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def problems(self) -> list[str]:
        if not self._dropped:
            return []
        return [
            f"store: {self._dropped} records are only in the log: the queue of {LIMIT} was full, or they could not be written"
        ]

    def put(self, record: Record) -> None:
        try:
            record = record.tidied()
        except ValueError as error:
            self._only_in_log(record, str(error))
            return
        if len(self._waiting) >= LIMIT:
            self._only_in_log(record, "the queue is full")
            return
        self._waiting.append(record)
        if self._away:
            self._log_waiting()
        self._emptied.clear()
        self._filled.set()

    async def run(self, trouble: Callable[[str, str], None], well: Callable[[str], None]) -> None:
        """Store what comes, for ever."""
        retry_s = FIRST_RETRY_S
        while True:
            await self._filled.wait()
            batch = [self._waiting[index] for index in range(min(TOGETHER, len(self._waiting)))]
            try:
                await self._store.append(batch)
            except (LedgerUnavailable, LedgerBroken) as error:
                self._away = True
                self._log_waiting()
                trouble("note", f"records wait to be stored: {error}")
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 2, LAST_RETRY_S)
            except Exception:  # one that cannot be stored at all must not hold up those after it
                log.exception("ledger: a mistake of ours while storing")
                for record in batch:
                    self._only_in_log(record, "see above")
                self._stored(len(batch))
            else:
                self._away, retry_s = False, FIRST_RETRY_S
                well("note")
                self._stored(len(batch))

    async def close(self, timeout_s: float) -> None:
        """Wait until all is stored, *timeout_s* at most; the rest goes to the log."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._emptied.wait()
        except TimeoutError:
            self._log_waiting()

    def _stored(self, count: int) -> None:
        for _ in range(count):
            self._waiting.popleft()
        self._logged = max(0, self._logged - count)
        if not self._waiting:
            self._filled.clear()
            self._emptied.set()

    def _log_waiting(self) -> None:
        for index in range(self._logged, len(self._waiting)):
            log.warning("ledger: not stored yet: %s", canonical(self._waiting[index]))
        self._logged = len(self._waiting)

    def _only_in_log(self, record: Record, why: str) -> None:
        self._dropped += 1
        log.error("ledger: not stored, %s: %r", why, record)
