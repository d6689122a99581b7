"""Calls through a bad network and to a server that talks nonsense."""

from __future__ import annotations

import asyncio
import gzip
import logging
from urllib.parse import quote

import aiohttp
import pytest
from aiocache import SimpleMemoryCache
from aiohttp import web

from gateway.errors import AppMisconfigured, CodeSpent, WeComBusy, WeComError, WeComUnreachable
from gateway.wecom import App, Endpoints, WeCom
from tests.conftest import free_port
from tests.patience import in_time
from tests.wecom.scripted import (
    CODE,
    SECRET,
    TOKEN,
    Clock,
    Pauses,
    Script,
    Step,
    closes,
    everything_said,
    good_token,
    hangs,
    refusal,
    says,
    sends,
)

ZHANGSAN = {"errcode": 0, "errmsg": "ok", "userid": "zhangsan", "name": "张三", "status": 1}
TICKET = "user-ticket-nobody-may-see"


async def cuts(request: web.Request) -> web.StreamResponse:
    """A step that promises a whole answer and closes the connection in its middle."""
    response = web.StreamResponse(headers={"Content-Length": "100", "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"errcode": 0, "userid": "zhangsan"')
    assert request.transport is not None
    request.transport.close()
    return response


async def floods(request: web.Request) -> web.StreamResponse:
    """A step that never stops sending."""
    response = web.StreamResponse()
    await response.prepare(request)
    chunk = b" " * 1024 * 1024
    try:
        for _ in range(1000):
            await response.write(chunk)
    except ConnectionError:
        pass
    return response


BROKEN_ONCE: dict[str, Step] = {
    "-1": says(refusal(-1, "system busy")),
    "45033": says(refusal(45033)),
    "html 502": sends(b"<html>Bad Gateway</html>", 502),
    "html 200": sends(b"<html>Welcome to the hotel's network</html>"),
    "empty": sends(b""),
    "truncated": sends(b'{"errcode": 0, "userid": "zha'),
    "cut off": cuts,
    "closed": closes,
    "not utf-8": sends(b'{"errcode": 0, "userid": "zhangsan", "name": "\xff\xfe"}'),
    "deep": sends(b"[" * 100_000),
    "a list": says(["errcode", 0]),
    "a number": says(0),
}
FINAL: dict[str, Step] = {
    "redirect": sends(b"", 302, Location="http://127.0.0.1:1/login"),
    "moved": sends(b"", 301, Location="/elsewhere"),
    "404": sends(b"not here", 404),
    "407": sends(b"who are you", 407),
    "endless": floods,
    "gzip bomb": sends(gzip.compress(b" " * 64 * 1024 * 1024, 1), **{"Content-Encoding": "gzip"}),
    "errcode a text": says({**ZHANGSAN, "errcode": "0"}),
    "errcode true": says({**ZHANGSAN, "errcode": True}),
    "errcode a float": says({**ZHANGSAN, "errcode": 0.0}),
    "errcode null": says({**ZHANGSAN, "errcode": None}),
    "nobody": says({"errcode": 0, "errmsg": "ok"}),
    "nothing": says({}),
}


@pytest.mark.parametrize("broken", BROKEN_ONCE.values(), ids=BROKEN_ONCE)
async def test_a_passing_fault_is_passed_over(script: Script, wecom: WeCom, pauses: Pauses, broken: Step) -> None:
    """A read that fails once or twice succeeds at the third try, after growing pauses."""
    script.on("user/get", broken, broken, ZHANGSAN)

    member = await wecom.member("zhangsan")

    assert member.name == "张三"
    assert script.count("user/get") == 3
    assert script.count("gettoken") == 1
    assert 0.1 <= pauses.seconds[0] <= 0.3
    assert 0.2 <= pauses.seconds[1] <= 0.6


@pytest.mark.parametrize("broken", BROKEN_ONCE.values(), ids=BROKEN_ONCE)
async def test_a_lasting_fault_ends_after_three_tries(script: Script, wecom: WeCom, broken: Step) -> None:
    """WeCom is not asked without end."""
    script.on("user/get", broken)

    with pytest.raises((WeComUnreachable, WeComBusy)):
        await wecom.member("zhangsan")

    assert script.count("user/get") == 3


async def test_busy_keeps_its_number(script: Script, wecom: WeCom) -> None:
    """After the tries allowed, -1 is "busy", not "unreachable"."""
    script.on("user/get", refusal(-1, "system busy"))

    with pytest.raises(WeComBusy, match="system busy") as busy:
        await wecom.member("zhangsan")

    assert busy.value.errcode == -1
    assert busy.value.reason == "wecom-busy"


async def test_a_limit_is_not_retried(script: Script, wecom: WeCom) -> None:
    """45009 means to stay away: one call, and it is told as busy."""
    script.on("user/get", refusal(45009))

    with pytest.raises(WeComBusy) as busy:
        await wecom.member("zhangsan")

    assert busy.value.errcode == 45009
    assert script.count("user/get") == 1


async def test_control_bytes_in_a_name_are_read(script: Script, wecom: WeCom) -> None:
    """A tab or line break that WeCom leaves in a text does not make the answer unreadable."""
    script.on("user/get", sends(b'\xef\xbb\xbf{"errcode": 0, "userid": "lisi", "name": "a\tb"}'))

    assert (await wecom.member("lisi")).name == "a\tb"


@pytest.mark.parametrize("nonsense", FINAL.values(), ids=FINAL)
async def test_nonsense_is_not_asked_for_again(script: Script, wecom: WeCom, nonsense: Step) -> None:
    """A redirect, an endless body or an answer of another shape is no answer, and the same a second time."""
    script.on("user/get", nonsense)
    script.on("elsewhere", ZHANGSAN)

    with pytest.raises(WeComUnreachable) as unreachable:
        await wecom.member("zhangsan")

    assert unreachable.value.reason == "wecom-unreachable"
    assert script.count("user/get") == 1
    assert [path for path, _ in script.asked] == ["gettoken", "user/get"]


@pytest.mark.parametrize(
    "broken",
    [step for name, step in BROKEN_ONCE.items() if name not in ("-1", "45033")],
    ids=[name for name in BROKEN_ONCE if name not in ("-1", "45033")],
)
async def test_a_code_that_may_have_arrived_is_never_sent_again(script: Script, wecom: WeCom, broken: Step) -> None:
    """A code works once: when its fate is unknown the exchange ends, and the sign-in starts again."""
    script.on("auth/getuserinfo", broken, {"errcode": 0, "userid": "zhangsan"})

    with pytest.raises(WeComUnreachable):
        await wecom.exchange(CODE)

    assert script.count("auth/getuserinfo") == 1


async def test_a_code_on_a_reused_connection_is_never_sent_again(script: Script, wecom: WeCom) -> None:
    """Also the HTTP library's own second try on a kept connection is off."""
    script.on("user/get", ZHANGSAN)
    script.on("auth/getuserinfo", closes)
    await wecom.member("zhangsan")

    with pytest.raises(WeComUnreachable):
        await wecom.exchange(CODE)

    assert script.count("auth/getuserinfo") == 1


async def test_a_code_to_a_slow_wecom_is_sent_once(
    script: Script, app: App, http: aiohttp.ClientSession, cache: SimpleMemoryCache, clock: Clock, pauses: Pauses
) -> None:
    """A read timeout leaves the code's fate open: no second try."""
    script.on("auth/getuserinfo", hangs)
    wecom = WeCom(app, Endpoints(api=script.url, timeout_s=2), http, cache, clock, pause=pauses)
    await wecom.access_token()

    with pytest.raises(WeComUnreachable, match="in time"):
        await wecom.exchange(CODE)

    assert script.count("auth/getuserinfo") == 1
    assert pauses.seconds == []


async def test_a_code_that_waits_for_a_connection_is_not_sent(
    script: Script, wecom: WeCom, app: App, cache: SimpleMemoryCache, clock: Clock
) -> None:
    """When no connection was to be had in time, nothing was sent, and the exchange is tried again."""
    script.on("user/get", hangs)
    script.on("auth/getuserinfo", {"errcode": 0, "userid": "zhangsan"})
    await wecom.access_token()
    script.arrived.clear()

    async def hang_up(seconds: float) -> None:
        hanging.cancel()
        await asyncio.wait([hanging])

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as narrow:
        long, short = Endpoints(api=script.url, timeout_s=60), Endpoints(api=script.url, timeout_s=2)
        hanging = asyncio.create_task(WeCom(app, long, narrow, cache, clock).member("zhangsan"))
        await script.wait()
        visitor = await WeCom(app, short, narrow, cache, clock, pause=hang_up).exchange(CODE)

    assert visitor.user_id == "zhangsan"
    assert hanging.cancelled()


async def test_a_server_that_speaks_no_http_is_no_wecom(
    wecom: WeCom, app: App, http: aiohttp.ClientSession, cache: SimpleMemoryCache, clock: Clock, pauses: Pauses
) -> None:
    """An API address that leads to something else ends in "unreachable"."""
    await wecom.access_token()

    async def greets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(greets, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(WeComUnreachable, match="talking to WeCom failed") as unreachable:
            await WeCom(app, Endpoints(api=url), http, cache, clock, pause=pauses).exchange(CODE)

    assert pauses.seconds == []
    assert TOKEN not in everything_said(unreachable.value)


async def test_a_busy_wecom_gets_the_code_again(script: Script, wecom: WeCom) -> None:
    """-1 is WeCom's own word that nothing was done."""
    script.on("auth/getuserinfo", refusal(-1), {"errcode": 0, "userid": "zhangsan"})

    visitor = await wecom.exchange(CODE)

    assert visitor.user_id == "zhangsan"


async def test_a_code_is_sent_again_when_it_never_left(
    script: Script, wecom: WeCom, app: App, http: aiohttp.ClientSession, cache: SimpleMemoryCache, clock: Clock
) -> None:
    """Without a connection nothing was sent: the exchange is tried again."""
    script.on("auth/getuserinfo", {"errcode": 0, "userid": "zhangsan"})
    await wecom.access_token()
    late = web.Application()
    late.router.add_route("*", "/{path:.*}", script.handle)
    port, runner = free_port(), web.AppRunner(late)
    await runner.setup()

    async def listen(seconds: float) -> None:
        await web.TCPSite(runner, "127.0.0.1", port).start()

    beside = WeCom(app, Endpoints(api=f"http://127.0.0.1:{port}"), http, cache, clock, pause=listen)
    visitor = await beside.exchange(CODE)
    await runner.cleanup()

    assert visitor.user_id == "zhangsan"
    assert script.count("auth/getuserinfo") == 1


async def test_a_lasting_refusal_to_connect_ends(
    app: App, http: aiohttp.ClientSession, cache: SimpleMemoryCache, clock: Clock, pauses: Pauses
) -> None:
    """With nobody listening, three tries end in "cannot connect"."""
    wecom = WeCom(app, Endpoints(api=f"http://127.0.0.1:{free_port()}"), http, cache, clock, pause=pauses)

    with pytest.raises(WeComUnreachable, match=r"cannot connect to WeCom at 127\.0\.0\.1:\d+: Connect"):
        await wecom.member("zhangsan")

    assert len(pauses.seconds) == 2


@pytest.mark.parametrize("code", ["", " ", "a b", "a\nb", "代码", "\ud800", "a" * 513, "a\x00b"], ids=repr)
async def test_what_cannot_be_a_code_is_not_sent(script: Script, wecom: WeCom, code: str) -> None:
    """WeCom's codes are short and printable; anything else is a spent code without a call."""
    with pytest.raises(CodeSpent):
        await wecom.exchange(code)

    assert script.asked == []


async def test_a_code_arrives_as_it_was(script: Script, wecom: WeCom) -> None:
    """Every printable character of a code survives the journey in the query."""
    script.on("auth/getuserinfo", {"errcode": 0, "userid": "zhangsan"})
    code = "".join(map(chr, range(0x21, 0x7F)))

    await wecom.exchange(code)

    assert script.asked[-1] == ("auth/getuserinfo", {"access_token": TOKEN, "code": code})


async def test_a_caller_in_a_hurry_is_answered_in_time(script: Script, wecom: WeCom) -> None:
    """A renewal waits only so long for WeCom, whatever the client's own limit."""
    script.on("user/get", hangs)

    with pytest.raises(WeComUnreachable, match=r"within 0\.1 s"):
        await in_time(wecom.member("zhangsan", timeout_s=0.1), 1)


async def test_a_hurry_also_counts_the_token(script: Script, wecom: WeCom) -> None:
    """Waiting for an access token is part of the time, and the fetch goes on for the others."""
    go = asyncio.Event()

    async def waits(request: web.Request) -> web.StreamResponse:
        await go.wait()
        return web.json_response(good_token())

    script.on("gettoken", waits)
    with pytest.raises(WeComUnreachable):
        await wecom.member("zhangsan", timeout_s=0.1)
    go.set()

    assert await wecom.access_token() == TOKEN
    assert script.count("gettoken") == 1


async def test_calls_go_through_the_outbound_proxy(
    script: Script, app: App, http: aiohttp.ClientSession, cache: SimpleMemoryCache, clock: Clock
) -> None:
    """With a proxy set, no call goes to WeCom directly."""
    script.on("user/get", ZHANGSAN)
    endpoints = Endpoints(api="http://wecom.invalid", proxy=script.url.replace("http://", "http://someone:pass-word@"))
    wecom = WeCom(app, endpoints, http, cache, clock)

    assert (await wecom.member("zhangsan")).name == "张三"
    assert "pass-word" not in repr(endpoints)


async def test_a_proxy_that_is_down_is_named(
    wecom: WeCom, app: App, http: aiohttp.ClientSession, cache: SimpleMemoryCache, clock: Clock, pauses: Pauses
) -> None:
    """The operator reads that it is the proxy and not WeCom, and no password; nothing was sent, so three tries."""
    await wecom.access_token()
    endpoints = Endpoints(api="http://wecom.invalid", proxy=f"http://someone:pass-word@127.0.0.1:{free_port()}")
    beside = WeCom(app, endpoints, http, cache, clock, pause=pauses)

    with pytest.raises(WeComUnreachable, match=r"outbound proxy \(wecom\.proxy\), 127\.0\.0\.1:\d+: ") as unreachable:
        await beside.exchange(CODE)

    assert "pass-word" not in everything_said(unreachable.value)
    assert len(pauses.seconds) == 2


@pytest.mark.parametrize("status, tries", [(407, 1), (403, 1), (502, 3)])
async def test_a_proxy_that_refuses_is_named(
    wecom: WeCom,
    app: App,
    http: aiohttp.ClientSession,
    cache: SimpleMemoryCache,
    clock: Clock,
    pauses: Pauses,
    status: int,
    tries: int,
) -> None:
    """A proxy that does not open the way to WeCom is told with its status, and asked again only for its own trouble."""
    await wecom.access_token()

    async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuses, "127.0.0.1", 0) as server:
        proxy = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        beside = WeCom(app, Endpoints(api="https://wecom.invalid", proxy=proxy), http, cache, clock, pause=pauses)
        with pytest.raises(WeComUnreachable, match=f"the outbound proxy answered {status}") as unreachable:
            await beside.exchange(CODE)

    assert len(pauses.seconds) == tries - 1
    assert TOKEN not in everything_said(unreachable.value)


async def test_a_private_deployment_has_older_paths(
    script: Script, app: App, http: aiohttp.ClientSession, cache: SimpleMemoryCache, clock: Clock
) -> None:
    """A base address with a prefix, the older endpoints and their capitalised names work."""
    script.on("/base/cgi-bin/gettoken", good_token())
    script.on("/base/cgi-bin/user/getuserinfo", {"errcode": 0, "UserId": "ZhangSan", "DeviceId": "x"})
    wecom = WeCom(app, Endpoints(api=f"{script.url}base/", private=True), http, cache, clock)

    assert (await wecom.exchange(CODE)).user_id == "ZhangSan"


async def echoes(request: web.Request) -> web.StreamResponse:
    """A step whose error text repeats all it was sent, plain and as it came, and a line break."""
    sent = f"{request.raw_path} {dict(request.query)} {await request.text()}"
    return web.json_response(refusal(40058, f"invalid param {sent}\nforged line"))


LEAKY: dict[str, Step] = {
    **BROKEN_ONCE,
    **FINAL,
    "60020": says(refusal(60020, "not allow to access from your ip")),
    "40001": says(refusal(40001, "invalid credential")),
    "an echo": echoes,
}


@pytest.mark.parametrize("step", LEAKY.values(), ids=LEAKY)
@pytest.mark.parametrize("path", ["gettoken", "auth/getuserinfo", "user/get", "auth/getuserdetail"])
async def test_nothing_secret_is_said(
    script: Script, wecom: WeCom, caplog: pytest.LogCaptureFixture, path: str, step: Step
) -> None:
    """Whatever goes wrong, no error, chained error or log line holds secret, token, code or ticket."""
    caplog.set_level(logging.DEBUG)
    for each in ("auth/getuserinfo", "user/get", "auth/getuserdetail"):
        script.on(each, {**ZHANGSAN})
    script.on(path, step)
    said = ""

    for ask in (wecom.exchange(CODE), wecom.member("zhangsan"), wecom.details(TICKET)):
        try:
            said += repr(await ask)
        except WeComError as error:
            said += everything_said(error)
    said += "".join(caplog.text.splitlines(keepends=True)) + repr(wecom)

    assert path in said
    for secret in (SECRET, TOKEN, CODE, TICKET):
        assert secret not in said
        assert quote(secret, safe="") not in said
    assert "\nforged" not in said


async def test_a_failure_is_logged_with_hint_and_address(script: Script, wecom: WeCom, caplog: pytest.LogCaptureFixture) -> None:
    """The log holds what WeCom's query page asks for, and what to change."""
    script.on("user/get", refusal(60020, "not allow to access from your ip"))

    with pytest.raises(AppMisconfigured):
        await wecom.member("zhangsan")

    assert "hint: [1686402237354962763423746]" in caplog.text
    assert "from ip: 203.0.113.9" in caplog.text
    assert "Add 203.0.113.9 to the app's trusted addresses (企业可信IP)" in caplog.text
