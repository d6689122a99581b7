"""Who is signed in, where, and until when: signing out, other accounts, other devices."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import NewContext
from tests.browser.stand import Stand
from tests.browser.steps import AUTHORIZE, WECOM, let_in, reason, says, scan, scans, session_cookies, sign_in

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_page_about_me(stand: Stand, page: Page) -> None:
    """``/_wecom/me`` signs in like any page, and shows who that is."""
    await page.goto(stand.url("home", "/_wecom/me"))
    await scan(page, stand)
    await says(page, "我的登录", "zhangsan", "张三")

    assert page.url == stand.url("home", "/_wecom/me")


async def test_signing_out_asks_before_and_after(stand: Stand, page: Page) -> None:
    """Signing out asks first; then a page asks before signing in again, and a scan leads back to what was opened."""
    await sign_in(page, stand)
    await page.goto(stand.url("home", "/_wecom/logout"))
    await says(page, "要退出登录吗？", "张三")
    assert len(await session_cookies(page.context)) == 1
    await page.click("button >> nth=0")
    await says(page, "已退出登录")
    assert await session_cookies(page.context) == set()
    await page.goto(stand.url("home", "/report?a=%26#2"))
    await says(page, "已退出登录")
    assert scans(stand) == 1
    await page.click(".button")
    await scan(page, stand)
    await let_in(page)

    assert page.url == stand.url("home", "/report?a=%26#2")


async def test_going_back_after_signing_out_shows_nothing(stand: Stand, page: Page) -> None:
    """The browser forgets what it kept of the site: who presses Back at a shared computer sees no page of the one before."""
    await sign_in(page, stand)
    await page.goto(stand.url("home", "/_wecom/logout"))
    await page.click(".button:not(.second)")
    await says(page, "已退出登录")
    await page.evaluate("history.go(-2)")
    await page.wait_for_url(stand.url("home", "/start"))

    await says(page, "已退出登录")


async def test_signing_out_in_the_client_lasts(stand: Stand, new_context: NewContext) -> None:
    """Inside WeCom, where signing in is silent, whoever signed out stays so until they press "sign in"."""
    context = await new_context(stand, user_agent=WECOM)
    page = await context.new_page()
    await page.goto(stand.url("home", "/start"))
    await let_in(page)
    await page.goto(stand.url("home", "/_wecom/logout"))
    await page.click("button >> nth=0")
    for _ in range(2):
        await page.goto(stand.url("home", "/report"))
        await says(page, "已退出登录")
    assert stand.sandbox.state.count(AUTHORIZE) == 1
    await page.click(".button")

    await let_in(page)
    assert page.url.rstrip("#") == stand.url("home", "/report")


async def test_whoever_may_not_enter_reads_why(stand: Stand, page: Page) -> None:
    """The 403 page says who is signed in, why not and whom to ask; with another account the same page opens."""
    await page.goto(stand.url("home", "/finance/2025?quarter=3#2"))
    await scan(page, stand)
    await says(page, "你没有权限访问这里", "张三 (zhangsan)", "信息部 8001")
    await expect(reason(page, "rule")).to_be_visible()
    await expect(reason(page, "user:lisi")).to_be_visible()
    assert page.url == stand.url("home", "/finance/2025?quarter=3#2")
    assert stand.app.asked == []
    await page.click(".button")
    await scan(page, stand, "lisi")
    await let_in(page, "lisi")

    assert page.url == stand.url("home", "/finance/2025?quarter=3#2")
    await page.goto(stand.url("home", "/report"))
    await let_in(page, "lisi")


async def test_other_accounts_are_taken_at_other_hosts(stand: Stand, page: Page) -> None:
    """Switching the account away from the callback host asks for a scan there, too, and not the session at hand."""
    await sign_in(page, stand, site="erp")
    await page.goto(stand.url("erp", "/finance/"))
    await says(page, "张三 (zhangsan)")
    await page.click(".button")
    await scan(page, stand, "lisi")
    await let_in(page, "lisi")

    assert page.url == stand.url("erp", "/finance/")


async def test_refused_members_in_the_client_do_not_loop(stand: Stand, new_context: NewContext) -> None:
    """Inside WeCom there is one account only: switching leads back to the 403 page, once."""
    context = await new_context(stand, user_agent=WECOM)
    page = await context.new_page()
    for action in (page.goto(stand.url("home", "/finance/")), page.click(".button")):
        await action
        await says(page, "你没有权限访问这里")
        await expect(reason(page, "rule")).to_be_visible()

    assert stand.sandbox.state.count(AUTHORIZE) == 2


async def test_devices_are_independent(stand: Stand, new_context: NewContext) -> None:
    """Signing out on one device leaves the other; signing out everywhere ends both, and a new sign-in works at once."""
    desk, phone = await (await new_context(stand)).new_page(), await (await new_context(stand)).new_page()
    for page in (desk, phone):
        await sign_in(page, stand)
    await desk.goto(stand.url("home", "/_wecom/logout"))
    await desk.click("button >> nth=0")
    await says(desk, "已退出登录")
    await phone.goto(stand.url("home", "/report"))
    await let_in(phone)
    await desk.click(".button")
    await scan(desk, stand)
    await desk.goto(stand.url("home", "/_wecom/logout"))
    await desk.click("button[name=everywhere]")
    await says(desk, "已退出登录")
    await phone.goto(stand.url("home", "/report"))
    await scan(phone, stand)
    await let_in(phone)
    await phone.reload()

    await let_in(phone)
