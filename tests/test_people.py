"""Pages about the person: who am I, sign out, denied, done; and the domain verification file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.config import Config
from gateway.sandbox import Sandbox
from tests.browser_double import Browser
from tests.conftest import Clock

HOME = "http://localhost:8080/"
ME = "http://localhost:8080/_wecom/me"
LOGOUT = "http://localhost:8080/_wecom/logout"
SESSION = "wecom_session_8080"
VERIFY = "WW_verify_0123456789abcdef.txt"

Browse = Callable[..., Browser]
Start = Callable[[Config], Awaitable[Gateway]]
MakeConfig = Callable[..., Config]


@pytest.fixture
async def lisi(browse: Browse) -> Browser:
    """A browser in which lisi is signed in."""
    browser = browse()
    await browser.sign_in(HOME, "lisi")
    return browser


async def reason(browser: Browser, value: str = "") -> str:
    """What the check says of the session at hand, or of *value*."""
    verdict = await browser.check(HOME, "fetch", cookie=f"{SESSION}={value}" if value else None)
    return verdict.headers.get("X-WeCom-Reason", "") if verdict.status == 401 else str(verdict.status)


# ── me ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_me_as_a_page(lisi: Browser) -> None:
    """``me`` shows whose session this is, and the way to sign out."""
    page = await lisi.get(ME)

    assert page.status == 200
    assert page.says("me.title")
    assert "李四" in page.text
    assert page.links == [LOGOUT]


@pytest.mark.parametrize("how", ["accept", "query"])
async def test_me_as_json(lisi: Browser, sandbox: Sandbox, clock: Clock, how: str) -> None:
    """By ``Accept``, or with ``?json``, the same is JSON that nobody keeps."""
    page = await (lisi.get(ME, "fetch") if how == "accept" else lisi.get(f"{ME}?json"))

    now = int(clock())
    assert (page.status, page.headers["Cache-Control"]) == (200, "no-store")
    assert json.loads(page.text) == {
        "user_id": "lisi",
        "name": "李四",
        "account": "lisi",
        "corp_id": sandbox.state.corp_id,
        "departments": [3, 2],
        "site": "default",
        "issued": now,
        "renewed": now,
        "ends": now + 12 * 3600,
    }


async def test_me_signed_out(browse: Browse) -> None:
    """Without a session a script gets 401 JSON, a person signs in and is back."""
    browser = browse("zhangsan")

    script = await browser.get(ME, "fetch")
    person = await browser.open(ME)

    assert (script.status, script.reason) == (401, "no-session")
    assert (person.status, person.url) == (200, f"{ME}#")
    assert "张三" in person.text


@pytest.mark.parametrize("spoil", ["forged", "ended", "expired", "revoked"])
async def test_me_of_a_session_that_is_over(lisi: Browser, gateway: Gateway, clock: Clock, spoil: str) -> None:
    """A session that lets nobody in shows nobody either."""
    value = lisi.session(HOME)
    session = gateway.live.now.sessions.genuine(value)
    if spoil == "forged":
        value = value[:-3] + "abc"
    elif spoil == "ended":
        gateway.live.now.standing.end(session)
    elif spoil == "expired":
        clock.advance(12 * 3600)
    else:
        gateway.live.now.standing.revoke("lisi", clock())

    page = await lisi.page(f"{ME}?json", "fetch", cookie=f"{SESSION}={value}")

    assert (page.status, page.reason) == (401, "no-session")
    assert "lisi" not in page.text


# ── sign out ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_logout_asks_first(lisi: Browser) -> None:
    """A link to sign-out, or an image of it, signs nobody out: it asks."""
    page = await lisi.get(LOGOUT)

    assert (page.status, page.cookies_set) == (200, {})
    assert page.says("logout.title")
    assert "李四 (lisi)" in page.text
    assert await reason(lisi) == "204"


async def test_logout_without_session(browse: Browse) -> None:
    """Without a session it says that nobody is signed in, and offers to."""
    browser = browse("zhangsan")

    page = await browser.get(LOGOUT)

    assert page.status == 200
    assert page.says("signed_out.title")
    assert (await browser.open(page.links[0])).headers["X-WeCom-UserId"] == "zhangsan"


async def test_logout(lisi: Browser, browse: Browse) -> None:
    """Signing out ends this session wherever its cookie was copied to, and no other."""
    copy, other = lisi.session(HOME), browse()
    await other.sign_in(HOME, "lisi")

    page = await lisi.post(LOGOUT)

    assert (page.status, page.location) == (303, LOGOUT)
    assert lisi.session(HOME) == ""
    assert await reason(lisi) == "no-session"
    assert await reason(lisi, copy) == "signed-out"
    assert await reason(other) == "204"


async def test_everywhere(lisi: Browser, browse: Browse) -> None:
    """``everywhere=1`` ends every session of the member, and nobody else's."""
    other, colleague = browse(), browse()
    await other.sign_in(HOME, "lisi")
    await colleague.sign_in(HOME, "wangwu")

    await lisi.post(LOGOUT, {"everywhere": "1"})

    assert await reason(lisi) == "no-session"
    assert await reason(other) == "revoked"
    assert await reason(colleague) == "204"


@pytest.mark.parametrize("everywhere", [False, True])
async def test_logout_while_departments_are_to_be_read(
    lisi: Browser, browse: Browse, gateway: Gateway, clock: Clock, everywhere: bool
) -> None:
    """Signing out ends a session that its next page would renew, and with it the others if so asked; no copy is renewed."""
    copy, other = lisi.session(HOME), browse()
    await other.sign_in(HOME, "lisi")
    gateway.live.now.standing.outdate("lisi", clock())

    asked = await lisi.get(LOGOUT)
    await lisi.post(LOGOUT, {"everywhere": "1"} if everywhere else None)

    assert asked.says("logout.title")
    assert await reason(lisi, copy) == "signed-out"
    assert await reason(other) == ("revoked" if everywhere else "stale")


@pytest.mark.parametrize("after_s", [0.001, 0.5, 5, 3600])
async def test_in_again_after_everywhere(lisi: Browser, clock: Clock, after_s: float) -> None:
    """Whoever signs in again, at once or later, is in: only what was issued before is ended."""
    await lisi.post(LOGOUT, {"everywhere": "1"})
    clock.advance(after_s)

    page = await lisi.open("http://localhost:8080/_wecom/login?again=1")
    arrived = await lisi.scan(page, "lisi")

    assert (arrived.status, arrived.headers.get("X-WeCom-UserId")) == (200, "lisi")


async def test_everywhere_ends_what_was_issued_just_before(browse: Browse, clock: Clock) -> None:
    """A second "everywhere" ends the session that the first one let be issued."""
    browser = browse("zhangsan")
    await browser.open(HOME)
    await browser.post(LOGOUT, {"everywhere": "1"})
    clock.advance(0.2)
    await browser.open("http://localhost:8080/_wecom/login?again=1")
    value = browser.session(HOME)
    clock.advance(0.2)

    await browser.post(LOGOUT, {"everywhere": "1"})

    assert value
    assert await reason(browser, value) in ("signed-out", "revoked")


@pytest.mark.parametrize("back_s", [3600, 86400])
async def test_everywhere_after_the_clock_was_set_back(lisi: Browser, browse: Browse, clock: Clock, back_s: float) -> None:
    """Sessions begun while the clock was ahead are ended too, for good; whoever signs in again is in."""
    other, colleague = browse(), browse()
    await other.sign_in(HOME, "lisi")
    await colleague.sign_in(HOME, "wangwu")
    own = lisi.session(HOME)
    clock.advance(-back_s)
    await lisi.post(LOGOUT, {"everywhere": "1"})
    at_once = [await reason(other), await reason(lisi, own), await reason(colleague)]
    clock.advance(1)
    again = browse()
    await again.sign_in(HOME, "lisi")
    signed_in = await reason(again)
    clock.advance(back_s)

    assert at_once == ["revoked", "signed-out", "204"]
    assert signed_in == "204"
    assert await reason(other) == "revoked"


@pytest.mark.parametrize(
    "headers, allowed",
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:8080"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "", "Origin": "http://localhost:8080"}, True),
        ({"Sec-Fetch-Site": "", "Origin": "http://localhost:8081"}, False),
        ({"Sec-Fetch-Site": "", "Origin": "https://evil.example"}, False),
        ({"Sec-Fetch-Site": "", "Origin": "null"}, False),
    ],
    ids=["same origin", "typed", "neighbour", "cross-site", "own Origin", "other port", "foreign Origin", "null Origin"],
)
async def test_posted_by_another_site(lisi: Browser, headers: dict[str, str], allowed: bool) -> None:
    """Another site's form signs nobody out, and does not even leave the mark that stops silent sign-in."""
    page = await lisi.post(LOGOUT, {"everywhere": "1"}, headers=headers)

    if allowed:
        assert (page.status, await reason(lisi)) == (303, "no-session")
    else:
        assert (page.status, page.reason, page.cookies_set) == (400, "bad-request", {})
        assert await reason(lisi) == "204"


@pytest.mark.parametrize(
    "body, content_type",
    [
        (b"everywhere=1", "multipart/form-data"),
        (b"--x\r\nContent-Disposition: nonsense\r\n\r\n1\r\n--x--", "multipart/form-data; boundary=x"),
        (b"everywhere=%FF\xff\x00", "application/x-www-form-urlencoded; charset=no-such-charset"),
        (b"\xff\xfe" * 100, "text/plain; charset=utf-16"),
        (b"{}", "application/json"),
    ],
    ids=["no boundary", "bad part", "unknown charset", "bytes", "JSON"],
)
async def test_body_that_is_no_form(lisi: Browser, body: bytes, content_type: str) -> None:
    """A body that is no form still signs out here."""
    page = await lisi.post(LOGOUT, body, headers={"Content-Type": content_type})

    assert page.status == 303
    assert await reason(lisi) == "no-session"


async def test_body_that_is_too_large(lisi: Browser) -> None:
    """A body that no form of ours can have is refused with a page, and nobody is signed out."""
    page = await lisi.post(LOGOUT, b"x" * 100_000)

    assert (page.status, page.reason) == (400, "bad-request")
    assert await reason(lisi) == "204"


async def test_sign_out_without_session(browse: Browse) -> None:
    """Signing out with a session that is over, or none, is no error: the next page asks."""
    browser = browse("zhangsan")

    page = await browser.post(LOGOUT)

    assert (page.status, page.location) == (303, LOGOUT)
    assert (await browser.open(HOME)).says("signed_out.title")


async def test_sign_out_of_one_site_is_not_of_another_port(browse: Browse, start: Start, make_config: MakeConfig) -> None:
    """Two sites on two ports of one host are signed out of one by one."""
    sites = [{"name": "a", "public_url": "http://localhost:8080"}, {"name": "b", "public_url": "http://localhost:8081"}]
    browser = browse("zhangsan", at=await start(make_config(site=sites)))
    await browser.open("http://localhost:8081/")

    await browser.post("http://localhost:8081/_wecom/logout")

    assert (await browser.open("http://localhost:8081/")).says("signed_out.title")
    assert (await browser.get(HOME)).status == 200


# ── denied ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_denied_by_a_rule(lisi: Browser, caplog: pytest.LogCaptureFixture) -> None:
    """A refusal says who you are, which rule, and offers another account; the log has it once a minute."""
    page = await lisi.get(f"{HOME}finance/", rule="user:zhangsan,wangwu")
    await lisi.get(f"{HOME}finance/", rule="user:zhangsan,wangwu")

    assert (page.status, page.reason) == (403, "rule")
    assert "李四 (lisi)" in page.text
    assert "<code>user:zhangsan,wangwu</code>" in page.text
    assert [record.getMessage() for record in caplog.records].count("refused lisi at default: rule user:zhangsan,wangwu") == 1


async def test_let_in_by_a_rule(lisi: Browser) -> None:
    """Who is named is let in, in any letter case."""
    page = await lisi.get(f"{HOME}finance/", rule="user:zhangsan/user:LiSi")

    assert (page.status, page.headers["X-WeCom-UserId"]) == (200, "lisi")


async def test_switching_the_account(lisi: Browser) -> None:
    """The page's button leads to WeCom although somebody is signed in, and then to the page that was refused."""
    page = await lisi.get(f"{HOME}finance/?q=1", rule="user:wangwu")

    qr = await lisi.open(page.links[0])
    arrived = await lisi.scan(qr, "wangwu")

    assert (arrived.status, arrived.url) == (200, f"{HOME}finance/?q=1")
    assert (await lisi.get(f"{HOME}finance/", rule="user:wangwu")).status == 200


async def test_contact(browse: Browse, start: Start, make_config: MakeConfig) -> None:
    """It names whom to ask, where the settings do."""
    gateway = await start(make_config(contact="it-help@example.com"))
    browser = browse("zhangsan", at=gateway)
    await browser.open(HOME)

    page = await browser.get(HOME, rule="user:lisi")

    assert "it-help@example.com" in page.text


async def test_denied_names_what_is_asked_for(make_config: MakeConfig, start: Start, browse: Browse) -> None:
    """A refusal says in words what the rule asks for, with names, and what of it the app does not see; a long rule is cut."""
    named = {"finance": {"any": ["department:财务部", {"all": ["leader", {"not": "tag:1"}]}], "not": "user:sunba"}}
    gateway = await start(make_config(rules=named, language="en"))
    browser = browse("zhangsan", at=gateway)
    await browser.open(HOME)

    by_name, unseen, long = [
        (await browser.page(HOME, named="/_wecom/denied", headers={"X-WeCom-Reason": "rule", "X-WeCom-Rule": rule})).text
        for rule in ("finance/user:lisi", "department:99", "user:" + ",".join(f"u{number}" for number in range(50)))
    ]

    words = "(members of department 财务部 (3), and of all below it or (who leads a department and not ("
    assert f"{words}members with the tag 项目负责人 (1))))" in " ".join(by_name.split())
    assert "and not (the account sunba)" in " ".join(by_name.split())
    assert "the account lisi" in by_name
    assert "the sign-in service does not see it" in unseen
    assert "and 38 more" in long


async def test_denied_to_a_script(lisi: Browser) -> None:
    """A script gets the same as JSON."""
    page = await lisi.get(f"{HOME}finance/api", "fetch", rule="user:wangwu")

    assert page.status == 403
    assert json.loads(page.text) == {"error": "forbidden", "reason": "rule", "rule": "user:wangwu"}


async def test_denied_in_a_frame(lisi: Browser) -> None:
    """In a frame, or after a form, it is the page too."""
    page = await lisi.get(f"{HOME}finance/", "frame", rule="user:wangwu")

    assert (page.status, page.reason) == (403, "rule")
    assert "frame-ancestors 'self'" in page.headers["Content-Security-Policy"]


async def test_bad_rule(lisi: Browser) -> None:
    """A rule that does not parse lets nobody in and says that it is not the person's fault."""
    page = await lisi.get(HOME, rule="usr:lisi")

    assert (page.status, page.reason) == (403, "bad-rule")
    assert "<code>usr:lisi</code>" in page.text


@pytest.mark.parametrize("text", ["%3Cscript%3Ealert(1)%3C/script%3E", "%22%3E%3Cb%3E"])
async def test_rule_is_text(lisi: Browser, text: str) -> None:
    """What stands in a rule is shown, never run."""
    page = await lisi.page(HOME, named="/_wecom/denied", headers={"X-WeCom-Reason": "rule", "X-WeCom-Rule": text})

    assert page.status == 403
    assert "<script>alert" not in page.text
    assert "<b>" not in page.text


async def test_denied_at_an_address_that_is_no_text(gateway: Gateway) -> None:
    """Bytes that are no UTF-8 in the refused address are no reason for an error of ours."""
    reader, writer = await asyncio.open_connection(*gateway.addresses["pages"].split(":"))
    writer.write(
        b"GET /_wecom/denied HTTP/1.1\r\nHost: localhost\r\nX-WeCom-Navigation: 1\r\nX-WeCom-Reason: rule\r\n"
        b"X-WeCom-Original-Uri: /finance/\xff\xed\r\nConnection: close\r\n\r\n"
    )

    answer = (await reader.read()).decode()
    writer.close()

    assert answer.startswith("HTTP/1.1 403 ")
    assert "return_to=/finance/%25FF%25ED&amp;again=1" in answer


async def test_denied_without_session(browse: Browse) -> None:
    """Without a session that opens the page names nobody."""
    page = await browse().page(HOME, named="/_wecom/denied", headers={"X-WeCom-Reason": "internal"})

    assert (page.status, page.reason) == (403, "internal")


async def test_a_403_that_is_not_ours(lisi: Browser) -> None:
    """The app's own 403 has no reason of ours: a neutral page, no other account offered."""
    page = await lisi.page(HOME, named="/_wecom/denied", headers={"X-WeCom-Original-Uri": "/x"})

    assert (page.status, page.links) == (403, [])
    assert page.says("neutral.title")


# ── the rest ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_done(browse: Browse) -> None:
    """The second window's last page says that it may be closed."""
    page = await browse().get("http://localhost:8080/_wecom/done")

    assert page.status == 200
    assert page.says("done.title")


async def test_verification_file(browse: Browse, start: Start, make_config: MakeConfig) -> None:
    """A configured verification file is its own sixteen characters, whoever asks."""
    gateway = await start(make_config(verify_files=[VERIFY]))

    page = await browse(at=gateway).get(f"{HOME}{VERIFY}", "plain")

    assert (page.status, page.text) == (200, "0123456789abcdef")
    assert page.headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize(
    "name",
    [
        "WW_verify_fedcba9876543210.txt",
        "WW_verify_0123456789abcdef",
        "WW_verify_0123456789abcdef.txt/",
        "WW_verify_../x",
        "WW_verify_%00",
    ],
)
async def test_other_verification_files(browse: Browse, start: Start, make_config: MakeConfig, name: str) -> None:
    """A name that is not configured is no page: nobody else can claim this domain."""
    gateway = await start(make_config(verify_files=[VERIFY]))

    page = await browse(at=gateway).page(f"{HOME}{name}", "plain")

    assert page.status == 404


@pytest.mark.parametrize(
    "name", ["X-Robots-Tag", "Cache-Control", "Content-Security-Policy", "Referrer-Policy", "X-Content-Type-Options"]
)
async def test_headers_of_every_page(lisi: Browser, name: str) -> None:
    """Every page carries the headers that keep it out of caches, search engines and foreign frames."""
    paths: dict[str, Any] = {path: {} for path in ("me", "logout", "done", "login?again=1", "begin/x", "nothing")}
    named = [lisi.page(HOME, named=f"/_wecom/{name}", headers={"X-WeCom-Original-Uri": "/"}) for name in ("login", "denied")]
    pages = await asyncio.gather(*(lisi.page(f"{HOME}_wecom/{path}") for path in paths), *named)

    assert [page.url for page in pages if name not in page.headers] == []
