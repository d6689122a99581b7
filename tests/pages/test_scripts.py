"""The scripts of the pages, in a real Chromium."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from gateway.pages import Pages
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.asyncio(loop_scope="module")

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP other.test 127.0.0.1",
]
CALLBACK = "/_wecom/callback/s1"
LOGIN = "/_wecom/login?return_to=/_wecom/done"


@dataclass
class App:
    """A site that needs ``signed_in``, with the sign-in that a test is about; it counts what it was sent."""

    pages: Pages
    kind: str = "form"
    cookie: bool = True  #: whether the sign-in's cookie comes back
    stays: bool = False  #: whether the second window waits for a person, as at WeCom's page
    seen: list[tuple[str, str]] = field(default_factory=list)  #: of /save: method and body
    origins: list[str] = field(default_factory=list)  #: of /save
    callback_cookies: dict[str, str] = field(default_factory=dict)
    elsewhere_cookies: dict[str, str] = field(default_factory=dict)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/report", self.report),
            web.get(CALLBACK, self.callback),
            web.get("/_wecom/login", self.login),
            web.get("/_wecom/done", self.done),
            web.get("/_wecom/me", self.me),
            web.get("/form", self.form),
            web.get("/frame", self.frame),
            web.get("/_wecom/logout", self.logout),
            web.get("/wechat", self.wechat),
            web.route("*", "/save", self.save),
        ]

    async def report(self, request: web.Request) -> web.Response:
        self.elsewhere_cookies = dict(request.cookies)
        if "done" in request.query:
            return web.Response(text="<h1>the report</h1>", content_type="text/html")
        return self.pages.render("fragment", language="zh", status=401, target=CALLBACK, state="s1")

    async def callback(self, request: web.Request) -> web.Response:
        self.callback_cookies = dict(request.cookies)
        return self.pages.render("restore", language="zh", target=str(request.url.origin()) + "/report?done=1", state="s1")

    async def login(self, request: web.Request) -> web.Response:
        if self.stays:
            return web.Response(text="<h1>scan</h1>", content_type="text/html")
        headers = {"Location": request.query["return_to"]}
        if self.cookie:
            headers["Set-Cookie"] = "signed_in=1; Path=/; HttpOnly; SameSite=Lax"
        return web.Response(status=302, headers=headers)

    async def done(self, request: web.Request) -> web.Response:
        return self.pages.render("done", language="zh")

    async def me(self, request: web.Request) -> web.Response:
        return web.json_response({}, status=200 if "signed_in" in request.cookies else 401)

    async def form(self, request: web.Request) -> web.Response:
        target = request.query.get("to", "/save")
        text = f"<form method=post action='{target}'><input name=text value='四千字'><button>save</button></form>"
        return web.Response(text=text, content_type="text/html")

    async def frame(self, request: web.Request) -> web.Response:
        text = f"<iframe src=/save {request.query.get('sandbox', '')}></iframe>"
        return web.Response(text=text, content_type="text/html")

    async def logout(self, request: web.Request) -> web.Response:
        return self.pages.render("logout", language="zh", action="/save")

    async def wechat(self, request: web.Request) -> web.Response:
        return self.pages.render("wechat", language="zh", url="https://oa.example.com/a?b=c")

    async def save(self, request: web.Request) -> web.Response:
        self.seen.append((request.method, (await request.post()).get("text", "")))  # type: ignore[arg-type]
        self.origins.append(request.headers.get("Origin", ""))
        if "signed_in" in request.cookies:
            return web.Response(text="<h1>saved</h1>", content_type="text/html")
        login_url = str(request.url.origin()) + LOGIN
        return self.pages.render(
            "window", language="zh", status=401, login_url=login_url, kind=self.kind, frame_ancestors="'self'"
        )


@pytest.fixture
def app() -> App:
    return App(Pages(None))


@pytest_asyncio.fixture(loop_scope="module")
async def site(app: App) -> AsyncIterator[str]:
    application = web.Application()
    application.add_routes(app.routes())
    async with TestServer(application, host="127.0.0.1") as server:
        yield str(server.make_url("/")).rstrip("/")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    expect.set_options(timeout=PATIENCE_S * 1000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS, timeout=PATIENCE_S * 1000)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A fresh browser profile; anything that our own policy kept from running fails the test."""
    context, refused = await browser.new_context(), list[str]()
    context.set_default_timeout(PATIENCE_S * 1000)
    context.on("console", lambda message: refused.append(message.text) if "Content Security" in message.text else None)
    context.on("weberror", lambda error: refused.append(str(error.error)))
    yield context
    await context.close()
    assert refused == []


@pytest_asyncio.fixture(loop_scope="module")
async def page(context: BrowserContext) -> Page:
    return await context.new_page()


async def storage(page: Page) -> dict[str, str]:
    found: dict[str, str] = await page.evaluate("({...sessionStorage})")
    return found


async def submitted(page: Page, site: str) -> None:
    await page.goto(f"{site}/form")
    await page.click("button")
    await expect(page.locator("#open")).to_be_visible()


async def test_fragments_survive(page: Page, site: str, app: App) -> None:
    """A fragment comes back after the sign-in, each time that the callback comes; its marker goes to this callback only."""
    await page.goto(f"{site}/report#tab=2&名=张'\"<b>")
    for _ in range(2):
        await page.wait_for_url("**/report?done=1*")
        assert await page.evaluate("decodeURIComponent(location.hash)") == "#tab=2&名=张'\"<b>"
        assert app.callback_cookies == {"wecom_fragment": "1"}
        assert app.elsewhere_cookies == {}
        await page.goto(site + CALLBACK)


async def test_no_fragment_keeps_nothing(page: Page, site: str, app: App) -> None:
    """Without a fragment neither page stores anything, and the address stays bare."""
    await page.goto(f"{site}/report")
    await page.wait_for_url("**/report?done=1")

    assert app.callback_cookies == {}
    assert await storage(page) == {}


async def test_hops_leave_no_history(page: Page, site: str) -> None:
    """Going back after a sign-in does not land on the pages between."""
    await page.goto(f"{site}/form")
    await page.goto(f"{site}/report#x")
    await page.wait_for_url("**/report?done=1#x")
    await page.go_back()

    assert page.url == f"{site}/form"


async def test_blocked_storage_goes_on(context: BrowserContext, page: Page, site: str) -> None:
    """Where the browser blocks storage the fragment is lost, and the sign-in goes on."""
    await context.add_init_script("Object.defineProperty(window, 'sessionStorage', {get() { throw Error('blocked') }})")
    await page.goto(f"{site}/report#x")
    await page.wait_for_url("**/report?done=1")


@pytest.mark.parametrize("stored", ["javascript:alert(1)", "//other.test/", "?done=2", "@other.test"])
async def test_stored_values_only_become_fragments(page: Page, site: str, stored: str) -> None:
    """Whatever another script put where the fragment is kept, the person arrives at the page first asked for."""
    await page.goto(f"{site}/form")
    await page.evaluate("value => sessionStorage.setItem('wecom:s1', value)", stored)
    await page.goto(site + CALLBACK)
    await page.wait_for_url("**/report?done=1")


async def test_without_scripts_links_lead_on(browser: Browser, site: str) -> None:
    """Without scripts the pages between are passed by their link."""
    page = await (await browser.new_context(java_script_enabled=False)).new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    await page.goto(f"{site}/report#x")
    await page.click("a")
    await page.click("a")

    assert page.url == f"{site}/report?done=1"


async def test_forms_are_sent_again(page: Page, site: str, app: App) -> None:
    """After the sign-in in a second window, which closes, the form arrives as it was filled in."""
    await submitted(page, site)
    async with page.expect_popup() as opening:
        await page.click("#open")
    second = await opening.value
    await expect(page.locator("h1")).to_have_text("saved")
    if not second.is_closed():
        await second.wait_for_event("close")

    assert app.seen == [("POST", "四千字")] * 2


@pytest.mark.parametrize("host", ["127.0.0.1", "other.test"], ids=["loopback", "plain http"])
async def test_own_posts_say_so(page: Page, site: str, app: App, host: str) -> None:
    """A form sent again, and a sign-out, carry their own Origin: apps and we check it against other sites' forms."""
    here = site.replace("127.0.0.1", host)
    await submitted(page, here)
    await page.click("#open")
    await expect(page.locator("h1")).to_have_text("saved")
    await page.goto(f"{here}/_wecom/logout")
    async with page.expect_navigation():
        await page.click("button >> nth=0")

    assert app.origins == [here, here, here]


async def test_second_window_has_no_opener(page: Page, site: str, app: App) -> None:
    """The second window, which shows WeCom's pages, cannot reach the one with the form."""
    app.stays = True
    await submitted(page, site)
    async with page.expect_popup() as opening:
        await page.click("#open")
    second = await opening.value
    await expect(second.locator("h1")).to_have_text("scan")

    assert await second.evaluate("window.opener === null")
    await expect(page.locator("#wait")).to_be_visible()


@pytest.mark.parametrize(
    "missing",
    [
        "delete window.BroadcastChannel",
        "delete window.BroadcastChannel; Storage.prototype.setItem = () => { throw Error('full') }",
    ],
    ids=["by storage", "by asking"],
)
async def test_signals_have_fallbacks(context: BrowserContext, page: Page, site: str, missing: str) -> None:
    """Where the browser has no channel between windows, storage tells of the sign-in; where that fails, asking does."""
    await context.add_init_script(missing)
    await submitted(page, site)
    await page.click("#open")

    await expect(page.locator("h1")).to_have_text("saved")


async def test_vain_sign_ins_do_not_loop(page: Page, site: str, app: App) -> None:
    """Where the sign-in does not stick the form is sent again once, and the page says what may be wrong."""
    app.cookie = False
    await submitted(page, site)
    async with page.expect_navigation():
        await page.click("#open")

    await expect(page.locator("#again")).to_be_visible()
    assert len(app.seen) == 2


async def test_blocked_windows_are_explained(context: BrowserContext, page: Page, site: str, app: App) -> None:
    """Where no second window opens the page says so and has a plain link to the sign-in."""
    await context.add_init_script("window.open = () => null")
    await submitted(page, site)
    await page.click("#open")
    await expect(page.locator("#blocked")).to_be_visible()
    await expect(page.locator("#wait")).to_be_hidden()
    await page.click("#blocked a")

    await expect(page.locator("h1")).to_have_text("saved")
    assert app.seen == [("POST", "四千字")] * 2


async def test_frames_reload(page: Page, site: str, app: App) -> None:
    """A page inside another signs in through a second window and reloads itself; it also offers a window of its own."""
    app.kind = "frame"
    await page.goto(f"{site}/frame")
    frame = page.frame_locator("iframe")
    await expect(frame.locator("#framed a")).to_have_attribute("href", f"{site}/save")
    await frame.locator("#open").click()

    await expect(frame.locator("h1")).to_have_text("saved")


async def test_sandboxed_frames_are_explained(page: Page, site: str, app: App) -> None:
    """A frame that may open no windows says so."""
    app.kind = "frame"
    await page.goto(f"{site}/frame?sandbox=sandbox='allow-scripts allow-same-origin'")
    frame = page.frame_locator("iframe")
    await frame.locator("#open").click()

    await expect(frame.locator("#blocked")).to_be_visible()


async def test_foreign_forms_are_not_sent_again(page: Page, site: str, app: App) -> None:
    """What another site posted is never sent again as our own: the browser's SameSite and Origin would vouch for it."""
    app.kind = "foreign"
    await page.goto(site.replace("127.0.0.1", "other.test") + f"/form?to={site}/save")
    await page.click("button")
    await page.click("#open")

    await expect(page.locator("#signed-in")).to_be_visible()
    assert app.seen == [("POST", "四千字")]


async def test_addresses_are_copied(context: BrowserContext, page: Page, site: str) -> None:
    """The button of the WeChat page copies the address."""
    await context.grant_permissions(["clipboard-read"])
    await page.goto(f"{site}/wechat")
    await page.click("#copy")

    await expect(page.locator("#copied")).to_be_visible()
    assert await page.evaluate("navigator.clipboard.readText()") == "https://oa.example.com/a?b=c"
