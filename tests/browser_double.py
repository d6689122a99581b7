"""A browser with nginx's side of the contract built in: what the shipped snippets tell the gateway, without an nginx.

Cookies follow a browser's rules (host, path, Secure, ``__Host-``), the fragment and restore pages do what their scripts do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html import unescape
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from gateway import __version__
from gateway.pages.texts import BUILT_IN, read

TEXTS = read(BUILT_IN / "zh.toml")
MAX_HOPS = 12

KINDS: Mapping[str, dict[str, str]] = {
    "document": {"X-WeCom-Navigation": "1", "Sec-Fetch-Dest": "document", "Accept": "text/html"},
    "plain": {"X-WeCom-Navigation": "1", "Accept": "text/html"},  # no Sec-Fetch: plain http, older browsers
    "frame": {"X-WeCom-Window": "1", "Sec-Fetch-Dest": "iframe", "Accept": "text/html"},
    "form": {"X-WeCom-Window": "1", "Sec-Fetch-Dest": "document", "Accept": "text/html"},
    "fetch": {"Sec-Fetch-Dest": "empty", "Accept": "application/json"},
}
"""What nginx makes of a request of each kind; a ``form`` is a POST."""


@dataclass(frozen=True, slots=True)
class Cookie:
    name: str
    value: str
    host: str
    path: str
    secure: bool
    ends: float
    attributes: Mapping[str, Any] = field(compare=False, default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page:
    """One answer as the browser got it."""

    url: str
    status: int
    headers: CIMultiDictProxy[str]
    text: str

    @property
    def location(self) -> str:
        return self.headers.get("Location", "")

    @property
    def query(self) -> dict[str, str]:
        """The query of ``Location``."""
        return {name: values[0] for name, values in parse_qs(urlsplit(self.location).query, keep_blank_values=True).items()}

    @property
    def reason(self) -> str:
        """The slug that the answer names: in its JSON, in its header, at the page's foot."""
        if self.headers.get("Content-Type", "").startswith("application/json"):
            return str(json.loads(self.text).get("reason", ""))
        found = re.search(r'<p class="foot"><span>[^<]*<code>([^<]+)</code>', self.text)
        return found[1] if found else self.headers.get("X-WeCom-Reason", "")

    @property
    def title(self) -> str:
        found = re.search(r"<title>([^<]*)</title>", self.text)
        return unescape(found[1]).strip() if found else ""

    @property
    def links(self) -> list[str]:
        return [unescape(link) for link in re.findall(r'<a [^>]*?href="([^"]*)"', self.text)]

    @property
    def cookies_set(self) -> dict[str, str]:
        """Name and value of every cookie that the answer sets; empty values clear."""
        jar: SimpleCookie = SimpleCookie()
        for header in self.headers.getall("Set-Cookie", []):
            jar.load(header)
        return {name: morsel.value for name, morsel in jar.items()}

    def says(self, key: str) -> bool:
        """Whether the page's title is the text *key* (``signed_out.title``)."""
        return self.title == TEXTS[key]


@dataclass(slots=True)
class Browser:
    """One person's browser; ``sites`` maps host[:port] to what nginx says there by ``set $wecom_site``."""

    http: aiohttp.ClientSession
    clock: Callable[[], float]
    addresses: Mapping[str, str]
    sites: Mapping[str, str]
    user_agent: str
    address: str = "10.0.0.9"
    cookie_names: dict[str, str] = field(default_factory=dict)  #: what nginx has where it differs from the rule
    language: str = "zh-CN"
    snippets: str = __version__
    jar: dict[tuple[str, str, str], Cookie] = field(default_factory=dict)
    storage: dict[str, str] = field(default_factory=dict)  #: sessionStorage
    visited: list[str] = field(default_factory=list)
    accepts_cookies: bool = True

    # ── what a person does ─────────────────────────────────────────────────────────────────────────────────────────

    async def open(self, url: str, kind: str = "document", *, rule: str = "") -> Page:
        """Type an address and see where it ends: redirects and our two small pages followed."""
        for _ in range(MAX_HOPS):
            page = await self.get(url, kind, rule=rule)
            onward = self._onward(page)
            if not onward:
                return page
            url = onward
        raise AssertionError(f"more than {MAX_HOPS} hops: {self.visited[-MAX_HOPS:]}")

    async def scan(self, page: Page, member: str, *, stop: bool = False) -> Page:
        """Scan the QR code on WeCom's login page as *member*; *stop*: give WeCom's redirect itself."""
        return await self._at_qr(page, {"member": member}, stop)

    async def cancel(self, page: Page) -> Page:
        return await self._at_qr(page, {"action": "cancel"}, stop=False)

    async def _at_qr(self, page: Page, form: dict[str, str], stop: bool) -> Page:
        key = re.search(r'name="key" value="([0-9a-f]+)"', page.text)
        assert key, page.text
        answer = await self._fetch("POST", urljoin(page.url, "/wwlogin/sso/act"), data={"key": key[1], **form})
        return answer if stop else await self.open(answer.location)

    async def bring_code(self, url: str, member: str = "", kind: str = "plain") -> str:
        """Go as far as WeCom sends us back, and give the address of the callback; at a QR code *member* scans."""
        for _ in range(MAX_HOPS):
            page = await self.get(url, kind)
            if 'name="key"' in page.text:
                page = await self.scan(page, member, stop=True)
            url = self._onward(page)
            assert url, f"{page.url} ends with {page.status} {page.reason}"
            if urlsplit(url).path.startswith("/_wecom/callback/"):
                return url
        raise AssertionError(f"no callback: {self.visited[-MAX_HOPS:]}")

    async def sign_in(self, url: str, member: str) -> Page:
        """Open *url*, scan the QR code as *member*, arrive."""
        return await self.scan(await self.open(url), member)

    # ── one request ────────────────────────────────────────────────────────────────────────────────────────────────

    async def get(self, url: str, kind: str = "document", *, rule: str = "", headers: Mapping[str, str] | None = None) -> Page:
        """One request as nginx answers it: a page of ours, the app behind the check, or WeCom."""
        self.visited.append(url)
        if urlsplit(url).netloc not in self.sites:
            return await self._fetch("GET", url)
        path = urlsplit(url).path
        if path.startswith("/_wecom/") or path.startswith("/WW_verify_"):
            return await self.page(url, kind, headers=headers)
        return await self._protected(url, kind, rule, headers or {}, "GET")

    async def submit(self, url: str, kind: str = "form", *, rule: str = "", headers: Mapping[str, str] | None = None) -> Page:
        """POST a form to a protected page."""
        return await self._protected(url, kind, rule, headers or {}, "POST")

    async def post(self, url: str, data: Any = None, headers: Mapping[str, str] | None = None) -> Page:
        """POST to a page of ours, by default from a page of ours."""
        headers = {"Sec-Fetch-Site": "same-origin"} | dict(headers or {})
        return await self.page(url, "form", method="POST", data=data, headers=headers)

    async def page(
        self,
        url: str,
        kind: str = "document",
        *,
        method: str = "GET",
        named: str = "",
        data: Any = None,
        cookie: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Page:
        """Ask the pages listener; *named* is the path of a named location, *headers* what it adds."""
        sent = self._passed(url, cookie) | KINDS[kind] | dict(headers or {})
        target = named or url[url.index("/", 8) :].partition("#")[0]
        return await self._fetch(method, url, to=f"http://{self.addresses['pages']}{target}", headers=sent, data=data)

    async def check(self, url: str, kind: str = "document", *, rule: str = "", cookie: str | None = None) -> Page:
        """Ask the check listener as ``auth_request`` does."""
        sent = {name: value for name, value in self._passed(url, cookie).items() if name in _CHECKED}
        sent |= {name: value for name, value in KINDS[kind].items() if name in _CHECKED}
        path = "/_wecom/auth" + (f"/{rule}" if rule else "")
        return await self._fetch("GET", url, to=f"http://{self.addresses['check']}{path}", headers=sent)

    async def _protected(self, url: str, kind: str, rule: str, headers: Mapping[str, str], method: str) -> Page:
        cookie = self.cookie_header(url)
        verdict = await self.check(url, kind, rule=rule, cookie=cookie)
        if verdict.status == 204:
            return Page(url, 200, verdict.headers, "the app")
        named = {401: "/_wecom/login", 403: "/_wecom/denied"}[verdict.status]
        told = {
            "X-WeCom-Method": method,
            "X-WeCom-Original-Uri": url[url.index("/", 8) :].partition("#")[0],
            "X-WeCom-Reason": verdict.headers.get("X-WeCom-Reason", ""),
            "X-WeCom-Rule": verdict.headers.get("X-WeCom-Rule", ""),
        }
        told = {name: value for name, value in told.items() if value}
        return await self.page(url, kind, named=named, cookie=cookie, headers={**told, **headers})

    # ── cookies ────────────────────────────────────────────────────────────────────────────────────────────────────

    def cookie_name(self, url: str) -> str:
        """The session cookie's name in nginx: the rule of ``upstream.conf``, or what the test set."""
        parts = urlsplit(url)
        port = f"_{parts.port}" if parts.port else ""
        return self.cookie_names.get(parts.netloc, ("__Host-" if parts.scheme == "https" else "") + f"wecom_session{port}")

    def session(self, url: str) -> str:
        """The value of the session cookie at *url*, as nginx finds it."""
        return next((cookie.value for cookie in self._sent(url) if cookie.name == self.cookie_name(url)), "")

    def set_session(self, url: str, value: str) -> None:
        self.put(url, self.cookie_name(url), value)

    def drop(self, url: str, name: str) -> None:
        self.jar.pop((urlsplit(url).hostname or "", "/", name))

    def put(self, url: str, name: str, value: str, path: str = "/") -> None:
        host, secure = urlsplit(url).hostname or "", url.startswith("https:")
        self.jar[host, path, name] = Cookie(name, value, host, path, secure, self.clock() + 10 * 365 * 86400)

    def cookie_header(self, url: str) -> str:
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in self._sent(url))

    def cookie(self, name: str) -> Cookie:
        """The one cookie of this name, whatever its host and path."""
        (found,) = [cookie for cookie in self.jar.values() if cookie.name == name]
        return found

    def names(self, url: str) -> set[str]:
        return {cookie.name for cookie in self._sent(url)}

    def _sent(self, url: str) -> list[Cookie]:
        """What a browser sends to *url*, the longest path first."""
        parts, now = urlsplit(url), self.clock()
        found = [
            cookie
            for cookie in self.jar.values()
            if _domain_match(parts.hostname or "", cookie)
            and _path_match(parts.path, cookie.path)
            and cookie.ends > now
            and (parts.scheme == "https" or not cookie.secure)
        ]
        return sorted(found, key=lambda cookie: -len(cookie.path))

    def _keep(self, url: str, headers: CIMultiDictProxy[str]) -> None:
        parts, now = urlsplit(url), self.clock()
        for header in headers.getall("Set-Cookie", []) if self.accepts_cookies else []:
            ((name, morsel),) = SimpleCookie(header).items()
            secure, path, domain = bool(morsel["secure"]), morsel["path"] or "/", morsel["domain"]
            if secure and parts.scheme != "https":
                continue
            if name.startswith("__Host-") and (not secure or path != "/" or domain):
                continue
            host = f".{domain}" if domain else parts.hostname or ""
            ends = now + int(morsel["max-age"]) if morsel["max-age"] else now + 10**9
            self.jar.pop((host, path, name), None)
            if ends > now:
                self.jar[host, path, name] = Cookie(name, morsel.value, host, path, secure, ends, dict(morsel))

    # ── nginx, the wire, and the two small pages' scripts ──────────────────────────────────────────────────────────

    def _passed(self, url: str, cookie: str | None) -> dict[str, str]:
        """What nginx passes of every request; an empty value is not sent."""
        host, netloc = urlsplit(url).hostname or "", urlsplit(url).netloc
        cookie = self.cookie_header(url) if cookie is None else cookie
        session = re.search(rf"(?:^|; ){re.escape(self.cookie_name(url))}=([A-Za-z0-9_.-]{{1,4000}})(?:;|$)", cookie)
        headers = {
            "Host": host,
            "X-WeCom-Session": session[1] if session else "",
            "X-WeCom-Site": self.sites[netloc],
            "X-WeCom-Address": self.address,
            "X-WeCom-Cookie-Name": self.cookie_name(url),
            "X-WeCom-Snippets": self.snippets,
            "Cookie": cookie,
            "User-Agent": self.user_agent,
            "Accept-Language": self.language,
        }
        return {name: value for name, value in headers.items() if value}

    async def _fetch(
        self, method: str, url: str, *, to: str = "", headers: Mapping[str, str] | None = None, data: Any = None
    ) -> Page:
        if not to:
            headers = {"User-Agent": self.user_agent, "Cookie": self.cookie_header(url)}
        async with self.http.request(
            method,
            URL(to or url.partition("#")[0], encoded=True),
            headers=CIMultiDict(headers or {}),
            data=data,
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        ) as answer:
            text = await answer.text(errors="replace")
        self._keep(url, answer.headers)
        return Page(url, answer.status, answer.headers, text)

    def _onward(self, page: Page) -> str:
        """Where the browser goes by itself: a redirect (the fragment stays unless it brings its own), or our scripts."""
        fragment = urlsplit(page.url).fragment
        if page.status in (301, 302, 303, 307, 308):
            target = page.location if "://" in page.location else urljoin(page.url, page.location)
            return target if "#" in target or not fragment else f"{target}#{fragment}"
        if "sessionStorage.setItem('wecom:'+s,h)" in page.text:
            (state,) = re.findall(r'\("([A-Za-z0-9]{32})",location\.hash\)', page.text)
            if fragment:
                self.storage[state] = f"#{fragment}"
                self.put(page.url, "wecom_fragment", "1", f"/_wecom/callback/{state}")
            return page.links[0]
        if "sessionStorage.getItem('wecom:'+s)" in page.text:
            (state,) = re.findall(r'\("([A-Za-z0-9]{32})",document\.links', page.text)
            return page.links[0] + self.storage.get(state, "")
        return ""


_CHECKED = ("Host", "X-WeCom-Session", "X-WeCom-Site", "X-WeCom-Navigation", "X-WeCom-Preflight")


def _domain_match(host: str, cookie: Cookie) -> bool:
    return f".{host}".endswith(cookie.host) if cookie.host.startswith(".") else host == cookie.host


def _path_match(path: str, cookie_path: str) -> bool:
    path = path or "/"
    return path == cookie_path or path.startswith(cookie_path if cookie_path.endswith("/") else f"{cookie_path}/")
