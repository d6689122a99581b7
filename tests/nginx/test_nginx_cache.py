"""cache.conf: which answers are kept, for whom, how long; and the traps beside it, each shown open in a variant of the files."""

from __future__ import annotations

import itertools
import re
import stat
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.nginx.conftest import SESSION, SNIPPETS, Nginx, lay_out, start

SHIPPED = (SNIPPETS / "cache.conf").read_text("utf-8")
FILES = {
    "cache.conf": re.sub(r"(?m)^proxy_cache_path \S+", "proxy_cache_path PREFIX/answers", SHIPPED),
    "gateway.conf": (SNIPPETS / "gateway.conf").read_text("utf-8"),
    "found.conf": "auth_request_set $found $upstream_cache_status; add_header X-Found $found always;",
    "files/page": "PAGE",
}
CLIENTS = 8
GOOD = {"Cookie": f"{SESSION}=good"}
NAVIGATE = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}

LOCATIONS = """
    include PREFIX/gateway.conf;
    location / { include PREFIX/found.conf; include wecom/protect.conf; include wecom/identity.conf; proxy_pass http://APP; }
    location /files/ { include PREFIX/found.conf; include wecom/protect.conf; root PREFIX; }
    location /ruled/ { include PREFIX/found.conf; auth_request /_wecom/auth/user:zhangsan; include wecom/member.conf; }
    location /refused/ { include PREFIX/found.conf; auth_request /_wecom/auth/user:lisi; include wecom/member.conf; }
"""
TRAPS = """
    proxy_cache theirs; proxy_cache_key $uri; proxy_cache_valid any 10m; proxy_cache_use_stale updating;
    proxy_cache_background_update on; proxy_cache_lock on; proxy_cache_min_uses 3; proxy_cache_revalidate on;
    proxy_ignore_headers X-Accel-Expires; proxy_cache_bypass $arg_none; proxy_no_cache $arg_none;
"""
SERVERS = f"""
proxy_cache_path PREFIX/theirs keys_zone=theirs:1m;
server {{ listen LISTEN; server_name _; {LOCATIONS} }}
server {{ listen LISTEN; server_name traps.test; {TRAPS} {LOCATIONS} }}
server {{ listen LISTEN; server_name plain.test; set $wecom_site plain; {LOCATIONS} }}
server {{ listen LISTEN; server_name off.test; set $wecom_cache off; {LOCATIONS} }}
"""

Edit = tuple[str, str]


@pytest.fixture(scope="module")
def run_nginx(_behind, tmp_path_factory) -> Iterator[Callable[..., Nginx]]:
    """Start an nginx with the shipped files, or with one edit made to them; in the end it has logged nothing critical."""
    running: list[Nginx] = []

    def run(*, cache: str = "after", workers: int = 1, edit: Edit = ("", ""), cookie_name: str = SESSION, **ports: int) -> Nginx:
        """*cache*: where ``cache.conf`` stands, ``before`` or ``after`` ``http.conf``, or nowhere."""
        prefix = tmp_path_factory.mktemp("cache")
        path = lay_out(prefix, SERVERS, _behind.ports | ports, cookie_name)
        assert any(edit[0] in text for text in FILES.values())
        for name, text in FILES.items():
            (prefix / name).parent.mkdir(exist_ok=True)
            (prefix / name).write_text(text.replace(*edit).replace("PREFIX", str(prefix)), "utf-8")
        here, http = f"include {prefix}/cache.conf;", "include wecom/http.conf;"
        text = path.read_text("utf-8").replace(http, {"before": here + http, "after": http + here}.get(cache, http))
        path.write_text(text.replace("worker_processes 1;", f"worker_processes {workers};"), "utf-8")
        running.append(start(path))
        return running[-1]

    yield run
    for nginx in running:
        assert nginx.process
        nginx.process.terminate()
        nginx.process.wait(10)
        assert not re.search(r"\[(alert|emerg|crit)\]", nginx.log())


@pytest.fixture(scope="module")
def shared(run_nginx) -> Nginx:
    return run_nginx()


@pytest.fixture
def hosts(request) -> Callable[[], str]:
    """Give host names that no other test has asked for, so that nothing is kept for them."""
    numbers = itertools.count()
    return lambda: f"{re.sub('[^a-z]', '-', request.node.name.lower())}-{next(numbers)}.test"


@pytest.fixture
def found(shared, behind, hosts) -> Callable[..., str]:
    """Ask the shared nginx, for a host of this test's own; give where the check's answer came from, HIT or MISS."""
    behind.holds, host = "60", hosts()

    def ask(uri: str = "/files/page", headers=GOOD, *, method: str = "GET", host: str = host, **options) -> str:
        return shared.ask(method, uri, headers, host=host, **options).header("X-Found")

    return ask


class TestSwitch:
    """On where cache.conf is included, wherever that is; off by nginx, by the server, by the gateway."""

    @pytest.mark.parametrize("place", ["before", "after"])
    def test_on_where_it_is_included(self, run_nginx, behind, place) -> None:
        """Above http.conf or below it, the second question is answered from memory."""
        nginx, behind.holds = run_nginx(cache=place), "60"

        assert [nginx.get("/files/page", GOOD).header("X-Found") for _ in range(3)] == ["MISS", "HIT", "HIT"]
        assert len(behind.checks) == 1

    def test_off_without_it(self, run_nginx, behind) -> None:
        """http.conf and gateway.conf alone keep nothing, whatever the gateway says."""
        nginx, behind.holds = run_nginx(cache=""), "60"

        assert [nginx.get("/files/page", GOOD).text for _ in range(3)] == ["PAGE"] * 3
        assert len(behind.checks) == 3

    def test_off_for_one_server(self, found, behind) -> None:
        """``set $wecom_cache off;`` above gateway.conf."""
        assert [found(host="off.test") for _ in range(3)] == [""] * 3
        assert len(behind.checks) == 3

    def test_nothing_is_kept_unless_the_gateway_says_for_how_long(self, found, behind) -> None:
        """An answer without X-Accel-Expires is not kept."""
        behind.holds = ""

        assert [found() for _ in range(3)] == ["MISS"] * 3
        assert len(behind.checks) == 3

    def test_nothing_is_kept_past_its_time(self, found, behind) -> None:
        """An answer for a second that is over is not used again: a gateway whose clock is behind costs nothing but speed."""
        behind.holds = f"@{int(time.time()) - 2}"

        assert "HIT" not in [found() for _ in range(3)]
        assert len(behind.checks) == 3


class TestKey:
    """An answer is used again only for a question that the gateway could not tell from the first."""

    @pytest.mark.parametrize(
        "first, second",
        [
            pytest.param({}, {"headers": {"Cookie": f"{SESSION}=good; a=b"}}, id="other cookies"),
            pytest.param({}, {"headers": GOOD | {"User-Agent": "another", "X-WeCom-Session": "x"}}, id="other headers"),
            pytest.param({}, {"uri": "/files/page?a=1"}, id="query"),
            pytest.param({}, {"uri": "/another"}, id="path"),
            pytest.param({}, {"method": "HEAD"}, id="HEAD"),
            pytest.param({}, {"uri": "/", "method": "POST", "body": b"a=1"}, id="POST"),
            pytest.param({}, {"headers": GOOD | {"Range": "bytes=0-1"}}, id="range"),
            pytest.param({}, {"headers": GOOD | {"If-None-Match": "x", "Cache-Control": "no-cache"}}, id="reload"),
        ],
    )
    def test_used_again(self, found, behind, first, second) -> None:
        """What the gateway is not told makes no difference."""
        assert (found(**first), found(**second)) == ("MISS", "HIT")
        assert len(behind.checks) == 1

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param({"headers": {"Cookie": f"{SESSION}=big"}}, id="session"),
            pytest.param({"headers": GOOD | NAVIGATE}, id="navigation"),
            pytest.param({"uri": "/ruled/"}, id="rule"),
            pytest.param({"host": "key.another.test"}, id="host"),
            pytest.param({"host": "plain.test", "headers": {"Cookie": "wecom_session=good"}}, id="site"),
            pytest.param(
                {"method": "OPTIONS", "headers": GOOD | {"Origin": "http://a", "Access-Control-Request-Method": "PUT"}},
                id="preflight",
            ),
        ],
    )
    def test_asked_anew(self, found, behind, other) -> None:
        """Each thing that the answer depends on is in the key."""
        assert (found(), found(**other)) == ("MISS", "MISS")
        assert len(behind.checks) == 2

    def test_a_session_that_is_refused_for_pages_only(self, shared, found, hosts) -> None:
        """A page that is to be renewed is not let in by the answer for its images."""
        renew, host = {"Cookie": f"{SESSION}=renew"}, "renewed.test"
        found = partial(found, host=host)

        assert [found(headers=renew), found(headers=renew)] == ["MISS", "HIT"]
        assert shared.get("/files/page", renew | NAVIGATE, host=host).status == 302
        assert found(headers=renew) == "HIT"

    def test_no_words_can_be_shifted_from_one_part_to_the_next(self, shared, found, behind) -> None:
        """What a client can choose holds no space: the key's parts cannot be confused."""
        assert found(headers={"Cookie": f"{SESSION}=  good  "}) == "MISS"
        found(headers={"Cookie": f"{SESSION}=1 good"})

        assert [check.header("X-WeCom-Session") for check in behind.checks] == ["good", None]
        assert all(len(key.split(" ")) == 6 for key in keys(shared.prefix / "answers"))


class TestNeverKept:
    """Refusals, and whoever brings a password or a token."""

    @pytest.mark.parametrize("session", ["", "forged", "answer-500", "answer-200", "answer-302", "answer-404"])
    def test_whoever_is_not_let_in_is_asked_again(self, shared, behind, hosts, session) -> None:
        """Only 204 is kept: who signs in is in at once."""
        behind.holds, host = "60", hosts()
        for _ in range(2):
            shared.get("/files/page", {"Cookie": f"{SESSION}={session}"}, host=host)

        assert len(behind.checks) == 2

    def test_a_rule_s_refusal_is_asked_again(self, found, behind) -> None:
        """A 403 is not kept either."""
        found("/refused/")
        found("/refused/")

        assert len(behind.checks) == 2

    @pytest.mark.parametrize("value", ["Bearer wgt_x", "Basic YTpi", "0"])
    def test_authorization_is_neither_answered_nor_kept(self, found, behind, value) -> None:
        """A request with Authorization gets no kept answer, and its own answer is kept for nobody."""
        authorized = GOOD | {"Authorization": value}

        assert [found(headers=authorized), found(), found(headers=authorized), found()] == ["BYPASS", "MISS", "BYPASS", "HIT"]

    def test_a_websocket_is_asked_each_time(self, found) -> None:
        """A connection that stays open would hold its answer's file as long, and in time be an alert in the log."""
        assert found() == "MISS"
        assert found(headers=GOOD | {"Upgrade": "websocket"}) == "BYPASS"


class TestOperatorsOwn:
    """What was there before stays as it was."""

    def test_only_answers_are_kept_in_ours_and_none_in_theirs(self, shared, behind, hosts) -> None:
        """Two caches side by side: the pages in theirs, the answers in ours."""
        behind.holds = "60"
        for _ in range(4):
            assert shared.get("/own", GOOD, host="traps.test").status == 200

        ours, theirs = (list(keys(shared.prefix / name)) for name in ("answers", "theirs"))
        assert "/own" in theirs
        assert not [key for key in theirs if "_wecom" in key]
        assert all(" /_wecom/auth" in key for key in ours)

    def test_pages_are_not_kept(self, found, behind) -> None:
        """An app without a cache of its own is asked each time, whatever it says."""
        assert [found("/app"), found("/app")] == ["MISS", "HIT"]
        assert len(behind.app) == 2

    def test_nobody_sees_how_long_it_holds(self, shared, behind, hosts) -> None:
        """X-Accel-Expires is between the gateway and nginx: neither browser nor app gets it, asked or remembered."""
        behind.holds, host = "60", hosts()
        answers = [shared.get("/app", GOOD, host=host) for _ in range(2)]

        assert [answer.header("X-Found") for answer in answers] == ["MISS", "HIT"]
        assert not [name for answer in answers for name, _ in answer.headers if name.lower().startswith("x-accel")]
        assert not [name for received in behind.app for name in received.names if name.startswith("x-accel")]

    @pytest.mark.parametrize("asked", [1, 2], ids=["asked", "remembered"])
    def test_the_app_is_told_the_same(self, shared, behind, hosts, asked) -> None:
        """Every identity header is there from memory, too."""
        behind.holds, host = "60", hosts()
        for _ in range(asked):
            shared.get("/app", GOOD, host=host)

        assert behind.app[-1].header("X-WeCom-UserId") == "zhangsan"
        assert behind.app[-1].header("X-WeCom-Name") == "%E5%BC%A0%E4%B8%89"
        assert behind.app[-1].header("X-WeCom-Jwt") == "a.b.c"


class TestFiles:
    """What lies in the folder."""

    def test_the_folder_is_in_memory_and_nobody_else_s(self) -> None:
        """/run is memory under systemd, and only root can make a folder in it."""
        assert re.search(r"(?m)^proxy_cache_path /run/[a-z-]+ ", SHIPPED)

    def test_only_nginx_can_read_it(self, shared, found) -> None:
        """Folder and files are the owner's alone."""
        found()
        folder = shared.prefix / "answers"

        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(file.stat().st_mode) for file in folder.rglob("*") if file.is_file()} == {0o600}

    def test_sessions_are_in_it_as_they_are(self, shared, found) -> None:
        """The danger that the header names is real: a session value stands in a file's name of the question."""
        found()

        assert any(key.endswith(" good") for key in keys(shared.prefix / "answers"))

    def test_a_flood_of_forged_cookies_finds_its_bound(self, run_nginx, behind) -> None:
        """With the zone full of garbage, a member is still let in and nothing critical is logged."""
        nginx, behind.holds = run_nginx(edit=("keys_zone=wecom_cache:8m", "keys_zone=wecom_cache:64k")), "60"
        for first in (0, 900):
            with nginx.connect() as connection:
                for number in range(first, first + 900):
                    head = f"GET /files/page HTTP/1.1\r\nHost: a\r\nCookie: {SESSION}=garbage{number}\r\n\r\n"
                    connection.sendall(head.encode("ascii"))
                    assert connection.recv(65536).startswith(b"HTTP/1.1 401")

        assert [nginx.get("/files/page", GOOD).header("X-Found") for _ in range(2)] == ["MISS", "HIT"]


def keys(folder) -> Iterator[str]:
    """The questions whose answers are kept in *folder*."""
    for file in folder.rglob("*"):
        if file.is_file():
            yield file.read_bytes().partition(b"\nKEY: ")[2].partition(b"\n")[0].decode()
