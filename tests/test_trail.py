"""What sign-ins, sign-outs and refusals leave in the ledger, and one sign-in for a code whichever process it comes to."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.config import Config
from gateway.ledger import store_at
from gateway.ledger.sqlite import SqliteStore
from gateway.records import Record
from gateway.sandbox import Sandbox
from tests.browser_double import Browser
from tests.conftest import DESKTOP_UA, WECOM_UA, Clock
from tests.ledger.redis_server import running
from tests.patience import PATIENCE_S, within

HOME = "http://localhost:8080/"
LOGOUT = "http://localhost:8080/_wecom/logout"
EXCHANGE = "auth/getuserinfo"

Browse = Callable[..., Browser]
Start = Callable[[Config], Awaitable[Gateway]]
MakeConfig = Callable[..., Config]
Written = Callable[[], Awaitable[list[Record]]]


@pytest.fixture
def written(tmp_path: Path, clock: Clock) -> Written:
    """What stands in the ledger of the test's gateways."""

    async def read() -> list[Record]:
        store = SqliteStore(tmp_path / "ledger.sqlite3", clock)
        await store.open()
        try:
            return [entry.record for entry in await store.read()]
        finally:
            await store.close()

    return read


async def stored(written: Written, kind: str) -> list[Record]:
    """The records of a *kind* once there is one: what is only noted is stored in the background."""
    async with asyncio.timeout(PATIENCE_S):
        while not (found := [record for record in await written() if record.kind == kind]):
            await asyncio.sleep(0.01)
    return found


@asynccontextmanager
async def away(folder: Path) -> AsyncIterator[None]:
    """The store cannot be reached."""
    path = folder / "ledger.sqlite3"
    path.rename(folder / "away")
    yield
    (folder / "away").rename(path)


# ── what is recorded ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", ["wecom", "desktop"])
async def test_a_sign_in_is_recorded(browse: Browse, written: Written, clock: Clock, how: str) -> None:
    """Before the person has the cookie the ledger has who, when, where, from where, with what and how."""
    browser = browse("zhangsan") if how == "wecom" else browse()
    if how == "wecom":
        await browser.open(HOME)
    else:
        await browser.sign_in(HOME, "zhangsan")
    (record,) = await written()

    assert (record.kind, record.at, record.member, record.site) == ("signed-in", clock(), "zhangsan", "default")
    assert (record.address, record.browser) == ("10.0.0.9", WECOM_UA if how == "wecom" else DESKTOP_UA)
    assert (record.details["how"], record.details["name"], record.details["ends"]) == (how, "张三", clock() + 12 * 3600)
    assert record.session


async def test_a_hand_over_is_recorded(browse: Browse, start: Start, make_config: MakeConfig, written: Written) -> None:
    """At the callback host and at the site that the session is handed to: a record each, the second says how."""
    sites = [{"name": "oa", "public_url": "http://localhost:8080"}, {"name": "wiki", "public_url": "http://wiki.internal"}]
    browser = browse("zhangsan", at=await start(make_config(site=sites)))
    await browser.open("http://wiki.internal/")

    records = [(record.site, record.details["how"]) for record in await written()]

    assert records == [("oa", "wecom"), ("wiki", "hand-over")]


@pytest.mark.parametrize("everywhere", [False, True])
async def test_a_sign_out_is_recorded(browse: Browse, gateway: Gateway, written: Written, everywhere: bool) -> None:
    """It is stored when the page comes, with how long the session could have lived."""
    browser = browse("zhangsan")
    await browser.open(HOME)
    session = gateway.live.now.sessions.genuine(browser.session(HOME))
    await browser.post(LOGOUT, {"everywhere": "1"} if everywhere else None)
    record = (await written())[-1]

    assert (record.kind, record.member, record.session) == ("signed-out", "zhangsan", session.id)
    assert dict(record.details) == {"until": session.over, "everywhere": everywhere}


async def test_sign_out_reaches_another_process(browse: Browse, gateway: Gateway, start: Start, make_config: MakeConfig) -> None:
    """A copy of the cookie is refused by another process within a second."""
    other = await start(make_config())
    browser = browse("zhangsan")
    await browser.open(HOME)
    copy = browse("zhangsan", at=other)
    copy.jar = dict(browser.jar)
    assert (await copy.check(HOME)).status == 204
    await browser.post(LOGOUT)

    async def is_refused() -> bool:
        return (await copy.check(HOME)).status != 204

    await within(1, is_refused)
    assert (await copy.check(HOME)).headers["X-WeCom-Reason"] == "signed-out"


async def test_signing_out_with_the_store_away(browse: Browse, written: Written, tmp_path: Path) -> None:
    """It holds here at once, the page says that other devices follow later, and they do."""
    browser, second = browse("zhangsan"), browse("zhangsan")
    await browser.open(HOME)
    await second.open(HOME)
    async with away(tmp_path):
        page = await browser.post(LOGOUT, {"everywhere": "1"})
        shown = await browser.get(page.location)
        refused = await second.check(HOME)

    assert (page.status, refused.status, refused.headers["X-WeCom-Reason"]) == (303, 401, "revoked")
    assert "其他设备会在服务恢复后自动退出" in shown.text
    assert (await stored(written, "signed-out"))[0].details["everywhere"] is True


async def test_signing_in_with_the_store_away(browse: Browse, written: Written, tmp_path: Path) -> None:
    """A sign-in works; its record follows."""
    async with away(tmp_path):
        page = await browse("zhangsan").open(HOME)

    assert page.status == 200
    assert [record.member for record in await stored(written, "signed-in")] == ["zhangsan"]


async def test_refusals_are_recorded_once_a_minute(browse: Browse, written: Written, clock: Clock) -> None:
    """A known member that a rule refuses: once per member, rule and minute; a stranger never."""
    browser = browse("zhangsan")
    await browser.open(HOME)
    for rule in ("user:lisi", "user:lisi", "user:wangwu"):
        await browser.get(HOME, rule=rule)
    clock.advance(60)
    await browser.get(HOME, rule="user:lisi")
    await browse().get(HOME, rule="user:lisi")
    await browse("lisi").open(HOME)  # a record that is stored before its answer: those before it are stored, too
    refused = [record for record in await written() if record.kind == "refused"]

    assert [(record.member, record.rule, record.reason, record.site) for record in refused] == [
        ("zhangsan", "user:lisi", "rule", "default"),
        ("zhangsan", "user:wangwu", "rule", "default"),
        ("zhangsan", "user:lisi", "rule", "default"),
    ]


async def test_a_refused_sign_in_is_recorded(browse: Browse, written: Written, sandbox: Sandbox) -> None:
    """A member whom WeCom has disabled is refused at sign-in, with the reason on record."""
    sandbox.change_member("zhangsan", {"status": 2})
    await browse("zhangsan").open(HOME)
    (record,) = await stored(written, "refused")

    assert (record.member, record.reason, record.address) == ("zhangsan", "disabled", "10.0.0.9")


# ── one sign-in, several processes ─────────────────────────────────────────────────────────────────────────────────


async def twins(browse: Browse, gateway: Gateway, other: Gateway) -> tuple[str, Browser, Browser]:
    """One browser's callback, and that browser at two processes."""
    first, second = browse("zhangsan", at=gateway), browse("zhangsan", at=other)
    callback = await first.bring_code(f"{HOME}report")
    second.jar = dict(first.jar)
    return callback, first, second


@pytest.fixture(params=["sqlite", "redis"])
async def config(request: pytest.FixtureRequest, make_config: MakeConfig, tmp_path: Path) -> AsyncIterator[Config]:
    """Settings on each kind of store."""
    if request.param == "sqlite":
        yield make_config()
        return
    async with running(tmp_path / "redis") as redis:
        yield make_config(store=redis.url)


async def test_the_twin_at_another_process_is_one_sign_in(
    browse: Browse, start: Start, make_config: MakeConfig, config: Config, sandbox: Sandbox, clock: Clock
) -> None:
    """The same callback sent to two processes at once: one exchange, one record, the same session for both."""
    gateway, other = await start(config), await start(replace(config, listen=make_config().listen))
    callback, first, second = await twins(browse, gateway, other)
    sandbox.state.fault(EXCHANGE, kind="slow", seconds=1)
    pages = await asyncio.gather(first.get(callback), second.get(callback))
    ids = {gateway.live.now.sessions.genuine(each.session(HOME)).id for each in (first, second)}
    store = store_at(config.store, config.owner, clock)
    await store.open()
    entries = await store.read()
    await store.close()

    assert [(page.status, page.location) for page in pages] == [(303, f"{HOME}report#")] * 2
    assert (len(ids), sandbox.state.count(EXCHANGE)) == (1, 1)
    assert [entry.record.session for entry in entries if entry.record.kind == "signed-in"] == list(ids)


async def test_the_twin_of_a_failure_fails_alike(
    browse: Browse, gateway: Gateway, start: Start, make_config: MakeConfig, sandbox: Sandbox
) -> None:
    """What refused the first refuses the second for the same reason, without a second question to WeCom."""
    other = await start(make_config())
    sandbox.change_member("zhangsan", {"status": 2})
    callback, first, second = await twins(browse, gateway, other)
    pages = [await first.get(callback), await second.get(callback)]

    assert [(page.status, page.reason) for page in pages] == [(403, "disabled")] * 2
    assert sandbox.state.count(EXCHANGE) == 1


async def test_the_twin_of_one_that_was_revoked_since(
    browse: Browse, gateway: Gateway, start: Start, make_config: MakeConfig, clock: Clock
) -> None:
    """What another process made is not handed out once it is revoked."""
    other = await start(make_config())
    callback, first, second = await twins(browse, gateway, other)
    await first.get(callback)
    await other.live.now.ledger.append(Record("revoked", clock(), "zhangsan"))
    page = await second.get(callback)

    assert (page.status, page.reason) == (403, "revoked")


async def test_the_result_is_for_nobody_else_to_read(
    browse: Browse, gateway: Gateway, start: Start, make_config: MakeConfig, tmp_path: Path
) -> None:
    """What one process leaves the other says nothing to whoever reads the store."""
    callback, first, _ = await twins(browse, gateway, await start(make_config()))
    await first.get(callback)
    claims = b"".join(path.read_bytes() for path in tmp_path.glob("ledger.sqlite3*")).partition(b"code ")[2]

    assert b"zhangsan" not in claims[:2000]


async def test_the_result_is_of_one_sign_in_only(
    browse: Browse, gateway: Gateway, start: Start, make_config: MakeConfig, tmp_path: Path
) -> None:
    """Who can write to the store cannot give one person the session that another's sign-in made."""
    callback, first, second = await twins(browse, gateway, await start(make_config()))
    await first.get(callback)
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite3")) as store, store:
        ((own,),) = store.execute("SELECT key FROM claim WHERE key LIKE 'code %'")
        await browse("lisi").open(HOME)
        ((value,),) = store.execute("SELECT value FROM claim WHERE key LIKE 'code %' AND key <> ?", (own,))
        store.execute("UPDATE claim SET value = ? WHERE key = ?", (value, own))
    page = await second.get(callback)

    assert (page.status, page.reason) == (400, "code-spent")
    assert second.session(HOME) == ""


async def test_twins_with_the_store_away(browse: Browse, gateway: Gateway, tmp_path: Path, sandbox: Sandbox) -> None:
    """Without the store each process still makes one sign-in of a code."""
    first = browse("zhangsan")
    callback = await first.bring_code(HOME)
    async with away(tmp_path):
        pages: list[Any] = await asyncio.gather(first.get(callback), first.get(callback))

    assert [page.status for page in pages] == [303, 303]
    assert sandbox.state.count(EXCHANGE) == 1


async def test_a_hand_over_opens_once_among_processes(
    browse: Browse, start: Start, make_config: MakeConfig, written: Written
) -> None:
    """The same hand-over brought to two processes makes one session at the site."""
    sites = [{"name": "oa", "public_url": "http://localhost:8080"}, {"name": "wiki", "public_url": "http://wiki.internal"}]
    one, two = await start(make_config(site=sites)), await start(make_config(site=sites))
    first, second = browse("zhangsan", at=one), browse("zhangsan", at=two)
    url = "http://wiki.internal/"
    while "handover=" not in url:
        page = await first.get(url, "plain")
        url = page.location
    second.jar = dict(first.jar)
    pages = await asyncio.gather(first.get(url), second.get(url))
    ids = {one.live.now.sessions.genuine(each.session("http://wiki.internal/")).id for each in (first, second)}

    assert [page.status for page in pages] == [303, 303]
    assert len(ids) == 1
    assert [record.details["how"] for record in await written()] == ["wecom", "hand-over"]
