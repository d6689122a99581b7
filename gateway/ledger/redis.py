"""The ledger in a Redis Stream: several machines, one log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import accumulate, takewhile
from typing import Any

from redis import exceptions as redis

from gateway.ledger import future
from gateway.ledger.chain import BEGINNING, canonical, digest
from gateway.ledger.redis_clients import BOUNDS, Bounds, Clients
from gateway.ledger.redis_faults import told
from gateway.ledger.redis_health import weaknesses
from gateway.ledger.redis_scripts import APPEND, CLAIM, IN_FORCE, READ
from gateway.ledger.retention import SURVIVES, survivors
from gateway.ledger.store import LedgerBroken, LedgerLost, LedgerUnavailable, in_force
from gateway.records import AUDIT_ONLY, Entry, Record
from gateway.redis_url import RedisUrl

SLICE_S = 1.0
"""A reader that waits looks that often whether its place is still there."""

AT_ONCE = 32
"""Commands under way; more of them wait, within the same bound."""

REST_S = 2.0
"""After a call that got no answer, those that a sign-in can do without are not made at all for so long."""

TRIES = 100
"""For one append; each time in vain another process has appended."""

SCAN = 5000
"""Entries that Redis looks at in one step; others wait meanwhile, some 10 ms."""


class RedisStore:
    """A store in the Redis at *url*; its keys begin with ``wecom-gateway:`` and *owner*, or the URL's own prefix.

    A position is the entry's id in the stream and the beginning of its digest: after a loss another entry may have its id.
    """

    def __init__(self, url: RedisUrl, owner: str, clock: Callable[[], float], bounds: Bounds = BOUNDS) -> None:
        self._prefix = f"wecom-gateway:{url.prefix or owner}:"
        self._stream = f"{self._prefix}ledger"
        self._corp_id = owner.partition(":")[0] if url.prefix else ""  # without a prefix of its own every key has it
        self._clock = clock
        self._shown = url.shown
        self._bounds = bounds
        self._clients = Clients(url, bounds)
        self._redis = self._clients.make(answer_s=bounds.answer_s)
        self._waiting = self._clients.make(answer_s=SLICE_S + bounds.answer_s)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._appending = asyncio.Lock()
        self._hung_until = 0.0
        self._last = BEGINNING  # the digest that we believe to stand at the end

    @property
    def address(self) -> str:
        return self._shown

    async def open(self) -> None:
        """Look whether it is there, and ours; the stream comes with the first record."""
        await self.head()
        if self._corp_id:
            await self._owned(self._corp_id)

    async def _owned(self, corp_id: str) -> None:
        found = await self.mark("corp")
        if found not in ("", corp_id):
            raise LedgerBroken(f"{self._shown} has the ledger of {found} under this prefix; give {corp_id} one of its own")
        if not found:
            with suppress(LedgerUnavailable):  # full, or read-only: who only reads can do without
                await self.keep_mark("corp", corp_id)

    async def examine(self) -> None:
        """Redis has looked through its files itself when it started."""

    async def close(self) -> None:
        await self._clients.close()

    async def append(self, records: Sequence[Record]) -> list[Entry]:
        tidied = [record.tidied() for record in records]
        if not tidied:
            return []
        tidied += await self._from_the_future(tidied)
        async with self._asking(), self._appending:
            for _ in range(TRIES):
                self._last, entries = await self._append_after(self._last, tidied)
                if entries:
                    return entries
        raise LedgerUnavailable(f"{self._shown}: others always append first")

    async def _from_the_future(self, records: Sequence[Record]) -> list[Record]:
        """What ends the sessions that *records* do not reach by their time."""
        now, begun = self._clock(), list[Record]()
        if not future.revocations(records) or not await self._reaches(future.since(now)):
            return []
        after = await self.seek(future.since(now))
        try:
            while page := await self.read(after):
                begun += [entry.record for entry in page if entry.record.kind in future.BEGINS]
                after = page[-1].position
        except LedgerLost as error:
            raise LedgerUnavailable(str(error)) from error
        return future.ended(records, begun, now)

    async def _reaches(self, at: float) -> bool:
        """Whether there may be anything taken at *at* or later."""
        async with self._asking():
            last = await self._redis.xrevrange(self._stream, count=1)
            return bool(last) and int(last[0][0].partition("-")[0]) >= at * 1000

    async def head(self) -> str:
        return await self._last_up_to("+")

    async def seek(self, since: float) -> str:
        """No id is below the time of a record before it: see :data:`~gateway.ledger.redis_scripts.APPEND`."""
        return await self._last_up_to(str(max(int(since * 1000) - 1, 0)))

    async def read(self, after: str = "", limit: int = 1000) -> list[Entry]:
        entries: list[Entry] = []
        while (wanted := min(SCAN, limit - len(entries))) > 0:
            async with self._asking():
                page = self._entries(await self._after(after, READ, wanted))
            entries += page
            if len(page) < wanted:
                break
            after = page[-1].position
        return entries

    async def in_force(self, after: str = "", limit: int = 1000) -> tuple[list[Record], str]:
        async with self._asking():
            found = await self._after(after, IN_FORCE, limit, SCAN, *AUDIT_ONLY)
            if not found:
                return [], after
            count, texts, place, link = found
            records = self._records(texts, count, place)
            return records, _position(place, link)

    async def _after(self, after: str, script: str, *words: object) -> Any:
        """What *script* finds after a position."""
        place, _, link = after.rpartition("-")
        found = await self._redis.eval(script, 1, self._stream, place or "0-0", link, *words)
        if found is None:
            raise LedgerLost(f"{self._shown} no longer holds entry {place}: data lost, or an older copy took over")
        return found

    async def wait(self, after: str, timeout_s: float) -> None:
        place = after.rpartition("-")[0] or "0-0"
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        while (slice_s := min(SLICE_S, end - loop.time())) > 0:
            with told(self._shown):
                async with asyncio.timeout(slice_s + self._bounds.call_s):
                    if await self._waiting.xread({self._stream: place}, count=1, block=max(1, int(slice_s * 1000))):
                        return
            if after and await self._is_gone(place, after):
                return

    async def claim(self, key: str, until: float) -> bool:
        async with self._briefly():
            name, now = f"{self._prefix}claim:{key}", self._clock()
            return bool(int(await self._redis.eval(CLAIM, 1, name, now, until, _life_ms(now, until))))

    async def put(self, key: str, value: str, until: float) -> None:
        async with self._briefly():
            life_ms = _life_ms(self._clock(), until)
            _done(await self._redis.set(f"{self._prefix}value:{key}", f"{until} {value}", px=life_ms))

    async def get(self, key: str) -> str | None:
        async with self._briefly():
            until, _, value = (await self._redis.get(f"{self._prefix}value:{key}") or "0").partition(" ")
            return value if float(until) > self._clock() else None

    async def mark(self, name: str) -> str:
        async with self._asking():
            return str(await self._redis.get(f"{self._prefix}mark:{name}") or "")

    async def keep_mark(self, name: str, position: str) -> None:
        async with self._asking():
            _done(await self._redis.set(f"{self._prefix}mark:{name}", position))

    async def trim(self, before: float) -> int:
        for _ in range(TRIES):
            last, dropped = await self._end(), await self._oldest(min(before, self._clock()))
            if not dropped:
                return 0
            old = [entry.record for entry in dropped if entry.record.kind in SURVIVES]
            later = [record async for page, _ in in_force(self, dropped[-1].position) for record in page] if old else []
            details = {"position": dropped[-1].position, "digest": dropped[-1].digest, "count": len(dropped)}
            records = [Record("trimmed", self._clock(), details=details), *survivors(old, later, self._clock())]
            async with self._asking(), self._appending:
                self._last, entries = await self._append_after(last, records, len(dropped))
            if entries:
                return len(dropped)
        raise LedgerUnavailable(f"{self._shown}: others always append while it is trimmed")

    async def problems(self) -> list[str]:
        try:
            async with self._asking():
                return [f"{self._shown}: {weakness}" for weakness in await weaknesses(self._redis)]
        except (LedgerUnavailable, LedgerBroken) as error:
            return [str(error)]

    @asynccontextmanager
    async def _asking(self, longest_s: float = 0.0) -> AsyncIterator[None]:
        """One call, bounded in time."""
        try:
            with told(self._shown):
                async with asyncio.timeout(longest_s or self._bounds.call_s), self._turns:
                    yield
        except LedgerUnavailable as error:
            if isinstance(error.__cause__, (TimeoutError, redis.TimeoutError)):
                self._hung_until = asyncio.get_running_loop().time() + REST_S
            raise

    @asynccontextmanager
    async def _briefly(self) -> AsyncIterator[None]:
        """A call that a sign-in can do without: not made to a server that has just let another one wait in vain."""
        if asyncio.get_running_loop().time() < self._hung_until:
            raise LedgerUnavailable(f"{self._shown} did not answer a moment ago")
        async with self._asking(self._bounds.brief_s):
            yield

    async def _append_after(self, last: str, records: Sequence[Record], drop: int = 0) -> tuple[str, list[Entry]]:
        """Append if *last* is the digest at the end, and *drop* so many of the oldest; gives the digest at the end now."""
        links = list(accumulate(records, digest, initial=last))[1:]
        rows = zip(records, links, strict=True)
        words = (word for record, link in rows for word in (int(record.at * 1000), link, record.kind, canonical(record)))
        ids, end = await self._redis.eval(APPEND, 1, self._stream, last, drop, *words)
        if not ids or end != links[-1]:
            return str(end), []
        return end, [Entry(_position(*each[:2]), each[2], each[1]) for each in zip(ids, links, records, strict=True)]

    async def _oldest(self, before: float) -> list[Entry]:
        """The entries before the first that was taken at or after *before*."""
        return list(takewhile(lambda entry: entry.record.at < before, await self.read(limit=SCAN)))

    async def _last_up_to(self, place: str) -> str:
        found = await self._backwards(place)
        return _position(*found) if found else ""

    async def _end(self) -> str:
        found = await self._backwards("+")
        return found[1] if found else BEGINNING

    async def _backwards(self, place: str) -> tuple[str, str] | None:
        """The id and the digest of the last entry up to *place*."""
        async with self._asking():
            found = await self._redis.xrevrange(self._stream, max=place, count=1)
            return (found[0][0], found[0][1]["d"]) if found else None

    async def _is_gone(self, place: str, position: str) -> bool:
        async with self._asking():
            found = await self._redis.xrange(self._stream, place, place)
            return not found or _position(place, found[0][1]["d"]) != position

    def _entries(self, found: Sequence[Sequence[Any]]) -> list[Entry]:
        """What the script gave: ``[id, ["d", digest, "k", kind, "r", record]]`` each."""
        if not found:
            return []
        texts = ",".join(words[5] if len(words) > 5 else "" for _, words in found)
        records = zip(found, self._records(texts, len(found), found[-1][0]), strict=True)
        return [Entry(_position(place, words[1]), record, words[1]) for (place, words), record in records]

    def _records(self, texts: str, count: int, place: str) -> list[Record]:
        """The *count* records in *texts*, with commas between, the last of which stands at *place*."""
        try:
            found = [Record.of(each) for each in json.loads(f"[{texts}]")]  # at once: a million take seconds
        except (ValueError, TypeError, LookupError) as error:
            raise self._strange(count, place) from error
        if len(found) != count:
            raise self._strange(count, place)
        return found

    def _strange(self, count: int, place: str) -> LedgerBroken:
        where = f"among the {count} entries of {self._stream} up to {place}"
        return LedgerBroken(f"{self._shown}: something {where} is no record of ours; take it out by XDEL")


def _life_ms(now: float, until: float) -> int:
    return max(1, int((until - now) * 1000))


def _done(answer: object) -> bool:
    if answer is not True:
        raise TypeError(f"SET: {answer!r}")
    return True


def _position(place: str, link: str) -> str:
    return f"{place}-{link[:16]}"
