"""A burst of sign-ins through nginx against the sandbox WeCom: 5 000 people in a minute, as a Monday morning has it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from http.cookies import SimpleCookie

import aiohttp
from yarl import URL

from gateway import loading
from tests.bench import proc
from tests.bench.measures import Measure, Say
from tests.bench.requests import HOST
from tests.bench.stage import Stage

PEOPLE = 5_000
WITHIN_S = 60
_ADDRESSES = 50
_NAME = "signin"
_PAGE = "/static/logo.svg"
_HEADERS = {
    "User-Agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 15_8 like Mac OS X) AppleWebKit/605.1.15 wxwork/4.1.30",
    "Accept": "text/html,application/xhtml+xml,*/*;q=0.8",
    "Accept-Language": "zh-CN,zh;q=0.9",
}


class Failed(Exception):
    """A sign-in that ended early; the message says at which step, and what was answered."""


async def sign_ins(stage: Stage, say: Say) -> list[Measure]:
    """Start a sandbox, a gateway and an nginx of their own, and sign everybody in, evenly over the minute."""
    await _start(stage)
    port, pid = stage.site.ports[_NAME], stage.pids[_NAME]
    cpu, took, failures = proc.cpu_s([pid]), list[float](), Counter[str]()
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(_client(number)) for number in range(1, _ADDRESSES + 1)]
        began = time.monotonic()

        async def person(number: int) -> None:
            await asyncio.sleep(max(0.0, began + number * WITHIN_S / PEOPLE - time.monotonic()))
            if number % 500 == 0:
                say(f"sign-ins: {number:,} of {PEOPLE:,} started, {len(took):,} done, {failures.total()} failed")
            try:
                took.append(await _sign_in(clients[number % _ADDRESSES], port))
            except (Failed, aiohttp.ClientError, TimeoutError) as error:
                failures[str(error) if isinstance(error, Failed) else type(error).__name__] += 1

        await asyncio.gather(*map(person, range(PEOPLE)))
        lasted = time.monotonic() - began
    took.sort()
    middle, slowest = (took[int(len(took) * share)] * 1000 if took else 0.0 for share in (0.5, 0.99))
    why = ", ".join(f"{count} x {where}" for where, count in failures.most_common(5))
    return [
        Measure(f"sign-ins of {PEOPLE:,}", len(took), "", note=f"in {lasted:.0f} s" + (f"; failed: {why}" if why else "")),
        Measure("sign-in, middle", middle, "ms", note="four requests, the sandbox's own time included"),
        Measure("sign-in, 99 of 100 within", slowest, "ms"),
        Measure("sign-in, CPU of the gateway", (proc.cpu_s([pid]) - cpu) * 1000 / max(1, len(took)), "ms"),
    ]


async def _start(stage: Stage) -> None:
    ports = stage.site.ports
    url, control = (f"http://127.0.0.1:{ports[f'sandbox-{name}']}" for name in ("check", "control"))
    command = [
        "sandbox",
        "--port",
        str(ports["sandbox-check"]),
        "--control-port",
        str(ports["sandbox-control"]),
        "--domain",
        HOST,
    ]
    await stage.run("sandbox", [sys.executable, "-m", "gateway", *command], role="answerer")
    await stage.ready("sandbox")
    async with aiohttp.ClientSession() as http, http.get(f"{control}/_sandbox/") as answer:
        about = await answer.json()
    site = replace(stage.site, wecom_url=url, corp=(about["corp_id"], about["agent_id"], about["secret"]))
    path = site.settings(_NAME)
    await stage.run(_NAME, [sys.executable, "-m", "gateway", "serve", "--config", str(path)], role="answerer")
    await stage.ready(_NAME)
    conf = site.front(_NAME, [f"127.0.0.1:{ports[f'{_NAME}-check']}"], loading.load(path, {}))
    await stage.nginx(_NAME, conf)
    await stage.ready(f"nginx-{_NAME}")


def _client(number: int) -> aiohttp.ClientSession:
    """A client with an address of its own: the callback is rate limited by address."""
    connector = aiohttp.TCPConnector(limit=0, local_addr=(f"127.0.1.{number}", 0))
    timeout = aiohttp.ClientTimeout(total=30)
    return aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), headers=_HEADERS)


async def _sign_in(http: aiohttp.ClientSession, port: int) -> float:
    """Open the page, follow the way to WeCom and back, and open the page again: how long that took, in seconds."""
    began, cookies, url = time.monotonic(), dict[str, str](), f"https://{HOST}{_PAGE}"
    for step, due in (("page", 302), ("WeCom", 302), ("callback", 303), ("page again", 200)):
        home = url.startswith(f"https://{HOST}/")
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()), "Host": HOST} if home else {}
        where = url.replace(f"https://{HOST}", f"http://127.0.0.1:{port}", 1)
        async with http.get(URL(where, encoded=True), headers=headers, allow_redirects=False) as answer:
            if answer.status != due:
                raise Failed(f"{step} {answer.status}")
            url = answer.headers.get("Location", "").partition("#")[0]
            if home:
                for line in answer.headers.getall("Set-Cookie", []):
                    cookies |= {name: morsel.value for name, morsel in SimpleCookie(line).items() if morsel.value}
    return time.monotonic() - began
