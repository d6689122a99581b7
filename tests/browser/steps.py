"""What people do, and what they see then."""

from __future__ import annotations

import re

from playwright.async_api import BrowserContext, Locator, Page, expect

from tests.browser.stand import Stand

WECOM = (
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/116.0.0.0 Mobile "
    "Safari/537.36 wxwork/4.1.30 MicroMessenger/7.0.1 NetType/WIFI Language/zh Lang/zh"
)
WECHAT = (
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/116.0.0.0 Mobile "
    "Safari/537.36 MicroMessenger/8.0.47.2560(0x28002F30) WeChat/arm64 NetType/WIFI Language/zh_CN"
)
QR_PAGE = "/wwlogin/sso/login"
AUTHORIZE = "/connect/oauth2/authorize"


async def at_qr(page: Page, stand: Stand) -> None:
    """The page shows WeCom's QR code."""
    await page.wait_for_url(f"{stand.sandbox.url}{QR_PAGE}?**")
    await expect(page.locator(".qr")).to_be_visible()


async def scan(page: Page, stand: Stand, member: str = "zhangsan") -> None:
    """Scan the QR code as *member*, who confirms."""
    await at_qr(page, stand)
    await page.click(f"#scan-{member}")


async def let_in(page: Page, member: str = "zhangsan") -> None:
    """The page is the app's, and the app knows who is there."""
    await expect(page.locator("#user")).to_have_text(member)


async def sign_in(page: Page, stand: Stand, path: str = "/start", *, site: str = "home", member: str = "zhangsan") -> None:
    """Open a page and sign in by the QR code."""
    await page.goto(stand.url(site, path))
    await scan(page, stand, member)
    await let_in(page, member)


async def says(page: Page, *texts: str) -> None:
    """The page is one of ours, its script has run, and it holds each text."""
    for text in texts:
        await expect(page.locator("main")).to_contain_text(text)
    await page.wait_for_load_state()


def reason(page: Page, slug: str) -> Locator:
    """The reason's code at a page's foot."""
    return page.locator(".foot code", has_text=re.compile(f"^{re.escape(slug)}$"))


async def session_values(context: BrowserContext) -> dict[str, str]:
    """The session cookies in the browser."""
    found = {str(cookie.get("name")): str(cookie.get("value")) for cookie in await context.cookies()}
    return {name: value for name, value in found.items() if "wecom_session" in name}


async def session_cookies(context: BrowserContext) -> set[str]:
    """Names of the session cookies in the browser."""
    return set(await session_values(context))


def scans(stand: Stand) -> int:
    """How many QR pages WeCom has shown."""
    return stand.sandbox.state.count(QR_PAGE)
