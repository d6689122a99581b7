"""A sandbox with a clock of its own, and plain ways to talk to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import aiohttp
import pytest
from yarl import URL

from gateway.sandbox import Sandbox

WECOM_AGENT = "Mozilla/5.0 (iPhone) Mobile/15E148 wxwork/4.1.30 MicroMessenger/7.0.1 Language/zh"
DOMAIN = "sso.example.com"


@dataclass
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Came:
    """Where a page sent us, or which page it was."""

    status: int
    page: str
    location: str
    text: str

    @property
    def query(self) -> dict[str, str]:
        pairs = parse_qs(urlsplit(self.location).query, keep_blank_values=True)
        return {name: values[0] for name, values in pairs.items()}


@dataclass(frozen=True)
class Client:
    """Talks to the sandbox over real HTTP."""

    sandbox: Sandbox
    http: aiohttp.ClientSession

    async def api(self, path: str, *, body: Any = None, **query: Any) -> dict[str, Any]:
        url = f"{self.sandbox.url}/cgi-bin/{path}"
        method = "GET" if body is None else "POST"
        async with self.http.request(method, url, params=query, json=body, allow_redirects=False) as answer:
            assert answer.status == 200
            result: dict[str, Any] = await answer.json()
            if result["errcode"]:
                assert answer.headers["Error-Code"] == str(result["errcode"])
                assert answer.headers["Error-Msg"] == result["errmsg"]
            return result

    async def token(self, app: int = 0) -> str:
        chosen = self.sandbox.state.apps[app]
        answer = await self.api("gettoken", corpid=chosen.corp_id, corpsecret=chosen.secret)
        return str(answer["access_token"])

    async def call(self, path: str, *, body: Any = None, **query: Any) -> dict[str, Any]:
        return await self.api(path, body=body, access_token=await self.token(), **query)

    def authorize_query(self, **changed: str | None) -> str:
        state = self.sandbox.state
        query = {
            "appid": state.corp_id,
            "redirect_uri": f"https://{DOMAIN}/_wecom/callback/abc",
            "response_type": "code",
            "scope": "snsapi_base",
            "state": "abc123",
            "agentid": str(state.agent_id),
        }
        return urlencode({k: v for k, v in (query | changed).items() if v is not None}, quote_via=quote, safe="")

    async def page(self, path: str, query: str = "", *, agent: str = WECOM_AGENT, form: Any = None, member: str = "") -> Came:
        url = URL(f"{self.sandbox.url}{path}{'?' if query else ''}{query}", encoded=True)
        headers = {"User-Agent": agent}
        cookies = {"sandbox_member": quote(member, safe="")} if member else {}
        method = "GET" if form is None else "POST"
        async with self.http.request(method, url, headers=headers, data=form, cookies=cookies, allow_redirects=False) as answer:
            page, location = answer.headers.get("X-Sandbox-Page", ""), answer.headers.get("Location", "")
            return Came(answer.status, page, location, await answer.text())

    async def authorize(self, *, agent: str = WECOM_AGENT, member: str = "", form: Any = None, **changed: str | None) -> Came:
        query = self.authorize_query(**changed)
        return await self.page("/connect/oauth2/authorize", query, agent=agent, member=member, form=form)

    async def code(self, *, member: str = "", **changed: str | None) -> str:
        return (await self.authorize(member=member, **changed)).query["code"]

    async def weblogin(self, path: str = "/wwlogin/sso/login", **changed: str | None) -> Came:
        defaults: dict[str, str | None] = {"login_type": "CorpApp", "response_type": None, "scope": None}
        return await self.page(path, self.authorize_query(**(defaults | changed)), agent="Mozilla/5.0 Chrome/130.0")

    async def press(self, page: Came, member: str = "", **form: str) -> Came:
        """Press a button of the QR page."""
        key = page.text.split('name="key" value="')[1].split('"')[0]
        return await self.page("/wwlogin/sso/act", form={"key": key, **form}, member=member)

    async def control(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        url = f"{self.sandbox.control_url}{path}"
        async with self.http.request(method, url, json=body, headers=headers) as answer:
            return answer.status, await answer.json()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def sandbox(clock: Clock) -> AsyncIterator[Sandbox]:
    async with Sandbox.start(clock=clock, oauth_domain=DOMAIN, retry_after_s=0) as sandbox:
        yield sandbox


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        yield Client(sandbox, http)
