"""Ways to a page without being asked, each closed: the operator's own directives cannot turn a refusal into "allow"."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import __version__

NAIVE = (
    f"set $wecom_gateway {__version__};"
    + """
    if ($http_cookie ~ "__Host-wecom_session=(?<wecom_session>[a-z]+)") { }
    location /_wecom/auth { internal; proxy_pass http://wecom_check; proxy_set_header X-WeCom-Session $wecom_session; }
    location @wecom_login { return 401; }
    location @wecom_denied { return 403; }
    location @wecom_down { return 503; }
"""
)

ABOVE = {
    "intercept": "proxy_intercept_errors on; error_page 401 403 =200 /sorry.html; recursive_error_pages on;",
    "cache": "proxy_cache everything; proxy_cache_valid any 10m; proxy_cache_key $uri; proxy_ignore_headers Set-Cookie;",
    "rewrite": "",
    "regex": "",
    "regex-all": "",
}
"""Server-level directives before the include, by the server's name; below: those after it."""

BELOW = {
    "rewrite": "if (!-e $request_filename) { rewrite ^(.*)$ /index.html?s=$1 last; }",
    "regex": "location ~ ^/[^.]*$ { root PREFIX/www; try_files $uri /index.html; }",
    "regex-all": "location ~ auth { root PREFIX/www; try_files $uri /index.html; }",
    "cache": "",
    "intercept": "location = /sorry.html { }",
}

PAGE_RULES = {"/page": "", "/ruled": "/user:zhangsan"}
PAGES = pytest.mark.parametrize("page", list(PAGE_RULES))


def site(name: str, gateway: str) -> str:
    return f"""
server {{
    listen LISTEN;
    server_name {name};
    root PREFIX/www;
    {ABOVE[name.split(".")[0]]}
    {gateway}
    {BELOW[name.split(".")[0]]}
    location ^~ /page {{ include wecom/protect.conf; }}
    location ^~ /ruled {{ auth_request /_wecom/auth/user:zhangsan; include wecom/member.conf; }}
    location = /index.html {{ }}
}}
"""


CONFIG = (
    "proxy_cache_path PREFIX/cache keys_zone=everything:1m;"
    + "".join(site(f"{name}.test", "include wecom/gateway.conf;") for name in ABOVE)
    + "".join(site(f"{name}.naive.test", NAIVE) for name in ABOVE)
    + """
server {
    listen LISTEN;
    server_name whole.test;
    root PREFIX/www;
    include wecom/gateway.conf;
    include wecom/protect.conf;
    location / { }
    location ~ \\.php$ { }
    location /public/ { include wecom/public.conf; alias PREFIX/www/; }
    location /parts/ { include wecom/public.conf; ssi on; alias PREFIX/www/; }
    location /added/ { include wecom/public.conf; add_after_body /page; alias PREFIX/www/; }
}
server {
    listen LISTEN;
    server_name beside.test;
    root PREFIX/www;
    include wecom/gateway.conf;
    location / { include wecom/protect.conf; }
    location ~ .*\\.(gif|jpg|png)$ { expires 30d; }
    location /slashless { include wecom/public.conf; alias PREFIX/www/public/; }
    location /passed { include wecom/public.conf; proxy_pass http://APP/public/; }
    location /slashed/ { include wecom/public.conf; alias PREFIX/www/public/; }
}
server {
    listen LISTEN;
    server_name missing.test;
    root PREFIX/www;
    include wecom/gateway.conf;
    include wecom/protect.conf;
    error_page 404 /404.html;
}
server {
    listen LISTEN;
    server_name tuned.test;
    root PREFIX/www;
    client_max_body_size 1k;
    proxy_buffering off;
    proxy_buffer_size 4k; proxy_buffers 8 4k; proxy_busy_buffers_size 8k;
    proxy_next_upstream http_403 http_404 error;
    proxy_read_timeout 1h;
    proxy_method POST;
    proxy_set_header X-WeCom-Session good;
    proxy_store PREFIX/www$uri;
    satisfy any;
    include wecom/gateway.conf;
    location / { satisfy all; include wecom/protect.conf; }
}
server {
    listen LISTEN;
    server_name slashes.test;
    merge_slashes off;
    include wecom/gateway.conf;
    location / { include wecom/protect.conf; root PREFIX/www; }
}
"""
)

FORGOTTEN = {
    "forgotten.test": "location / { include wecom/protect.conf; }",
    "forgotten-rule.test": "location / { auth_request /_wecom/auth/user:zhangsan; include wecom/member.conf; }",
    "forgotten-whole.test": "include wecom/protect.conf;",
    "too-low.test": "include wecom/protect.conf; include wecom/gateway.conf;",
    "rewritten.test": "if (!-e $request_filename) { rewrite ^ /index.html last; }"
    " include wecom/gateway.conf; location / { include wecom/protect.conf; }",
}
"""Servers without gateway.conf, or with it below what it must stand above: their own pages would say "allow"."""

OTHER_VERSION = {"older.test": "set $wecom_gateway here;", "newer.test": "set $wecom_gateway 99.0.0;"}
"""Servers whose gateway.conf says that it is not of member.conf's version."""

CONFIG += "".join(
    f"server {{ listen LISTEN; server_name {name}; root PREFIX/www; include wecom/gateway.conf; {says}"
    " include wecom/protect.conf; }"
    for name, says in OTHER_VERSION.items()
)

CONFIG += "".join(
    f"server {{ listen LISTEN; server_name {name}; root PREFIX/www; {content} location = /_wecom/auth {{ return 200; }} }}"
    for name, content in FORGOTTEN.items()
)

FOLDERS = """
    auth_request /_wecom/auth/user:lisi; include wecom/member.conf; include wecom/identity.conf; proxy_pass http://APP; }
    location / { include wecom/protect.conf; include wecom/identity.conf; proxy_pass http://APP; }
"""
SPELLED = {
    "prefix.test": "location /finance/ {",
    "spelled.test": 'if ($uri ~ ";.*/") { return 404; } location ~* "^/finance(?:[;/]|$)" {',
}
"""A folder for somebody else, in an application that takes other spellings for the same path."""

CONFIG += "".join(
    f"server {{ listen LISTEN; server_name {name}; include wecom/gateway.conf; {says} {FOLDERS} }}"
    for name, says in SPELLED.items()
)

FILES = {
    "www/index.html": "INDEX",
    "www/page": "PAGE",
    "www/ruled": "PAGE",
    "www/sorry.html": "SORRY",
    "www/x.php": "PHP",
    "www/seen.png": "PICTURE",
    "www/public/x": "OPEN",
    "www/parts.html": '<!--# include virtual="/page" -->',
}


class TestOperatorsDirectives:
    """Each with the shipped gateway.conf, and, to show that the hole is one, with a plain location in its place."""

    @PAGES
    @pytest.mark.parametrize("name", list(ABOVE))
    def test_open_to_anybody_with_a_plain_location(self, nginx, name, page) -> None:
        """The hole is real: a check location that inherits and can be rewritten lets an anonymous visitor in."""
        host = f"{name}.naive.test"
        member = {"Cookie": "__Host-wecom_session=good"}

        def opened() -> bool:
            nginx.get(page, member, host=host)
            return nginx.get(page, host=host).text == "PAGE"

        assert any(opened() for _ in range(5))  # nginx may write its cache a moment after it answered

    @PAGES
    @pytest.mark.parametrize("name", list(ABOVE))
    @pytest.mark.parametrize("session", ["", "forged"], ids=["anonymous", "forged"])
    def test_closed_with_the_snippet(self, nginx, name, session, page) -> None:
        """The same directives do not touch the shipped locations: 401, before and after a member came by."""
        host = f"{name}.test"
        refused = {"Cookie": f"__Host-wecom_session={session}"}

        assert nginx.get(page, refused, host=host).status == 401
        assert nginx.get(page, {"Cookie": "__Host-wecom_session=good"}, host=host).text == "PAGE"
        assert nginx.get(page, refused, host=host).status == 401

    @PAGES
    @pytest.mark.parametrize("name", list(ABOVE))
    def test_the_check_is_asked(self, nginx, behind, name, page) -> None:
        """The question reaches the gateway, whatever the server rewrites or matches."""
        nginx.get(page, host=f"{name}.test")

        assert [check.uri for check in behind.checks] == [f"/_wecom/auth{PAGE_RULES[page]}"]

    @pytest.mark.parametrize("uri", ["/_wecom/me", "/_wecom/callback", "/WW_verify_abc.txt"])
    @pytest.mark.parametrize("name", list(ABOVE))
    def test_our_pages_stay_where_they_are(self, nginx, behind, name, uri) -> None:
        """The gateway answers them, whatever the server rewrites or matches."""
        nginx.get(uri, host=f"{name}.test")

        assert [page.uri for page in behind.pages] == [uri]

    def test_inherited_tuning_changes_no_answer(self, nginx, behind) -> None:
        """Buffers, methods, stores, headers and body limits of the server do not reach our locations."""
        assert nginx.get("/page", host="tuned.test").status == 401
        assert nginx.get("/page", {"Cookie": "__Host-wecom_session=big"}, host="tuned.test").text == "PAGE"
        assert nginx.ask("POST", "/page", body=b"x" * 5000, host="tuned.test").status == 413

        assert {check.method for check in behind.checks} == {"GET"}
        assert not list(nginx.prefix.glob("www/_wecom*"))


class TestForgotten:
    """Without gateway.conf above it, protect.conf and member.conf let nobody in and say what is missing."""

    @pytest.mark.parametrize("name", list(FORGOTTEN))
    @pytest.mark.parametrize("session", ["", "good"], ids=["anonymous", "member"])
    def test_closed_and_said(self, nginx, name, session) -> None:
        """Nobody sees a page, and who looks reads the line to add, which no check was asked for."""
        answer = nginx.get("/no-such-page", {"Cookie": f"__Host-wecom_session={session}"}, host=name)

        assert answer.status == 500
        assert "`include wecom/gateway.conf;` is missing, or not above" in answer.text

    @pytest.mark.parametrize("name", list(OTHER_VERSION))
    def test_two_versions_side_by_side(self, nginx, name) -> None:
        """A gateway.conf and a member.conf that do not belong together let nobody in, and what finds the file is said."""
        answer = nginx.get("/page", {"Cookie": "__Host-wecom_session=good"}, host=name)

        assert answer.status == 500
        assert "of another version than member.conf (`wecom-gateway nginx check DIR`)" in answer.text

    def test_in_a_server_that_has_it_nothing_of_this_shows(self, nginx) -> None:
        """The same visitor, in a server with the include, gets the page."""
        assert nginx.get("/page", {"Cookie": "__Host-wecom_session=good"}, host="intercept.test").text == "PAGE"


class TestWholeServer:
    """protect.conf at server level protects every location that does not say otherwise."""

    @pytest.mark.parametrize("uri", ["/page", "/x.php", "/none", "/index.html"])
    def test_every_location_asks(self, nginx, uri) -> None:
        """A regular expression beside a prefix, and a missing file, are behind the check as well."""
        assert nginx.get(uri, host="whole.test").status == 401

    def test_a_public_location_does_not(self, nginx) -> None:
        """public.conf takes its location out."""
        assert nginx.get("/public/page", host="whole.test").text == "PAGE"

    def test_a_regular_expression_beside_a_prefix_does_not(self, nginx) -> None:
        """Why README warns of it: it wins, and nobody is asked."""
        assert nginx.get("/page", host="beside.test").status == 401

        assert nginx.get("/seen.png", host="beside.test").text == "PICTURE"
        assert nginx.get("/seen.png", host="whole.test").status == 401

    def test_a_location_without_its_slash_does_not(self, nginx, behind) -> None:
        """Why README warns of it: what follows the name may lead out of the folder."""
        assert nginx.get("/slashless../page", host="beside.test").text == "PAGE"
        assert nginx.get("/passed../page", host="beside.test").status == 200

        assert [each.uri for each in behind.app] == ["/public/../page"]
        assert nginx.get("/slashed../page", host="beside.test").status == 401

    def test_an_error_page_that_is_missing_goes_round(self, nginx) -> None:
        """Why member.conf warns of it: `recursive_error_pages` is on, and nginx ends the circle with a 500."""
        answer = nginx.get("/none", {"Cookie": "__Host-wecom_session=good"}, host="missing.test")

        assert answer.status == 500
        assert "rewrite or internal redirection cycle" in nginx.log()

    @pytest.mark.parametrize("uri", ["/parts/parts.html", "/added/index.html"])
    def test_what_a_page_is_put_together_from_is_not_asked_for(self, nginx, behind, uri) -> None:
        """Why the comments warn of it: nginx asks for the page that the browser named, not for what it puts into it."""
        assert "PAGE" in nginx.get(uri, host="whole.test").text

        assert behind.checks == []

    @pytest.mark.parametrize("uri", ["/_wecom/login", "/_wecom/me", "/_wecom/callback/x", "/WW_verify_x.txt"])
    def test_the_gateway_s_own_pages_do_not_loop(self, nginx, behind, uri) -> None:
        """Our pages are not behind our own check."""
        nginx.get(uri, host="whole.test")

        assert behind.checks == []
        assert [page.uri for page in behind.pages] == [uri]


class TestOtherSpellings:
    """What Java, .NET and others take for the same path; nginx does not, so a plain prefix does not hold it."""

    SAME = ("/Finance/x", "/finance;a=b/x", "/finance;a", "/open/..;/finance/x", "/open/;a/../finance;b/x", "/FINANCE%3Ba/x")

    @pytest.mark.parametrize("uri", SAME)
    def test_trap_a_prefix(self, nginx, behind, uri) -> None:
        """The rule of the folder is not asked for, and the application gets the path as it was sent."""
        nginx.get(uri, {"Cookie": "__Host-wecom_session=good"}, host="prefix.test")

        assert [each.uri for each in behind.app] == [uri]

    @pytest.mark.parametrize("uri", ["/finance", "/finance/x", "/finance/x;jsessionid=1", *SAME])
    def test_closed_as_the_readme_says(self, nginx, behind, uri) -> None:
        """By the lines that are written there, none of them gets through."""
        told = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
        assert all(f"`{each}`" in told for each in ('location ~* "^/finance(?:[;/]|$)"', 'if ($uri ~ ";.*/") { return 404; }'))

        answer = nginx.get(uri, {"Cookie": "__Host-wecom_session=good"}, host="spelled.test")

        assert (answer.status in (403, 404), behind.app) == (True, [])

    @pytest.mark.parametrize("uri", ["/open/x", "/open/x;jsessionid=1?y=;/z", "/finances/"])
    def test_other_paths_pass(self, nginx, behind, uri) -> None:
        """Java's session at the end of a path among them."""
        assert nginx.get(uri, {"Cookie": "__Host-wecom_session=good"}, host="spelled.test").status == 200

        assert [each.uri for each in behind.app] == [uri]


class TestFromOutside:
    """The check is a question of nginx's only."""

    @pytest.mark.parametrize(
        "uri",
        [
            "/_wecom/auth",
            "/_wecom/auth/",
            "/_wecom/auth/user:zhangsan",
            "/_wecom/auth?x=1",
            "/_wecom/authx",
            "//_wecom/auth",
            "/_wecom//auth",
            "/_wecom/%61uth",
            "/%5fwecom/auth",
            "/_wecom/x/../auth",
            "/x/../_wecom/auth",
            "/_wecom/./auth",
            "http://whole.test/_wecom/auth",
        ],
    )
    @pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS"])
    def test_the_check_is_not_found(self, nginx, behind, uri, method) -> None:
        """Every spelling of its address is 404, and the gateway is not asked."""
        assert nginx.ask(method, uri, {"Cookie": "__Host-wecom_session=good"}, host="whole.test").status == 404

        assert behind.checks == behind.pages == []

    @pytest.mark.parametrize("uri", ["//_wecom/auth", "/_wecom//auth"])
    def test_double_slashes_kept_are_no_way_in(self, nginx, behind, uri) -> None:
        """With `merge_slashes off` the address is another one: a protected page, or none."""
        nginx.get(uri, {"Cookie": "__Host-wecom_session=none"}, host="slashes.test")

        assert all(check.uri == "/_wecom/auth" for check in behind.checks)
        assert all(page.uri in ("/_wecom/login", "/_wecom//auth") for page in behind.pages)

    @pytest.mark.parametrize("uri", ["/_wecom/Auth", "/_wecom/Auth/x", "/_wecom/aut", "/_wecom/"])
    def test_what_merely_looks_like_it_is_a_page(self, nginx, behind, uri) -> None:
        """Other addresses below /_wecom/ are the pages' to refuse, without any word of ours."""
        nginx.get(uri, {"X-WeCom-Reason": "x"}, host="whole.test")

        assert (behind.checks, behind.pages[0].uri, behind.pages[0].header("X-WeCom-Reason")) == ([], uri, None)


class TestAnswers:
    """Only 204, 401 and 403 count; whatever else the check says or fails to say is closed."""

    @pytest.mark.parametrize(
        "session",
        ["answer-200", "answer-302", "answer-400", "answer-404", "answer-500", "answer-503", "closed", "half"],
    )
    def test_anything_else_is_no_way_in(self, nginx, session) -> None:
        """A broken answer shows the page that says the service is not available; 200 cannot come from the gateway."""
        answer = nginx.get("/page", {"Cookie": f"__Host-wecom_session={session}"}, host="whole.test")

        assert answer.status == (200 if session == "answer-200" else 503)
        assert ("登录服务暂时不可用" in answer.text) == (session != "answer-200")

    def test_silence_is_no_way_in(self, start_nginx, behind) -> None:
        """A gateway that takes the question and says nothing: three seconds later, as shipped, the same page."""
        nginx = start_nginx(CONFIG, files=FILES, hurried=True)
        answer = nginx.get("/page", {"Cookie": "__Host-wecom_session=silent"}, host="whole.test")

        assert answer.status == 503
        assert "登录服务暂时不可用" in answer.text

    def test_ten_kilobytes_of_identity_are_no_500(self, nginx, behind) -> None:
        """The buffers hold more identity than any cookie can carry."""
        answer = nginx.get("/page", {"Cookie": "__Host-wecom_session=big"}, host="whole.test")

        assert answer.text == "PAGE"
