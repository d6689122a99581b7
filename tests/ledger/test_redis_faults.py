"""Redis away, hanging, full, read-only, misconfigured or something else: told in a bounded time, with what to change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.ledger import LedgerBroken, LedgerUnavailable
from gateway.ledger.redis import RedisStore
from gateway.ledger.redis_clients import BOUNDS
from gateway.records import Record
from tests.conftest import free_port
from tests.ledger.conftest import Opened, members
from tests.ledger.redis_server import CLUSTER, RedisServer, running
from tests.patience import in_time, until

RECORD = Record("revoked", 1_800_000_000.0, member="zhangsan")
BOUND_S = BOUNDS.call_s + 1
IN_CLUSTER = (CLUSTER, "yes")


async def test_killed_and_restarted_nothing_confirmed_is_missing(opened: Opened, server: RedisServer) -> None:
    """With appendonly and appendfsync always, what was confirmed the moment before a kill is there after it."""
    store = opened(server.url)
    for number in range(20):
        await store.append([Record("revoked", 1.0, member=f"m{number}")])
        await server.restart()

    assert await members(store) == [f"m{number}" for number in range(20)]


async def test_the_first_call_after_a_restart_succeeds(opened: Opened, server: RedisServer) -> None:
    """Connections that broke meanwhile are replaced; nobody sees an error for them."""
    store = opened(server.url)
    await asyncio.gather(*(store.claim(f"k{number}", time.time() + 60) for number in range(20)))
    await server.restart()

    assert all(await asyncio.gather(*(store.claim(f"l{number}", time.time() + 60) for number in range(20))))


async def test_a_stopped_server_is_told_at_once(opened: Opened, server: RedisServer) -> None:
    """With nothing listening, every call says so, and a reader that waits is woken by it."""
    store = opened(server.url)
    place = (await store.append([RECORD]))[0].position
    waiting = asyncio.create_task(store.wait(place, 30))
    await asyncio.sleep(0.1)
    await server.kill()

    for call in (lambda _: waiting, *CALLS.values()):
        with pytest.raises(LedgerUnavailable, match="cannot be reached"):
            await in_time(call(store), 1)
    assert "cannot be reached" in (await store.problems())[0]


Call = Callable[[RedisStore], Awaitable[object]]
CALLS: dict[str, Call] = {
    "append": lambda store: store.append([RECORD]),
    "read": lambda store: store.read(),
    "wait": lambda store: store.wait("", 30),
    "claim": lambda store: store.claim("a", 1.0),
    "put": lambda store: store.put("a", "b", 1.0),
    "keep_mark": lambda store: store.keep_mark("a", "b"),
}


@pytest.mark.parametrize("connected", [True, False], ids=["connected", "not yet connected"])
async def test_a_hanging_server_holds_nobody_up(opened: Opened, server: RedisServer, connected: bool) -> None:
    """A server that takes connections and answers nothing costs a caller some seconds, not for ever, whatever the call."""
    stores = {name: opened(server.url, BOUNDS) for name in CALLS}
    if connected:
        await asyncio.gather(*(store.open() for store in stores.values()))
    server.hold()
    calls = (in_time(call(stores[name]), BOUND_S) for name, call in CALLS.items())
    told = dict(zip(CALLS, await asyncio.gather(*calls, return_exceptions=True), strict=True))
    server.go_on()

    assert {name for name, error in told.items() if isinstance(error, LedgerUnavailable)} == set(CALLS), told
    assert all("does not answer in time" in str(error) for error in told.values()), told
    await asyncio.gather(*(store.append([RECORD]) for store in stores.values()))


async def test_an_append_that_arrived_after_all_is_not_repeated(opened: Opened, server: RedisServer) -> None:
    """Who got no answer and appends the same again finds it stored, once."""
    store = opened(server.url, BOUNDS)
    await store.append([RECORD])
    server.hold()
    batch = [Record("revoked", 2e9, member=member) for member in ("a", "b", "c")]
    with pytest.raises(LedgerUnavailable):
        await store.append(batch)
    server.go_on()

    entries = await store.append(batch)
    assert await members(store) == ["zhangsan", "a", "b", "c"]
    assert await store.read(entries[0].position) == entries[1:]


async def test_many_callers_of_a_hanging_server_all_hear_in_time(opened: Opened, server: RedisServer) -> None:
    """Two hundred callers at once each get their answer within the bound, not one after the other."""
    store = opened(server.url, BOUNDS)
    server.hold()
    callers = asyncio.gather(*(store.append([RECORD]) for _ in range(200)), return_exceptions=True)
    told = await in_time(callers, BOUND_S + BOUNDS.connect_s)

    assert {type(each) for each in told} == {LedgerUnavailable}


async def test_a_sign_in_does_not_wait_for_a_hanging_server_again_and_again(opened: Opened, server: RedisServer) -> None:
    """After one call in vain, what a sign-in can do without fails at once for a moment."""
    store = opened(server.url, BOUNDS)
    server.hold()
    with pytest.raises(LedgerUnavailable):
        await store.claim("a", time.time() + 60)
    claims = (store.claim(f"k{number}", time.time() + 60) for number in range(100))

    for told in await in_time(asyncio.gather(*claims, return_exceptions=True), 1):
        assert isinstance(told, LedgerUnavailable)
        assert "a moment ago" in str(told)


async def test_a_caller_who_leaves_breaks_nothing(opened: Opened, server: RedisServer) -> None:
    """Who is cancelled in the middle of a call leaves no answer behind for the next to take for its own."""
    store = opened(server.url)
    await store.put("value", "of nobody else", time.time() + 60)
    server.hold()
    asking = asyncio.create_task(store.get("value"))
    await asyncio.sleep(0.05)
    asking.cancel()
    await asyncio.wait([asking])
    server.go_on()

    assert await store.get("other") is None


async def test_a_full_server_takes_no_record_and_still_gives_them(opened: Opened, server: RedisServer) -> None:
    """With maxmemory reached, an append fails and names the setting; reading goes on; with room again it works."""
    store = opened(server.url)
    await store.append([RECORD])
    await server.do("CONFIG", "SET", "maxmemory", "100kb")

    for call in (CALLS["append"], CALLS["claim"]):
        with pytest.raises(LedgerUnavailable, match=r"is full: raise maxmemory.*noeviction"):
            await call(store)
    assert await members(store) == ["zhangsan"]
    assert any("nearly full" in problem for problem in await store.problems())
    await server.do("CONFIG", "SET", "maxmemory", 0)
    await store.append([RECORD])
    assert len(await store.read()) == 2


async def test_a_replica_is_not_written_to(opened: Opened, server: RedisServer, tmp_path: Path) -> None:
    """A read-only replica refuses records and says that store must name the master."""
    async with running(tmp_path / "replica", "--replicaof", f"127.0.0.1 {server.port}") as replica:
        store = opened(replica.url)
        with pytest.raises(LedgerUnavailable, match="read-only replica: store must name the master"):
            await store.append([RECORD])
        with pytest.raises(LedgerUnavailable, match="read-only replica"):
            await store.claim("a", time.time() + 60)

        assert any("read-only replica" in problem for problem in await store.problems())


@pytest.mark.parametrize("login", [":wrong@", "nobody:secret@", ""], ids=["wrong password", "unknown user", "no password"])
async def test_a_wrong_password_is_told_without_it(opened: Opened, tmp_path: Path, login: str) -> None:
    """The message names the setting and holds no password, the wrong one as little as the right one."""
    async with running(tmp_path / "redis", "--requirepass", "the-right-one") as server:
        store = opened(server.url.replace("//", f"//{login}"))
        with pytest.raises(LedgerUnavailable, match="does not let us in; look at user and password in store") as told:
            await store.open()
        await opened(server.url.replace("//", "//:the-right-one@")).append([RECORD])

    assert "wrong@" not in str(told.value)
    assert "wrong" not in store.address


async def test_a_password_where_none_is_set_is_told(opened: Opened, server: RedisServer) -> None:
    """A password for a Redis that has none is a mistake too: anybody else gets in without."""
    with pytest.raises(LedgerUnavailable, match="does not let us in"):
        await opened(server.url.replace("//", "//:secret@")).open()


async def test_a_password_changed_under_us_is_told(opened: Opened, server: RedisServer) -> None:
    """Connections that are open keep working; a new one is refused with the reason."""
    store = opened(server.url)
    await store.append([RECORD])
    await server.do("CONFIG", "SET", "requirepass", "new")
    await server.do("CLIENT", "KILL", "TYPE", "normal", password="new")

    with pytest.raises(LedgerUnavailable, match="look at user and password"):
        await store.append([RECORD])


async def test_a_user_with_too_few_rights_is_told_which(opened: Opened, server: RedisServer) -> None:
    """What the ACL forbids is named as Redis names it."""
    await server.do("ACL", "SETUSER", "gate", "on", ">secret", "~*", "+@read")
    store = opened(server.url.replace("//", "//gate:secret@"))

    with pytest.raises(LedgerUnavailable, match=r"allow it by ACL SETUSER: .*eval"):
        await store.append([RECORD])


async def test_a_user_of_the_ledger_needs_little(opened: Opened, server: RedisServer) -> None:
    """The rights that the README names are enough for everything."""
    rights = "+eval +set +get +del +xadd +xread +xrange +xrevrange +xtrim +xlen +info"
    await server.do("ACL", "SETUSER", "gate", "on", ">secret", "~wecom-gateway:*", *rights.split())
    store = opened(server.url.replace("//", "//gate:secret@"))
    await store.open()
    entry = (await store.append([RECORD]))[0]
    await store.wait(entry.position, 0.1)
    assert await store.claim("a", time.time() + 60)
    await store.put("a", "b", time.time() + 60)
    await store.keep_mark("a", "b")

    assert (await store.get("a"), await store.mark("a"), await store.read()) == ("b", "b", [entry])
    assert await store.in_force() == ([RECORD], entry.position)
    assert any("CONFIG GET is refused" in problem for problem in await store.problems())


async def test_a_loading_server_is_waited_for(opened: Opened, server: RedisServer) -> None:
    """A server that still reads its files says so; it is not taken for one without records."""
    store = opened(server.url)
    await store.append([Record("revoked", 1.0, member=f"m{number}") for number in range(10)])
    await server.kill()
    (log,) = server.folder.glob("appendonlydir/*.incr.aof")
    with log.open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nx\r\n" * 20000)
    server.options += ("--key-load-delay", "400")  # microseconds each; it looks up after a thousand
    starting = asyncio.create_task(server.start())

    async def says_so() -> bool:
        try:
            await store.head()
        except LedgerUnavailable as error:
            return "is still loading its data" in str(error)
        return False

    await until(says_so)
    await server.do("CONFIG", "SET", "key-load-delay", 0)
    await starting
    assert len(await store.read()) == 10


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"+OK\r\n",
        b":1\r\n",
        b"*1\r\n$3\r\nfoo\r\n",
        b"\xff\xfe\x00",
        b"",
    ],
    ids=["http", "OK to everything", "numbers", "lists", "bytes", "closes"],
)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_what_is_no_redis_is_told(opened: Opened, answer: bytes, call: Call) -> None:
    """A stranger's answers are an error of the store's own kind, whatever they are."""

    connections: set[asyncio.StreamWriter] = set()

    async def strange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        with suppress(ConnectionError):
            while answer and await reader.read(10_000):
                writer.write(answer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        connections.discard(writer)

    async with await asyncio.start_server(strange, "127.0.0.1", port := free_port()):
        store = opened(f"redis://127.0.0.1:{port}", BOUNDS)
        try:
            told = f"none: {await call(store)}"
        except (LedgerUnavailable, LedgerBroken) as error:
            told = str(error)
        await store.close()
        await until(lambda: not connections)

    plausible = {(CALLS["claim"], b":1\r\n"), (CALLS["put"], b"+OK\r\n"), (CALLS["keep_mark"], b"+OK\r\n")}
    assert told.startswith(f"redis://127.0.0.1:{port}") or (call, answer) in plausible


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--appendonly", "no"), "appendonly is no"),
        (("--appendfsync", "everysec"), "appendfsync is everysec"),
        (("--no-appendfsync-on-rewrite", "yes"), "no-appendfsync-on-rewrite is yes"),
        (("--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru"), "maxmemory-policy is allkeys-lru"),
        (("--maxmemory", "1gb", "--maxmemory-policy", "volatile-ttl"), "maxmemory-policy is volatile-ttl"),
        (("--rename-command", "CONFIG", ""), "appendfsync cannot be checked"),
        (("--rename-command", "INFO", ""), "INFO is refused"),
        (IN_CLUSTER, "Redis Cluster"),
    ],
    ids=lambda each: " ".join(each[:2]).strip("-") if isinstance(each, tuple) else None,
)
async def test_a_weak_server_is_reported(opened: Opened, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    """What would lose a confirmed record is said with the setting to change, and nothing else is complained of."""
    async with running(tmp_path / "redis", *options) as server:
        problems = await opened(server.url).problems()

    assert len(problems) == 1
    assert said in problems[0]
    assert problems[0].startswith(server.url)


async def test_a_safe_server_is_not_complained_of(opened: Opened, server: RedisServer) -> None:
    """With appendonly yes, appendfsync always and no eviction there is nothing to say."""
    assert await opened(server.url).problems() == []


async def test_a_cluster_is_refused(opened: Opened, tmp_path: Path) -> None:
    """One log cannot be spread over a cluster: a node says that our key belongs elsewhere, and we say what to use."""
    async with running(tmp_path / "one", *IN_CLUSTER) as server, running(tmp_path / "two", *IN_CLUSTER) as other:
        await server.do("CLUSTER", "MEET", "127.0.0.1", other.port, other.bus)
        await other.do("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        await other.do("CLUSTER", "BUMPEPOCH")

        async def is_one() -> bool:
            return "cluster_state:ok" in await server.do("CLUSTER", "INFO")

        await until(is_one)
        with pytest.raises(LedgerBroken, match="is a Redis Cluster"):
            await opened(server.url).append([RECORD])


async def test_a_name_that_does_not_exist_is_told(opened: Opened) -> None:
    """A host that DNS does not know is named in the message."""
    with pytest.raises(LedgerUnavailable, match=r"redis\.invalid.* cannot be reached"):
        await opened("redis://redis.invalid").open()
