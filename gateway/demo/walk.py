"""The chain once, from a refusal to a sign-out: one line for each step that held, CannotRun at the first that did not."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from gateway.demo.invitation import WECOM_AGENT
from gateway.demo.plan import CannotRun, Plan

DESKTOP_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
SCRIPT = {"Accept": "application/json"}
PAGE_AS_JSON = {"Accept": "text/html, application/json"}
"""A navigation for the gateway, JSON for the legacy app."""
FORGED = {"X-WeCom-UserId": "boss", "X_WeCom_UserId": "boss", "X-WeCom_UserId": "boss", "X-WeCom-Account": "boss"}
MAX_HOPS = 12


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, and the address it came from."""

    url: str
    status: int
    headers: dict[str, str]
    text: str
    hops: tuple[str, ...] = ()

    @property
    def location(self) -> str:
        return self.headers.get("location", "")

    @property
    def seen(self) -> dict[str, Any]:
        """What the legacy app saw."""
        try:
            seen: dict[str, Any] = json.loads(self.text)
        except ValueError:
            raise CannotRun(f"{self.url} answered {self.status} and not as the app does: {self.text[:200]!r}") from None
        return seen


class Browser:
    """A cookie jar and a User-Agent; redirects are followed by hand, to the letter."""

    def __init__(self, http: aiohttp.ClientSession, agent: str) -> None:
        self._http = http
        self._agent = agent

    async def send(self, method: str, url: str, headers: dict[str, str], form: dict[str, str] | None = None) -> Answer:
        """One request, no redirect followed."""
        target = URL(url.partition("#")[0], encoded=True)
        async with self._http.request(
            method, target, headers={"User-Agent": self._agent, **headers}, data=form, allow_redirects=False
        ) as response:
            found = {name.lower(): value for name, value in response.headers.items()}
            return Answer(url, response.status, found, await response.text("utf-8", "replace"))

    async def open(self, url: str, headers: dict[str, str], *, form: dict[str, str] | None = None) -> Answer:
        """A request, by POST with *form*, and whatever it redirects to."""
        answer = await self.send("POST" if form else "GET", url, headers, form)
        hops = [url]
        while answer.location and answer.status in (302, 303):
            if len(hops) > MAX_HOPS:
                raise CannotRun("redirected without end: " + " → ".join(hop.partition("?")[0] for hop in hops))
            hops.append(urljoin(answer.url, answer.location))
            answer = await self.send("GET", hops[-1], headers)
        return Answer(answer.url, answer.status, answer.headers, answer.text, tuple(hops))


@dataclass(frozen=True, slots=True)
class Walk:
    """Somebody with the WeCom client, somebody at a desktop, and somebody not signed in."""

    plan: Plan
    client: Browser
    desktop: Browser
    stranger: Browser
    control: aiohttp.ClientSession

    def url(self, path: str) -> str:
        return self.plan.origin.url(path)

    async def script_refused(self) -> None:
        """a script without a session gets 401 JSON, no redirect"""
        answer = await self.stranger.send("GET", self.url("/app/"), SCRIPT)
        _expect("status", answer.status, 401)
        _expect("Content-Type", answer.headers.get("content-type", "").partition(";")[0], "application/json")
        _expect("reason", json.loads(answer.text).get("reason"), "no-session")

    async def one_redirect(self) -> None:
        """a page in the WeCom client: one redirect, straight to WeCom"""
        answer = await self.stranger.send("GET", self.url("/app/"), PAGE | {"User-Agent": WECOM_AGENT})
        _expect("status", answer.status, 302)
        start = f"{self.plan.sandbox_url}/connect/oauth2/authorize?"
        _expect("Location", answer.location[: len(start)], start)
        _expect("its end", answer.location[-16:], "#wechat_redirect")

    async def silent_sign_in(self) -> None:
        """following it signs in silently and ends at the page first asked for, with X-WeCom-UserId: zhangsan"""
        answer = await self.client.open(self.url("/app/report?year=2025&q=%E5%BC%A0"), PAGE_AS_JSON)
        _expect("status", answer.status, 200)
        _expect("the app's URI", answer.seen["uri"], "/app/report?year=2025&q=%E5%BC%A0")
        _expect("X-WeCom-UserId", answer.seen["headers"].get("X-WeCom-UserId"), "zhangsan")
        _expect("X-WeCom-Name", answer.seen["headers"].get("X-WeCom-Name"), "%E5%BC%A0%E4%B8%89")

    async def forged_identity(self) -> None:
        """an identity that the client invents, and our session cookie, never reach the app"""
        answer = await self.client.send("GET", self.url("/app/"), SCRIPT | FORGED)
        _expect("status", answer.status, 200)
        _expect("identity", answer.seen["user_id"], "zhangsan")
        _expect("invented headers that arrived", _invented(answer), [])
        _expect("session cookies", [name for name in answer.seen["cookies"] if "wecom_session" in name], [])

    async def static_site(self) -> None:
        """the static site opens by the same session, and not without"""
        _expect("status", (await self.client.send("GET", self.url("/site/"), PAGE)).status, 200)
        _expect("status without a session", (await self.stranger.send("GET", self.url("/site/"), SCRIPT)).status, 401)

    async def rule_refuses(self) -> None:
        """/finance/ refuses zhangsan by its rule: department 管理中心 and below"""
        answer = await self.client.send("GET", self.url("/finance/"), SCRIPT)
        _expect("status", answer.status, 403)
        _expect("reason", json.loads(answer.text).get("reason"), "rule")

    async def qr_sign_in(self) -> None:
        """a desktop browser: QR page, scan as lisi, back at /finance/ with X-WeCom-UserId: lisi"""
        page = await self.desktop.open(self.url("/finance/2025?quarter=3"), PAGE_AS_JSON)
        _expect("the QR page", page.url.partition("?")[0], f"{self.plan.sandbox_url}/wwlogin/sso/login")
        key = re.search(r'name="key" value="([^"]+)"', page.text)
        if page.status != 200 or key is None:
            raise CannotRun(f"no QR code on {page.url}: status {page.status}")
        form = {"key": key[1], "member": "lisi"}
        answer = await self.desktop.open(f"{self.plan.sandbox_url}/wwlogin/sso/act", PAGE_AS_JSON, form=form)
        _expect("status", answer.status, 200)
        _expect("the app's URI", answer.seen["uri"], "/finance/2025?quarter=3")
        _expect("X-WeCom-UserId", answer.seen["user_id"], "lisi")

    async def second_host(self) -> None:
        """another host opens without a second QR"""
        answer = await self.desktop.open(self.plan.other.url("/app/other"), PAGE_AS_JSON)
        _expect("visits to WeCom", [hop for hop in answer.hops if hop.startswith(self.plan.sandbox_url)], [])
        _expect("status", answer.status, 200)
        _expect("X-WeCom-UserId", answer.seen["user_id"], "lisi")

    async def public_page(self) -> None:
        """a public page opens for anybody, without any identity"""
        answer = await self.stranger.send("GET", self.url("/public/"), SCRIPT | FORGED)
        _expect("status", answer.status, 200)
        _expect("identity", answer.seen["user_id"], "")
        _expect("invented headers that arrived", _invented(answer), [])

    async def question_from_outside(self) -> None:
        """/_wecom/auth asked from outside is 404"""
        for path in ("/_wecom/auth", "/_wecom/auth/user:lisi", "//_wecom/auth"):
            _expect(path, (await self.client.send("GET", self.url(path), PAGE)).status, 404)

    async def sign_out(self) -> None:
        """after signing out the session is over, and no silent sign-in brings it back"""
        answer = await self.client.open(self.url("/_wecom/logout"), PAGE, form={"everywhere": "0"})
        _expect("status", answer.status, 200)
        again = await self.client.open(self.url("/app/"), PAGE_AS_JSON)
        _expect("status of a page", again.status, 401)
        _expect("where that page is", again.url, self.url("/app/"))
        _expect("status for a script", (await self.client.send("GET", self.url("/app/"), SCRIPT)).status, 401)

    async def somebody_leaves(self) -> None:
        """disabled in WeCom, lisi is refused within a second by WeCom's own event; enabled again, a sign-in lets them in"""
        try:
            await self._change("lisi", {"status": 2})
            for _ in range(20):
                answer = await self.desktop.send("GET", self.url("/app/"), SCRIPT)
                if answer.status != 200:
                    break
                await asyncio.sleep(0.05)
            _expect("status", answer.status, 401)
            _expect("reason", json.loads(answer.text).get("reason"), "revoked")
        finally:
            await self._change("lisi", {"status": 1})
        await self.qr_sign_in()

    async def _change(self, member: str, wanted: dict[str, Any]) -> None:
        async with self.control.patch(f"{self.plan.control_url}members/{member}", json=wanted) as response:
            _expect(f"the sandbox's answer about {member}", response.status, 200)

    @property
    def steps(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        return (
            self.script_refused,
            self.one_redirect,
            self.silent_sign_in,
            self.forged_identity,
            self.static_site,
            self.rule_refuses,
            self.qr_sign_in,
            self.second_host,
            self.public_page,
            self.question_from_outside,
            self.somebody_leaves,
            self.sign_out,
        )


async def walk(plan: Plan, say: Callable[[str], None]) -> None:
    """Take every step; each one's docstring is what it shows."""
    timeout = aiohttp.ClientTimeout(total=20)
    jars = [aiohttp.CookieJar(unsafe=True), aiohttp.CookieJar(unsafe=True), aiohttp.DummyCookieJar()]
    async with (
        aiohttp.ClientSession(cookie_jar=jars[0], timeout=timeout) as client,
        aiohttp.ClientSession(cookie_jar=jars[1], timeout=timeout) as desktop,
        aiohttp.ClientSession(cookie_jar=jars[2], timeout=timeout) as stranger,
    ):
        browsers = Browser(client, WECOM_AGENT), Browser(desktop, DESKTOP_AGENT), Browser(stranger, DESKTOP_AGENT)
        for step in Walk(plan, *browsers, stranger).steps:
            try:
                await step()
            except (CannotRun, aiohttp.ClientError, TimeoutError, ValueError) as error:
                raise CannotRun(f"broken: {step.__doc__}\n    {error or type(error).__name__}") from error
            say(f"ok  {step.__doc__}")


def _invented(answer: Answer) -> list[str]:
    return [f"{name}: {value}" for name, value in answer.seen["headers"].items() if "boss" in value]


def _expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise CannotRun(f"{what}: {found!r}, expected {wanted!r}")
