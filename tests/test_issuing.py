"""Tokens are issued and revoked through the ledger; running gateways hear of it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.app import Gateway
from gateway.config import Config
from gateway.issuing import Issued, NotIssued, Register, Wanted, issue, issued, known_rules, revoke
from gateway.ledger import Store, store_at
from gateway.records import Record
from gateway.sandbox import Sandbox
from gateway.tokens import Token
from tests.conftest import KEY, Clock, free_port
from tests.patience import PATIENCE_S, until, within

DAY = 86400
CI = Wanted("ci", ("user:lisi",), 90, by="root")


@pytest.fixture
async def store(make_config: Callable[..., Config], clock: Clock) -> AsyncIterator[Store]:
    opened = store_at((config := make_config()).store, config.owner, clock)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def opened() -> AsyncIterator[AsyncExitStack]:
    """What ends with the test."""
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def made(store: Store, gateway: Gateway, clock: Clock) -> Callable[..., Awaitable[tuple[Token, str]]]:
    """Issue a token as the command does, with any wish replaced."""

    async def issuing(config: Config | None = None, **wish: Any) -> tuple[Token, str]:
        parts = gateway.live.now
        wanted = Wanted(**{"name": "ci", "rules": ("user:lisi",), "days": 90} | wish)
        return await issue(wanted, store, config or parts.config, parts.tokens, parts.wecom, now=clock())

    return issuing


async def answer(gateway: Gateway, text: str, rule: str = "user:lisi") -> tuple[int, str]:
    """What the check says to *text*."""
    headers = {"Host": "localhost", "X-WeCom-Token": f"Bearer {text}"}
    url = f"http://{gateway.addresses['check']}/_wecom/auth/{rule}"
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as told:
        return told.status, told.headers.get("X-WeCom-Reason", "")


async def told(gateway: Gateway, text: str, wanted: tuple[int, str]) -> None:
    """Ask until the answer is *wanted*, for a second at most."""

    async def is_told() -> bool:
        return await answer(gateway, text) == wanted

    await within(1, is_told)


class TestIssuing:
    """A token opens at once, and the ledger knows all of it but the token."""

    async def test_a_token_opens_at_once(self, made, gateway) -> None:
        """Nothing has to be told to a running gateway."""
        _, text = await made()

        assert await answer(gateway, text) == (204, "")

    async def test_it_is_in_the_ledger_without_itself(self, made, store, clock) -> None:
        """Name, rules, site, times and who issued it; nothing that opens anything."""
        token, text = await made(by="root", rules=("user:lisi", "/_wecom/auth/user:a,b"))

        assert await issued(store) == [
            Issued(token.id, "ci", ("user:lisi", "user:a,b"), "default", "", int(clock()), int(clock()) + 90 * DAY, "root")
        ]
        stored = str(await store.read())
        assert [part for part in text.split(".") if part in stored] == []

    async def test_nothing_is_given_out_that_is_not_stored(self, made, store) -> None:
        """With the store gone there is no token."""
        Path(store.address).unlink()

        with pytest.raises(Exception, match="was deleted"):
            await made()

    async def test_a_name_is_taken_while_its_token_lives(self, made, store, clock) -> None:
        """Free again after its end or its revocation."""
        first, _ = await made(days=1)
        with pytest.raises(NotIssued, match=f"named 'ci' already \\(id {first.id}\\)"):
            await made()

        clock.advance(DAY)
        await made()
        await revoke(store, now=clock(), by="", name="ci")
        await made()
        assert [each.live(clock()) for each in await issued(store)] == [False, False, True]

    async def test_two_at_once_are_one(self, made, store, clock) -> None:
        """Of those who ask for the same name at the same moment one gets it."""
        results = await asyncio.gather(*(made() for _ in range(8)), return_exceptions=True)

        got = [each for each in results if not isinstance(each, BaseException)]
        live = [each.id for each in await issued(store) if each.live(clock())]
        assert len(got) <= 1
        assert live == [token.id for token, _ in got]

    @pytest.mark.parametrize(
        "rule, problem",
        [
            ("", "never a bare"),
            ("/", "never a bare"),
            ("/_wecom/auth", "never a bare"),
            ("finance", "no rule is named 'finance'"),
            ("user:", "'' is no member id"),
            ("user:a b", "'a b' is no member id"),
            ("colour:red", "unknown kind 'colour'"),
            ("user:x\n", "control"),
            ("x" * 9000, "at most 8192 bytes"),
        ],
    )
    async def test_a_rule_that_no_location_has(self, made, store, rule, problem) -> None:
        """Refused with the sentence that the location would get in the log."""
        with pytest.raises(NotIssued, match=problem):
            await made(rules=("user:lisi", rule))

        assert await issued(store) == []

    def test_a_named_rule_of_the_settings(self, make_config: Callable[..., Config]) -> None:
        """By its name, Chinese ones too, each once."""
        config = make_config(rules={"finance": ["user:lisi"], "财务": ["user:lisi"]})

        assert known_rules(config, ["finance", "财务", "/_wecom/auth/finance", "finance"]) == ("finance", "财务")

    def test_the_whole_directive(self, make_config: Callable[..., Config]) -> None:
        """As it is copied from nginx.conf."""
        config = make_config(rules={"finance": ["user:lisi"]})

        assert known_rules(config, ["auth_request /_wecom/auth/finance;"]) == ("finance",)

    async def test_more_rules_than_fit(self, made, store) -> None:
        """Refused before anything is stored."""
        with pytest.raises(NotIssued, match="fewer rules"):
            await made(rules=tuple(f"user:{os.urandom(30).hex()}" for _ in range(20)))

        assert await issued(store) == []

    async def test_with_several_sites_one_is_named(self, made, make_config) -> None:
        """Or all of them, in words."""
        sites = [{"name": name, "public_url": f"https://{name}.example.com"} for name in ("oa", "wiki")]
        config = make_config(site=sites)

        assert [(await made(config, name=f"t{number}", site=site))[0].site for number, site in enumerate(("wiki", "all"))] == [
            "wiki",
            "",
        ]
        for site, problem in (("", "say for which site"), ("nope", "no site is named 'nope'")):
            with pytest.raises(NotIssued, match=f"--site: {problem}; there are: oa, wiki, or all"):
                await made(config, site=site)


class TestRevoking:
    """Every running process obeys within a second."""

    async def test_a_running_gateway_obeys(self, made, store, gateway, clock) -> None:
        """Revoked by another process, refused here."""
        _, text = await made()
        assert await answer(gateway, text) == (204, "")

        assert [each.name for each in await revoke(store, now=clock(), by="root", name="ci")] == ["ci"]
        await told(gateway, text, (401, "token-revoked"))

    async def test_by_id_and_no_other(self, made, store, gateway, clock) -> None:
        """The one that was meant."""
        (first, one), (_, other) = await made(), await made(name="other")
        await revoke(store, now=clock(), by="", token_id=first.id)
        await told(gateway, one, (401, "token-revoked"))

        assert await answer(gateway, other) == (204, "")

    async def test_outlives_a_restart(self, made, store, start, gateway, clock) -> None:
        """A process that starts later knows it before it answers."""
        _, text = await made()
        await revoke(store, now=clock(), by="", name="ci")
        listen = {name: f"127.0.0.1:{free_port()}" for name in ("check", "pages", "ops")}
        config = gateway.live.now.config

        later = await start(
            Config(**{name: getattr(config, name) for name in config.__slots__} | {"listen": type(config.listen)(**listen)})
        )
        assert await answer(later, text) == (401, "token-revoked")

    @pytest.mark.parametrize("which", [{"name": "nope"}, {"token_id": "0123456789abcdef"}])
    async def test_what_is_not_there_is_an_error(self, made, store, clock, which) -> None:
        """A typing mistake must not look like a revocation."""
        await made()

        with pytest.raises(NotIssued, match="no live token"):
            await revoke(store, now=clock(), by="", **which)


class TestActingForAMember:
    """In the name of somebody who may be here, as long as they may."""

    async def test_it_has_their_id_as_wecom_spells_it(self, made, gateway) -> None:
        """And their name and account."""
        token, text = await made(member="ZHANGSAN")

        assert (token.member, token.member_name, token.account) == ("zhangsan", "张三", "")
        assert await answer(gateway, text) == (204, "")

    async def test_by_the_account_that_the_application_knows(self, made, make_config, tmp_path) -> None:
        """From the site's source of accounts; nobody without one."""
        (tmp_path / "accounts.csv").write_text("userid,account\nzhangsan,10086\n", "utf-8")
        site = {"name": "default", "public_url": "http://localhost:8080", "account": f"file:{tmp_path}/accounts.csv"}
        config = make_config(site=[site])

        token, _ = await made(config, member="zhangsan")
        assert token.account == "10086"
        with pytest.raises(NotIssued, match="lisi has no account at site default"):
            await made(config, name="two", member="lisi")

    async def test_one_account_for_all_sites(self, made, make_config, tmp_path) -> None:
        """A member with two accounts needs two tokens."""
        (tmp_path / "accounts.csv").write_text("userid,account\nzhangsan,10086\n", "utf-8")
        source = {"account": f"file:{tmp_path}/accounts.csv"}
        sites = [
            {"name": name, "public_url": f"https://{name}.example.com"} | how for name, how in (("oa", source), ("wiki", {}))
        ]

        with pytest.raises(NotIssued, match="a token for each"):
            await made(make_config(site=sites), member="zhangsan", site="all")

    @pytest.mark.parametrize(
        "member, problem", [("nobody", "no such member"), ("zhaoliu", "no such member"), ("../x", "no such member")]
    )
    async def test_not_for_whom_the_app_does_not_see(self, made, store, member, problem) -> None:
        """Unknown to WeCom, or out of the app's scope."""
        with pytest.raises(NotIssued, match=problem):
            await made(member=member)

        assert await issued(store) == []

    async def test_not_for_who_is_disabled_or_blocked(self, made, store, sandbox: Sandbox, clock) -> None:
        """Whom nobody would let sign in gets no token."""
        sandbox.change_member("lisi", {"status": 2})
        await store.append([Record("blocked", clock(), member="zhangsan")])

        for member, problem in (("lisi", "disabled"), ("zhangsan", "blocked")):
            with pytest.raises(NotIssued, match=f"{member}.*{problem}"):
                await made(member=member)

    @pytest.mark.parametrize(
        "record", [{"kind": "revoked"}, {"kind": "blocked"}, {"kind": "signed-out", "details": {"everywhere": True}}]
    )
    async def test_it_ends_with_their_access(self, made, store, gateway, clock, record) -> None:
        """Revoked, blocked or signed out on all devices: the token with them, and the list says so."""
        _, text = await made(member="zhangsan")
        clock.advance(60)
        await store.append([Record(**record, at=clock(), member="ZhangSan")])

        await told(gateway, text, (401, "token-revoked"))
        assert [each.revoked for each in await issued(store)] == [True]

    async def test_it_stays_ended_when_sessions_are_forgotten(self, made, store, gateway, clock) -> None:
        """A token outlives every session: what ended it is remembered as long."""
        _, text = await made(member="zhangsan", days=366)
        await store.append([Record("revoked", clock(), member="zhangsan")])
        await told(gateway, text, (401, "token-revoked"))
        clock.advance(300 * DAY)
        gateway.live.now.standing.forget_ended(clock())

        assert await answer(gateway, text) == (401, "token-revoked")

    @pytest.mark.parametrize("record", [{"kind": "revoked"}, {"kind": "signed-out", "details": {"everywhere": True, "until": 1}}])
    async def test_it_stays_ended_when_records_are_trimmed(self, made, store, clock, record) -> None:
        """Whoever starts after the retention knows the token, and that it is over."""
        token, _ = await made(member="zhangsan", days=366)
        clock.advance(60)
        await store.append([Record(**record, at=clock(), member="zhangsan")])
        clock.advance(300 * DAY)
        while await store.trim(clock() - 200 * DAY):
            pass

        assert [(each.id, each.member, each.revoked) for each in await issued(store)] == [(token.id, "zhangsan", True)]

    async def test_issued_right_after_a_revocation_it_lives(self, made, store, gateway, clock) -> None:
        """The tolerance for clocks does not end what was issued knowingly."""
        await store.append([Record("revoked", clock(), member="zhangsan")])
        clock.advance(1)
        _, text = await made(member="zhangsan")

        await told(gateway, text, (204, ""))

    async def test_its_use_has_the_member_read_again(self, made, make_config, gateway, sandbox: Sandbox, clock) -> None:
        """Whoever is seen by a token only is found to be gone all the same."""
        await gateway.reload(make_config(recheck={"every": "10m"}, listen=dict(gateway.addresses)))
        _, text = await made(member="zhangsan")
        sandbox.change_member("zhangsan", {"status": 2})
        clock.advance(3600)
        assert await answer(gateway, text) == (204, "")

        await gateway.recheck.look()
        assert await answer(gateway, text) == (401, "token-revoked")

    async def test_it_closes_where_nobody_can_be_read(self, made, gateway) -> None:
        """With `recheck.unreachable = "close"` a token is as closed as a session."""
        _, text = await made(member="zhangsan")
        gateway.live.now.watch.unread_before = float("inf")

        assert await answer(gateway, text) == (401, "unverified")


class TestTheRegister:
    """What the ledger holds, whoever wrote it."""

    async def test_a_ledger_that_was_lost_hears_of_the_tokens_again(self, made, store, gateway, clock, opened) -> None:
        """From a gateway that knows them: so they can be listed and revoked by name as before."""
        token, _ = await made(member="zhangsan")
        await revoke(store, now=clock(), by="", name="ci")
        other, text = await made(name="other")
        await told(gateway, text, (204, ""))
        await until(lambda: len(gateway.live.now.standing.records(clock())) >= 3)
        for end in ("", "-wal", "-shm"):
            Path(store.address + end).unlink(missing_ok=True)
        Path(store.address).touch()
        anew = store_at((config := gateway.live.now.config).store, config.owner, clock)
        await anew.open()
        opened.push_async_callback(anew.close)

        async def knows() -> bool:
            return {(each.id, each.revoked) for each in await issued(anew)} == {(token.id, True), (other.id, False)}

        await until(knows)

    @pytest.mark.parametrize("details", [{}, {"id": ""}, {"id": "x"}, {"id": "x", "rules": None}, {"id": "x", "ends": "soon"}])
    async def test_records_of_another_release(self, store, details) -> None:
        """A record that says less, or something else, hides no other token and crashes nothing."""
        await store.append([Record("token-issued", 1.0, details=details)])
        await store.append([Record("token-issued", 2.0, details={"id": "y", "token": "ci", "rules": ["a"], "ends": 5})])

        register = Register()
        await register.follow(store)
        assert register.all()[-1].name == "ci"


# ── the command ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def settings(tmp_path: Path, sandbox: Sandbox) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(
        f"""
        corp_id = "{sandbox.state.corp_id}"
        agent_id = {sandbox.state.agent_id}
        app_secret = "{sandbox.state.secret}"
        signing_key = "{KEY}"
        public_url = "http://localhost:8080"
        store = "sqlite://{tmp_path}/ledger.sqlite3"
        [wecom]
        api_url = "{sandbox.url}"
        [rules]
        finance = ["user:lisi"]
        """,
        "utf-8",
    )
    return path


@pytest.fixture
def command(settings: Path) -> Callable[..., Awaitable[subprocess.CompletedProcess[str]]]:
    """Run ``wecom-gateway token …`` as a shell would."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WECOM_GATEWAY_")}

    async def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "gateway", "token", *arguments, "--config", str(settings)]
        how: dict[str, Any] = {"capture_output": True, "text": True, "encoding": "utf-8", "env": inherited, "timeout": PATIENCE_S}
        return await asyncio.to_thread(subprocess.run, line, check=False, **how)

    return run


class TestTheCommand:
    """What it prints, and how it exits."""

    async def test_the_token_alone_is_printed(self, command, gateway) -> None:
        """On standard output, so that `TOKEN=$(…)` works; the rest is for the eye."""
        done = await command("issue", "--name", "ci", "--rule", "finance")

        assert (done.returncode, done.stdout.count("\n"), done.stdout[:4]) == (0, 1, "wgt_")
        assert "ci, id " in done.stderr
        assert "shown this once" in done.stderr

    async def test_issue_list_revoke_for_scripts(self, command) -> None:
        """Each speaks JSON."""
        made = json.loads((await command("issue", "--name", "ci", "--rule", "finance", "--days", "1", "--json")).stdout)
        listed = json.loads((await command("list", "--json")).stdout)
        ended = json.loads((await command("revoke", "--name", "ci", "--json")).stdout)
        after = json.loads((await command("list", "--json")).stdout)

        assert made["token"].startswith("wgt_")
        assert made["ends"] - made["issued"] == DAY
        assert [(each["name"], each["id"], each["rules"], each["live"]) for each in listed] == [
            ("ci", made["id"], ["finance"], True)
        ]
        assert ended == {"revoked": [{"name": "ci", "id": made["id"]}]}
        assert [(each["revoked"], each["live"]) for each in after] == [(True, False)]

    async def test_a_table_for_people(self, command) -> None:
        """One line for each token, with its state."""
        await command("issue", "--name", "ci", "--rule", "finance", "--member", "zhangsan")
        await command("issue", "--name", "backup", "--rule", "user:lisi,wangwu")
        await command("revoke", "--name", "ci")

        head, *lines = (await command("list")).stdout.splitlines()
        assert head.split() == ["NAME", "ID", "STATE", "RULES", "SITE", "MEMBER", "ISSUED", "ENDS", "BY"]
        assert [(line.split()[0], *line.split()[2:6]) for line in lines] == [
            ("ci", "revoked", "finance", "default", "zhangsan"),
            ("backup", "live", "user:lisi,wangwu", "default", "-"),
        ]

    @pytest.mark.parametrize(
        "arguments, status, said",
        [
            (("issue", "--name", "ci", "--rule", "nope"), 1, "no rule is named 'nope'"),
            (("issue", "--name", "ci", "--rule", "finance", "--member", "nobody"), 1, "no such member"),
            (("issue", "--name", "ci", "--rule", "finance", "--site", "x"), 1, "no site is named 'x'"),
            (("issue", "--name", "c:i", "--rule", "finance"), 2, "a name of letters"),
            (("issue", "--name", "ci"), 2, "--rule"),
            (("issue", "--name", "ci", "--rule", "finance", "--days", "367"), 2, "1<=x<=366"),
            (("revoke", "--name", "ci"), 1, "no live token is named 'ci'"),
            (("revoke",), 2, "either --name or --id"),
            (("revoke", "--name", "ci", "--id", "x"), 2, "either --name or --id"),
        ],
    )
    async def test_what_is_wrong_is_said(self, command, arguments, status, said) -> None:
        """In a sentence, without a traceback, and nothing on standard output."""
        done = await command(*arguments)

        assert (done.returncode, done.stdout, said in done.stderr) == (status, "", True)
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize("verb", [("issue", "--name", "ci", "--rule", "finance"), ("list",), ("revoke", "--name", "ci")])
    async def test_a_store_that_cannot_be_used(self, command, settings, verb) -> None:
        """Exit status 1 and which file; no token is printed."""
        settings.write_text(settings.read_text("utf-8").replace("ledger.sqlite3", "no/such/folder/ledger.sqlite3"), "utf-8")
        done = await command(*verb)

        assert (done.returncode, done.stdout, "no/such/folder" in done.stderr) == (1, "", True)
        assert "Traceback" not in done.stderr

    async def test_wecom_away_is_said(self, command, settings, sandbox) -> None:
        """A member who cannot be looked up gets no token."""
        settings.write_text(settings.read_text("utf-8").replace(sandbox.url, f"http://127.0.0.1:{free_port()}"), "utf-8")
        done = await command("issue", "--name", "ci", "--rule", "finance", "--member", "zhangsan")

        assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (1, "", False)
