"""A gateway killed outright between the steps of a sign-in: nothing is half done, and the person gets on."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest

from gateway.ledger.sqlite import SqliteStore
from gateway.sealing import Sealer
from gateway.secret import Secret
from tests.browser_double import Browser
from tests.machine import KEY, Machine, machine_in
from tests.patience import until

HOME = "http://localhost:8080/"
REPORT = "http://localhost:8080/report/7?year=2026"


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    async with machine_in(tmp_path) as machine:
        yield machine


async def recorded(machine: Machine) -> set[str]:
    """The sessions whose sign-in is in the ledger."""
    store = SqliteStore(machine.file.parent / "ledger.sqlite3", lambda: 0.0)
    await store.open()
    entries = await store.read()
    await store.close()
    return {entry.record.session for entry in entries if entry.record.kind == "signed-in"}


def session_of(browser: Browser) -> str:
    """The id in its session cookie; empty without one."""
    value = browser.session(HOME)
    return str(Sealer([Secret(KEY)]).open("session", value)[0][1]) if value else ""


@pytest.mark.parametrize("step", ["auth/getuserinfo", "user/get"])
@pytest.mark.parametrize("after", [False, True], ids=["asked", "answered"])
async def test_killed_while_wecom_is_asked(machine: Machine, step: str, after: bool) -> None:
    """Killed with a question at WeCom, before or after WeCom took it: no cookie, no record; the same callback, or one press of
    the page's button, signs in at the next process."""
    browser, process = machine.browser(), await machine.running()
    callback = await browser.bring_code(REPORT)
    machine.sandbox.state.fault(step, kind="hang", times=1, after=after)
    coming = asyncio.create_task(browser.get(callback))
    await until(lambda: machine.sandbox.state.counters.running.get(step))
    await process.signal(signal.SIGKILL)
    with pytest.raises(aiohttp.ClientError):
        await coming
    assert (session_of(browser), await recorded(machine)) == ("", set())
    await process.ends()
    await machine.running()

    page = await browser.open(callback)
    if page.status != 200:
        assert (page.status, page.reason, len(page.links)) == (400, "code-spent", 1)
        page = await browser.open(page.links[0])

    assert (page.status, page.headers["X-WeCom-UserId"]) == (200, "zhangsan")
    assert await recorded(machine) == {session_of(browser)}


async def test_killed_while_the_record_is_stored(machine: Machine) -> None:
    """Killed while the ledger is written: the person has no cookie of a sign-in that is not on record, and signs in again."""
    browser, process = machine.browser(), await machine.running()
    callback = await browser.bring_code(REPORT)
    machine.sandbox.state.fault("user/get", kind="slow", seconds=1.5, times=1)
    coming = asyncio.create_task(browser.get(callback))
    await until(lambda: machine.sandbox.state.counters.running.get("user/get"))
    with closing(sqlite3.connect(machine.file.parent / "ledger.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # the record waits for this
        await until(lambda: not machine.sandbox.state.counters.running.get("user/get"))
        await process.signal(signal.SIGKILL)
        await process.ends()
        with pytest.raises(aiohttp.ClientError):
            await coming
        other.execute("ROLLBACK")
    assert (session_of(browser), await recorded(machine)) == ("", set())
    await machine.running()

    page = await browser.open(HOME)

    assert page.status == 200
    assert await recorded(machine) == {session_of(browser)}


async def test_killed_right_after_the_cookie(machine: Machine) -> None:
    """Killed the moment the browser has its cookie: the sign-in is on record, and the session opens at the next process."""
    browser, process = machine.browser(), await machine.running()
    callback = await browser.bring_code(REPORT)
    page = await browser.get(callback)
    await process.signal(signal.SIGKILL)
    await process.ends()

    assert page.status == 303
    assert await recorded(machine) == {session_of(browser)}
    await machine.running()
    assert (await browser.get(REPORT)).status == 200


async def test_killed_right_after_the_sign_out(machine: Machine) -> None:
    """Killed the moment the sign-out was answered: it holds at the next process, for a copy of the cookie, too."""
    browser, process = machine.browser(), await machine.running()
    await browser.open(HOME)
    copy = browser.cookie_header(HOME)
    page = await browser.post(f"{HOME}_wecom/logout")
    await process.signal(signal.SIGKILL)
    await process.ends()
    await machine.running()

    verdict = await browser.check(HOME, cookie=copy)

    assert page.status == 303
    assert (verdict.status, verdict.headers["X-WeCom-Reason"]) == (401, "signed-out")
