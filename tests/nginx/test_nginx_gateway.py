"""The real gateway behind the shipped snippets: the chain a member walks, and what a stranger meets."""

from __future__ import annotations

import asyncio
import base64
import re
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

SITE = """
server {
    listen LISTEN;
    server_name localhost;
    root PREFIX/www;
    include wecom/gateway.conf;
    location / { include wecom/protect.conf; include wecom/identity.conf; proxy_pass http://APP; }
    location /upload/ { client_max_body_size 100m; include wecom/protect.conf; proxy_pass http://APP; }
    location /files/ { include wecom/protect.conf; }
    location /finance/ { auth_request /_wecom/auth/user:lisi; include wecom/member.conf; }
    location /wrong/ { auth_request /_wecom/auth/no-such-rule; include wecom/member.conf; }
    location /basic/ { include wecom/protect.conf; auth_basic old; auth_basic_user_file PREFIX/users; }
    location /public/ { include wecom/public.conf; proxy_pass http://APP; }
}
server {
    listen LISTEN default_server;
    server_name _;
    include wecom/gateway.conf;
    location / { include wecom/protect.conf; include wecom/identity.conf; proxy_pass http://APP; }
}
"""

FILES = {"www/files/page": "PAGE", "www/files/empty/x": "", "users": "old:{PLAIN}password\n"}
HOST = "localhost:8080"
HTML = {"Accept": "text/html"}
NAVIGATE = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"} | HTML
WECOM = {"User-Agent": "Mozilla/5.0 (iPhone) AppleWebKit/605 wxwork/4.1.30 MicroMessenger/7.0.1"}


@dataclass(slots=True)
class Person:
    """A browser of the site: its cookies, and requests through nginx."""

    nginx: Any
    cookies: dict[str, str] = field(default_factory=dict)

    async def ask(self, method: str, uri: str, headers: dict[str, str] | None = None, **options: Any) -> Any:
        sent = dict(headers or {})
        if self.cookies:
            sent.setdefault("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))
        answer = await asyncio.to_thread(self.nginx.ask, method, uri, sent, **{"host": HOST} | options)
        for line in answer.all("Set-Cookie"):
            for name, morsel in SimpleCookie(line).items():
                self.cookies[name] = morsel.value
        return answer

    async def get(self, uri: str, headers: dict[str, str] | None = None, **options: Any) -> Any:
        return await self.ask("GET", uri, headers, **options)

    async def sign_in(self, uri: str = "/app") -> Any:
        """Walk to WeCom and back, silently, and give the answer that leads to the page first asked for."""
        away = await self.get(uri, HTML | WECOM)
        async with (
            aiohttp.ClientSession() as wecom,
            wecom.get(URL(away.header("Location"), encoded=True), headers=WECOM, allow_redirects=False) as back,
        ):
            callback = urlsplit(back.headers["Location"])
        return await self.get(f"{callback.path}?{callback.query}", HTML | WECOM)


@pytest.fixture
def real(gateway, behind, start_nginx):
    """An nginx in front of the running gateway, with the cookie name of its settings."""
    ports = {name: int(address.rpartition(":")[2]) for name, address in gateway.addresses.items()}
    nginx = start_nginx(SITE, files=FILES, cookie_name=gateway.live.now.sites.all[0].cookie_name, **ports)
    yield nginx
    assert not re.search(r"\[(alert|emerg|crit)\]", nginx.log())


@pytest.fixture
def person(real):
    return Person(real)


class TestTheChain:
    """Refused, away to WeCom, back, in."""

    async def test_a_member_in_wecom_is_signed_in_silently(self, person, behind) -> None:
        """One redirect to WeCom, one back, and the app knows the member; query intact."""
        away = await person.get("/app?a=1&b=%26", HTML | WECOM)
        assert (away.status, away.header("Location").partition("#")[2]) == (302, "wechat_redirect")

        back = await person.sign_in("/app?a=1&b=%26")
        assert (back.status, back.header("Location").partition("#")[0]) == (303, f"http://{HOST}/app?a=1&b=%26")

        assert (await person.get("/app?a=1&b=%26", HTML | WECOM)).status == 200
        assert behind.app[0].header("X-WeCom-UserId") == "zhangsan"
        assert behind.app[0].header("X-WeCom-Kind") == "member"
        assert "wecom_session" not in (behind.app[0].header("Cookie") or "")

    async def test_an_ageing_session_is_renewed_on_the_way(self, person, clock) -> None:
        """After half an hour a navigation is renewed without WeCom's pages, and a script's request simply works."""
        await person.sign_in()
        before = person.cookies["wecom_session_8080"]
        clock.advance(31 * 60)

        assert (await person.get("/app", {"Accept": "application/json"})).status == 200
        renewed = await person.get("/app", HTML)
        assert (renewed.status, renewed.header("Location")) == (302, f"http://{HOST}/app")
        assert person.cookies["wecom_session_8080"] != before
        assert (await person.get("/app", HTML)).status == 200

    async def test_signed_out_is_out(self, person) -> None:
        """A posted sign-out ends the session at nginx, too: an old copy of the cookie opens nothing."""
        await person.sign_in()
        kept = dict(person.cookies)
        same = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"}
        assert (await person.ask("POST", "/_wecom/logout", same, body=b"everywhere=0")).status == 303

        answer = await Person(person.nginx, kept).get("/app")
        assert (answer.status, answer.header("X-WeCom-Reason")) == (401, "signed-out")

    async def test_another_site_s_form_signs_nobody_out(self, person) -> None:
        """Where the form comes from reaches the gateway."""
        await person.sign_in()
        await person.ask("POST", "/_wecom/logout", {"Sec-Fetch-Site": "cross-site"}, body=b"")

        assert (await person.get("/app")).status == 200


class TestRefusals:
    """Each kind of request is refused in its own way, through nginx as designed."""

    @pytest.mark.parametrize("headers", [{"Accept": "application/json"}, HTML | {"Sec-Fetch-Mode": "cors"}, {}])
    async def test_a_script_gets_json(self, person, headers) -> None:
        """Never a redirect, which a fetch would follow to WeCom."""
        answer = await person.get("/app", headers)

        assert (answer.status, answer.header("X-WeCom-Reason")) == (401, "no-session")
        assert answer.header("Content-Type").startswith("application/json")

    @pytest.mark.parametrize("headers", [NAVIGATE, HTML], ids=["with Sec-Fetch", "without"])
    async def test_a_form_gets_a_page(self, person, headers) -> None:
        """What was typed is not lost by a redirect."""
        answer = await person.ask("POST", "/app", headers, body=b"a=1")

        assert (answer.status, answer.header("Content-Type")) == (401, "text/html; charset=utf-8")

    async def test_a_browser_keeps_its_fragment(self, person) -> None:
        """A modern browser's navigation gets the small page that remembers the fragment."""
        assert (await person.get("/app", NAVIGATE)).status == 401

    async def test_a_rule_refuses_with_a_page(self, person) -> None:
        """A member outside the rule is told so, and is not sent round again."""
        await person.sign_in()
        answer = await person.get("/finance/x", HTML)

        assert (answer.status, "zhangsan" in answer.text) == (403, True)

    async def test_an_unknown_rule_refuses(self, person) -> None:
        """A rule that does not exist lets nobody in."""
        await person.sign_in()
        answer = await person.get("/wrong/x", {"Accept": "application/json"})

        assert (answer.status, answer.text.count("bad-rule")) == (403, 1)

    async def test_another_host_is_refused(self, person, behind) -> None:
        """A host that is no host of the site is 403 before any session is looked at."""
        await person.sign_in()
        answer = await person.get("/app", {"Accept": "application/json"}, host="evil.test")

        assert (answer.status, behind.app) == (403, [])

    @pytest.mark.parametrize("value", ["x", "x.y.z", "a" * 4000, "....", "-"])
    async def test_a_forged_session_is_refused(self, person, value) -> None:
        """Any value of our alphabet that we did not sign is `forged`."""
        answer = await person.get("/app", {"Cookie": f"wecom_session_8080={value}"})

        assert (answer.status, answer.header("X-WeCom-Reason")) == (401, "forged")

    async def test_a_query_of_the_page_is_not_the_login_s(self, person) -> None:
        """`return_to` and `again` in the refused page's own query steer nothing."""
        back = await person.sign_in("/app?return_to=//evil.test&again=1&code=x&state=y")

        target = back.header("Location").partition("#")[0]
        assert target == f"http://{HOST}/app?return_to=//evil.test&again=1&code=x&state=y"

    @pytest.mark.parametrize("uri", ["/_wecom/auth", "/_wecom/auth/user:lisi", "/_wecom/x", "/_wecom/", "/WW_verify_none.txt"])
    async def test_unknown_addresses_are_not_found(self, person, uri) -> None:
        """Neither the check nor anything unknown answers from outside."""
        assert (await person.get(uri)).status == 404

    async def test_a_refusal_that_is_not_ours_is_neutral(self, person) -> None:
        """A folder without index is 403 for a member, and no redirect."""
        await person.sign_in()
        answer = await person.get("/files/empty/", HTML)

        assert (answer.status, answer.header("Location")) == (403, "")

    async def test_a_password_that_is_not_ours_is_asked_for(self, person) -> None:
        """auth_basic asks a member by its own 401, and never by a redirect."""
        await person.sign_in()
        answer = await person.get("/basic/none", HTML)
        assert (answer.status, answer.header("WWW-Authenticate"), answer.header("Location")) == (401, 'Basic realm="old"', "")

        password = "Basic " + base64.b64encode(b"old:password").decode()
        assert (await person.get("/basic/none", HTML | {"Authorization": password})).status == 404


class TestUploads:
    """Fifty megabytes and the real gateway, which reads none of them."""

    @pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
    async def test_a_stranger_s_upload_is_refused_unstored(self, person, chunked) -> None:
        """The refusal arrives, and nothing is written to disk."""
        body = (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 800 + b"0\r\n\r\n" if chunked else b"x" * 50 * 1024 * 1024
        headers = {"Transfer-Encoding": "chunked"} if chunked else {"Accept": "application/json"}
        answer = await person.ask("POST", "/upload/x", headers, body=body)

        assert (answer.status, answer.header("X-WeCom-Reason")) == (401, "no-session")
        assert "temporary file" not in person.nginx.log()


TEXTS = st.text(st.characters(min_codepoint=1, max_codepoint=255, exclude_characters="\r\n"), max_size=40)
NAMES = st.sampled_from(
    [
        *("Cookie", "Accept", "User-Agent", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Origin", "Referer", "X-WeCom-Reason", "TE"),
        *("X-WeCom-Session", "Accept-Language", "Authorization", "Content-Type", "X-Requested-With", "Upgrade", "Range"),
    ]
)
VALUES = TEXTS | st.sampled_from(["wecom_session_8080=x", "text/html", "navigate", "*/*", "x" * 50_000, "websocket"])
METHODS = st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "FOO", "PROPFIND"])
PLACES = ["/", "/app", "/files/", "/finance/x", "/wrong/", "/public/", "/_wecom/login", "/_wecom/callback/x", "//", "/%"]
URIS = st.builds(
    str.__add__,
    st.sampled_from(PLACES),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=255, exclude_characters="\x7f"), max_size=30),
)


class TestAnything:
    """Anything at all through nginx."""

    @settings(
        max_examples=150,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(method=METHODS, uri=URIS, headers=st.dictionaries(NAMES, VALUES, max_size=5), signed_in=st.booleans())
    async def test_is_never_a_500(self, real, behind, signed_in_cookie, method, uri, headers, signed_in) -> None:
        """No request, of a stranger's or a member's, makes nginx or the gateway answer 500."""
        sent = headers | ({"Cookie": signed_in_cookie} if signed_in else {})
        answer = await asyncio.to_thread(real.ask, method, uri, sent, host=HOST)

        assert answer.status != 500 or "the app" in answer.text
        assert answer.status not in (502, 503, 504)

    @pytest.fixture
    async def signed_in_cookie(self, person) -> str:
        await person.sign_in()
        return f"wecom_session_8080={person.cookies['wecom_session_8080']}"
