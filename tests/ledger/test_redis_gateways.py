"""Gateways in front of one Redis: what one does the others know; a Redis that is away signs nobody out and forgets nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.app import Gateway
from gateway.config import Config
from gateway.ledger import LedgerUnavailable
from gateway.records import Record
from gateway.sandbox import Sandbox
from tests.browser_double import Browser
from tests.conftest import Clock
from tests.ledger.redis_server import RedisServer, running
from tests.patience import in_time, until, within

HOME = "http://localhost:8080/"
STREAM = "wecom-gateway:{}:ledger"

Start = Callable[[Config], Awaitable[Gateway]]


@pytest.fixture
def config(make_config: Callable[..., Config], server: RedisServer) -> Callable[[], Config]:
    """Settings for one more gateway on the same Redis."""
    return lambda: make_config(store=server.url)


@pytest.fixture
async def gateway(config: Callable[[], Config], start: Start) -> Gateway:
    """The first of them."""
    return await start(config())


async def reason(gateway: Gateway, browser: Browser) -> str:
    """Why the check refuses the browser's session; empty for 204."""
    headers = {"Host": "localhost", "X-WeCom-Session": browser.session(HOME)}
    url = f"http://{gateway.addresses['check']}/_wecom/auth"
    async with browser.http.get(url, headers=headers) as answer:
        assert answer.status in (204, 401)
        return answer.headers.get("X-WeCom-Reason", "")


async def ready(gateway: Gateway) -> dict[str, Any]:
    url = f"http://{gateway.addresses['ops']}/readyz"
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        found: dict[str, Any] = await answer.json()
        return found


@pytest.fixture
async def zhangsan(browse: Callable[..., Browser]) -> Browser:
    """Signed in at the first gateway."""
    browser = browse("zhangsan")
    await browser.open(HOME)
    return browser


@pytest.fixture
async def lisi(browse: Callable[..., Browser]) -> Browser:
    browser = browse("lisi")
    await browser.open(HOME)
    return browser


def revoked(clock: Clock, member: str = "zhangsan") -> Record:
    return Record("revoked", clock(), member=member)


async def test_revoked_through_one_refused_by_the_other(
    config: Callable[[], Config], gateway: Gateway, start: Start, zhangsan: Browser, lisi: Browser, clock: Clock
) -> None:
    """Within a second of a revocation the other gateway refuses the member; the colleague is untouched."""
    other = await start(config())
    assert await reason(other, zhangsan) == ""
    await gateway.live.now.ledger.append(revoked(clock))

    await within(1, lambda: told(other, zhangsan, "revoked"))
    assert await reason(gateway, zhangsan) == "revoked"
    assert [await reason(each, lisi) for each in (gateway, other)] == ["", ""]


async def told(gateway: Gateway, browser: Browser, wanted: str) -> bool:
    return await reason(gateway, browser) == wanted


async def test_with_redis_stopped_who_is_signed_in_stays(
    config: Callable[[], Config],
    gateway: Gateway,
    start: Start,
    zhangsan: Browser,
    lisi: Browser,
    clock: Clock,
    server: RedisServer,
    browse: Callable[..., Browser],
) -> None:
    """Redis gone: both gateways let members in, say what is wrong, refuse to confirm a revocation; a new sign-in works.

    Redis back: what was noted meanwhile is stored, a revocation works, and nothing was restarted.
    """
    other = await start(config())
    await gateway.live.now.ledger.append(revoked(clock, "lisi"))
    await until(lambda: told(other, lisi, "revoked"))
    await server.kill()

    for each in (gateway, other):
        await until(lambda each=each: complains(each, "cannot be reached"))
        assert await reason(each, zhangsan) == ""
        assert await reason(each, lisi) == "revoked"
        with pytest.raises(LedgerUnavailable, match="cannot be reached"):
            await each.live.now.ledger.append(revoked(clock))
    late = browse("wangwu")
    assert (await late.open(HOME)).status == 200
    assert await reason(other, late) == ""

    await server.start()
    await until(lambda: is_well(gateway))
    await until(lambda: is_well(other))
    await gateway.live.now.ledger.append(revoked(clock))
    await within(1, lambda: told(other, zhangsan, "revoked"))
    third = await start(config())
    assert [await reason(third, each) for each in (zhangsan, lisi, late)] == ["revoked", "revoked", ""]
    rows = await server.do("XRANGE", STREAM.format(config().owner), "-", "+")
    assert sum("wangwu" in row[1][5] and row[1][3] == "signed-in" for row in rows) == 1


async def complains(gateway: Gateway, words: str) -> bool:
    return any(words in problem for problem in (await ready(gateway))["problems"])


async def is_well(gateway: Gateway) -> bool:
    return (await ready(gateway))["problems"] == []


async def test_a_hanging_redis_holds_up_no_check_and_no_sign_in(
    gateway: Gateway, zhangsan: Browser, server: RedisServer, browse: Callable[..., Browser]
) -> None:
    """A Redis that answers nothing: checks are answered at once, a sign-in is done in some seconds."""
    server.hold()
    checks = asyncio.gather(*(reason(gateway, zhangsan) for _ in range(20)))
    assert await in_time(checks, 1) == [""] * 20
    assert (await in_time(browse("wangwu").open(HOME), 15)).status == 200
    server.go_on()


@pytest.mark.parametrize("loss", ["FLUSHALL", "restarted empty", "trimmed"])
async def test_a_confirmed_revocation_outlives_the_data(
    config: Callable[[], Config],
    gateway: Gateway,
    start: Start,
    zhangsan: Browser,
    lisi: Browser,
    clock: Clock,
    server: RedisServer,
    loss: str,
) -> None:
    """When Redis forgets what it confirmed, a running gateway writes it in again: one that starts later refuses as well."""
    await gateway.live.now.ledger.append(revoked(clock))
    stream = STREAM.format(config().owner)
    if loss == "FLUSHALL":
        await server.do("FLUSHALL")
    elif loss == "trimmed":
        await server.do("XTRIM", stream, "MAXLEN", 0)
    else:
        server.options = ("--appendonly", "no")
        await server.restart()
    await until(lambda: holds_again(server, stream))

    later = await start(config())
    assert await reason(later, zhangsan) == "revoked"
    assert await reason(later, lisi) == ""


async def holds_again(server: RedisServer, stream: str) -> bool:
    return any(row[1][3] == "revoked" for row in await server.do("XRANGE", stream, "-", "+"))


async def test_a_replica_with_older_data_and_a_slower_clock_takes_over(
    config: Callable[[], Config],
    gateway: Gateway,
    start: Start,
    zhangsan: Browser,
    lisi: Browser,
    clock: Clock,
    server: RedisServer,
    tmp_path: Path,
) -> None:
    """Behind the same address another Redis lacks the last revocations, and gives lower ids: nothing is lost or skipped."""
    other = await start(config())
    stream = STREAM.format(config().owner)
    async with running(tmp_path / "replica", "--replicaof", f"127.0.0.1 {server.port}") as replica:
        await until(lambda: in_step(server, replica, stream))
        await replica.do("REPLICAOF", "NO", "ONE")
        await gateway.live.now.ledger.append(Record("revoked", clock() + 5, member="zhangsan"))
        await until(lambda: told(other, zhangsan, "revoked"))
        await server.do("XSETID", stream, "4000000000000-0")
        await gateway.live.now.ledger.append(Record("stale", clock(), member="nobody"))
        await server.kill()
        await replica.do("CONFIG", "SET", "port", server.port)

        replica.port = server.port
        await until(lambda: holds_again(replica, stream))
        await until(lambda: is_well(gateway))
        await gateway.live.now.ledger.append(revoked(clock, "lisi"))
        await until(lambda: told(other, lisi, "revoked"))
        assert await reason(await start(config()), zhangsan) == "revoked"


async def in_step(server: RedisServer, replica: RedisServer, stream: str) -> bool:
    length = await server.do("XLEN", stream)
    return length > 0 and await replica.do("XLEN", stream) == length


async def test_who_starts_without_redis_waits(
    config: Callable[[], Config], gateway: Gateway, zhangsan: Browser, clock: Clock, server: RedisServer
) -> None:
    """A gateway that starts while Redis is away answers no check, says so, and begins by itself when Redis is there."""
    await gateway.live.now.ledger.append(revoked(clock))
    await server.kill()
    late = Gateway(config(), clock=clock)
    starting = asyncio.create_task(late.__aenter__())
    await until(lambda: listens(late, "ops"))

    found = await ready(late)
    assert not found["ready"]
    assert any("waiting for the ledger" in problem and "cannot be reached" in problem for problem in found["problems"])
    assert "check" not in late.addresses
    await server.start()
    await starting
    assert await reason(late, zhangsan) == "revoked"
    await late.__aexit__(None, None, None)


async def listens(gateway: Gateway, name: str) -> bool:
    return name in gateway.addresses and not (await ready(gateway))["ready"] and len((await ready(gateway))["problems"][0]) > 40


async def test_a_wrong_password_is_said_at_the_start(make_config: Callable[..., Config], tmp_path: Path, clock: Clock) -> None:
    """Where Redis refuses the password, `/readyz` says so while the gateway waits, without the password."""
    async with running(tmp_path / "redis", "--requirepass", "right") as server:
        waiting = Gateway(make_config(store=server.url.replace("//", "//:wrongword@")), clock=clock)
        starting = asyncio.create_task(waiting.__aenter__())
        await until(lambda: listens(waiting, "ops"))
        problems = " ".join((await ready(waiting))["problems"])
        starting.cancel()
        await asyncio.wait([starting])

    assert "does not let us in; look at user and password in store" in problems
    assert "wrongword" not in problems


class TestTokens:
    """The access token is shared through Redis, and nobody reads it there."""

    async def test_one_fetch_for_all(
        self, config: Callable[[], Config], gateway: Gateway, start: Start, sandbox: Sandbox
    ) -> None:
        """Gateways that begin at once fetch one token between them; a later one finds it."""
        several = [gateway, *[await start(config()) for _ in range(2)]]
        tokens = await asyncio.gather(*(each.live.now.wecom.access_token() for each in several))

        assert len({*tokens, await (await start(config())).live.now.wecom.access_token()}) == 1
        assert sandbox.state.count("gettoken") == 1

    async def test_a_copy_of_redis_shows_no_token(
        self, gateway: Gateway, zhangsan: Browser, server: RedisServer, tmp_path: Path
    ) -> None:
        """Neither the app's token nor a session cookie stands in Redis as WeCom or the browser would take it."""
        token = await gateway.live.now.wecom.access_token()
        kept = b"".join(path.read_bytes() for path in (tmp_path / "redis").rglob("*") if path.is_file())

        assert b":cache:wecom:token:" in kept
        assert token.encode() not in kept
        assert zhangsan.session(HOME).encode() not in kept

    async def test_without_redis_each_fetches_its_own(
        self, config: Callable[[], Config], gateway: Gateway, start: Start, sandbox: Sandbox, server: RedisServer
    ) -> None:
        """With Redis away or hanging a process fetches a token for itself, in a few seconds."""
        other = await start(config())
        await server.kill()
        assert await gateway.live.now.wecom.access_token()
        await server.start()
        server.hold()
        assert await in_time(other.live.now.wecom.access_token(), 10)
        server.go_on()

    async def test_with_other_keys_each_fetches_its_own(
        self, make_config: Callable[..., Config], gateway: Gateway, start: Start, server: RedisServer, sandbox: Sandbox
    ) -> None:
        """What a gateway with another signing key has kept is no token to us, and no fault."""
        await gateway.live.now.wecom.access_token()
        other = await start(make_config(store=server.url, signing_keys=["z" * 43]))

        assert await other.live.now.wecom.access_token()
        assert sandbox.state.count("gettoken") == 2
