"""Signing in: what a person meets between a refused page and WeCom."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from gateway.app import Gateway
from gateway.config import Config
from gateway.sandbox import Sandbox
from tests.browser_double import Browser, Page
from tests.conftest import Clock

HOME = "http://localhost:8080/"
REPORT = "http://localhost:8080/report/7?year=2026&q=%E8%B4%A2"
LOGIN = "http://localhost:8080/_wecom/login"
WECHAT_UA = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Mobile/15E148 MicroMessenger/8.0.50 NetType/WIFI"
PRIVATE_UA = "Mozilla/5.0 (Windows NT 10.0) wxworklocal/2.6.0 wxwork/2.6.0 MicroMessenger/7.0.1"

Browse = Callable[..., Browser]
Start = Callable[[Config], Awaitable[Gateway]]
MakeConfig = Callable[..., Config]


def session_id(gateway: Gateway, value: str) -> str:
    return gateway.live.now.sessions.genuine(value).id


# ── the two ways in ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["document", "plain"])
async def test_silent_sign_in(browse: Browse, kind: str) -> None:
    """A member inside the WeCom client opens a page and is on it, without pressing anything."""
    page = await browse("zhangsan").open(REPORT, kind)

    assert (page.status, page.url) == (200, f"{REPORT}#")
    assert page.headers["X-WeCom-UserId"] == "zhangsan"


@pytest.mark.parametrize("member", ["", "zhangsan"], ids=["desktop", "in WeCom"])
async def test_fragment_survives(browse: Browse, member: str) -> None:
    """Query and fragment of the page first asked for are what they were, whatever fragments WeCom's own addresses have."""
    browser = browse(member)
    page = await browser.open(f"{REPORT}#part-3")

    arrived = page if member else await browser.scan(page, "lisi")

    assert (arrived.status, arrived.url) == (200, f"{REPORT}#part-3")
    assert not [name for name in browser.names("http://localhost:8080/_wecom/callback/x") if "fragment" in name]


async def test_fragment_of_wecom_does_not_stay(browse: Browse) -> None:
    """The ``#wechat_redirect`` that a browser carries through redirects ends at our callback."""
    browser = browse("zhangsan")
    callback = await browser.bring_code(HOME)

    page = await browser.get(callback)

    assert callback.endswith("#wechat_redirect")
    assert (page.status, page.location) == (303, f"{HOME}#")


async def test_qr_sign_in(browse: Browse) -> None:
    """A member at a desktop scans one QR code and is on the page first asked for."""
    page = await browse().sign_in(REPORT, "lisi")

    assert (page.status, page.url) == (200, REPORT)
    assert page.headers["X-WeCom-UserId"] == "lisi"


async def test_in_app_address(browse: Browse, sandbox: Sandbox) -> None:
    """In the client the one redirect goes straight to WeCom's authorize page, parameters in its order, fragment at the end."""
    page = await browse("zhangsan").get(REPORT, "plain")

    state = page.query["state"]
    back = quote(f"http://localhost:8080/_wecom/callback/{state}", safe="")
    assert page.status == 302
    assert page.location == (
        f"{sandbox.url}/connect/oauth2/authorize?appid={sandbox.state.corp_id}&redirect_uri={back}&response_type=code"
        f"&scope=snsapi_base&state={state}&agentid={sandbox.state.agent_id}#wechat_redirect"
    )
    assert state.isalnum()
    assert len(state) == 32


async def test_desktop_address(browse: Browse, sandbox: Sandbox) -> None:
    """At a desktop it goes to the QR page, in the browser's language."""
    page = await browse(language="en-US,en;q=0.9").get(REPORT, "plain")

    assert page.location.startswith(f"{sandbox.url}/wwlogin/sso/login?login_type=CorpApp&")
    assert (page.status, page.query["agentid"], page.query["lang"]) == (302, str(sandbox.state.agent_id), "en")


async def test_private_client(browse: Browse, sandbox: Sandbox) -> None:
    """The client of a private deployment takes the in-app way although it names WeCom and WeChat too."""
    page = await browse(user_agent=PRIVATE_UA).get(REPORT, "plain")

    assert page.location.startswith(f"{sandbox.url}/connect/oauth2/authorize?")


async def test_private_deployment(browse: Browse, start: Start, make_config: MakeConfig, sandbox: Sandbox) -> None:
    """At a desktop of a private deployment the old QR page is used, and the old exchange signs in."""
    gateway = await start(make_config(wecom={"private": True}))
    browser = browse(at=gateway)

    page = await browser.sign_in(REPORT, "lisi")

    assert any(url.startswith(f"{sandbox.url}/wwopen/sso/qrConnect?appid=") for url in browser.visited)
    assert (page.status, page.headers["X-WeCom-UserId"]) == (200, "lisi")
    assert (sandbox.state.count("user/getuserinfo"), sandbox.state.count("auth/getuserinfo")) == (1, 0)


async def test_scope_for_details(browse: Browse, start: Start, make_config: MakeConfig) -> None:
    """With ``scope = snsapi_privateinfo`` the authorize page is asked for it."""
    gateway = await start(make_config(scope="snsapi_privateinfo"))

    page = await browse("zhangsan", at=gateway).get(REPORT, "plain")

    assert page.query["scope"] == "snsapi_privateinfo"


async def test_personal_wechat(browse: Browse, sandbox: Sandbox) -> None:
    """Personal WeChat gets a page that says to open the address in WeCom, and is sent nowhere."""
    page = await browse(user_agent=WECHAT_UA).get(REPORT)

    assert (page.status, page.location) == (401, "")
    assert page.says("wechat.title")
    assert REPORT.replace("&", "&amp;") in page.text
    assert page.cookies_set == {}


# ── the page that keeps the fragment ───────────────────────────────────────────────────────────────────────────────


async def test_fragment_page(browse: Browse, sandbox: Sandbox) -> None:
    """A browser that says it opens a document gets a small page that goes on by script, or by its link without."""
    page = await browse().get(REPORT)

    assert (page.status, page.location) == (401, "")
    assert page.says("fragment.title")
    assert [urlsplit(link).netloc for link in page.links] == [urlsplit(sandbox.url).netloc]
    assert len(page.text) < 1400
    assert set(page.cookies_set) == {"wecom_signin", "wecom_browser"}


async def test_no_fragment_page_where_not_wanted(browse: Browse, start: Start, make_config: MakeConfig) -> None:
    """``keep_fragment = false`` gives every browser the bare redirect."""
    gateway = await start(make_config(site=[{"name": "oa", "public_url": "http://localhost:8080", "keep_fragment": False}]))

    page = await browse(at=gateway).get(REPORT)

    assert (page.status, page.text) == (302, "")


# ── not a navigation ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_script_gets_json(browse: Browse) -> None:
    """A request by a script is 401 JSON with the reason and where to sign in, never a redirect; it begins no sign-in."""
    page = await browse().get("http://localhost:8080/api/orders", "fetch", headers={"Referer": REPORT})

    body = json.loads(page.text)
    assert (page.status, page.location, page.cookies_set) == (401, "", {})
    assert page.headers["Content-Type"].startswith("application/json")
    assert body["error"] == "unauthorized"
    assert body["reason"] == page.headers["X-WeCom-Reason"] == "no-session"
    assert parse_qs(urlsplit(body["login_url"]).query) == {"return_to": [REPORT]}


@pytest.mark.parametrize(
    "origin, readable",
    [
        ("http://localhost:8081", True),
        ("http://localhost:8080", True),
        ("https://localhost:8081", False),
        ("http://evil.example", False),
        ("null", False),
        ("", False),
    ],
)
async def test_script_of_another_site(start: Start, make_config: MakeConfig, browse: Browse, origin: str, readable: bool) -> None:
    """A script on another of our sites can read its 401 and 403; anybody else's sees a network error."""
    sites = [{"name": "oa", "public_url": "http://localhost:8080"}, {"name": "erp", "public_url": "http://localhost:8081"}]
    browser = browse(at=await start(make_config(site=sites)), sites={"localhost:8080": "oa"})
    headers = {"Origin": origin} if origin else {}

    signed_out = await browser.get("http://localhost:8080/api/orders", "fetch", headers=headers)
    refused = await browser.page(HOME, "fetch", named="/_wecom/denied", headers=headers | {"X-WeCom-Reason": "rule"})

    allowed = {"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true"} if readable else {}
    for answer, status in ((signed_out, 401), (refused, 403)):
        assert answer.status == status
        assert {name: value for name, value in answer.headers.items() if name.startswith("Access-Control-")} == allowed


async def test_login_url_leads_back(browse: Browse) -> None:
    """The ``login_url`` of a script's 401 signs in and goes back to the page that the script ran on."""
    browser = browse("zhangsan")
    refused = await browser.get("http://localhost:8080/api/orders", "fetch", headers={"Referer": REPORT})

    page = await browser.open(json.loads(refused.text)["login_url"])

    assert (page.status, page.url) == (200, f"{REPORT}#")


@pytest.mark.parametrize("referer", ["https://evil.example/x", "http://localhost:8081/", "javascript:alert(1)", "//evil", ""])
async def test_login_url_trusts_no_referer(browse: Browse, referer: str) -> None:
    """A ``Referer`` that is not ours leads back to the site's first page."""
    page = await browse().get("http://localhost:8080/api", "fetch", headers={"Referer": referer} if referer else {})

    assert (page.status, page.reason) == (401, "no-session")
    assert parse_qs(urlsplit(json.loads(page.text)["login_url"]).query) == {"return_to": ["/"]}


@pytest.mark.parametrize(
    "headers, kind",
    [
        ({"Sec-Fetch-Site": "same-origin"}, "form"),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:8080"}, "foreign"),
        ({"Sec-Fetch-Site": "cross-site"}, "foreign"),
        ({"Sec-Fetch-Site": "none"}, "foreign"),
        ({"Origin": "http://localhost:8080"}, "form"),
        ({"Origin": "https://evil.example"}, "foreign"),
        ({"Origin": "null"}, "foreign"),
        ({}, "foreign"),
    ],
    ids=["same origin", "neighbour", "cross-site", "nobody", "own Origin", "foreign Origin", "null Origin", "nothing said"],
)
async def test_posted_form(browse: Browse, headers: dict[str, str], kind: str) -> None:
    """A form's POST gets a page that signs in through a second window; only our own form is sent again afterwards."""
    page = await browse().submit(REPORT, headers=headers)

    assert (page.status, page.location) == (401, "")
    assert page.says(f"window.{kind}.title")
    assert ("if (!true)" in page.text) == (kind == "form")


async def test_frame(browse: Browse) -> None:
    """Inside a frame nobody is sent to WeCom: a page of ours, which only our sites may frame, opens a second window."""
    page = await browse().get(REPORT, "frame")

    assert (page.status, page.location) == (401, "")
    assert page.says("window.frame.title")
    ancestors = page.headers["Content-Security-Policy"].partition("frame-ancestors ")[2].split()
    assert sorted(ancestors) == ["'self'", "http://localhost:8080"]


async def test_second_window(browse: Browse) -> None:
    """The second window signs in and ends on a page that closes it; the first one learns it from ``me``."""
    browser = browse()
    first = await browser.submit(REPORT)
    before = await browser.get("http://localhost:8080/_wecom/me?json", "fetch")

    second = await browser.sign_in(first.links[0], "lisi")

    after = await browser.get("http://localhost:8080/_wecom/me?json", "fetch")
    assert second.says("done.title")
    assert (before.status, after.status) == (401, 200)
    assert (await browser.submit(REPORT)).status == 200


async def test_refusal_that_is_not_ours(browse: Browse) -> None:
    """A 401 of the app's own has no reason of ours: it is shown as a neutral page and signs nobody in."""
    browser = browse()

    page = await browser.page(HOME, named="/_wecom/login", headers={"X-WeCom-Original-Uri": "/private"})

    assert (page.status, page.location, page.cookies_set) == (401, "", {})
    assert page.says("neutral.title")


# ── addresses from outside ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "outside, arrives",
    [
        ("/a/b?c=d", "http://localhost:8080/a/b?c=d"),
        ("http://localhost:8080/a", "http://localhost:8080/a"),
        ("//evil.example/", HOME),
        ("/\\evil.example/", HOME),
        ("https:evil.example", HOME),
        ("https://evil.example/", HOME),
        ("http://localhost:8080@evil.example/", HOME),
        ("http://localhost:8081/a", HOME),
        ("https://localhost:8080/a", HOME),
        ("javascript:alert(1)", HOME),
        ("/a\r\nSet-Cookie: x=1", HOME),
        ("/\t/evil.example", HOME),
        ("a/b", HOME),
        ("/" + "a" * 9000, HOME),
        ("", HOME),
    ],
    ids=lambda text: text[:30].encode("unicode_escape").decode() or "empty",
)
async def test_return_address_from_outside(browse: Browse, outside: str, arrives: str) -> None:
    """``return_to`` leads to a page of ours or to the first one, signed in before or only now."""
    browser, url = browse("zhangsan"), f"{LOGIN}?return_to={quote(outside, safe='')}"

    signing_in = await browser.open(url)
    signed_in = await browser.get(url)

    assert (signing_in.status, signing_in.url) == (200, f"{arrives}#")
    assert (signed_in.status, signed_in.location) == (303, arrives)


@pytest.mark.parametrize("way", ["enter?to=", "login?again=1&return_to="])
async def test_no_chain_of_sign_ins(browse: Browse, sandbox: Sandbox, way: str) -> None:
    """A link that leads through our own sign-in again and again is one sign-in."""
    browser = browse("zhangsan")

    page = await browser.open(f"http://localhost:8080/_wecom/{way}" + f"/_wecom/{quote(way)}" * 9 + "/a")

    assert (page.status, page.url) == (200, f"{HOME}#")
    assert sandbox.state.count("auth/getuserinfo") == 1


async def test_original_query_is_not_ours(browse: Browse) -> None:
    """A ``return_to`` in the query of the page that was refused belongs to that page."""
    url = "http://localhost:8080/app?return_to=/elsewhere&again=1"

    page = await browse("zhangsan").open(url)

    assert (page.status, page.url) == (200, f"{url}#")


async def test_too_long_to_keep(browse: Browse) -> None:
    """A page whose address does not fit into a cookie is signed in for all the same, and ends on the first page."""
    long = "".join(f"{number * 7919 % 100003:05d}" for number in range(1500))
    page = await browse("zhangsan").open(f"{HOME}?q={long}")

    assert (page.status, page.url) == (200, f"{HOME}#")


async def test_raw_bytes_in_the_address(browse: Browse) -> None:
    """Undecodable bytes in the address come back percent-encoded, as a browser would have sent them."""
    browser = browse("zhangsan")
    told = {"X-WeCom-Original-Uri": "/файл\xff?a=b", "X-WeCom-Reason": "no-session"}
    refused = await browser.page(HOME, "plain", named="/_wecom/login", headers=told)

    page = await browser.open(refused.location)

    assert page.status == 200
    assert page.url.isascii()
    assert page.url.startswith("http://localhost:8080/%D1%84")


# ── whoever is signed in already, or signed out ────────────────────────────────────────────────────────────────────


async def test_signed_in_already(browse: Browse, sandbox: Sandbox) -> None:
    """Who is signed in goes straight on; with ``again=1`` to WeCom, whoever is signed in."""
    browser = browse()
    await browser.sign_in(HOME, "lisi")

    straight = await browser.get(f"{LOGIN}?return_to=/a")
    again = await browser.open(f"{LOGIN}?return_to=/a&again=1")

    assert (straight.status, straight.location) == (303, "http://localhost:8080/a")
    assert again.url.startswith(f"{sandbox.url}/wwlogin/sso/login")
    assert (await browser.scan(again, "wangwu")).headers["X-WeCom-UserId"] == "wangwu"


async def test_signed_out_asks_first(browse: Browse) -> None:
    """After a sign-out nobody is signed in silently, only by pressing "sign in" on the page that says so."""
    browser = browse("zhangsan")
    await browser.open(HOME)
    await browser.post("http://localhost:8080/_wecom/logout")

    asked = await browser.open(REPORT)
    pressed = await browser.open(asked.links[0])
    later = await browser.get(REPORT)

    assert (asked.status, asked.url) == (401, REPORT)
    assert asked.says("signed_out.title")
    assert (pressed.status, pressed.url) == (200, f"{REPORT}#")
    assert later.status == 200
    assert "wecom_signed_out_8080" not in browser.names(HOME)


async def test_enter_is_whoever_holds_the_client(browse: Browse) -> None:
    """The app's home in WeCom signs in anew, silently, as whoever holds the client now."""
    browser = browse("zhangsan")
    await browser.open(HOME)
    browser.put("http://127.0.0.1/", "sandbox_member", "lisi")

    page = await browser.open("http://localhost:8080/_wecom/enter?to=/orders")

    assert (page.status, page.url) == (200, "http://localhost:8080/orders#")
    assert page.headers["X-WeCom-UserId"] == "lisi"


async def test_enter_at_a_desktop(browse: Browse, sandbox: Sandbox) -> None:
    """At a desktop the same address goes straight on where a session is at hand, else to the QR code."""
    browser, url = browse(), "http://localhost:8080/_wecom/enter?to=/orders"
    qr = await browser.open(url)
    await browser.scan(qr, "lisi")

    straight = await browser.get(url)

    assert qr.url.startswith(f"{sandbox.url}/wwlogin/")
    assert (straight.status, straight.location) == (303, "http://localhost:8080/orders")


async def test_enter_follows_no_foreign_address(browse: Browse) -> None:
    """``to`` is a return address from outside like any other."""
    page = await browse("zhangsan").open("http://localhost:8080/_wecom/enter?to=//evil.example/")

    assert (page.status, page.url) == (200, f"{HOME}#")


async def test_enter_in_wechat(browse: Browse) -> None:
    """Personal WeChat gets its page there too."""
    page = await browse(user_agent=WECHAT_UA).get("http://localhost:8080/_wecom/enter?to=/orders")

    assert page.status == 401
    assert page.says("wechat.title")


# ── many tabs, wrong hosts ─────────────────────────────────────────────────────────────────────────────────────────


async def test_forty_tabs(browse: Browse, sandbox: Sandbox) -> None:
    """Forty tabs opened at once in a fresh browser each end on their own page, in one jar, with one browser cookie."""
    browser = browse("zhangsan")
    urls = [f"http://localhost:8080/tab/{number}?n={number}#part-{number}" for number in range(40)]

    pages = await asyncio.gather(*(browser.open(url) for url in urls))

    assert [(page.status, page.url) for page in pages] == [(200, url) for url in urls]
    assert len(browser.cookie("wecom_browser").value) == 32
    assert len(browser.cookie_header(HOME)) < 1500


async def test_forty_tabs_one_after_the_other(browse: Browse) -> None:
    """The same when all forty have gone to WeCom before the first comes back."""
    browser = browse("zhangsan")
    urls = [f"http://localhost:8080/tab/{number}" for number in range(40)]
    callbacks = await asyncio.gather(*(browser.bring_code(url) for url in urls))

    pages = [await browser.open(callback) for callback in callbacks]

    assert [page.url for page in pages] == [f"{url}#" for url in urls]
    assert {page.status for page in pages} == {200}


@pytest.mark.parametrize(
    "path",
    ["/_wecom/login", "/_wecom/enter", "/_wecom/me", "/_wecom/denied", "/_wecom/logout", "/_wecom/done", "/_wecom/begin/x"],
)
async def test_host_of_no_site(browse: Browse, path: str) -> None:
    """A host that is not the site's is refused by name of the reason, whatever page it asks for; nobody is redirected."""
    browser = browse(sites={"intruder.example": ""})

    page = await browser.page(f"http://intruder.example{path}", "plain")

    assert (page.status, page.reason, page.location) == (403, "other-site", "")


async def test_site_of_no_name(browse: Browse) -> None:
    """A site that nginx names and the settings do not is refused as such."""
    page = await browse(sites={"localhost:8080": "erp"}).page(LOGIN, "plain")

    assert (page.status, page.reason) == (403, "unknown-site")


# ── sign-ins that do not stick ─────────────────────────────────────────────────────────────────────────────────────


async def rounds(browser: Browser, spoil: Callable[[], None], url: str = HOME) -> Page:
    """Sign in twice, each time spoiling the session, and open the page once more."""
    for _ in range(2):
        callback = await browser.bring_code(url)
        assert (await browser.get(callback)).status == 303
        spoil()
    return await browser.open(url)


async def test_cookie_lost(browse: Browse) -> None:
    """A session cookie that twice did not come back ends in a page that says so, not in a third visit to WeCom."""
    browser = browse("zhangsan")

    page = await rounds(browser, lambda: browser.drop(HOME, "wecom_session_8080"))

    assert (page.status, page.reason) == (500, "cookie-lost")


async def test_loop_page_ends_the_count(browse: Browse) -> None:
    """After the page the next try counts from nothing: what was put right works at once."""
    browser = browse("zhangsan")
    await rounds(browser, lambda: browser.drop(HOME, "wecom_session_8080"))

    page = await browser.open(HOME)

    assert page.status == 200


async def test_one_lost_cookie_is_no_loop(browse: Browse) -> None:
    """One sign-in that was lost is followed by another."""
    browser = browse("zhangsan")
    await browser.open(HOME)
    browser.drop(HOME, "wecom_session_8080")

    assert (await browser.open(HOME)).status == 200


async def test_rounds_of_long_ago_do_not_count(browse: Browse, clock: Clock) -> None:
    """Two sign-ins more than a minute ago are no loop."""
    browser = browse("zhangsan")
    for _ in range(2):
        await browser.open(HOME)
        browser.drop(HOME, "wecom_session_8080")
    clock.advance(60)

    assert (await browser.open(HOME)).status == 200


async def test_loop_of_keys(browse: Browse) -> None:
    """A session that nobody here signed, twice in a row: the page names the keys."""
    browser = browse("zhangsan")

    page = await rounds(browser, lambda: browser.set_session(HOME, "eyJ2Ijox.not-signed-here"))

    assert (page.status, page.reason) == (500, "keys")


@pytest.mark.parametrize("between_s", [0, 1])
async def test_loop_of_two_gateways(
    browse: Browse, gateway: Gateway, start: Start, make_config: MakeConfig, clock: Clock, between_s: int
) -> None:
    """A session good for the pages but not for the check, whose keys are others, never leads on without being counted."""
    other = await start(make_config(signing_keys=["o" * 43]))
    browser = browse("zhangsan")
    browser.addresses = gateway.addresses | {"check": other.addresses["check"]}

    page = await rounds(browser, lambda: clock.advance(between_s))

    assert (page.status, page.reason) == (500, "keys")
    assert HOME in page.links


async def test_loop_of_clocks(browse: Browse, start: Start, make_config: MakeConfig, clock: Clock) -> None:
    """A session that is over as soon as it was issued, twice in a row: the page names the clocks."""
    gateway = await start(make_config(session={"lifetime": "50s", "renew_after": "40s"}))
    browser = browse("zhangsan", at=gateway)

    def spoil() -> None:
        value = browser.session(HOME)
        clock.advance(51)
        browser.set_session(HOME, value)  # the browser's own clock has not moved

    page = await rounds(browser, spoil)

    assert (page.status, page.reason) == (500, "clock")


async def test_loop_of_revocations(browse: Browse, gateway: Gateway, clock: Clock) -> None:
    """A revocation that lies in the future (two machines' clocks) ends in the same page instead of a loop by WeCom."""
    gateway.live.now.standing.revoke("zhangsan", clock() + 600)
    browser = browse("zhangsan")
    callback = await browser.bring_code(HOME)

    page = await browser.get(callback)

    assert (page.status, page.reason) == (403, "revoked")
    assert "wecom_session_8080" not in page.cookies_set


async def test_loop_of_sites(browse: Browse, start: Start, make_config: MakeConfig) -> None:
    """A session that is always another site's: the page names the site."""
    sites = [{"name": "oa", "public_url": "http://localhost:8080"}, {"name": "erp", "public_url": "http://localhost:8081"}]
    gateway = await start(make_config(site=sites))
    browser = browse("zhangsan", at=gateway)
    await browser.open("http://localhost:8081/")
    foreign = browser.session("http://localhost:8081/")
    browser.set_session(HOME, foreign)
    browser.drop(HOME, "wecom_rounds_8080")

    page = await rounds(browser, lambda: browser.set_session(HOME, foreign))

    assert (page.status, page.reason) == (500, "site")


async def test_cookie_of_another_name(browse: Browse) -> None:
    """Where nginx looks for a cookie of another name the first sign-in already ends in a page with both names."""
    browser = browse("zhangsan", cookie_names={"localhost:8080": "__Host-wecom_session"})

    page = await browser.open(HOME)

    assert (page.status, page.reason) == (500, "cookie-name")
    assert "<code>wecom_session_8080</code>" in page.text
    assert "<code>__Host-wecom_session</code>" in page.text
