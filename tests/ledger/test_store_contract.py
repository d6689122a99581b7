"""What every store of the ledger must do, whatever keeps the data."""

from __future__ import annotations

import asyncio
import itertools
import math

import pytest

from gateway.cli.storing import entries
from gateway.ledger import LedgerLost, Record, Store
from gateway.ledger.chain import BEGINNING, digest, verify
from gateway.records import AUDIT_ONLY, KINDS
from gateway.session import LONGEST_S
from tests.conftest import Clock
from tests.ledger.conftest import Stores
from tests.patience import in_time

T = 1_800_000_000.0
FULL = Record(
    kind="signed-in",
    at=T + 0.125,
    member="ZhangSan",
    session="s-1",
    site="erp",
    address="10.0.0.7",
    browser="Mozilla/5.0 企业微信",
    reason="r",
    rule="department:12",
    details={"ends": 1_800_043_200, "list": [1, {"a": None}], "name": "张三"},
)


def revoked(number: int = 1) -> Record:
    return Record("revoked", T + number, member=f"member{number}")


async def all_of(store: Store) -> list[Record]:
    return [entry.record for entry in await store.read()]


async def test_what_is_appended_is_read_again(store: Store) -> None:
    """A record comes back whole: every field, Chinese, nested details."""
    await store.append([FULL, revoked()])

    assert await all_of(store) == [FULL, revoked()]


async def test_another_process_reads_it(stores: Stores) -> None:
    """What one process appended another reads, in the same order and at the same positions."""
    one, other = await stores(), await stores()
    written = await one.append([revoked(1)]) + await other.append([revoked(2)])

    assert await one.read() == await other.read() == written


async def test_nothing_at_first(store: Store) -> None:
    """A new ledger is empty, and its head is the beginning."""
    assert await store.read() == []
    assert await store.head() == ""


async def test_reading_on(store: Store) -> None:
    """After a position come the entries behind it, *limit* at most; at the head none."""
    written = await store.append([revoked(number) for number in range(5)])

    assert await store.read(written[1].position, 2) == written[2:4]
    assert await store.read(written[3].position, 2) == written[4:]
    assert await store.read(await store.head()) == []
    assert await store.head() == written[-1].position


@pytest.mark.parametrize("kind", KINDS)
async def test_in_force_only(store: Store, kind: str) -> None:
    """What is in force is given whole, in its order; kinds that only tell what happened are left out."""
    await store.append([FULL._replace(kind=kind), Record(kind, T, member="lisi", reason="r"), Record(kind, T, site="erp")])
    expected = [] if kind in AUDIT_ONLY else await all_of(store)

    assert (await store.in_force())[0] == expected


async def test_kinds_of_a_later_release_are_read(store: Store) -> None:
    """A kind that this release does not know is stored and given like any other."""
    await store.append([Record("invented-later", T, details={"also": "new"})])

    assert [record.kind for record in (await store.in_force())[0]] == ["invented-later"]


async def test_in_force_page_by_page(store: Store) -> None:
    """Page after page gives everything in force once, whatever stands between; the position at the end stays where it is."""
    for number in range(7):
        await store.append([Record("signed-in", T), revoked(number), Record("renewed", T), Record("signed-in", T)])
    found, position = [], ""
    while (page := await store.in_force(position, 2))[1] != position:
        assert len(page[0]) <= 2
        found += page[0]
        position = page[1]

    assert [record.member for record in found] == [f"member{number}" for number in range(7)]
    assert await store.in_force(position) == ([], position)
    await store.append([revoked(8)])
    assert (await store.in_force(position))[0] == [revoked(8)]


async def test_in_force_whatever_the_text(store: Store) -> None:
    """Texts with quotation marks, brackets, commas, line ends and NULs come back as they are, one or all of them."""
    odd = '",[]}{\\\n\0张三\x1f'
    texts = ("member", "session", "site", "address", "browser", "reason", "rule")
    records = [Record("revoked", T + 0.123456, **{name: odd}) for name in texts]
    records += [Record("revoked", T, details={odd: [odd]}), Record("revoked", T, **dict.fromkeys(texts, odd), details={"a": odd})]
    await store.append(records)

    assert (await store.in_force())[0] == records


@pytest.mark.parametrize("details", [{}, {"by": "lisi"}], ids=["plain", "with details"])
async def test_in_force_at_the_very_time(store: Store, details: dict[str, str]) -> None:
    """The time of a record is the same to the last bit, as far as clocks tell it; also before 2004 and after 2106."""
    times = [T, T + 0.1234567, math.nextafter(T, 0), math.nextafter(2.0**31, 0), 2.0**32 + 1 / 3, 9e10 + 0.1, 2e11, 1000.25, 0.0]
    await store.append([Record("revoked", at, member="lisi", details=details) for at in times])

    assert [record.at for record in (await store.in_force())[0]] == times


async def test_the_chain(stores: Stores) -> None:
    """Each digest covers the one before and its own record, whichever process appended it."""
    one, other = await stores(), await stores()
    for number in range(3):
        await one.append([revoked(number), FULL])
        await other.append([revoked(number + 10)])

    previous = BEGINNING
    for entry in await one.read():
        assert entry.digest == digest(previous, entry.record)
        previous = entry.digest


async def test_many_writers(stores: Stores) -> None:
    """Records appended at the same time by several processes are all there, once each, in one chain."""
    several = [await stores() for _ in range(4)]
    await asyncio.gather(
        *(store.append([revoked(10 * who + number)]) for number in range(10) for who, store in enumerate(several))
    )

    found = await several[0].read()
    assert sorted(entry.record.at - T for entry in found) == list(range(40))
    assert [digest(before.digest, entry.record) for before, entry in itertools.pairwise(found)] == [
        entry.digest for entry in found[1:]
    ]


async def test_texts_that_no_store_takes(store: Store) -> None:
    """A browser may send anything: broken Unicode, NUL and endless texts are stored as far as they can be."""
    await store.append(
        [Record("signed-in", T, member="a\udc80b", browser="x" * 100_000, reason="nul\0", details={"by": "\ud800"})]
    )

    record = (await all_of(store))[0]
    assert (record.member, len(record.browser), record.reason, record.details) == ("a?b", 1000, "nul\0", {"by": "?"})


async def test_details_that_are_no_json(store: Store) -> None:
    """What cannot be written as JSON is refused, and nothing of its batch is stored."""
    with pytest.raises(ValueError, match="no JSON"):
        await store.append([revoked(), Record("held", T, details={"members": object()})])

    assert await all_of(store) == []


class TestWaiting:
    """``wait`` ends when there is something to read."""

    async def test_for_another_process(self, stores: Stores) -> None:
        """An append by another process is noticed within a second."""
        one, other = await stores(), await stores()
        waiting = asyncio.create_task(one.wait("", 30))
        await asyncio.sleep(0)
        await other.append([revoked()])

        await in_time(waiting, 1)

    async def test_not_where_there_is_something_already(self, store: Store) -> None:
        """What is there already is not waited for."""
        await store.append([revoked()])

        await in_time(store.wait("", 30), 1)

    async def test_in_vain(self, store: Store) -> None:
        """It ends when the time is up."""
        head = (await store.append([revoked()]))[0].position

        await in_time(store.wait(head, 0.05), 5)


@pytest.mark.parametrize("after", ["first", "last"])
async def test_a_position_of_other_data(store: Store, stores: Stores, after: str) -> None:
    """A reader whose place holds something else, or nothing, is told so, never silently given what stands there."""
    written = await store.append([revoked(1), revoked(2)])
    position = written[0 if after == "first" else -1].position
    changed = position[:-1] + ("0" if position[-1] != "0" else "1")

    for read in (store.read, store.in_force):
        with pytest.raises(LedgerLost):
            await read(changed)


class TestSeek:
    """``seek`` finds where a time begins."""

    async def test_finds_the_first_since(self, store: Store) -> None:
        """Nothing taken at or after the time stands before the position, and reading from it starts there."""
        await store.append([revoked(number) for number in (10, 20, 30)])

        assert [entry.record.at - T for entry in await store.read(await store.seek(T + 20))] == [20, 30]
        assert [entry.record.at - T for entry in await store.read(await store.seek(T - 1000))] == [10, 20, 30]
        assert await store.read(await store.seek(T + 1000)) == []


class TestClaims:
    """A claim is for one, wherever it is asked."""

    async def test_the_first_has_it(self, stores: Stores, clock: Clock) -> None:
        """One of several processes gets the claim, until its time is over."""
        several = [await stores() for _ in range(3)]
        got = await asyncio.gather(*(store.claim("code 1", clock() + 60) for store in several for _ in range(3)))
        assert sorted(got) == [False] * 8 + [True]
        clock.advance(59)
        assert not await several[0].claim("code 1", clock() + 60)

        clock.advance(1)
        assert await several[1].claim("code 1", clock() + 60)

    async def test_keys_are_apart(self, store: Store, clock: Clock) -> None:
        """Another key is another claim."""
        assert await store.claim("code 1", clock() + 60)
        assert await store.claim("code 2", clock() + 60)

    async def test_its_result_is_shared(self, stores: Stores, clock: Clock) -> None:
        """What was put for a key is given to every process until its time is over, and to nobody under another key."""
        one, other = await stores(), await stores()
        await one.claim("code 1", clock() + 60)
        assert await other.get("code 1") is None
        await one.put("code 1", "the result", clock() + 60)

        assert await other.get("code 1") == "the result"
        assert await other.get("code 2") is None
        assert not await other.claim("code 1", clock() + 60)
        clock.advance(60)
        assert await other.get("code 1") is None


async def test_marks(stores: Stores) -> None:
    """Each reader's mark is kept for it, also by another process."""
    one, other = await stores(), await stores()
    assert await one.mark("syslog") == ""
    await one.keep_mark("syslog", "1")
    await one.keep_mark("syslog", "2")

    assert await other.mark("syslog") == "2"
    assert await other.mark("another") == ""


class TestTrim:
    """``trim`` drops what is old and nothing depends on; the rest is still a whole chain."""

    @pytest.fixture(autouse=True)
    def much_later(self, clock: Clock) -> None:
        clock.now = T + 10_000

    async def trimmed(self, store: Store, before: float) -> int:
        count = 0
        while dropped := await store.trim(before):
            count += dropped
        return count

    async def test_the_oldest_go(self, store: Store) -> None:
        """What was taken before the time goes, what came later stays, and a record says what went."""
        written = await store.append([revoked(number) for number in range(6)])

        assert await self.trimmed(store, T + 4) == 4
        left = await store.read()
        assert [entry.record for entry in left[:2]] == [revoked(4), revoked(5)]
        assert [entry.record.kind for entry in left[2:]] == ["trimmed"]
        assert left[2].record.details == {"position": written[3].position, "digest": written[3].digest, "count": 4}

    async def test_the_chain_holds_afterwards(self, store: Store) -> None:
        """The chain of what is left is whole, after more records and another trim too."""
        for since in (0, 100):
            await store.append([revoked(since + number) for number in range(10)])
            await self.trimmed(store, T + since + 5)

            assert (await verify(entries(store))).holds

    async def test_what_is_in_force_is_carried_on(self, store: Store, clock: Clock) -> None:
        """A member blocked long ago stays blocked, with the time of the block; again and again."""
        await store.append([Record("blocked", T, member="lisi"), Record("signed-in", T, member="lisi"), revoked()])
        for later in (100, 200, 300):
            clock.now = T + later
            await store.append([revoked(later)])
            assert await self.trimmed(store, T + later)

        blocks = [record for record in await all_of(store) if record.kind == "blocked"]
        assert blocks == [Record("blocked", T, member="lisi", details={"carried": True})]

    async def test_all_of_it(self, store: Store) -> None:
        """A ledger of which everything is old keeps what is in force, and trimming comes to an end."""
        await store.append([Record("blocked", T, member="lisi"), Record("signed-in", T, member="lisi")])

        assert await self.trimmed(store, T + 1000) == 2
        assert sorted(record.kind for record in await all_of(store)) == ["blocked", "trimmed"]
        assert (await verify(entries(store))).holds

    async def test_nothing_old(self, store: Store) -> None:
        """Where nothing is old, nothing changes."""
        written = await store.append([revoked()])

        assert await store.trim(T) == 0
        assert await store.read() == written

    async def test_a_reader_goes_on(self, store: Store) -> None:
        """Who follows is not disturbed: what they had read may go, what comes after their place is read on."""
        place = (await store.append([revoked(number) for number in range(6)]))[-1].position
        await self.trimmed(store, T + 4)

        assert [entry.record.kind for entry in await store.read(place)] == ["trimmed"]

    async def test_a_reader_who_was_away_is_told(self, store: Store) -> None:
        """Who comes back to a place that was trimmed is told, and starts anew."""
        place = (await store.append([revoked(number) for number in range(6)]))[0].position
        await self.trimmed(store, T + 4)

        with pytest.raises(LedgerLost):
            await store.read(place)

    async def test_the_same_by_two_processes(self, stores: Stores) -> None:
        """Two processes that trim at the same time drop each entry once."""
        one, other = await stores(), await stores()
        await one.append([revoked(number) for number in range(10)])

        counts = await asyncio.gather(self.trimmed(one, T + 5), self.trimmed(other, T + 5))

        assert sum(counts) == 5
        assert (await verify(entries(one))).holds


# ── sessions from the future ───────────────────────────────────────────────────────────────────────────────────────────

LATER = T + 7200
"""What the clock said, wrongly, before it was set back to T."""
BEGAN = FULL._replace(at=LATER, session="ahead", details={"issued": int(LATER)})


async def ended(store: Store, *revocations: Record) -> dict[str, float]:
    """The sessions that *revocations* end by their ids, each with the time from which on it is over anyway."""
    stored = [entry.record for entry in await store.append(revocations)]
    assert stored == (await all_of(store))[-len(stored) :]
    assert stored[: len(revocations)] == [*revocations]
    return {record.session: record.details["until"] for record in stored[len(revocations) :] if record.kind == "revoked"}


@pytest.mark.parametrize(
    "revocation",
    [
        Record("revoked", T, member="zhangsan"),
        Record("revoked", T, site="erp"),
        Record("signed-out", T, "zhangsan", "another", "erp", details={"everywhere": True}),
    ],
    ids=["member", "site", "everywhere"],
)
async def test_what_began_before_a_revocation_ends_with_it(store: Store, revocation: Record) -> None:
    """A session begun while the clock was ahead ends by a revocation after it, to the end of its days; so do those it led to."""
    handed = FULL._replace(session="handed", details={"issued": int(LATER), "of": "ahead"})
    link = Record("break-glass", LATER, "zhangsan", "link", "erp", details={"until": LATER + LONGEST_S})
    younger = FULL._replace(session="younger", details={"issued": int(T)})
    await store.append([BEGAN, link, handed, younger])
    strangers = [each._replace(member="lisi", site="wiki", session=f"lisi-{each.session}") for each in (BEGAN, handed)]
    await store.append(strangers)

    assert await ended(store, revocation) == dict.fromkeys(("ahead", "link", "handed"), LATER + LONGEST_S)


@pytest.mark.parametrize(
    "record",
    [
        Record("revoked", T, session="another", details={"member": "zhangsan"}),
        Record("signed-out", T, "zhangsan", "another", "erp", details={"everywhere": False}),
        Record("stale", T, member="zhangsan"),
        Record("revoked", T, member="lisi"),
        Record("revoked", T, site="wiki"),
    ],
    ids=["session", "sign-out", "stale", "colleague", "elsewhere"],
)
async def test_what_ends_nobody_else(store: Store, record: Record) -> None:
    """Only what ends all of the member or of the site ends a session of theirs from the future."""
    await store.append([BEGAN])

    assert await ended(store, record) == {}


async def test_what_begins_after_a_revocation_stays(store: Store, clock: Clock) -> None:
    """A sign-in after it, also by a machine a few seconds ahead, is not ended; nor is one that the record names already."""
    await store.append([FULL._replace(at=T + 5, details={"issued": int(T + 5)})])
    assert await ended(store, Record("revoked", T, member="zhangsan")) == {}
    await store.append([BEGAN])
    named = Record("signed-out", T, "zhangsan", "ahead", "erp", details={"everywhere": True})
    assert await ended(store, named) == {}

    clock.now = LATER
    assert await ended(store, Record("revoked", LATER, member="zhangsan")) == {}


async def test_a_token_issued_before_a_revocation_ends_with_it(store: Store) -> None:
    """Issued while the clock was ahead, it ends with the member it acts for; not with another, nor by a site's revocation."""
    details = {"token": "ci", "id": "t-1", "issued": int(LATER), "ends": LATER + 90 * 86400}
    token = Record("token-issued", LATER, "ZhangSan", site="erp", details=details)
    await store.append([token, token._replace(member="lisi", details={**details, "id": "t-2"})])
    await store.append([Record("revoked", T, site="erp")])
    stored = [entry.record for entry in await store.append([Record("revoked", T, member="zhangsan", reason="left")])]

    assert [(record.kind, record.details.get("id")) for record in stored] == [("revoked", None), ("token-revoked", "t-1")]
