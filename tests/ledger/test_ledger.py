"""The ledger as a process uses it: what is stored is in force here and elsewhere; what cannot be stored is not lost."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.ledger import Ledger, LedgerBroken, LedgerUnavailable, Record
from gateway.ledger.outbox import LIMIT
from gateway.ledger.sqlite import SqliteStore
from gateway.standing import Standing
from tests.conftest import Clock
from tests.patience import PATIENCE_S, in_time, until, within

T = 1_800_000_000.0


@dataclass
class Process:
    """One process's ledger, its standing, and what it was told."""

    ledger: Ledger
    standing: Standing
    heard: list[Record] = field(default_factory=list)

    def blocked(self, user_id: str) -> bool:
        return self.standing.blocked(user_id)


Start = Callable[[], Awaitable[Process]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


@pytest.fixture
async def make(file: Path, clock: Clock) -> AsyncIterator[Callable[[], Process]]:
    """Processes on the same file, not yet started."""
    async with AsyncExitStack() as stack:

        def made() -> Process:
            standing = Standing()
            process = Process(Ledger(SqliteStore(file, clock), standing, clock), standing)
            process.ledger.subscribe(process.heard.append)
            stack.push_async_callback(process.ledger.close)
            return process

        yield made


@pytest.fixture
async def start(make: Callable[[], Process]) -> Start:
    async def started() -> Process:
        process = make()
        await process.ledger.start()
        return process

    return started


@contextmanager
def away(file: Path) -> Iterator[None]:
    """The same file, for a while at another place."""
    file.rename(file.with_suffix(".away"))
    yield
    file.with_suffix(".away").rename(file)


def once(records: list[Record]) -> list[Record]:
    """Each of them where it came first: our own come again in the order of the ledger, or before append has returned."""
    return [each for number, each in enumerate(records) if each not in records[:number]]


def block(user_id: str) -> Record:
    return Record("blocked", T, member=user_id)


class TestFollowing:
    """Every process knows what is in force."""

    async def test_own_at_once(self, start: Start) -> None:
        """What was appended is in force when append returns."""
        process = await start()
        await process.ledger.append(block("lisi"))

        assert process.blocked("lisi")

    async def test_others_within_a_second(self, start: Start) -> None:
        """What another process appended is in force within a second."""
        one, other = await start(), await start()
        await one.ledger.append(block("lisi"))

        await within(1, lambda: other.blocked("lisi"))

    async def test_after_a_start(self, start: Start) -> None:
        """A process that starts later knows everything before it is ready."""
        await (await start()).ledger.append(block("lisi"), block("wangwu"), Record("unblocked", T, member="wangwu"))

        later = await start()

        assert later.blocked("lisi")
        assert not later.blocked("wangwu")

    async def test_a_clock_that_was_ahead(self, start: Start, clock: Clock) -> None:
        """A session that ended stays so: what seemed long over, by a clock a week ahead, counts again once that is set back."""
        one = await start()
        ended = Record("signed-out", T, session="s-1", details={"until": T + 3600})
        await one.ledger.append(ended, Record("revoked", T, site="erp"))
        clock.advance(8 * 86400)
        two = await start()
        await until(lambda: not len(two.standing))
        clock.advance(-8 * 86400)

        await until(lambda: len(two.standing) == len(one.standing) == 2)

    async def test_a_clock_a_year_ahead_drops_nothing(self, start: Start, file: Path, clock: Clock) -> None:
        """Where nothing was recorded for a week, nothing is dropped for its age; once something is, what is old goes."""
        await (await start()).ledger.append(Record("revoked", T, member="lisi"))
        clock.advance(366 * 86400)
        ledger, store = (await start()).ledger, SqliteStore(file, clock)
        await ledger._trim()
        before = await store.read()
        await ledger.append(Record("revoked", clock(), member="zhangsan"))
        await ledger._trim()

        assert [each.record.member for each in before] == ["lisi"]
        assert [each.record.member for each in await store.read()] == ["zhangsan", ""]
        await store.close()

    async def test_the_order_is_that_of_the_ledger(self, start: Start) -> None:
        """Where two processes say opposite things, both end with what was stored last."""
        one, other = await start(), await start()
        for _ in range(5):
            await one.ledger.append(block("lisi"))
            await other.ledger.append(Record("unblocked", T, member="lisi"))
        await one.ledger.append(block("by one"))
        await other.ledger.append(block("by the other"))
        await until(lambda: other.blocked("by one") and one.blocked("by the other"))

        assert not one.blocked("lisi")
        assert not other.blocked("lisi")

    async def test_a_million_sign_ins_are_not_read_at_start(self, start: Start) -> None:
        """At start subscribers hear what is in force, not who signed in when; afterwards they hear everything."""
        first = await start()
        signed_in = Record("signed-in", T, member="lisi")
        await first.ledger.append(signed_in, block("lisi"))
        await until(lambda: signed_in in first.heard)

        assert (await start()).heard == [block("lisi")]

    async def test_a_subscriber_that_fails(self, start: Start, caplog: pytest.LogCaptureFixture) -> None:
        """A record that one subscriber cannot understand reaches the others, as do those after it."""
        process = await start()
        process.ledger.subscribe(lambda record: 1 / 0)
        process.ledger.subscribe(process.heard.append)
        await process.ledger.append(block("lisi"), block("wangwu"))

        assert process.blocked("wangwu")
        assert "record not understood" in caplog.text

    async def test_a_subscriber_of_some_kinds(self, start: Start) -> None:
        """Who names kinds hears of those only; who names none hears of all, subscribed before or after."""
        process, some, every = await start(), list[Record](), list[Record]()
        process.ledger.subscribe(some.append, "unblocked", "held")
        process.ledger.subscribe(every.append)
        records = [block("lisi"), Record("unblocked", T, member="lisi"), Record("invented-later", T)]
        await process.ledger.append(*records)

        assert once(some) == records[1:2]
        assert once(every) == records
        assert once(process.heard) == records

    async def test_a_damaged_entry_stops_a_start(self, make: Callable[[], Process], start: Start, file: Path) -> None:
        """What cannot be understood is no reason to let anybody in: the start ends, and names the entry."""
        first = await start()
        await first.ledger.append(block("lisi"), block("wangwu"), block("zhaoliu"))
        await first.ledger.close()
        with sqlite3.connect(file) as connection:
            connection.execute("UPDATE record SET details = '{' WHERE id = 2")
        connection.close()
        late = make()

        with pytest.raises(LedgerBroken, match="entry 2 is damaged"):
            await late.ledger.start()
        assert not late.ledger.ready

    @pytest.mark.parametrize("revoked", [Record("revoked", T, member="lisi"), Record("revoked", T, site="erp", rule="r")])
    async def test_a_time_that_is_none(self, start: Start, file: Path, revoked: Record, caplog: pytest.LogCaptureFixture) -> None:
        """A record whose time somebody overwrote says nothing, and the log has it; those around it are in force."""
        first = await start()
        around = [Record("revoked", T, member=name) for name in ("wangwu", "zhaoliu")]
        await first.ledger.append(around[0], revoked, around[1])
        await first.ledger.close()
        with sqlite3.connect(file) as connection:
            connection.execute("UPDATE record SET at = 'never' WHERE id = 2")
        connection.close()

        late = await start()

        assert late.heard == [around[0], revoked._replace(at="never"), around[1]]
        assert late.standing.records(T) == around
        assert [entry.args for entry in caplog.records if "not understood" in entry.msg] == [(late.heard[1],)]

    async def test_damage_that_is_not_read_stops_a_start(self, make: Callable[[], Process], start: Start, file: Path) -> None:
        """What only tells what happened is not read at a start; the file is examined all the same."""
        first = await start()
        await first.ledger.append(*(Record("signed-in", T, member=f"m{n}", browser="x" * 900) for n in range(500)), block("lisi"))
        await first.ledger.close()
        with file.open("r+b") as handle:
            handle.seek(file.stat().st_size // 2)
            handle.write(b"\xff" * 8192)
        late = make()

        assert (await late_records(file)) == [block("lisi")]
        with pytest.raises(LedgerBroken, match="is corrupted"):
            await late.ledger.start()
        assert not late.ledger.ready


async def late_records(file: Path) -> list[Record]:
    """What is in force, to somebody who does not examine the file."""
    store = SqliteStore(file, time.time)
    await store.open()
    records, _ = await store.in_force()
    await store.close()
    return records


class TestNote:
    """``note`` never fails and never waits."""

    async def test_in_force_at_once_and_stored_later(self, start: Start) -> None:
        """What was noted is in force here at once and elsewhere soon."""
        one, other = await start(), await start()
        one.ledger.note(block("lisi"))

        assert one.blocked("lisi")
        await until(lambda: other.blocked("lisi"))

    async def test_stored_at_the_end(self, start: Start) -> None:
        """A process that ends stores first what waits."""
        one = await start()
        for number in range(1200):
            one.ledger.note(block(f"member{number}"))
        await one.ledger.close()

        assert (await start()).blocked("member1199")

    async def test_while_the_store_is_away(self, start: Start, file: Path, caplog: pytest.LogCaptureFixture) -> None:
        """While the store is away records wait, and each stands whole in the log, once; then they are stored, in order."""
        one = await start()
        with away(file):
            one.ledger.note(block("lisi"))
            await until(lambda: "records wait" in " ".join(one.ledger.problems))
            one.ledger.note(Record("unblocked", T, member="lisi", browser="张三"))
            assert one.ledger.queued == 2
        await until(lambda: not one.ledger.queued)
        await until(lambda: not one.ledger.problems)

        logged = [line.partition("not stored yet: ")[2] for line in caplog.messages if "not stored yet: " in line]
        expected = [block("lisi"), Record("unblocked", T, member="lisi", browser="张三")]
        assert [Record.of(json.loads(line)) for line in logged] == expected
        assert not (await start()).blocked("lisi")

    async def test_a_queue_that_is_full(self, start: Start, file: Path, caplog: pytest.LogCaptureFixture) -> None:
        """The queue is bounded; what does not fit stands whole in the log, and /readyz says so."""
        one = await start()
        with away(file):
            for number in range(LIMIT + 2):
                one.ledger.note(block(f"member{number}"))

            assert one.ledger.queued == LIMIT
            assert any("2 records are only in the log" in problem for problem in one.ledger.problems)
            assert f"member{LIMIT + 1}" in caplog.text
            assert one.blocked(f"member{LIMIT + 1}")

    async def test_what_cannot_be_written(self, start: Start, caplog: pytest.LogCaptureFixture) -> None:
        """A record that is no JSON goes to the log, and does not hold up the next."""
        one, other = await start(), await start()
        one.ledger.note(Record("held", T, details={"members": object()}))
        one.ledger.note(block("lisi"))
        await until(lambda: other.blocked("lisi"))

        assert "not stored" in caplog.text

    async def test_the_end_while_the_store_is_away(self, start: Start, file: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A process that ends while the store is away leaves what it could not store in the log."""
        one = await start()
        with away(file):
            one.ledger.note(block("lisi"))
            await one.ledger.close()

        assert any("not stored yet" in line and "lisi" in line for line in caplog.messages)


class TestAway:
    """While the store is away, what needs it fails loudly and the rest goes on."""

    async def test_append_fails(self, start: Start, file: Path) -> None:
        """What is not confirmed is not in force, raises, and is counted."""
        one = await start()
        with away(file), pytest.raises(LedgerUnavailable, match="was deleted"):
            await one.ledger.append(block("lisi"))

        assert not one.blocked("lisi")
        assert one.ledger.failures == 1
        assert any("was deleted" in problem for problem in one.ledger.problems)
        await one.ledger.append(block("lisi"))
        assert one.blocked("lisi")

    async def test_claims_by_memory(self, start: Start, file: Path, clock: Clock) -> None:
        """Claims and results are this process's own then; what it claimed before stays claimed."""
        one = await start()
        assert await one.ledger.claim("before", clock() + 60)
        with away(file):
            assert not await one.ledger.claim("before", clock() + 60)
            assert await one.ledger.claim("code", clock() + 60)
            assert not await one.ledger.claim("code", clock() + 60)
            await one.ledger.put("code", "result", clock() + 60)
            assert await one.ledger.get("code") == "result"
            clock.advance(60)
            assert await one.ledger.claim("code", clock() + 60)
            assert await one.ledger.get("other") is None

        assert await one.ledger.claim("another", clock() + 60)
        assert not [problem for problem in one.ledger.problems if "sign-ins" in problem]

    async def test_a_start_waits(self, make: Callable[[], Process], start: Start, file: Path) -> None:
        """A process that starts meanwhile waits and says so, and is ready when the store is back."""
        first = await start()
        await first.ledger.append(block("lisi"))
        await first.ledger.close()
        late, lock = make(), _locked(file)
        starting = asyncio.create_task(late.ledger.start())
        await until(lambda: any("is locked by another process" in problem for problem in late.ledger.problems))

        assert not late.ledger.ready
        lock.close()
        await starting
        assert late.ledger.ready
        assert late.blocked("lisi")

    async def test_a_start_can_be_ended(self, make: Callable[[], Process], start: Start, file: Path) -> None:
        """A process that waits for its ledger can be told to stop."""
        await (await start()).ledger.close()
        late, lock = make(), _locked(file)
        starting = asyncio.create_task(late.ledger.start())
        await until(lambda: any("is locked" in problem for problem in late.ledger.problems))
        starting.cancel()

        await asyncio.wait([starting], timeout=PATIENCE_S)
        lock.close()
        assert starting.cancelled()


def _locked(file: Path) -> sqlite3.Connection:
    """Lock even readers out, as a backup program might that does not know how."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("BEGIN EXCLUSIVE")
    return connection


class TestLost:
    """Another file, with other data, in the place of ours."""

    async def test_what_is_in_force_is_appended_again(self, start: Start, file: Path, caplog: pytest.LogCaptureFixture) -> None:
        """In an empty file in its place, every process writes what it knows to be in force, so that a restart forgets nobody."""
        one = await start()
        await one.ledger.append(
            block("lisi"),
            Record("revoked", T, member="zhangsan"),
            Record("revoked", T, site="erp"),
            Record("signed-out", T, session="s-1", details={"until": T + 3600}),
            Record("revoked", T, session="s-2", details={"until": T + 3600}),
            Record("token-revoked", T, details={"id": "t-1"}),
        )
        for each in file.parent.iterdir():
            each.unlink()
        file.touch()
        await one.ledger.append(block("after"))
        await until(lambda: "appended again" in caplog.text)
        await until(lambda: not one.ledger.problems)

        fresh = (await start()).standing
        assert fresh.blocked("lisi")
        assert fresh.blocked("after")
        assert fresh.token_revoked("t-1")
        assert set(map(str, fresh.records(T))) == set(map(str, one.standing.records(T)))
        assert len(fresh) == len(one.standing) == 7

    async def test_a_file_that_was_cut_short(self, start: Start, file: Path, caplog: pytest.LogCaptureFixture) -> None:
        """With the next record what was in force is there again: nobody goes on with a file that is none."""
        one = await start()
        await one.ledger.append(*(block(f"member{number}") for number in range(200)))
        os.truncate(file, 0)
        one.ledger.note(block("after"))
        await until(lambda: "appended again" in caplog.text)
        await until(lambda: not one.ledger.problems and not one.ledger.queued)

        fresh = await start()
        assert all(fresh.blocked(name) for name in ("member0", "member199", "after"))

    async def test_a_backup_in_its_place(
        self, start: Start, file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An older copy in its place is read, and what it lacks is added."""
        one = await start()
        await one.ledger.append(block("before"))
        await one.ledger.close()
        backup = file.read_bytes()
        two = await start()
        await two.ledger.append(block("after"))
        for each in file.parent.iterdir():
            each.unlink()
        (tmp_path / "copy").write_bytes(backup)
        (tmp_path / "copy").rename(file)
        await two.ledger.append(block("again"))
        await until(lambda: "appended again" in caplog.text)
        await until(lambda: not two.ledger.problems)

        fresh = await start()
        assert all(fresh.blocked(name) for name in ("before", "after", "again"))


async def test_the_log_tells_once(start: Start, file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is wrong with the store is one line in the log, however often it is tried."""
    one = await start()
    caplog.set_level(logging.ERROR)
    with away(file):
        for _ in range(5):
            with pytest.raises(LedgerUnavailable):
                await one.ledger.append(block("lisi"))

    assert len([line for line in caplog.messages if "was deleted" in line and "not heard of" not in line]) == 1


class AwayStore(SqliteStore):
    """Away for *times* readings; ``back`` once one is answered."""

    def __init__(self, file: Path, clock: Clock, times: int) -> None:
        super().__init__(file, clock)
        self.times = times
        self.back = asyncio.Event()

    async def wait(self, after: str, timeout_s: float) -> None:
        if self.times:
            self.times -= 1
            raise LedgerUnavailable("away")
        self.back.set()
        await super().wait(after, timeout_s)


async def test_a_store_that_is_back_is_read_at_once(file: Path, clock: Clock) -> None:
    """Within the second that a confirmed revocation may take everywhere: eight times in vain cost less than eight seconds."""
    store = AwayStore(file, clock, 8)
    ledger = Ledger(store, Standing(), clock)
    await ledger.start()
    await in_time(store.back.wait(), 6)
    await ledger.close()


class BreakingStore(SqliteStore):
    """Its connection breaks at the moment the wait on it is cancelled, and that is all that the waiting hears of."""

    waits = 0

    async def wait(self, after: str, timeout_s: float) -> None:
        self.waits += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if self.waits == 1:
                raise LedgerUnavailable("the connection broke") from None
            raise


async def test_an_end_that_meets_a_broken_connection(file: Path, clock: Clock) -> None:
    """Closing ends, although a connection that broke at the same moment kept the first word of it to itself."""
    store = BreakingStore(file, clock)
    ledger = Ledger(store, Standing(), clock)
    await ledger.start()
    while not store.waits:
        await asyncio.sleep(0)

    async with asyncio.timeout(PATIENCE_S):
        await ledger.close()
