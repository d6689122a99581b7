"""Plain http, where browsers say nothing of what a request is for, and https, where cookies are bound to it."""

from __future__ import annotations

import pytest
from playwright.async_api import Page

from tests.browser.conftest import NewContext, StartStand
from tests.browser.stand import Stand
from tests.browser.steps import let_in, says, scan, scans, session_cookies, sign_in
from tests.patience import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

ASK = """async how => {
  const answer = await fetch('/api/items', how);
  return [answer.status, answer.redirected, answer.headers.get('Content-Type'), await answer.json()];
}"""
ASK_OLD = """how => new Promise(resolve => {
  const request = new XMLHttpRequest();
  request.open('GET', '/api/items');
  for (const name in how.headers) request.setRequestHeader(name, how.headers[name]);
  request.onloadend = () => resolve([request.status, request.responseURL !== location.origin + '/api/items',
    request.getResponseHeader('Content-Type'), JSON.parse(request.responseText)]);
  request.send();
})"""

LOAD = """parts => Promise.all(parts.map(([tag, name, url]) => new Promise(done => {
  const element = document.createElement(tag);
  element.rel = 'stylesheet';
  element.onerror = element.onload = done;
  element[name] = url;
  document.body.append(element);
})))"""


async def test_plain_http_sends_no_fetch_metadata(stand: Stand, page: Page) -> None:
    """What the tests here rest on: Chromium says what a request is for to localhost, and not to a plain http name."""
    found = {}
    for site in ("home", "intranet"):
        await page.goto(stand.url(site, "/public/"))
        found[site] = "Sec-Fetch-Mode" in stand.app.headers

    assert found == {"home": True, "intranet": False}


async def test_plain_http_signs_in(start_stand: StartStand, new_context: NewContext) -> None:
    """On plain http a page leads to WeCom by a bare redirect and comes back, the query as it was, the fragment gone."""
    stand = await start_stand(callback="intranet")
    context = await new_context(stand)
    page = await context.new_page()
    first = await page.goto(stand.url("intranet", "/报表?q=张&a=%26#tab"))
    assert first
    assert first.request.redirected_from
    answer = await first.request.redirected_from.response()
    assert answer
    assert answer.status == 302
    await scan(page, stand)
    await let_in(page)

    assert page.url == stand.url("intranet", "/%E6%8A%A5%E8%A1%A8?q=%E5%BC%A0&a=%26")
    assert await session_cookies(context) == {stand.cookie_name("intranet")}


@pytest.mark.parametrize("site", ["home", "intranet"])
async def test_scripts_get_json(stand: Stand, page: Page, site: str) -> None:
    """A script that is signed out gets 401 JSON that leads back to its page, and never a redirect."""
    await page.goto(stand.url(site, "/public/orders?a=1"))
    plain: dict[str, str] = {}
    jquery = {"X-Requested-With": "XMLHttpRequest", "Accept": "text/html, */*"}
    for script, headers in ((ASK, plain), (ASK, jquery), (ASK_OLD, plain), (ASK_OLD, jquery)):
        status, moved, kind, body = await page.evaluate(script, {"headers": headers})
        assert (status, moved, kind) == (401, False, "application/json; charset=utf-8")
        assert (body["error"], body["reason"]) == ("unauthorized", "no-session")

    await page.goto(body["login_url"])
    await scan(page, stand)
    await let_in(page, "")
    assert page.url == stand.url(site, "/public/orders?a=1")


@pytest.mark.parametrize("site", ["home", "intranet"])
async def test_images_do_not_go_to_wecom(stand: Stand, page: Page, site: str) -> None:
    """An image, style sheet or script of a signed-out page is 401 where it is; nothing is asked of WeCom."""
    await page.goto(stand.url(site, "/public/"))
    statuses: dict[str, int] = {}
    page.on("response", lambda response: statuses.update({response.request.resource_type: response.status}))
    await page.evaluate(LOAD, [["img", "src", "/chart.png"], ["script", "src", "/x.js"], ["link", "href", "/x.css"]])
    await until(lambda: len(statuses) >= 3)

    assert statuses == {"image": 401, "script": 401, "stylesheet": 401}
    assert scans(stand) == 0


async def test_https_binds_cookies_to_the_host(start_stand: StartStand, new_context: NewContext) -> None:
    """On https the session is ``__Host-``, Secure, HttpOnly and Lax; the fragment stays; no cookie of a sign-in is left on /."""
    stand = await start_stand(scheme="https")
    context = await new_context(stand, ignore_https_errors=True)
    page = await context.new_page()
    await sign_in(page, stand, "/报表?a=%26#第二节")
    kept = {str(cookie.get("name")): cookie for cookie in await context.cookies(stand.url("home"))}
    session = kept[stand.cookie_name("home")]

    assert page.url == stand.url("home", "/%E6%8A%A5%E8%A1%A8?a=%26#%E7%AC%AC%E4%BA%8C%E8%8A%82")
    assert stand.cookie_name("home") == f"__Host-wecom_session_{stand.ports[0]}"
    assert (session.get("secure"), session.get("httpOnly"), session.get("sameSite")) == (True, True, "Lax")
    assert (session.get("domain"), session.get("path")) == ("oa.example.test", "/")
    assert all(cookie.get("secure") and cookie.get("httpOnly") for cookie in kept.values())
    assert {name for name in kept if not name.startswith("__Host-")} == set()
    assert "wecom_session" not in stand.app.headers.get("Cookie", "")


async def test_https_ports_keep_their_own_sessions(start_stand: StartStand, new_context: NewContext) -> None:
    """Two https ports of one host and another host: one scan, three sessions; signing out of one leaves the others."""
    stand = await start_stand(scheme="https")
    context = await new_context(stand, ignore_https_errors=True)
    page = await context.new_page()
    await sign_in(page, stand, "/start#a")
    for site in ("twin", "erp", "home"):
        await page.goto(stand.url(site, "/x#b"))
        await let_in(page)
        assert page.url == stand.url(site, "/x#b")
    assert scans(stand) == 1
    assert await session_cookies(context) == {stand.cookie_name(site) for site in stand.sites}
    await page.goto(stand.url("twin", "/_wecom/logout"))
    await page.click("button >> nth=0")
    await says(page, "已退出登录")

    for site in ("erp", "home"):
        await page.goto(stand.url(site, "/x"))
        await let_in(page)
    assert await session_cookies(context) == {stand.cookie_name("erp"), stand.cookie_name("home")}


async def test_http_beside_https_does_not_loop(start_stand: StartStand, new_context: NewContext) -> None:
    """An https site opened by http: the browser keeps no Secure cookie there, and a page says so; its button signs in."""
    stand = await start_stand(scheme="https", also_http="home")
    context = await new_context(stand, ignore_https_errors=True)
    page = await context.new_page()
    await page.goto(f"http://oa.example.test:{stand.http_port}/start?a=1")
    await scan(page, stand)
    await says(page, "浏览器没有保存登录信息", "Cookie")
    await page.click(".button")
    await scan(page, stand)
    await let_in(page)

    assert page.url.startswith("https:")
