"""What people see when something is broken: a page that names it, and a way on. Never a loop, never a bare error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page, async_playwright, expect

from tests.browser.conftest import FLAGS, NewContext, StartStand
from tests.browser.stand import Stand
from tests.browser.steps import (
    AUTHORIZE,
    WECOM,
    at_qr,
    let_in,
    reason,
    says,
    scan,
    scans,
    session_cookies,
    session_values,
    sign_in,
)
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_blocked_cookies_are_named(stand: Stand, tmp_path: Path) -> None:
    """A browser set to block all cookies: one round, then a page that says so; trying again does not loop either."""
    profile = tmp_path / "Default"
    profile.mkdir()
    wanted = {"profile": {"default_content_setting_values": {"cookies": 2}}}
    (profile / "Preferences").write_text(json.dumps(wanted), "utf-8")
    async with async_playwright() as playwright:
        context = await playwright.chromium.launch_persistent_context(
            tmp_path, executable_path="/usr/bin/chromium", args=FLAGS, user_agent=WECOM, locale="zh-CN"
        )
        page = await context.new_page()
        await page.goto(stand.url("home", "/start#2"))
        for rounds in (1, 2):
            await says(page, "浏览器没有保存登录信息", "Cookie")
            await expect(reason(page, "no-cookie")).to_be_visible()
            assert stand.sandbox.state.count(AUTHORIZE) == rounds
            await page.click(".button")
        await context.close()

    assert stand.app.asked == []


async def test_cookies_cleared_on_the_way_are_named(stand: Stand, context: BrowserContext, page: Page) -> None:
    """Cookies deleted while the QR code was on the screen: the page says so, and its button signs in."""
    await page.goto(stand.url("home", "/start"))
    await at_qr(page, stand)
    await context.clear_cookies()
    await scan(page, stand)
    await says(page, "浏览器没有保存登录信息")
    await page.click(".button")
    await scan(page, stand)

    await let_in(page)


async def test_a_cookie_by_another_name_is_named(start_stand: StartStand, new_context: NewContext) -> None:
    """``upstream.conf`` names another cookie than the gateway: after one sign-in a page shows both names to the operator."""
    stand = await start_stand(nginx={" wecom_session_": " wecom_other_"})
    context = await new_context(stand, user_agent=WECOM)
    page = await context.new_page()
    answer = await page.goto(stand.url("home", "/start"))
    await says(page, "反复登录也没有用", "upstream.conf")
    await expect(page.locator("dd code")).to_have_text([f"wecom_session_{stand.ports[0]}", f"wecom_other_{stand.ports[0]}"])

    assert answer
    assert stand.sandbox.state.count(AUTHORIZE) == 1
    assert stand.app.asked == []


async def test_other_keys_are_named(start_stand: StartStand, new_context: NewContext) -> None:
    """Two gateways with different keys, one checking and one signing in: two silent rounds, then a page that names the keys."""
    stand = await start_stand(other_key_checks=True)
    context = await new_context(stand, user_agent=WECOM)
    page = await context.new_page()
    await page.goto(stand.url("home", "/start"))
    await says(page, "反复登录也没有用", "signing_keys")
    await expect(reason(page, "keys")).to_be_visible()

    assert stand.sandbox.state.count(AUTHORIZE) == 2
    assert stand.app.asked == []


async def test_the_gateway_is_down_for_a_while(stand: Stand, page: Page) -> None:
    """While the gateway is down a kind page stands where pages, forms and sign-ins were; after it everything goes on."""
    await sign_in(page, stand, "/form?to=/save")
    await page.fill("#text", "四千字")
    await stand.stop_gateway()
    answer = await page.goto(stand.url("home", "/report"))
    assert answer
    assert answer.status == 503
    await says(page, "登录服务暂时不可用")
    await page.go_back()
    await page.fill("#text", "四千字")
    await page.click("#send")
    await says(page, "登录服务暂时不可用", "您填写的内容没有提交")
    await page.goto(stand.url("home", "/_wecom/me"))
    await says(page, "登录服务暂时不可用")
    assert stand.app.posts == []
    await stand.start_gateway()
    await page.goto(stand.url("home", "/report"))

    await let_in(page)


async def test_the_kind_page_leads_on(stand: Stand, page: Page) -> None:
    """The kind page's button opens the page again, with its query; a sign-in begun before the restart still ends well."""
    await page.goto(stand.url("home", "/report?a=%26"))
    await at_qr(page, stand)
    await stand.stop_gateway()
    await page.click("#scan-zhangsan")
    await says(page, "登录服务暂时不可用")
    await stand.start_gateway()
    await page.click("main a")
    await let_in(page)

    assert page.url == stand.url("home", "/report?a=%26")


@pytest.mark.parametrize(
    "path, how, title, wecom_has_s",
    [
        ("*", {"kind": "hang"}, "企业微信没有回应", 3),
        ("*", {"kind": "html"}, "企业微信没有回应", PATIENCE_S),
        ("auth/getuserinfo", {"errcode": -1}, "企业微信正忙", PATIENCE_S),
        ("user/get", {"errcode": 60020}, "登录设置有误", PATIENCE_S),
    ],
    ids=["silent", "nonsense", "busy", "misconfigured"],
)
async def test_wecom_is_down_for_a_while(
    start_stand: StartStand, new_context: NewContext, path: str, how: dict[str, object], title: str, wecom_has_s: int
) -> None:
    """A person who signs in while WeCom does not work reads so; later the button leads to the page first asked for."""
    stand = await start_stand(wecom_has_s=wecom_has_s)
    page = await (await new_context(stand)).new_page()
    await page.goto(stand.url("home", "/report?a=%26#2"))
    await at_qr(page, stand)
    stand.sandbox.state.fault(path, **how)
    await scan(page, stand)
    await says(page, title, "信息部 8001")
    assert await session_cookies(page.context) == set()
    stand.sandbox.state.faults.clear()
    await stand.wait_for_wecom()
    await page.click(".button")
    await scan(page, stand)
    await let_in(page)

    assert page.url == stand.url("home", "/report?a=%26#2")


async def test_signed_in_people_work_on_while_wecom_is_down(stand: Stand, page: Page) -> None:
    """WeCom down when a session is due for renewal: the page opens, and no sign-in is asked for."""
    await sign_in(page, stand)
    stand.clock.advance(3600)
    stand.sandbox.state.fault("*", kind="hang")
    await page.goto(stand.url("home", "/report?a=%26#2"))
    await let_in(page)

    assert page.url == stand.url("home", "/report?a=%26#2")
    assert scans(stand) == 1


async def test_renewal_is_not_seen(stand: Stand, page: Page) -> None:
    """An ageing session is renewed on the way: same page, query and fragment, no QR code, a new cookie."""
    await sign_in(page, stand)
    before = await session_values(page.context)
    stand.clock.advance(3600)
    await page.goto(stand.url("home", "/report?a=%26#2"))
    await let_in(page)

    assert page.url == stand.url("home", "/report?a=%26#2")
    assert scans(stand) == 1
    assert await session_values(page.context) != before
