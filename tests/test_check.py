"""``wecom-gateway check``: what it tells of rules and members, and that it tells what the check would answer."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.config import Config
from gateway.sandbox import Sandbox
from gateway.sandbox.faults import Fault
from gateway.sandbox.state import Department, Member, Tag
from gateway.seat import take
from gateway.verdicts import judge
from tests.browser_double import Browser
from tests.conftest import KEY, Clock

ROOT = Path(__file__).parents[1]
HOME = "http://localhost:8080/"
RULES = """
[rules]
finance = ["department:财务部", "tag:项目负责人"]
technology = { any = ["department:技术中心"], not = ["leader", "user:qianqi"] }
"""
NGINX = """
events {}
http { server { server_name oa.example.com;
    location / { auth_request /_wecom/auth; }
    location /finance/ { auth_request /_wecom/auth/finance; }
    location /public/ { auth_request off; }
} }
"""

Run = Callable[..., Awaitable[tuple[int, str, str]]]
Browse = Callable[..., Browser]
Start = Callable[[Config], Awaitable[Gateway]]
MakeConfig = Callable[..., Config]


@pytest.fixture
def settings(sandbox: Sandbox, tmp_path: Path) -> Path:
    """A file of settings for the sandbox's app."""
    state, path = sandbox.state, tmp_path / "gateway.toml"
    urls = "\n".join(f'{name}_url = "{sandbox.url}"' for name in ("api", "authorize", "login"))
    own = f'corp_id = "{state.corp_id}"\nagent_id = {state.agent_id}\napp_secret = "{state.secret}"\nsigning_key = "{KEY}"\n'
    site = f'public_url = "http://localhost:8080"\nstore = "sqlite://{tmp_path}/ledger.sqlite3"\n'
    path.write_text(f"{own}{site}[wecom]\n{urls}\n{RULES}", "utf-8")
    (tmp_path / "nginx.conf").write_text(NGINX, "utf-8")
    return path


@pytest.fixture
def run(settings: Path) -> Run:
    """``wecom-gateway check`` as a shell runs it: exit status, output, errors."""

    async def check(*arguments: str) -> tuple[int, str, str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WECOM_GATEWAY_")}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "check", "--config", str(settings), *arguments),
            cwd=ROOT,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    return check


async def test_rules_are_told_in_words(run: Run, settings: Path) -> None:
    """Good settings: each rule with the names and numbers of what it asks for; no ledger is made by asking."""
    status, out, err = await run()

    assert status == 0, err
    assert "rule finance: department 财务部 (3) or tag 项目负责人 (1)\n" in out
    assert "rule technology: (department 技术中心 (5) and not (leader or user qianqi))\n" in out
    assert not list(settings.parent.glob("ledger*"))


async def test_settings_in_json(run: Run) -> None:
    """The same for scripts: sites with their cookies, the callback host, what each rule asks for."""
    status, out, _ = await run("--json")

    told = json.loads(out)
    assert status == 0
    assert told["sites"] == [
        {
            "name": "default",
            "public_url": "http://localhost:8080",
            "cookie": "wecom_session_8080",
            "hosts": ["localhost"],
            "account": "userid",
        }
    ]
    assert told["callback_host"] == "localhost:8080"
    assert told["rules"]["finance"] == "department 财务部 (3) or tag 项目负责人 (1)"
    assert told["problems"] == []


@pytest.mark.parametrize(
    "rule, told",
    [
        (
            'x = "department:财务"',
            "settings: rules.x: department:财务: no department that the app sees bears this name; there are: 3",
        ),
        ('x = "department:新部"', "settings: rules.x: department:新部: no department that the app sees"),
        ('x = "y"', "settings: rules.x: no rule is named 'y'"),
    ],
)
async def test_mistakes(run: Run, settings: Path, rule: str, told: str) -> None:
    """A mistake in a rule, or a name of nothing, is exit status 1 with the candidates."""
    settings.write_text(settings.read_text("utf-8").replace("[rules]", f"[rules]\n{rule}"), "utf-8")

    status, _, err = await run()

    assert status == 1
    assert told in err
    assert err.count(told.removeprefix("settings: ")) == 1, "told once"


async def test_wecom_that_cannot_be_reached_is_a_warning(run: Run, settings: Path, sandbox: Sandbox) -> None:
    """What the gateway would log is told in the command's own words, and once."""
    settings.write_text(settings.read_text("utf-8").replace(sandbox.url, "http://127.0.0.1:1"), "utf-8")

    status, _, err = await run()

    assert status == 0
    assert all(line.startswith("warning: ") for line in err.splitlines())
    assert err.count("warning: departments and tags cannot be read: cannot connect to WeCom at 127.0.0.1:1") == 1


async def test_what_the_app_does_not_see(run: Run, settings: Path) -> None:
    """A department or tag that the app does not see is a warning that names its rule."""
    settings.write_text(settings.read_text("utf-8").replace("[rules]", '[rules]\nx = ["department:8", "tag:77"]'), "utf-8")

    status, _, err = await run()

    assert status == 0
    assert "warning: rules.x: department:8: the app does not see this department" in err
    assert "warning: rules.x: tag:77: the app does not see this tag, or it is gone (40068)" in err


async def test_wecom_refuses(run: Run, sandbox: Sandbox) -> None:
    """What WeCom refuses is told with what to change; the settings can be used all the same."""
    sandbox.state.app.trusted_ips = ("203.0.113.7",)

    plain, asked = await run(), await run("--who", "lisi", "--rule", "finance")

    assert plain[0] == 0
    assert "企业可信IP" in plain[2]
    assert asked[0] == 1
    assert "to fix: Add 127.0.0.1 to the app's trusted addresses (企业可信IP)" in asked[2]


async def test_who(run: Run) -> None:
    """Who would pass, and which part decides, marked from the whole down to the term."""
    passing, refused = await run("--who", "LISI", "--rule", "finance"), await run("--who", "wangwu", "--rule", "technology")

    assert passing[0] == refused[0] == 0
    assert passing[1].startswith(
        "lisi 李四: departments 财务部 (3), 管理中心 (2); tags none of those asked for; leads 3\nfinance: passes\n"
    )
    assert "  yes        department 财务部 (3)  ← decides" in passing[1]
    assert "  no         tag 项目负责人 (1)\n" in passing[1]
    assert "technology: refused (rule)" in refused[1]
    assert "yes          leader  ← decides" in refused[1].replace("      leader", "    leader")


async def test_names_cannot_steer_the_terminal(run: Run, sandbox: Sandbox) -> None:
    """Whatever a member is called, no line of it is more than letters to a terminal."""
    sandbox.change_member("lisi", {"name": "李\x1b[2J\u009b2J四"})

    told = [(await run("--who", "lisi", "--rule", "finance", *more))[1] for more in ((), ("--json",))]

    assert "李?[2J?2J四" in told[0]
    assert not {letter for letter in "".join(told) if not letter.isprintable()} - {"\n"}


@pytest.mark.parametrize("who, reason", [("zhaoliu", "out-of-scope"), ("nobody", "out-of-scope"), ("qianqi", "disabled")])
async def test_who_cannot_sign_in(run: Run, who: str, reason: str) -> None:
    """Who could not sign in at all passes no rule, with the reason of the sign-in."""
    status, out, _ = await run("--who", who, "--json")

    told = json.loads(out)
    assert status == 0
    assert {answer["reason"] for answer in told["answers"]} == {reason}
    assert not any(answer["passes"] for answer in told["answers"])


async def test_json(run: Run) -> None:
    """For scripts: the member, and an answer for any member and every rule."""
    _, out, _ = await run("--who", "zhangsan", "--json")

    told = json.loads(out)
    assert told["who"]["departments"] == {"6": "研发部", "5": "技术中心"}
    assert {answer["rule"]: answer["passes"] for answer in told["answers"]} == {"": True, "finance": False, "technology": True}


@pytest.mark.parametrize(
    "uri, told",
    [
        ("/finance/x?a=1", "location /finance/ (PATH:5)\nrule: finance\n"),
        ("/x", "location / (PATH:4)\nrule: any member\n"),
        ("/public/", "location /public/ (PATH:6)\nnobody is asked: public\n"),
    ],
)
async def test_uri(run: Run, settings: Path, uri: str, told: str) -> None:
    """The rule of an address is found in nginx.conf; with --who it is judged, too."""
    conf = str(settings.parent / "nginx.conf")
    status, out, err = await run("--uri", uri, "--nginx", conf, "--who", "lisi")

    assert status == 0, err
    assert told.replace("PATH", conf) in out
    assert ("passes" in out) is ("public" not in told)


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["--uri", "/x"], "--uri and --nginx belong together"),
        (["--rule", "finance"], "--rule needs --who"),
        (["--uri", "/x", "--nginx", "gone.conf"], "gone.conf"),
        (["--who", "张三", "--rule", "finance"], ""),
        (["--who", "", "--rule", "finance"], "--who needs a member id"),
    ],
)
async def test_usage(run: Run, arguments: list[str], told: str) -> None:
    """What cannot be answered says why, without a traceback."""
    status, out, err = await run(*arguments)

    assert told in err
    assert "Traceback" not in err
    assert status in (1, 2) or "out-of-scope" in out


async def test_a_rule_that_does_not_parse(run: Run) -> None:
    """A rule with a mistake is an answer: ``bad-rule``, and what is wrong."""
    status, out, _ = await run("--who", "lisi", "--rule", "group:3")

    assert status == 0
    assert "refused (bad-rule): auth_request /_wecom/auth/group:3: unknown kind 'group'" in out


@pytest.mark.parametrize(
    "rule, told",
    [
        ("auth_request /_wecom/auth/department:2;", "department:2: passes"),
        ("/_wecom/auth", "any member: passes"),
        ("/_wecom/auth/", "/: refused (bad-rule)"),
    ],
)
async def test_a_rule_as_it_is_pasted(run: Run, rule: str, told: str) -> None:
    """The path or the whole directive of nginx.conf is read as nginx would ask it."""
    assert told in (await run("--who", "lisi", "--rule", rule))[1]


async def test_a_tag_that_does_not_answer(run: Run, sandbox: Sandbox) -> None:
    """Where a tag cannot be read now, that is said and nobody passes by it."""
    sandbox.state.faults.append(Fault("tag/get", "errcode", errcode=-1))

    status, out, _ = await run("--who", "wangwu", "--rule", "tag:1/finance")

    assert status == 0
    assert "refused (stale)" in out


# ── agreement ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def organise(sandbox: Sandbox, dice: random.Random) -> None:
    """Another organisation: a tree of departments, some out of sight, members anywhere in it or nowhere, tags on both."""
    state = sandbox.state
    state.departments.clear()
    state.members.clear()
    state.tags.clear()
    for number in range(1, 16):
        state.departments[number] = Department(number, f"部门{number}", dice.randrange(1, number) if number > 1 else 0)
    for number in range(16):
        own = tuple(dice.sample(range(1, 16), dice.randrange(4)))
        leads = tuple(dice.randrange(4) == 0 for _ in own)
        status = dice.choice((1, 1, 1, 1, 1, 2, 4))
        user_id = dice.choice(("member", "Member.X-", "m@")) + str(number)
        member = Member(
            user_id, f"成员{number}", own, is_leader_in_dept=tuple(map(int, leads)), order=(0,) * len(own), status=status
        )
        state.members[user_id.lower()] = member
    for number in range(1, 4):
        users = tuple(member.userid.upper() for member in dice.sample(list(state.members.values()), 3))
        state.tags[number] = Tag(number, f"标签{number}", users, tuple(dice.sample(range(1, 16), 2)))
    state.app.allow_departments = tuple(dice.sample(range(1, 16), 3))
    state.app.allow_users = tuple(member.userid for member in dice.sample(list(state.members.values()), 2))


def made_up(dice: random.Random, members: list[str], depth: int = 0) -> Any:
    """A rule of the settings."""
    terms = (
        lambda: f"department:{dice.randrange(1, 16)}",
        lambda: f"tag:{dice.randrange(1, 4)}",
        lambda: f"user:{dice.choice(members).swapcase()}",
        lambda: "leader",
    )
    if depth == 2 or dice.randrange(3) == 0:
        return dice.choice(terms)()
    keys = dice.sample(("any", "all", "not"), dice.randrange(1, 3))
    return {key: [made_up(dice, members, depth + 1) for _ in range(dice.randrange(1, 4))] for key in keys}


@pytest.mark.parametrize("seed", range(4))
async def test_it_agrees_with_the_live_answer(
    sandbox: Sandbox, make_config: MakeConfig, start: Start, browse: Browse, clock: Clock, seed: int
) -> None:
    """For every member and every rule of a made-up organisation, ``check --who`` says what a sign-in and the check say."""
    dice = random.Random(seed)
    organise(sandbox, dice)
    members = [member.userid for member in sandbox.state.members.values()]
    named = {f"rule{number}": made_up(dice, members) for number in range(8)}
    paths = [
        *named,
        "",
        "department:1",
        "department:3,9/tag:1",
        "tag:2,3/leader",
        f"user:{members[0]},{members[3]}/rule1",
        "tag:9",
    ]
    config = make_config(rules=named, tags=[1, 2, 3])
    gateway = await start(config)
    answers: set[str] = set()

    for user_id in members:
        browser = browse(user_id, at=gateway)
        await browser.open(HOME)
        signed_in = bool(browser.session(HOME))
        seat = await take(config, user_id, clock)
        assert (seat.who is not None) is signed_in, user_id
        for rule in paths if signed_in else []:
            live = await browser.check(HOME, "fetch", rule=rule)
            told = judge(seat.rules, rule, seat.who)  # type: ignore[arg-type]
            answers.add(told.reason)
            assert (live.status == 204, live.headers.get("X-WeCom-Reason", "")) == (told.passes, told.reason), (user_id, rule)

    assert answers == {"", "rule", "bad-rule"}
