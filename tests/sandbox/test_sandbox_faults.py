"""Faults happen to the calls they were asked for, and to no others."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from gateway.sandbox import Sandbox
from gateway.sandbox.faults import Fault
from tests.patience import PATIENCE_S, until


async def test_errcode_some_times(client, sandbox):
    """An errcode fault answers so many times, then the call works; other calls never see it."""
    sandbox.state.fault("user/get", errcode=-1, times=2)
    other = await client.call("tag/list")
    codes = [(await client.call("user/get", userid="lisi"))["errcode"] for _ in range(3)]

    assert (codes, other["errcode"]) == ([-1, -1, 0], 0)


async def test_errcode_carries_the_real_text(client, sandbox):
    """An injected 60020 reads like the real one."""
    sandbox.state.fault(errcode=60020)
    answer = await client.api("gettoken")

    assert answer["errmsg"].startswith("not allow to access from your ip, hint: [")


async def test_fault_for_one_caller(client, sandbox):
    """A fault for another address leaves this one alone."""
    sandbox.state.fault("tag/list", errcode=60020, remote="127.0.0.9")

    assert (await client.call("tag/list"))["errcode"] == 0


async def test_reset(client, sandbox):
    """A reset drops the connection without an answer; aiohttp itself asks a second time."""
    sandbox.state.fault("gettoken", kind="reset")

    with pytest.raises(aiohttp.ClientOSError):
        await client.api("gettoken")


async def test_hang_until_the_caller_gives_up(client, sandbox):
    """A hanging call never answers."""
    sandbox.state.fault("gettoken", kind="hang")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await client.api("gettoken")


async def test_hang_after_the_code_was_consumed(client, sandbox):
    """With ``after`` the call takes effect: the code is spent though no answer came (aiohttp asks twice)."""
    code, token = await client.code(), await client.token()
    sandbox.state.fault("auth/getuserinfo", kind="reset", times=2, after=True)
    with pytest.raises(aiohttp.ClientOSError):
        await client.api("auth/getuserinfo", access_token=token, code=code)

    assert (await client.api("auth/getuserinfo", access_token=token, code=code))["errcode"] == 40029


async def test_stopping_ends_hanging_calls():
    """Leaving the sandbox does not wait for calls that hang."""
    async with aiohttp.ClientSession() as http:
        async with asyncio.timeout(PATIENCE_S), Sandbox.start() as sandbox:
            sandbox.state.fault(kind="hang")
            call = asyncio.create_task(http.get(f"{sandbox.url}/cgi-bin/gettoken"))
            while not sandbox.state.counters.running:
                await asyncio.sleep(0)
        with pytest.raises(aiohttp.ClientError):
            await call


@pytest.mark.parametrize("after", [False, True])
async def test_slow(client, sandbox, after):
    """A slow call answers in the end, having taken effect first or last."""
    sandbox.state.fault("gettoken", kind="slow", seconds=0.01, after=after)

    assert (await client.api("gettoken"))["errcode"] == 41002


@pytest.mark.parametrize(
    ("kind", "status", "content_type"),
    [("html", 502, "text/html"), ("truncated", 200, "application/json"), ("redirect", 302, "application/octet-stream")],
)
async def test_broken_answers(client, sandbox, kind, status, content_type):
    """HTML with 502, half a JSON text, and a redirect are given as asked."""
    sandbox.state.fault("gettoken", kind=kind)
    async with client.http.get(f"{sandbox.url}/cgi-bin/gettoken", allow_redirects=False) as answer:
        text = await answer.text()

    assert (answer.status, answer.content_type) == (status, content_type)
    assert not text.endswith("}")


async def test_cut(client, sandbox):
    """A cut answer ends before its promised length."""
    sandbox.state.fault("gettoken", kind="cut")

    with pytest.raises(aiohttp.ClientPayloadError):
        await client.api("gettoken")


async def test_token_revoked_by_a_call(client, sandbox):
    """revoke-tokens ends the token in the very call that uses it."""
    sandbox.state.fault("tag/list", kind="revoke-tokens", times=1)

    assert (await client.call("tag/list"))["errcode"] == 40014
    assert (await client.call("tag/list"))["errcode"] == 0


def test_unknown_kind():
    """A fault that does not exist is refused when it is asked for."""
    with pytest.raises(ValueError, match="kind is one of"):
        Fault(kind="gremlin")


async def test_concurrent_calls(client, sandbox):
    """More calls at once than allowed are 45033."""
    sandbox.state.limits.concurrent = 1
    sandbox.state.fault("gettoken", kind="hang", times=1)
    first = asyncio.create_task(client.api("gettoken"))
    await until(lambda: sandbox.state.counters.running)
    second = await client.api("gettoken")
    first.cancel()

    assert second["errcode"] == 45033


async def test_everything_is_logged(client, sandbox, clock):
    """The log keeps the raw query, the raw redirect_uri, the time and the verdict."""
    await client.api("gettoken", corpid="a b")
    await client.authorize()
    first, second = sandbox.state.requests

    assert (first.at, first.path, first.raw_query, first.errcode) == (clock.now, "/cgi-bin/gettoken", "corpid=a+b", 41004)
    assert second.redirect_uri == "https%3A%2F%2Fsso.example.com%2F_wecom%2Fcallback%2Fabc"
    assert (second.status, second.errcode) == (302, None)
    assert sandbox.state.count("gettoken") == 1
