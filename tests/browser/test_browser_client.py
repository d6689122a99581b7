"""A member inside the WeCom client: no sign-in page is ever seen. And personal WeChat, which knows no member."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import expect

from tests.browser.conftest import NewContext, StartStand
from tests.browser.stand import Stand
from tests.browser.steps import AUTHORIZE, WECHAT, WECOM, let_in, says, scans, session_cookies

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_silently_signed_in(stand: Stand, new_context: NewContext) -> None:
    """The page opens, fragment and all; going back leads to where the link was, not into the sign-in."""
    context = await new_context(stand, holder="lisi", user_agent=WECOM)
    page = await context.new_page()
    await page.goto(stand.url("home", "/public/form?to=/report%3Fa%3D%2526%23/tab/2"))
    await page.click("#link")
    await let_in(page, "lisi")
    assert page.url == stand.url("home", "/report?a=%26#/tab/2")
    assert scans(stand) == 0
    await page.go_back()
    await expect(page.locator("h1")).to_have_text("/public/form")
    await page.go_forward()
    await let_in(page, "lisi")

    assert stand.sandbox.state.count(AUTHORIZE) == 1


async def test_the_fragment_of_wecom_does_not_stay(stand: Stand, new_context: NewContext) -> None:
    """On plain http a fragment cannot be kept, but neither does WeCom's own ``#wechat_redirect`` reach the app's routes."""
    context = await new_context(stand, user_agent=WECOM)
    page = await context.new_page()
    await page.goto(stand.url("intranet", "/report?a=1#/tab/2"))
    await let_in(page)

    assert page.url.rstrip("#") == stand.url("intranet", "/report?a=1")
    assert await page.evaluate("location.hash") == ""


async def test_the_home_of_the_app_follows_the_holder(stand: Stand, new_context: NewContext) -> None:
    """``/_wecom/enter`` signs in anew: on a device handed on, the next holder is not the one before."""
    context = await new_context(stand, user_agent=WECOM)
    page = await context.new_page()
    await page.goto(stand.url("home", "/_wecom/enter?to=/start"))
    await let_in(page)
    await context.add_cookies([{"name": "sandbox_member", "value": "lisi", "url": stand.sandbox.url}])
    await page.goto(stand.url("home", "/_wecom/enter?to=/start"))

    await let_in(page, "lisi")


async def test_a_callback_that_comes_twice_is_one_sign_in(stand: Stand, new_context: NewContext) -> None:
    """Some clients ask for the callback twice and drop the first answer: the person sees the page, not an error."""
    stand.sandbox.state.switches.double_callback = True
    context = await new_context(stand, user_agent=WECOM)
    page = await context.new_page()
    await page.goto(stand.url("home", "/start?a=1#2"))
    await let_in(page)

    assert page.url == stand.url("home", "/start?a=1#2")
    assert stand.sandbox.state.count("auth/getuserinfo") == 1


@pytest.mark.parametrize("site", ["home", "intranet"])
async def test_personal_wechat_is_told_where_to_open(stand: Stand, new_context: NewContext, site: str) -> None:
    """In personal WeChat a page says to open the address in WeCom, and copies it, on plain http too."""
    context = await new_context(stand, user_agent=WECHAT)
    page = await context.new_page()
    answer = await page.goto(stand.url(site, "/report?a=1&b=%26"))
    await says(page, "请在企业微信中打开")
    await page.click("#copy")
    await expect(page.locator("#copied")).to_be_visible()

    assert answer
    assert answer.status == 401
    assert await page.input_value("#url") == stand.url(site, "/report?a=1&b=%26")
    assert await session_cookies(context) == set()


@pytest.mark.parametrize("agreed", [True, False], ids=["agreed", "refused"])
async def test_private_details_need_consent(start_stand: StartStand, new_context: NewContext, agreed: bool) -> None:
    """The member is asked by WeCom once; the app learns what was agreed to; whoever refuses is signed in without it."""
    stand = await start_stand(scope="snsapi_privateinfo", details=["mobile", "email"])
    context = await new_context(stand, user_agent=WECOM)
    page = await context.new_page()
    await page.goto(stand.url("home", "/start#2"))
    await page.click("#agree" if agreed else "#refuse")
    await let_in(page)

    assert page.url == stand.url("home", "/start#2")
    assert ("X-WeCom-Mobile" in stand.app.headers) is agreed
    assert ("X-WeCom-Email" in stand.app.headers) is agreed


async def test_forty_tabs_at_once(stand: Stand, new_context: NewContext) -> None:
    """A restored window of forty tabs, nobody signed in and not one cookie: each tab ends on its own page."""
    context = await new_context(stand, user_agent=WECOM)
    tabs = [await context.new_page() for _ in range(40)]
    links = [stand.url("home", f"/page/{number}?n={number}#n{number}") for number in range(40)]
    await asyncio.gather(*(tab.goto(link) for tab, link in zip(tabs, links, strict=True)))
    for tab, link in zip(tabs, links, strict=True):
        await tab.wait_for_url(link)

    assert await session_cookies(context) == {stand.cookie_name("home")}
    assert [name for name in stand.app.headers.get("Cookie", "").split("; ") if "signin" in name] == []
