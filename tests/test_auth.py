"""The subrequest answers 204, 401 or 403, whatever arrives; 204 only to a genuine session that the rule admits."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.app import Gateway
from gateway.claims import claims_of
from gateway.config import Config
from gateway.criteria import Term
from gateway.errors import Denied, SignInNeeded
from gateway.keys import Parts
from gateway.loading import from_mapping
from gateway.member import Member, identity, identity_headers
from gateway.rules import Knowledge, Rules
from gateway.rules import check as check_rule
from gateway.sealing import Sealer
from gateway.secret import Secret
from gateway.session import Session
from gateway.sessions import HOT, Sessions
from gateway.standing import Standing
from gateway.telemetry import Telemetry
from tests.patience import PATIENCE_S
from tests.unhurried import Unhurried

NOW = 1_800_000_000
KEY, NEW_KEY, OTHER_KEY = "k" * 43, "n" * 43, "o" * 43
AUTH = "/_wecom/auth"
HOST = "erp.example.com"
KEEPS = "1 wecom_cache"
"""What an nginx with cache.conf says in ``X-WeCom-Packed``."""
SESSION = Session(
    "s-1",
    Member("ZhangSan", name="张三", mobile="13800138000"),
    "ww1",
    1000002,
    "erp",
    issued=NOW,
    renewed=NOW,
    ends=NOW + 43200,
    read=NOW,
    account="ZhangSan",
)


class Clock:
    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Answer:
    """An answer of the check listener, as it came over the wire."""

    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def reason(self) -> str:
        return self.headers.get("x-wecom-reason", "")


class Check:
    """The check listener of a running gateway, asked over its socket as nginx asks it."""

    def __init__(self, gateway: Gateway, clock: Clock, path: str) -> None:
        self.gateway = gateway
        self.clock = clock
        self._path = path

    @property
    def parts(self) -> Parts:
        return self.gateway.live.now

    def change(self, **changes: Any) -> None:
        """Put other parts in force."""
        self.gateway.live.now = replace(self.parts, **changes)

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE_S)
        connection.connect(self._path)
        return connection

    def send(self, request: bytes) -> Answer:
        """The first answer to *request*, whatever bytes that is; status 0 where the connection is closed without any."""
        with closing(self.connect()) as connection:
            connection.sendall(request)
            return answer_from(connection)

    def ask(self, path: str = AUTH, *, session: str | None = None, **headers: str) -> Answer:
        """Ask as nginx does; without *session* there is none."""
        sent = {"Host": HOST, "X-WeCom-Session": session or "", "X-WeCom-Site": "erp"}
        sent |= {f"X-WeCom-{name.title()}" if name != "host" else "Host": value for name, value in headers.items()}
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items() if value)]
        return self.send("\r\n".join([*lines, "", ""]).encode())

    def seal(self, session: Session = SESSION, **changes: Any) -> str:
        return self.parts.sessions.seal(replace(session, **changes))


def answer_from(connection: socket.socket) -> Answer:
    raw = b""
    while b"\r\n\r\n" not in raw and (chunk := connection.recv(65536)):
        raw += chunk
    if not raw:
        return Answer(0, {}, raw)
    head, *lines = raw.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(head.split()[1]), headers, raw)


async def end_all() -> None:
    """End what aiohttp leaves behind: it waits 10 s for the rest of a body that was announced."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def configured(folder: Path, *keys: str, **changes: Any) -> Config:
    table = {
        "corp_id": "ww1",
        "agent_id": 1000002,
        "app_secret": "x",
        "signing_keys": list(keys),
        "site": [
            {"name": "erp", "public_url": f"https://{HOST}"},
            {"name": "wiki", "public_url": "https://wiki.example.org:8443"},
        ],
        "store": f"sqlite://{folder}/ledger.sqlite3",
        "listen": {name: f"unix:{folder / name}" for name in ("check", "pages", "ops")},
    }
    return from_mapping(table | changes, {})


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Check]:
    """A gateway in a loop of its own, so that hypothesis can ask it from here."""
    folder, clock = tmp_path_factory.mktemp("auth"), Clock()
    gateway = Gateway(configured(folder, KEY), clock=clock)
    loop = Unhurried()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(gateway.__aenter__(), loop).result(PATIENCE_S)
        yield Check(gateway, clock, str(folder / "check"))
        asyncio.run_coroutine_threadsafe(gateway.__aexit__(None, None, None), loop).result(PATIENCE_S)
        asyncio.run_coroutine_threadsafe(end_all(), loop).result(PATIENCE_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_S)
        loop.close()


@pytest.fixture
def check(running: Check) -> Iterator[Check]:
    """The same gateway with nothing remembered, nothing revoked and the clock at its start."""
    before, running.clock.now = running.parts, float(NOW)
    running.parts.sessions.forget()
    running.change(standing=Standing(), telemetry=Telemetry(running.clock))
    yield running
    running.gateway.live.now = before
    running.clock.now = float(NOW)


class TestAllows:
    """204: who it is."""

    def test_a_session_is_announced(self, check: Check) -> None:
        """A genuine session gives 204 with the member's headers and nothing else of ours."""
        answer = check.ask(session=check.seal())

        assert answer.status == 204
        assert {name: value for name, value in answer.headers.items() if name.startswith("x-wecom")} == {
            "x-wecom-userid": "ZhangSan",
            "x-wecom-account": "ZhangSan",
            "x-wecom-name": "%E5%BC%A0%E4%B8%89",
            "x-wecom-corpid": "ww1",
            "x-wecom-mobile": "13800138000",
            "x-wecom-kind": "member",
        }

    @pytest.mark.parametrize("path", [AUTH, f"{AUTH}/user:zhangsan", f"{AUTH}/user:lisi,ZHANGSAN/user:wangwu"])
    def test_a_rule_that_names_the_member_admits(self, check: Check, path: str) -> None:
        """Whom the rule names gets in."""
        assert check.ask(path, session=check.seal()).status == 204

    @pytest.mark.parametrize("host", ["erp.example.com", "ERP.example.com", "erp.example.com:8443"])
    def test_the_hosts_spelling_does_not_count(self, check: Check, host: str) -> None:
        """The host confirms the site in any letter case and with any port."""
        assert check.ask(session=check.seal(), host=host).status == 204

    def test_many_on_one_connection(self, check: Check) -> None:
        """A kept connection carries one answer after the other, each for its own session."""
        with closing(check.connect()) as connection:
            for name in ("lisi", "wangwu", "", "lisi"):
                session = check.seal(member=Member(name), account=name) if name else "none"
                request = f"GET {AUTH} HTTP/1.1\r\nHost: {HOST}\r\nX-WeCom-Site: erp\r\nX-WeCom-Session: {session}\r\n\r\n"
                connection.sendall(request.encode())
                answer = answer_from(connection)

                assert answer.status == (204 if name else 401)
                assert answer.headers.get("x-wecom-userid", "") == name

    @pytest.mark.parametrize("cache, shown", [(True, f"@{NOW}"), (False, None)])
    def test_a_positive_answer_may_be_kept_for_this_second(self, check: Check, cache: bool, shown: str | None) -> None:
        """Where ``cache`` is on and nginx keeps answers, this one says until when; each answer anew."""
        check.change(config=replace(check.parts.config, cache=cache))
        value = check.seal()
        check.ask(session=value, packed=KEEPS)

        assert check.ask(session=value, packed=KEEPS).headers.get("x-accel-expires") == shown
        assert check.ask(session=value, packed=KEEPS).headers.get("x-accel-expires") == shown
        assert "x-accel-expires" not in check.ask(session=value, packed="1").headers
        assert "x-accel-expires" not in check.ask(session=value).headers

    def test_the_first_answer_in_a_while_is_not_kept(self, check: Check) -> None:
        """It is not worth it: among very many members nobody may ask for it again."""
        check.change(config=replace(check.parts.config, cache=True))
        value, others = check.seal(), [check.seal(id=f"s-{number}") for number in range(HOT)]

        for _ in range(2):
            assert "x-accel-expires" not in check.ask(session=value, packed=KEEPS).headers
            assert "x-accel-expires" in check.ask(session=value, packed=KEEPS).headers
            for other in others:
                check.parts.sessions.seen(other, site="erp")

    @pytest.mark.parametrize("ago_s, kept", [(300, True), (900, False), (1800, False)], ids=["fresh", "away", "due"])
    def test_what_a_page_would_not_be_told_is_not_kept(self, check: Check, ago_s: int, kept: bool) -> None:
        """The images of a page that is to renew its session first get an answer that no page may be given."""
        check.change(config=replace(check.parts.config, cache=True))
        value = check.seal(renewed=NOW - ago_s)
        check.ask(session=value, packed=KEEPS)

        assert ("x-accel-expires" in check.ask(session=value, packed=KEEPS).headers) == kept
        assert check.ask(session=value, navigation="1").status == (204 if kept else 401)

    def test_what_one_answer_adds_is_not_remembered(self, check: Check) -> None:
        """The headers made once for a session stay as they are, whatever its answers carry beside them."""
        check.change(config=replace(check.parts.config, cache=True))
        value = check.seal()
        for _ in range(2):
            check.ask(session=value, packed=KEEPS)

        assert check.parts.sessions.seen(value, site="erp").identity == identity(SESSION)

    def test_nginx_is_told_in_one_header(self, check: Check) -> None:
        """Asked for it, the check packs who it is; nothing else of the answer differs."""
        value = check.seal()
        packed = check.ask(session=value, packed="1").headers
        single = check.ask(session=value).headers

        told = identity_headers(packed.pop("location").removeprefix("wecom:\t\t").removesuffix("\t;"))
        assert packed | {name.lower(): text for name, text in told.items()} == single

    def test_nginx_is_told_why_not_in_one_header(self, check: Check) -> None:
        """A refusal names reason and rule, and nobody; so nothing is left of who was let in before."""
        refused = check.ask(f"{AUTH}/user:lisi", session=check.seal(), packed="1")

        assert refused.status == 403
        assert refused.headers["location"] == "wecom:rule\tuser:lisi" + "\t" * 12 + ";"


class TestRefuses:
    """401: why to sign in. 403: why not."""

    @pytest.mark.parametrize(
        "value, reason",
        [("", "no-session"), ("x", "forged"), ("A" * 4000, "forged"), ("." * 4000, "forged")],
        ids=["none", "garbage", "long", "dots"],
    )
    def test_no_session_of_ours(self, check: Check, value: str, reason: str) -> None:
        """Nothing is ``no-session``, anything that we did not sign is ``forged``."""
        answer = check.ask(session=value)

        assert (answer.status, answer.reason) == (401, reason)

    def test_another_installations_session_is_forged(self, check: Check) -> None:
        """The same claims under another key are ``forged``."""
        claims = claims_of(SESSION)

        assert check.ask(session=Sealer([Secret(OTHER_KEY)]).seal("session", *claims)).reason == "forged"

    @pytest.mark.parametrize(
        "changes, navigation, reason",
        [
            ({"ends": NOW}, "", "expired"),
            ({"site": "wiki"}, "", "other-site"),
            ({"corp_id": "ww2"}, "", "other-site"),
            ({"agent_id": 7}, "", "other-site"),
            ({"renewed": NOW - 1800}, "1", "renew"),
            ({"renewed": NOW - 1800}, "", ""),
        ],
        ids=["expired", "site", "corp", "agent", "renew", "renew-image"],
    )
    def test_a_session_that_does_not_hold(self, check: Check, changes: dict[str, Any], navigation: str, reason: str) -> None:
        """A session over, of another site or app, or due to be renewed at a navigation, is 401 with its reason."""
        answer = check.ask(session=check.seal(**changes), navigation=navigation)

        assert (answer.status, answer.reason) == ((401, reason) if reason else (204, ""))

    def test_it_ends_while_it_is_remembered(self, check: Check) -> None:
        """A session opened a moment ago is ``expired`` from its end on."""
        value = check.seal()
        assert check.ask(session=value).status == 204
        check.clock.now = SESSION.ends

        assert check.ask(session=value).reason == "expired"

    def test_who_lost_access_is_refused_at_once(self, check: Check) -> None:
        """Signed out, revoked, stale: each refuses a session opened a moment ago, and no other member's."""
        own, other = check.seal(), check.seal(id="s-2", member=Member("lisi"))
        standing = check.parts.standing
        assert check.ask(session=own).status == 204

        standing.outdate("zhangsan", NOW + 1)
        assert (check.ask(session=own).status, check.ask(session=own).reason) == (401, "stale")
        standing.revoke("zhangsan", NOW + 1)
        assert (check.ask(session=own).status, check.ask(session=own).reason) == (401, "revoked")
        standing.end(SESSION)
        assert (check.ask(session=own).status, check.ask(session=own).reason) == (401, "signed-out")
        assert check.ask(session=other).status == 204

    def test_a_rule_that_does_not_name_the_member(self, check: Check) -> None:
        """Whom the rule does not name is 403 ``rule``, with the rule, and without a word of who it is."""
        answer = check.ask(f"{AUTH}/user:lisi", session=check.seal())

        assert (answer.status, answer.reason, answer.headers["x-wecom-rule"]) == (403, "rule", "user:lisi")
        assert "x-wecom-userid" not in answer.headers

    @pytest.mark.parametrize(
        "path", [f"{AUTH}/", f"{AUTH}/nonsense:1", f"{AUTH}/finance", f"{AUTH}%2F", "/", "/_wecom/login", f"{AUTH}/user:a%0D%0Ab"]
    )
    def test_a_rule_that_does_not_parse(self, check: Check, path: str) -> None:
        """A rule that does not parse lets nobody in, whoever asks."""
        for session in (check.seal(), ""):
            answer = check.ask(path, session=session)

            assert (answer.status, answer.reason) == (403, "bad-rule")

    @pytest.mark.parametrize(
        "headers, reason",
        [
            ({"host": "wiki.example.org"}, "other-site"),
            ({"host": "invalid"}, "other-site"),
            ({"site": "wiki"}, "other-site"),
            ({"site": "wiki", "host": HOST}, "other-site"),
            ({"site": "intranet"}, "unknown-site"),
            ({"site": ""}, "unknown-site"),
        ],
    )
    def test_another_site(self, check: Check, headers: dict[str, str], reason: str) -> None:
        """A host that is not the site's, and a site that is not in the settings, are 403: the host never chooses."""
        answer = check.ask(session=check.seal(), **headers)

        assert (answer.status, answer.reason) == (403, reason)

    def test_each_site_takes_its_own_sessions(self, check: Check) -> None:
        """A session of one site opens there and not at the other, and the other way round."""
        wiki = {"host": "wiki.example.org", "site": "wiki"}
        erp_session, wiki_session = check.seal(), check.seal(site="wiki")

        assert [check.ask(session=erp_session).status, check.ask(session=wiki_session, **wiki).status] == [204, 204]
        assert [check.ask(session=wiki_session).reason, check.ask(session=erp_session, **wiki).reason] == ["other-site"] * 2


class TestInternal:
    """An error that nobody thought of is a 403 that says so."""

    def test_it_is_403_internal_and_logged(self, check: Check, caplog: pytest.LogCaptureFixture) -> None:
        """Something broken inside refuses, with its traceback in the log, and is over when it is mended."""

        class Broken(Standing):
            def check(self, session: Session) -> None:
                raise ZeroDivisionError("nobody thought of this")

        whole, value = check.parts.standing, check.seal()
        check.change(standing=Broken())
        answer = check.ask(session=value)

        assert (answer.status, answer.reason) == (403, "internal")
        assert "nobody thought of this" in caplog.text
        assert value not in caplog.text
        check.change(standing=whole)
        assert check.ask(session=value).status == 204


class TestAdmitted:
    """A rule that let a session in is not asked again; each other one is."""

    def test_a_rule_lets_nobody_in_on_anothers_word(self, check: Check) -> None:
        """Asked in turn, each rule decides for itself, whatever it or another said before."""
        value = check.seal()
        paths = [AUTH, f"{AUTH}/user:lisi", f"{AUTH}/user:zhangsan", f"{AUTH}/user:lisi", AUTH, f"{AUTH}/user:lisi/zhangsan"]

        answers = [check.ask(path, session=value) for path in paths * 2]

        assert [answer.status for answer in answers] == [204, 403, 204, 403, 204, 403] * 2

    def test_a_rule_for_one_is_none_for_another(self, check: Check) -> None:
        """What let one member in lets no other in."""
        path = f"{AUTH}/user:zhangsan"
        other = check.seal(member=Member("lisi"), account="lisi")

        assert [check.ask(path, session=value).status for value in (check.seal(), other, check.seal(), other)] == [204, 403] * 2

    def test_what_wecom_tells_later_counts_at_once(self, check: Check) -> None:
        """A session that a rule let in is refused by it once the app no longer sees the department."""
        value, path = check.seal(departments=(7,)), f"{AUTH}/department:7"
        assert [check.ask(path, session=value).status for _ in range(2)] == [204, 204]
        known = check.parts.rules.known
        try:
            check.parts.rules.learn(Knowledge(departments={1, 3}))

            assert [check.ask(path, session=value).reason for _ in range(2)] == ["bad-rule", "bad-rule"]
        finally:
            check.parts.rules.learn(known)

    def test_other_settings_count_at_once(self, check: Check) -> None:
        """A rule of the settings that means something else after a reload is asked anew."""
        value, path = check.seal(), f"{AUTH}/finance"
        check.change(rules=Rules({"finance": Term("user", "zhangsan")}))
        assert [check.ask(path, session=value).status for _ in range(2)] == [204, 204]
        check.change(rules=Rules({"finance": Term("user", "lisi")}))

        assert [check.ask(path, session=value).status for _ in range(2)] == [403, 403]

    def test_it_is_let_in_by_the_rule_alone(self, check: Check) -> None:
        """Revocation and end are looked at each time, also where the rule is not."""
        value, path = check.seal(), f"{AUTH}/user:zhangsan"
        assert [check.ask(path, session=value).status for _ in range(2)] == [204, 204]
        check.parts.standing.revoke("zhangsan", NOW)

        assert check.ask(path, session=value).reason == "revoked"


class TestReload:
    """New settings are in force for the next request."""

    def sessions(self, check: Check, *keys: str) -> Sessions:
        sealer, config = Sealer([Secret(key) for key in keys]), check.parts.config
        corp_id, agent_id, lifetimes = config.corp_id, config.agent_id, config.lifetimes
        return Sessions(sealer, corp_id=corp_id, agent_id=agent_id, lifetimes=lifetimes, clock=check.clock)

    def test_rotation_signs_nobody_out_and_a_removed_key_at_once(self, check: Check) -> None:
        """A session remembered under the old key opens beside the new key, and is ``forged`` once its key is gone."""
        value = check.seal()
        assert check.ask(session=value).status == 204
        check.change(sessions=self.sessions(check, NEW_KEY, KEY))
        assert check.ask(session=value).status == 204
        check.change(sessions=self.sessions(check, NEW_KEY))

        assert (check.ask(session=value).status, check.ask(session=value).reason) == (401, "forged")


class TestAnswers:
    """What every answer has in common."""

    @pytest.mark.parametrize("path", [AUTH, f"{AUTH}/user:lisi", f"{AUTH}/bad"])
    @pytest.mark.parametrize("signed_in", [True, False])
    def test_never_a_cookie_nor_a_body(self, check: Check, path: str, signed_in: bool) -> None:
        """No answer sets a cookie, redirects or carries a body."""
        answer = check.ask(path, session=check.seal() if signed_in else "")

        assert not {"set-cookie", "location", "transfer-encoding"} & set(answer.headers)
        assert answer.headers.get("content-length") == (None if answer.status == 204 else "0")
        assert answer.raw.endswith(b"\r\n\r\n")
        assert "x-accel-expires" not in answer.headers or answer.status == 204

    def test_a_rule_in_the_answer_is_plain_ascii(self, check: Check) -> None:
        """Whatever the rule holds, its header is printable ASCII: no second header can hide in it."""
        answer = check.ask(f"{AUTH}/user:%E5%BC%A0%0D%0AX-WeCom-UserId:%20boss", session=check.seal())

        assert answer.reason == "bad-rule"
        assert re.fullmatch(r"[\x21-\x7e]+", answer.headers["x-wecom-rule"])
        assert "x-wecom-userid" not in answer.headers

    def test_each_is_counted(self, check: Check) -> None:
        """Each answer counts once, under its status and reason."""
        value = check.seal()
        for path, session in [(AUTH, value), (AUTH, value), (AUTH, ""), (f"{AUTH}/user:lisi", value), (f"{AUTH}/bad", value)]:
            check.ask(path, session=session)

        assert dict(check.parts.telemetry.checks) == {
            (204, ""): 2,
            (401, "no-session"): 1,
            (403, "rule"): 1,
            (403, "bad-rule"): 1,
        }

    def test_an_operators_mistake_is_logged_once(self, check: Check, caplog: pytest.LogCaptureFixture) -> None:
        """A bad rule is logged once with the directive, however often and from whatever host it is asked."""
        for number in range(50):
            check.ask(f"{AUTH}/finance", session=check.seal())
            check.ask(host=f"evil-{number}.example")
            check.ask()
            check.ask(f"{AUTH}/user:lisi", session=check.seal())

        warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert [warning.partition(":")[0] for warning in warnings] == ["bad-rule", "other-site"]
        assert f"auth_request {AUTH}/finance: no rule is named 'finance'" in warnings[0]
        assert "set $wecom_site" in warnings[1]


# ── anything at all ────────────────────────────────────────────────────────────────────────────────────────────────

TOKEN = st.from_regex(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,30}", fullmatch=True)
VALUE = st.lists(st.sampled_from([b"\t", *(bytes([n]) for n in (*range(0x20, 0x7F), *range(0x80, 0x100)))])).map(b"".join)
FRAMING = {b"transfer-encoding", b"content-length", b"connection", b"upgrade", b"expect", b"host"}
NAMES = st.sampled_from([b"X-WeCom-Session", b"X-WeCom-Site", b"X-WeCom-Navigation", b"X-WeCom-Preflight", b"Cookie", b"Range"])
HEADERS = st.lists(st.tuples(NAMES | TOKEN.filter(lambda name: name.lower() not in FRAMING), VALUE), max_size=8)
TARGET = st.lists(st.integers(0x21, 0x7E)).map(bytes)
PATHS = st.sampled_from([AUTH.encode(), b"/", f"{AUTH}/user:zhangsan".encode()]) | st.builds(
    bytes.__add__, st.sampled_from([b"/", AUTH.encode(), f"{AUTH}/".encode(), f"{AUTH}/user:".encode()]), TARGET
)
Headers = list[tuple[bytes, bytes]]


def request(path: bytes, headers: Headers, *, method: bytes = b"GET", host: bytes = HOST.encode()) -> bytes:
    lines = [method + b" " + path + b" HTTP/1.1", b"Host: " + host, *(name + b": " + value for name, value in headers)]
    return b"\r\n".join([*lines, b"", b""])


def admitted(path: str) -> bool:
    """Whether the rule in *path* admits ZhangSan."""
    try:
        check_rule(SESSION, Rules().parse(path))
    except (Denied, SignInNeeded):
        return False
    return True


class TestAnything:
    """Whatever nginx could be made to pass gets one of three answers."""

    @given(PATHS, HEADERS)
    @example(AUTH.encode(), [(b"X-WeCom-Session", b"\xff\xfe"), (b"X-WeCom-Site", b"\x80")])
    @example(AUTH.encode(), [(b"X-WeCom-Session", b"a"), (b"X-WeCom-Session", b"b"), (b"x-wecom-session", b"c")])
    @example(AUTH.encode(), [(b"X-WeCom-Session", b"a" * 60_000), (b"X-WeCom-Site", b"e" * 60_000)])
    @example(b"/" + b"a" * 60_000, [])
    @example(AUTH.encode() + b"/" + b"%" * 8_000, [])
    @example(AUTH.encode() + b"/user:" + b"%0a" * 2_000, [])
    @example(AUTH.encode() + b"?user:zhangsan", [])
    @example(AUTH.encode() + b"#", [])
    @example(b"//[", [])
    @example(b"//evil:99999/_wecom/auth", [])
    @example(b"/%", [])
    def test_without_a_session_it_is_401_or_403(self, running: Check, path: bytes, headers: Headers) -> None:
        """Any path and any headers, in any bytes that nginx passes on: 401 or 403 with a reason."""
        answer = running.send(request(path, headers))

        assert answer.status in (401, 403)
        assert answer.reason in {"no-session", "forged", "bad-rule", "unknown-site", "other-site"}
        assert "x-wecom-userid" not in answer.headers

    @given(PATHS, HEADERS.map(lambda headers: [pair for pair in headers if not pair[0].lower().startswith(b"x-wecom")]))
    @example(AUTH.encode(), [(b"X-WeCom-Session", b"second")])
    def test_with_a_session_the_rule_decides(self, running: Check, path: bytes, headers: Headers) -> None:
        """With a genuine session it is 204 exactly where the rule admits its member, else 403, whatever else is sent."""
        ours = [(b"X-WeCom-Session", running.seal().encode()), (b"X-WeCom-Site", b"erp")]
        answer = running.send(request(path, ours + headers))
        rule = path.decode()

        assert answer.status == (204 if admitted(rule) else 403)
        assert (answer.headers.get("x-wecom-userid") == "ZhangSan") is (answer.status == 204)

    @given(VALUE.filter(lambda host: host.strip(b" \t").lower() != HOST.encode()))
    @example(b"")
    @example(b"erp.example.com.")
    @example(b"erp.example.com@evil.example")
    @example(b"evil.example:erp.example.com")
    @example(b"\xff")
    def test_another_host_is_never_let_in(self, running: Check, host: bytes) -> None:
        """With a genuine session and a host that is not the site's, in any bytes, nobody gets in."""
        ours = [(b"X-WeCom-Session", running.seal().encode()), (b"X-WeCom-Site", b"erp")]
        answer = running.send(request(AUTH.encode(), ours, host=host))
        with_port = re.fullmatch(rb"(?i)erp\.example\.com:[0-9]*", host.strip())

        assert answer.status in (400, 403) or with_port

    @given(TOKEN, PATHS | st.binary(max_size=60), HEADERS)
    @example(b"CONNECT", b"erp.example.com:443", [])
    @example(b"OPTIONS", b"*", [])
    @example(b"GET", b"http://erp.example.com/_wecom/auth", [])
    @example(b"POST", AUTH.encode(), [(b"Content-Length", b"5")])
    @example(b"POST", AUTH.encode(), [(b"Transfer-Encoding", b"chunked")])
    @example(b"GET", AUTH.encode(), [(b"Expect", b"100-continue")])
    @example(b"GET", AUTH.encode(), [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")])
    def test_other_methods_and_targets_are_never_let_in(
        self, running: Check, method: bytes, path: bytes, headers: Headers
    ) -> None:
        """Any method and any target: without a session never a 2xx, not even one on the way."""
        answer = running.send(request(path, headers, method=method) + b"\r\n\r\n")

        assert answer.status in (400, 401, 403)

    @given(st.binary(max_size=300), st.binary(max_size=300))
    @example(b"X-WeCom-Session: \x00", b"")
    @example(b"X\x00: y", b"")
    @example(b"X-WeCom-Site: erp\r\n folded", b"")
    @example(b"no colon", b"")
    @example(b": empty", b"")
    def test_raw_bytes_are_never_let_in(self, running: Check, middle: bytes, after: bytes) -> None:
        """Bytes that are no HTTP, which nginx never passes: refused or closed, never a 2xx, and the next one is answered."""
        head = f"GET {AUTH} HTTP/1.1\r\nHost: {HOST}\r\n".encode()
        answer = running.send(head + middle + b"\r\n\r\n" + after + b"\r\n\r\n")

        assert answer.status in (0, 400, 401, 403)
        assert running.ask(session=running.seal()).status == 204

    @given(st.binary(min_size=1, max_size=200))
    def test_a_broken_first_line_is_never_let_in(self, running: Check, line: bytes) -> None:
        """A connection that begins with anything gets no 2xx."""
        answer = running.send(line + b"\r\n\r\nGARBAGE\r\n\r\n")

        assert answer.status in (0, 400, 401, 403)

    def test_no_session_reaches_the_log(self, check: Check, caplog: pytest.LogCaptureFixture) -> None:
        """A request that cannot be parsed is logged without its bytes, which may be a session."""
        value = check.seal()
        answer = check.send(f"GET {AUTH} HTTP/1.1\r\nHost: {HOST}\r\nX-WeCom-Session: {value}\x00\r\n\r\n".encode())

        assert answer.status == 400
        assert "bad request" in caplog.text
        assert value[:20] not in caplog.text
