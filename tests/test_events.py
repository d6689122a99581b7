"""WeCom's own word that somebody left: the address it calls, what it does, and what anybody else may send there."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.app import Gateway
from gateway.config import Config
from gateway.sandbox import Sandbox
from gateway.sandbox.events import as_xml, subscription
from tests.browser_double import Browser
from tests.conftest import Clock
from tests.patience import in_time, until, within

HOME = "http://localhost:8080/"
TOKEN, AES_KEY = "QDG6eK", "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"
"""The documents' own sample; its key is no canonical base64, like many real ones."""

Browse = Callable[..., Browser]
Start = Callable[[Config], Awaitable[Gateway]]
MakeConfig = Callable[..., Config]
Send = Callable[..., Awaitable[int]]


@pytest.fixture
async def gateway(make_config: MakeConfig, clock: Clock, sandbox: Sandbox) -> AsyncIterator[Gateway]:
    """A gateway whose events address is registered at WeCom, which comes again at once when it is refused."""
    sandbox.outbox.retry_after_s = 0
    async with Gateway(make_config(events={"token": TOKEN, "aes_key": AES_KEY}), clock=clock) as running:
        register(sandbox, running)
        yield running


def register(sandbox: Sandbox, gateway: Gateway) -> None:
    app = sandbox.state.app
    app.callback_url, app.callback_token, app.callback_aes_key = address(gateway), TOKEN, AES_KEY


def address(gateway: Gateway) -> str:
    return f"http://{gateway.addresses['pages']}/_wecom/events"


@pytest.fixture
async def send(gateway: Gateway, sandbox: Sandbox, clock: Clock) -> AsyncIterator[Send]:
    """Send an event as WeCom would, with anything in it replaced; gives the answer's status."""
    async with aiohttp.ClientSession() as http:

        async def sent(
            name: str = "unsubscribe",
            userid: str = "zhangsan",
            *,
            at: Gateway = gateway,
            signed: float | None = None,
            **changes: Any,
        ) -> int:
            event = subscription(sandbox.state.app, userid, name, clock()) | changes
            query, body = wrapped(sandbox, as_xml(event), clock() if signed is None else signed)
            async with http.post(address(at), params=query, data=body, headers={"Content-Type": "text/xml"}) as answer:
                return answer.status

        yield sent


def wrapped(sandbox: Sandbox, message: str, signed: float) -> tuple[dict[str, str], str]:
    """The query and the body that carry *message*."""
    envelope = sandbox.state.app.envelope
    encrypted, timestamp, nonce = envelope.encrypt(message), str(int(signed)), "1372623149"
    query = {"msg_signature": envelope.sign(timestamp, nonce, encrypted), "timestamp": timestamp, "nonce": nonce}
    return query, f"<xml><Encrypt><![CDATA[{encrypted}]]></Encrypt></xml>"


async def verdict(browser: Browser) -> str:
    """Why the member's next request is refused; empty where it is not."""
    answer = await browser.check(HOME, "fetch")
    assert answer.status in (204, 401)
    return answer.headers.get("X-WeCom-Reason", "")


@pytest.fixture
async def browser(browse: Browse) -> Browser:
    browser = browse("zhangsan")
    await browser.open(HOME)
    return browser


def counted(gateway: Gateway, result: str) -> float:
    return gateway.live.now.telemetry.registry.get_sample_value("wecom_gateway_events_total", {"result": result}) or 0


async def test_more_than_wecom_ever_sends(gateway: Gateway, send: Send, browser: Browser) -> None:
    """What is longer than any event is not looked into, for anybody can send it, and the checks wait meanwhile."""
    longest = [await send(EventKey="x" * 9000), await send(name="subscribe", EventKey="x" * 9000)]

    assert longest == [200, 200]
    assert await send(EventKey="x" * 14_000) == 403
    assert counted(gateway, "callback-damaged") == 1


# ── the address ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_url_check(gateway: Gateway, sandbox: Sandbox) -> None:
    """The console's check gets what it encrypted, to the byte, within its second; with another key it does not."""
    app = sandbox.state.app
    for _ in range(20):  # echo and base64 differ each time: with + and / and = in them
        await sandbox.outbox.check_url(address(gateway), app.envelope, sandbox.state.now())
    app.callback_token = "another"

    with pytest.raises(Exception, match="answered 403"):
        await sandbox.outbox.check_url(address(gateway), app.envelope, sandbox.state.now())


@pytest.mark.parametrize("place", [slice(0, 1), slice(1, -1), slice(-1, None)], ids=["first", "within", "last"])
async def test_url_check_decoded_on_the_way(gateway: Gateway, sandbox: Sandbox, place: slice) -> None:
    """A proxy that decodes the query once leaves ``+`` bare, which then means a blank: it is still understood."""
    envelope, echo = sandbox.state.app.envelope, "e" * 50  # 96 bytes with all around it: base64 without padding
    encrypted = next(text for text in (envelope.encrypt(echo) for _ in range(9999)) if "+" in text[place])
    query = f"msg_signature={envelope.sign('1', '2', encrypted)}&timestamp=1&nonce=2&echostr={encrypted}"
    reader, writer = await asyncio.open_connection(*gateway.addresses["pages"].split(":"))
    writer.write(f"GET /_wecom/events?{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()

    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"\r\n\r\n" + echo.encode())


async def test_without_settings_there_is_no_such_page(
    start: Start, make_config: MakeConfig, sandbox: Sandbox, caplog: Any
) -> None:
    """Without ``[events]`` the address is 404 with a page, and the log says once which settings are missing."""
    bare = await start(make_config())
    async with aiohttp.ClientSession() as http:
        got = await http.get(address(bare), params={"echostr": "x"})
        posts = [await http.post(address(bare), data=body) for body in ("<xml/>", "garbage")]

    assert [answer.status for answer in (got, *posts)] == [404, 404, 404]
    assert caplog.text.count("events.token and events.aes_key are not set") == 1


# ── what ends, and what does not ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "change",
    [{"status": 2}, {"status": 5}, {"department": [8], "order": [0], "is_leader_in_dept": [0]}, None],
    ids=["disabled", "left", "out of scope", "removed"],
)
async def test_unsubscribe(browser: Browser, browse: Browse, sandbox: Sandbox, change: dict[str, Any] | None) -> None:
    """Who is disabled, leaves or falls out of scope is refused by the next check after WeCom's call; their colleague is not."""
    colleague = browse("lisi")
    await colleague.open(HOME)
    if change is None:
        sandbox.remove_member("zhangsan")
    else:
        sandbox.change_member("zhangsan", change)
    await sandbox.outbox.settle()

    assert await verdict(browser) == "revoked"
    assert await verdict(colleague) == ""
    assert [delivery.answers for delivery in sandbox.outbox.deliveries] == [["200"]]


async def test_within_a_second_elsewhere(
    browser: Browser, start: Start, make_config: MakeConfig, sandbox: Sandbox, browse: Browse
) -> None:
    """Another gateway of the same store refuses within a second of the answer to WeCom."""
    other = await start(make_config())
    there = browse(at=other)
    there.set_session(HOME, browser.session(HOME))
    assert await verdict(there) == ""
    sandbox.change_member("zhangsan", {"status": 2})
    await sandbox.outbox.settle()

    async def is_refused() -> bool:
        return await verdict(there) == "revoked"

    await within(1, is_refused)


async def test_the_id_in_another_case(browser: Browser, send: Send) -> None:
    """Ids are compared without their case."""
    assert await send(userid="ZhangSan") == 200

    assert await verdict(browser) == "revoked"


async def test_coming_back(browser: Browser, sandbox: Sandbox, clock: Clock) -> None:
    """Who may use the app again signs in again; the old session stays over."""
    sandbox.change_member("zhangsan", {"status": 2})
    sandbox.change_member("zhangsan", {"status": 1})
    await sandbox.outbox.settle()
    old = await verdict(browser)
    clock.advance(1)

    page = await browser.open(HOME)

    assert old == "revoked"
    assert (page.status, await verdict(browser)) == (200, "")


async def test_the_same_event_again(browser: Browser, gateway: Gateway, sandbox: Sandbox, clock: Clock) -> None:
    """An event that comes again, sent twice by WeCom or by somebody who recorded it, does not end what began since."""
    sandbox.change_member("zhangsan", {"status": 2})
    await sandbox.outbox.settle()
    sandbox.change_member("zhangsan", {"status": 1})
    clock.advance(60)
    await browser.open(HOME)

    sandbox.outbox.start(sandbox.outbox.deliveries[0])
    await sandbox.outbox.settle()

    assert sandbox.outbox.deliveries[0].answers == ["200", "200"]
    assert await verdict(browser) == ""
    assert (counted(gateway, "unsubscribe"), counted(gateway, "duplicate")) == (1, 1)


async def test_the_same_event_to_another_process(
    browser: Browser, start: Start, make_config: MakeConfig, sandbox: Sandbox, send: Send, clock: Clock
) -> None:
    """The other process, too, knows that an event was taken."""
    other = await start(make_config(events={"token": TOKEN, "aes_key": AES_KEY}))
    made = int(clock())
    assert await send(CreateTime=made) == 200
    clock.advance(60)

    assert await send(at=other, CreateTime=made) == 200
    assert (counted(other, "duplicate"), counted(other, "unsubscribe")) == (1, 0)


async def test_out_of_order(browser: Browser, send: Send, clock: Clock) -> None:
    """An ``unsubscribe`` overtaken by the ``subscribe`` after it ends the sessions until then, never a later sign-in."""
    assert await send("subscribe", CreateTime=int(clock()) + 5) == 200
    assert await send("unsubscribe") == 200
    old = await verdict(browser)
    clock.advance(1)
    await browser.open(HOME)

    assert (old, await verdict(browser)) == ("revoked", "")


async def test_subscribe_unblocks_nobody(browser: Browser, gateway: Gateway, send: Send) -> None:
    """A member whom an operator blocked stays blocked when WeCom lets them in again."""
    gateway.live.now.standing.block("zhangsan")

    assert await send("subscribe") == 200
    assert await verdict(browser) == "blocked"


@pytest.mark.parametrize(
    "event",
    [
        {"name": "enter_agent"},
        {"name": "subscribe"},
        {"name": "change_contact", "userid": "sys", "ChangeType": "delete_user", "UserID": "zhangsan"},
        {"name": "", "MsgType": "text", "Content": "unsubscribe"},
        {"name": "unsubscribe", "AgentID": 1},
        {"name": "Unsubscribe"},
    ],
    ids=["enter", "subscribe", "change_contact", "text", "another app", "no such event"],
)
async def test_anything_else_is_acknowledged(browser: Browser, send: Send, event: dict[str, Any]) -> None:
    """Whatever does not end anybody's use of this app is answered 200, so that WeCom is content, and changes nothing."""
    assert await send(**event) == 200

    assert await verdict(browser) == ""


# ── the store ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_store_is_away(
    browser: Browser, browse: Browse, start: Start, make_config: MakeConfig, send: Send, tmp_path: Path
) -> None:
    """While nothing can be stored the member is refused here and WeCom told to come again, in its 5 s; then all hear of it."""
    other = await start(make_config())
    there = browse(at=other)
    there.set_session(HOME, browser.session(HOME))
    lock = sqlite3.connect(tmp_path / "ledger.sqlite3", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")

    async def is_refused() -> bool:
        return await verdict(there) == "revoked"

    status = await in_time(send(CreateTime=1), 5)
    here = await verdict(browser)
    lock.execute("ROLLBACK")
    lock.close()
    again = await send(CreateTime=1)

    assert (status, here, again) == (503, "revoked", 200)
    await until(is_refused)


# ── anybody else ───────────────────────────────────────────────────────────────────────────────────────────────────

BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><xml><Encrypt>&b;</Encrypt></xml>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><xml><Encrypt>&a;</Encrypt></xml>'


@pytest.mark.parametrize(
    "body",
    [
        *(
            b"",
            b"secret-garbage",
            b"\x00\xff",
            b"<xml>",
            b"<xml/>",
            b"<xml><Encrypt/></xml>",
            b"<xml><Encrypt>AAAA</Encrypt></xml>",
        ),
        *(BOMB.encode(), OUTSIDE.encode(), b"<a>" * 5000 + b"</a>" * 5000, b'{"json": 1}', "<xml/>".encode("utf-16")),
        b'<?xml version="1.0" encoding="idna"?><xml><Encrypt>secret-garbage</Encrypt></xml>',
        b"<xml><Encrypt>" + b"secret-garbage" * 20000 + b"</Encrypt></xml>",
    ],
    ids=lambda body: f"{len(body)} {body[:16]!r}",
)
async def test_garbage(gateway: Gateway, browser: Browser, caplog: Any, body: bytes) -> None:
    """Nothing that anybody sends ends a session, breaks the gateway or appears in its log."""
    query = {"msg_signature": "secret-garbage", "timestamp": "x", "nonce": "x"}
    with caplog.at_level(logging.DEBUG):
        async with aiohttp.ClientSession() as http, http.post(address(gateway), params=query, data=body) as answer:
            text = await answer.text()

    assert answer.status == 403
    assert "secret-garbage" not in caplog.text + text
    assert "Traceback" not in caplog.text
    assert await verdict(browser) == ""


@pytest.mark.parametrize(
    "message",
    [
        "",
        "no xml",
        "<xml/>",
        OUTSIDE,
        "<xml><Event>unsubscribe</Event></xml>",
        "<xml><Event>unsubscribe</Event><FromUserName>a/b</FromUserName></xml>",
    ],
    ids=["empty", "text", "nothing", "entity", "nobody", "no member"],
)
async def test_a_signed_message_that_makes_no_sense(gateway: Gateway, sandbox: Sandbox, clock: Clock, message: str) -> None:
    """What is signed by WeCom and still no event does no harm: 200 for one of no use, 403 for one that cannot be read."""
    query, body = wrapped(sandbox, message, clock())
    async with aiohttp.ClientSession() as http, http.post(address(gateway), params=query, data=body) as answer:
        status = answer.status

    assert status == (200 if message == "<xml/>" else 403)


@pytest.mark.parametrize("hours, status", [(-25, 403), (25, 403), (-1, 200), (1, 200)])
async def test_signed_long_ago(browser: Browser, send: Send, clock: Clock, hours: int, status: int) -> None:
    """A call that was signed more than a day ago, or ahead, is a replay; a clock that is wrong by an hour loses nothing."""
    assert await send(signed=clock() + hours * 3600) == status

    assert await verdict(browser) == ("revoked" if status == 200 else "")


async def test_another_companys_event(gateway: Gateway, browser: Browser, sandbox: Sandbox, clock: Clock) -> None:
    """A message with our token and key, but for another receiver, is refused."""
    corp_id, app = sandbox.state.corp_id, sandbox.state.app
    app.corp_id = "ww9999999999999999"
    query, body = wrapped(sandbox, as_xml(subscription(app, "zhangsan", "unsubscribe", clock())), clock())
    app.corp_id = corp_id
    async with aiohttp.ClientSession() as http, http.post(address(gateway), params=query, data=body) as answer:
        assert (answer.status, answer.headers["X-WeCom-Reason"]) == (403, "callback-receiver")

    assert await verdict(browser) == ""


async def test_guessing(gateway: Gateway, caplog: Any, clock: Clock) -> None:
    """Wrong signatures are counted each, and logged once a minute."""
    async with aiohttp.ClientSession() as http:

        async def guess(times: int) -> None:
            for number in range(times):
                body = "<xml><Encrypt>AAAA</Encrypt></xml>"
                async with http.post(
                    address(gateway), params={"msg_signature": f"{number:040x}", "timestamp": "1"}, data=body
                ) as answer:
                    assert answer.status == 403

        await guess(50)
        clock.advance(61)
        await guess(1)

    assert counted(gateway, "callback-signature") == 51
    assert caplog.text.count("callback-signature:") == 2
