"""What cannot be redirected: forms half filled in when the session ends, frames, script-driven pages."""

from __future__ import annotations

import pytest
from playwright.async_api import BrowserContext, Page, expect

from tests.browser.legacy import Post
from tests.browser.stand import Stand
from tests.browser.steps import let_in, says, scan, sign_in

pytestmark = pytest.mark.asyncio(loop_scope="session")

OVER_S = 13 * 3600
"""After so long a session is over."""


@pytest.mark.parametrize("site", ["home", "intranet"])
async def test_forms_survive_the_end_of_a_session(stand: Stand, page: Page, site: str) -> None:
    """The session ended while a form was filled in: a scan in a second window, which closes, and the form arrives whole."""
    await sign_in(page, stand, "/form?to=/save", site=site)
    await page.fill("#text", "四千字 & more")
    stand.clock.advance(OVER_S)
    await page.click("#send")
    await says(page, "需要登录，内容不会丢")
    async with page.expect_popup() as opening:
        await page.click("#open")
    second = await opening.value
    await expect(page.locator("#wait")).to_be_visible()
    await scan(second, stand)
    await expect(page.locator("h1")).to_have_text("saved")
    if not second.is_closed():
        await second.wait_for_event("close")

    assert stand.app.posts == [Post("zhangsan", {"text": "四千字 & more", "kept": "a&b %26 张"}, stand.url(site).rstrip("/"))]
    assert page.url == stand.url(site, "/save")


async def test_forms_of_other_sites_are_not_sent_again(stand: Stand, page: Page) -> None:
    """What another site posted does not arrive, signed in or not: the person is asked to send it from there again."""
    await page.goto(stand.url("erp", f"/public/form?to={stand.url('home', '/save')}"))
    await page.click("#send")
    await says(page, "这次提交来自另一个网站")
    async with page.expect_popup() as opening:
        await page.click("#open")
    await scan(await opening.value, stand)
    await expect(page.locator("#signed-in")).to_be_visible()

    assert stand.app.posts == []


async def test_a_second_end_is_as_the_first(stand: Stand, page: Page) -> None:
    """Half a day after a form was sent again its next end asks for a sign-in as the first did, without talk of cookies."""
    await page.clock.install()
    await sign_in(page, stand)
    for ends in (1, 2):
        await page.goto(stand.url("home", "/form?to=/save"))
        stand.clock.advance(OVER_S)
        await page.clock.fast_forward(OVER_S * 1000)
        await page.click("#send")
        await says(page, "内容不会丢")
        await expect(page.locator("#again")).to_be_hidden()
        async with page.expect_popup() as opening:
            await page.click("#open")
        second = await opening.value
        await scan(second, stand)
        await expect(page.locator("h1")).to_have_text("saved")
        if not second.is_closed():
            await second.wait_for_event("close")
        assert len(stand.app.posts) == ends


@pytest.mark.parametrize("target", ["home", "intranet"])
async def test_signed_in_people_post_to_nobody_elses_site(stand: Stand, page: Page, target: str) -> None:
    """Even signed in, a form of another site arrives without the session (SameSite=Lax) and is not sent again with it."""
    await sign_in(page, stand, site=target)
    await page.goto(stand.url("erp", f"/public/form?to={stand.url(target, '/save')}"))
    await page.click("#send")
    await says(page, "这次提交来自另一个网站")

    assert stand.app.posts == []


async def test_frames_sign_in_by_a_second_window(stand: Stand, page: Page) -> None:
    """A protected page inside another: no redirect to WeCom within the frame, but a button, and then the page itself."""
    await page.goto(stand.url("home", "/public/framing?to=/inner%3Fa%3D1"))
    frame = page.frame_locator("iframe")
    await expect(frame.locator("main")).to_contain_text("需要登录")
    async with page.expect_popup() as opening:
        await frame.locator("#open").click()
    await scan(await opening.value, stand)

    await expect(frame.locator("#user")).to_have_text("zhangsan")
    assert stand.app.asked[-1] == "/inner?a=1"
    assert page.url == stand.url("home", "/public/framing?to=/inner%3Fa%3D1")


async def test_frames_of_other_sites_open_by_themselves(stand: Stand, page: Page) -> None:
    """In a frame of another site no browser sends our cookie: the page in it leads to a window of its own, which opens."""
    await page.goto(stand.url("erp", f"/public/framing?to={stand.url('home', '/inner?a=1')}"))
    frame = page.frame_locator("iframe")
    async with page.expect_popup() as opening:
        await frame.locator("#framed a").click()
    own = await opening.value
    await scan(own, stand)
    await let_in(own)

    assert own.url == stand.url("home", "/inner?a=1")


@pytest.mark.parametrize("site, fragment", [("home", "#/orders/7?x=1"), ("intranet", "")])
async def test_script_driven_pages_come_back(stand: Stand, page: Page, site: str, fragment: str) -> None:
    """A page of scripts follows ``login_url``, its route appended, and after the scan is where it was, with its data."""
    await page.goto(stand.url(site, f"/public/spa?view=list{fragment}"))
    await scan(page, stand)
    await expect(page.locator("#log")).to_have_text('200 {"user_id": "zhangsan"}')

    assert page.url == stand.url(site, f"/public/spa?view=list{fragment}")


async def test_open_pages_learn_of_the_end(stand: Stand, context: BrowserContext, page: Page) -> None:
    """A page that is open when the session ends gets 401 JSON for its next request, and data again after a scan in a tab."""
    ask = "fetch('/api/items').then(answer => answer.status)"
    await sign_in(page, stand)
    assert await page.evaluate(ask) == 200
    stand.clock.advance(OVER_S)
    assert await page.evaluate(ask) == 401
    await sign_in(await context.new_page(), stand, "/elsewhere")

    assert await page.evaluate(ask) == 200


async def test_a_page_of_another_site_learns_where_to_sign_in(stand: Stand, page: Page) -> None:
    """Its call to an application of ours without a session there is 401 JSON to it, not a network error."""
    ask = """async url => {
      const answer = await fetch(url, {credentials: 'include', headers: {Accept: 'application/json'}});
      return [answer.status, (await answer.json()).login_url];
    }"""
    await page.goto(stand.url("erp", "/public/"))

    status, login_url = await page.evaluate(ask, stand.url("home", "/api/items"))

    assert status == 401
    assert login_url.startswith(stand.url("home", "/_wecom/login?return_to="))
