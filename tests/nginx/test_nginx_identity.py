"""What the app behind nginx learns: the member, and nothing that a client made up."""

from __future__ import annotations

import itertools

import pytest

from tests.headers import NAMES, spellings

CONFIG = """
underscores_in_headers on;
server {
    listen LISTEN;
    server_name site.test;
    include wecom/gateway.conf;
    location / { include wecom/protect.conf; include wecom/identity.conf; proxy_pass http://APP; }
    location /public/ { include wecom/public.conf; proxy_pass http://APP; }
    location /either/ {
        satisfy any; allow 127.0.0.1; deny all;
        include wecom/protect.conf; include wecom/identity.conf;
        proxy_pass http://APP;
    }
    location /decoded/ { include wecom/protect.conf; include wecom/identity.conf; proxy_pass http://APP$uri; }
    location /told/ {
        include wecom/protect.conf; include wecom/identity.conf;
        proxy_set_header X-Path $uri;
        proxy_pass http://APP;
    }
    location ~ ^/captured/([^?]+)$ { include wecom/public.conf; proxy_pass http://APP/$1; }
    location /other/ {
        set $wecom_upstream_host app.internal;
        set $wecom_upstream_proto https;
        include wecom/protect.conf; include wecom/identity.conf;
        proxy_set_header X-Employee $wecom_account;
        proxy_pass http://APP;
    }
    location /outer/ {
        include wecom/protect.conf; include wecom/identity.conf;
        location /outer/bare/ { proxy_set_header X-Own yes; proxy_pass http://APP; }
        location /outer/whole/ { include wecom/identity.conf; proxy_set_header X-Own yes; proxy_pass http://APP; }
        location /outer/errors/ { error_page 404 /none; proxy_pass http://APP; }
        location /outer/asks/ { auth_request_set $own $upstream_status; proxy_pass http://APP; }
        location /outer/plain/ { proxy_pass http://APP; }
    }
    location /twice/ {
        include /etc/nginx/proxy_params;
        include wecom/protect.conf; include wecom/identity.conf;
        proxy_pass http://APP;
    }
    location /to-public/ { include wecom/protect.conf; root PREFIX; error_page 404 = /public/missing; }
    location /then/ { include wecom/protect.conf; root PREFIX; error_page 404 = /rule/; }
    location /rule/ { auth_request /_wecom/auth/user:lisi; error_page 403 = /unasked/; }
    location /unasked/ { include wecom/identity.conf; proxy_pass http://APP; }
    location /tried/ { include wecom/protect.conf; root PREFIX; try_files $uri @app; }
    location @app { include wecom/identity.conf; proxy_pass http://APP; }
}
server {
    listen LISTEN;
    server_name hiding.test;
    proxy_hide_header Location; proxy_hide_header Set-Cookie; proxy_redirect ~^ /elsewhere;
    include wecom/gateway.conf;
    location / { include wecom/protect.conf; include wecom/identity.conf; proxy_pass http://APP; }
}
"""

IDENTITY = {
    "UserId": "zhangsan",
    "Account": "10086",
    "Name": "%E5%BC%A0%E4%B8%89",
    "CorpId": "ww0123456789abcdef",
    "Departments": "12,1",
    "Email": "zhangsan@example.com",
    "Mobile": "13800000000",
    "Avatar": "https://wework.qpic.cn/a/0",
    "Position": "%E5%B7%A5%E7%A8%8B%E5%B8%88",
    "Alias": "jackzhang",
    "Kind": "member",
    "Jwt": "a.b.c",
}
SPELLINGS = ["".join(("X", first, "WeCom", second)) for first, second in itertools.product("-_", "-_")]
GOOD = {"Cookie": "__Host-wecom_session=good"}


def identity_of(received) -> list[tuple[str, str]]:
    """Everything that a CGI or WSGI app could take for an identity header."""
    return [(key, value) for key, value in received.headers if key.lower().replace("_", "-").startswith("x-wecom-")]


class TestAnnounced:
    """Behind a check the app gets each identity header once, with the gateway's value."""

    @pytest.mark.parametrize("uri", ["/x", "/outer/plain/x", "/outer/whole/x", "/tried/none"])
    def test_every_header_arrives_once(self, nginx, behind, uri) -> None:
        """All twelve, and no other of that name."""
        nginx.get(uri, GOOD)

        assert identity_of(behind.app[0]) == [(f"X-WeCom-{name}", value) for name, value in IDENTITY.items()]

    @pytest.mark.parametrize("spelling", SPELLINGS)
    @pytest.mark.parametrize("case", [str, str.lower, str.upper], ids=["as is", "lower", "upper"])
    @pytest.mark.parametrize("name", [*IDENTITY])
    def test_a_forged_one_is_overwritten(self, nginx, behind, name, spelling, case) -> None:
        """A client's own identity header never arrives, by dash, underscore or a mix, in any letter case."""
        nginx.get("/x", GOOD | {case(spelling + name): "forged"})

        assert [value for key, value in identity_of(behind.app[0]) if key.lower().endswith(name.lower())] == [IDENTITY[name]]

    def test_what_the_server_keeps_from_browsers_reaches_nginx(self, nginx, behind) -> None:
        """An inherited ``proxy_hide_header Location`` loses neither the identity nor the way to the sign-in."""
        nginx.get("/x", GOOD, host="hiding.test")
        refused = nginx.get("/x", {"Accept": "text/html"}, host="hiding.test")

        assert identity_of(behind.app[0]) == [(f"X-WeCom-{name}", value) for name, value in IDENTITY.items()]
        assert (refused.status, behind.pages[0].header("X-WeCom-Reason")) == (302, "no-session")

    def test_an_own_name_for_it(self, nginx, behind) -> None:
        """Every header is a variable too, to be sent by any other name."""
        nginx.get("/other/x", GOOD | {"X-Employee": "boss"})

        assert behind.app[0].header("X-Employee") == "10086"


class TestNobody:
    """Where nobody was asked, nobody is announced."""

    @pytest.mark.parametrize("uri", ["/public/x", "/either/x"])
    @pytest.mark.parametrize("spelling", SPELLINGS)
    @pytest.mark.parametrize("name", [*IDENTITY])
    def test_a_forged_header_does_not_arrive(self, nginx, behind, uri, name, spelling) -> None:
        """In public, and by an allowed address, an invented identity is dropped."""
        nginx.get(uri, GOOD | {spelling + name: "forged"})

        assert (behind.checks, identity_of(behind.app[0])) == ([], [])

    def test_a_refusal_leaves_nothing_of_an_earlier_yes(self, nginx, behind) -> None:
        """Asked for another rule in the same request and refused, the member is nobody where nobody asks again."""
        nginx.get("/then/none", GOOD)

        assert [check.uri for check in behind.checks] == ["/_wecom/auth", "/_wecom/auth/user:lisi"]
        assert [(app.uri, identity_of(app)) for app in behind.app] == [("/unasked/", [])]

    def test_a_member_s_identity_does_not_follow_into_public(self, nginx, behind) -> None:
        """An error page served by a public location announces nobody, although the member was asked for before."""
        nginx.get("/to-public/none", GOOD)

        assert (len(behind.checks), behind.app[0].uri, identity_of(behind.app[0])) == (1, "/public/missing", [])


class TestBetweenNginxAndTheGateway:
    """What they tell each other is nobody else's to say."""

    @pytest.mark.parametrize("uri", ["/x", "/public/x", "/either/x"])
    def test_no_name_of_ours_arrives_from_a_client(self, nginx, behind, uri) -> None:
        """Whatever name the gateway or a snippet uses, in whatever spelling: the app hears none of it from a client."""
        forged = [spelling for name in NAMES for spelling in spellings(name)]
        nginx.get(uri, GOOD | dict.fromkeys(forged, "forged"))

        assert len(forged) > 100
        assert [name for name, value in identity_of(behind.app[0]) if value == "forged"] == []


class TestDecoded:
    """`$uri` and captures are the path decoded: what an operator puts together with them must not grow headers."""

    @pytest.mark.parametrize("line", ["%0d%0a", "%0a", "%0D%0A", "\xe5%0d%0a%E5"])
    @pytest.mark.parametrize("uri", ["/decoded/", "/told/", "/captured/", "/x", "/_wecom/me", "/_wecom/../decoded/"])
    def test_a_line_feed_in_the_path_is_refused(self, nginx, behind, uri, line) -> None:
        """Or a client's own X-WeCom-UserId would arrive before ours."""
        answer = nginx.get(f"{uri}x%20HTTP/1.1{line}X-WeCom-UserId:%20forged{line}X-Rest:%20/", GOOD)

        assert (answer.status, behind.app, behind.pages, behind.checks) == (400, [], [], [])

    @pytest.mark.parametrize("uri", ["/decoded/x", "/told/x?a=%0d%0aX-WeCom-UserId:forged", "/captured/x"])
    def test_other_paths_pass(self, nginx, behind, uri) -> None:
        """In a query nothing is decoded."""
        assert nginx.get(uri, GOOD).status == 200

        assert "forged" not in [value for _, value in behind.app[0].headers]


class TestTheRest:
    """What else passes to the app, and what does not."""

    @pytest.mark.parametrize("uri", ["/x", "/public/x"])
    def test_where_the_request_came_from(self, nginx, behind, uri) -> None:
        """Host with its port, address, forwarded chain and scheme are set."""
        sent = {"X-Forwarded-For": "192.0.2.9", "X-Real-IP": "forged", "X-Forwarded-Proto": "gopher"}
        nginx.get(uri, GOOD | sent, host="site.test:8080")

        app = behind.app[0]
        assert app.header("Host") == "site.test:8080"
        assert app.header("X-Real-IP") == "127.0.0.1"
        assert app.header("X-Forwarded-For") == "192.0.2.9, 127.0.0.1"
        assert app.header("X-Forwarded-Proto") == "http"

    @pytest.mark.parametrize(
        "target, host, told",
        [
            ("/x", "site.test", "site.test"),
            ("/x", "SITE.test:8443", "SITE.test:8443"),
            ("/x", "site.test.", "site.test."),
            ("http://site.test/x", "evil.test", "site.test"),
            ("http://site.test/x", "site.test.evil.test", "site.test"),
            ("http://site.test/x", "site.test:1@evil.test", "site.test"),
            ("http://site.test:8080/x", "evil.test:8080", "site.test"),
        ],
    )
    def test_the_host_is_the_one_that_nginx_goes_by(self, nginx, behind, target, host, told) -> None:
        """With a host in the request line, another one in the Host header does not reach the app."""
        assert nginx.get(target, GOOD, host=host).status == 200

        assert behind.app[0].header("Host") == told

    @pytest.mark.parametrize("uri", ["/x", "/public/x"])
    @pytest.mark.parametrize("name", ["X-Original-URL", "X-Rewrite-URL", "X-Real-IP", "X-Forwarded-For", "X-Forwarded-Proto"])
    def test_no_other_spelling_says_another_thing(self, nginx, behind, uri, name) -> None:
        """Under ``underscores_in_headers on`` CGI and WSGI read ``X_Real_IP`` for ``X-Real-IP``: it does not arrive either."""
        nginx.get(uri, GOOD | dict.fromkeys(spellings(name), "forged"))

        assert "forged" not in [value for _, value in behind.app[0].headers]

    def test_lines_of_ones_own_arrive_beside_ours(self, nginx, behind) -> None:
        """Why README says which to delete: two Host headers are 400 to many an application, as to this."""
        answer = nginx.get("/twice/x", GOOD)

        assert (answer.status, "Duplicate 'Host'" in answer.text, behind.app) == (400, True, [])

    def test_other_values_by_set(self, nginx, behind) -> None:
        """`set $wecom_upstream_host` and `$wecom_upstream_proto` tell the app something else."""
        nginx.get("/other/x", GOOD)

        assert (behind.app[0].header("Host"), behind.app[0].header("X-Forwarded-Proto")) == ("app.internal", "https")

    @pytest.mark.parametrize("uri", ["/x", "/public/x"])
    @pytest.mark.parametrize(
        "sent, passed",
        [
            ("Basic b2xkOnBhc3N3b3Jk", True),
            ("Bearer somebody.elses.token", True),
            ("Bearer wgt_abc", False),
            ("bearer   wgt_abc", False),
            ("BEARER\twgt_", False),
            ("Bearer xwgt_abc", True),
            ("Basic wgt_abc", True),
        ],
    )
    def test_only_our_own_authorization_is_taken_out(self, nginx, behind, uri, sent, passed) -> None:
        """The app's own passwords and tokens pass; a token of ours is not the app's business."""
        nginx.get(uri, GOOD | {"Authorization": sent})

        assert behind.app[0].header("Authorization") == (sent if passed else None)

    def test_an_ordinary_request_asks_for_no_upgrade(self, nginx, behind) -> None:
        """Without Upgrade there is neither Upgrade nor Connection."""
        nginx.get("/x", GOOD)

        assert not behind.app[0].names & {"upgrade", "connection"}

    @pytest.mark.parametrize("protocol", ["h2c", "H2C", "TLS/1.0", "websocket, h2c", "websocket2", "spdy/3.1"])
    @pytest.mark.parametrize("uri", ["/x", "/public/x"])
    def test_no_tunnel_but_a_websocket(self, nginx, behind, uri, protocol) -> None:
        """Another protocol is not passed on: by h2c a client would reach the app behind the back of all locations."""
        nginx.get(uri, GOOD | {"Upgrade": protocol, "Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AAMAAABk"})

        assert not behind.app[0].names & {"upgrade", "connection"}

    @pytest.mark.parametrize("uri, session, status", [("/x", "good", 101), ("/public/x", "", 101), ("/x", "", 401)])
    def test_a_websocket_opens_for_members_only(self, nginx, behind, uri, session, status) -> None:
        """The upgrade reaches the app, with the member's identity, and only behind the check."""
        key = {"Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        lines = [f"GET {uri} HTTP/1.1", "Host: site.test", "Connection: Upgrade", f"Cookie: __Host-wecom_session={session}"]
        lines += [f"{name}: {value}" for name, value in key.items()]
        with nginx.connect() as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            answer = connection.recv(4096)

        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        members = [app.header("X-WeCom-UserId") for app in behind.app]
        assert members == ([] if status == 401 else ["zhangsan" if session else None])


class TestNestedLocations:
    """What a nested location keeps and loses; the snippets' comments say so, and these show it."""

    def test_one_proxy_set_header_of_its_own_loses_identity(self, nginx, behind) -> None:
        """The check still runs, but the inherited headers are gone: why identity.conf belongs into every such location."""
        nginx.get("/outer/bare/x", GOOD | {"X-WeCom-UserId": "forged"})

        assert len(behind.checks) == 1
        assert behind.app[0].header("X-WeCom-UserId") == "forged"

    def test_with_the_include_it_is_whole(self, nginx, behind) -> None:
        """Repeating the include beside its own header cures it."""
        nginx.get("/outer/whole/x", GOOD | {"X-WeCom-UserId": "forged"})

        assert (behind.app[0].header("X-WeCom-UserId"), behind.app[0].header("X-Own")) == ("zhangsan", "yes")

    def test_an_auth_request_set_of_its_own_loses_nothing(self, nginx, behind) -> None:
        """Who it is and why not do not come by that directive: neither identity nor sign-in depends on what is inherited."""
        nginx.get("/outer/asks/x", GOOD)
        nginx.get("/outer/asks/x", {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"})

        assert behind.app[0].header("X-WeCom-UserId") == "zhangsan"
        assert behind.pages[0].header("X-WeCom-Reason") == "no-session"

    def test_an_error_page_of_its_own_loses_the_sign_in(self, nginx, behind) -> None:
        """Still refused, but by nginx's bare 401."""
        assert nginx.get("/outer/errors/x").status == 401

        assert (len(behind.checks), behind.pages, behind.app) == (1, [], [])
