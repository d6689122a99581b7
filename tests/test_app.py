"""The running gateway: three listeners, reload, restart, an orderly end; as a process of its own where that matters."""

from __future__ import annotations

import asyncio
import gc
import signal
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.app import AT_START, FOR_GOOD, Gateway, refuse_disabled_cache
from gateway.config import Config
from gateway.errors import ConfigError
from gateway.sandbox import Sandbox
from tests.browser_double import Browser
from tests.certificates import certificate
from tests.conftest import Clock, free_port
from tests.machine import KEY, LISTENERS, Machine, machine_in
from tests.patience import until

HOME = "http://localhost:8080/"
REPORT = "http://localhost:8080/report/7?year=2026"
SESSION = "wecom_session_8080"
NEW_KEY = "new-key-" + "n" * 32

Browse = Callable[..., Browser]
Start = Callable[[Config], Awaitable[Gateway]]
MakeConfig = Callable[..., Config]


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    async with machine_in(tmp_path) as machine:
        yield machine


# ── a process ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_restart_between_login_and_callback(machine: Machine) -> None:
    """A gateway restarted while somebody is at WeCom completes their sign-in."""
    browser, first = machine.browser(), await machine.running()
    callback = await browser.bring_code(REPORT)
    await first.signal(signal.SIGTERM)
    assert await first.ends() == 0
    await machine.running()

    page = await browser.open(callback)

    assert (page.status, page.url) == (200, f"{REPORT}#")


async def test_restart_signs_nobody_out(machine: Machine) -> None:
    """A session survives a restart."""
    browser, first = machine.browser(), await machine.running()
    await browser.open(HOME)
    await first.signal(signal.SIGTERM)
    await first.ends()
    await machine.running()

    page = await browser.get(REPORT)

    assert (page.status, page.headers["X-WeCom-UserId"]) == (200, "zhangsan")


async def test_only_what_serving_needs_is_loaded(machine: Machine) -> None:
    """A gateway with a file for its ledger loads no Redis, wherever that is installed, nor what only other verbs need."""
    process = await machine.running({"PYTHONPROFILEIMPORTTIME": "1"})

    loaded = {line.rpartition("|")[2].strip() for line in process.said if line.startswith("import time:")}
    assert {"gateway.app", "aiocache.backends.memory", "gateway.ledger.sqlite"} <= loaded
    assert find_spec("redis")
    needless = (
        "redis.",
        "gateway.ledger.redis",
        "gateway.sandbox",
        "gateway.demo",
        "gateway.issuing",
        "gateway.seat",
        "unittest",
    )
    assert [name for name in sorted(loaded) if name.startswith(needless)] == []


async def test_rotating_keys(machine: Machine) -> None:
    """A new key in front signs nobody out; the old one taken away ends its sessions at once, and only its."""
    before, process = machine.browser(), await machine.running()
    await before.open(HOME)
    machine.write(keys=(NEW_KEY, KEY))
    await process.signal(signal.SIGHUP)
    await process.says("settings reloaded")
    rotated = await before.get(HOME)
    since = machine.browser("lisi")
    await since.open(HOME)
    machine.write(keys=(NEW_KEY,))
    await process.signal(signal.SIGHUP)
    await process.says("settings reloaded")

    old, new = await before.check(HOME), await since.check(HOME)

    assert (rotated.status, new.status) == (200, 204)
    assert (old.status, old.headers["X-WeCom-Reason"]) == (401, "forged")


async def test_sign_in_across_a_rotation(machine: Machine) -> None:
    """A sign-in begun under the old key is completed under the new one."""
    browser, process = machine.browser(), await machine.running()
    callback = await browser.bring_code(REPORT)
    machine.write(keys=(NEW_KEY, KEY))
    await process.signal(signal.SIGHUP)
    await process.says("settings reloaded")

    page = await browser.open(callback)

    assert (page.status, page.url) == (200, f"{REPORT}#")


@pytest.mark.parametrize(
    "bad, says",
    [("no_such_setting = 1", "no_such_setting"), ('language = "fr"', "language"), ("= nonsense", "is not TOML")],
    ids=["unknown", "not allowed", "not TOML"],
)
async def test_bad_file_is_refused(machine: Machine, bad: str, says: str) -> None:
    """A settings file with mistakes is refused with a line that says which; the old settings stay in force."""
    browser, process = machine.browser(), await machine.running()
    await browser.open(HOME)
    machine.write(more=bad)
    await process.signal(signal.SIGHUP)

    line = await process.says("settings not reloaded")

    assert says in line
    assert (await browser.get(HOME)).status == 200


async def test_good_file_after_a_bad_one(machine: Machine) -> None:
    """The next good file is taken."""
    process = await machine.running()
    machine.write(more="no_such_setting = 1")
    await process.signal(signal.SIGHUP)
    await process.says("settings not reloaded")
    machine.write(more='contact = "it-help@example.com"')
    await process.signal(signal.SIGHUP)
    await process.says("settings reloaded")
    browser = machine.browser()
    await browser.open(HOME)

    page = await browser.get(HOME, rule="user:lisi")

    assert "it-help@example.com" in page.text


async def test_file_gone(machine: Machine) -> None:
    """A settings file that is gone changes nothing either."""
    process = await machine.running()
    machine.file.unlink()
    await process.signal(signal.SIGHUP)

    line = await process.says("settings not reloaded")

    assert str(machine.file) in line
    assert (await machine.browser().check(HOME)).status == 401


async def test_cache_must_not_be_disabled(machine: Machine) -> None:
    """With AIOCACHE_DISABLE in the environment it does not start, and says why."""
    process = await machine.serve({"AIOCACHE_DISABLE": "1"})

    status = await process.ends()

    assert status == 1
    assert "AIOCACHE_DISABLE" in "".join(process.said)
    assert "Traceback" not in "".join(process.said)


async def test_taken_port(machine: Machine) -> None:
    """A port that is taken is one clear line with the setting's name."""
    await machine.running()
    second = await machine.serve()

    status = await second.ends()

    assert status == 1
    assert f"settings: listen.ops: cannot listen on {machine.listen['ops']}" in "".join(second.said)
    assert "Traceback" not in "".join(second.said)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_orderly_end(machine: Machine, number: signal.Signals) -> None:
    """Told to end, it finishes the sign-in that waits for WeCom, answers it, and ends with 0."""
    browser, process = machine.browser(), await machine.running()
    callback = await browser.bring_code(REPORT)
    machine.sandbox.state.fault("auth/getuserinfo", kind="slow", seconds=1)
    coming = asyncio.create_task(browser.get(callback))
    await until(lambda: machine.sandbox.state.counters.running.get("auth/getuserinfo"))
    await process.signal(number)

    page = await coming
    status = await process.ends()

    assert (page.status, page.location) == (303, f"{REPORT}#")
    assert SESSION in page.cookies_set
    assert status == 0
    assert "Traceback" not in "".join(process.said)
    assert "never" not in "".join(process.said)


async def test_log_holds_no_secret(machine: Machine) -> None:
    """Neither secret nor key nor session nor code is in the log of a sign-in."""
    machine.write(more='log_level = "DEBUG"')
    browser, process = machine.browser(), await machine.running()
    callback = await browser.bring_code(REPORT)
    await browser.open(callback)
    await process.signal(signal.SIGTERM)
    await process.ends()

    log = "".join(process.said)
    hidden = [
        machine.sandbox.state.secret,
        KEY,
        browser.session(HOME),
        *machine.sandbox.state.codes,
        *machine.sandbox.state.tokens,
    ]
    assert "signed-in zhangsan" in log
    assert [text for text in hidden if text in log] == []


# ── listeners ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_unix_sockets(tmp_path: Path, start: Start, make_config: MakeConfig) -> None:
    """Each listener can be a unix socket, open to nginx's worker whoever runs it."""
    listen = {name: f"unix:{tmp_path}/{name}.sock" for name in LISTENERS}
    gateway = await start(make_config(listen=listen))
    answers = {}
    for name, path in (("check", "/_wecom/auth"), ("pages", "/_wecom/done"), ("ops", "/healthz")):
        connector = aiohttp.UnixConnector(f"{tmp_path}/{name}.sock")
        async with aiohttp.ClientSession(connector=connector) as http, http.get(f"http://localhost{path}") as answer:
            answers[name] = answer.status

    assert {stat.S_IMODE((tmp_path / f"{name}.sock").stat().st_mode) for name in LISTENERS} == {0o666}
    assert gateway.addresses == listen
    assert answers == {"check": 401, "pages": 200, "ops": 200}


async def test_taken_port_leaves_nothing(start: Start, make_config: MakeConfig) -> None:
    """A start that fails at its last listener gives the others back."""
    first = make_config()
    await start(first)
    listen = {name: f"127.0.0.1:{free_port()}" for name in ("ops", "check")}

    with pytest.raises(ConfigError, match=r"^listen\.pages: cannot listen on 127\.0\.0\.1:\d+: "):
        await start(make_config(listen={**listen, "pages": first.listen.pages}))

    assert (await start(make_config(listen=listen))).addresses["check"] == listen["check"]


@pytest.mark.parametrize("address", ["[::1]", "127.0.0.1"])
async def test_addresses(start: Start, make_config: MakeConfig, address: str) -> None:
    """IPv4 and IPv6 alike."""
    gateway = await start(make_config(listen={"ops": f"{address}:{free_port()}"}))

    async with aiohttp.ClientSession() as http, http.get(f"http://{gateway.live.now.config.listen.ops}/healthz") as answer:
        assert (answer.status, await answer.text()) == (200, "ok\n")


async def test_check_is_not_on_pages(gateway: Gateway, browse: Browse) -> None:
    """The check listener has no pages, the pages listener no check."""
    browser = browse()
    async with browser.http.get(f"http://{gateway.addresses['check']}/_wecom/done", headers={"Host": "localhost"}) as answer:
        seen = answer.status, answer.headers["X-WeCom-Reason"]
    page = await browser.page(f"{HOME}_wecom/auth", "plain")

    assert seen == (403, "bad-rule")
    assert page.status == 404


async def test_a_refused_secret_is_a_problem(gateway: Gateway, browse: Browse, sandbox: Sandbox, clock: Clock) -> None:
    """While WeCom gives no access token ``/readyz`` says what to fix, and the process stays ready; then no longer."""
    browser = browse("zhangsan")

    async def readyz() -> tuple[int, list[str]]:
        async with browser.http.get(f"http://{gateway.addresses['ops']}/readyz") as answer:
            return answer.status, (await answer.json())["problems"]

    callback = await browser.bring_code(HOME)
    sandbox.state.app.enabled = False
    refused, (status, problems) = await browser.open(callback), await readyz()
    sandbox.state.app.enabled = True
    clock.advance(60)
    cured = await browser.open(HOME)

    assert (refused.status, refused.reason, status, len(problems)) == (503, "wecom-setup", 200, 1)
    assert problems[0].startswith("gettoken: ")
    assert "; to fix: Copy the app's Secret from the admin console" in problems[0]
    assert (cured.status, await readyz()) == (200, (200, []))


async def test_ops(gateway: Gateway, browse: Browse) -> None:
    """The ops listener says that it is alive and ready, and counts answers and sign-ins by reason."""
    browser = browse("zhangsan")
    await browser.open(HOME)
    await browser.open(HOME)
    texts = {}
    for path in ("healthz", "readyz", "metrics"):
        async with browser.http.get(f"http://{gateway.addresses['ops']}/{path}") as answer:
            texts[path] = (answer.status, await answer.text())

    assert texts["healthz"] == (200, "ok\n")
    assert texts["readyz"] == (200, '{"ready": true, "sites": ["default"], "problems": []}')
    metrics = texts["metrics"][1]
    assert 'wecom_gateway_checks_total{reason="no-session",status="401"} 1.0' in metrics
    assert 'wecom_gateway_checks_total{reason="",status="204"} 2.0' in metrics
    assert 'wecom_gateway_sign_ins_total{result="ok"} 1.0' in metrics


# ── reload ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_reload_keeps_what_was_revoked(browse: Browse, gateway: Gateway, make_config: MakeConfig, clock: Clock) -> None:
    """What was revoked or signed out stays so across a reload."""
    revoked, signed_out = browse("zhangsan"), browse("lisi")
    await revoked.open(HOME)
    await signed_out.open(HOME)
    copy = signed_out.session(HOME)
    gateway.live.now.standing.revoke("zhangsan", clock())
    await signed_out.post(f"{HOME}_wecom/logout")
    await gateway.reload(make_config())

    verdicts = [await revoked.check(HOME), await signed_out.check(HOME, cookie=f"{SESSION}={copy}")]

    assert [verdict.headers["X-WeCom-Reason"] for verdict in verdicts] == ["revoked", "signed-out"]


async def test_reload_while_wecom_is_asked(browse: Browse, gateway: Gateway, make_config: MakeConfig, sandbox: Sandbox) -> None:
    """A sign-in that waits for WeCom is not lost by a reload."""
    browser = browse("zhangsan")
    callback = await browser.bring_code(REPORT)
    sandbox.state.fault("auth/getuserinfo", kind="slow", seconds=1)
    before = open_clients()
    coming = asyncio.create_task(browser.get(callback))
    await until(lambda: sandbox.state.counters.running.get("auth/getuserinfo"))
    await gateway.reload(make_config())
    meanwhile = open_clients()

    page = await coming

    assert (page.status, page.location) == (303, f"{REPORT}#")
    assert meanwhile == before + 1
    await until(lambda: open_clients() == before)
    assert (await browser.get(REPORT)).status == 200


def open_clients() -> int:
    """How many HTTP clients there are that nobody has closed."""
    return sum(isinstance(each, aiohttp.ClientSession) and not each.closed for each in gc.get_objects())


async def test_a_reload_while_members_are_read(
    make_config: MakeConfig, start: Start, browse: Browse, sandbox: Sandbox, clock: Clock
) -> None:
    """A re-check that waits for WeCom comes to its end across a reload."""
    again = {"recheck": {"every": 600}}
    gateway = await start(make_config(**again))
    browser = browse("zhangsan", at=gateway)
    await browser.open(HOME)
    sandbox.state.fault("user/get", kind="slow", seconds=1)
    sandbox.change_member("zhangsan", {"status": 2})
    clock.advance(600)
    await browser.check(HOME)
    looking = asyncio.create_task(gateway.recheck.look())
    await until(lambda: sandbox.state.counters.running.get("user/get"))
    await gateway.reload(make_config(**again))
    await looking

    assert gateway.live.now.standing.gone("zhangsan", clock() - 600)


async def test_reloads_leave_nothing_open(gateway: Gateway, make_config: MakeConfig) -> None:
    """However often settings are reloaded or refused, what they had opened is closed."""
    before = open_clients()
    for _ in range(3):
        await gateway.reload(make_config())
        with pytest.raises(ConfigError):
            await gateway.reload(make_config(rules={"it": "department:没有"}))

    await until(lambda: open_clients() == before)


async def test_a_refused_reload_changes_no_pace(gateway: Gateway, make_config: MakeConfig) -> None:
    """Settings that are refused for a name in a rule have changed nothing, the pace of the re-check included."""
    with pytest.raises(ConfigError):
        await gateway.reload(make_config(rules={"it": "department:没有"}, recheck={"every": 60}))
    refused = gateway.live.now.watch.every_s
    await gateway.reload(make_config(recheck={"every": 60}))

    assert (refused, gateway.live.now.watch.every_s) == (0, 60)


OTHER: dict[str, Any] = {
    "corp_id": "ww" + "f" * 16,
    "agent_id": 1000099,
    "store": "sqlite:////tmp/another/ledger.sqlite3",
    "listen": {"check": "127.0.0.1:9"},
    "retention": "300d",
    "syslog": "tcp://127.0.0.1:9",
    "syslog_ca_file": "server.pem",
    "log_level": "ERROR",
}


@pytest.mark.parametrize("name", FOR_GOOD)
async def test_what_the_ledger_goes_by(gateway: Gateway, make_config: MakeConfig, browse: Browse, name: str) -> None:
    """Another company, app or ledger is refused at a reload, with the setting's name and what to do; the old stay in force."""
    browser, before = browse("zhangsan"), gateway.live.now
    await browser.open(HOME)

    with pytest.raises(ConfigError, match=f"^{name}: .*restart"):
        await gateway.reload(make_config(**{name: OTHER[name]}))

    assert gateway.live.now is before
    assert (await browser.check(HOME)).status == 204


@pytest.mark.parametrize("name", AT_START)
async def test_what_waits_for_a_restart(
    gateway: Gateway, make_config: MakeConfig, browse: Browse, name: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """What is looked at once does not change by a reload; the log says so at each, until it is as it was at the start."""
    addresses, listen = dict(gateway.addresses), gateway.live.now.config.listen
    as_it_was = {"listen": {each: str(getattr(listen, each)) for each in LISTENERS}}
    other = str(certificate(tmp_path)) if name == "syslog_ca_file" else OTHER[name]
    for _ in range(2):
        await gateway.reload(make_config(**as_it_was | {name: other}))
    await gateway.reload(make_config(**as_it_was))

    assert caplog.text.count(f"{name}: what is new there takes effect at the next start") == 2
    assert gateway.addresses == addresses
    assert (await browse().check(HOME)).status == 401


@pytest.mark.parametrize(
    "change", [{"ca_file": "/no/such/bundle.pem"}, {"ca_file": "/etc/hostname"}], ids=["absent", "no bundle"]
)
async def test_bad_ca_file(gateway: Gateway, make_config: MakeConfig, change: dict[str, Any], browse: Browse) -> None:
    """A CA bundle that cannot be used is a mistake with the setting's name, and the old settings stay."""
    before = gateway.live.now

    with pytest.raises(ConfigError, match=r"^wecom\.ca_file: "):
        await gateway.reload(make_config(wecom=change))

    assert gateway.live.now is before


@pytest.mark.parametrize(
    "environment, refused", [({"AIOCACHE_DISABLE": ""}, True), ({"AIOCACHE_DISABLE": "0"}, True), ({}, False)]
)
def test_refuse_disabled_cache(environment: dict[str, str], refused: bool) -> None:
    """Whatever its value: aiocache looks only whether it is set."""
    if refused:
        with pytest.raises(ConfigError, match="AIOCACHE_DISABLE"):
            refuse_disabled_cache(environment)
    else:
        assert refuse_disabled_cache(environment) is None  # type: ignore[func-returns-value]
