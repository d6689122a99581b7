"""Renewal: the member read again, the cookie signed anew, nobody sent to WeCom; and WeCom down, or the member gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from gateway.app import Gateway
from gateway.config import Config
from gateway.records import Record
from gateway.sandbox import Sandbox
from gateway.session import Session
from tests.browser_double import Browser, Page
from tests.conftest import Clock
from tests.patience import in_time

HOME = "http://localhost:8080/"
REPORT = "http://localhost:8080/report/7?year=2026"
LOGOUT = "http://localhost:8080/_wecom/logout"
SESSION = "wecom_session_8080"
DUE_S = 30 * 60

Browse = Callable[..., Browser]
Start = Callable[[Config], Awaitable[Gateway]]
MakeConfig = Callable[..., Config]


@pytest.fixture
async def browser(browse: Browse, clock: Clock) -> Browser:
    """A member who signed in half an hour ago."""
    browser = browse("zhangsan")
    await browser.open(HOME)
    clock.advance(DUE_S)
    return browser


def session_of(browser: Browser, gateway: Gateway, url: str = HOME) -> Session:
    return gateway.live.now.sessions.genuine(browser.session(url))


def reads(sandbox: Sandbox) -> int:
    return sandbox.state.count("user/get")


def visits(sandbox: Sandbox) -> int:
    return sandbox.state.count("/connect/oauth2/authorize")


async def asked(sandbox: Sandbox) -> None:
    """Wait until WeCom is being asked for the member."""
    while not sandbox.state.counters.running.get("user/get"):
        await asyncio.sleep(0)


# ── when, and what it brings ───────────────────────────────────────────────────────────────────────────────────────


async def test_navigation_renews(browser: Browser, gateway: Gateway, sandbox: Sandbox, clock: Clock) -> None:
    """After half an hour a navigation is one redirect to itself with a fresh cookie, without a visit to WeCom."""
    old, seen = session_of(browser, gateway), visits(sandbox)

    page = await browser.get(REPORT)
    arrived = await browser.get(REPORT)

    new = session_of(browser, gateway)
    assert (page.status, page.location) == (302, REPORT)
    assert (arrived.status, visits(sandbox)) == (200, seen)
    assert (new.id, new.issued, new.renewed, new.read) == (old.id, old.issued, int(clock()), int(clock()))
    assert new.ends == int(clock()) + 12 * 3600


async def test_not_before_it_is_due(browse: Browse, sandbox: Sandbox, clock: Clock) -> None:
    """A second before, nothing happens."""
    browser = browse("zhangsan")
    await browser.open(HOME)
    clock.advance(DUE_S - 1)

    page = await browser.get(REPORT)

    assert (page.status, reads(sandbox)) == (200, 1)


@pytest.mark.parametrize("kind", ["fetch", "frame", "form"])
async def test_others_keep_using_it(browser: Browser, sandbox: Sandbox, clock: Clock, kind: str) -> None:
    """Scripts, frames and forms keep using an ageing session until it ends."""
    ask = browser.submit if kind == "form" else browser.get

    ageing = await ask(REPORT, kind)
    clock.advance(12 * 3600 - DUE_S - 1)
    last, value = await ask(REPORT, kind), browser.session(REPORT)
    clock.advance(1)
    over = await browser.check(REPORT, kind, cookie=f"{SESSION}={value}")

    assert (ageing.status, last.status, reads(sandbox)) == (200, 200, 1)
    assert (over.status, over.headers["X-WeCom-Reason"]) == (401, "expired")


async def test_changes_arrive(browser: Browser, sandbox: Sandbox) -> None:
    """Name and departments are WeCom's of now."""
    sandbox.change_member("zhangsan", {"name": "张三丰", "department": [7], "order": [0], "is_leader_in_dept": [0]})

    page = await browser.open(REPORT)

    assert (page.status, page.headers["X-WeCom-Name"]) == (200, quote("张三丰"))
    assert page.headers["X-WeCom-Departments"] == "7,6,5"


async def test_ceiling(browse: Browse, start: Start, make_config: MakeConfig, clock: Clock, sandbox: Sandbox) -> None:
    """However often it is renewed, a session ends at ``max_lifetime`` after its sign-in, and then WeCom is visited."""
    gateway = await start(make_config(session={"lifetime": "1h", "max_lifetime": "2h"}))
    browser = browse("zhangsan", at=gateway)
    await browser.open(HOME)
    issued = session_of(browser, gateway).issued
    for _ in range(3):
        clock.advance(35 * 60)
        assert (await browser.open(HOME)).status == 200
    value, ends = browser.session(HOME), session_of(browser, gateway).ends
    clock.advance(15 * 60)

    over = await browser.check(HOME, cookie=f"{SESSION}={value}")
    before = visits(sandbox)
    page = await browser.open(HOME)

    assert ends == issued + 2 * 3600
    assert (over.status, over.headers["X-WeCom-Reason"]) == (401, "expired")
    assert (page.status, visits(sandbox)) == (200, before + 1)


async def test_forty_tabs(browser: Browser, sandbox: Sandbox) -> None:
    """Forty tabs due at once read the member once."""
    pages = await asyncio.gather(*(browser.get(f"{HOME}{number}") for number in range(40)))

    assert [page.location for page in pages] == [f"{HOME}{number}" for number in range(40)]
    assert {page.cookies_set[SESSION] for page in pages} == {browser.session(HOME)}
    assert reads(sandbox) == 2


async def test_without_session(browse: Browse, gateway: Gateway) -> None:
    """A refusal as ``renew`` whose session no longer opens is a sign-in."""
    told = {"X-WeCom-Original-Uri": "/report", "X-WeCom-Reason": "renew", "X-WeCom-Session": "forged"}

    page = await browse("zhangsan").page(HOME, "plain", named="/_wecom/login", headers=told)

    assert page.status == 302
    assert "/connect/oauth2/authorize?" in page.location


async def test_cookie_that_does_not_change(browser: Browser, sandbox: Sandbox) -> None:
    """A renewed cookie that twice does not come back ends in the page for lost cookies, not in redirects for ever."""
    old = browser.session(HOME)
    for _ in range(2):
        assert (await browser.get(HOME)).status == 302
        browser.set_session(HOME, old)

    page = await browser.get(HOME)

    assert (page.status, page.reason) == (500, "cookie-lost")


# ── details ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def consenting(browse: Browse, sandbox: Sandbox, gateway: Gateway) -> Browser:
    sandbox.state.switches.auto_consent = True
    browser = browse("zhangsan", at=gateway)
    await browser.open(HOME)
    return browser


async def test_details_are_carried_over(
    browse: Browse, sandbox: Sandbox, start: Start, make_config: MakeConfig, clock: Clock
) -> None:
    """What the member agreed to show at sign-in is still there after a renewal, which cannot ask again."""
    gateway = await start(make_config(scope="snsapi_privateinfo", details=["email", "mobile", "avatar"]))
    browser = await consenting(browse, sandbox, gateway)
    before = await browser.get(HOME)
    clock.advance(DUE_S)

    page = await browser.open(HOME)

    names = ("X-WeCom-Email", "X-WeCom-Mobile", "X-WeCom-Avatar")
    assert [page.headers[name] for name in names] == [before.headers[name] for name in names]
    assert page.headers["X-WeCom-Email"] == "zhangsan@example.com"
    assert sandbox.state.count("auth/getuserdetail") == 1


async def test_details_no_longer_asked_for(
    browse: Browse, sandbox: Sandbox, start: Start, make_config: MakeConfig, clock: Clock
) -> None:
    """What the settings stopped asking for is gone with the next renewal."""
    gateway = await start(make_config(scope="snsapi_privateinfo", details=["email", "mobile"]))
    browser = await consenting(browse, sandbox, gateway)
    await gateway.reload(make_config(scope="snsapi_privateinfo", details=["email"]))
    clock.advance(DUE_S)

    page = await browser.open(HOME)

    assert page.headers["X-WeCom-Email"] == "zhangsan@example.com"
    assert "X-WeCom-Mobile" not in page.headers


# ── WeCom does not answer, or not for the member ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "html"},
        {"kind": "reset"},
        {"kind": "truncated"},
        {"kind": "redirect"},
        {"kind": "hang"},
        {"errcode": -1},
        {"errcode": 60020},
        {"errcode": 40001},
        {"errcode": 45009},
        {"errcode": 48006},
        {"errcode": 50003},
        {"errcode": 301007},
    ],
    ids=lambda fault: str(next(iter(fault.values()))),
)
async def test_put_off(browser: Browser, gateway: Gateway, sandbox: Sandbox, clock: Clock, fault: dict[str, Any]) -> None:
    """When WeCom is down, or refuses the app, whoever is signed in keeps working and is asked again in five minutes."""
    before = session_of(browser, gateway)
    trouble = sandbox.state.fault("user/get", **fault)

    page = await browser.open(REPORT)
    after, asked_by_then = session_of(browser, gateway), reads(sandbox)
    clock.advance(299)
    meanwhile = await browser.get(REPORT)
    sandbox.state.faults.remove(trouble)
    clock.advance(1)
    again = await browser.get(REPORT)

    assert (page.status, meanwhile.status, page.url) == (200, 200, REPORT)
    assert (after.ends, after.issued, after.member) == (before.ends, before.issued, before.member)
    assert (again.status, again.location) == (302, REPORT)
    assert reads(sandbox) == asked_by_then + 1


async def test_wecom_unreachable(browser: Browser, sandbox: Sandbox, gateway: Gateway, make_config: MakeConfig) -> None:
    """The same where nothing listens at WeCom's address."""
    await gateway.reload(make_config(wecom={"api_url": "http://127.0.0.1:9"}))

    page = await browser.open(REPORT)

    assert (page.status, page.url) == (200, REPORT)


async def test_slow_wecom(browser: Browser, sandbox: Sandbox, gateway: Gateway, make_config: MakeConfig) -> None:
    """Nobody waits longer than two seconds for a renewal, whatever the timeout of calls to WeCom."""
    await gateway.reload(make_config(wecom={"timeout": 60}))
    sandbox.state.fault("user/get", kind="slow", seconds=30)

    page = await in_time(browser.open(REPORT), 5)

    assert (page.status, page.url) == (200, REPORT)


async def test_put_off_never_past_the_end(
    browse: Browse, start: Start, make_config: MakeConfig, sandbox: Sandbox, clock: Clock
) -> None:
    """With WeCom down a session still ends when it would have ended."""
    gateway = await start(make_config(session={"lifetime": "40m"}))
    browser = browse("zhangsan", at=gateway)
    await browser.open(HOME)
    ends = session_of(browser, gateway).ends
    sandbox.state.fault("user/get", errcode=60020)
    clock.advance(DUE_S)
    for _ in range(2):
        assert (await browser.open(HOME)).status == 200
        clock.advance(299)
    value = browser.session(HOME)
    last = await browser.check(HOME, "fetch", cookie=f"{SESSION}={value}")
    clock.advance(ends - clock())

    over = await browser.check(HOME, "fetch", cookie=f"{SESSION}={value}")

    assert gateway.live.now.sessions.genuine(value).ends == ends
    assert last.status == 204
    assert (over.status, over.headers["X-WeCom-Reason"]) == (401, "expired")


# ── the member is gone ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"status": 2}, "disabled"),
        ({"status": 4}, "not-activated"),
        ({"status": 5}, "left"),
        ({"department": [8], "order": [0], "is_leader_in_dept": [0]}, "out-of-scope"),
        (None, "out-of-scope"),
    ],
    ids=["disabled", "not activated", "left", "out of scope", "removed"],
)
async def test_gone(
    browser: Browser, browse: Browse, gateway: Gateway, sandbox: Sandbox, change: dict[str, Any] | None, reason: str
) -> None:
    """Who left, was disabled or moved out of the app's scope gets a page that says so; every session of theirs ends."""
    other = browse()
    await other.sign_in(HOME, "zhangsan")
    if change is None:
        sandbox.remove_member("zhangsan")
    else:
        sandbox.change_member("zhangsan", change)

    page = await browser.get(REPORT)
    elsewhere = await other.get(REPORT, "fetch")

    assert (page.status, page.reason) == (403, reason)
    assert page.cookies_set[SESSION] == ""
    assert browser.session(HOME) == ""
    assert (elsewhere.status, elsewhere.reason) == (401, "revoked")
    assert parse_qs(urlsplit(page.links[0]).query)["return_to"] == [REPORT.removeprefix(HOME[:-1])]


@pytest.mark.parametrize("errcode", [60111, 60011])
async def test_both_codes_for_gone(browser: Browser, sandbox: Sandbox, errcode: int) -> None:
    """WeCom has two codes for a member that the app does not see."""
    sandbox.state.switches.unknown_member_errcode = errcode
    sandbox.remove_member("zhangsan")

    page = await browser.get(REPORT)

    assert (page.status, page.reason) == (403, "out-of-scope")


async def test_back_again(browser: Browser, sandbox: Sandbox, clock: Clock) -> None:
    """Who was let in again can sign in again at once."""
    sandbox.change_member("zhangsan", {"status": 2})
    gone = await browser.get(REPORT)
    sandbox.change_member("zhangsan", {"status": 1})
    clock.advance(1)

    page = await browser.open(gone.links[0])

    assert (page.status, page.url) == (200, f"{REPORT}#")


# ── meanwhile ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def renewing(browser: Browser, sandbox: Sandbox) -> asyncio.Task[Page]:
    """A renewal that is waiting for WeCom."""
    sandbox.state.fault("user/get", kind="slow", seconds=1, times=1)
    coming = asyncio.create_task(browser.get(REPORT))
    await asked(sandbox)
    return coming


async def test_revoked_meanwhile(browser: Browser, gateway: Gateway, sandbox: Sandbox, clock: Clock) -> None:
    """A revocation between the reading and the signing wins: no fresh cookie, and the next check says why."""
    old = browser.session(HOME)
    coming = await renewing(browser, sandbox)
    gateway.live.now.standing.revoke("zhangsan", clock())

    page = await coming
    verdict, seen, read = await browser.check(REPORT, "fetch"), visits(sandbox), reads(sandbox)
    clock.advance(1)
    after = await browser.open(page.location)

    assert (page.status, page.location, page.cookies_set) == (302, REPORT, {})
    assert (verdict.status, verdict.headers["X-WeCom-Reason"]) == (401, "revoked")
    assert (after.status, visits(sandbox), reads(sandbox)) == (200, seen + 1, read + 1)
    assert browser.session(HOME) != old


async def test_signed_out_meanwhile(browser: Browser, sandbox: Sandbox) -> None:
    """A sign-out while a renewal waits for WeCom stays a sign-out."""
    coming = await renewing(browser, sandbox)
    await browser.post(LOGOUT)

    page = await coming
    asked_first = await browser.open(page.location)

    assert SESSION not in page.cookies_set
    assert asked_first.says("signed_out.title")


async def test_browser_gone_meanwhile(browser: Browser, sandbox: Sandbox) -> None:
    """A browser that goes away does not stop the renewal; the next request gets its result."""
    coming = await renewing(browser, sandbox)
    coming.cancel()

    page = await browser.open(REPORT)

    assert (page.status, reads(sandbox)) == (200, 2)


async def test_what_the_ledger_holds(browser: Browser, gateway: Gateway, sandbox: Sandbox, clock: Clock) -> None:
    """Each renewal is one record, with the member, the session and its new end; the member who is gone is one ``revoked``."""
    heard: list[Record] = []
    gateway.live.now.ledger.subscribe(heard.append)
    await asyncio.gather(*(browser.get(REPORT) for _ in range(5)))
    session = session_of(browser, gateway)
    clock.advance(DUE_S)
    sandbox.change_member("zhangsan", {"status": 2})
    await browser.get(REPORT)

    (renewed,) = [record for record in dict.fromkeys(map(str, heard)) if "kind='renewed'" in record]
    (revoked,) = [record for record in dict.fromkeys(map(str, heard)) if "kind='revoked'" in record]
    assert all(text in renewed for text in ("'zhangsan'", f"'{session.id}'", f"'ends': {session.ends}"))
    assert all(text in revoked for text in ("'zhangsan'", "'disabled'"))


# ── stale ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def stale(browse: Browse, gateway: Gateway, clock: Clock) -> Browser:
    """A member whose departments have changed since the last reading."""
    browser = browse("zhangsan")
    await browser.open(HOME)
    clock.advance(60)
    gateway.live.now.standing.outdate("zhangsan", clock())
    return browser


async def test_stale_navigation(stale: Browser, sandbox: Sandbox) -> None:
    """What was read before a change is read again at the next navigation, without a visit to WeCom."""
    sandbox.change_member("zhangsan", {"department": [7], "order": [0], "is_leader_in_dept": [0]})
    before = visits(sandbox)

    page = await stale.open(REPORT)

    assert (page.status, page.url, page.headers["X-WeCom-Departments"]) == (200, REPORT, "7,6,5")
    assert visits(sandbox) == before


async def test_stale_script(stale: Browser) -> None:
    """Anything else is told so: an old department must not let it in."""
    page = await stale.get(REPORT, "fetch")

    assert (page.status, page.reason) == (401, "stale")
    assert json.loads(page.text)["reason"] == "stale"


async def test_stale_and_wecom_down(stale: Browser, sandbox: Sandbox) -> None:
    """Where the change cannot be read the page says so, with the way back; the old departments are not used."""
    fault = sandbox.state.fault("user/get", errcode=60020)

    page = await stale.get(REPORT)
    sandbox.state.faults.remove(fault)

    assert (page.status, page.reason) == (503, "wecom-unreachable")
    assert SESSION not in page.cookies_set
    assert (await stale.open(page.links[0])).url == f"{REPORT}#"


def login_url(refused: Page) -> str:
    """Where a script's 401, or the page that a form gets, sends the person."""
    is_json = refused.headers["Content-Type"].startswith("application/json")
    return str(json.loads(refused.text)["login_url"]) if is_json else refused.links[0]


@pytest.mark.parametrize("kind, end", [("fetch", HOME), ("form", "http://localhost:8080/_wecom/done")])
async def test_stale_and_no_navigation(stale: Browser, sandbox: Sandbox, kind: str, end: str) -> None:
    """A script that follows its ``login_url``, and a form's second window, have the member read again: no visit to WeCom."""
    before, refused = visits(sandbox), await stale.submit(REPORT, kind)
    page = await stale.open(login_url(refused))
    again = await stale.submit(REPORT, kind)

    assert (refused.status, page.url, again.status) == (401, end, 200)
    assert visits(sandbox) == before


@pytest.mark.parametrize("kind", ["fetch", "form"])
async def test_a_rule_newer_than_the_session(
    browse: Browse, gateway: Gateway, make_config: MakeConfig, clock: Clock, kind: str
) -> None:
    """So it is where the session did not look at the rule's tag: led back as it is, a script would be refused without end."""
    browser = browse("wangwu")
    await browser.open(HOME)
    await gateway.reload(make_config(tags=[1]))
    clock.advance(1)
    refused = await browser.submit(REPORT, kind, rule="tag:1")
    await browser.open(login_url(refused))

    assert refused.status == 401
    assert (await browser.submit(REPORT, kind, rule="tag:1")).status == 200


async def test_an_account_newer_than_the_session(browse: Browse, gateway: Gateway, make_config: MakeConfig, clock: Clock) -> None:
    """And where it did not look at what the application now knows people by."""
    browser = browse("zhangsan")
    await browser.open(HOME)
    await gateway.reload(make_config(account="extattr:工号"))
    clock.advance(1)
    refused = await browser.submit(REPORT)
    await browser.open(login_url(refused))

    assert refused.status == 401
    assert (await browser.submit(REPORT)).headers["X-WeCom-Account"] == "10001"


async def test_what_stays_unread_ends_the_rounds(
    browse: Browse, gateway: Gateway, make_config: MakeConfig, sandbox: Sandbox, clock: Clock
) -> None:
    """Where the tag cannot be read, a script is led back twice, and then a page says so: no round without end."""
    browser = browse("wangwu")
    await browser.open(HOME)
    clock.advance(60)
    sandbox.state.fault("tag/get", kind="reset")
    await gateway.reload(make_config(tags=[1]))
    pages = []
    for _ in range(4):
        clock.advance(1)
        pages.append(await browser.open(login_url(await browser.get(REPORT, "fetch", rule="tag:1"))))

    assert [page.reason for page in pages] == ["", "", "wecom-unreachable", "wecom-unreachable"]


async def test_given_sessions_are_not_read_again(browse: Browse, gateway: Gateway, clock: Clock, sandbox: Sandbox) -> None:
    """One that an operator gave cannot be: a sign-in is due."""
    browser = browse("zhangsan")
    await browser.open(HOME)
    session = session_of(browser, gateway)
    given = replace(session, renewed=session.ends)
    browser.set_session(HOME, gateway.live.now.sessions.seal(given))
    clock.advance(60)
    gateway.live.now.standing.outdate("zhangsan", clock())
    before, refused = visits(sandbox), await browser.get(REPORT, "fetch")
    page = await browser.open(login_url(refused))

    assert (refused.reason, page.status, visits(sandbox)) == ("stale", 200, before + 1)
