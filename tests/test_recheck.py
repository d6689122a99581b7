"""Access ends when the person leaves, though nobody tells us: members who are here are read again in the background."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway import admission
from gateway.app import Gateway
from gateway.config import Config
from gateway.presence import HERE
from gateway.records import Record
from gateway.sandbox import Sandbox
from gateway.sandbox.changes import Changes
from gateway.session import Seen
from gateway.watch import WAITING
from tests.browser_double import Browser
from tests.conftest import Clock
from tests.patience import until, within

HOME = "http://localhost:8080/"
SESSION = "wecom_session_8080"
EVERY_S = 600
DAY_S = 86400
MOVED = {"department": [7], "order": [0], "is_leader_in_dept": [0]}
OUT_OF_SCOPE = {"department": [8], "order": [0], "is_leader_in_dept": [0]}

Browse = Callable[..., Browser]
Start = Callable[[Config], Awaitable[Gateway]]
MakeConfig = Callable[..., Config]


@pytest.fixture(autouse=True)
def _only_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The background has its turn when a test gives it one, never between two steps; ``test_leaving`` has it look by itself."""
    monkeypatch.setattr("gateway.recheck.LOOK_S", DAY_S)


@pytest.fixture
def clock() -> Clock:
    """A clock that was yesterday: what a command stores, by the real one, comes after whatever these tests do."""
    return Clock(float(int(time.time()) - DAY_S))


@pytest.fixture
async def gateway(make_config: MakeConfig, clock: Clock) -> AsyncIterator[Gateway]:
    """A gateway that reads members again every ten minutes."""
    async with Gateway(make_config(recheck={"every": EVERY_S}), clock=clock) as running:
        yield running


@pytest.fixture
async def browser(browse: Browse, gateway: Gateway) -> Browser:
    browser = browse("zhangsan")
    await browser.open(HOME)
    await gateway.recheck.look()
    return browser


async def verdict(browser: Browser, kind: str = "fetch") -> str:
    """Why the next request is refused; empty where it is not."""
    answer = await browser.check(HOME, kind)
    return "" if answer.status == 204 else answer.headers["X-WeCom-Reason"]


async def noticed(browser: Browser, gateway: Gateway) -> str:
    """The verdict on a request after the background had its turn with the one before."""
    await verdict(browser)
    await gateway.recheck.look()
    return await verdict(browser)


def reads(sandbox: Sandbox) -> int:
    return sandbox.state.count("user/get")


def counted(gateway: Gateway, result: str) -> float:
    return gateway.live.now.telemetry.registry.get_sample_value("wecom_gateway_rechecks_total", {"result": result}) or 0


async def metric(gateway: Gateway, name: str) -> float:
    """What ``/metrics`` says."""
    async with aiohttp.ClientSession() as http, http.get(f"http://{gateway.addresses['ops']}/metrics") as answer:
        text = await answer.text()
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"wecom_gateway_{name} "))


async def in_use(browser: Browser, gateway: Gateway) -> list[Seen]:
    """The sessions that were noted since the last look; none of them is noted any more."""
    assert await verdict(browser) == ""
    return gateway.live.now.sessions.look()


async def problems(gateway: Gateway) -> str:
    """What ``/readyz`` complains of."""
    async with aiohttp.ClientSession() as http, http.get(f"http://{gateway.addresses['ops']}/readyz") as answer:
        return "; ".join((await answer.json())["problems"])


# ── who leaves ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "change, reason",
    [({"status": 2}, "disabled"), ({"status": 4}, "not-activated"), ({"status": 5}, "left"), (OUT_OF_SCOPE, "out-of-scope")],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_leaver_who_goes_on_working(
    browser: Browser, browse: Browse, gateway: Gateway, sandbox: Sandbox, clock: Clock, change: dict[str, Any], reason: str
) -> None:
    """Whoever is here when the interval is over is read again: a leaver is refused from then on, their colleague is not."""
    colleague = browse("lisi")
    await colleague.open(HOME)
    sandbox.change_member("zhangsan", change)
    clock.advance(EVERY_S)

    assert await noticed(colleague, gateway) == ""
    assert await noticed(browser, gateway) == "revoked"
    assert counted(gateway, reason) == 1


@pytest.mark.parametrize("errcode", [60111, 60011])
async def test_a_leaver_whom_wecom_does_not_know(
    browser: Browser, gateway: Gateway, sandbox: Sandbox, clock: Clock, errcode: int
) -> None:
    """WeCom has two codes for a member that is gone; both concern the member only."""
    sandbox.state.switches.unknown_member_errcode = errcode
    sandbox.remove_member("zhangsan")
    clock.advance(EVERY_S)

    assert await noticed(browser, gateway) == "revoked"


async def test_in_time(browser: Browser, gateway: Gateway, sandbox: Sandbox, clock: Clock) -> None:
    """Whoever uses anything all the time is refused within the interval, counted from the reading before they left."""
    sandbox.change_member("zhangsan", {"status": 2})
    began = clock()
    while not await noticed(browser, gateway):
        clock.advance(20)

    assert await verdict(browser) == "revoked"
    assert 0.7 * EVERY_S <= clock() - began <= EVERY_S


async def test_who_is_gone_is_not_asked_about_again(browser: Browser, gateway: Gateway, sandbox: Sandbox, clock: Clock) -> None:
    """A tab that a leaver left open costs no call, however long it asks."""
    sandbox.change_member("zhangsan", {"status": 2})
    clock.advance(EVERY_S)
    await noticed(browser, gateway)
    before = reads(sandbox)
    for _ in range(5):
        clock.advance(EVERY_S)
        await noticed(browser, gateway)

    assert reads(sandbox) == before


async def test_nobody_here_nobody_asked(browser: Browser, gateway: Gateway, sandbox: Sandbox, clock: Clock) -> None:
    """Members who are not here are not read."""
    for _ in range(5):
        clock.advance(EVERY_S)
        await gateway.recheck.look()

    assert reads(sandbox) == 1


async def test_switched_off(browser: Browser, gateway: Gateway, make_config: MakeConfig, sandbox: Sandbox, clock: Clock) -> None:
    """``recheck.every = 0``, put in force by a reload, reads nobody; pages go by ``session.renew_after`` alone."""
    await gateway.reload(make_config(recheck={"every": 0}))
    clock.advance(EVERY_S * 2)

    assert await noticed(browser, gateway) == ""
    assert await verdict(browser, "document") == ""
    assert reads(sandbox) == 1


# ── who comes back after a pause ───────────────────────────────────────────────────────────────────────────────────


async def test_a_page_after_a_pause(browser: Browser, gateway: Gateway, sandbox: Sandbox, clock: Clock) -> None:
    """Whoever opens a page after more than the interval is read first, by one redirect to the same page."""
    clock.advance(EVERY_S)

    page = await browser.get(HOME)

    assert (page.status, page.location, reads(sandbox)) == (302, HOME, 2)
    assert (await browser.get(HOME)).status == 200


async def test_a_leavers_page_after_a_pause(browser: Browser, sandbox: Sandbox, clock: Clock) -> None:
    """Not one page opens for whoever left during the pause."""
    sandbox.change_member("zhangsan", {"status": 2})
    clock.advance(EVERY_S)

    page = await browser.get(HOME)

    assert (page.status, page.reason) == (403, "disabled")


async def test_a_leavers_page_at_another_site(
    browse: Browse, start: Start, make_config: MakeConfig, sandbox: Sandbox, clock: Clock
) -> None:
    """The session at the callback host opens no other site for whoever left during the pause."""
    sites = [{"name": "oa", "public_url": "http://localhost:8080"}, {"name": "wiki", "public_url": "http://wiki.internal:8080"}]
    gateway = await start(make_config(recheck={"every": EVERY_S}, site=sites))
    browser = browse("zhangsan", at=gateway)
    await browser.open(HOME)
    sandbox.change_member("zhangsan", {"status": 2})
    clock.advance(EVERY_S)

    page = await browser.open("http://wiki.internal:8080/")

    assert (page.status, page.reason) == (403, "disabled")


async def test_a_script_after_a_pause(browser: Browser, gateway: Gateway, sandbox: Sandbox, clock: Clock) -> None:
    """A script after a pause is answered at once and has its member read at once, ahead of others whose turn has come."""
    sandbox.change_member("zhangsan", {"status": 2})
    clock.advance(4 * 3600)

    assert await verdict(browser) == ""
    await gateway.recheck.look()
    assert await verdict(browser) == "revoked"


async def test_who_is_read_in_the_background_is_not_interrupted(
    browser: Browser, gateway: Gateway, sandbox: Sandbox, clock: Clock
) -> None:
    """Whoever is here all the time sees no redirect before ``renew_after``: the background has read them."""
    for _ in range(5):
        clock.advance(EVERY_S / 2)
        await noticed(browser, gateway)
        assert await verdict(browser, "document") == ""
    clock.advance(EVERY_S / 2)

    assert await verdict(browser, "document") == "renew"
    assert 3 <= reads(sandbox) <= 5


# ── what concerns the app ──────────────────────────────────────────────────────────────────────────────────────────

NOT_ABOUT_THE_MEMBER = [
    *({"errcode": errcode} for errcode in (60020, 40001, 45009, 48006, 50003, 301007, -1, 12345)),
    *({"kind": kind} for kind in ("html", "reset", "truncated", "redirect")),
]


@pytest.mark.parametrize("fault", NOT_ABOUT_THE_MEMBER, ids=lambda fault: str(next(iter(fault.values()))))
async def test_the_apps_trouble_is_nobodys_end(
    browser: Browser, gateway: Gateway, sandbox: Sandbox, clock: Clock, caplog: Any, fault: dict[str, Any]
) -> None:
    """What WeCom says about the app, or nonsense, revokes nobody: one alert, a growing pause, and all is well by itself."""
    trouble = sandbox.state.fault("user/get", **fault)
    clock.advance(EVERY_S)
    for _ in range(20):
        assert await noticed(browser, gateway) == ""
        clock.advance(1)
    asked, complaint = counted(gateway, "failed"), await problems(gateway)
    sandbox.state.faults.remove(trouble)
    clock.advance(60)
    await noticed(browser, gateway)

    assert 1 <= asked <= 2
    assert "members cannot be read again" in complaint
    assert caplog.text.count("members cannot be read again, nobody is revoked") == 1
    assert (await verdict(browser, "document"), await problems(gateway), counted(gateway, "ok")) == ("", "", 1)


async def test_one_member_of_whom_wecom_talks_nonsense(
    browser: Browser, browse: Browse, gateway: Gateway, sandbox: Sandbox, clock: Clock
) -> None:
    """A member whose data make no sense does not keep the others from being read."""
    other = browse("lisi")
    await other.open(HOME)
    sandbox.state.members["zhangsan"] = sandbox.state.members["zhangsan"].__class__(
        **{name: getattr(sandbox.state.members["zhangsan"], name) for name in sandbox.state.members["zhangsan"].__slots__}
        | {"status": "nonsense"}
    )
    sandbox.change_member("lisi", {"status": 2})
    clock.advance(EVERY_S)
    for _ in range(3):
        await verdict(browser)
        await noticed(other, gateway)
        clock.advance(60)

    assert (await verdict(browser), await verdict(other)) == ("", "revoked")


async def test_pages_do_not_wait_for_a_wecom_that_is_away(
    browser: Browser, gateway: Gateway, sandbox: Sandbox, clock: Clock
) -> None:
    """Once the background knows that WeCom does not tell, no page is kept waiting to find out."""
    sandbox.state.fault("user/get", kind="html")
    clock.advance(EVERY_S)
    await noticed(browser, gateway)

    assert await verdict(browser, "document") == ""


async def test_a_renewal_put_off_is_put_off(browser: Browser, sandbox: Sandbox, clock: Clock) -> None:
    """When the page after a pause finds WeCom away it opens, and WeCom is not asked again for five minutes."""
    sandbox.state.fault("user/get", errcode=60020)
    clock.advance(EVERY_S)

    page = await browser.open(HOME)
    asked = reads(sandbox)
    clock.advance(299)
    later = await verdict(browser, "document")

    assert (page.status, later, reads(sandbox)) == (200, "", asked)


async def test_silent_for_an_hour(browser: Browser, browse: Browse, gateway: Gateway, sandbox: Sandbox, clock: Clock) -> None:
    """WeCom silent for an hour: whoever is signed in keeps working, and a sign-in says what is wrong."""
    back = await browse("lisi").bring_code(HOME)
    sandbox.state.fault("*", kind="reset")
    for _ in range(12):
        clock.advance(300)
        assert await noticed(browser, gateway) == ""
        assert (await browser.open(HOME)).status == 200

    page = await browse("lisi").get(back)
    assert page.status in (400, 503)  # another browser's code, or WeCom away: a page either way, never a hang


async def test_more_than_can_wait(browser: Browser, gateway: Gateway, sandbox: Sandbox, clock: Clock, caplog: Any) -> None:
    """Very many who cannot be read fill the queue: the log says so once, and the metric until there is room again."""
    trouble, parts = sandbox.state.fault("user/get", kind="reset"), gateway.live.now
    (seen,) = await in_use(browser, gateway)
    clock.advance(EVERY_S)
    for start in range(0, WAITING + HERE, HERE):
        for number in range(start, start + HERE):
            parts.watch.note(replace(seen, id=f"device-{number}"))
        await gateway.recheck.look()
    full = await metric(gateway, "recheck_full")
    sandbox.state.faults.remove(trouble)
    clock.advance(60)
    await gateway.recheck.look()

    assert (full, await metric(gateway, "recheck_full")) == (1, 0)
    assert caplog.text.count(f"{WAITING} sessions wait") == 1


async def test_switched_off_nobody_waits(
    browser: Browser, gateway: Gateway, make_config: MakeConfig, sandbox: Sandbox, clock: Clock
) -> None:
    """Whoever waited when the re-check was switched off waits no more, and the metric says so."""
    sandbox.state.fault("user/get", kind="reset")
    clock.advance(EVERY_S)
    await noticed(browser, gateway)
    waiting = await metric(gateway, "recheck_waiting")
    await gateway.reload(make_config(recheck={"every": 0}))
    await gateway.recheck.look()

    assert (waiting, await metric(gateway, "recheck_waiting")) == (1, 0)


# ── close after a grace ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def closing(start: Start, make_config: MakeConfig) -> Gateway:
    return await start(make_config(recheck={"every": EVERY_S, "unreachable": "close", "grace": "1h"}))


async def test_close(browse: Browse, closing: Gateway, sandbox: Sandbox, clock: Clock) -> None:
    """With ``close`` nobody who was not read for the grace is let in once WeCom is away so long; a page opens a minute after."""
    browser = browse("zhangsan", at=closing)
    await browser.open(HOME)
    trouble = sandbox.state.fault("user/get", kind="reset")
    clock.advance(EVERY_S)
    await noticed(browser, closing)
    clock.advance(3599)
    before = await noticed(browser, closing)
    clock.advance(1)
    script, page = await noticed(browser, closing), await browser.open(HOME)
    sandbox.state.faults.remove(trouble)
    clock.advance(60)
    opened = await browser.open(HOME)

    assert (before, script) == ("", "unverified")
    assert (page.status, page.reason) == (503, "unverified")
    assert SESSION not in page.cookies_set
    assert (opened.status, await verdict(browser)) == (200, "")


async def test_close_and_a_form(browse: Browse, closing: Gateway, sandbox: Sandbox, clock: Clock) -> None:
    """A form's second window says why the door is closed, and opens it once WeCom answers; it does not just lead back."""
    browser = browse("zhangsan", at=closing)
    await browser.open(HOME)
    trouble = sandbox.state.fault("user/get", kind="reset")
    clock.advance(EVERY_S)
    await noticed(browser, closing)
    clock.advance(3600)
    await noticed(browser, closing)
    link = (await browser.submit(HOME)).links[0]
    page = await browser.open(link)
    sandbox.state.faults.remove(trouble)
    clock.advance(60)
    opened = await browser.open(link)

    assert (page.status, page.reason) == (503, "unverified")
    assert (opened.status, (await browser.submit(HOME)).status) == (200, 200)


async def test_close_opens_by_itself(browse: Browse, closing: Gateway, sandbox: Sandbox, clock: Clock) -> None:
    """A script that nobody reloads is let in again by the background."""
    browser = browse("zhangsan", at=closing)
    await browser.open(HOME)
    trouble = sandbox.state.fault("user/get", errcode=60020)
    clock.advance(EVERY_S)
    await noticed(browser, closing)
    clock.advance(3600)
    closed = await noticed(browser, closing)
    sandbox.state.faults.remove(trouble)
    clock.advance(EVERY_S * 2)

    assert closed == "unverified"
    assert await noticed(browser, closing) == ""


@pytest.mark.parametrize("every", [EVERY_S, 0])
async def test_close_no_longer(
    browse: Browse, closing: Gateway, make_config: MakeConfig, sandbox: Sandbox, clock: Clock, every: int
) -> None:
    """A reload to ``keep``, or without any readings, lets those in who were refused."""
    browser = browse("zhangsan", at=closing)
    await browser.open(HOME)
    sandbox.state.fault("user/get", kind="reset")
    clock.advance(EVERY_S)
    await noticed(browser, closing)
    clock.advance(3600)
    before = await noticed(browser, closing)
    await closing.reload(make_config(recheck={"every": every, "unreachable": "keep"}))

    assert before == "unverified"
    assert await noticed(browser, closing) == ""


async def test_a_pause_is_no_outage(browse: Browse, closing: Gateway, clock: Clock) -> None:
    """Whoever comes back after a night is not taken for unverified while WeCom answers."""
    browser = browse("zhangsan", at=closing)
    await browser.open(HOME)
    clock.advance(11 * 3600)

    assert await noticed(browser, closing) == ""


# ── what changes ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "change, header", [(MOVED, "X-WeCom-Departments"), ({"name": "张三丰"}, "X-WeCom-Name")], ids=["moved", "renamed"]
)
async def test_changes_arrive(
    browser: Browser, gateway: Gateway, sandbox: Sandbox, clock: Clock, change: dict[str, Any], header: str
) -> None:
    """A changed department or name: scripts are told ``stale``, the next page brings it without a visit to WeCom."""
    before = (await browser.check(HOME)).headers[header]
    sandbox.change_member("zhangsan", change)
    clock.advance(EVERY_S)
    visits = sandbox.state.count("/connect/oauth2/authorize")

    assert await noticed(browser, gateway) == "stale"
    page = await browser.open(HOME)
    assert page.status == 200
    assert page.headers[header] != before
    assert await noticed(browser, gateway) == ""
    assert sandbox.state.count("/connect/oauth2/authorize") == visits


async def test_nothing_changed(browser: Browser, gateway: Gateway, sandbox: Sandbox, clock: Clock) -> None:
    """A member of whom nothing changed never hears of the readings."""
    for _ in range(10):
        clock.advance(EVERY_S)
        assert await noticed(browser, gateway) == ""

    assert (counted(gateway, "ok"), counted(gateway, "stale")) == (10, 0)


async def test_every_device(browser: Browser, browse: Browse, gateway: Gateway, sandbox: Sandbox, clock: Clock) -> None:
    """Another device that was not in use when the member was read learns of the change with its first request."""
    phone = browse("zhangsan")
    await phone.open(HOME)
    sandbox.change_member("zhangsan", MOVED)
    clock.advance(EVERY_S)
    await noticed(browser, gateway)
    await browser.open(HOME)

    assert await noticed(phone, gateway) == "stale"
    assert (await phone.open(HOME)).headers["X-WeCom-Departments"].split(",")[0] == "7"


async def test_an_old_tab_is_no_new_change(browser: Browser, gateway: Gateway, sandbox: Sandbox, clock: Clock) -> None:
    """A tab that goes on asking with what is stale does not make the others stale again."""
    old = browser.session(HOME)
    sandbox.change_member("zhangsan", MOVED)
    clock.advance(EVERY_S)
    await noticed(browser, gateway)
    await browser.open(HOME)
    for _ in range(3):
        clock.advance(EVERY_S)
        await browser.check(HOME, "fetch", cookie=f"{SESSION}={old}")
        assert await noticed(browser, gateway) == ""

    assert counted(gateway, "stale") == 1


async def test_two_changes_within_a_second(browser: Browser, gateway: Gateway, sandbox: Sandbox, clock: Clock) -> None:
    """A second change in the second of the first is not answered with what was read for the first."""
    clock.advance(EVERY_S)
    gateway.live.now.standing.outdate("zhangsan", clock())
    sandbox.change_member("zhangsan", MOVED)
    first = await browser.open(HOME)
    clock.advance(0.2)
    sandbox.change_member("zhangsan", {"department": [6], "order": [0], "is_leader_in_dept": [0]})
    gateway.live.now.standing.outdate("zhangsan", clock())

    again = await verdict(browser)
    second = await browser.open(HOME)

    assert (first.headers["X-WeCom-Departments"][0], again, second.headers["X-WeCom-Departments"][0]) == ("7", "stale", "6")


# ── several processes ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def second(gateway: Gateway, start: Start, make_config: MakeConfig) -> Gateway:
    """Another process with the same ledger."""
    return await start(make_config(recheck={"every": EVERY_S}))


@pytest.fixture
def there(browser: Browser, browse: Browse, second: Gateway) -> Browser:
    """The same member, answered by the other process."""
    there = browse(at=second)
    there.set_session(HOME, browser.session(HOME))
    return there


async def soon(browser: Browser, reason: str, within_s: float = 1) -> None:
    """What one process stores, the other obeys within a second."""

    async def is_told() -> bool:
        return await verdict(browser) == reason

    await within(within_s, is_told)


async def test_one_process_reads(
    browser: Browser, there: Browser, gateway: Gateway, second: Gateway, sandbox: Sandbox, clock: Clock
) -> None:
    """Each member is read by one of the processes, and each process knows of it."""
    for _ in range(3):
        clock.advance(EVERY_S)
        await verdict(browser)
        await verdict(there)
        await asyncio.gather(gateway.recheck.look(), second.recheck.look())
        clock.advance(60)
        await noticed(there, second)
        await noticed(browser, gateway)
    assert reads(sandbox) == 1 + 3
    assert (await verdict(there, "document"), await verdict(browser, "document")) == ("renew", "renew")  # half an hour is over


async def test_a_leaver_everywhere(browser: Browser, there: Browser, gateway: Gateway, sandbox: Sandbox, clock: Clock) -> None:
    """What one process finds, the other obeys within a second."""
    sandbox.change_member("zhangsan", {"status": 2})
    clock.advance(EVERY_S)
    await noticed(browser, gateway)

    await soon(there, "revoked")


async def test_a_change_everywhere(
    browser: Browser, there: Browser, gateway: Gateway, second: Gateway, sandbox: Sandbox, clock: Clock
) -> None:
    """A change that one process finds makes the session stale at the other, and what the other renews opens at both."""
    sandbox.change_member("zhangsan", MOVED)
    clock.advance(EVERY_S)
    await noticed(browser, gateway)
    await soon(there, "stale")

    page = await there.open(HOME)
    browser.set_session(HOME, there.session(HOME))

    assert (page.status, page.headers["X-WeCom-Departments"][0], await verdict(browser)) == (200, "7", "")


async def test_revoked_elsewhere_while_a_renewal_waits(
    browser: Browser, there: Browser, second: Gateway, sandbox: Sandbox, clock: Clock
) -> None:
    """A revocation by another process between the reading and the signing of a renewal ends the renewed session as well."""
    clock.advance(EVERY_S)
    sandbox.state.fault("user/get", kind="slow", seconds=1, times=1)
    coming = asyncio.create_task(browser.get(HOME))
    while not sandbox.state.counters.running.get("user/get"):
        await asyncio.sleep(0)
    await second.live.now.ledger.append(Record("revoked", clock(), member="zhangsan", reason="by an operator"))
    await coming

    await soon(browser, "revoked")


async def test_the_store_is_away(
    browser: Browser, gateway: Gateway, sandbox: Sandbox, clock: Clock, tmp_path: Path, caplog: Any
) -> None:
    """A leaver found while nothing can be stored is refused here at once, and told to the others as soon as that is possible."""
    sandbox.change_member("zhangsan", {"status": 2})
    clock.advance(EVERY_S)
    lock = sqlite3.connect(tmp_path / "ledger.sqlite3", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")

    assert await noticed(browser, gateway) == "revoked"
    lock.execute("ROLLBACK")
    lock.close()
    await until(lambda: not gateway.live.now.ledger.queued)
    assert "revoked zhangsan: in force here, not stored yet" in caplog.text


async def test_found_as_the_gateway_ends(
    browser: Browser, gateway: Gateway, start: Start, make_config: MakeConfig, sandbox: Sandbox, clock: Clock, tmp_path: Path
) -> None:
    """A leaver found in the moment in which the gateway ends is stored all the same."""
    sandbox.change_member("zhangsan", {"status": 2})
    clock.advance(EVERY_S)
    await verdict(browser)
    lock = sqlite3.connect(tmp_path / "ledger.sqlite3", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    looking = asyncio.create_task(gateway.recheck.look())
    while not await verdict(browser):
        await asyncio.sleep(0.01)
    looking.cancel()
    await asyncio.wait((looking,))
    lock.execute("ROLLBACK")
    lock.close()
    await until(lambda: not gateway.live.now.ledger.queued)
    later = await start(make_config())

    assert later.live.now.standing.ended(gateway.live.now.sessions.genuine(browser.session(HOME))) == "revoked"


# ── clocks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("jump_s", [-3600, -86400, 3600])
async def test_a_clock_set_anew(browser: Browser, gateway: Gateway, sandbox: Sandbox, clock: Clock, jump_s: float) -> None:
    """After the clock was set back or forth nobody is signed out by it, and a leaver is found within the interval."""
    clock.advance(EVERY_S)
    await noticed(browser, gateway)
    clock.advance(jump_s)
    after = await noticed(browser, gateway)
    sandbox.change_member("zhangsan", {"status": 2})
    clock.advance(EVERY_S)

    assert after == ""
    assert await noticed(browser, gateway) == "revoked"


@pytest.mark.parametrize("apart_s", [5, -5])
async def test_two_machines_clocks(
    browser: Browser, browse: Browse, make_config: MakeConfig, sandbox: Sandbox, clock: Clock, apart_s: int
) -> None:
    """With clocks 5 s apart a revocation and a change by either machine hold on both, and a new reading and sign-in cure them."""
    async with Gateway(make_config(recheck={"every": EVERY_S}), clock=lambda: clock() + apart_s) as other:
        there = browse("zhangsan", at=other)
        await there.open(HOME)
        browser.set_session(HOME, there.session(HOME))
        clock.advance(EVERY_S)
        sandbox.change_member("zhangsan", MOVED)
        await noticed(there, other)
        await soon(browser, "stale")
        page = await browser.open(HOME)
        there.set_session(HOME, browser.session(HOME))
        cured = await verdict(there), await verdict(browser)

        sandbox.change_member("zhangsan", {"status": 2})
        clock.advance(EVERY_S + 10)  # a reading holds until then by the clock of the machine that did it
        await noticed(there, other)  # if the other machine is not just reading the member: then it is that reading, and a second
        await soon(there, "revoked", within_s=10)
        await soon(browser, "revoked")
        gone = await verdict(there)

    assert (page.headers["X-WeCom-Departments"][0], cured, gone) == ("7", ("", ""), "revoked")


# ── how many, and too many at once ─────────────────────────────────────────────────────────────────────────────────


class Crowd:
    """Many members with a session each, without a sign-in for each."""

    def __init__(self, gateway: Gateway, sandbox: Sandbox, browser: Browser, size: int) -> None:
        self.gateway = gateway
        self._sandbox = sandbox
        self._changes = Changes(sandbox.state, sandbox.outbox.send)
        self._browser = browser
        self.members = [f"member{number:03}" for number in range(size)]
        for user_id in self.members:
            self._changes.put_member(user_id, {"department": [6]})
        self._cookies: dict[str, str] = {}

    async def sit_down(self) -> Crowd:
        parts = self.gateway.live.now
        for user_id in self.members:
            member = await admission.read(parts, user_id)
            placed = await parts.directory.placed(member)
            session = admission.new_session(parts, member, placed, site="default", began=parts.clock())
            self._cookies[user_id] = f"{SESSION}={parts.sessions.seal(session)}"
        self._sandbox.state.requests.clear()
        return self

    async def refused(self, *, look: bool = True) -> list[str]:
        """Who is refused, after each asked once and the background had its turn."""
        if look:
            await asyncio.gather(*(self._ask(user_id) for user_id in self.members))
            await self.gateway.recheck.look()
        answers = await asyncio.gather(*(self._ask(user_id) for user_id in self.members))
        return [user_id for user_id, status in zip(self.members, answers, strict=True) if status != 204]

    async def _ask(self, user_id: str) -> int:
        return (await self._browser.check(HOME, "fetch", cookie=self._cookies[user_id])).status

    def leave(self, members: list[str]) -> None:
        for user_id in members:
            self._changes.change_member(user_id, {"status": 2})

    def come_back(self, members: list[str]) -> None:
        for user_id in members:
            self._changes.change_member(user_id, {"status": 1})


@pytest.fixture
async def crowd(gateway: Gateway, sandbox: Sandbox, browse: Browse) -> Crowd:
    return await Crowd(gateway, sandbox, browse(), 40).sit_down()


async def test_at_most_so_many_a_minute(
    start: Start, make_config: MakeConfig, sandbox: Sandbox, browse: Browse, clock: Clock
) -> None:
    """WeCom is asked no more than ``recheck.per_minute`` times a minute, and everybody's turn comes all the same."""
    gateway = await start(make_config(recheck={"every": EVERY_S, "per_minute": 20}))
    crowd = await Crowd(gateway, sandbox, browse(at=gateway), 40).sit_down()
    clock.advance(EVERY_S)
    await crowd.refused()
    at_once = reads(sandbox)
    for _ in range(60):
        clock.advance(1)
        await gateway.recheck.look()
    in_a_minute = reads(sandbox) - at_once
    for _ in range(60):
        clock.advance(1)
        await gateway.recheck.look()

    assert (at_once, in_a_minute, reads(sandbox)) == (2, 20, 40)


async def test_some_leave(crowd: Crowd, clock: Clock) -> None:
    """Nineteen at once may leave without anybody having to confirm it."""
    crowd.leave(crowd.members[:19])
    clock.advance(EVERY_S)

    assert await crowd.refused() == crowd.members[:19]
    assert await problems(crowd.gateway) == ""


async def test_too_many_leave(crowd: Crowd, browser: Browser, clock: Clock, caplog: Any) -> None:
    """From the twentieth on they are held: they keep their access, and the log, ``/readyz`` and the metric say so."""
    crowd.leave(crowd.members[:30])
    clock.advance(EVERY_S)
    refused = await crowd.refused()
    held = crowd.gateway.live.now.hold.members
    gauge = crowd.gateway.live.now.telemetry.registry.get_sample_value("wecom_gateway_recheck_held")

    assert (len(refused), len(held), gauge) == (19, 11, 11)
    assert set(refused) | set(held) == set(crowd.members[:30])
    assert "WeCom says that 11 more members are gone" in await problems(crowd.gateway)
    assert caplog.text.count("re-check held") == 1


async def test_held_at_a_page_too(crowd: Crowd, browser: Browser, browse: Browse, sandbox: Sandbox, clock: Clock) -> None:
    """While leavers are held, whoever opens a page after a pause is held as well, and keeps working."""
    crowd.leave(crowd.members[:30])
    sandbox.change_member("zhangsan", {"status": 2})
    clock.advance(EVERY_S)
    await crowd.refused()

    page = await browser.open(HOME)

    assert page.status == 200
    assert "zhangsan" in crowd.gateway.live.now.hold.members


async def test_every_process_holds(crowd: Crowd, second: Gateway, clock: Clock, sandbox: Sandbox, browse: Browse) -> None:
    """The other process knows who is held, and holds who is gone as well."""
    crowd.leave(crowd.members)
    clock.advance(EVERY_S)
    await crowd.refused()
    await within(1, lambda: len(second.live.now.hold.members) == 21)

    assert "held" in await problems(second)


async def test_unsubscribe_is_never_held(crowd: Crowd, clock: Clock) -> None:
    """What WeCom tells by itself, of each member by name, is no mistake in bulk: it ends access however many there are."""
    crowd.leave(crowd.members)
    clock.advance(EVERY_S)
    before = await crowd.refused()
    ledger = crowd.gateway.live.now.ledger
    await ledger.append(*(Record("revoked", clock(), member=name, reason="unsubscribe") for name in crowd.members))

    assert len(before) == 19
    assert await crowd.refused(look=False) == crowd.members
    assert await problems(crowd.gateway) == ""


async def test_who_comes_back_is_not_held(crowd: Crowd, clock: Clock) -> None:
    """When WeCom says that they are here after all, nobody has to decide."""
    crowd.leave(crowd.members[:30])
    clock.advance(EVERY_S)
    before = await crowd.refused()
    crowd.come_back(crowd.members)
    clock.advance(EVERY_S)

    assert await crowd.refused() == before
    assert await problems(crowd.gateway) == ""


# ── the operator decides ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def command(make_config: MakeConfig, tmp_path: Path) -> Callable[..., Awaitable[tuple[int, str]]]:
    """Run ``wecom-gateway recheck …`` with the gateway's settings, as a process of its own; its status and output."""
    config = make_config()
    lines = [
        *(f'corp_id = "{config.corp_id}"', f"agent_id = {config.agent_id}", 'app_secret = "s"', f'signing_key = "{"k" * 43}"'),
        *('public_url = "http://localhost:8080"', f'store = "{config.store}"'),
    ]
    (tmp_path / "gateway.toml").write_text("\n".join(lines), "utf-8")

    async def run(*arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "recheck", *arguments, "--config", str(tmp_path / "gateway.toml")),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode()

    return run


Command = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
async def held(crowd: Crowd, clock: Clock) -> Crowd:
    """Thirty have left; nineteen are refused, eleven are held."""
    crowd.leave(crowd.members[:30])
    clock.advance(EVERY_S)
    assert len(await crowd.refused()) == 19
    return crowd


async def decided(crowd: Crowd, left: int) -> None:
    """The running gateway hears of it within a second."""
    await within(1, lambda: len(crowd.gateway.live.now.hold.members) == left)


async def test_confirm(held: Crowd, command: Command) -> None:
    """``confirm`` ends the access of all who are held, on every process, and nobody else's."""
    status, said = await command("held", "--json")
    assert (status, json.loads(said)) == (0, sorted(held.gateway.live.now.hold.members))
    status, said = await command("confirm")
    await decided(held, 0)

    assert (status, said.splitlines()[0]) == (0, "11 gone: every session of theirs is over")
    assert await held.refused(look=False) == held.members[:30]
    assert await command("held") == (0, "nobody is held\n")


async def test_confirm_one(held: Crowd, command: Command) -> None:
    """``confirm MEMBER`` decides about that member only; a member who is not held is an error."""
    first = sorted(held.gateway.live.now.hold.members)[0]
    status, _ = await command("confirm", first.upper())
    await decided(held, 10)
    wrong, said = await command("confirm", "nobody")

    assert (status, wrong, "not held: nobody" in said) == (0, 1, True)
    assert len(await held.refused(look=False)) == 20


async def test_release(held: Crowd, command: Command, clock: Clock) -> None:
    """``release`` lets them stay; while WeCom still says that they are gone they are held again, not refused."""
    before = await held.refused(look=False)
    status, said = await command("release")
    await decided(held, 0)
    quiet = await problems(held.gateway)
    clock.advance(EVERY_S)

    assert (status, "11 released" in said, quiet) == (0, True, "")
    assert await held.refused() == before
    assert len(held.gateway.live.now.hold.members) == 11


async def test_nobody_to_decide_about(gateway: Gateway, command: Command) -> None:
    """With nobody held ``confirm`` and ``release`` are exit status 1."""
    assert await command("confirm") == (1, "Error: nobody is held\n")
    assert await command("release") == (1, "Error: nobody is held\n")


async def test_a_mistake_of_ours_does_not_end_it(
    gateway: Gateway, browser: Browser, sandbox: Sandbox, clock: Clock, caplog: Any
) -> None:
    """A record that makes no sense in the ledger breaks neither the gateway nor the readings."""
    with caplog.at_level(logging.ERROR):
        await gateway.live.now.ledger.append(Record("held", clock(), details={"members": 7}), Record("released", clock()))
    sandbox.change_member("zhangsan", {"status": 2})
    clock.advance(EVERY_S)

    assert await noticed(browser, gateway) == "revoked"
