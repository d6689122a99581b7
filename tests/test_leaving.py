"""Somebody leaves the company: their access ends on every one of four processes, and their colleague's does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.browser_double import Browser
from tests.machine import LISTENERS, Machine, machine_in
from tests.patience import until, within

HOME = "http://localhost:8080/"
EVERY_S = 10
TOKEN, AES_KEY = "QDG6eK", "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    """Four processes on one store; ``machine.listen`` is the first one's."""
    async with machine_in(tmp_path) as machine:
        machine.write(more=f'recheck.every = "{EVERY_S}s"\nevents.token = "{TOKEN}"\nevents.aes_key = "{AES_KEY}"')
        await asyncio.gather(*(running(machine, number) for number in range(1, 5)))
        yield machine


async def running(machine: Machine, number: int) -> None:
    names = {name: f"WECOM_GATEWAY_LISTEN_{name.upper()}" for name in LISTENERS}
    await machine.running({variable: at(machine, number)[name] for name, variable in names.items()})


def at(machine: Machine, number: int) -> dict[str, str]:
    return {name: address.replace("127.0.0.1", f"127.0.0.{number}") for name, address in machine.listen.items()}


async def everywhere(machine: Machine, member: str) -> list[Browser]:
    """One browser of *member*, signed in at the first process, as each of the four meets it."""
    first = machine.browser(member)
    assert (await first.open(HOME)).status == 200
    browsers = [machine.browser(member) for _ in range(4)]
    for number, browser in enumerate(browsers, 1):
        browser.addresses, browser.jar = at(machine, number), dict(first.jar)
    assert [(await browser.check(HOME)).status for browser in browsers] == [204] * 4
    return browsers


async def refused(browser: Browser, within_s: float) -> str:
    """Why the browser's script is refused, asking all the time as long as it is not."""

    async def is_refused() -> bool:
        return (await browser.check(HOME, "fetch")).status != 204

    await within(within_s, is_refused)
    return (await browser.check(HOME, "fetch")).headers["X-WeCom-Reason"]


async def test_disabled_in_wecom(machine: Machine) -> None:
    """Without an event: the member's next check after the re-check is refused on each process."""
    gone, stays = await everywhere(machine, "zhangsan"), await everywhere(machine, "lisi")
    machine.sandbox.change_member("zhangsan", {"status": 2})
    reasons = await asyncio.gather(*(refused(browser, EVERY_S + 5) for browser in gone))

    assert reasons == ["revoked"] * 4
    assert [(await browser.check(HOME, "fetch")).status for browser in stays] == [204] * 4


async def test_wecom_says_so(machine: Machine) -> None:
    """With the event, sent to one process: all four refuse within a second."""
    gone, stays = await everywhere(machine, "zhangsan"), await everywhere(machine, "lisi")
    app = machine.sandbox.state.app
    app.callback_url = f"http://{machine.listen['pages']}/_wecom/events"
    app.callback_token, app.callback_aes_key = TOKEN, AES_KEY
    machine.sandbox.remove_member("zhangsan")
    await until(lambda: machine.sandbox.outbox.deliveries)
    reasons = await asyncio.gather(*(refused(browser, 1) for browser in gone))

    assert reasons == ["revoked"] * 4
    assert [(await browser.check(HOME, "fetch")).status for browser in stays] == [204] * 4
