"""What nginx tells the gateway's check: a few words, whatever the browser sent."""

from __future__ import annotations

import pytest

CONFIG = """
server {
    listen LISTEN;
    server_name site.test plain.test ~^.*$;
    include wecom/gateway.conf;
    location / { include wecom/protect.conf; include wecom/identity.conf; proxy_pass http://APP; }
    location /files/ { include wecom/protect.conf; root PREFIX; }
    location /ruled/ {
        auth_request /_wecom/auth/user:zhangsan;
        include wecom/member.conf;
        include wecom/identity.conf;
        proxy_pass http://APP;
    }
    location /refused/ {
        auth_request /_wecom/auth/user:lisi/department:12,15;
        include wecom/member.conf;
        proxy_pass http://APP;
    }
}
server {
    listen LISTEN;
    server_name named.test;
    set $wecom_site plain;
    include wecom/gateway.conf;
    location / { include wecom/protect.conf; include wecom/identity.conf; proxy_pass http://APP; }
}
"""

FILES = {"files/x": "a file"}

GOOD = {"Cookie": "__Host-wecom_session=good"}
NAVIGATE = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
CARRIED = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "empty"}
HTML = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


class TestNavigation:
    """The words X-WeCom-Navigation and X-WeCom-Window; check and pages get the same."""

    @pytest.mark.parametrize(
        "method, headers, navigation, window",
        [
            pytest.param("GET", NAVIGATE, True, False, id="a page in a modern browser"),
            pytest.param("HEAD", NAVIGATE, True, False, id="HEAD counts as GET"),
            pytest.param("POST", NAVIGATE | HTML, False, True, id="a form"),
            pytest.param("GET", NAVIGATE | {"Sec-Fetch-Dest": "iframe"}, False, True, id="a frame"),
            pytest.param("POST", NAVIGATE | {"Sec-Fetch-Dest": "iframe"}, False, True, id="a form in a frame"),
            pytest.param("GET", {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"} | HTML, False, False, id="fetch"),
            pytest.param("GET", CARRIED | HTML, True, False, id="a page through a service worker"),
            pytest.param("POST", CARRIED | HTML, False, True, id="a form through a service worker"),
            pytest.param("GET", CARRIED, False, False, id="a link with download"),
            pytest.param("GET", {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"} | HTML, False, False, id="image"),
            pytest.param("GET", {"Sec-Fetch-Mode": "cors", "Accept": "*/*"}, False, False, id="mode alone"),
            pytest.param("GET", {"Sec-Fetch-Dest": "document"} | HTML, False, False, id="destination alone"),
            pytest.param("GET", HTML, True, False, id="plain http: a page"),
            pytest.param("HEAD", HTML, True, False, id="plain http: HEAD"),
            pytest.param("POST", HTML, False, True, id="plain http: a form"),
            pytest.param("PUT", HTML, False, True, id="plain http: another method"),
            pytest.param("GET", HTML | {"X-Requested-With": "com.tencent.wework"}, True, False, id="WeCom on Android"),
            pytest.param("GET", HTML | {"X-Requested-With": "XMLHttpRequest"}, False, False, id="XHR asking for html"),
            pytest.param("POST", HTML | {"X-Requested-With": "XMLHttpRequest"}, False, False, id="XHR posting"),
            pytest.param("GET", {"Accept": "application/json"}, False, False, id="plain http: json"),
            pytest.param("GET", {"Accept": "application/json, TEXT/HTML;q=0.1"}, True, False, id="html in any case"),
            pytest.param("GET", {"Accept": "text/htmlx"}, False, False, id="not quite html"),
            pytest.param("GET", {"Accept": "*/*"}, True, False, id="curl"),
            pytest.param("POST", {"Accept": "*/*"}, False, False, id="curl posting"),
            pytest.param("GET", {"Accept": "*/*", "Referer": "http://site.test/"}, False, False, id="an image, old browser"),
            pytest.param("GET", {"Accept": "*/*", "Origin": "http://site.test"}, False, False, id="a fetch, old browser"),
            pytest.param("GET", {"Accept": "*/*", "Accept-Language": "zh"}, False, False, id="a script, old browser"),
            pytest.param("GET", {}, False, False, id="nothing said"),
            pytest.param("OPTIONS", HTML, False, True, id="OPTIONS"),
        ],
    )
    @pytest.mark.parametrize("host", ["site.test", "localhost"])
    def test_is_one_word_for_check_and_pages(self, nginx, behind, method, headers, navigation, window, host) -> None:
        """Whether a page can be sent to WeCom, or shown, depends on method, Sec-Fetch-*, Accept and XHR only."""
        nginx.ask(method, "/x", headers, host=host)

        assert behind.checks[0].header("X-WeCom-Navigation") == ("1" if navigation else None)
        assert behind.pages[0].header("X-WeCom-Navigation") == ("1" if navigation else None)
        assert behind.pages[0].header("X-WeCom-Window") == ("1" if window else None)

    @pytest.mark.parametrize(
        "method, headers, preflight",
        [
            ("OPTIONS", {"Origin": "https://a.test", "Access-Control-Request-Method": "PUT"}, True),
            ("OPTIONS", {"Origin": "null", "Access-Control-Request-Method": "POST"}, True),
            ("OPTIONS", {"Origin": "https://a.test"}, False),
            ("OPTIONS", {"Access-Control-Request-Method": "PUT"}, False),
            ("OPTIONS", {}, False),
            ("GET", {"Origin": "https://a.test", "Access-Control-Request-Method": "PUT"}, False),
            ("OPTIONS", {"Origin": "https://a.test", "Access-Control-Request-Method": "/"}, False),
        ],
    )
    def test_preflight_needs_method_origin_and_requested_method(self, nginx, behind, method, headers, preflight) -> None:
        """A preflight is OPTIONS with Origin and Access-Control-Request-Method."""
        nginx.ask(method, "/x", headers)

        assert behind.checks[0].header("X-WeCom-Preflight") == ("1" if preflight else None)

    @pytest.mark.parametrize(
        "forged", [f"X-WeCom-{name}" for name in ("Navigation", "Preflight", "Site", "Session", "Token", "Challenge", "Packed")]
    )
    def test_a_client_cannot_say_the_word_itself(self, nginx, behind, forged) -> None:
        """Headers that the check trusts never come from the client."""
        nginx.get("/x", {forged: "good", "Accept": "image/png"})

        assert behind.checks[0].headers == [("Host", "site.test"), ("X-WeCom-Packed", "1")]


class TestWhatIsSent:
    """The check gets Host, the session, the site and the words; nothing else, ever."""

    def test_a_plain_question_is_five_headers_at_most(self, nginx, behind) -> None:
        """Nothing of the client's own headers reaches the check."""
        nginx.get("/x", GOOD | NAVIGATE | {"User-Agent": "x", "Authorization": "Bearer y", "X-Forwarded-For": "1.1.1.1"})

        assert behind.checks[0].headers == [
            ("Host", "site.test"),
            ("X-WeCom-Session", "good"),
            ("X-WeCom-Navigation", "1"),
            ("X-WeCom-Packed", "1"),
        ]

    def test_the_site_is_what_the_server_says(self, nginx, behind) -> None:
        """`set $wecom_site` above gateway.conf names the site, in the subrequest as well."""
        nginx.get("/x", host="named.test")

        assert behind.checks[0].header("X-WeCom-Site") == "plain"
        assert behind.pages[0].header("X-WeCom-Site") == "plain"

    @pytest.mark.parametrize(
        "host, seen",
        [
            ("SITE.test", "site.test"),
            ("site.test:8080", "site.test"),
            ("[::1]:8080", "[::1]"),
            ("127.0.0.1", "127.0.0.1"),
            ("a_b.test", "invalid"),
            ("a%20b.test", "invalid"),
            ("a'b.test", "invalid"),
            ("\xe4.test", "invalid"),
            ("x" * 256, "invalid"),
        ],
    )
    def test_a_host_that_is_no_name_is_invalid(self, nginx, behind, host, seen) -> None:
        """The check sees a host name without its port, or the word "invalid"."""
        nginx.get("/x", host=host)

        assert behind.checks[0].header("Host") == seen

    def test_the_rule_arrives_as_written(self, nginx, behind) -> None:
        """The rule rides in the path of the subrequest."""
        nginx.get("/refused/x?y=1", GOOD)

        assert behind.checks[0].uri == "/_wecom/auth/user:lisi/department:12,15"

    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PROPFIND", "OPTIONS", "FOO"])
    def test_the_question_is_a_get_without_body(self, nginx, behind, method) -> None:
        """Whatever the browser's method, the check is asked by GET and gets no body."""
        nginx.ask(method, "/x", body=b"body")

        assert (behind.checks[0].method, behind.checks[0].header("Content-Length")) == ("GET", None)

    def test_a_rule_that_holds_lets_in(self, nginx, behind) -> None:
        """A location's own rule is asked for, and its member announced."""
        assert nginx.get("/ruled/x", GOOD).status == 200

        assert behind.app[0].header("X-WeCom-UserId") == "zhangsan"

    def test_a_rule_that_does_not_hold_refuses(self, nginx, behind) -> None:
        """A refused member gets the page for it, with reason and rule, not the app."""
        assert nginx.get("/refused/x", GOOD).status == 403

        assert behind.app == []
        assert behind.pages[0].uri == "/_wecom/denied"
        assert behind.pages[0].header("X-WeCom-Reason") == "rule"
        assert behind.pages[0].header("X-WeCom-Rule") == "user:lisi/department:12,15"


CONTROLS = [chr(code) for code in (*range(0x01, 0x20), 0x7F) if chr(code) not in "\t\n\r"]


class TestHostileBytes:
    """A control byte in a header would be a 400 of the gateway's parser, and so a 500 for the browser."""

    @pytest.mark.parametrize("control", CONTROLS, ids=lambda control: f"{ord(control):#04x}")
    @pytest.mark.parametrize(
        "header",
        [
            *("Cookie", "User-Agent", "Accept", "Accept-Language", "Sec-Fetch-Dest", "Sec-Fetch-Site", "Sec-Fetch-Mode"),
            *("Origin", "Referer", "Content-Type", "X-Requested-With", "Access-Control-Request-Method", "X-Anything"),
        ],
    )
    def test_no_control_byte_reaches_check_or_pages(self, nginx, behind, header, control) -> None:
        """A control byte anywhere is kept from the gateway: the refusal is an ordinary 401."""
        assert nginx.ask("OPTIONS", "/x", {header: f"a{control}b"}).status == 401

        assert header.lower() not in behind.pages[0].names

    @pytest.mark.parametrize("control", ["\x01", "\x1f", "\x7f", "\x0b"])
    def test_a_signed_in_member_is_let_in_all_the_same(self, nginx, behind, control) -> None:
        """A control byte beside the session, or in another header, does not turn a member away."""
        headers = {"Cookie": f"a=x{control}y; __Host-wecom_session=good", "User-Agent": f"x{control}"}

        assert nginx.get("/files/x", headers).text == "a file"
        assert behind.checks[0].header("X-WeCom-Session") == "good"

    @pytest.mark.parametrize("size", [9_000, 40_000, 60_000])
    @pytest.mark.parametrize(
        "header", ["Cookie", "User-Agent", "Accept", "Accept-Language", "Origin", "Referer", "Content-Type", "X-WeCom-Site"]
    )
    def test_an_oversized_header_is_an_ordinary_refusal(self, nginx, behind, header, size) -> None:
        """Where the operator raised `large_client_header_buffers`, huge headers are still answered, not 500."""
        assert nginx.get("/x", {header: "x" * size}).status == 401

        passed = behind.pages[0].header(header)
        assert passed is None or header == "Cookie"

    @pytest.mark.parametrize("size", [8_000, 9_000, 60_000])
    def test_an_oversized_uri_is_an_ordinary_refusal(self, nginx, behind, size) -> None:
        """A URI is told to the pages up to 8 kB, beyond it is "/"."""
        uri = "/" + "x" * size
        assert nginx.get(uri).status == 401

        assert behind.pages[0].header("X-WeCom-Original-Uri") == (uri if size < 8192 else "/")

    @pytest.mark.parametrize(
        "line",
        [
            b"GET /x\x01y HTTP/1.1",
            b"GET /x%00y HTTP/1.1",
            b"get /x HTTP/1.1",
            b"G\x01T /x HTTP/1.1",
            b"\x16\x03\x01\x02\x00",
            b"GET http://site.test/x HTTP/1.1",
            b"GET //evil.test/x HTTP/1.1",
            b"GET /../../x HTTP/1.1",
            b"GET /\xff\xfe HTTP/1.1",
            b"GET * HTTP/1.1",
            b"CONNECT site.test:443 HTTP/1.1",
            b"TRACE /x HTTP/1.1",
            b"GET /x HTTP/9.9",
            b"GET /x HTTP/1.0",
        ],
    )
    def test_a_garbage_request_line_is_no_500(self, nginx, behind, line) -> None:
        """Garbage is refused by nginx or answered 401; the app is not reached."""
        answer = nginx.send(line + b"\r\nHost: site.test\r\nConnection: close\r\n\r\n")

        assert answer.status in (400, 401, 405, 505)
        assert behind.app == []

    @pytest.mark.parametrize("method", ["A" * 20, "A" * 21, "A" * 5000, "PROPFIND", "M-SEARCH", "_X"])
    def test_a_strange_method_is_told_in_its_own_alphabet(self, nginx, behind, method) -> None:
        """The pages are asked by GET; the browser's method is told if it is a plausible one."""
        assert nginx.ask(method, "/x").status == 401

        assert behind.pages[0].method == "GET"
        assert behind.pages[0].header("X-WeCom-Method") == (method if len(method) <= 20 else None)
