"""The ledger in a real Redis: order, the chain, claims, and a place that is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.ledger import LedgerBroken, LedgerLost, in_force
from gateway.ledger.chain import BEGINNING, digest
from gateway.ledger.redis import RedisStore
from gateway.records import Record
from gateway.redis_url import RedisUrl
from tests.ledger.conftest import PATIENT, members
from tests.ledger.redis_server import RedisServer
from tests.patience import in_time

OWNER = "ww0123456789abcdef:1000002"
STREAM = f"wecom-gateway:{OWNER}:ledger"
LONG_AHEAD_MS = 4_000_000_000_000

Opened = Callable[..., RedisStore]


@pytest.fixture
async def opened(server: RedisServer) -> AsyncIterator[Opened]:
    """Makes stores, each as a process of its own has one."""
    made: list[RedisStore] = []

    def make(url: str = "", owner: str = OWNER) -> RedisStore:
        made.append(RedisStore(RedisUrl.parse(url or server.url), owner, time.time, PATIENT))
        return made[-1]

    yield make
    for store in made:
        await store.close()


def revoked(member: str, at: float = 1_800_000_000.0) -> Record:
    return Record("revoked", at, member=member)


async def test_what_is_appended_is_read_in_order(opened: Opened) -> None:
    """Every process reads the same entries, with the positions and digests that the writer was given."""
    one, other = opened(), opened()
    written = await one.append([revoked("zhangsan"), Record("signed-in", 1_800_000_001.5, member="李四", details={"ends": 7})])

    assert await other.read() == written
    assert await other.read(written[0].position) == written[1:]


async def test_digests_form_a_chain_whoever_writes(opened: Opened) -> None:
    """Fifty records from five processes at once make one chain without a fork."""
    stores = [opened() for _ in range(5)]
    await asyncio.gather(*(store.append([revoked(f"m{n}"), revoked(f"n{n}")]) for n, store in enumerate(stores * 5)))

    entries = await stores[0].read()
    link = BEGINNING
    for entry in entries:
        link = digest(link, entry.record)
        assert entry.digest == link
    assert len({entry.record.member for entry in entries}) == 50


async def test_a_batch_stands_together(opened: Opened) -> None:
    """Nothing of another process comes between the records of one append."""
    stores = [opened() for _ in range(4)]
    await asyncio.gather(*(store.append([revoked(f"{n}a"), revoked(f"{n}b")]) for n, store in enumerate(stores)))

    found = await members(stores[0])
    assert all(first[0] == second[0] for first, second in zip(found[::2], found[1::2], strict=True))


async def test_ids_rise_under_a_clock_that_goes_back(opened: Opened, server: RedisServer) -> None:
    """After entries of a machine whose clock was years ahead, records of the right time come behind them and are read."""
    store = opened()
    first = await store.append([revoked("a", LONG_AHEAD_MS / 1000)])
    second = await store.append([revoked("b", 1_000_000_000.0)])
    await server.do("XSETID", STREAM, f"{LONG_AHEAD_MS * 2}-7")
    third = await store.append([revoked("c")])

    assert await members(store) == ["a", "b", "c"]
    assert await store.read(first[0].position) == second + third


async def test_a_reader_is_woken_by_another_process(opened: Opened) -> None:
    """A reader waits without asking, and hears of an append within a second."""
    one, other = opened(), opened()
    last = (await one.append([revoked("a")]))[0].position
    waiting = asyncio.create_task(other.wait(last, 30))
    await asyncio.sleep(0)
    await one.append([revoked("b")])

    await in_time(waiting, 1)


async def test_waiting_ends_by_itself(opened: Opened) -> None:
    """With nothing new, waiting ends at its time."""
    store = opened()
    head, begun = await store.head(), time.monotonic()
    await in_time(store.wait(head, 0.2), 1)

    assert time.monotonic() - begun > 0.15


@pytest.mark.parametrize(
    "loss",
    [("DEL", STREAM), ("FLUSHALL",), ("XTRIM", STREAM, "MAXLEN", "0")],
    ids=["deleted", "flushed", "trimmed"],
)
async def test_a_lost_place_is_told(opened: Opened, server: RedisServer, loss: tuple[str, ...]) -> None:
    """Who reads on from a place that is gone is told so, and is not left waiting there."""
    store = opened()
    place = (await store.append([revoked("a"), revoked("b")]))[-1].position
    await server.do(*loss)

    await in_time(store.wait(place, 30), 3)
    for read in (store.read, store.in_force):
        with pytest.raises(LedgerLost, match="data lost"):
            await read(place)


async def test_trimming_under_a_reader_is_told(opened: Opened, server: RedisServer) -> None:
    """Who was behind while the stream was cut may have missed entries and is told so; who was not reads on."""
    store = opened()
    first, second = await store.append([revoked("a"), revoked("b")])
    await server.do("XTRIM", STREAM, "MAXLEN", 1)

    with pytest.raises(LedgerLost):
        await store.read(first.position)
    assert await store.read(second.position) == []


async def test_another_entry_with_the_same_id_is_noticed(opened: Opened, server: RedisServer) -> None:
    """After a loss another entry may have the id of the lost one: its digest gives it away."""
    store = opened()
    await store.append([revoked("a", 4e9)])
    lost = (await store.append([revoked("b", 1.0)]))[0]
    kept = (await server.do("XRANGE", STREAM, "-", "+", "COUNT", 1))[0]
    await server.do("DEL", STREAM)
    await server.do("XADD", STREAM, kept[0], *kept[1])
    other = (await store.append([revoked("c", 1.0)]))[0]

    assert other.position.rpartition("-")[0] == lost.position.rpartition("-")[0]
    with pytest.raises(LedgerLost):
        await store.read(lost.position)


async def test_a_writer_goes_on_after_a_loss(opened: Opened, server: RedisServer) -> None:
    """With the stream gone, the next append begins a chain of its own."""
    store = opened()
    await store.append([revoked("a")])
    await server.do("DEL", STREAM)

    entry = (await store.append([revoked("b")]))[0]
    assert entry.digest == digest(BEGINNING, entry.record)


async def test_what_only_tells_is_left_out(opened: Opened) -> None:
    """For the standing only the kinds in force are asked for; the place to go on from stays right."""
    store = opened()
    await store.append([Record("signed-in", 1.0 + n, member="a") for n in range(6000)])
    await store.append([revoked("b"), Record("renewed", 2e9), revoked("c"), Record("renewed", 2e9)])
    found = [page async for page in in_force(store)]
    ahead, place = await store.in_force(found[0][1], limit=1)

    assert [record.member for page, _ in found for record in page] == ["b", "c"]
    assert found[0][0] == []
    assert [record.member for record in ahead] == ["b"]
    assert [record.member for record in (await store.in_force(place, limit=1))[0]] == ["c"]


async def test_reading_in_pieces_gives_all(opened: Opened) -> None:
    """Page after page, nothing is read twice and nothing left out."""
    store = opened()
    written = await store.append([revoked(f"m{n}") for n in range(25)])
    found, place = [], ""
    while page := await store.read(place, limit=10):
        found += page
        place = page[-1].position

    assert found == written


async def test_seeking_leaves_nothing_out(opened: Opened) -> None:
    """Reading from a time on gives every record taken since, also one that came late."""
    store = opened()
    for at, member in ((100.0, "a"), (200.0, "b"), (150.0, "late"), (300.0, "c")):
        await store.append([revoked(member, at)])
    since = await store.read(await store.seek(200.0))

    assert [entry.record.member for entry in since] == ["b", "late", "c"]
    assert await store.seek(0.0) == ""


async def test_a_claim_is_given_once(opened: Opened) -> None:
    """Of all processes one gets what can be had once."""
    stores = [opened() for _ in range(5)]
    until = time.time() + 60
    given = await asyncio.gather(*(store.claim("code", until) for store in stores))

    assert sorted(given) == [False] * 4 + [True]
    assert await stores[0].claim("other", until)


async def test_claims_and_values_end_in_redis_itself(opened: Opened, server: RedisServer) -> None:
    """What is claimed or put is forgotten at its time whether or not anybody asks; a mark stays."""
    store = opened()
    until = time.time() + 60
    await store.claim("a", until)
    await store.put("b", "value", until)
    await store.keep_mark("c", "1-1")
    lives = {key.rpartition(":")[2]: await server.do("PTTL", key) for key in await server.do("KEYS", "*")}
    left = (until - time.time()) * 1000 - 1

    assert await store.get("b") == "value"
    assert await store.get("nothing") is None
    assert lives.keys() == {"a", "b", "c"}
    assert all(left <= lives[key] <= 60_000 for key in "ab")
    assert lives["c"] == -1


async def test_a_mark_is_kept(opened: Opened) -> None:
    """How far a reader has come is known to the next process, and nothing at first."""
    assert await opened().mark("export") == ""
    await opened().keep_mark("export", "5-0")
    assert await opened().mark("export") == "5-0"


async def test_corps_and_prefixes_do_not_mix(opened: Opened, server: RedisServer) -> None:
    """Gateways of several corps on one Redis, or with prefixes of their own, know nothing of each other."""
    stores = [opened(), opened(owner="wwother:1"), opened(f"{server.url}?prefix=stage"), opened(f"{server.url}/1")]
    for number, store in enumerate(stores):
        await store.append([revoked(f"m{number}")])
        assert await store.claim("code", time.time() + 60)

    assert [await members(store) for store in stores] == [["m0"], ["m1"], ["m2"], ["m3"]]


async def test_one_prefix_is_one_companys(opened: Opened, server: RedisServer) -> None:
    """Two companies' members may have the same ids: under a prefix that one has taken, the other's gateway does not start."""
    url = f"{server.url}?prefix=stage"
    for owner in ("ww1:1", "ww1:2"):
        await opened(url, owner).open()

    with pytest.raises(LedgerBroken, match="has the ledger of ww1 under this prefix; give ww2 one of its own"):
        await opened(url, "ww2:1").open()
    await opened(server.url, "ww2:1").open()


@pytest.mark.parametrize(
    "spoil",
    [("XADD", STREAM, "*", "hello", "world"), ("XADD", STREAM, "*", "d", "x", "k", "revoked", "r", "{")],
    ids=["strange fields", "no JSON"],
)
async def test_what_is_not_ours_is_refused(opened: Opened, server: RedisServer, spoil: tuple[str, ...]) -> None:
    """An entry that no gateway wrote is named, not guessed at."""
    store = opened()
    await server.do(*spoil)

    for read in (store.read, store.in_force):
        with pytest.raises(LedgerBroken, match="no record of ours"):
            await read()


@pytest.mark.parametrize("entry", [("hello", "world"), ("d", "x", "k", "revoked", "r", "{")], ids=["strange fields", "no JSON"])
async def test_nothing_is_stored_behind_what_is_not_ours(opened: Opened, server: RedisServer, entry: tuple[str, ...]) -> None:
    """No process would hear of it: to revoke fails, and says what to take out; then all goes on."""
    store, now = opened(), time.time()
    await store.append([revoked("a", now)])
    place = await server.do("XADD", STREAM, "*", *entry)

    with pytest.raises(LedgerBroken, match=f"XDEL: .*{place}"):
        await store.append([revoked("b", now)])
    await server.do("XDEL", STREAM, place)
    await store.append([revoked("b", now)])
    assert [entry.record.member for entry in await store.read()] == ["a", "b"]


async def test_a_key_of_another_kind_is_refused(opened: Opened, server: RedisServer) -> None:
    """Where our key holds something else, the way out is named."""
    await server.do("SET", STREAM, "x")

    with pytest.raises(LedgerBroken, match=r"\?prefix="):
        await opened().open()
