"""A machine's token in Authorization: recognised exactly, told to the check only, and taken out for the app."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CONFIG = """
server {
    listen LISTEN;
    server_name site.test;
    include wecom/gateway.conf;
    location / { include wecom/protect.conf; include wecom/identity.conf; proxy_pass http://APP; }
    location /public/ { include wecom/public.conf; proxy_pass http://APP; }
    location /asking/ {
        set $wecom_challenge basic;
        include wecom/protect.conf; include wecom/identity.conf; proxy_pass http://APP;
    }
    location /refused/ { auth_request /_wecom/auth/user:lisi; include wecom/member.conf; }
    location ~ ^/captures/([^/]+)/(.+)$ {
        include wecom/protect.conf; include wecom/identity.conf;
        proxy_set_header X-One $1; proxy_set_header X-Both "$1-$wecom_authorization-$2";
        proxy_pass http://APP;
    }
}
server {
    listen LISTEN;
    server_name ~^(a)(b)(c)(d)(e)(f)(g)(h)(.+)\\.regex\\.test$;
    include wecom/gateway.conf;
    location / {
        include wecom/protect.conf; include wecom/identity.conf;
        proxy_set_header X-Nine $1$2$3$4$5$6$7$8$9;
        proxy_pass http://APP;
    }
}
"""

HTTP_CONF = (Path(__file__).parents[2] / "nginx" / "http.conf").read_text("utf-8")
GOOD = {"Cookie": "__Host-wecom_session=good"}
TOKEN = "wgt_eyJ2IjoxfQ.3q2-7w_"
PLACES = pytest.mark.parametrize("uri", ["/x", "/public/x", "/asking/x", "/captures/a/b"])


def basic(credentials: str | bytes) -> str:
    raw = credentials.encode() if isinstance(credentials, str) else credentials
    return f"Basic {base64.b64encode(raw).decode()}"


def holds_ours(credentials: bytes) -> bool:
    """The reference: the password, all behind the first colon, begins with our prefix."""
    return credentials.partition(b":")[2].startswith(b"wgt_")


@pytest.fixture(scope="module")
def recognised() -> Callable[[str], bool]:
    """The patterns of ``http.conf``, asked here a million times faster than through nginx.

    What they skip and what they look for exclude each other, so `*+` finds what `*` finds, sooner; Python's `*+` has a mistake
    in 3.11.2.
    """
    block = HTTP_CONF.partition("map $http_authorization $wecom_token {")[2].partition("\n}")[0]
    patterns = [
        re.compile(text.replace("*+", "*"), re.DOTALL)
        for text in re.findall(r'^    "~(.+)" \$wecom_credentials;$', block, re.MULTILINE)
    ]
    assert len(patterns) == 2
    return lambda header: any(pattern.search(header) for pattern in patterns)


NAMES = st.binary(max_size=300) | st.lists(st.sampled_from([b":", b"wgt_", b":wgt_", b";", b"9", b"\xba"]), max_size=9).map(
    b"".join
)
ENDS = st.sampled_from([b":wgt_", b":wgt", b"wgt_", b":Wgt_", b"::wgt_", b":wgt:"])


class TestThePatterns:
    """The spelling of `:wgt_` in base64."""

    @settings(max_examples=2000, derandomize=True)
    @given(name=NAMES, end=ENDS, more=st.binary(max_size=40))
    def test_know_a_password_of_ours_and_no_other(self, recognised, name, end, more) -> None:
        """Whatever the user name, and wherever a colon stands: ours if and only if the password begins with the prefix."""
        credentials = name + end + more

        assert recognised(basic(credentials)) is holds_ours(credentials)

    def test_hold_for_every_two_bytes_around(self, recognised) -> None:
        """No pair of bytes at any place of the group hides our prefix or looks like it."""
        pairs = [bytes([a, b]) for a in range(256) for b in range(256)]
        credentials = [
            before + pair + after for pair in pairs for before, after in [(b"", b":wgt_"), (b"x", b"wgt_"), (b":w", b"t_")]
        ]

        assert [each for each in credentials if recognised(basic(each)) is not holds_ours(each)] == []

    def test_hold_for_every_length_of_name(self, recognised) -> None:
        """A name of any length is skipped, its last group included."""
        assert all(recognised(basic(b"n" * length + b":" + TOKEN.encode())) for length in range(1000))

    def test_take_no_time_for_what_is_made_to_be_slow(self, recognised, nginx, behind) -> None:
        """Sixty kilobytes without a colon, or of colons, are gone through once."""
        for credentials in (b"x" * 45_000, b":wgt" * 11_000, b"x" * 44_999 + b":wgt_"):
            assert nginx.get("/public/x", {"Authorization": basic(credentials)}).status == 200


class TestOurs:
    """Our own token reaches the check, and no app."""

    @PLACES
    @pytest.mark.parametrize(
        "sent",
        [
            *(f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER   {TOKEN}", "Bearer wgt_" + "a" * 1500),
            *(basic(f"{name}:{TOKEN}") for name in ("", "c", "ci", "ci1", "名字", "a b")),
            basic(f"ci:{TOKEN}").replace("Basic", "bAsIc  "),
        ],
    )
    def test_is_told_to_the_check_and_taken_out(self, nginx, behind, uri, sent) -> None:
        """Scheme and credentials arrive at the check as they are; the app has no Authorization at all."""
        nginx.get(uri, GOOD | {"Authorization": sent})

        assert [check.header("X-WeCom-Token") for check in behind.checks] == ([] if uri == "/public/x" else [sent])
        assert "authorization" not in behind.app[0].names

    @PLACES
    @pytest.mark.parametrize(
        "sent",
        [
            *(
                f"Bearer\t{TOKEN}",
                "Bearer wgt_a b",
                "Bearer wgt_\xe4",
                "Bearer wgt_\x01",
                "Bearer wgt_a,b",
                "Bearer wgt_" + "a" * 2000,
            ),
            *(basic(f"ci:{TOKEN}") + "\x01", basic(f"ci:{TOKEN}") + " x", basic("c" * 2000 + f":{TOKEN}"), "Bearer wgt_a:b"),
        ],
    )
    def test_in_no_shape_of_ours_is_one_word(self, nginx, behind, uri, sent) -> None:
        """With a blank, a control byte or beyond all bounds it is still ours to refuse, as a word of nginx's own."""
        nginx.get(uri, GOOD | {"Authorization": sent})

        assert [check.header("X-WeCom-Token") for check in behind.checks] == ([] if uri == "/public/x" else ["forged"])
        assert "authorization" not in behind.app[0].names

    @pytest.mark.parametrize(
        "headers", [{"Accept": "text/html"}, {"Accept": "*/*"}, {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}]
    )
    def test_is_never_sent_to_wecom(self, nginx, behind, headers) -> None:
        """Whatever a program accepts, with a token it is no navigation and no window: it gets no redirect and no page."""
        nginx.ask("POST", "/x", headers | {"Authorization": f"Bearer {TOKEN}"})
        nginx.ask("GET", "/x", headers | {"Authorization": basic(f"ci:{TOKEN}")})

        assert [page.names & {"x-wecom-navigation", "x-wecom-window"} for page in behind.pages] == [set()] * 2

    @pytest.mark.parametrize("uri", ["/refused/x", "/_wecom/me"])
    def test_nobody_s_session_counts_beside_it(self, nginx, behind, uri) -> None:
        """A refusal of a token is not a member's, whose session came along."""
        nginx.get(uri, GOOD | {"Authorization": f"Bearer {TOKEN}"})
        nginx.get(uri, GOOD | {"Authorization": "Bearer another"})

        assert [page.header("X-WeCom-Session") for page in behind.pages] == [None, "good"]


class TestForeign:
    """What is not ours is the app's, byte for byte, and the check does not hear of it."""

    @PLACES
    @pytest.mark.parametrize(
        "sent",
        [
            *("Bearer somebody.elses", "Bearer xwgt_a", "Bearer WGT_a", "wgt_a", "Bearer", "Basic", "Basic ", "0", "x" * 50_000),
            *(
                "Basic wgt_abc",
                "Basic Y2k6d2d0Xw",
                "Digest username=wgt_",
                "Negotiate b25seQ==",
                "Basic \xe4\xf6",
                f"Bearer {basic(TOKEN)}",
            ),
            *(
                basic(text)
                for text in ("old:password", "wgt_:x", "a:b:wgt_x", "a:xwgt_", "a:wgt", "wgt_", ":", "", "a:WGT_x", "ab:wgt-x")
            ),
        ],
    )
    def test_passes_untouched(self, nginx, behind, uri, sent) -> None:
        """The app's own passwords and tokens arrive; the session counts."""
        nginx.get(uri, GOOD | {"Authorization": sent})

        claimed = sent == "Basic Y2k6d2d0Xw"  # `ci:wgt_` without its padding
        assert behind.app[0].header("Authorization") == (None if claimed else sent.strip())
        assert [check.header("X-WeCom-Token") for check in behind.checks] == (
            [] if uri == "/public/x" else [sent if claimed else None]
        )

    def test_nothing_sent_is_nothing_told(self, nginx, behind) -> None:
        """Without Authorization the check gets no header more than before."""
        nginx.get("/x", GOOD)

        assert behind.checks[0].names == {"host", "x-wecom-session", "x-wecom-packed"}
        assert "authorization" not in behind.app[0].names

    @settings(
        max_examples=150, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    )
    @given(value=st.text(st.characters(min_codepoint=1, max_codepoint=255, exclude_characters="\r\n"), max_size=60))
    def test_any_value_at_all(self, nginx, behind, value) -> None:
        """Any bytes: taken out, or untouched; what the check is told holds no byte outside its alphabet."""
        behind.forget()
        answer = nginx.get("/x", GOOD | {"Authorization": f"Bearer wgt_{value}"})

        assert answer.status == 200
        assert re.fullmatch(r"forged|Bearer wgt_[A-Za-z0-9+/=_.-]*", behind.checks[0].header("X-WeCom-Token") or "")
        assert "authorization" not in behind.app[0].names


class TestTheOperatorsCaptures:
    """The maps must not empty `$1` and `$2` of the operator's location."""

    @pytest.mark.parametrize("sent", ["", basic("old:password"), basic(f"ci:{TOKEN}"), f"Bearer {TOKEN}", "Bearer other"])
    def test_survive(self, nginx, behind, sent) -> None:
        """Whatever is in Authorization, a location's captures arrive."""
        nginx.get("/captures/one/two", GOOD | ({"Authorization": sent} if sent else {}))

        passed = "" if "wgt_" in sent or sent == basic(f"ci:{TOKEN}") else sent
        assert (behind.app[0].header("X-One"), behind.app[0].header("X-Both")) == ("one", f"one-{passed}-two")

    @pytest.mark.parametrize("sent", [basic("old:password"), basic(f"ci:{TOKEN}"), f"Bearer {TOKEN}", "Bearer other"])
    def test_of_the_server_name_survive(self, nginx, behind, sent) -> None:
        """All nine, and whatever is in Authorization."""
        nginx.get("/x", GOOD | {"Authorization": sent}, host="abcdefghshop.regex.test")

        assert behind.app[0].header("X-Nine") == "abcdefghshop"


class TestAskingForAPassword:
    """`set $wecom_challenge basic;` for programs that know nothing but HTTP Basic."""

    def test_is_told_to_the_sign_in(self, nginx, behind) -> None:
        """Only where the operator says so, and curl's `*/*` is not taken for a person there."""
        for uri in ("/asking/x", "/x"):
            nginx.get(uri, {"Accept": "*/*"})

        assert [page.header("X-WeCom-Challenge") for page in behind.pages] == ["basic", None]
        assert [page.header("X-WeCom-Navigation") for page in behind.pages] == [None, "1"]

    def test_leaves_browsers_alone(self, nginx, behind) -> None:
        """A page opened in a browser is a navigation there, too."""
        for headers in ({"Accept": "text/html"}, {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}):
            nginx.get("/asking/x", headers)

        assert [page.header("X-WeCom-Navigation") for page in behind.pages] == ["1", "1"]
