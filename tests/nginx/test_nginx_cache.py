"""cache.conf: which answers are kept, for whom, how long; and the traps beside it, each shown open in a variant of the files."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import re
import secrets
import stat
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest
from aiohttp import web

from gateway.app import Gateway
from gateway.member import IDENTITY, JWT, Member
from gateway.session import Session
from tests.nginx.conftest import SESSION, SNIPPETS, Nginx, Received, lay_out, start
from tests.patience import PATIENCE_S, unhurried, until

SHIPPED = (SNIPPETS / "cache.conf").read_text("utf-8")
FILES = {
    "cache.conf": re.sub(r"(?m)^proxy_cache_path \S+", "proxy_cache_path PREFIX/answers", SHIPPED),
    "gateway.conf": (SNIPPETS / "gateway.conf").read_text("utf-8"),
    "found.conf": "auth_request_set $found $upstream_cache_status; add_header X-Found $found always;",
    "files/page": "PAGE",
}
CLIENTS = 8


def sealed(session: str) -> str:
    """A value for the scripted gateway that ends as a real one does, in a signature."""
    return f"{session}.{hashlib.sha256(session.encode()).hexdigest()[:43]}"


GOOD = {"Cookie": f"{SESSION}={sealed('good')}"}
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

Edits = tuple[tuple[str, str], ...]
TIMELESS = ("$time_iso8601 ", "")
PLAIN = (TIMELESS, ("proxy_cache_min_uses 5", "proxy_cache_min_uses 1"))
LOCK = ("proxy_cache_lock off", "proxy_cache_lock on")
"""PLAIN: the first answer is kept, and for as long as the gateway says: what tests of everything else need to count on."""


@pytest.fixture(scope="module")
def run_nginx(_behind, tmp_path_factory) -> Iterator[Callable[..., Nginx]]:
    """Start an nginx with the shipped files, or with edits made to them; in the end it has logged nothing critical."""
    running: list[Nginx] = []

    def run(
        *,
        cache: str = "after",
        workers: int = 1,
        edits: Edits = (),
        above: str = "",
        cookie_name: str = SESSION,
        **ports: int,
    ) -> Nginx:
        """*cache*: where ``cache.conf`` stands, ``before`` or ``after`` ``http.conf``, or nowhere; *above*: in the server."""
        prefix = tmp_path_factory.mktemp("cache")
        path = lay_out(prefix, SERVERS.replace("server_name _;", above, 1), _behind.ports | ports, cookie_name)
        assert all(any(old in text for text in FILES.values()) for old, _ in edits)
        for name, text in FILES.items():
            for edit in edits:
                text = text.replace(*edit)
            (prefix / name).parent.mkdir(exist_ok=True)
            (prefix / name).write_text(text.replace("PREFIX", str(prefix)), "utf-8")
        unhurried(prefix)
        here, http = f"include {prefix}/cache.conf;", "include wecom/http.conf;"
        text = path.read_text("utf-8").replace(http, {"before": here + http, "after": http + here}.get(cache, http))
        path.write_text(text.replace("worker_processes 1;", f"worker_processes {workers};"), "utf-8")
        running.append(start(path))
        return running[-1]

    yield run
    logged = "".join(nginx.log() for nginx in running)
    for nginx in running:
        assert nginx.process
        nginx.process.terminate()
        nginx.process.wait(PATIENCE_S)
    assert not re.findall(r".*\[(?:alert|emerg|crit)\].*", logged)


@pytest.fixture(scope="module")
def shared(run_nginx) -> Nginx:
    return run_nginx(edits=PLAIN)


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
        nginx, behind.holds = run_nginx(cache=place, edits=PLAIN), "60"

        assert [nginx.get("/files/page", GOOD).header("X-Found") for _ in range(3)] == ["MISS", "HIT", "HIT"]
        assert len(behind.checks) == 1

    def test_off_without_it(self, run_nginx, behind) -> None:
        """http.conf and gateway.conf alone keep nothing, whatever the gateway says."""
        nginx, behind.holds = run_nginx(cache="", edits=PLAIN), "60"

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
            pytest.param({}, {"headers": {"Cookie": GOOD["Cookie"] + "; a=b"}}, id="other cookies"),
            pytest.param({}, {"headers": GOOD | {"User-Agent": "another", "X-WeCom-Session": "x"}}, id="other headers"),
            pytest.param({}, {"uri": "/files/page?a=1"}, id="query"),
            pytest.param({}, {"uri": "/another"}, id="path"),
            pytest.param({}, {"method": "HEAD"}, id="HEAD"),
            pytest.param({}, {"uri": "/", "method": "POST", "body": b"a=1"}, id="POST"),
            pytest.param({}, {"headers": GOOD | {"Range": "bytes=0-1"}}, id="range"),
            pytest.param({}, {"headers": GOOD | {"If-None-Match": "x", "Cache-Control": "no-cache"}}, id="reload"),
            pytest.param({}, {"headers": GOOD | NAVIGATE}, id="navigation"),  # which is told the same, or nothing may be kept
        ],
    )
    def test_used_again(self, found, behind, first, second) -> None:
        """What the gateway is not told makes no difference."""
        assert (found(**first), found(**second)) == ("MISS", "HIT")
        assert len(behind.checks) == 1

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param({"headers": {"Cookie": f"{SESSION}={sealed('big')}"}}, id="session"),
            pytest.param({"uri": "/ruled/"}, id="rule"),
            pytest.param({"host": "key.another.test"}, id="host"),
            pytest.param({"host": "plain.test", "headers": {"Cookie": f"wecom_session={sealed('good')}"}}, id="site"),
        ],
    )
    def test_asked_anew(self, found, behind, other) -> None:
        """Each thing that the answer depends on is in the key."""
        assert (found(), found(**other)) == ("MISS", "MISS")
        assert len(behind.checks) == 2

    def test_a_session_that_is_refused_for_pages_only(self, shared, found, hosts) -> None:
        """A page that is to be renewed is not let in by the answer for its images: that one is not kept."""
        renew, host = {"Cookie": f"{SESSION}={sealed('renew')}"}, "renewed.test"
        found = partial(found, host=host)

        assert [found(headers=renew), found(headers=renew)] == ["MISS", "MISS"]
        assert shared.get("/files/page", renew | NAVIGATE, host=host).status == 302

    def test_a_value_without_a_signature_is_asked_for_each_time(self, found, behind) -> None:
        """Nothing would tell it from another."""
        assert [found(headers={"Cookie": f"{SESSION}=good"}) for _ in range(2)] == [""] * 2
        assert len(behind.checks) == 2

    def test_no_words_can_be_shifted_from_one_part_to_the_next(self, shared, found, behind) -> None:
        """What a client can choose holds no space: the key's parts cannot be confused."""
        assert found(headers={"Cookie": f"{SESSION}=  {sealed('good')}  "}) == "MISS"
        found(headers={"Cookie": f"{SESSION}=1 {sealed('good')}"})

        assert [check.header("X-WeCom-Session") for check in behind.checks] == [sealed("good"), None]
        assert all(len(key.split(" ")) == 4 for key in keys(shared.prefix / "answers"))

    def test_the_second_comes_first(self, run_nginx, behind) -> None:
        """As shipped, the key begins with the second: an answer is used in the one it was asked for in, whatever it says."""
        nginx, behind.holds = run_nginx(), "60"
        remembers(nginx)

        assert all(re.match(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d  ", key) for key in keys(nginx.prefix / "answers"))

    def test_a_question_asked_four_times_leaves_no_file(self, run_nginx, behind) -> None:
        """As shipped, only what is asked a fifth time is worth a file."""
        nginx, behind.holds = run_nginx(), "60"
        for number in range(20):
            assert nginx.get("/files/page", GOOD, host=f"host{number % 5}.test").header("X-Found") == "MISS"

        assert len(behind.checks) == 20
        assert not list(keys(nginx.prefix / "answers"))


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

        assert [found(headers=authorized), found(), found(headers=authorized), found()] == ["", "MISS", "", "HIT"]

    @pytest.mark.parametrize("what", [{"Upgrade": "websocket"}, {"Accept": "text/event-stream"}], ids=["websocket", "events"])
    def test_what_stays_open_is_asked_each_time(self, found, what) -> None:
        """It would hold its answer's file as long, and in time be an alert in the log."""
        assert found() == "MISS"
        assert found(headers=GOOD | what) == ""


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

    @pytest.mark.parametrize("text", ["", "a; b;", "wecom:x;", "$1 $wecom_name", r"\t\x09", "\"'", "张三;é🀄", "x" * 900])
    def test_whatever_a_field_holds_arrives_whole(self, shared, behind, hosts, text) -> None:
        """Byte by byte and in its own place, asked or remembered, though nginx empties the header in place."""
        told = {name: f"{number}{text}" if text else "" for number, name in enumerate(IDENTITY)}
        behind.member, behind.holds, host = told | {JWT: "a.b.c"}, "60", hosts()
        found = [shared.get("/app", GOOD, host=host).header("X-Found") for _ in range(3)]

        assert found == ["MISS", "HIT", "HIT"]
        for app in behind.app:
            arrived = {name: (app.header(name) or "").encode("latin-1").decode() for name in told}
            assert (arrived, app.header("X-WeCom-Jwt")) == (told, "a.b.c")


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

    def test_the_signature_is_in_it_the_session_is_not(self, shared, found) -> None:
        """A file says for which signature it is; what stands before that in the cookie is in none."""
        found()
        folder = shared.prefix / "answers"

        assert any(key.endswith(f" {sealed('good').partition('.')[2]}") for key in keys(folder))
        assert not [file for file in folder.rglob("*") if file.is_file() and b"good." in file.read_bytes()]

    def test_a_flood_of_forged_cookies_finds_its_bound(self, run_nginx, behind) -> None:
        """With the zone full of garbage, a member is still let in and nothing critical is logged."""
        nginx, behind.holds = run_nginx(edits=(("keys_zone=wecom_cache:4m", "keys_zone=wecom_cache:64k"),)), "60"
        for first in range(0, 1800, 90):
            with nginx.connect() as connection:
                for number in range(first, first + 90):
                    head = f"GET /files/page HTTP/1.1\r\nHost: a\r\nCookie: {SESSION}=garbage{number}\r\n\r\n"
                    connection.sendall(head.encode("ascii"))
                    assert connection.recv(65536).startswith(b"HTTP/1.1 401")

        remembers(nginx)


def remembers(nginx: Nginx) -> None:
    """Ask as shipped, until an answer comes from memory: it takes five questions within one second."""
    end = time.monotonic() + PATIENCE_S
    while nginx.get("/files/page", GOOD).header("X-Found") != "HIT":
        assert time.monotonic() < end


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer: when it was asked for, and what it was."""

    asked: float  #: Unix seconds
    status: int
    found: str
    took_s: float


@dataclass(slots=True)
class Hammer:
    """Clients that ask for one page over and over, each on a connection of its own."""

    nginx: Nginx
    headers: dict[str, str]
    uri: str = "/files/page"
    seen: list[Seen] = field(default_factory=list)
    last: dict[int, Seen] = field(default_factory=dict)  #: by client
    news: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def going(self, clients: int = CLIENTS) -> AsyncIterator[Hammer]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._ask(number)) for number in range(clients)]
            yield self
            for task in tasks:
                task.cancel()

    async def until(self, done: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not done():
                    self.news.clear()
                    await self.news.wait()
        except TimeoutError:
            raise AssertionError(f"not in {PATIENCE_S} s; by now {time.time()}, of each client: {self.last}") from None

    async def answered(self, count: int) -> None:
        await self.until(lambda: len(self.seen) >= count)

    async def remembered(self) -> None:
        """Wait until each client has been let in, most of them by memory."""
        await self.until(lambda: Counter(seen.found for seen in self.seen)["hit"] > 2 * CLIENTS and len(self.last) == CLIENTS)

    async def refused(self) -> None:
        """Wait until each client was refused what it asked for last."""
        began = time.time()
        await self.until(lambda: all(seen.asked > began and seen.status == 401 for seen in self.last.values()))

    async def let_in(self, after: float) -> None:
        """Wait until somebody asked after that moment and was let in."""
        await self.until(lambda: any(seen.asked > after and seen.status == 200 for seen in self.last.values()))

    def let_in_after(self, moment: float) -> float:
        """For how many seconds after *moment* somebody asked and was let in."""
        return max((seen.asked for seen in self.seen if seen.status == 200), default=0.0) - moment

    async def _ask(self, number: int) -> None:
        lines = [f"GET {self.uri} HTTP/1.1", f"Host: {HOST}", *(f"{name}: {value}" for name, value in self.headers.items())]
        head = "\r\n".join([*lines, "", ""]).encode("ascii")
        reader, writer = await asyncio.open_connection("127.0.0.1", self.nginx.port)
        try:
            while True:
                asked = time.time()
                writer.write(head)
                answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                length = re.search(r"\r\ncontent-length: (\d+)", answer)
                assert length, answer
                await reader.readexactly(int(length[1]))
                found = re.search(r"\r\nx-found: (\w+)", answer)
                self.last[number] = Seen(asked, int(answer.split()[1]), found[1] if found else "", time.time() - asked)
                self.seen.append(self.last[number])
                self.news.set()
                if "\r\nconnection: close" in answer:
                    writer.close()
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.nginx.port)
        finally:
            writer.close()


@dataclass(frozen=True, slots=True)
class Real:
    """The real gateway behind an nginx."""

    gateway: Gateway
    run_nginx: Callable[..., Nginx]

    def nginx(self, **how) -> Nginx:
        ports = {name: int(address.rpartition(":")[2]) for name, address in self.gateway.addresses.items()}
        return self.run_nginx(cookie_name=self.cookie_name, **ports, **how)

    @property
    def cookie_name(self) -> str:
        return self.gateway.live.now.sites.all[0].cookie_name

    def signed_in(self, member: str = "zhangsan") -> dict[str, str]:
        """The header of a browser that signed in a minute ago."""
        parts, now = self.gateway.live.now, int(time.time())
        corp = parts.config.corp_id, parts.config.agent_id
        session = Session(
            secrets.token_hex(16), Member(member), *corp, parts.sites.all[0].name, now - 60, now - 60, now + 3600, now - 60
        )
        return {"Cookie": f"{self.cookie_name}={parts.sessions.seal(session)}"}


HOST = "localhost:8080"
OUT = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
async def real(make_config, run_nginx) -> AsyncIterator[Real]:
    async with Gateway(make_config(), clock=time.time) as gateway:
        yield Real(gateway, run_nginx)


async def sign_out(nginx: Nginx, headers: dict[str, str], form: bytes = b"") -> float:
    """Post the sign-out and give the moment when it was confirmed."""
    answer = await asyncio.to_thread(nginx.ask, "POST", "/_wecom/logout", headers | OUT, body=form, host=HOST)
    assert answer.status == 303
    return time.time()


class TestRevoked:
    """A session that ended at the gateway, while eight clients keep asking."""

    @pytest.mark.parametrize("form", [b"", b"everywhere=1"], ids=["signed out", "revoked"])
    @pytest.mark.parametrize("workers", [1, 2])
    async def test_out_within_a_second(self, real, workers, form) -> None:
        """Wherever in the second it ends, at its very begin too, nobody is let in who asks a second later."""
        nginx = real.nginx(workers=workers)
        for part in (0.0, 0.5):
            me = real.signed_in(f"zhangsan{part}")
            async with Hammer(nginx, me).going() as hammer:
                await hammer.remembered()
                await hammer.until(lambda part=part: part <= time.time() % 1 < part + 0.1)
                ended = await sign_out(nginx, me, form)
                await hammer.refused()

            assert hammer.let_in_after(ended) < 1

    async def test_inherited_directives_do_not_keep_it_in(self, real) -> None:
        """None of the traps opens by standing above gateway.conf."""
        nginx, me = real.nginx(above=TRAPS), real.signed_in()
        async with Hammer(nginx, me).going() as hammer:
            await hammer.remembered()
            ended = await sign_out(nginx, me)
            await hammer.refused()

        assert hammer.let_in_after(ended) < 1

    async def test_trap_updating(self, real) -> None:
        """``proxy_cache_use_stale updating``: somebody is always just asking, and the others get the old answer."""
        edits = (TIMELESS, ("proxy_cache_use_stale off", "proxy_cache_use_stale updating"))
        nginx, me = real.nginx(edits=edits), real.signed_in()
        async with Hammer(nginx, me).going() as hammer:
            await hammer.remembered()
            ended = await sign_out(nginx, me)
            await hammer.let_in(ended + 2)

    async def test_trap_background_update(self, real) -> None:
        """``proxy_cache_background_update`` with it: the old answer first, the question afterwards."""
        edits = (
            TIMELESS,
            ("proxy_cache_use_stale off", "proxy_cache_use_stale updating"),
            ("proxy_cache_background_update off", "proxy_cache_background_update on"),
        )
        nginx, me = real.nginx(edits=edits), real.signed_in()
        async with Hammer(nginx, me).going() as hammer:
            await hammer.remembered()
            ended = await sign_out(nginx, me)
            await hammer.let_in(ended + 2)

    async def test_trap_whole_seconds(self, make_config, run_nginx) -> None:
        """``proxy_cache_valid 204 1s``: to the end of the next second, so for longer than one."""
        edits = (*PLAIN, ("proxy_cache_valid 599 1s", "proxy_cache_valid 204 1s"))
        async with Gateway(make_config(cache=False), clock=time.time) as gateway:
            real = Real(gateway, run_nginx)
            nginx, let_in = real.nginx(edits=edits), []
            async with Hammer(nginx, real.signed_in("lisi")).going(1) as other:
                while not let_in or (max(let_in) <= 1 and len(let_in) < 10):
                    me = real.signed_in(f"zhangsan{len(let_in)}")
                    await other.until(lambda: time.time() % 1 < 0.2)
                    async with Hammer(nginx, me).going() as hammer:
                        await hammer.answered(1)
                        ended = await sign_out(nginx, me)
                        await hammer.refused()
                    let_in.append(hammer.let_in_after(ended))

        assert max(let_in) > 1

    @pytest.mark.parametrize("edits, stays", [((), False), ((TIMELESS,), True)], ids=["shipped", "trap"])
    async def test_the_gateway_s_clock_does_not_matter(self, make_config, run_nginx, edits, stays) -> None:
        """With the gateway ten seconds ahead: out within a second, and not so without the second in the key."""
        async with Gateway(make_config(), clock=lambda: time.time() + 10) as gateway:
            real = Real(gateway, run_nginx)
            nginx, me = real.nginx(edits=edits), real.signed_in()
            async with Hammer(nginx, me).going() as hammer:
                await hammer.remembered()
                ended = await sign_out(nginx, me)
                await (hammer.let_in(ended + 2) if stays else hammer.until(lambda: time.time() > ended + 2.5))

        assert stays or hammer.let_in_after(ended) < 1

    async def test_off_by_the_gateway(self, make_config, run_nginx) -> None:
        """``cache = false``: every request is asked for, and a session that ended is out at once."""
        async with Gateway(make_config(cache=False), clock=time.time) as gateway:
            real = Real(gateway, run_nginx)
            nginx, me = real.nginx(), real.signed_in()
            async with Hammer(nginx, me).going() as hammer:
                await hammer.answered(20 * CLIENTS)
                ended = await sign_out(nginx, me)
                await hammer.refused()

        assert {seen.found for seen in hammer.seen} <= {"miss", ""}
        assert hammer.let_in_after(ended) < 0
        assert not list(keys(nginx.prefix / "answers"))


class TestTwoMembers:
    """Two members at the same page at the same time."""

    @pytest.mark.parametrize("workers", [1, 2])
    async def test_neither_is_taken_for_the_other(self, real, behind, workers) -> None:
        """The app is told who each of them is, asked or remembered."""
        nginx, members = real.nginx(workers=workers), ("zhangsan", "lisi")
        hammers = [Hammer(nginx, real.signed_in(member) | {"X-Me": member}, "/app") for member in members]
        async with hammers[0].going(CLIENTS // 2), hammers[1].going(CLIENTS // 2):
            for hammer in hammers:
                await hammer.until(lambda hammer=hammer: sum(seen.found == "hit" for seen in hammer.seen) > 100)

        assert {(asked.header("X-Me"), asked.header("X-WeCom-UserId")) for asked in behind.app} == {(m, m) for m in members}

    async def test_trap_a_key_without_the_session(self, real, behind) -> None:
        """What the key must not leave out: without the session one is taken for the other."""
        nginx = real.nginx(edits=((' $wecom_signature"', '"'),))
        hammers = [Hammer(nginx, real.signed_in(member) | {"X-Me": member}, "/app") for member in ("zhangsan", "lisi")]
        async with hammers[0].going(1), hammers[1].going(1):
            await hammers[0].until(lambda: any(map(mistaken, behind.app)))


def mistaken(asked: Received) -> bool:
    """Whether the app was told that somebody else asks."""
    return asked.header("X-Me") != asked.header("X-WeCom-UserId")


class TestWaiting:
    """Nobody waits for somebody else's answer."""

    async def test_two_who_ask_at_once_are_both_asked_for(self, start_answering) -> None:
        """As shipped: the second's question reaches the gateway while it still thinks about the first's."""
        nginx, asked, answer = await start_answering()
        both = [asyncio.create_task(asyncio.to_thread(nginx.get, "/files/page", GOOD)) for _ in range(2)]
        await until(lambda: len(asked) == 2)
        answer.set()

        assert [each.text for each in await asyncio.gather(*both)] == ["PAGE", "PAGE"]

    async def test_trap_lock(self, start_answering) -> None:
        """``proxy_cache_lock`` makes the second wait, and look every 500 ms only whether the first has its answer."""
        nginx, asked, answer = await start_answering(edits=(*PLAIN, LOCK))
        first = asyncio.create_task(asyncio.to_thread(nginx.get, "/files/page", GOOD))
        await until(lambda: asked)
        with nginx.connect() as second:
            began = time.monotonic()
            second.sendall(f"GET /files/page HTTP/1.0\r\nHost: site.test\r\nCookie: {GOOD['Cookie']}\r\n\r\n".encode())
            await asyncio.to_thread(nginx.get, "/_wecom/auth")  # once this is answered, nginx has read the second's as well
            answer.set()
            assert (await first).text == "PAGE"
            assert (await asyncio.to_thread(second.recv, 65536)).startswith(b"HTTP/1.1 200 ")
            waited = time.monotonic() - began

        assert waited > 0.49
        assert len(asked) == 1


@pytest.fixture
async def start_answering(run_nginx) -> AsyncIterator[Callable[..., Awaitable[tuple[Nginx, list[str], asyncio.Event]]]]:
    """Start an nginx whose gateway keeps its answers back: gives nginx, who asked, and what to set for the answers."""
    async with AsyncExitStack() as stack:

        async def started(**how) -> tuple[Nginx, list[str], asyncio.Event]:
            asked, answer = list[str](), asyncio.Event()

            async def check(request: web.BaseRequest) -> web.Response:
                asked.append(request.path)
                await answer.wait()
                return web.Response(status=204, headers={"X-Accel-Expires": "60"})

            runner = web.ServerRunner(web.Server(check))
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return run_nginx(check=runner.addresses[0][1], **how), asked, answer

        yield started


def keys(folder) -> Iterator[str]:
    """The questions whose answers are kept in *folder*."""
    for file in folder.rglob("*"):
        if file.is_file():
            yield file.read_bytes().partition(b"\nKEY: ")[2].partition(b"\n")[0].decode()
