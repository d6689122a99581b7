"""Applications with a service worker: it sends what the person opens, and the browser no longer says that it is a page."""

from __future__ import annotations

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.browser.legacy import Post
from tests.browser.stand import Stand
from tests.browser.steps import let_in, says, scan, scans, session_values, sign_in

pytestmark = pytest.mark.asyncio(loop_scope="session")

OVER_S = 13 * 3600
"""After so long a session is over."""


@pytest_asyncio.fixture(loop_scope="session")
async def worked(stand: Stand, page: Page) -> Page:
    """A signed-in page that a service worker is in charge of."""
    await sign_in(page, stand, "/form?to=/save")
    in_charge = "new Promise(done => { navigator.serviceWorker.oncontrollerchange = () => done(true); })"
    await page.evaluate(f"navigator.serviceWorker.register('/worker.js') && {in_charge}")
    return page


async def test_pages_lead_to_the_sign_in(stand: Stand, worked: Page) -> None:
    """The session over, a page leads to the QR code and back, its fragment with it, not to the 401 JSON of scripts."""
    stand.clock.advance(OVER_S)
    await worked.goto(stand.url("home", "/report?a=%26#2"))
    await scan(worked, stand)
    await let_in(worked)

    assert worked.url == stand.url("home", "/report?a=%26#2")


async def test_pages_renew(stand: Stand, worked: Page) -> None:
    """An ageing session is renewed by them."""
    before = await session_values(worked.context)
    stand.clock.advance(3600)
    await worked.goto(stand.url("home", "/report?a=%26#2"))
    await let_in(worked)

    assert await session_values(worked.context) != before
    assert scans(stand) == 1


async def test_forms_survive(stand: Stand, worked: Page) -> None:
    """A form that is posted after the end arrives whole once a second window has signed in."""
    await worked.fill("#text", "四千字")
    stand.clock.advance(OVER_S)
    await worked.click("#send")
    await says(worked, "需要登录，内容不会丢")
    async with worked.expect_popup() as opening:
        await worked.click("#open")
    await scan(await opening.value, stand)
    await expect(worked.locator("h1")).to_have_text("saved")

    own = stand.url("home").rstrip("/")
    assert stand.app.posts == [Post("zhangsan", {"text": "四千字", "kept": "a&b %26 张"}, own)]


async def test_foreign_forms_are_not_sent_again(stand: Stand, worked: Page) -> None:
    """What another site posts does not become our own by the way through the worker."""
    await worked.goto(stand.url("erp", f"/public/form?to={stand.url('home', '/save')}"))
    await worked.click("#send")
    await says(worked, "这次提交来自另一个网站")

    assert stand.app.posts == []
