"""The ledger as a process uses it: its standing follows the store, and a store that is away loses nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from operator import itemgetter
from typing import Any

from gateway.ledger.memory import Memory
from gateway.ledger.outbox import Outbox
from gateway.ledger.store import BATCH, LedgerBroken, LedgerLost, LedgerUnavailable, Store, in_force
from gateway.ledger.syslog import Exporter
from gateway.records import Record
from gateway.standing import CLOCK_TOLERANCE_S, OF_ACCESS, Standing

log = logging.getLogger("wecom_gateway")

FOLLOW_S = 5.0
RETRY_S = 1.0
HEAR_S = 0.25
"""A store that failed is read again so soon: what is confirmed the moment it is back must be heard of within a second."""
SIGN_IN_WAITS_S = 2.0
CLOSING_S = 5.0
AGAIN_S = 0.5
EXAMINE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86400.0
LATELY_S = 7 * DAY_S

_WRITES = ("append", "claim")

Taker = Callable[[Sequence[Record]], object]
"""Takes records of one kind that follow on each other."""


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage collections: looking through all that is kept, again and again as it grows, takes a third of a start."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _give(records: Sequence[Record], take: Taker) -> None:
    """One record that cannot be understood must not keep out the others: then each is given alone."""
    try:
        take(records)
    except Exception:
        if len(records) == 1:
            log.exception("ledger: record not understood: %r", records[0])
        else:
            for record in records:
                _give((record,), take)


class Ledger:
    """What is stored is applied to *standing*: at start everything in force, then each record as it comes, ours and others'."""

    def __init__(
        self,
        store: Store,
        standing: Standing,
        clock: Callable[[], float],
        *,
        retention_s: float = 200 * DAY_S,
        exporter: Exporter | None = None,
    ) -> None:
        self.failures = 0  #: writes that the store did not confirm
        self.ready = False  #: all that is in force is known
        self._store = store
        self._standing = standing
        self._clock = clock
        self._retention_s = retention_s
        self._exporter = exporter
        self._memory = Memory(clock)
        self._outbox = Outbox(store, clock)
        self._position = ""
        self._closed = False
        self._takers: dict[str, list[Taker]] = {}  #: who takes records of a kind
        self._others: list[Taker] = []  #: who takes those of every other kind
        self._troubles: dict[str, str] = {"start": "waiting for the ledger"}
        self._tasks: list[asyncio.Task[None]] = []
        self._knowing: list[Callable[[], Iterable[Record]]] = [lambda: standing.records(clock())]
        self.subscribe(standing.apply, *(kind for kind in OF_ACCESS if kind != "revoked"))
        self.subscribe_runs(standing.revoked, "revoked")

    @property
    def problems(self) -> list[str]:
        """What weakens it, a sentence each; empty when all is well."""
        exporting = self._exporter.problems if self._exporter else []
        return [*self._troubles.values(), *self._outbox.problems, *exporting]

    @property
    def queued(self) -> int:
        """How many records wait to be stored."""
        return len(self._outbox)

    def subscribe(self, callback: Callable[[Record], object], *kinds: str) -> None:
        """Call *callback* with every record applied, of *kinds* if given; at start only of kinds in force (not ``AUDIT_ONLY``).

        A record may come twice (our own: at once, and again in the order of the ledger): what comes last holds.
        """

        def take(records: Sequence[Record]) -> None:
            for record in records:
                callback(record)

        self.subscribe_runs(take, *kinds)

    def subscribe_runs(self, callback: Taker, *kinds: str) -> None:
        """The same for who takes all records of a kind that follow on each other in one call."""
        for kind in kinds:
            self._takers.setdefault(kind, [*self._others]).append(callback)
        if not kinds:
            for takers in (*self._takers.values(), self._others):
                takers.append(callback)

    def knows(self, records: Callable[[], Iterable[Record]]) -> None:
        """Ask *records* what else is in force, when it is no longer in the store."""
        self._knowing.append(records)

    async def start(self) -> None:
        """Open the store and apply what it holds; waits while it cannot be reached. LedgerBroken where waiting does not help."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                began = loop.time()
                await self._store.open()
                with _uncollected():
                    await self._whole()
            except (LedgerUnavailable, LedgerLost) as error:
                self._trouble("start", f"waiting for the ledger: {error}")
                await asyncio.sleep(RETRY_S)
            else:
                break
        self._well("start")
        self.ready = True
        log.info("ledger: read in %.2f s, %d things in force: %s", loop.time() - began, len(self._standing), self._store.address)
        self._run(self._follow(), self._outbox.run(self._trouble, self._well), self._probe(), self._examine(), self._tidy())
        self._run(self._remember())
        if self._exporter:
            self._run(self._exporter.run())

    async def close(self) -> None:
        """Store what waits, within a bound; what could not be stored goes whole to the log. Once is enough."""
        if self._closed:
            return
        self._closed = True
        await self._outbox.close(CLOSING_S)
        while running := [task for task in self._tasks if not task.done()]:
            for task in running:
                task.cancel()  # a connection that breaks at this very moment can keep the cancellation to itself: then again
            await asyncio.wait(running, timeout=AGAIN_S)
        await self._store.close()
        if self._exporter:
            await self._exporter.close()

    async def append(self, *records: Record) -> None:
        """Store *records*; they are in force here when this returns. LedgerUnavailable or LedgerBroken when not confirmed."""
        try:
            stored = await self._store.append(records)
        except (LedgerUnavailable, LedgerBroken) as error:
            self.failures += 1
            self._trouble("append", str(error))
            raise
        self._well("append")
        self._apply(entry.record for entry in stored)

    def note(self, record: Record) -> None:
        """Put *record* in force here, and store it in the background; never fails, never waits."""
        self._apply((record,))
        self._outbox.put(record)

    async def claim(self, key: str, until: float) -> bool:
        """True for the first who claims *key*; by this process's own memory while the store is away."""
        known = self._memory.claim(key, until)
        claimed = await self._within(self._store.claim(key, until)) if known else False
        return known if claimed is None else claimed

    async def put(self, key: str, value: str, until: float) -> None:
        """Keep the result of what was claimed for others, as far as the store takes it."""
        self._memory.put(key, value, until)
        await self._within(self._store.put(key, value, until))

    async def get(self, key: str) -> str | None:
        """What somebody kept under *key*, or None."""
        value = self._memory.get(key)
        return value if value is not None else await self._within(self._store.get(key))

    async def _within(self, asked: Coroutine[Any, Any, Any]) -> Any:
        """The store's answer, or None when it does not come in the time that a sign-in can wait."""
        try:
            async with asyncio.timeout(SIGN_IN_WAITS_S):
                answer = await asked
        except (LedgerUnavailable, LedgerBroken, TimeoutError) as error:
            self._trouble("claim", f"sign-ins are not shared with other processes: {str(error) or 'no answer in time'}")
        else:
            self._well("claim")
            return answer
        return None

    # ── following the store ────────────────────────────────────────────────────────────────────────────────────────────

    async def _whole(self) -> None:
        """Replay, and examine what is not read meanwhile."""
        for failed in await asyncio.gather(self._store.examine(), self._replay(), return_exceptions=True):
            if failed:
                raise failed

    async def _replay(self) -> None:
        """Apply everything in force from the start; what came meanwhile is read again by :meth:`_follow`."""
        head = await self._store.head()
        async for records, _ in in_force(self._store):
            self._apply(records)
        self._position = head

    async def _follow(self) -> None:
        lost = False
        while True:
            try:
                if lost:
                    await self._restore()
                await self._store.wait(self._position, FOLLOW_S)
                if entries := await self._store.read(self._position, BATCH):
                    self._apply(entry.record for entry in entries)
                    self._position = entries[-1].position
                self._well("follow")
                lost = False
            except LedgerLost as error:
                self._trouble("follow", f"{error}; what is known to be in force is appended again")
                if lost:
                    await asyncio.sleep(RETRY_S)
                lost = True
            except (LedgerUnavailable, LedgerBroken) as error:
                self._trouble("follow", f"revocations by others are not heard of: {error}")
                await asyncio.sleep(HEAR_S)
            except Exception:  # whatever it is, revocations must be heard of again
                log.exception("ledger: a mistake of ours while following")
                self._trouble("follow", "revocations by others are not heard of; the log has more")
                await asyncio.sleep(RETRY_S)

    async def _restore(self) -> None:
        """Other data stands in the store: what we know to be in force is added, and all is read from the start."""
        if records := [record for known in self._knowing for record in known()]:
            await self._store.append(records)
        await self._replay()

    def _apply(self, records: Iterable[Record]) -> None:
        for kind, run in groupby(records, itemgetter(0)):
            together = list(run)
            for take in self._takers.get(kind, self._others) if isinstance(kind, str) else self._others:
                _give(together, take)

    # ── in the background ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _probe(self) -> None:
        """A store that failed is tried again, so that /readyz need not wait for the next revocation to be well."""
        while True:
            await asyncio.sleep(RETRY_S)
            if self._troubles.keys() & _WRITES:
                with suppress(LedgerUnavailable, LedgerBroken):
                    await self._store.put("probe", "", self._clock())
                    for where in _WRITES:
                        self._well(where)

    async def _tidy(self) -> None:
        while True:
            self._standing.forget_ended(self._clock())
            with suppress(LedgerUnavailable, LedgerBroken, LedgerLost):
                await self._trim()
            await asyncio.sleep(HOUR_S)

    async def _remember(self) -> None:
        """What was forgotten as long over, by a clock that was ahead, counts again once it is set back."""
        latest = self._clock()
        while True:
            await asyncio.sleep(RETRY_S)
            if self._clock() < latest - CLOCK_TOLERANCE_S:
                with suppress(LedgerUnavailable, LedgerBroken, LedgerLost):
                    await self._replay()
                    latest = self._clock()
            else:
                latest = self._clock()

    async def _examine(self) -> None:
        """Settings of the store can be changed, and mended, while we run."""
        while True:
            with suppress(LedgerUnavailable, LedgerBroken, LedgerLost):
                if weak := await self._store.problems():
                    self._trouble("store", "; ".join(weak))
                else:
                    self._well("store")
            await asyncio.sleep(EXAMINE_S)

    async def _trim(self) -> None:
        """Once a day, by one of the processes; not where nothing happened for a week: rather is the clock ahead."""
        now = self._clock()
        if await self._store.seek(now - LATELY_S) == await self._store.head():
            return
        if await self._store.claim("trim", now + DAY_S):
            count = 0
            while dropped := await self._store.trim(now - self._retention_s):
                count += dropped
            if count:
                log.info("ledger: %d entries older than `retention` dropped", count)

    def _run(self, *work: Coroutine[Any, Any, None]) -> None:
        self._tasks += [asyncio.create_task(each) for each in work]

    def _trouble(self, where: str, sentence: str) -> None:
        sentence = f"store: {sentence}"
        if self._troubles.get(where) != sentence:
            log.error("ledger: %s", sentence)
        self._troubles[where] = sentence

    def _well(self, where: str) -> None:
        if self._troubles.pop(where, None) and where != "start":
            log.info("ledger: well again (%s)", where)
