"""A person at a desktop browser: one QR code, then the page first asked for."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import BrowserContext, Page, expect

from tests.browser.conftest import NewContext
from tests.browser.stand import Stand
from tests.browser.steps import at_qr, let_in, reason, says, scan, scans, session_cookies, session_values, sign_in

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize(
    "path",
    [
        "/report?year=2025&q=a%26b&r=%2F..%2F#tab=2",
        "/报表/%E5%BC%A0?名=张三&x=%25#第二节",
        "/plus?a=1+2&b=%2B&c#/route?x=1&y=2",
        "/quotes'\"?q='\"<b>#'\"<b>",
    ],
    ids=["encoded", "UTF-8", "routes", "quotes"],
)
async def test_one_scan_leads_back(stand: Stand, context: BrowserContext, page: Page, path: str) -> None:
    """After the scan the person is at the page first asked for, to the letter what it is to somebody signed in."""
    await sign_in(page, stand, path)
    again = await context.new_page()
    await again.goto(stand.url("home", path))
    await let_in(again)

    assert page.url == again.url
    assert "#" in page.url
    assert stand.app.asked[0] == stand.app.asked[1]
    assert scans(stand) == 1


@pytest.mark.parametrize("first", ["home", "erp"], ids=["at the callback host", "at another"])
async def test_other_hosts_need_no_second_scan(stand: Stand, context: BrowserContext, page: Page, first: str) -> None:
    """Hosts of other domains and other ports of one host open by the first scan, each with a session of its own."""
    await sign_in(page, stand, site=first)
    for site in stand.sites:
        tab = await context.new_page()
        await tab.goto(stand.url(site, "/x?a=1&b=%26"))
        await let_in(tab)
        assert tab.url == stand.url(site, "/x?a=1&b=%26")

    assert scans(stand) == 1
    assert len(await context.cookies([stand.url(site) for site in stand.sites])) >= len(stand.sites)
    assert await session_cookies(context) == {stand.cookie_name(site) for site in stand.sites}


async def test_fragments_reach_other_ports(stand: Stand, context: BrowserContext, page: Page) -> None:
    """The hand-over from the callback host keeps the fragment, too."""
    await sign_in(page, stand)
    await page.goto(stand.url("twin", "/x#第二节"))
    await let_in(page)

    assert await page.evaluate("decodeURIComponent(location.hash)") == "#第二节"


async def test_other_people_stay_out(stand: Stand, new_context: NewContext, page: Page) -> None:
    """Whoever is outside the app's visible scope is told so by WeCom and has no session after it."""
    await page.goto(stand.url("home", "/start"))
    await at_qr(page, stand)
    await page.click("#scan-zhaoliu")
    await expect(page.locator("main")).to_contain_text("可见范围")

    assert await session_cookies(page.context) == set()
    assert stand.app.asked == []


async def test_cancelling_is_explained(stand: Stand, page: Page) -> None:
    """Whoever cancels on the phone reads so, and one button begins anew for the same page."""
    await page.goto(stand.url("home", "/start?a=1#2"))
    await at_qr(page, stand)
    await page.click("#cancel")
    await says(page, "登录没有完成")
    await expect(reason(page, "no-code")).to_be_visible()
    await page.click(".button")
    await scan(page, stand)
    await let_in(page)

    assert page.url == stand.url("home", "/start?a=1#2")


async def test_going_back_shows_no_error(stand: Stand, page: Page) -> None:
    """Back from the page leads to WeCom's QR page, as it was left there; forward, or a second scan, to the page again."""
    await page.goto(stand.url("home", "/public/form?to=/start"))
    await page.click("#link")
    await scan(page, stand)
    await let_in(page)
    await page.go_back()
    await scan(page, stand)
    await let_in(page)
    assert page.url == stand.url("home", "/start")
    await page.evaluate("history.go(-2)")  # in one step: WeCom's page between goes elsewhere by itself after a second

    await page.wait_for_url(stand.url("home", "/public/form?to=/start"))


async def test_callbacks_can_be_opened_again(stand: Stand, context: BrowserContext, page: Page) -> None:
    """Opening the callback again, from a bookmark or the history, leads to the page it was for and signs in nobody anew.

    A browser may do so by itself: where WeCom's page goes there twice, by its form and by its question after the scan.
    """
    callbacks: list[str] = []
    context.on("request", lambda request: callbacks.append(request.url) if "/_wecom/callback/" in request.url else None)
    await sign_in(page, stand, "/start?a=1#2")
    before = await session_values(context)
    for _ in range(2):
        await page.goto(callbacks[0])
        await page.wait_for_url(stand.url("home", "/start?a=1#2"))
        await let_in(page)

    assert await session_values(context) == before
    assert stand.sandbox.state.count("auth/getuserinfo") == 1


async def test_old_callbacks_are_explained(stand: Stand, context: BrowserContext, page: Page) -> None:
    """Hours later, the session over, a callback kept as a bookmark says what it is, and its button signs in."""
    callbacks: list[str] = []
    context.on("request", lambda request: callbacks.append(request.url) if "/_wecom/callback/" in request.url else None)
    await sign_in(page, stand, "/start?a=1")
    stand.clock.advance(13 * 3600)
    await page.goto(callbacks[0])
    await says(page, "登录超时了")
    await page.click(".button")
    await scan(page, stand)
    await let_in(page)

    assert page.url == stand.url("home", "/start?a=1")


async def test_callbacks_of_others_are_worth_nothing(stand: Stand, new_context: NewContext, page: Page) -> None:
    """A callback sent to somebody else signs them in as nobody: they read why, or stay who they are."""
    callbacks: list[str] = []
    page.context.on("request", lambda request: callbacks.append(request.url) if "/_wecom/callback/" in request.url else None)
    await sign_in(page, stand, "/start?a=1")
    other = await new_context(stand)
    theirs = await other.new_page()
    await theirs.goto(callbacks[0])
    await expect(reason(theirs, "no-cookie")).to_be_visible()
    assert await session_cookies(other) == set()
    await sign_in(theirs, stand, "/own", member="lisi")
    await theirs.goto(callbacks[0])
    await let_in(theirs, "lisi")

    assert theirs.url == stand.url("home")


async def test_callbacks_of_other_hosts_can_be_opened_again(stand: Stand, context: BrowserContext, page: Page) -> None:
    """The same at a host that got its session from the callback host, minutes later and long after that sign-in."""
    await sign_in(page, stand)
    stand.clock.advance(600)
    callbacks: list[str] = []
    context.on("request", lambda request: callbacks.append(request.url) if "?handover=" in request.url else None)
    await page.goto(stand.url("erp", "/start?a=1"))
    await let_in(page)
    stand.clock.advance(300)
    await page.goto(callbacks[0])
    await let_in(page)

    assert page.url == stand.url("erp", "/start?a=1")
    assert scans(stand) == 1


async def test_one_scan_serves_many_tabs(stand: Stand, context: BrowserContext) -> None:
    """Many tabs show a QR code, one is scanned: the others open by their links, or by a scan of their own, each its own page."""
    tabs = [await context.new_page() for _ in range(8)]
    links = [stand.url("home", f"/page/{number}?n={number}#n{number}") for number in range(len(tabs))]
    await asyncio.gather(*(tab.goto(link) for tab, link in zip(tabs, links, strict=True)))
    for tab in tabs:
        await at_qr(tab, stand)
    await scan(tabs[0], stand)
    await tabs[0].wait_for_url(links[0])
    shown = scans(stand)
    await asyncio.gather(*(tab.goto(link) for tab, link in zip(tabs[1:-1], links[1:-1], strict=True)))
    assert scans(stand) == shown
    await scan(tabs[-1], stand)
    for tab, link in zip(tabs, links, strict=True):
        await tab.wait_for_url(link)
        await let_in(tab)
