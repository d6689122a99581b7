"""The way back from WeCom: which browser, which sign-in, which code; and the same one twice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest

from gateway.app import Gateway
from gateway.config import Config
from gateway.sandbox import Sandbox
from tests.browser_double import Browser, Page
from tests.conftest import Clock

HOME = "http://localhost:8080/"
REPORT = "http://localhost:8080/report/7?year=2026"
LOGOUT = "http://localhost:8080/_wecom/logout"
SESSION = "wecom_session_8080"
EXCHANGE = "auth/getuserinfo"

Browse = Callable[..., Browser]
Start = Callable[[Config], Awaitable[Gateway]]
MakeConfig = Callable[..., Config]


def leads_to(page: Page, url: str) -> bool:
    """Whether the page's one way on is to sign in anew and then go to *url*."""
    (link,) = page.links
    query = {"return_to": [url.removeprefix(HOME[:-1])], "again": ["1"]}
    return urlsplit(link).path == "/_wecom/login" and parse_qs(urlsplit(link).query) == query


def code_of(callback: str) -> str:
    return parse_qs(urlsplit(callback).query)["code"][0]


def without_code(callback: str, **query: str) -> str:
    path = callback.partition("?")[0]
    return f"{path}?{urlencode(query)}"


async def asked(sandbox: Sandbox, path: str) -> None:
    """Wait until WeCom was asked."""
    while not sandbox.state.counters.running.get(path):
        await asyncio.sleep(0)


# ── the result ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_session_cookie(browse: Browse) -> None:
    """The session cookie is HttpOnly, SameSite=Lax, for the whole host, and lasts as long as the session."""
    browser = browse("zhangsan")

    await browser.open(HOME)

    cookie = browser.cookie(SESSION)
    assert (cookie.path, cookie.attributes["httponly"], cookie.attributes["samesite"]) == ("/", True, "Lax")
    assert (cookie.attributes["max-age"], cookie.attributes["domain"]) == (str(12 * 3600), "")


async def test_sign_in_cookie_stays_on_its_path(browse: Browse) -> None:
    """The sign-in in progress travels to its own callback and nowhere else."""
    browser = browse("zhangsan")

    callback = await browser.bring_code(REPORT)

    assert browser.names(callback) == {"wecom_signin", "wecom_browser"}
    assert browser.names(REPORT) == {"wecom_browser"}
    assert browser.cookie("wecom_signin").attributes["httponly"] is True


async def test_secure_cookies(browse: Browse, start: Start, make_config: MakeConfig, sandbox: Sandbox) -> None:
    """On https every cookie is Secure, and those for the whole host carry the ``__Host-`` prefix."""
    sandbox.state.app.oauth_domain = "oa.example.com"
    gateway = await start(make_config(site=[{"name": "oa", "public_url": "https://oa.example.com"}]))
    browser = browse("zhangsan", at=gateway)

    page = await browser.open("https://oa.example.com/x")

    ours = {cookie.name: cookie.secure for cookie in browser.jar.values() if "wecom" in cookie.name}
    assert page.status == 200
    assert ours == {
        "__Host-wecom_session": True,
        "__Host-wecom_browser": True,
        "__Host-wecom_rounds": True,
        "__Secure-wecom_signin": True,
    }


async def test_cookie_for_a_parent_domain(browse: Browse, start: Start, make_config: MakeConfig, sandbox: Sandbox) -> None:
    """With ``cookie_domain`` only the session goes to the whole domain."""
    sandbox.state.app.oauth_domain = "oa.example.com"
    site = {"name": "oa", "public_url": "https://oa.example.com", "cookie_domain": "example.com"}
    gateway = await start(make_config(site=[site]))
    browser = browse("zhangsan", at=gateway, cookie_names={"oa.example.com": "__Secure-wecom_session"})

    page = await browser.open("https://oa.example.com/x")

    assert page.status == 200
    assert browser.cookie("__Secure-wecom_session").host == ".example.com"
    assert browser.cookie("__Host-wecom_browser").host == "oa.example.com"


# ── the state ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("state", ["short", "a" * 31 + "-", "a" * 33, "%00" * 32, "é" * 32])
async def test_no_state_of_ours(browse: Browse, sandbox: Sandbox, state: str) -> None:
    """A path that is no state of ours is refused before anything is read."""
    page = await browse().get(f"http://localhost:8080/_wecom/callback/{quote(state, safe='%')}?code=x&state=x", "plain")

    assert (page.status, page.reason) == (400, "bad-request")
    assert sandbox.state.count(EXCHANGE) == 0


async def test_state_missing(browse: Browse) -> None:
    """A callback without a state is no page at all."""
    page = await browse().get("http://localhost:8080/_wecom/callback/?code=x", "plain")

    assert page.status == 404
    assert page.says("not_found.title")


async def test_state_of_the_query_differs(browse: Browse) -> None:
    """The state that WeCom appended must be the one of the path."""
    browser = browse("zhangsan")
    callback = await browser.bring_code(HOME)

    page = await browser.get(without_code(callback, code=code_of(callback), state="b" * 32))

    assert (page.status, page.reason) == (400, "bad-request")
    assert SESSION not in page.cookies_set


async def test_foreign_state(browse: Browse, sandbox: Sandbox) -> None:
    """The callback of another browser's sign-in, with its good code, signs nobody in; the code stays unspent."""
    victim, attacker = browse("zhangsan"), browse("lisi", address="10.0.0.66")
    await victim.bring_code(HOME)
    callback = await attacker.bring_code(HOME)

    page = await victim.get(callback)

    assert (page.status, page.reason) == (400, "no-cookie")
    assert SESSION not in page.cookies_set
    assert sandbox.state.count(EXCHANGE) == 0
    assert (await attacker.open(callback)).status == 200


async def test_planted_sign_in(browse: Browse, sandbox: Sandbox) -> None:
    """A sign-in cookie planted together with its callback is bound to another browser's nonce: no sign-in as the planter."""
    victim, attacker = browse("zhangsan"), browse("lisi", address="10.0.0.66")
    await victim.bring_code(HOME)
    callback = await attacker.bring_code(REPORT)
    planted = attacker.cookie("wecom_signin")
    victim.put(HOME, planted.name, planted.value, planted.path)

    page = await victim.get(callback)

    assert (page.status, page.reason) == (400, "other-browser")
    assert leads_to(page, REPORT)
    assert sandbox.state.count(EXCHANGE) == 0


async def test_cookie_of_another_sign_in(browse: Browse) -> None:
    """The cookie of one sign-in does not open the callback of another."""
    browser = browse("zhangsan")
    first = await browser.bring_code(HOME)
    other = browser.cookie("wecom_signin")
    browser.jar.pop((other.host, other.path, other.name))
    second = await browser.bring_code(REPORT)
    path = urlsplit(second).path
    browser.put(HOME, "wecom_signin", other.value, path)

    page = await browser.get(second)

    assert urlsplit(first).path != path
    assert (page.status, page.reason) == (400, "other-browser")


@pytest.mark.parametrize("value", ["garbage", "a.b", "", "W10.x"], ids=["garbage", "two parts", "empty", "no signature"])
async def test_forged_sign_in(browse: Browse, value: str) -> None:
    """A sign-in cookie that we did not sign is none."""
    browser = browse("zhangsan")
    callback = await browser.bring_code(HOME)
    browser.put(HOME, "wecom_signin", value, urlsplit(callback).path)

    page = await browser.get(callback)

    assert (page.status, page.reason) == (400, "other-browser" if value else "no-cookie")
    assert SESSION not in page.cookies_set


async def test_another_browser(browse: Browse, sandbox: Sandbox) -> None:
    """The callback's address opened by another browser signs nobody in there."""
    callback = await browse("zhangsan").bring_code(REPORT)

    page = await browse().get(callback)

    assert (page.status, page.reason) == (400, "no-cookie")
    assert leads_to(page, "/")
    assert sandbox.state.count(EXCHANGE) == 0


async def test_another_browser_that_is_signed_in(browse: Browse) -> None:
    """A browser that is signed in already goes to its own first page and stays who it was."""
    callback = await browse("zhangsan").bring_code(REPORT)
    other = browse()
    await other.sign_in(HOME, "lisi")
    before = other.session(HOME)

    page = await other.get(callback)

    assert (page.status, page.location) == (303, HOME)
    assert other.session(HOME) == before


async def test_just_in_time(browse: Browse, clock: Clock) -> None:
    """A scan a second before ten minutes are over is in time."""
    browser = browse()
    page = await browser.open(REPORT)
    qr = await browser.get(page.url)
    clock.advance(300)
    qr = await browser.get(page.url)
    clock.advance(299)

    assert (await browser.scan(qr, "lisi")).url == REPORT


async def test_older_than_ten_minutes(browse: Browse, clock: Clock, sandbox: Sandbox) -> None:
    """A sign-in older than ten minutes is told so, and starts again for the page first asked for."""
    browser = browse()
    page = await browser.open(REPORT)
    clock.advance(600)
    qr = await browser.get(page.url)

    late = await browser.scan(qr, "lisi")

    assert (late.status, late.reason) == (400, "sign-in-expired")
    assert leads_to(late, REPORT)
    assert sandbox.state.count(EXCHANGE) == 0
    assert (await browser.sign_in(late.links[0], "lisi")).url == REPORT


async def test_older_than_the_cookie(browse: Browse, clock: Clock) -> None:
    """After an hour nothing of a sign-in is left in the browser; whoever scans then reads that it took too long."""
    browser = browse("zhangsan")
    callback = await browser.bring_code(REPORT)
    clock.advance(3600)

    page = await browser.get(callback)

    assert (page.status, page.reason) == (400, "sign-in-expired")
    assert browser.names(callback) == set()


async def test_other_port_of_the_host(browse: Browse, start: Start, make_config: MakeConfig) -> None:
    """Cookies ignore ports, we do not: a callback opened at the other site of the same host is refused there."""
    sites = [{"name": "oa", "public_url": "http://localhost:8080"}, {"name": "erp", "public_url": "http://localhost:8081"}]
    browser = browse("zhangsan", at=await start(make_config(site=sites)))
    callback = await browser.bring_code(HOME)

    page = await browser.get(callback.replace(":8080", ":8081", 1))

    assert (page.status, page.reason) == (400, "other-browser")
    assert page.cookies_set == {}


# ── the code ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_cancelled_at_the_phone(browse: Browse) -> None:
    """Whoever cancels comes back without a code, is told so and can try again."""
    browser = browse()

    page = await browser.cancel(await browser.open(REPORT))

    assert (page.status, page.reason) == (400, "no-code")
    assert leads_to(page, REPORT)


async def test_code_used(browse: Browse, sandbox: Sandbox, gateway: Gateway) -> None:
    """A code that somebody else has spent is refused by WeCom, and so is the sign-in."""
    browser = browse("zhangsan")
    callback = await browser.bring_code(REPORT)
    await gateway.live.now.wecom.exchange(code_of(callback))

    page = await browser.get(callback)

    assert (page.status, page.reason) == (400, "code-spent")
    assert leads_to(page, REPORT)
    assert SESSION not in page.cookies_set


async def test_code_expired(browse: Browse, clock: Clock) -> None:
    """A code lives five minutes."""
    browser = browse("zhangsan")
    callback = await browser.bring_code(HOME)
    clock.advance(300)

    page = await browser.get(callback)

    assert (page.status, page.reason) == (400, "code-spent")


@pytest.mark.parametrize(
    "code", ["%00", "a%20b", "%E5%BC%A0", "x" * 600, "made-up"], ids=["NUL", "blank", "Chinese", "long", "made up"]
)
async def test_code_made_up(browse: Browse, code: str) -> None:
    """What is no code gives no session, whatever it is made of."""
    browser = browse("zhangsan")
    callback = await browser.bring_code(HOME)

    page = await browser.get(f"{callback.partition('?')[0]}?code={code}")

    assert (page.status, page.reason) == (400, "code-spent")


async def test_code_of_another_app(browse: Browse, sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """A code that belongs to another app's domain is the operator's mistake: the page says so, the log says what to change."""
    browser = browse("zhangsan")
    callback = await browser.bring_code(HOME)
    sandbox.state.codes[code_of(callback)].domain = "attendance.example.com"

    page = await browser.get(callback)

    assert (page.status, page.reason) == (503, "wecom-setup")
    assert "trusted domain" in caplog.text
    assert SESSION not in page.cookies_set


async def test_brake(browse: Browse, start: Start, make_config: MakeConfig, sandbox: Sandbox, clock: Clock) -> None:
    """After a set number of bad codes in a minute no code is exchanged until the minute is over: WeCom would ban us all."""
    gateway = await start(make_config(wecom={"bad_codes_per_minute": 3}))
    browser = browse("zhangsan", at=gateway)
    for number in range(3):
        attacker = browse("lisi", at=gateway, address=f"10.0.1.{number}")
        bad = await attacker.bring_code(HOME)
        assert (await attacker.get(without_code(bad, code=f"made-up-{number}"))).reason == "code-spent"
    callback = await browser.bring_code(REPORT)

    paused = await browser.get(callback)
    asked_meanwhile = sandbox.state.count(EXCHANGE)
    clock.advance(61)
    page = await browser.open(paused.links[0])

    assert (paused.status, paused.reason) == (503, "paused")
    assert asked_meanwhile == 3
    assert (page.status, page.url) == (200, f"{REPORT}#")


async def test_brake_of_one_address(browse: Browse, start: Start, make_config: MakeConfig, sandbox: Sandbox) -> None:
    """A script that makes up codes stops its own address, and nobody else's sign-in."""
    gateway = await start(make_config(wecom={"bad_codes_per_minute": 8}))
    browser, attacker = browse("zhangsan", at=gateway), browse("lisi", at=gateway, address="10.0.0.66")
    bad = await attacker.bring_code(HOME)

    reasons = [(await attacker.get(without_code(bad, code=f"made-up-{number}"))).reason for number in range(20)]

    assert reasons == ["code-spent"] * 2 + ["paused"] * 18
    assert sandbox.state.count(EXCHANGE) == 2
    assert (await browser.open(REPORT)).status == 200


# ── the same callback twice ────────────────────────────────────────────────────────────────────────────────────────


async def test_two_at_once(browse: Browse, sandbox: Sandbox) -> None:
    """A callback opened twice at the same time is one sign-in, and both answers bring the cookie."""
    browser = browse("zhangsan")
    callback = await browser.bring_code(REPORT)
    sandbox.state.fault(EXCHANGE, kind="slow", seconds=1)

    first, second = await asyncio.gather(browser.get(callback), browser.get(callback))

    assert (first.status, second.status) == (303, 303)
    assert first.cookies_set[SESSION] == second.cookies_set[SESSION]
    assert sandbox.state.count(EXCHANGE) == 1


async def test_first_connection_closed(browse: Browse, sandbox: Sandbox) -> None:
    """A client that drops its first callback and sends it again (Android does) is signed in by the second."""
    browser = browse("zhangsan")
    callback = await browser.bring_code(REPORT)
    sandbox.state.fault(EXCHANGE, kind="slow", seconds=1)
    first = asyncio.create_task(browser.get(callback))
    await asked(sandbox, EXCHANGE)
    first.cancel()

    page = await browser.open(callback)

    assert first.cancelled()
    assert (page.status, page.url) == (200, f"{REPORT}#")
    assert sandbox.state.count(EXCHANGE) == 1


async def test_browser_gone(browse: Browse, sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """A browser that goes away while WeCom is asked leaves no error behind, and finds its sign-in done when it returns."""
    browser = browse("zhangsan")
    callback = await browser.bring_code(REPORT)
    sandbox.state.fault(EXCHANGE, kind="slow", seconds=1)
    gone = asyncio.create_task(browser.get(callback))
    await asked(sandbox, EXCHANGE)
    gone.cancel()
    with caplog.at_level(logging.INFO):
        while "signed-in zhangsan" not in caplog.text:
            await asyncio.sleep(0.01)

    page = await browser.open(callback)

    assert (page.status, page.url) == (200, f"{REPORT}#")
    assert sandbox.state.count(EXCHANGE) == 1
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_again_within_a_minute(browse: Browse, sandbox: Sandbox) -> None:
    """Reload or Back within a minute gives the first result, even where the first cookie got lost."""
    browser = browse("zhangsan")
    callback = await browser.bring_code(REPORT)
    await browser.get(callback)
    browser.drop(HOME, SESSION)

    page = await browser.open(callback)

    assert (page.status, page.url) == (200, f"{REPORT}#")
    assert sandbox.state.count(EXCHANGE) == 1


async def test_again_after_a_minute(browse: Browse, sandbox: Sandbox, clock: Clock) -> None:
    """Later a browser that is signed in goes to that sign-in's page, and WeCom is not asked."""
    browser = browse("zhangsan")
    callback = await browser.bring_code(REPORT)
    await browser.open(callback)
    clock.advance(61)

    page = await browser.get(callback)

    assert (page.status, page.location) == (303, f"{REPORT}#")
    assert sandbox.state.count(EXCHANGE) == 1


async def test_again_after_a_minute_without_session(browse: Browse, clock: Clock) -> None:
    """Without a session the same address is a page that explains and starts anew."""
    browser = browse("zhangsan")
    callback = await browser.bring_code(REPORT)
    await browser.open(callback)
    browser.drop(HOME, SESSION)
    clock.advance(61)

    page = await browser.get(callback)

    assert (page.status, page.reason) == (400, "code-spent")
    assert leads_to(page, REPORT)


async def test_another_tab_was_quicker(browse: Browse, sandbox: Sandbox, clock: Clock) -> None:
    """A sign-in that another tab made needless goes to its own page and leaves its code unspent."""
    browser = browse("zhangsan")
    callback = await browser.bring_code(REPORT)
    clock.advance(1)
    await browser.open(HOME)

    page = await browser.get(callback)

    assert (page.status, page.location, page.cookies_set) == (303, f"{REPORT}#", {})
    assert sandbox.state.count(EXCHANGE) == 1


async def test_reload_of_a_sign_in_anew(browse: Browse, clock: Clock) -> None:
    """The callback of a sign-in anew, reloaded after a minute, goes to its page too: the session at hand is its own."""
    browser = browse("zhangsan")
    await browser.open(HOME)
    callback = await browser.bring_code("http://localhost:8080/_wecom/enter?to=/orders")
    await browser.open(callback)
    clock.advance(61)

    page = await browser.get(callback)

    assert (page.status, page.location) == (303, "http://localhost:8080/orders#")


async def test_failed_sign_in_anew_is_no_success(browse: Browse, sandbox: Sandbox, clock: Clock) -> None:
    """A session from before does not make a sign-in anew with a spent code look done."""
    browser = browse("zhangsan")
    await browser.open(HOME)
    clock.advance(1)
    callback = await browser.bring_code("http://localhost:8080/_wecom/enter?to=/orders")
    sandbox.state.codes[code_of(callback)].used = True

    page = await browser.get(callback)

    assert (page.status, page.reason) == (400, "code-spent")


async def test_back_after_a_sign_out(browse: Browse) -> None:
    """After a sign-out the way back through the callback signs nobody in, and the next page still asks."""
    browser = browse("zhangsan")
    callback = await browser.bring_code(HOME)
    await browser.open(callback)
    await browser.post(LOGOUT)

    back = await browser.get(callback)
    page = await browser.open(HOME)

    assert (back.status, back.reason) == (403, "signed-out")
    assert SESSION not in back.cookies_set
    assert page.says("signed_out.title")


async def test_another_code_for_one_sign_in(browse: Browse, sandbox: Sandbox) -> None:
    """Two codes for one sign-in are two exchanges: the memory of the first never answers for the second."""
    browser = browse("zhangsan")
    callback = await browser.bring_code(REPORT)
    await browser.get(callback)
    browser.drop(HOME, SESSION)

    page = await browser.get(without_code(callback, code="made-up"))

    assert (page.status, page.reason) == (400, "code-spent")
    assert sandbox.state.count(EXCHANGE) == 2


async def test_revoked_while_wecom_was_asked(browse: Browse, gateway: Gateway, sandbox: Sandbox, clock: Clock) -> None:
    """A revocation that comes while a sign-in is under way ends it: what WeCom said before does not count."""
    browser = browse("zhangsan")
    callback = await browser.bring_code(REPORT)
    sandbox.state.fault("user/get", kind="slow", seconds=1)
    coming = asyncio.create_task(browser.get(callback))
    await asked(sandbox, "user/get")
    clock.advance(1)
    gateway.live.now.standing.revoke("zhangsan", clock())

    page = await coming

    assert (page.status, page.reason) == (403, "revoked")
    assert SESSION not in page.cookies_set
