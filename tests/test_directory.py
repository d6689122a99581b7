"""Departments and tags: read when needed, kept while WeCom is down, and never the reason that somebody is let in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiocache import SimpleMemoryCache
from aiocache.base import BaseCache

from gateway.app import Gateway
from gateway.config import Config
from gateway.criteria import read_rules
from gateway.directory import RETRY_S, Directory, Shared
from gateway.errors import ConfigError, Denied, SignInNeeded
from gateway.member import Member
from gateway.names import Resolved
from gateway.records import Record
from gateway.rules import Rules, check
from gateway.sandbox import Sandbox
from gateway.sandbox.faults import Fault
from gateway.sandbox.organisation import SECRET
from gateway.sandbox.state import Department, Tag
from gateway.secret import Secret
from gateway.session import Session
from gateway.snapshot import Placed, Snapshot
from gateway.telemetry import Telemetry
from gateway.wecom import App, Endpoints, WeCom
from tests.browser_double import Browser
from tests.conftest import Clock, free_port
from tests.patience import in_time, until

HOME = "http://localhost:8080/"
LISI = Member("lisi", departments=(3,))
ZHANGSAN = Member("zhangsan", departments=(6,))
BRIEF, LISTED = "department/simplelist", "department/list"

Browse = Callable[..., Browser]
MakeConfig = Callable[..., Config]
Make = Callable[..., Directory]
Start = Callable[[Config], Awaitable[Gateway]]


def rules_of(table: dict[str, Any] | None = None, *tags: int | str) -> Rules:
    named, problems = read_rules(table or {})
    assert problems == []
    return Rules(named, tags)


def session_of(member: Member, placed: Placed) -> Session:
    more = {"departments": placed.departments, "tags": placed.tags, "partial": placed.partial}
    return Session("s", member, "ww1", 1, "erp", 0, 0, 1, 0, **more)


def answer(rules: Rules, rule: str, member: Member, placed: Placed) -> str:
    """``yes``, or the reason of the refusal."""
    try:
        check(session_of(member, placed), rules.rule(rule))
    except (Denied, SignInNeeded) as refused:
        return refused.reason
    return "yes"


@pytest.fixture
async def make(sandbox: Sandbox, clock: Clock) -> AsyncIterator[Make]:
    """Make directories of the sandbox's app: each is a process, sharing what it is given."""
    made: list[Directory] = []
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:

        def directory(rules: Rules, *, cache: BaseCache | None = None, resolved: Resolved | None = None) -> Directory:
            state, own = sandbox.state, cache or SimpleMemoryCache()
            client = WeCom(
                App(state.corp_id, state.agent_id, Secret(SECRET)),
                Endpoints(sandbox.url, timeout_s=2),
                http,
                SimpleMemoryCache(),
                clock,
                pause=lambda _: asyncio.sleep(0),
            )
            names = resolved or Resolved()
            shared = Shared(own, names, names.apply, Telemetry(clock), clock)
            made.append(Directory(client, rules, shared, corp_id=state.corp_id, agent_id=state.agent_id, refresh_s=600))
            return made[-1]

        yield directory
        for each in made:
            await each.close()


def down(sandbox: Sandbox, path: str = "*", **how: Any) -> None:
    """WeCom refuses connections, in effect, from now on."""
    sandbox.state.faults.append(Fault(path, **({"kind": "reset"} | how)))


# ── where a member stands ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_departments_with_ancestors(make: Make) -> None:
    """A member stands in the own departments and in those above them that the app sees."""
    directory = make(rules_of())

    assert await directory.placed(Member("x", departments=(4, 7))) == Placed((4, 7, 3, 2, 6, 5))


async def test_nothing_is_read_before_somebody_signs_in(make: Make, sandbox: Sandbox) -> None:
    """Without a rule in the settings that needs it, WeCom is asked at the first sign-in, once for all."""
    directory = make(rules_of({"a": "user:lisi"}))
    assert await directory.begin() == []
    before = sandbox.state.count(BRIEF)

    await asyncio.gather(*(directory.placed(LISI) for _ in range(20)))

    assert (before, sandbox.state.count(BRIEF), sandbox.state.count(LISTED), sandbox.state.count("tag/get")) == (0, 1, 0, 0)


async def test_tags_of_the_settings_are_looked_at(make: Make, sandbox: Sandbox) -> None:
    """A tag holds for who has it by name, in whatever letters, or through a department or one below; no other tag is read."""
    sandbox.state.tags[2] = Tag(2, "财务系统用户", ("ZhangSan",), (2,))
    directory = make(rules_of({"a": "tag:2"}))
    await directory.begin()

    assert (await directory.placed(ZHANGSAN)).tags == {2: True}
    assert (await directory.placed(LISI)).tags == {2: True}
    assert (await directory.placed(Member("wangwu", departments=(5, 7)))).tags == {2: False}
    assert sandbox.state.count("tag/get") == 1


async def test_a_department_that_is_new(make: Make, sandbox: Sandbox, clock: Clock) -> None:
    """A member of a department that was not there at the last reading is placed by a new one."""
    directory = make(rules_of())
    await directory.placed(LISI)
    sandbox.state.departments[30] = Department(30, "税务组", 4)
    clock.advance(RETRY_S)

    assert (await directory.placed(Member("lisi", departments=(30,)))).departments == (30, 4, 3, 2)


async def test_a_reading_after_a_change(make: Make, sandbox: Sandbox, clock: Clock) -> None:
    """Who knows that something changed at a moment gets a reading that began later, however new the last one is."""
    directory = make(rules_of(None, 2))
    await directory.placed(ZHANGSAN)
    sandbox.state.tags[2] = Tag(2, "财务系统用户", ())
    clock.advance(1)

    assert (await directory.placed(ZHANGSAN)).tags == {2: True}
    assert (await directory.placed(ZHANGSAN, after=clock())).tags == {2: False}


async def test_a_clock_that_was_ahead(make: Make, sandbox: Sandbox, clock: Clock) -> None:
    """What was read by a clock a day ahead is no newer than a change after it: not here, nor where it is shared."""
    cache, day_s = SimpleMemoryCache(), 86400

    def set_back(*users: str) -> None:
        sandbox.state.tags[2] = Tag(2, "财务系统用户", users)
        clock.advance(-day_s)

    clock.advance(3 * day_s)
    here, there, needed = (make(rules_of(table, 2), cache=cache) for table in (None, None, {"finance": "tag:2"}))
    assert (await here.placed(ZHANGSAN)).tags == {2: True}

    set_back()
    assert (await there.placed(ZHANGSAN)).tags == {2: False}
    assert (await here.placed(ZHANGSAN, after=clock())).tags == {2: False}
    set_back("zhangsan")
    await here.refresh()
    assert (await here.placed(ZHANGSAN)).tags == {2: True}
    set_back()
    await needed.begin()
    await until(lambda: needed.snapshot is not None and needed.snapshot.at == clock())


# ── WeCom does not answer ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_without_a_reading_a_member_is_partly_placed(make: Make, sandbox: Sandbox, clock: Clock) -> None:
    """Before WeCom answered once, a department rule is ``stale``, never a lasting no; afterwards it is told."""
    down(sandbox)
    rules = rules_of(None, 2)
    directory = make(rules)
    before = await directory.placed(LISI)
    sandbox.state.faults.clear()
    clock.advance(RETRY_S)
    after = await directory.placed(LISI)

    assert before == Placed((3,), {}, partial=True)
    assert [answer(rules, rule, LISI, before) for rule in ("department:3", "department:2", "tag:2")] == ["yes", "stale", "stale"]
    assert [answer(rules, rule, LISI, after) for rule in ("department:3", "department:2", "tag:2")] == ["yes"] * 3


async def test_what_was_read_is_kept(make: Make, sandbox: Sandbox, clock: Clock) -> None:
    """While WeCom is down, the last reading stands, for days."""
    directory = make(rules_of(None, 2))
    before = await directory.placed(LISI)
    down(sandbox)
    clock.advance(3 * 86400)
    await directory.refresh()

    assert await directory.placed(LISI) == before


async def test_one_tag_that_does_not_answer(make: Make, sandbox: Sandbox, clock: Clock) -> None:
    """A tag that cannot be read now stays as it was; what else was read is new."""
    directory = make(rules_of(None, 2))
    await directory.placed(LISI)
    down(sandbox, "tag/get", kind="errcode", errcode=-1)
    sandbox.state.departments[30] = Department(30, "税务组", 3)
    clock.advance(RETRY_S)

    assert await directory.placed(Member("lisi", departments=(30,))) == Placed((30, 3, 2), {2: True})


async def test_a_wecom_that_fails_is_not_hammered(make: Make, sandbox: Sandbox, clock: Clock) -> None:
    """After a failed reading the next is tried half a minute later, not at each sign-in."""
    down(sandbox, BRIEF, kind="errcode", errcode=50003)
    directory = make(rules_of())
    for _ in range(10):
        await directory.placed(LISI)
    first = sandbox.state.count(BRIEF)
    clock.advance(RETRY_S)
    await directory.placed(LISI)

    assert (first, sandbox.state.count(BRIEF)) == (1, 2)


async def test_processes_share_a_reading(make: Make, sandbox: Sandbox, clock: Clock) -> None:
    """What one process read serves the others that share its cache, and a restart while WeCom is down."""
    cache = SimpleMemoryCache()
    first = make(rules_of(None, 2), cache=cache)
    placed = await first.placed(LISI)
    second = make(rules_of(None, 2), cache=cache)
    await second.begin()
    assert (await second.placed(LISI), sandbox.state.count(BRIEF)) == (placed, 1)

    down(sandbox)
    clock.advance(86400)
    third = make(rules_of(None, 2), cache=cache)
    await third.begin()

    assert await third.placed(LISI) == placed


@pytest.mark.parametrize("held", ["", "{}", "[2,0,[],{},{}]", "[1,0,[[1]],{},{}]", "[1,0,[],{},[]]", "null", 7, b"\xff"])
async def test_a_cache_that_holds_nonsense(make: Make, sandbox: Sandbox, held: Any) -> None:
    """What another release, or anybody, left in the cache is no reading."""
    cache = SimpleMemoryCache()
    directory = make(rules_of(), cache=cache)
    await cache.set(directory._key, held)

    assert await directory.placed(LISI) == Placed((3, 2))


async def test_a_cache_that_is_broken(make: Make) -> None:
    """A cache that raises costs one more reading, nothing else."""

    class Broken(SimpleMemoryCache):  # type: ignore[misc]
        async def get(self, *_: Any, **__: Any) -> Any:
            raise OSError("no cache")

        async def set(self, *_: Any, **__: Any) -> Any:
            raise OSError("no cache")

    assert await make(rules_of(), cache=Broken()).placed(LISI) == Placed((3, 2))


async def test_a_reading_survives_the_cache(make: Make) -> None:
    """What is loaded from the cache is what was put there."""
    directory = make(rules_of(None, 2, 9))
    await directory.placed(LISI)
    held = directory.snapshot
    assert held is not None
    loaded = Snapshot.load(held.dump())

    assert loaded is not None
    assert replace(loaded, tree=held.tree) == held
    assert loaded.tree.placed((4,)) == (4, 3, 2)
    assert held.unseen.keys() == {9}


# ── names ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


FINANCE = {"finance": ["department:财务部", "tag:项目负责人"]}


async def test_names_are_resolved_once(make: Make, sandbox: Sandbox, clock: Clock) -> None:
    """A name becomes its number when first met, for good: a new name, or another department of that name, changes nothing."""
    resolved = Resolved()
    rules = rules_of(FINANCE)
    directory = make(rules, resolved=resolved)
    assert await directory.begin() == []
    placed = await directory.placed(LISI)
    assert answer(rules, "finance", LISI, placed) == "yes"
    assert resolved.known(sandbox.state.corp_id) == {("department", "财务部"): 3, ("tag", "项目负责人"): 1}

    sandbox.state.departments[3] = Department(3, "财务中心", 2)
    sandbox.state.departments[31] = Department(31, "财务部", 5)
    again = rules_of(FINANCE)
    later = make(again, resolved=resolved)
    clock.advance(3600)

    assert await later.begin() == []
    assert answer(again, "finance", LISI, await later.placed(LISI)) == "yes"
    assert answer(again, "finance", ZHANGSAN, Placed((31, 5), {1: False})) == "rule"


@pytest.mark.parametrize(
    "table, told",
    [
        ({"finance": "department:财务"}, "rules.finance: department:财务: no department that the app sees bears this name"),
        ({"finance": "department:财务"}, "3 (管理中心/财务部)"),
        ({"finance": "department:市场部"}, "rules.finance: department:市场部: no department"),
        (
            {"a": "tag:负责人", "b": {"not": "tag:负责人"}},
            "rules.a, rules.b: tag:负责人: no tag that the app sees bears this name; there are: 1",
        ),
        ({"a": "department:研发部"}, "2 bear this name; write the number of one: 6 (技术中心/研发部), 33 (管理中心/研发部)"),
    ],
)
async def test_names_that_are_wrong(make: Make, sandbox: Sandbox, table: dict[str, Any], told: str) -> None:
    """A name that is ambiguous or unknown when first met is a mistake that lists the candidates."""
    sandbox.state.departments[33] = Department(33, "研发部", 2)

    problems = await make(rules_of(table)).begin()

    assert len(problems) == 1
    assert told in problems[0]


async def test_what_vanished_denies(make: Make, sandbox: Sandbox, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """A department or tag that is gone makes its rule deny everybody, under ``not`` too, with an alert, never a failed start."""
    table = FINANCE | {"others": {"not": "department:财务部"}}
    resolved, rules = Resolved(), rules_of(table)
    await make(rules, resolved=resolved).begin()
    del sandbox.state.departments[4], sandbox.state.departments[3], sandbox.state.tags[1]
    clock.advance(3600)
    later = make(rules, resolved=resolved)

    assert await later.begin() == []
    placed = await later.placed(ZHANGSAN)
    assert [answer(rules, rule, ZHANGSAN, placed) for rule in ("finance", "others")] == ["bad-rule", "bad-rule"]
    told = caplog.text
    assert "bad-rule: rules.finance, rules.others: department:财务部 (3): the app does not see this department" in told
    assert "bad-rule: rules.finance: tag:项目负责人 (1): the app does not see this tag, or it is gone (40068)" in told


async def test_names_while_wecom_is_down(make: Make, sandbox: Sandbox, clock: Clock) -> None:
    """With WeCom out of reach at the first start, rules with names deny until it answers; nothing is wrong with the settings."""
    down(sandbox)
    rules = rules_of(FINANCE)
    directory = make(rules)
    assert await directory.begin() == []
    before = answer(rules, "finance", LISI, Placed((3, 2), {1: True}))
    sandbox.state.faults.clear()
    clock.advance(RETRY_S)
    await directory.refresh()

    assert (before, answer(rules, "finance", LISI, await directory.placed(LISI))) == ("bad-rule", "yes")


# ── a gateway ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_gateway_with_wrong_names_does_not_start(make_config: MakeConfig, clock: Clock) -> None:
    """An unknown name is a mistake in the settings, told at the start."""
    with pytest.raises(ConfigError, match=r"rules\.finance: department:财务: no department"):
        await Gateway(make_config(rules={"finance": "department:财务"}), clock=clock).__aenter__()


async def test_a_gateway_starts_while_wecom_is_down(make_config: MakeConfig, sandbox: Sandbox, clock: Clock) -> None:
    """WeCom out of reach keeps no gateway from starting, whatever its rules speak of."""
    down(sandbox, kind="errcode", errcode=50003)

    async with Gateway(make_config(rules=FINANCE, tags=[2]), clock=clock) as gateway:
        assert gateway.live.now.rules.problems() != []


async def test_operators_are_told_of_broken_rules(make_config: MakeConfig, sandbox: Sandbox, clock: Clock) -> None:
    """A rule that nobody can tell of is a sentence of ``/readyz`` and counts in ``/metrics``; the process stays ready."""
    down(sandbox, kind="errcode", errcode=50003)

    async with Gateway(make_config(rules=FINANCE), clock=clock) as gateway, aiohttp.ClientSession() as http:
        ops = f"http://{gateway.addresses['ops']}"
        async with http.get(f"{ops}/readyz") as answer:
            told = await answer.json()
        async with http.get(f"{ops}/metrics") as answer:
            metrics = await answer.text()

    assert told["ready"] is True
    assert [sentence for sentence in told["problems"] if sentence.startswith("rules.finance: department:财务部")]
    assert f"wecom_gateway_problems {len(told['problems'])}.0" in metrics


async def test_a_start_waits_for_names_only(make: Make, sandbox: Sandbox) -> None:
    """Where every name is known already, a WeCom that hangs delays no start."""
    down(sandbox, BRIEF, kind="hang")

    assert await in_time(make(rules_of({"a": "department:3"}, 2)).begin(), 0.5) == []


async def test_names_outlive_a_restart(make_config: MakeConfig, sandbox: Sandbox, clock: Clock) -> None:
    """The ledger keeps what names were resolved to: after a restart a department that was renamed is still the one meant."""
    config = make_config(rules=FINANCE)
    async with Gateway(config, clock=clock):
        pass
    sandbox.state.departments[3] = Department(3, "财务中心", 2)

    async with Gateway(config, clock=clock) as gateway:
        assert gateway.live.now.rules.known.ids["department", "财务部"] == 3


async def test_names_outlive_the_ledger(make_config: MakeConfig, sandbox: Sandbox, start: Start, tmp_path: Path) -> None:
    """Into an empty one in its place the running processes write them: who bears the name meanwhile is not let in by it."""
    ledger = (await start(make_config(rules=FINANCE))).live.now.ledger
    await until(lambda: not ledger.queued)
    for each in tmp_path.glob("ledger.sqlite3*"):
        each.unlink()
    (tmp_path / "ledger.sqlite3").touch()
    await until(lambda: ledger.problems)
    await until(lambda: not ledger.problems)
    sandbox.state.departments[3] = Department(3, "财务中心", 2)
    sandbox.state.departments[7] = Department(7, "财务部", 6)

    later = await start(make_config(rules=FINANCE))
    assert later.live.now.rules.known.ids["department", "财务部"] == 3


async def test_a_tag_that_cannot_be_read_is_no_loop(
    make_config: MakeConfig, sandbox: Sandbox, browse: Browse, start: Start, clock: Clock
) -> None:
    """Where a rule's tag cannot be read, a page says that WeCom does not answer, and the way back leads in once it does."""
    down(sandbox, "tag/get", kind="errcode", errcode=-1)
    gateway = await start(make_config(tags=[2]))
    browser = browse("lisi", at=gateway)
    await browser.open(HOME)
    clock.advance(RETRY_S)

    refused = await browser.open(f"{HOME}report", rule="tag:2")
    sandbox.state.faults.clear()
    clock.advance(61)  # a renewal is one for a minute
    entered = await browser.open(f"{HOME}report", rule="tag:2")

    assert (refused.status, refused.reason) == (503, "wecom-unreachable")
    assert (entered.status, entered.url) == (200, f"{HOME}report")


async def test_a_partial_session_is_read_again_soon(
    make_config: MakeConfig, sandbox: Sandbox, browse: Browse, start: Start, clock: Clock
) -> None:
    """A session without ancestors is good for pages without a rule, and renewed within minutes."""
    down(sandbox, BRIEF, kind="errcode", errcode=-1)
    down(sandbox, LISTED, kind="errcode", errcode=-1)
    browser = browse("lisi", at=await start(make_config()))
    first = await browser.open(HOME)
    sandbox.state.faults.clear()
    clock.advance(301)
    later = await browser.open(HOME)

    assert (first.headers["X-WeCom-Departments"], later.headers["X-WeCom-Departments"]) == ("3", "3,2")


async def test_a_renewal_keeps_what_cannot_be_read(
    make_config: MakeConfig, sandbox: Sandbox, browse: Browse, start: Start, clock: Clock
) -> None:
    """A renewal by a process that cannot read departments and tags keeps those of the session."""
    config = make_config(tags=[2])
    browser = browse("lisi", at=await start(config))
    await browser.open(HOME)
    for path in (BRIEF, LISTED, "tag/get"):
        down(sandbox, path, kind="errcode", errcode=-1)
    listen = {name: f"127.0.0.1:{free_port()}" for name in ("check", "pages", "ops")}
    other = await start(make_config(tags=[2], listen=listen))
    browser.addresses = other.addresses
    clock.advance(1801)

    page = await browser.open(HOME, rule="tag:2")

    assert (page.status, page.headers["X-WeCom-Departments"]) == (200, "3,2")


async def test_a_reload_with_wrong_names_is_refused(make_config: MakeConfig, clock: Clock) -> None:
    """A reload with a name of nothing leaves the old settings in force."""
    async with Gateway(make_config(rules=FINANCE), clock=clock) as gateway:
        before = gateway.live.now
        with pytest.raises(ConfigError, match="会计部"):
            await gateway.reload(make_config(rules={"finance": "department:会计部"}))

        assert gateway.live.now is before


async def test_a_reload_changes_a_rule(make_config: MakeConfig, clock: Clock) -> None:
    """A rule that a path named before the reload is the new one afterwards."""
    async with Gateway(make_config(rules={"finance": "user:lisi"}), clock=clock) as gateway:
        before = answer(gateway.live.now.rules, "finance", LISI, Placed(()))
        await gateway.reload(make_config(rules={"finance": "user:wangwu"}))

        assert (before, answer(gateway.live.now.rules, "finance", LISI, Placed(()))) == ("yes", "rule")


async def test_a_sign_in_carries_it_all(browse: Browse, gateway: Gateway) -> None:
    """A session has the departments with their ancestors, and the header announces them."""
    page = await browse("wangwu").open(HOME)

    assert page.headers["X-WeCom-Departments"] == "5,7,6"


async def test_a_named_record_is_one_of_the_ledgers(sandbox: Sandbox, make: Make, clock: Clock) -> None:
    """A resolved name is written down as the ledger's ``named`` record."""
    resolved = Resolved()
    written: list[Record] = []
    directory = make(rules_of(FINANCE), resolved=resolved)
    directory._note = lambda record: (written.append(record), resolved.apply(record))[0]  # type: ignore[func-returns-value]
    await directory.begin()

    details = {"corp": sandbox.state.corp_id, "kind": "department", "name": "财务部", "id": 3}
    assert Record("named", clock(), details=details) in written
