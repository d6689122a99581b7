"""The sandbox's own scripts, in a real browser."""

from __future__ import annotations

import asyncio
import shutil

import pytest
from aiohttp import web
from playwright.async_api import async_playwright, expect
from yarl import URL

from tests.patience import PATIENCE_S


@pytest.fixture
async def browser():
    expect.set_options(timeout=PATIENCE_S * 1000)
    async with async_playwright() as playwright:
        path, timeout = shutil.which("chromium"), PATIENCE_S * 1000
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"], timeout=timeout)
        yield browser
        await browser.close()


async def opened(browser, **how):
    """A page in a profile of its own."""
    context = await browser.new_context(**how)
    context.set_default_timeout(PATIENCE_S * 1000)
    return await context.new_page()


@pytest.fixture
async def landing(aiohttp_server, sandbox):
    """Where callbacks arrive: its address, and the paths that were asked for."""
    paths: list[str] = []
    twice = asyncio.Event()

    async def land(request: web.Request) -> web.Response:
        paths.append(request.path_qs)
        if len(paths) == 2:
            twice.set()
        if sandbox.state.switches.double_callback:
            await twice.wait()  # answered before, the page would be gone before it asks again
        return web.Response(text="landed", content_type="text/html")

    app = web.Application()
    app.router.add_get("/cb", land)
    server = await aiohttp_server(app)
    url = URL(f"http://localhost:{server.port}/cb")
    sandbox.state.app.oauth_domain = url.authority
    return str(url), paths, twice


async def test_second_device_confirms(browser, client, landing):
    """Confirming in another window takes the page with the QR code to the callback."""
    page = await opened(browser)
    query = client.authorize_query(login_type="CorpApp", redirect_uri=landing[0])
    await page.goto(f"{client.sandbox.url}/wwlogin/sso/login?{query}")
    async with page.expect_popup() as opening:
        await page.click("#phone")
    phone = await opening.value
    await phone.click("#confirm")
    await page.wait_for_url("**/cb?code=*")

    assert page.url.endswith("&state=abc123&appid=ww0123456789abcdef")


async def test_in_app_scripts(browser, client, sandbox, landing):
    """The page looks for #wechat_redirect; a double callback asks twice for one address."""
    url, paths, twice = landing
    page = await opened(browser, user_agent="wxwork/4.1 MicroMessenger/7.0")
    start = f"{sandbox.url}/connect/oauth2/authorize?{client.authorize_query(redirect_uri=url)}"
    sandbox.state.switches.check_fragment = True
    await page.goto(start)
    await expect(page.locator("#told")).to_be_visible()
    sandbox.state.switches.double_callback = True
    await page.goto("about:blank")
    await page.goto(f"{start}#wechat_redirect")
    await page.wait_for_url("**/cb?code=*")
    await asyncio.wait_for(twice.wait(), PATIENCE_S)

    assert paths[0] == paths[1]


async def test_console(browser, sandbox):
    """The console changes members and the app, and shows what was refused."""
    page = await opened(browser)
    await page.goto(sandbox.control_url.removesuffix("_sandbox/"))
    await page.locator("#members tr", has_text="zhangsan").get_by_text("禁用").click()
    await expect(page.locator("#members tr", has_text="zhangsan")).to_contain_text("启用")
    await page.fill("[name=trusted_ips]", "127.0.0.1, 203.0.113.9")
    async with page.expect_response("**/_sandbox/outbox"):
        await page.click("#save-app")
    await page.fill("#callback [name=url]", "http://127.0.0.1:1/")
    await page.click("#save-callback")
    await expect(page.locator("#told")).to_contain_text("letters and digits")

    assert sandbox.state.member("zhangsan").status == 2
    assert sandbox.state.app.trusted_ips == ("127.0.0.1", "203.0.113.9")
