"""What must stay hidden is told nowhere: not in logs at their loudest, not by a command, a page or a header."""

from __future__ import annotations

import asyncio
import base64
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.ledger.redis_server import running
from tests.machine import KEY, Machine, machine_in

HOME = "http://localhost:8080/"
REPORT = f"{HOME}report"
COMMANDS = (
    ("check",),
    ("token", "list", "--json"),
    ("sessions", "list", "--json"),
    ("ledger", "show", "--json"),
    ("ledger", "verify", "--json"),
)

Told = tuple[int, str, str]


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    async with machine_in(tmp_path) as machine:
        yield machine


async def command(machine: Machine, *words: str) -> Told:
    """``wecom-gateway`` as a shell runs it: exit status, output, errors."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *words, "--config", str(machine.file)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_no_secret_is_told_anywhere(machine: Machine, tmp_path: Path) -> None:
    """With a Redis that asks for a password, machines, events, a break-glass link: nothing of ours gives a secret away."""
    async with running(tmp_path / "redis", "--requirepass", "hidden-redis") as redis:
        machine.store = redis.url.replace("//", "//:hidden-redis@")
        machine.write(more='log_level = "DEBUG"\njwt = true\n')
        events = {"WECOM_GATEWAY_EVENTS_TOKEN": "hiddenToken", "WECOM_GATEWAY_EVENTS_AES_KEY": "hiddenKey" + "a" * 34}
        process, browser = await machine.running(events), machine.browser()
        issue = ("token", "issue", "--name", "ci", "--rule", "user:lisi", "--days", "9")
        token = (await command(machine, *issue))[1].strip()
        link = (await command(machine, "sessions", "issue", "--member", "lisi", "--reason", "test"))[1].strip()
        told = [await command(machine, *words) for words in COMMANDS]
        await browser.open(REPORT)
        check = f"http://{machine.listen['check']}/_wecom/auth/user:lisi"
        for sent in (f"Bearer {token}", f"Bearer {token}x", "Basic " + base64.b64encode(f"ci:{token}".encode()).decode()):
            async with machine.http.get(check, headers={"Host": "localhost", "X-WeCom-Token": sent}) as answer:
                told.append((answer.status, str(dict(answer.headers)), ""))
        query = "?msg_signature=0&timestamp=1&nonce=2&echostr=AAAA"
        for path in (f"events{query}", "glass/x", link.partition("_wecom/")[2] + "x"):
            page = await browser.page(f"{HOME}_wecom/{path}")
            told.append((page.status, page.text, ""))
        await redis.do("CONFIG", "SET", "requirepass", "another", password="hidden-redis")
        await redis.do("CLIENT", "KILL", "TYPE", "normal", password="another")
        await process.says("does not let us in")
        told.append(await command(machine, "sessions", "list"))
        for path in ("readyz", "metrics"):
            async with machine.http.get(f"http://{machine.listen['ops']}/{path}") as answer:
                told.append((answer.status, await answer.text(), ""))
        await process.signal(signal.SIGTERM)
        await process.ends()

    said = "".join(process.said) + "".join(out + err for _, out, err in told)
    hidden = ["hidden-redis", "hiddenToken", "hiddenKey", KEY, machine.sandbox.state.secret, browser.session(HOME)]
    hidden += [token, link.rpartition("/")[2], base64.b64encode(f"ci:{token}".encode()).decode(), *machine.sandbox.state.tokens]
    assert [status for status, *_ in told[-3:]] == [1, 200, 200]
    assert [status for status, *_ in told[len(COMMANDS) : len(COMMANDS) + 3]] == [204, 401, 204]
    assert [text for text in hidden if text in said] == []
