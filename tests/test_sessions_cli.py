"""Who is signed in, and the end of it: the ``sessions`` verbs against a running gateway, and the link for when WeCom is down."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.cli.table import table, width
from gateway.history import client
from gateway.ledger.sqlite import SqliteStore
from gateway.loading import load
from gateway.records import Record
from gateway.session import LONGEST_S
from tests.browser_double import Browser
from tests.conftest import DESKTOP_UA, WECOM_UA
from tests.machine import Machine, machine_in
from tests.patience import PATIENCE_S, within

HOME = "http://localhost:8080/"
WIKI = "http://wiki.internal/"
DAY_S = 86400
SESSION = "wecom_session_8080"


class Desk:
    """An operator at a machine with a running gateway."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        """Give a command; its exit status, output and errors."""
        command = [sys.executable, "-m", "gateway", *arguments, "--config", str(self.machine.file)]
        pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
        process = await asyncio.create_subprocess_exec(*command, **pipes)
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    async def listed(self, *arguments: str) -> list[dict[str, Any]]:
        status, out, err = await self.run("sessions", "list", "--json", *arguments)
        assert (status, err) == (0, "")
        found: list[dict[str, Any]] = json.loads(out)
        return found

    async def signed_in(self, member: str) -> Browser:
        browser = self.machine.browser(member)
        assert (await browser.open(HOME)).status == 200
        return browser


@pytest.fixture
async def idle(tmp_path: Path) -> AsyncIterator[Desk]:
    """No gateway runs."""
    async with machine_in(tmp_path) as machine:
        yield Desk(machine)


@pytest.fixture
async def desk(idle: Desk) -> Desk:
    await idle.machine.running()
    return idle


async def refused(browser: Browser) -> str:
    """The reason that the check gives as soon as it refuses: within a second."""

    async def is_refused() -> bool:
        return (await browser.check(HOME)).status != 204

    await within(1, is_refused)
    return (await browser.check(HOME)).headers["X-WeCom-Reason"]


async def test_list_says_who_when_where_and_with_what(desk: Desk) -> None:
    """Each sign-in is listed with member, name, site, address, browser and how, for people and for scripts."""
    before = int(time.time())
    browser = await desk.signed_in("zhangsan")
    (found,) = await desk.listed()
    status, out, _ = await desk.run("sessions", "list")

    assert {key: found[key] for key in ("member", "name", "site", "address", "browser", "how", "state")} == {
        "member": "zhangsan", "name": "张三", "site": "default", "address": browser.address,
        "browser": WECOM_UA, "how": "wecom", "state": "live",
    }  # fmt: skip
    assert before <= found["signed_in"] <= time.time()
    assert found["ends"] - found["signed_in"] == pytest.approx(12 * 3600, abs=PATIENCE_S)
    heading, line = out.splitlines()
    assert status == 0
    assert re.search(r"zhangsan +张三 +default +10\.0\.0\.9 +WeCom 4\.1 iPhone +wecom +live until ", line)
    assert line.endswith(found["session"])
    assert width(heading[: heading.index("SITE")]) == width(line[: line.index("default")])


async def test_list_is_narrowed(desk: Desk) -> None:
    """By member (in any letter case), site, age, and to those that still let somebody in."""
    await desk.signed_in("zhangsan")
    lisi = await desk.signed_in("lisi")
    await lisi.post(f"{HOME}_wecom/logout")

    narrowed = ("", "--member LISI", "--site default", "--site other", "--live", "--since 0", "--since 200d")
    members = [" ".join(each["member"] for each in await desk.listed(*options.split())) for options in narrowed]

    assert members == ["zhangsan lisi", "lisi", "zhangsan lisi", "", "zhangsan", "", "zhangsan lisi"]
    assert [each["state"] for each in await desk.listed()] == ["live", "signed-out"]


async def test_list_goes_back_as_far_as_the_ledger(idle: Desk) -> None:
    """Sign-ins are listed for 200 days, expired ones too; what is older goes by itself, the chain is whole, a block stays."""
    now, store = time.time(), SqliteStore(idle.machine.file.parent / "ledger.sqlite3", time.time)
    ages = {"oldest": 230, "old": 201, "young": 199}
    await store.open()
    await store.append([Record("blocked", now - 230 * DAY_S, member="blocked")])
    await store.append([Record("signed-in", now - age * DAY_S, name, f"id-{name}", "default") for name, age in ages.items()])
    await store.append([Record("stale", now, "young")])
    await store.close()
    assert [each["member"] for each in await idle.listed("--since", "300d")] == ["oldest", "old", "young"]
    process = await idle.machine.running()
    await process.says("older than `retention` dropped")

    assert [(each["member"], each["state"]) for each in await idle.listed("--since", "300d")] == [("young", "expired")]
    assert (await idle.run("ledger", "verify"))[0] == 0
    assert (await idle.run("sessions", "unblock", "--member", "blocked"))[0] == 0


async def test_revoke_a_session(desk: Desk) -> None:
    """One session ends within a second of the command, its member's other one does not."""
    first, second = await desk.signed_in("zhangsan"), await desk.signed_in("zhangsan")
    one, other = await desk.listed()
    status, out, _ = await desk.run("sessions", "revoke", one["session"], "--reason", "lost phone")

    assert (status, out) == (0, f"revoked: {one['session']}, 1 live session\n")
    assert await refused(first) == "revoked"
    assert (await second.check(HOME)).status == 204
    assert [(each["session"], each["state"]) for each in await desk.listed()] == [
        (one["session"], "revoked"), (other["session"], "live"),
    ]  # fmt: skip
    _, shown, _ = await desk.run("ledger", "show", "--member", "zhangsan", "--kind", "revoked")
    assert f"session={one['session']}" in shown


@pytest.mark.parametrize("which", ["handed over", "at the callback host"])
async def test_revoke_all_that_a_browser_got_by_one_sign_in(idle: Desk, which: str) -> None:
    """A session ends with those of the same sign-in at other sites: else the one at the callback host would give the next."""
    text = idle.machine.file.read_text("utf-8").replace('public_url = "http://localhost:8080"', "")
    sites = 'site = [{name = "oa", public_url = "http://localhost:8080"}, {name = "wiki", public_url = "http://wiki.internal"}]'
    idle.machine.file.write_text(f"{sites}\n{text}", "utf-8")
    await idle.machine.running()
    browser, other = idle.machine.browser("zhangsan"), idle.machine.browser("zhangsan")
    for each in (browser, other):
        each.sites = {"localhost:8080": "oa", "wiki.internal": "wiki"}
        assert (await each.open(WIKI)).status == 200
    theirs, handed = await idle.listed("--site", "oa"), await idle.listed("--site", "wiki")
    revoked = handed[0] if which == "handed over" else theirs[0]
    status, out, _ = await idle.run("sessions", "revoke", revoked["session"])

    assert (status, out) == (0, f"revoked: {revoked['session']}, 2 live sessions\n")
    assert await refused(browser) == "revoked"
    assert (await browser.check(WIKI)).headers["X-WeCom-Reason"] == "revoked"
    assert [(await other.check(url)).status for url in (HOME, WIKI)] == [204, 204]


@pytest.mark.parametrize("scope", [("--member", "ZhangSan"), ("--site", "default")], ids=["member", "site"])
async def test_revoke_many(desk: Desk, scope: tuple[str, str]) -> None:
    """All of a member's sessions end, or all of a site's; whoever may can sign in again at once."""
    browsers = [await desk.signed_in("zhangsan"), await desk.signed_in("zhangsan")]
    colleague = await desk.signed_in("lisi")
    status, out, _ = await desk.run("sessions", "revoke", *scope)

    assert (status, out.split(",")[1][:2]) == (0, " 2" if scope[0] == "--member" else " 3")
    assert [await refused(browser) for browser in browsers] == ["revoked", "revoked"]
    assert (await colleague.check(HOME)).status == (204 if scope[0] == "--member" else 401)
    assert (await browsers[0].open(HOME)).status == 200


@pytest.mark.parametrize("scope", [("--member", "zhangsan"), ("--site", "default"), ("",)], ids=["member", "site", "session"])
async def test_revoke_after_the_clock_was_set_back(idle: Desk, scope: tuple[str, ...]) -> None:
    """A session from the future, begun while the clock was wrong by a day, ends like any other, to the end of its days."""
    async with Gateway(load(idle.machine.file), clock=lambda: time.time() + DAY_S):
        browser = await idle.signed_in("zhangsan")
    await idle.machine.running()
    assert (await browser.check(HOME)).status == 204
    (found,) = await idle.listed()
    status, out, _ = await idle.run("sessions", "revoke", *([found["session"]] if scope == ("",) else scope))

    assert (status, out.partition(", ")[2]) == (0, "1 live session\n")
    assert await refused(browser) == "revoked"
    _, shown, _ = await idle.run("ledger", "show", "--json", "--kind", "revoked")
    until = json.loads(shown.splitlines()[-1])["details"]["until"]
    assert until > found["signed_in"] + LONGEST_S - PATIENCE_S  # the session is issued a moment before its entry is made


async def test_block_until_unblocked(desk: Desk) -> None:
    """A blocked member's session ends, a page says so, no sign-in helps, until the member is unblocked."""
    browser = await desk.signed_in("zhangsan")
    assert (await desk.run("sessions", "revoke", "--member", "zhangsan", "--block"))[0] == 0
    reason = await refused(browser)
    page = await browser.get(HOME)
    again = await browser.open(HOME)
    elsewhere = await desk.machine.browser("zhangsan").open(HOME)
    unblocked = await desk.run("sessions", "unblock", "--member", "zhangsan")
    twice = await desk.run("sessions", "unblock", "--member", "zhangsan")
    async with asyncio.timeout(PATIENCE_S):
        while (last := await desk.machine.browser("zhangsan").open(HOME)).status == 403:
            await asyncio.sleep(0.05)

    assert reason == "blocked"
    assert (page.status, page.reason) == (403, "blocked")
    assert page.cookies_set[SESSION] == ""
    assert (again.status, again.reason) == (elsewhere.status, elsewhere.reason) == (403, "blocked")
    assert (unblocked[0], twice[0], last.status) == (0, 1, 200)
    assert "is not blocked" in twice[2]


@pytest.mark.parametrize(
    "arguments, status, says",
    [
        (("revoke",), 2, "one of SESSION, --member and --site"),
        (("revoke", "x", "--member", "y"), 2, "one of SESSION, --member and --site"),
        (("revoke", "--site", "default", "--block"), 2, "--block goes with --member"),
        (("revoke", "mistyped"), 1, "no session mistyped in the ledger"),
        (("revoke", "--site", "intranet"), 1, "no site is named intranet; there are: default"),
        (("issue", "--member", "x", "--reason", "y", "--site", "intranet"), 1, "there are: default"),
        (("issue", "--member", "x", "--reason", "y", "--minutes", "1441"), 2, "1441"),
        (("issue", "--member", "x"), 2, "--reason"),
        (("list", "--since", "yesterday"), 2, "a duration like"),
    ],
)
async def test_mistakes_are_told(idle: Desk, arguments: tuple[str, ...], status: int, says: str) -> None:
    """What was mistyped ends nothing, and the line says what is wrong; no gateway need run for it."""
    found = await idle.run("sessions", *arguments)

    assert (found[0], found[1]) == (status, "")
    assert says in found[2]


async def test_an_unknown_member_is_pointed_out(idle: Desk) -> None:
    """Revoking a member who is not signed in is recorded; the operator is asked whether the id is right, and this the ledger."""
    status, _, err = await idle.run("sessions", "revoke", "--member", "zhangsna", "--block")

    assert status == 0
    assert f"nobody named zhangsna is signed in, by the ledger at {idle.machine.file.parent}/ledger.sqlite3: is that" in err


async def test_not_stored_is_not_revoked(desk: Desk) -> None:
    """Where the store does not confirm, the command says so and exits with 1; the session goes on."""
    browser = await desk.signed_in("zhangsan")
    (file := desk.machine.file.parent / "ledger.sqlite3").rename(file.with_suffix(".away"))
    file.mkdir()  # nothing can be stored there, however much later the command comes
    status, out, err = await desk.run("sessions", "revoke", "--member", "zhangsan")

    assert (status, out) == (1, "")
    assert "nothing was confirmed" in err
    assert "Traceback" not in err
    assert (await browser.check(HOME)).status == 204


# ── break-glass ────────────────────────────────────────────────────────────────────────────────────────────────────


async def issued(desk: Desk, *arguments: str) -> str:
    options = arguments or ("--member", "zhangsan", "--minutes", "60")
    status, out, err = await desk.run("sessions", "issue", "--reason", "WeCom is down", *options)
    assert status == 0, err
    return out.strip()


async def test_a_link_signs_in_without_wecom(desk: Desk) -> None:
    """With WeCom down a link signs in one browser as the member, with what the last sign-in knew, and is recorded."""
    await desk.signed_in("zhangsan")
    desk.machine.sandbox.state.fault("*", kind="reset")
    url = await issued(desk)
    browser = desk.machine.browser()
    asks = await browser.page(url)
    entered = await browser.post(url)
    page = await browser.get(HOME, rule="department:6")
    me = json.loads((await browser.page(f"{HOME}_wecom/me?json", "fetch")).text)

    assert (asks.status, asks.cookies_set, "张三 (zhangsan)" in asks.text) == (200, {}, True)
    assert (entered.status, entered.location) == (303, HOME)
    assert (page.status, page.headers["X-WeCom-UserId"]) == (200, "zhangsan")
    assert me["ends"] == pytest.approx(time.time() + 3600, abs=PATIENCE_S)
    assert [(each["how"], each["state"]) for each in await desk.listed()] == [("wecom", "live"), ("break-glass", "live")]


async def test_a_link_opens_once(desk: Desk) -> None:
    """Looking at the link uses nothing up; its second use is refused, in another browser and after a restart too."""
    url = await issued(desk)
    for _ in range(2):
        assert (await desk.machine.browser().page(url)).status == 200
    first = await desk.machine.browser().post(url)
    second = await desk.machine.browser().post(url)

    assert (first.status, second.status, second.reason) == (303, 400, "break-glass")
    assert SESSION not in second.cookies_set


async def test_a_link_of_another_site_or_page(desk: Desk) -> None:
    """Another site's form does not use the link, and an invented one is refused."""
    url = await issued(desk)
    foreign = await desk.machine.browser().post(url, headers={"Sec-Fetch-Site": "cross-site"})
    invented = await desk.machine.browser().post(f"{url[:-5]}AAAAA")
    good = await desk.machine.browser().post(url)

    assert [page.status for page in (foreign, invented, good)] == [400, 400, 303]
    assert invented.reason == "break-glass"


async def test_a_link_ends_with_its_session(desk: Desk) -> None:
    """Revoking the session id that was printed, or the member, ends the link too; a blocked member gets none."""
    _, out, err = await desk.run("sessions", "issue", "--member", "lisi", "--reason", "x")
    url, own = out.strip(), err.partition("sessions revoke ")[2].split()[0]
    assert (await desk.run("sessions", "revoke", own))[0] == 0
    revoked = await eventually_refused(desk, url)
    other = await issued(desk, "--member", "lisi")
    assert (await desk.run("sessions", "revoke", "--member", "lisi", "--block"))[0] == 0
    blocked = await eventually_refused(desk, other)
    status, _, told = await desk.run("sessions", "issue", "--member", "lisi", "--reason", "x")

    assert (revoked, blocked) == ("revoked", "blocked")
    assert (status, "lisi is blocked" in told) == (1, True)


async def eventually_refused(desk: Desk, url: str) -> str:
    """The reason for which the link is refused, once the gateway has heard of something that is later in the ledger."""
    later = await desk.signed_in("zhangsan")
    await desk.run("sessions", "revoke", "--member", "zhangsan")
    await refused(later)
    return (await desk.machine.browser().post(url)).reason


async def test_a_link_for_somebody_who_may_have_left(desk: Desk) -> None:
    """Whose sessions were ended since their last sign-in gets a link, and the operator is asked; who is signed in, without."""
    await desk.signed_in("zhangsan")
    before = await desk.run("sessions", "issue", "--member", "zhangsan", "--reason", "x")
    await desk.run("sessions", "revoke", "--member", "zhangsan")
    status, _, told = await desk.run("sessions", "issue", "--member", "zhangsan", "--reason", "x")

    assert (status, "are they still with the company?" in told) == (0, True)
    assert "still with the company" not in before[2]


async def test_a_member_nobody_knows(desk: Desk) -> None:
    """Of a member who never signed in only the id is known: a bare location opens, a department does not, and it is said."""
    _, out, err = await desk.run("sessions", "issue", "--member", "lisi", "--reason", "x", "--minutes", "1")
    browser = desk.machine.browser()
    await browser.post(out.strip())
    bare, ruled = await browser.check(HOME), await browser.check(HOME, rule="department:3")

    assert "knows nothing of this member" in err
    assert (bare.status, ruled.status) == (204, 403)


# ── how it looks ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_columns_stand_in_line() -> None:
    """Chinese characters count as two, what would steer a terminal is shown as a question mark, nothing as a dash."""
    lines = table(("NAME", "SITE"), [("张三", "a"), ("Sam\x1b[31m", "b"), ("", "c")])

    assert lines == ["NAME      SITE", "张三      a", "Sam?[31m  b", "-         c"]


@pytest.mark.parametrize(
    "user_agent, shown",
    [
        (WECOM_UA, "WeCom 4.1 iPhone"),
        (DESKTOP_UA, "Chrome 131 Linux"),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/131.0 Safari/537.36 Edg/131.0", "Edge 131 Windows"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 14) AppleWebKit/605 Version/18.1 Safari/605", "Safari 18 Macintosh"),
        ("curl/8.5.0", "curl/8.5.0"),
        ("", ""),
    ],
)
def test_browsers_have_names(user_agent: str, shown: str) -> None:
    """A browser is called as a person would; what is unknown is shown as it is, cut."""
    assert client(user_agent) == shown
