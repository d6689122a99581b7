"""The session cookie: found by its one name, taken out for the app, and never at the price of the operator's `$1`."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.nginx.conftest import SNIPPETS, Nginx

LOCATIONS = """
    include wecom/gateway.conf;
    location / { include wecom/protect.conf; include wecom/identity.conf; proxy_pass http://APP; }
    location /public/ { include wecom/public.conf; proxy_pass http://APP; }
    location /files/ { include wecom/protect.conf; root PREFIX; }
    location /here { return 204; }
"""

CONFIG = f"""
server {{ listen LISTEN; server_name default.test; {LOCATIONS} }}
server {{ listen LISTEN; server_name plain.test; set $wecom_site plain; {LOCATIONS} }}
server {{ listen LISTEN; server_name ported.test; set $wecom_site ported; {LOCATIONS} }}
server {{
    listen LISTEN;
    server_name captures.test;
    include wecom/gateway.conf;
    location ~ ^/protected/([^/]+)/(.+)$ {{
        include wecom/protect.conf; include wecom/identity.conf;
        proxy_set_header X-One $1; proxy_set_header X-Two $2; proxy_set_header X-Both "$1-$wecom_cookie-$2";
        proxy_pass http://APP;
    }}
    location ~ ^/public/([^/]+)/(.+)$ {{
        include wecom/public.conf;
        proxy_set_header X-One $1; proxy_set_header X-Two $2; proxy_set_header X-Both "$1-$wecom_cookie-$2";
        proxy_pass http://APP;
    }}
    location ~ ^/odd/([^/]+)/(.+)$ {{
        include wecom/public.conf;
        proxy_set_header A-Two $2; proxy_set_header X-Two $2;
        proxy_pass http://APP;
    }}
    location ~ ^/either/([^/]+)/(.+)$ {{
        satisfy any; allow 127.0.0.1; deny all;
        include wecom/protect.conf; include wecom/identity.conf;
        proxy_set_header X-One $1; proxy_set_header X-Two $2;
        proxy_pass http://APP;
    }}
    location ~ ^/alias/(.+)$ {{ include wecom/protect.conf; alias PREFIX/files/$1; }}
    location ~ ^/passed/([^/]+)/(.+)$ {{
        include wecom/protect.conf; include wecom/identity.conf; proxy_pass http://APP/to/$2/from/$1;
    }}
}}
server {{
    listen LISTEN;
    server_name ~^(www\\.)?(.+)\\.regex\\.test$;
    include wecom/gateway.conf;
    root PREFIX/sites/$2;
    location / {{ include wecom/public.conf; }}
    location /protected/ {{ include wecom/protect.conf; }}
    location /app/ {{
        include wecom/protect.conf; include wecom/identity.conf;
        proxy_set_header X-One "$1"; proxy_set_header X-Two $2;
        proxy_pass http://APP;
    }}
}}
"""

FILES = {
    "files/x": "a file",
    "sites/shop/who.txt": "shop",
    "sites/who.txt": "none",
    "sites/shop/protected/who.txt": "protected shop",
}

NAMES = {
    "default.test": "__Host-wecom_session",
    "plain.test": "wecom_session",
    "ported.test": "wecom_session_8080",
}

SIGNED_IN = {"Cookie": "__Host-wecom_session=good"}
OVERLONG = "{}=" + "x" * 4001

HOSTS = pytest.mark.parametrize("host", list(NAMES))


def session_in(cookie: str, name: str) -> str:
    """The reference: the first cookie of that name, if its value is visible ASCII."""
    for key, equals, value in (part.partition("=") for part in cookie.split(";")):
        if equals and key.strip(" \t") == name:
            return value.strip(" \t") if re.fullmatch("[!-~]{1,4000}", value.strip(" \t")) else ""
    return ""


def without(cookie: str, name: str) -> list[str]:
    """The reference: the other cookies, in order; none at all with three copies of ours or more."""
    parts = [part.strip(" \t") for part in cookie.split(";")]
    ours = [part for part in parts if "=" in part and part.partition("=")[0].rstrip(" \t") == name]
    return [] if len(ours) > 2 else [part for part in parts if part not in ours and part]


class TestFound:
    """Extraction: one name in force, whole values only."""

    @HOSTS
    @pytest.mark.parametrize("before", ["", "a=1; ", "a=1;", "a=1; b; c=; ", 'q="x y"; ', "\xe4=\xff; "])
    @pytest.mark.parametrize("after", ["", "; z=1", ";z=1", " ; z", ";"])
    def test_wherever_it_stands(self, nginx, behind, host, before, after) -> None:
        """The session is found first, last, between, with and without blanks."""
        nginx.get("/files/x", {"Cookie": f"{before}{NAMES[host]}=good{after}"}, host=host)

        assert behind.checks[0].header("X-WeCom-Session") == "good"

    @HOSTS
    @pytest.mark.parametrize(
        "look_alike",
        ["x{}=good", "{}x=good", "{}", "x={}=good", "{}.=good", "{}=go od", "{}=go\xe4d", "{}=", OVERLONG],
    )
    def test_look_alikes_are_none(self, nginx, behind, host, look_alike) -> None:
        """Another name, a cut or overlong value is no session."""
        nginx.get("/files/x", {"Cookie": look_alike.format(NAMES[host])}, host=host)

        assert behind.checks[0].header("X-WeCom-Session") is None

    @pytest.mark.parametrize("host", list(NAMES))
    @pytest.mark.parametrize("other", list(NAMES))
    def test_only_the_site_s_own_name_counts(self, nginx, behind, host, other) -> None:
        """A cookie of another site's name, or the plain name on https, is no session here."""
        nginx.get("/files/x", {"Cookie": f"{NAMES[other]}=good"}, host=host)

        assert behind.checks[0].header("X-WeCom-Session") == ("good" if other == host else None)

    def test_the_first_of_several_counts(self, nginx, behind) -> None:
        """Of several copies the first one is the session, as browsers send the most specific first."""
        nginx.get("/files/x", {"Cookie": "__Host-wecom_session=one; __Host-wecom_session=two"})

        assert behind.checks[0].header("X-WeCom-Session") == "one"

    @pytest.mark.parametrize("uri", ["/_wecom/me", "/_wecom/login", "/WW_verify_x.txt"])
    def test_on_our_own_pages(self, nginx, behind, uri) -> None:
        """The session reaches the pages that are asked for directly as well."""
        nginx.get(uri, SIGNED_IN)

        assert behind.pages[0].header("X-WeCom-Session") == "good"

    def test_in_a_second_cookie_header(self, nginx, behind) -> None:
        """Several Cookie headers are one."""
        nginx.get("/files/x", [("Cookie", "a=1"), ("Cookie", "__Host-wecom_session=good; b=2")])

        assert behind.checks[0].header("X-WeCom-Session") == "good"

    def test_the_longest_session_passes(self, nginx, behind) -> None:
        """4000 bytes, more than any cookie can hold, arrive whole."""
        value = "v" * 4000
        nginx.get("/files/x", {"Cookie": f"__Host-wecom_session={value}"})

        assert behind.checks[0].header("X-WeCom-Session") == value


class TestTakenOut:
    """The app gets every cookie but the session."""

    @HOSTS
    @pytest.mark.parametrize("where", ["/x", "/public/x"])
    @pytest.mark.parametrize(
        "cookie, left",
        [
            ("{}=good", None),
            ("{}=good; a=1", "a=1"),
            ("a=1; {}=good", "a=1"),
            ("a=1; {}=good; b=2", "a=1; b=2"),
            ("a=1;{}=good;b=2", "a=1;b=2"),
            ('a="x; y"; {}=good; b=\xe4', 'a="x; y"; b=\xe4'),
            ("{}=good; a=1; {}=second", "a=1"),
            ("{}=good; {}=second; a=1", "a=1"),
            ("a=1; {}=good; {}=good; {}=good; b=2", None),
            ("{}x=good; x{}=good; {}=good", "{}x=good; x{}=good"),
            (" {} = good ; a=1", "a=1"),
        ],
    )
    def test_whatever_stands_around_it(self, nginx, behind, host, where, cookie, left) -> None:
        """Our cookie is cut out exactly, behind the check and on public pages alike."""
        name = NAMES[host]
        nginx.get(where, {"Cookie": cookie.replace("{}", name)}, host=host)

        assert behind.app[0].header("Cookie") == (left and left.replace("{}", name))

    def test_from_several_cookie_headers(self, nginx, behind) -> None:
        """Several Cookie headers arrive as one, without ours."""
        nginx.get("/x", [("Cookie", "a=1"), ("Cookie", "__Host-wecom_session=good"), ("Cookie", "b=2")])

        assert behind.app[0].header("Cookie") == "a=1; b=2"

    def test_without_cookies_there_is_no_header(self, nginx, behind) -> None:
        """A request without cookies stays one."""
        nginx.get("/public/x")

        assert "cookie" not in behind.app[0].names


blanks = st.text(" \t", max_size=2)
names = st.sampled_from([*NAMES.values(), "x__Host-wecom_session", "wecom_session_", "a", "", "__Host-wecom_sessio"])
values = st.one_of(
    st.sampled_from(["good", "", '"good"', "a=b", "wecom_session=good", "\xe4", "x" * 200, "__Host-wecom_session"]),
    st.text("abcXYZ019_.- \t=\"',\xe4", max_size=30),
)
parts = st.one_of(
    st.builds(lambda a, name, b, c, value, d: f"{a}{name}{b}={c}{value}{d}", blanks, names, blanks, blanks, values, blanks),
    st.sampled_from(["", " ", "a", "wecom_session"]),
)
separators = st.sampled_from(["; ", ";", " ;"])
cookies = st.builds(lambda separator, each: separator.join(each).strip(" \t"), separators, st.lists(parts, max_size=9))


@HOSTS
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(cookie=cookies)
def test_any_cookie_is_read_as_the_reference_reads_it(nginx, behind, host, cookie) -> None:
    """Extraction and removal agree with a few lines of Python on anything that looks like cookies, asked about or public."""
    behind.forget()
    behind.trusting = True
    nginx.get("/public/x", {"Cookie": cookie}, host=host)
    nginx.get("/x", {"Cookie": cookie}, host=host)

    for app in behind.app:
        left = [part.strip(" \t") for part in (app.header("Cookie") or "").split(";")]
        assert [part for part in left if part] == without(cookie, NAMES[host])
        assert app.header("Host") == host
    assert len(behind.app) == 2
    assert (behind.checks[0].header("X-WeCom-Session") or "") == session_in(cookie, NAMES[host])


NAME = "__Host-wecom_session"
SIZE = 60_000


def worked(nginx: Nginx) -> float:
    """The seconds that nginx's worker has worked, whatever else the machine does (clock_getcpuclockid(3))."""
    assert nginx.process
    master = nginx.process.pid
    (worker,) = (pid for pid in (int(path.name) for path in Path("/proc").glob("[0-9]*")) if parent_of(pid) == master)
    return time.clock_gettime((~worker << 3) | 2)


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1])
    except OSError:  # it has ended meanwhile
        return 0


@pytest.mark.parametrize(
    "cookie",
    [
        pytest.param("x" * SIZE, id="one long word"),
        pytest.param(";" * SIZE, id="semicolons"),
        pytest.param("; " * (SIZE // 2), id="semicolons and blanks"),
        pytest.param(";" + " " * SIZE + "x", id="blanks"),
        pytest.param((NAME + ";") * (SIZE // len(NAME)), id="the name without value"),
        pytest.param((NAME + "=!;") * (SIZE // len(NAME)), id="the name with a bad value"),
        pytest.param((NAME + "=" + "v" * 4001 + ";") * 14, id="overlong values"),
        pytest.param((NAME + "=" + "v" * 3999 + "!;") * 14, id="values that end badly"),
        pytest.param((NAME + "=v;") * (SIZE // len(NAME)), id="many copies"),
        pytest.param((NAME + " " * 500 + "!;") * 110, id="the name and blanks"),
        pytest.param("a=b; " * (SIZE // 5), id="many others"),
        pytest.param("__Host-" * (SIZE // 7), id="half the name"),
    ],
)
def test_a_hostile_cookie_costs_milliseconds(nginx, cookie) -> None:
    """60 kB made to backtrack cost nginx milliseconds: the patterns are linear, a quadratic one would take seconds."""

    nginx.get("/here")  # whoever answers is there

    def quickest(header: str) -> float:
        taken = []
        for _ in range(5):
            began = worked(nginx)
            assert nginx.get("/here", {header: cookie[:SIZE]}).status == 204
            taken.append(worked(nginx) - began)
        return min(taken)

    assert quickest("Cookie") - quickest("X-Other") < 0.3


LONG = {"Cookie": "__Host-wecom_session=good; other=../../secret" + "x" * 300 + "; last=1"}


def test_the_pattern_is_one(nginx) -> None:
    """What the question finds (gateway.conf) and what is found where none was asked (http.conf) is found by the same words."""
    begins, ends = r"(?: (?<wecom_valid_host>", "(?<wecom_none>"
    asked, unasked = (
        [line.strip() for line in text[text.index(begins) : text.index(ends)].splitlines()]
        for text in ((SNIPPETS / name).read_text("utf-8") for name in ("gateway.conf", "http.conf"))
    )

    assert asked == unasked


class TestCaptures:
    """Maps with captures overwrite `$1`; ours are evaluated before anybody's `$1` matters."""

    @pytest.mark.parametrize("where", ["protected", "public", "either"])
    def test_a_location_s_captures_are_its_own(self, nginx, behind, where) -> None:
        """`proxy_set_header X-Two $2` holds what the location matched, behind a check, in public, and by `satisfy any`."""
        assert nginx.get(f"/{where}/one/two", LONG, host="captures.test").status == 200

        assert (behind.app[0].header("X-One"), behind.app[0].header("X-Two")) == ("one", "two")

    @pytest.mark.parametrize("where", ["protected", "public"])
    def test_captures_and_the_cookie_in_one_string(self, nginx, behind, where) -> None:
        """One header made of `$1`, our cookie map and `$2` is right."""
        nginx.get(f"/{where}/one/two", {"Cookie": "__Host-wecom_session=good; a=1"}, host="captures.test")

        assert behind.app[0].header("X-Both") == "one-a=1-two"

    def test_a_line_feed_in_one_is_refused(self, nginx, behind) -> None:
        """It would shift what stands beside it."""
        assert nginx.get("/odd/a%0Ab%0A%0A/two", LONG, host="captures.test").status == 400

        assert behind.app == []

    def test_an_alias_by_capture_serves_its_file(self, nginx) -> None:
        """`alias …/$1` opens the file in the URI, not one in the cookie."""
        assert nginx.get("/alias/x", LONG, host="captures.test").text == "a file"

    def test_a_proxied_uri_by_captures_is_right(self, nginx, behind) -> None:
        """`proxy_pass http://app/$2/$1` is made of the URI."""
        nginx.get("/passed/one/two", LONG, host="captures.test")

        assert behind.app[0].uri == "/to/two/from/one"

    @pytest.mark.parametrize(
        "uri, content", [("/who.txt", "shop"), ("/protected/who.txt", "protected shop")], ids=["public", "protected"]
    )
    def test_a_server_name_s_captures_survive(self, nginx, uri, content) -> None:
        """`root /sites/$2` by a regular expression in server_name opens the named site's files."""
        assert nginx.get(uri, LONG, host="www.shop.regex.test").text == content

    def test_an_unmatched_group_of_a_server_name_stays_empty(self, nginx, behind) -> None:
        """The optional group that did not match is empty, the next one keeps its number."""
        nginx.get("/app/x", LONG, host="shop.regex.test")

        assert (behind.app[0].header("X-One"), behind.app[0].header("X-Two")) == (None, "shop")
