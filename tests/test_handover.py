"""Many sites, one callback host: a sign-in there, handed over once, to the browser that asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from gateway.app import Gateway
from gateway.claims import claims_of
from gateway.config import Config
from gateway.sandbox import Sandbox
from gateway.session import Session
from gateway.signin import Begin, HandOver
from tests.browser_double import Browser, Page
from tests.conftest import WECOM_UA, Clock

OA, ERP, ERP2 = "https://oa.example.com", "https://erp.example.net", "https://erp2.example.net"
SESSION = "__Host-wecom_session"
SITES = [
    {"name": "oa", "public_url": OA},
    {"name": "erp", "public_url": ERP, "hosts": ["erp2.example.net"]},
]

Browse = Callable[..., Browser]
Start = Callable[[Config], Awaitable[Gateway]]
MakeConfig = Callable[..., Config]


@pytest.fixture
async def gateway(start: Start, make_config: MakeConfig, sandbox: Sandbox) -> Gateway:
    """Two sites of two domains; WeCom knows the first."""
    sandbox.state.app.oauth_domain = "oa.example.com"
    return await start(make_config(site=SITES))


async def to_hand_over(browser: Browser, url: str, kind: str = "plain") -> str:
    """Open *url* and stop before the hand-over arrives; its address."""
    for _ in range(8):
        page = await browser.get(url, kind)
        url = page.location
        if "handover=" in url:
            return url
    raise AssertionError(browser.visited)


def qr_pages(sandbox: Sandbox) -> int:
    return sandbox.state.count("/wwlogin/sso/login")


def opened(gateway: Gateway, value: str) -> Session:
    return gateway.live.now.sessions.genuine(value)


async def begun(browser: Browser, url: str) -> str:
    """Begin a sign-in at *url* and give its state."""
    await browser.get(url, "plain")
    host = urlsplit(url).hostname
    (path,) = [path for at, path, name in browser.jar if (at, name) == (host, "__Secure-wecom_signin")]
    return path.rpartition("/")[2]


# ── the way it goes ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_second_site_without_second_scan(browse: Browse, sandbox: Sandbox) -> None:
    """Who scanned at one site opens one of another domain without a visit to WeCom, fragment and all."""
    browser = browse()
    await browser.sign_in(f"{OA}/", "lisi")
    before = qr_pages(sandbox)

    page = await browser.open(f"{ERP}/orders?id=7#line-3")

    assert (page.status, page.url) == (200, f"{ERP}/orders?id=7#line-3")
    assert page.headers["X-WeCom-UserId"] == "lisi"
    assert qr_pages(sandbox) == before


async def test_first_at_the_other_site(browse: Browse, sandbox: Sandbox, gateway: Gateway) -> None:
    """A first sign-in away from the callback host leaves a session at both, each of its own site and id."""
    browser = browse()

    page = await browser.sign_in(f"{ERP}/orders", "lisi")

    here, there = opened(gateway, browser.session(ERP)), opened(gateway, browser.session(OA))
    assert (page.status, page.url) == (200, f"{ERP}/orders")
    assert (here.site, there.site) == ("erp", "oa")
    assert here.id != there.id
    assert (here.issued, here.ends) == (there.issued, there.ends)


async def test_silent_at_the_other_site(browse: Browse) -> None:
    """In the WeCom client it is silent too."""
    page = await browse("wangwu").open(f"{ERP}/orders")

    assert (page.status, page.headers["X-WeCom-UserId"]) == (200, "wangwu")


async def test_further_host_of_one_site(browse: Browse, sandbox: Sandbox) -> None:
    """A further host name of a site gets its own cookie the same way."""
    browser = browse()
    await browser.sign_in(f"{ERP}/", "lisi")

    page = await browser.open(f"{ERP2}/x")

    assert (page.status, page.url) == (200, f"{ERP2}/x")
    assert qr_pages(sandbox) == 1


async def test_two_ports_of_one_host(browse: Browse, start: Start, make_config: MakeConfig, sandbox: Sandbox) -> None:
    """Two sites on two ports of one host are both open at once: their cookies differ in name, for cookies ignore ports."""
    sandbox.state.app.oauth_domain = "localhost:8080"
    sites = [{"name": "a", "public_url": "http://localhost:8080"}, {"name": "b", "public_url": "http://localhost:8081"}]
    browser = browse(at=await start(make_config(site=sites)))

    first = await browser.sign_in("http://localhost:8081/b", "lisi")
    second = await browser.open("http://localhost:8080/a")

    assert (first.status, first.url) == (200, "http://localhost:8081/b")
    assert (second.status, second.url) == (200, "http://localhost:8080/a")
    assert (await browser.get("http://localhost:8081/b")).status == 200
    assert {"wecom_session_8080", "wecom_session_8081"} <= browser.names("http://localhost:8080/")
    assert qr_pages(sandbox) == 1


async def test_session_of_one_site_at_another(browse: Browse) -> None:
    """A session carried to another site by hand opens nothing there."""
    browser = browse()
    await browser.sign_in(f"{OA}/", "lisi")
    browser.put(ERP, SESSION, browser.session(OA))

    verdict = await browser.check(f"{ERP}/")

    assert (verdict.status, verdict.headers["X-WeCom-Reason"]) == (401, "other-site")


async def test_return_to_another_site(browse: Browse) -> None:
    """A return address at another site of ours is followed, and signed in for there."""
    browser = browse()

    page = await browser.sign_in(f"{OA}/_wecom/login?return_to={quote(f'{ERP}/x', safe='')}", "lisi")

    assert (page.status, page.url) == (200, f"{ERP}/x")


async def test_sign_in_anew_at_the_other_site(browse: Browse, sandbox: Sandbox) -> None:
    """Who asks to sign in anew goes to WeCom, whatever session the callback host has."""
    browser = browse()
    await browser.sign_in(f"{ERP}/", "lisi")

    page = await browser.sign_in(f"{ERP}/_wecom/login?return_to=/x&again=1", "wangwu")

    assert (page.status, page.headers["X-WeCom-UserId"]) == (200, "wangwu")
    assert qr_pages(sandbox) == 2


async def test_signed_out_at_the_other_site(browse: Browse) -> None:
    """After a sign-out a site asks first, although the callback host still has a session."""
    browser = browse()
    await browser.sign_in(f"{ERP}/", "lisi")
    await browser.post(f"{ERP}/_wecom/logout")

    page = await browser.open(f"{ERP}/x")

    assert page.says("signed_out.title")
    assert (await browser.get(f"{OA}/")).status == 200


async def test_everywhere_is_every_site(browse: Browse, sandbox: Sandbox, clock: Clock) -> None:
    """Signing out everywhere ends the callback host's session too: the next sign-in is a scan again."""
    browser = browse()
    await browser.sign_in(f"{ERP}/", "lisi")
    await browser.post(f"{ERP}/_wecom/logout", {"everywhere": "1"})

    elsewhere = await browser.check(f"{OA}/")
    asked = await browser.open(f"{ERP}/x")
    clock.advance(0.5)
    page = await browser.open(asked.links[0])

    assert (elsewhere.status, elsewhere.headers["X-WeCom-Reason"]) == (401, "revoked")
    assert page.url.startswith(f"{sandbox.url}/wwlogin/")
    assert (await browser.scan(page, "lisi")).url == f"{ERP}/x"


async def test_life_is_not_prolonged(browse: Browse, gateway: Gateway, clock: Clock) -> None:
    """A session handed over ends when the one it came from ends."""
    browser = browse()
    await browser.sign_in(f"{OA}/", "lisi")
    clock.advance(20 * 60)

    await browser.open(f"{ERP}/")

    assert opened(gateway, browser.session(ERP)).ends == opened(gateway, browser.session(OA)).ends


async def test_ageing_session_is_renewed_first(browse: Browse, gateway: Gateway, sandbox: Sandbox, clock: Clock) -> None:
    """A session at the callback host that is due is renewed before it is handed on."""
    browser = browse()
    await browser.sign_in(f"{OA}/", "lisi")
    clock.advance(31 * 60)
    sandbox.change_member("lisi", {"name": "李四新"})

    page = await browser.open(f"{ERP}/")

    assert page.headers["X-WeCom-Name"] == quote("李四新")
    assert opened(gateway, browser.session(OA)).renewed == int(clock())


async def test_gone_before_the_second_site(browse: Browse, sandbox: Sandbox, clock: Clock) -> None:
    """Who has left by then is told so and handed nothing."""
    browser = browse()
    await browser.sign_in(f"{OA}/", "lisi")
    clock.advance(31 * 60)
    sandbox.change_member("lisi", {"status": 5})

    page = await browser.open(f"{ERP}/orders")

    assert (page.status, page.reason) == (403, "left")
    assert browser.session(ERP) == ""
    assert browser.session(OA) == ""
    assert parse_qs(urlsplit(page.links[0]).query)["return_to"] == ["/orders"]
    assert page.links[0].startswith(ERP)


async def test_long_return_address(browse: Browse) -> None:
    """A return address too long for the way over is still there at the end: it never left the first browser."""
    url = f"{ERP}/x?q={'abcdefghij' * 120}"

    page = await browse("lisi").open(url)

    assert (page.status, page.url) == (200, f"{url}#")


async def test_reload_at_the_callback_host(browse: Browse, clock: Clock) -> None:
    """The callback of a sign-in for another host, reloaded after a minute, still leads there."""
    browser = browse("lisi")
    callback = await browser.bring_code(f"{ERP}/x")
    await browser.open(callback)
    clock.advance(61)

    page = await browser.open(callback)

    assert (page.status, page.url) == (200, f"{ERP}/x#")


# ── stolen, replayed, expired, made up ─────────────────────────────────────────────────────────────────────────────


async def test_stolen(browse: Browse) -> None:
    """Whoever gets hold of a hand-over's address gets nothing: the sign-in's cookie is in another browser."""
    victim, thief = browse("lisi"), browse("wangwu", address="10.0.0.66")
    address = await to_hand_over(victim, f"{ERP}/")

    page = await thief.get(address)

    assert (page.status, page.reason) == (400, "no-cookie")
    assert thief.session(ERP) == ""
    assert (await victim.open(address)).headers["X-WeCom-UserId"] == "lisi"


async def test_stolen_into_an_own_sign_in(browse: Browse) -> None:
    """Nor does it open in a sign-in that the thief began: a hand-over is for one sign-in."""
    victim, thief = browse("lisi"), browse("wangwu", address="10.0.0.66")
    address = await to_hand_over(victim, f"{ERP}/")
    state = await begun(thief, f"{ERP}/")

    page = await thief.get(f"{ERP}/_wecom/callback/{state}?{urlsplit(address).query}")

    assert (page.status, page.reason) == (400, "hand-over")
    assert thief.session(ERP) == ""


async def test_pushed_on_somebody(browse: Browse, sandbox: Sandbox) -> None:
    """A begun sign-in sent to somebody who is signed in hands their session to nobody but their own browser, which refuses it."""
    victim, attacker = browse("lisi"), browse(user_agent=WECOM_UA, address="10.0.0.66")
    await victim.open(f"{OA}/")
    begin = (await attacker.get(f"{ERP}/", "plain")).location

    page = await victim.open(begin)

    assert (page.status, page.reason) == (400, "no-cookie")
    assert victim.session(ERP) == attacker.session(ERP) == ""


async def test_replayed_within_a_minute(browse: Browse, gateway: Gateway) -> None:
    """The same browser again within a minute gets the same session, not another."""
    browser = browse("lisi")
    address = await to_hand_over(browser, f"{ERP}/x")
    first = await browser.get(address)
    browser.drop(ERP, SESSION)

    second = await browser.get(address)

    assert (second.status, second.location) == (303, f"{ERP}/x#")
    assert opened(gateway, second.cookies_set[SESSION]).id == opened(gateway, first.cookies_set[SESSION]).id


@pytest.mark.parametrize("used", [False, True], ids=["never used", "used before"])
async def test_older_than_a_minute(browse: Browse, clock: Clock, used: bool) -> None:
    """A hand-over older than 60 s is refused, used before or not, and starts anew for the page first asked for."""
    browser = browse("lisi")
    address = await to_hand_over(browser, f"{ERP}/x")
    if used:
        await browser.get(address)
        browser.drop(ERP, SESSION)
    clock.advance(61)

    page = await browser.get(address)

    assert (page.status, page.reason) == (400, "hand-over")
    assert SESSION not in page.cookies_set
    assert parse_qs(urlsplit(page.links[0]).query)["return_to"] == ["/x"]


async def test_reload_after_a_minute(browse: Browse, clock: Clock) -> None:
    """Who got a session by it goes to its page."""
    browser = browse("lisi")
    address = await to_hand_over(browser, f"{ERP}/x")
    await browser.open(address)
    clock.advance(61)

    page = await browser.get(address)

    assert (page.status, page.location) == (303, f"{ERP}/x#")


async def test_signed_out_meanwhile(browse: Browse) -> None:
    """Back through a hand-over after a sign-out signs nobody in, and the site still asks."""
    browser = browse("lisi")
    address = await to_hand_over(browser, f"{ERP}/x")
    await browser.open(address)
    await browser.post(f"{ERP}/_wecom/logout")

    back = await browser.get(address)

    assert (back.status, back.reason) == (403, "signed-out")
    assert SESSION not in back.cookies_set
    assert (await browser.open(f"{ERP}/x")).says("signed_out.title")


Change = Callable[[HandOver, Callable[..., Any]], HandOver]


@pytest.mark.parametrize(
    "change",
    [
        lambda own, claims: replace(own, host="erp2.example.net"),
        lambda own, claims: replace(own, host="evil.example"),
        lambda own, claims: replace(own, state="b" * 32),
        lambda own, claims: replace(own, session=claims(site="oa")),
        lambda own, claims: replace(own, session=claims(corp_id="wwfedcba9876543210")),
        lambda own, claims: replace(own, session=claims(agent_id=1)),
        lambda own, claims: replace(own, session={}),
    ],
    ids=[
        "other host",
        "unknown host",
        "other sign-in",
        "session of another site",
        "another corp's",
        "another app's",
        "no session",
    ],
)
async def test_not_for_here(browse: Browse, gateway: Gateway, clock: Clock, change: Change) -> None:
    """A genuine hand-over that is not for this host, this sign-in, this site, this app is refused."""
    browser = browse("lisi")
    await browser.open(f"{OA}/")
    state = await begun(browser, f"{ERP}/")
    session = replace(opened(gateway, browser.session(OA)), id="own", site="erp")

    def claims(**changes: Any) -> Any:
        return claims_of(replace(session, **changes))

    good = HandOver("once", int(clock()) + 60, "erp.example.net", state, claims())

    page = await handed(browser, gateway, state, change(good, claims))
    control = await handed(browser, gateway, state, replace(good, id="twice"))

    assert (page.status, page.reason) == (400, "hand-over")
    assert SESSION not in page.cookies_set
    assert (control.status, control.location) == (303, f"{ERP}/#")


async def handed(browser: Browser, gateway: Gateway, state: str, hand_over: HandOver) -> Page:
    return await browser.get(f"{ERP}/_wecom/callback/{state}?handover={hand_over.seal(gateway.live.now.sealer)}")


@pytest.mark.parametrize("text", ["garbage", "A" * 200, "%00", "_"], ids=["garbage", "long", "NUL", "one letter"])
async def test_forged_hand_over(browse: Browse, text: str) -> None:
    """What we did not encrypt is no hand-over."""
    browser = browse("lisi")
    state = await begun(browser, f"{ERP}/")

    page = await browser.get(f"{ERP}/_wecom/callback/{state}?handover={text}")

    assert (page.status, page.reason) == (400, "hand-over")


async def test_revoked_on_the_way(browse: Browse, gateway: Gateway, clock: Clock) -> None:
    """A session revoked on its way over does not arrive."""
    browser = browse("lisi")
    address = await to_hand_over(browser, f"{ERP}/")
    gateway.live.now.standing.revoke("lisi", clock())

    page = await browser.get(address)

    assert (page.status, page.reason) == (400, "hand-over")
    assert SESSION not in page.cookies_set


async def test_its_origin_revoked_on_the_way(browse: Browse, gateway: Gateway) -> None:
    """Nor does one whose session at the callback host is revoked meanwhile: who revoked that could not know of it."""
    browser = browse("lisi")
    address = await to_hand_over(browser, f"{ERP}/")
    gateway.live.now.standing.end(opened(gateway, browser.session(OA)))

    page = await browser.get(address)

    assert (page.status, page.reason) == (400, "hand-over")
    assert SESSION not in page.cookies_set


@pytest.mark.parametrize("later_s", [1, 3600])
async def test_a_site_whose_sessions_were_all_ended(
    browse: Browse, gateway: Gateway, clock: Clock, sandbox: Sandbox, later_s: int
) -> None:
    """The callback host's session from before does not open that site; WeCom is asked anew, and that holds at once."""
    browser = browse("lisi")
    await browser.open(f"{ERP}/")
    clock.advance(60)
    gateway.live.now.standing.revoke_site("erp", clock())
    clock.advance(later_s)
    before = sandbox.state.count("/connect/oauth2/authorize")

    page = await browser.open(f"{ERP}/")

    assert (page.status, page.headers["X-WeCom-UserId"]) == (200, "lisi")
    assert sandbox.state.count("/connect/oauth2/authorize") == before + 1


# ── begin ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", ["x", "a.b", "W10.x"])
async def test_forged_begin(browse: Browse, text: str) -> None:
    """Only a site of ours can ask the callback host for a sign-in."""
    browser = browse("lisi")
    await browser.open(f"{OA}/")

    page = await browser.get(f"{OA}/_wecom/begin/{text}")

    assert (page.status, page.reason) == (400, "bad-request")


async def test_begin_of_long_ago(browse: Browse, clock: Clock) -> None:
    """It holds for ten minutes."""
    browser = browse("lisi")
    begin = (await browser.get(f"{ERP}/x", "plain")).location
    clock.advance(600)

    page = await browser.get(begin)

    assert (page.status, page.reason) == (400, "sign-in-expired")
    assert parse_qs(urlsplit(page.links[0]).query)["return_to"] == ["/x"]


async def test_late_from_an_address_too_long_to_come_along(browse: Browse, clock: Clock) -> None:
    """A scan that comes too late for a sign-in without a way back ends on the first page, not in an empty redirect."""
    browser = browse()
    qr = await browser.open(f"{ERP}/?q={'a' * 1000}")
    callback = (await browser.scan(qr, "lisi", stop=True)).location
    await browser.sign_in(f"{OA}/", "lisi")
    clock.advance(700)

    page = await browser.get(callback)

    assert (page.status, page.location) == (303, f"{OA}/")


async def test_begin_elsewhere(browse: Browse) -> None:
    """Only the callback host begins for others."""
    browser = browse("lisi")
    begin = (await browser.get(f"{ERP}/x", "plain")).location

    page = await browser.get(begin.replace(OA, ERP2))

    assert (page.status, page.reason) == (403, "other-site")


async def test_begin_for_a_host_given_up(
    browse: Browse, gateway: Gateway, make_config: MakeConfig, clock: Clock, sandbox: Sandbox
) -> None:
    """A host that is no longer in the settings gets nothing, even where its sign-in began before."""
    browser = browse("lisi")
    await browser.open(f"{OA}/")
    begin = (await browser.get(f"{ERP2}/x", "plain")).location
    await gateway.reload(make_config(site=[SITES[0], {"name": "erp", "public_url": ERP}]))

    page = await browser.get(begin)

    assert (page.status, page.reason, page.location) == (400, "hand-over", "")


async def test_begin_for_a_site_given_up(browse: Browse, gateway: Gateway, clock: Clock) -> None:
    """The same for a whole site, or one of which only the seal is genuine."""
    browser = browse("lisi")
    await browser.open(f"{OA}/")
    begin = Begin("gone", "gone.example.org", "a" * 32, False, int(clock()) + 60).seal(gateway.live.now.sealer)

    page = await browser.get(f"{OA}/_wecom/begin/{begin}")

    assert (page.status, page.reason, page.location) == (400, "hand-over", "")
