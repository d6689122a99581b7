"""Whatever goes wrong at a page is a page that says why, with one way on; never a traceback, never a secret."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import __version__
from gateway.admission import new_session
from gateway.app import Gateway
from gateway.config import Config
from gateway.member import Member
from gateway.sandbox import Sandbox
from gateway.snapshot import Placed
from tests.browser_double import Browser
from tests.conftest import DESKTOP_UA, WECOM_UA, Clock

HOME = "http://localhost:8080/"
REPORT = "http://localhost:8080/report/7?year=2026"
SESSION = "wecom_session_8080"
EXCHANGE, MEMBER, TOKEN = "auth/getuserinfo", "user/get", "gettoken"

Browse = Callable[..., Browser]
Start = Callable[[Config], Awaitable[Gateway]]
MakeConfig = Callable[..., Config]


@pytest.fixture
async def gateway(start: Start, make_config: MakeConfig) -> Gateway:
    """One that does not wait long for WeCom."""
    return await start(make_config(wecom={"timeout": 2}))


# ── WeCom ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "path, fault, status, reason",
    [
        (EXCHANGE, {"errcode": -1}, 503, "wecom-busy"),
        (EXCHANGE, {"errcode": 45009}, 503, "wecom-busy"),
        (EXCHANGE, {"errcode": 60020}, 503, "wecom-setup"),
        (EXCHANGE, {"errcode": 40001}, 503, "wecom-setup"),
        (EXCHANGE, {"errcode": 50001}, 503, "wecom-setup"),
        (EXCHANGE, {"errcode": 50003}, 503, "wecom-setup"),
        (EXCHANGE, {"errcode": 40029}, 400, "code-spent"),
        (EXCHANGE, {"errcode": 84025}, 503, "wecom-refused"),
        (EXCHANGE, {"errcode": 999999}, 503, "wecom-refused"),
        (EXCHANGE, {"kind": "html"}, 503, "wecom-unreachable"),
        (EXCHANGE, {"kind": "html", "status": 200}, 503, "wecom-unreachable"),
        (EXCHANGE, {"kind": "truncated"}, 503, "wecom-unreachable"),
        (EXCHANGE, {"kind": "cut"}, 503, "wecom-unreachable"),
        (EXCHANGE, {"kind": "hang"}, 503, "wecom-unreachable"),
        (EXCHANGE, {"kind": "slow", "seconds": 3}, 503, "wecom-unreachable"),
        (EXCHANGE, {"kind": "reset"}, 503, "wecom-unreachable"),
        (EXCHANGE, {"kind": "redirect"}, 503, "wecom-unreachable"),
        (MEMBER, {"errcode": -1}, 503, "wecom-busy"),
        (MEMBER, {"errcode": 60020}, 503, "wecom-setup"),
        (MEMBER, {"errcode": 60011}, 403, "out-of-scope"),
        (MEMBER, {"kind": "html"}, 503, "wecom-unreachable"),
        (MEMBER, {"kind": "hang"}, 503, "wecom-unreachable"),
        (TOKEN, {"errcode": 40001}, 503, "wecom-setup"),
        (TOKEN, {"errcode": 45009}, 503, "wecom-busy"),
        (TOKEN, {"kind": "html"}, 503, "wecom-unreachable"),
        (TOKEN, {"kind": "hang"}, 503, "wecom-unreachable"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else str(value),
)
async def test_wecom_in_trouble(
    browse: Browse,
    gateway: Gateway,
    sandbox: Sandbox,
    caplog: pytest.LogCaptureFixture,
    path: str,
    fault: dict[str, Any],
    status: int,
    reason: str,
) -> None:
    """Each trouble with WeCom is a page with its reason, a reference that the log has too, and the way back."""
    browser = browse("zhangsan")
    sandbox.state.fault(path, **fault)

    page = await browser.open(REPORT)

    reference = re.findall(r"<code>([0-9a-f]{8})</code>", page.text)
    assert (page.status, page.reason) == (status, reason)
    assert page.says(f"reason.{reason}.title")
    assert browser.session(HOME) == ""
    assert parse_qs(urlsplit(page.links[0]).query) == {"return_to": [REPORT.removeprefix(HOME[:-1])], "again": ["1"]}
    assert len(reference) == 1
    assert f" from 10.0.0.9 [{reference[0]}]: " in caplog.text
    assert "Traceback" not in page.text + caplog.text
    assert sandbox.state.secret not in page.text + caplog.text
    assert not [token for token in sandbox.state.tokens if token in page.text + caplog.text]
    assert not [code for code in sandbox.state.codes if code in page.text + caplog.text]
    assert ("Retry-After" in page.headers) == (reason in ("wecom-busy", "wecom-unreachable"))


@pytest.mark.parametrize("fault", [{"errcode": -1}, {"errcode": 60020}, {"kind": "html"}, {"kind": "reset"}])
async def test_trouble_passes(browse: Browse, sandbox: Sandbox, fault: dict[str, Any]) -> None:
    """When the trouble is over the page's button signs in, and ends on the page first asked for."""
    browser = browse("zhangsan")
    trouble = sandbox.state.fault(EXCHANGE, **fault)
    page = await browser.open(REPORT)
    sandbox.state.faults.remove(trouble)

    arrived = await browser.open(page.links[0])

    assert (arrived.status, arrived.url) == (200, f"{REPORT}#")


@pytest.mark.parametrize("fault", [{"errcode": -1, "times": 1}, {"errcode": 45033, "times": 2}])
async def test_busy_for_a_moment(browse: Browse, sandbox: Sandbox, fault: dict[str, Any]) -> None:
    """A "busy" of a moment is not seen by anybody."""
    sandbox.state.fault(MEMBER, **fault)

    page = await browse("zhangsan").open(REPORT)

    assert (page.status, page.url) == (200, f"{REPORT}#")


async def test_token_ended_early(browse: Browse, sandbox: Sandbox) -> None:
    """An access token that WeCom ended early is replaced, and the sign-in goes on."""
    await browse("zhangsan").open(HOME)
    sandbox.state.revoke_tokens()

    page = await browse("lisi").open(REPORT)

    assert (page.status, page.url) == (200, f"{REPORT}#")
    assert sandbox.state.count(TOKEN) == 2


async def test_nothing_listens(browse: Browse, start: Start, make_config: MakeConfig) -> None:
    """Where WeCom cannot be reached at all, sign-in says so."""
    gateway = await start(make_config(wecom={"api_url": "http://127.0.0.1:9"}))

    page = await browse("zhangsan", at=gateway).open(REPORT)

    assert (page.status, page.reason) == (503, "wecom-unreachable")
    assert page.headers["Retry-After"] == "10"


async def test_what_to_fix(browse: Browse, sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """Where the operator must act the log says what to change, as an error, with the address to enter."""
    sandbox.state.app.trusted_ips = ("192.0.2.1",)

    page = await browse("zhangsan").open(REPORT)

    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert (page.status, page.reason) == (503, "wecom-setup")
    assert "Add 127.0.0.1 to the app's trusted addresses" in record.getMessage()
    assert "trusted addresses" not in page.text


async def test_what_to_look_for_when_called_too_often(browse: Browse, sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """WeCom's limit is no mistake in the settings, but the page's line says what may have used it up, and from where."""
    sandbox.state.fault(EXCHANGE, errcode=45009)

    page = await browse("zhangsan").open(REPORT)

    (reference,) = re.findall(r"<code>([0-9a-f]{8})</code>", page.text)
    (line,) = [record.getMessage() for record in caplog.records if reference in record.getMessage()]
    assert page.reason == "wecom-busy"
    assert line.endswith("see whether another program calls with a wrong Secret from 127.0.0.1.")


async def test_english(browse: Browse, sandbox: Sandbox) -> None:
    """The page is in the browser's language, its reason the same word."""
    sandbox.state.fault(EXCHANGE, errcode=60020)

    page = await browse("zhangsan", language="en-GB,en;q=0.9").open(REPORT)

    assert (page.status, page.reason) == (503, "wecom-setup")
    assert 'lang="en"' in page.text


async def test_language_of_the_settings(browse: Browse, start: Start, make_config: MakeConfig) -> None:
    """The settings can fix it for everybody."""
    gateway = await start(make_config(language="en"))

    page = await browse(at=gateway).get("http://localhost:8080/_wecom/done")

    assert 'lang="en"' in page.text


# ── we ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_error_nobody_thought_of(browse: Browse, gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """An error of ours is a page too; its traceback is in the log and nowhere else."""
    gateway.live.now = replace(gateway.live.now, wecom=None)  # type: ignore[arg-type]

    page = await browse("zhangsan").open(REPORT)

    assert (page.status, page.reason) == (500, "internal")
    assert "Traceback" in caplog.text
    assert "NoneType" not in page.text
    assert parse_qs(urlsplit(page.links[0]).query)["again"] == ["1"]


async def test_way_back_of_a_direct_page(browse: Browse) -> None:
    """The ``return_to`` of a page that failed is kept where it is one of ours, and dropped where not."""
    browser = browse(sites={"localhost:8080": "nobody"})

    ours = await browser.get(f"http://localhost:8080/_wecom/login?return_to={REPORT}")
    foreign = await browser.get("http://localhost:8080/_wecom/login?return_to=https://evil.example/")

    assert (ours.reason, foreign.reason) == ("unknown-site", "unknown-site")
    assert parse_qs(urlsplit(ours.links[0]).query)["return_to"] == [REPORT.removeprefix(HOME[:-1])]
    assert parse_qs(urlsplit(foreign.links[0]).query)["return_to"] == ["/"]


async def test_a_script_at_an_unknown_address(browse: Browse, gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """What shows no page is refused in JSON, and a hundred such requests are one line in the log, not a hundred."""
    browser = browse(sites={"intruder.example": ""})

    answers = [await browser.get(f"http://intruder.example/{number}.php", "fetch") for number in range(100)]

    assert {(answer.status, answer.text) for answer in answers} == {(403, '{"error": "forbidden", "reason": "other-site"}')}
    assert {answer.headers["Cache-Control"] for answer in answers} == {"no-store"}
    assert len([record for record in caplog.records if "intruder.example" in record.getMessage()]) == 1


async def test_a_person_at_an_unknown_address(browse: Browse, caplog: pytest.LogCaptureFixture) -> None:
    """A person sees a page, its reference is in the log, and the line names the settings to correct."""
    page = await browse(sites={"intruder.example": ""}).get("http://intruder.example/")

    (reference,) = re.findall(r"<code>([0-9a-f]{8})</code>", page.text)
    (line,) = [record.getMessage() for record in caplog.records if reference in record.getMessage()]
    assert (page.status, page.reason) == (403, "other-site")
    assert page.says("reason.other-site.title")
    assert "not at host 'intruder.example'" in line
    assert "`public_url`" in line


@pytest.mark.parametrize(
    "method, path",
    [
        ("GET", "/_wecom/nothing"),
        ("GET", "/_wecom/"),
        ("GET", "/_wecom/auth"),
        ("GET", "/"),
        ("POST", "/_wecom/login"),
        ("DELETE", "/_wecom/me"),
        ("PUT", "/_wecom/logout"),
        ("GET", "/WW_verify_0123456789abcdef.txt"),
    ],
)
async def test_no_such_page(browse: Browse, method: str, path: str) -> None:
    """What is no page of ours is 404 with a page, whatever the method."""
    page = await browse().page(f"http://localhost:8080{path}", method=method)

    assert page.status == 404
    assert page.says("not_found.title")


# ── nginx and gateway of two versions ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("found, said", [("", "an older version"), ("0.0.9", "version '0.0.9'"), (__version__, "")])
async def test_snippets_of_another_version(browse: Browse, caplog: pytest.LogCaptureFixture, found: str, said: str) -> None:
    """The log says once which versions meet and how to renew the snippets; nothing where they are the same."""
    browser = browse()
    browser.snippets = found
    for _ in range(2):
        assert (await browser.page("http://localhost:8080/_wecom/me")).status in (200, 302, 401)

    lines = [record.getMessage() for record in caplog.records if "snippets" in record.getMessage()]
    assert len(lines) == bool(said)
    assert all(f"are of {said}, " in line and repr(__version__) in line and "nginx install DIR" in line for line in lines)


async def test_who_asks_past_nginx_has_no_snippets(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever reads the public keys where the gateway is near is told nothing of versions, nor is the log."""
    await raw(gateway.addresses["pages"], b"GET /_wecom/jwks.json HTTP/1.1\r\nHost: localhost:8080\r\nConnection: close\r\n\r\n")

    assert "snippets" not in caplog.text


# ── anything at all ────────────────────────────────────────────────────────────────────────────────────────────────

PATHS = ("login", "enter", "denied", "me", "logout", "done", "callback/" + "a" * 32, "callback/x", "begin/x", "begin/a.b", "x")
NAMES = (
    "Host",
    "Cookie",
    "X-WeCom-Session",
    "X-WeCom-Site",
    "X-WeCom-Navigation",
    "X-WeCom-Window",
    "X-WeCom-Original-Uri",
    "X-WeCom-Method",
    "X-WeCom-Reason",
    "X-WeCom-Rule",
    "X-WeCom-Address",
    "X-WeCom-Cookie-Name",
    "X-WeCom-Snippets",
    "User-Agent",
    "Accept",
    "Accept-Language",
    "Sec-Fetch-Dest",
    "Sec-Fetch-Site",
    "Origin",
    "Referer",
    "Content-Type",
)
LIKELY = (
    "localhost",
    "default",
    "1",
    "renew",
    "stale",
    "no-session",
    "rule",
    "/a?b",
    "//evil",
    WECOM_UA,
    DESKTOP_UA,
    "MicroMessenger",
    "document",
    "wecom_signin=x.y; wecom_browser=z; wecom_rounds_8080=q; wecom_fragment=1",
    "wecom_signed_out_8080=1",
    "text/html",
    "application/json",
    "multipart/form-data",
    "en;q=x",
)


def _header(text: bytes) -> bytes:
    """What may stand in a header at all, so that the handler and not the parser answers."""
    return bytes(byte for byte in text if byte == 9 or 32 <= byte != 127).strip()


values = st.one_of(st.sampled_from([text.encode() for text in LIKELY]), st.binary(max_size=60).map(_header))
queries = st.dictionaries(
    st.sampled_from(["code", "state", "handover", "return_to", "to", "again", "json"]),
    st.text(max_size=30),
    max_size=4,
)


async def raw(address: str, request: bytes) -> tuple[int, bytes]:
    """Send bytes, read the answer to its end."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return int(answer.split(b" ", 2)[1]), answer


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    method=st.sampled_from(["GET", "GET", "GET", "HEAD", "POST", "OPTIONS"]),
    path=st.sampled_from(PATHS),
    query=queries,
    headers=st.dictionaries(st.sampled_from(NAMES), values),
    body=st.binary(max_size=40),
    signed_in=st.booleans(),
)
async def test_anything(
    gateway: Gateway,
    caplog: Any,
    method: str,
    path: str,
    query: dict[str, str],
    headers: dict[str, bytes],
    body: bytes,
    signed_in: bool,
) -> None:
    """Whatever headers, cookies, queries and bodies arrive, no page fails: never 5xx, no error in the log."""
    caplog.clear()
    lines = [f"{method} /_wecom/{path}?{urlencode(query)} HTTP/1.1".encode()]
    sent = {"Host": b"localhost"} | headers
    if signed_in:
        parts = gateway.live.now
        session = new_session(parts, Member("zhangsan", "张三"), Placed(()), site="default", began=parts.clock())
        sent["X-WeCom-Session"] = parts.sessions.seal(session).encode()
    lines += [name.encode() + b": " + value for name, value in sent.items()]
    lines += [b"Connection: close", f"Content-Length: {len(body)}".encode()]

    status, answer = await raw(gateway.addresses["pages"], b"\r\n".join(lines) + b"\r\n\r\n" + body)

    assert 200 <= status < 500, answer
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR and "stick" not in record.getMessage()]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(junk=st.binary(min_size=1, max_size=200))
async def test_no_http(gateway: Gateway, caplog: Any, junk: bytes) -> None:
    """Bytes that are no HTTP are refused as such, and do not reach the log."""
    caplog.clear()

    status, _ = await raw(
        gateway.addresses["pages"], b"GET /_wecom/me HTTP/1.1\r\nHost: localhost\r\nCookie: \x01" + junk + b"\r\n\r\n\r\n"
    )

    assert status == 400
    assert b"\x01" + junk not in caplog.text.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("size", [100_000, 250_000])
async def test_large_headers(gateway: Gateway, size: int) -> None:
    """Headers larger than nginx passes by default are read, cookies full of garbage included."""
    cookie = b"; ".join(b"x%d=%s" % (number, b"y" * 1000) for number in range(size // 1000))
    request = b"GET /_wecom/me?json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: " + cookie + b"\r\n\r\n"

    status, answer = await raw(gateway.addresses["pages"], request)

    assert (status, b'"no-session"' in answer) == (401, True)


async def test_garbage_where_a_session_should_be(browse: Browse, clock: Clock) -> None:
    """A session cookie of garbage is a sign-in, not an error."""
    browser = browse("zhangsan")
    for value in ("x", "." * 50, "a.b.c", "eyJ2IjoxfQ", "x" * 4000):
        browser.set_session(HOME, value)

        page = await browser.open(HOME)
        clock.advance(61)

        assert (page.status, page.headers["X-WeCom-UserId"]) == (200, "zhangsan")
