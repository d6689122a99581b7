"""The sign-in, the refusal and the pages: what nginx tells them, and that their answers arrive unchanged."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import ExitStack

import pytest

from gateway import __version__
from tests.nginx.conftest import Nginx

PAGE_COOKIE = "wecom_browser=1; Domain=site.test; Path=/"

CONFIG = """
proxy_cache_path PREFIX/cache keys_zone=everything:1m;
server {
    listen LISTEN;
    server_name caching.test;
    proxy_cache everything; proxy_cache_valid any 10m; proxy_cache_key $uri; proxy_cache_methods GET HEAD POST;
    proxy_ignore_headers Set-Cookie Cache-Control Expires Vary;
    proxy_buffer_size 4k; proxy_buffers 8 4k; proxy_busy_buffers_size 8k; proxy_temp_file_write_size 8k;
    include wecom/gateway.conf;
    location / { include wecom/protect.conf; proxy_cache off; root PREFIX/www; }
}
server {
    listen LISTEN;
    server_name storing.test;
    proxy_store PREFIX/stored$uri;
    proxy_buffering off;
    include wecom/gateway.conf;
    location / { include wecom/protect.conf; root PREFIX/www; }
}
server {
    listen LISTEN;
    server_name mirrored.test;
    client_max_body_size 10m;
    mirror /copy;
    include wecom/gateway.conf;
    location / { include wecom/protect.conf; include wecom/identity.conf; proxy_pass http://APP; }
    location = /copy { internal; include wecom/identity.conf; proxy_pass http://APP$request_uri; }
    location /bare/ { include wecom/protect.conf; mirror /bare-copy; alias PREFIX/www/; }
    location = /bare-copy { internal; proxy_pass http://APP/bare; }
}
server {
    listen LISTEN;
    server_name site.test;
    root PREFIX/www;
    include wecom/gateway.conf;
    location / { include wecom/protect.conf; include wecom/identity.conf; proxy_pass http://APP; }
    location /files/ { include wecom/protect.conf; alias PREFIX/www/; }
    location /refused/ { auth_request /_wecom/auth/user:lisi; include wecom/member.conf; }
    location /denied/ { include wecom/protect.conf; alias PREFIX/www/; deny all; }
    location /reading/ { include wecom/protect.conf; alias PREFIX/www/; limit_except GET { deny all; } }
    location /basic/ {
        include wecom/protect.conf;
        alias PREFIX/www/;
        auth_basic "old password";
        auth_basic_user_file PREFIX/users;
    }
    location /either/ {
        satisfy any; allow 127.0.0.1; deny all;
        include wecom/protect.conf; include wecom/identity.conf;
        proxy_pass http://APP;
    }
    location /neither/ {
        satisfy any; allow 192.0.2.1; deny all;
        include wecom/protect.conf; include wecom/identity.conf;
        proxy_pass http://APP;
    }
}
server {
    listen LISTEN;
    server_name addressed.test;
    set_real_ip_from 127.0.0.1; real_ip_header X-Address;
    include wecom/gateway.conf;
}
server {
    listen LISTEN;
    server_name guarded.test;
    auth_basic closed; auth_basic_user_file PREFIX/users; deny all; satisfy all;
    add_header X-Operator yes always; add_header Cache-Control "public, max-age=9999" always; expires 1d;
    proxy_cookie_path / /moved/; proxy_cookie_domain ~. moved.test; proxy_redirect ~^https?://[^/]+ /lost;
    proxy_hide_header Set-Cookie; proxy_hide_header X-Page; proxy_hide_header Cache-Control;
    proxy_set_header X-Operator yes;
    proxy_method PUT;
    limit_rate 0;
    include wecom/gateway.conf;
    location / { auth_basic off; allow all; include wecom/protect.conf; root PREFIX/www; }
}
"""

FILES = {
    "www/page": "PAGE",
    "www/empty/x/y": "",
    "users": "old:{PLAIN}password\n",
}

GOOD = {"Cookie": "__Host-wecom_session=good"}
HTML = {"Accept": "text/html"}
NAVIGATE = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
BASIC = {"Authorization": "Basic " + base64.b64encode(b"old:password").decode()}

TRUSTED = [
    *("X-WeCom-Session", "X-WeCom-Site", "X-WeCom-Navigation", "X-WeCom-Window", "X-WeCom-Preflight", "X-WeCom-Method"),
    "X-WeCom-Packed",
    *("X-WeCom-Original-Uri", "X-WeCom-Reason", "X-WeCom-Rule", "X-WeCom-Address", "X-WeCom-Cookie-Name"),
    *("X-WeCom-Token", "X-WeCom-Challenge", "X-WeCom-Snippets"),
    *("X-WeCom-UserId", "X-WeCom-Account", "X-Forwarded-For", "X-Forwarded-Host", "X-Original-URI", "X-Anything"),
]

PAGES = ["/_wecom/me", "/_wecom/login?return_to=/x", "/_wecom/denied", "/_wecom/callback/abc?code=1", "/WW_verify_x.txt"]


class TestTrust:
    """The gateway believes what nginx tells it, so a client cannot tell it anything by such a name."""

    @pytest.mark.parametrize("uri", [*PAGES, "/x", "/refused/x"])
    @pytest.mark.parametrize("name", TRUSTED)
    def test_a_forged_header_never_arrives(self, nginx, behind, uri, name) -> None:
        """In no location of ours does a header that the gateway trusts come from the client."""
        nginx.get(uri, {name: "forged"} | (GOOD if uri.startswith("/refused") else {}))

        assert "forged" not in [value for _, value in behind.pages[0].headers]

    @pytest.mark.parametrize("uri", PAGES)
    def test_a_page_is_told_who_asks(self, nginx, behind, uri) -> None:
        """Pages learn session, address, cookie name, the snippets' version and browser, and nothing of a refusal."""
        browser = {"User-Agent": "wxwork/4", "Accept-Language": "zh", "Referer": "http://site.test/"} | NAVIGATE
        nginx.get(uri, {"Cookie": "a=1; __Host-wecom_session=good"} | HTML | browser)

        assert behind.pages[0].headers == [
            ("Host", "site.test"),
            ("X-WeCom-Session", "good"),
            ("X-WeCom-Navigation", "1"),
            ("X-WeCom-Address", "127.0.0.1"),
            ("X-WeCom-Cookie-Name", "__Host-wecom_session"),
            ("X-WeCom-Snippets", __version__),
            ("Cookie", "a=1; __Host-wecom_session=good"),
            ("User-Agent", "wxwork/4"),
            ("Accept", "text/html"),
            ("Accept-Language", "zh"),
            ("Sec-Fetch-Dest", "document"),
            ("Referer", "http://site.test/"),
        ]
        assert behind.pages[0].uri == uri

    def test_a_page_gets_method_and_body(self, nginx, behind) -> None:
        """A form of ours is posted as it is, with what protects it from other sites' forms."""
        form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": "http://evil.test", "Sec-Fetch-Site": "cross-site"}
        nginx.ask("POST", "/_wecom/logout", form, body=b"everywhere=1")

        page = behind.pages[0]
        assert (page.method, page.length) == ("POST", len(b"everywhere=1"))
        assert {name: page.header(name) for name in form} == form

    @pytest.mark.parametrize("uri", ["/_wecom/logout", "/_wecom/callback/x", "/WW_verify_x.txt"])
    def test_a_page_takes_no_upload(self, nginx, behind, uri) -> None:
        """Bodies beyond any form of ours are refused before they are stored."""
        assert nginx.ask("POST", uri, body=b"x" * 300_000).status == 413

        assert behind.pages == []


class TestKept:
    """No page of ours is kept by what the server keeps of its own."""

    @pytest.mark.parametrize("uri", [*PAGES, "/_wecom/big", "/x", "/none"])
    def test_no_cache_answers_for_the_gateway(self, nginx, behind, uri) -> None:
        """An inherited cache keyed by the path would give one person's page to the next."""
        for session in ("good", "forged", ""):
            nginx.get(uri, {"Cookie": f"__Host-wecom_session={session}"}, host="caching.test")

        asked = [page.header("X-WeCom-Session") for page in behind.pages]
        assert asked == (["forged", None] if uri in ("/x", "/none") else ["good", "forged", None])

    @pytest.mark.parametrize("uri", [*PAGES, "/x"])
    def test_nothing_is_stored(self, nginx, uri) -> None:
        """An inherited `proxy_store` writes none of our pages to disk."""
        nginx.get(uri, host="storing.test")

        assert not (nginx.prefix / "stored").exists()

    def test_a_page_s_large_headers_fit(self, nginx) -> None:
        """Twelve kilobytes of header pass, whatever buffers the server has for its app."""
        assert len(nginx.get("/_wecom/big", host="caching.test").header("X-Big")) == 12_000


class TestMirrored:
    """`mirror` above our locations, or beside the check."""

    @staticmethod
    def ask(nginx, method, uri, headers=()) -> None:
        """One request to the end of its connection, which nginx closes after the copy's answer."""
        lines = [f"{method} {uri} HTTP/1.1", "Host: mirrored.test", "Connection: close", *headers]
        with nginx.connect() as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            while connection.recv(65536):
                pass

    @pytest.mark.parametrize("uri", [*PAGES, "/x"])
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_no_page_of_ours_is(self, nginx, behind, uri, method) -> None:
        """No code of a sign-in goes to the copy, and nothing of a stranger's."""
        self.ask(nginx, method, uri)

        assert [page.uri for page in behind.pages] == ["/_wecom/login" if uri == "/x" else uri]
        assert behind.app == []

    def test_a_stranger_s_upload_is_stored_for_none(self, nginx, behind) -> None:
        """A body that is copied would be read, and written to a file, before the refusal."""
        before = nginx.log()
        nginx.ask("POST", "/x", body=b"x" * 5_000_000, host="mirrored.test")

        assert [page.header("X-WeCom-Reason") for page in behind.pages] == ["no-session"]
        assert "temporary file" not in nginx.log().removeprefix(before)

    def test_a_member_s_request_is(self, nginx, behind) -> None:
        """With `identity.conf` in its location the copy says who it is, and has no session."""
        self.ask(nginx, "GET", "/x", ["Cookie: a=1; __Host-wecom_session=good", "X-WeCom-UserId: forged"])

        assert [(each.header("X-WeCom-UserId"), each.header("Cookie")) for each in behind.app] == [("zhangsan", "a=1")] * 2

    def test_without_identity_it_is_as_the_client_sent_it(self, nginx, behind) -> None:
        """Why the location that it goes to needs the include as well."""
        self.ask(nginx, "GET", "/bare/page", ["Cookie: __Host-wecom_session=good", "X-WeCom-UserId: forged"])

        (copy,) = behind.app
        assert (copy.header("X-WeCom-UserId"), copy.header("Cookie")) == ("forged", GOOD["Cookie"])


class TestSignIn:
    """@wecom_login: the refused request in headers, whatever it was."""

    @pytest.mark.parametrize(
        "uri",
        [
            *("/x?a=1&b=2", "/x?a=%26&b=%3D", "/x?return_to=//evil.test&code=1&again=1", "/x?", "/x?%0d%0aSet-Cookie:x"),
            *("/%E5%BC%A0%E4%B8%89", "/\xe5\xbc\xa0?q=\xe4", "/x;a=1/../y", "/x%2fy", "/a//b", "/_wecomx", "/x?'\"<>\\^`{|}"),
        ],
    )
    def test_the_uri_arrives_as_sent(self, nginx, behind, uri) -> None:
        """The original URI, query and all, is told in a header; it never becomes the login's own query."""
        nginx.get(uri)

        assert behind.pages[0].uri == "/_wecom/login"
        assert behind.pages[0].header("X-WeCom-Original-Uri") == uri

    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND", "FOO"])
    def test_any_method_becomes_a_get_that_names_it(self, nginx, behind, method) -> None:
        """The login is asked by GET; the browser's method is in a header."""
        answer = nginx.ask(method, "/x", body=b"body" if method not in ("GET", "HEAD") else None)

        assert (answer.status, answer.body) == (401, b"" if method == "HEAD" else b"page no-session")
        assert (behind.pages[0].method, behind.pages[0].header("X-WeCom-Method")) == ("GET", method)

    @pytest.mark.parametrize("host", ["site.test", "guarded.test"])
    def test_its_answer_passes_unchanged(self, nginx, host) -> None:
        """Status, Location, Set-Cookie and caching are the gateway's, whatever the server says for its own pages."""
        answer = nginx.get("/x", HTML, host=host)

        assert answer.status == 302
        assert answer.all("Location") == ["https://open.weixin.qq.com/?a=1&b=2#wechat_redirect"]
        assert answer.all("Set-Cookie") == [PAGE_COOKIE]
        assert answer.all("Cache-Control") == ["no-store"]
        assert (answer.all("X-Page"), answer.all("X-Operator"), answer.all("Expires")) == (["/_wecom/login"], [], [])

    @pytest.mark.parametrize("uri", PAGES)
    def test_a_guarded_server_does_not_guard_our_pages(self, nginx, behind, uri) -> None:
        """`auth_basic` and `deny` of the server block neither a sign-in nor WeCom's own calls."""
        answer = nginx.ask("POST", uri, host="guarded.test")

        assert answer.all("X-Page") == [uri.partition("?")[0]]
        assert (answer.all("Set-Cookie"), answer.all("X-Operator")) == ([PAGE_COOKIE], [])
        assert behind.pages[0].method == ("GET" if uri.startswith("/WW") else "POST")
        assert "x-operator" not in behind.pages[0].names

    def test_an_ageing_session_is_told_for_renewal(self, nginx, behind) -> None:
        """A navigation refused with `renew` reaches the login with that word; a script's request goes on."""
        assert nginx.get("/files/page", {"Cookie": "__Host-wecom_session=renew"}).text == "PAGE"

        assert nginx.get("/files/page", {"Cookie": "__Host-wecom_session=renew"} | HTML).status == 302
        assert behind.pages[0].header("X-WeCom-Reason") == "renew"

    def test_keepalive_survives_a_refused_body(self, nginx) -> None:
        """The same connection serves the next request after a refused POST."""
        request = b"POST /x HTTP/1.1\r\nHost: site.test\r\nContent-Length: 5\r\n\r\nhello"
        last = b"GET /_wecom/me HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n"
        with nginx.connect() as connection:
            connection.sendall(request + request + last)
            received = b"".join(iter(lambda: connection.recv(65536), b""))

        assert received.count(b"HTTP/1.1 401") == 2
        assert received.count(b"HTTP/1.1 200") == 1


class TestNotOurs:
    """A 401 or 403 that the gateway did not give has no reason, and is never a redirect."""

    @pytest.mark.parametrize(
        "method, uri",
        [("GET", "/files/"), ("GET", "/files/empty/"), ("GET", "/denied/page"), ("POST", "/reading/page")],
        ids=["no index", "a folder", "deny", "limit_except"],
    )
    def test_a_refusal_of_nginx_s_is_neutral(self, nginx, behind, method, uri) -> None:
        """A member that nginx itself refuses gets a page without reason, with status 403."""
        answer = nginx.ask(method, uri, GOOD | HTML)

        assert (answer.status, answer.text) == (403, "page neutral")
        assert behind.pages[0].header("X-WeCom-Reason") is None

    @pytest.mark.parametrize("status", [401, 403, 404, 500, 502, 503, 504])
    def test_the_app_s_own_status_is_shown_as_it_is(self, nginx, behind, status) -> None:
        """What the app answers, the browser gets, body and headers."""
        answer = nginx.get(f"/app-{status}", GOOD | HTML)

        assert (answer.status, answer.text) == (status, "the app, 0 bytes")
        assert answer.all("WWW-Authenticate") == ["Basic"]
        assert behind.pages == []

    def test_a_password_besides_the_session_is_asked_for(self, nginx, behind) -> None:
        """With `auth_basic` a member is asked for the password by a neutral 401, never sent to WeCom."""
        answer = nginx.get("/basic/page", GOOD | HTML)

        assert (answer.status, answer.text) == (401, "page neutral")
        assert answer.all("WWW-Authenticate") == ['Basic realm="old password"']
        assert behind.pages[0].header("X-WeCom-Original-Uri") == "/basic/page"

    def test_password_and_session_let_in(self, nginx) -> None:
        """Both together are enough."""
        assert nginx.get("/basic/page", GOOD | BASIC).text == "PAGE"

    def test_the_password_alone_does_not(self, nginx, behind) -> None:
        """The password replaces no session."""
        assert nginx.get("/basic/page", BASIC).status == 401

        assert behind.pages[0].header("X-WeCom-Reason") == "no-session"


class TestSatisfyAny:
    """`satisfy any`: an address or a session."""

    def test_an_allowed_address_is_nobody(self, nginx, behind) -> None:
        """Who passes by address has no identity, and brings none of his own, even if signed in."""
        assert nginx.get("/either/x", GOOD | {"X-WeCom-UserId": "boss"}).status == 200

        assert behind.checks == []
        assert (behind.app[0].header("X-WeCom-UserId"), behind.app[0].header("Cookie")) == (None, None)

    def test_elsewhere_the_session_counts(self, nginx, behind) -> None:
        """From another address a member is let in and announced."""
        assert nginx.get("/neither/x", GOOD).status == 200

        assert behind.app[0].header("X-WeCom-UserId") == "zhangsan"

    def test_elsewhere_without_session_is_refused(self, nginx, behind) -> None:
        """From another address without a session the sign-in begins."""
        assert nginx.get("/neither/x").status == 401

        assert (behind.app, behind.pages[0].header("X-WeCom-Reason")) == ([], "no-session")


class TestDeepPaths:
    """The gateway looks a path up level by level, from its end: one of 60 kB took most of a second, while every check waited."""

    @pytest.mark.parametrize(
        "path", ["/_wecom/" + "/" * 60_000, "/_wecom/me" + "/a" * 9, "/_wecom/callback/" + "/" * 9, "/WW_verify_x" + "/" * 9]
    )
    def test_end_at_nginx(self, nginx, behind, path) -> None:
        """A path deeper than any of our pages is not found, and the gateway not asked."""
        assert nginx.get(path).status == 404

        assert behind.pages == []

    @pytest.mark.parametrize("path", ["/_wecom/begin/x", "//_wecom//me", "/_wecom/login?return_to=" + "/a" * 100])
    def test_others_arrive(self, nginx, behind, path) -> None:
        """A page of ours does, with slashes told twice, too, and however many are in its query."""
        nginx.get(path)

        assert [page.uri for page in behind.pages] == [path]


class TestRateLimit:
    """Only the return from WeCom is limited, and generously."""

    def test_a_morning_s_rush_passes(self, nginx) -> None:
        """A hundred sign-ins at once from one address are served."""
        statuses = [nginx.get(f"/_wecom/callback/{number}?code=x").status for number in range(100)]

        assert set(statuses) == {200}

    def test_a_flood_is_429(self, nginx) -> None:
        """Far more than that is told to slow down, not that the server is broken, by a page: people are among them."""
        answers = _flooded(nginx, "site.test", ["192.0.2.1"] * 400)

        assert answers.keys() == {200, 429}
        assert "再试一次 · Try again" in answers[429]
        assert "\r\nRetry-After: 10\r\n" in answers[429]

    @pytest.mark.parametrize(
        "address, times, told",
        [
            ("2001:db8:1:2:{0:x}::1", 400, {200, 429}),
            ("2001:db8:2:{0:x}::1", 210, {200}),  # more than one may, and with the others here fewer than all may
            ("::ffff:198.51.100.{0}", 210, {200}),
        ],
        ids=["one network", "many networks", "IPv4 in IPv6"],
    )
    def test_a_network_of_ipv6_counts_as_one(self, nginx, address, times, told) -> None:
        """Whoever has one IPv6 address has the 2^64 beside it: they share one allowance, as no others do."""
        assert _flooded(nginx, "addressed.test", [address.format(number) for number in range(times)]).keys() == told

    def test_other_pages_are_not_limited(self, nginx) -> None:
        """The flood at the callback stops nobody at other pages."""
        statuses = [nginx.get("/_wecom/me").status for _ in range(300)]

        assert set(statuses) == {200}


def test_the_access_log_knows_the_member(nginx) -> None:
    """log_format wecom writes the member, or ``-`` as nginx does for nobody, and for a refusal its reason and rule."""
    nginx.get("/files/page?by=member", GOOD)
    nginx.get("/refused/x?by=refused", GOOD)
    nginx.get("/x?by=nobody")
    nginx.get("/_wecom/me")  # whose own line may come later; the others are written

    lines = {line.partition("?by=")[2].partition(" ")[0]: line for line in nginx.log("access").splitlines()}
    assert "- zhangsan [" in lines["member"]
    assert "- - [" in lines["refused"]
    assert "- - [" in lines["nobody"]
    assert 'reason="rule" rule="user:lisi"' in lines["refused"]
    assert 'reason="no-session" rule=""' in lines["nobody"]


def _flooded(nginx: Nginx, host: str, addresses: Sequence[str]) -> dict[int, str]:
    """What a callback from each of *addresses* gets, by status, all at once: one after the other the limit might allow them."""
    ask = "GET /_wecom/callback/x?code=x HTTP/1.1\r\nHost: {}\r\nX-Address: {}\r\nConnection: close\r\n\r\n"
    with ExitStack() as stack:
        connections = [stack.enter_context(nginx.connect()) for _ in addresses]
        for connection, address in zip(connections, addresses, strict=True):
            connection.sendall(ask.format(host, address).encode())
        answers = [connection.makefile("rb").read().decode() for connection in connections]
    return {int(answer.split()[1]): answer for answer in answers}
