"""The name that an old app knows a member by: every source, nobody without one, nobody with another's."""

from __future__ import annotations

import asyncio
import base64
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.accounts import MAX_CHARACTERS, Accounts, Holders, Source, read, same, usable
from gateway.app import Gateway
from gateway.cli import cli
from gateway.config import Config
from gateway.errors import ConfigError
from gateway.ledger.retention import survivors
from gateway.member import Member
from gateway.records import Record
from gateway.sandbox import Sandbox
from gateway.sandbox.faults import Fault
from tests.browser_double import Browser
from tests.conftest import Clock
from tests.patience import PATIENCE_S, until

HOME = "http://localhost:8080/"
OA, ERP = "https://oa.example.com", "https://erp.example.net"
DUE_S = 30 * 60

Browse = Callable[..., Browser]
Start = Callable[[Config], Awaitable[Gateway]]
MakeConfig = Callable[..., Config]


def numbered(number: str) -> dict[str, Any]:
    """WeCom's fields of a member whose 工号 is *number*."""
    return {"extattr": {"attrs": [{"type": 0, "name": "工号", "text": {"value": number}}]}}


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "accounts.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# ── the setting ────────────────────────────────────────────────────────────────────────────────────────────────────

MEMBER = Member("ZhangSan", alias="Sam", extattr={"工号": "10086"})


class TestSource:
    """What the setting says, and what it makes of a member."""

    @pytest.mark.parametrize(
        "text, account",
        [("userid", "ZhangSan"), ("userid-lower", "zhangsan"), ("alias", "Sam"), ("extattr:工号", "10086"), ("extattr:none", "")],
    )
    def test_each_gives_its_account(self, text: str, account: str) -> None:
        """Each source gives its value of a member; an attribute that the member lacks gives none."""
        accounts = Accounts({"erp": Source.parse(text)})

        assert accounts.account("erp", MEMBER.user_id, accounts.attributes("erp", MEMBER)) == account

    def test_a_file_finds_members_in_any_spelling(self, tmp_path: Path) -> None:
        """A file's member ids compare case-insensitively, as WeCom's do."""
        source = Source.parse(f"file:{written(tmp_path, 'zhangSAN,zs')}")

        assert (source.account("ZhangSan", {}), source.account("lisi", {})) == ("zs", "")

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "user",
            "USERID",
            "mobile",
            "email",
            "extattr:",
            "extattr",
            "extattr: x",
            "extattr:a\nb",
            f"extattr:{'x' * 65}",
            "file:",
            "file:accounts.csv",
            "file:/a\x00b",
            "alias:x",
            "userid:x",
        ],
    )
    def test_others_are_mistakes(self, make_config: MakeConfig, text: str) -> None:
        """A source that is none is a mistake of the settings that lists those there are."""
        with pytest.raises(
            ConfigError, match=r"^account: one of userid, userid-lower, alias, extattr:NAME .*file:/PATH.csv is needed"
        ):
            make_config(account=text)

    def test_a_site_may_have_its_own(self, make_config: MakeConfig) -> None:
        """The setting above all tables is for the sites that do not say otherwise."""
        sites = [{"name": "oa", "public_url": OA}, {"name": "erp", "public_url": ERP, "account": "alias"}]

        config = make_config(account="userid-lower", site=sites)

        assert [site.account.text for site in config.sites] == ["userid-lower", "alias"]

    def test_a_session_carries_what_it_needs_and_no_more(self) -> None:
        """Only the callback host's session carries the attributes of all sites; one handed over keeps its own site's."""
        accounts = Accounts({"oa": Source(), "erp": Source.parse("extattr:工号"), "wiki": Source.parse("alias")}, callback="oa")
        all_of_it = accounts.attributes("oa", MEMBER)

        assert all_of_it == {"alias": "Sam", "extattr:工号": "10086"}
        assert accounts.attributes("erp", MEMBER) == accounts.kept("erp", all_of_it) == {"extattr:工号": "10086"}
        assert accounts.kept("oa", all_of_it) == {}

    def test_check_says_which(self, tmp_path: Path) -> None:
        """`wecom-gateway check` names the source, and how many members a file knows."""
        path = written(tmp_path, "zhangsan,1\nlisi,2")
        names = {"CORP_ID": "ww1", "AGENT_ID": "1", "APP_SECRET": "s" * 43, "SIGNING_KEY": "k" * 43, "PUBLIC_URL": OA}
        environment = {f"WECOM_GATEWAY_{name}": value for name, value in (names | {"ACCOUNT": f"file:{path}"}).items()}

        found = CliRunner().invoke(cli, ["check"], env=environment)

        assert found.exit_code == 0, found.output
        assert f"hosts oa.example.com; account file:{path} (2 members)\n" in found.output


class TestUsable:
    """No value can be longer than apps bear, break a header or pass for another."""

    @pytest.mark.parametrize(
        "value, account",
        [
            (" 10086\t", "10086"),
            ("张三", "张三"),
            ("x" * MAX_CHARACTERS, "x" * MAX_CHARACTERS),
            ("x" * (MAX_CHARACTERS + 1), ""),
            ("ad\x00min", ""),
            ("admin\r\nX-WeCom-UserId: boss", ""),
            ("ad\u200bmin", ""),
            ("ad\u202emin", ""),
            ("ad\u00a0min", ""),
            ("\ud800", ""),
            ("token:ci", ""),
            ("ＴＯＫＥＮ：ci", ""),
            ("   ", ""),
        ],
        ids=lambda value: ascii(value)[:30],
    )
    def test_what_may_stand_in_a_header(self, value: str, account: str) -> None:
        """A value with a control character is none at all, never the rest of it: ``ad\\0min`` must not become ``admin``."""
        assert usable(value) == account

    @given(st.text(max_size=200))
    @example("a\x7fb")
    @example("\u2028")
    def test_nothing_breaks_a_header(self, value: str) -> None:
        """Whatever an administrator or a member writes, what is used is short and printable."""
        account = usable(value)

        assert account.isprintable()
        assert len(account) <= MAX_CHARACTERS
        assert account == usable(account)

    @pytest.mark.parametrize(
        "one, other",
        [("Sam", "sAM"), ("ｓａｍ", "sam"), ("straße", "STRASSE"), ("①", "1"), ("K", "\u212a"), ("böss", "boss"), ("ÉVA", "eva")],
    )
    def test_what_an_app_may_take_for_one(self, one: str, other: str) -> None:
        """Letter case, full-width letters and accents, which MySQL does not compare, do not tell two accounts apart."""
        assert same(one) == same(other)

    @pytest.mark.parametrize("unseen", ["\ufe0f", "\U000e0100", "\u034f", "\u3164", "\uffa0", "\u180b", "\u20dd"], ids=ascii)
    def test_what_nobody_sees(self, unseen: str) -> None:
        """A character that does not show, nor count in MySQL, makes no account another, and hides no machine's name."""
        assert same(f"ad{unseen}min") == same(f"admin {unseen}") == same("admin")
        assert usable(f"to{unseen}ken:ci") == usable(unseen) == ""

    @pytest.mark.parametrize("one, other", [("张三", "张叁"), ("김", "기"), ("a1", "a2"), ("กิน", "กน")])
    def test_what_is_another(self, one: str, other: str) -> None:
        """Other letters are other accounts."""
        assert same(one) != same(other)


# ── the file ───────────────────────────────────────────────────────────────────────────────────────────────────────


class TestFile:
    """A CSV file of accounts, as people make them; what is wrong is told by line."""

    @pytest.mark.parametrize(
        "text",
        [
            b"zhangsan,10086\nlisi,10087\n",
            b"UserId,account\r\nzhangsan,10086\r\nlisi,10087\r\n",
            "\ufeffuserid;account\nzhangsan;10086\nlisi;10087".encode(),
            b"zhangsan\t10086\n\n\nlisi\t10087\n",
            b'"zhangsan" , "10086"\n'.replace(b" ", b"") + b" lisi , 10087 ,,\n",
            "账号,工号\nzhangsan,10086\nlisi,10087\n".encode(),
            b"\n\nzhangsan,10086\nlisi,10087",
        ],
        ids=[
            "plain",
            "heading, CRLF",
            "mark, semicolons",
            "tabs, empty lines",
            "quotes, blanks, empty cells",
            "Chinese heading",
            "begins empty",
        ],
    )
    def test_as_people_make_them(self, tmp_path: Path, text: bytes) -> None:
        """With a heading or without, with Excel's mark, with commas, semicolons or tabs: the same table."""
        assert read(str(written(tmp_path, text))) == {"zhangsan": "10086", "lisi": "10087"}

    @pytest.mark.parametrize(
        "text, problem",
        [
            (b"zhangsan,1\nlisi", "line 2: two columns are needed, member id and account"),
            (b"zhangsan,1\nlisi,2,x", "line 2: two columns are needed"),
            (b"zhangsan,1\nlisi,", "line 2: lisi has no account of 1 to 128 printable characters"),
            (b"zhangsan,1\nlisi,a\x07b", "line 2: lisi has no account"),
            (b"zhangsan,1\nlisi,token:ci", "line 2: lisi has no account"),
            (b"zhangsan,1\nlisi," + b"x" * 129, "line 2: lisi has no account"),
            ("zhangsan,1\n李四,2".encode(), "line 2: '李四' is no member id of WeCom"),
            (b"zhangsan,1\nlisi,2\nZhangSan,3", "line 3: 'ZhangSan' stands in line 1 already"),
            (b"zhangsan,Boss\nlisi,2\nwangwu,bOSS", "line 3: 'bOSS' stands in line 1 already"),
            ("zhangsan,sam\nlisi,ｓａｍ".encode(), "line 2: 'ｓａｍ' stands in line 1 already"),
            (b"zhangsan,1\nuserid,account,x", "line 2: two columns"),
            ("姓名,工号\nzhangsan,1".encode(), "line 1: '姓名' is no member id of WeCom (a heading begins with user_id, "),
            (b"zhangsan,1.23457E+11", "line 1: '1.23457E+11' is what Excel makes of a long number or a formula"),
            (b"zhangsan,2E+07", "line 1: '2E+07' is what Excel makes of"),
            (b"zhangsan,1\nlisi,#N/A\nwangwu,#REF!", "line 2: '#N/A' is what Excel makes of"),
            (b'zhangsan,"=""00123"""', "line 1: '=\"00123\"' is what Excel makes of"),
            ("账号\t工号\nzhangsan\t1".encode("utf-16"), "is not UTF-8; in Excel, save it as “CSV UTF-8”"),
            ("zhangsan,张三".encode("gbk"), "is not UTF-8; in Excel, save it as “CSV UTF-8”"),
            (b"", "names nobody: nobody could sign in"),
            (b"userid,account\n", "names nobody"),
            (b'zhangsan,"1', "line 1: unexpected end of data"),
            (b"zhangsan," + b"x" * 200_000, "line 1: field larger than field limit"),
        ],
        ids=lambda value: value[-30:].decode("latin-1") if isinstance(value, bytes) else "",
    )
    def test_mistakes_name_their_line(self, make_config: MakeConfig, tmp_path: Path, text: bytes, problem: str) -> None:
        """A bad file is a mistake of the settings that names the file and the line."""
        path = written(tmp_path, text)

        with pytest.raises(ConfigError, match=f"^account: {re.escape(str(path))}:? {re.escape(problem)}"):
            make_config(account=f"file:{path}")

    def test_many_mistakes_are_told_in_few_words(self, tmp_path: Path) -> None:
        """A file that is wrong from top to bottom does not fill the screen."""
        with pytest.raises(ValueError, match=r"line 5: .*; and 95 more$"):
            read(str(written(tmp_path, "x\n" * 100)))

    def test_one_that_is_not_there(self, make_config: MakeConfig, tmp_path: Path) -> None:
        """A missing file, or a folder, is a mistake of the settings."""
        with pytest.raises(ConfigError, match="cannot be read: No such file"):
            make_config(account=f"file:{tmp_path}/none.csv")
        with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
            make_config(account=f"file:{tmp_path}")

    @given(st.binary(max_size=200))
    @example(b"a,b\x00\n")
    @example(b"\xef\xbb\xbf")
    @example(b'"')
    def test_nonsense_is_a_mistake(self, tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
        """Whatever bytes the file holds, it is read or refused with a sentence, and two members never share an account."""
        path = written(tmp_path_factory.getbasetemp(), text)
        try:
            table, problem = read(str(path)), ""
        except ValueError as error:
            table, problem = {}, str(error)

        assert (str(path) in problem) is not bool(table)
        assert len({same(account) for account in table.values()}) == len(table)


# ── who holds which ────────────────────────────────────────────────────────────────────────────────────────────────


class TestHolders:
    """The first to come holds an account until it has another."""

    def test_the_first_holds_it(self) -> None:
        """A second member gets none of it, in whatever spelling; the first keeps it."""
        holders = Holders()

        assert holders.hold("alias", "Sam", "zhangsan", 1)
        assert not holders.hold("alias", "SAM", "lisi", 2)
        assert holders.hold("alias", "sam", "ZhangSan", 3)
        assert holders.holder("alias", "sam") == "zhangsan"

    def test_another_attribute_is_another_matter(self) -> None:
        """The same value of two attributes says nothing."""
        holders = Holders()

        assert holders.hold("alias", "7", "zhangsan", 1)
        assert holders.hold("extattr:工号", "7", "lisi", 2)

    def test_a_new_account_frees_the_old(self) -> None:
        """Who has another account now holds the former no longer, also where the new one is somebody else's."""
        holders = Holders()
        holders.hold("alias", "Sam", "zhangsan", 1)
        holders.hold("alias", "Lee", "lisi", 2)

        assert not holders.hold("alias", "Lee", "zhangsan", 3)
        assert holders.hold("alias", "Sam", "wangwu", 4)
        assert holders.holder("alias", "Lee") == "lisi"

    def test_released(self) -> None:
        """Who is gone holds nothing; releasing somebody who holds nothing is no error."""
        holders = Holders()
        holders.hold("alias", "Sam", "zhangsan", 1)

        holders.release("alias", "ZHANGSAN")
        holders.release("alias", "nobody")

        assert holders.hold("alias", "Sam", "lisi", 2)
        assert holders.hold("alias", "Lee", "zhangsan", 3)

    @pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 0, 1), (1, 1, 0)], ids=str)
    def test_all_processes_agree(self, order: tuple[int, ...]) -> None:
        """Of two sign-ins in two processes at once the earlier holds it, in whatever order a process hears of them."""
        records = [held("zhangsan", "Sam", 1.0), held("lisi", "sam", 1.5)]
        holders = Holders()

        for number in order:
            holders.heard(records[number])

        assert holders.holder("alias", "Sam") == "zhangsan"
        assert not holders.hold("alias", "Sam", "lisi", 2)

    def test_instead_of_somebody_who_has_another_by_now(self) -> None:
        """A record told again later does not take from the former holder what they have since."""
        holders = Holders()
        holders.heard(held("zhangsan", "Lee", 3))

        holders.heard(held("lisi", "Sam", 2, instead_of="zhangsan"))

        assert (holders.holder("alias", "Lee"), holders.holder("alias", "Sam")) == ("zhangsan", "lisi")

    def test_outlives_the_retention(self) -> None:
        """The ledger carries over who holds which account, the last word of each member on each attribute."""
        old = [held("lisi", "Lee", 1), held("lisi", "Li", 2), held("zhangsan", "Sam", 3), held("wangwu", "Wu", 4)]

        kept = survivors(old, [held("ZhangSan", "Zhang", 500)], 1000)

        assert [(record.member, record.details["account"]) for record in kept] == [("lisi", "Li"), ("wangwu", "Wu")]

    def test_one_instead_of_another(self) -> None:
        """A record that says who has it no longer holds against who came first."""
        holders = Holders()
        holders.heard(held("zhangsan", "Sam", 1))

        holders.heard(held("lisi", "Sam", 2, instead_of="zhangsan"))

        assert holders.holder("alias", "Sam") == "lisi"

    @pytest.mark.parametrize(
        "record",
        [
            Record("signed-in", 1, member="lisi", details={"attribute": "alias", "account": "Sam"}),
            Record("account", 1, member="lisi"),
            Record("account", 1, member="lisi", details={"attribute": 7, "account": ["Sam"], "instead_of": {}}),
            Record("account", 1, member="lisi", details={"attribute": "alias", "account": None}),
        ],
        ids=["another kind", "nothing", "other types", "none"],
    )
    def test_what_says_nothing(self, record: Record) -> None:
        """A record of another kind or shape, of a later release perhaps, changes nothing."""
        holders = Holders()

        holders.heard(record)

        assert holders.hold("alias", "Sam", "zhangsan", 2)


def held(user_id: str, account: str, at: float, **details: str) -> Record:
    return Record("account", at, member=user_id, details={"attribute": "alias", "account": account, **details})


# ── signing in ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "account, seen",
    [("userid", "Li.Na@Example"), ("userid-lower", "li.na@example"), ("alias", "Lina"), ("extattr:工号", "10007")],
)
async def test_each_source(
    browse: Browse, start: Start, make_config: MakeConfig, sandbox: Sandbox, clock: Clock, account: str, seen: str
) -> None:
    """The app is told the account of the chosen source, after sign-in and after a renewal; the alias not unless asked for."""
    browser = browse("Li.Na@Example", at=await start(make_config(account=account)))

    first = await browser.open(HOME)
    clock.advance(DUE_S)
    renewed = await browser.open(HOME)

    assert [(page.status, page.headers["X-WeCom-Account"]) for page in (first, renewed)] == [(200, seen)] * 2
    assert sandbox.state.count("user/get") == 2
    assert "X-WeCom-Alias" not in first.headers


async def test_chinese_account(browse: Browse, start: Start, make_config: MakeConfig, tmp_path: Path) -> None:
    """An account is percent-encoded like a name, or UTF-8 where the settings say so."""
    account = f"file:{written(tmp_path, 'lisi,李 四')}"

    encoded = await browse("lisi", at=await start(make_config(account=account))).open(HOME)
    raw = await browse("lisi", at=await start(make_config(account=account, raw_headers=True))).open(HOME)

    assert encoded.headers["X-WeCom-Account"] == "%E6%9D%8E%20%E5%9B%9B"
    assert raw.headers["X-WeCom-Account"] == "李 四"


@pytest.mark.parametrize(
    "account, missing",
    [("alias", "通讯录中的别名"), ("extattr:工号", "缺少：工号"), ("extattr:none", "缺少：none"), ("file", "")],
)
async def test_nobody_without_one(
    browse: Browse,
    start: Start,
    make_config: MakeConfig,
    sandbox: Sandbox,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    account: str,
    missing: str,
) -> None:
    """A member without a value gets no session but a page that says what is missing and whom to ask; the log says who."""
    sandbox.change_member("lisi", {"alias": "", "extattr": {"attrs": []}})
    account = f"file:{written(tmp_path, 'zhangsan,zs')}" if account == "file" else account
    browser = browse("lisi", at=await start(make_config(account=account, contact="8000 或 it@example.com")))

    page = await browser.open(HOME)

    assert (page.status, page.reason) == (403, "no-account")
    assert page.says("reason.no-account.title")
    assert missing in page.text
    assert "8000 或 it@example.com" in page.text
    assert browser.session(HOME) == ""
    assert f"lisi has no account at default that can be used: account = {account!r}" in caplog.text


async def test_it_comes_later(browse: Browse, start: Start, make_config: MakeConfig, sandbox: Sandbox) -> None:
    """Who was refused gets in with the page's own button once the field is filled."""
    sandbox.change_member("lisi", {"alias": ""})
    browser = browse("lisi", at=await start(make_config(account="alias")))
    refused = await browser.open(HOME)
    sandbox.change_member("lisi", {"alias": "Lee"})

    page = await browser.open(refused.links[0])

    assert (page.status, page.headers["X-WeCom-Account"]) == (200, "Lee")


async def test_it_goes_away(browse: Browse, start: Start, make_config: MakeConfig, sandbox: Sandbox, clock: Clock) -> None:
    """A member who has lost the account is refused at the next renewal and keeps no session."""
    browser = browse("lisi", at=await start(make_config(account="extattr:工号")))
    await browser.open(HOME)
    sandbox.change_member("lisi", numbered(""))
    clock.advance(DUE_S)

    page = await browser.open(f"{HOME}report")

    assert (page.status, page.reason) == (403, "no-account")
    assert browser.session(HOME) == ""
    assert "return_to=/report" in page.links[0]


async def test_control_characters(browse: Browse, start: Start, make_config: MakeConfig, sandbox: Sandbox) -> None:
    """A value that no header may hold lets nobody in."""
    sandbox.change_member("lisi", numbered("10\x0000\r\nX-WeCom-UserId: boss"))

    page = await browse("lisi", at=await start(make_config(account="extattr:工号"))).open(HOME)

    assert (page.status, page.reason) == (403, "no-account")


# ── two with one ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def twins(start: Start, make_config: MakeConfig, sandbox: Sandbox) -> Gateway:
    """zhangsan and lisi have one number."""
    sandbox.change_member("zhangsan", numbered("A7"))
    sandbox.change_member("lisi", numbered("a7"))
    return await start(make_config(account="extattr:工号"))


async def test_second_is_refused(browse: Browse, twins: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """The second member with one account is refused, with an error that names both; the first is let in."""
    await browse("zhangsan", at=twins).open(HOME)

    page = await browse("lisi", at=twins).open(HOME)
    again = await browse("zhangsan", at=twins).open(HOME)

    assert (page.status, page.reason) == (403, "account-taken")
    assert page.says("reason.account-taken.title")
    assert "zhangsan" not in page.text
    (error,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert error.startswith("account-taken lisi ")
    assert "extattr:工号 'a7' is zhangsan's already" in error
    assert (again.status, again.headers["X-WeCom-Account"]) == (200, "A7")


@pytest.mark.parametrize(
    "change", [numbered("B8"), {"status": 5}, {"status": 2}, {"department": [8], "order": [0], "is_leader_in_dept": [0]}],
    ids=["another number", "left", "disabled", "out of scope"],
)  # fmt: skip
async def test_first_has_it_no_longer(browse: Browse, twins: Gateway, sandbox: Sandbox, change: dict[str, Any]) -> None:
    """A number that the first has no longer, or whose holder is gone, may be another's at once."""
    await browse("zhangsan", at=twins).open(HOME)
    sandbox.change_member("zhangsan", change)

    page = await browse("lisi", at=twins).open(HOME)

    assert (page.status, page.headers["X-WeCom-Account"]) == (200, "a7")


async def test_first_is_not_called_so_any_longer(browse: Browse, twins: Gateway, sandbox: Sandbox) -> None:
    """From the moment that another has the account, no session of the first's announces it."""
    first = browse("zhangsan", at=twins)
    await first.open(HOME)
    sandbox.change_member("zhangsan", numbered("B8"))
    await browse("lisi", at=twins).open(HOME)

    image = await first.check(HOME, "fetch", cookie=first.cookie_header(HOME))
    page = await first.open(HOME)

    assert (image.status, image.reason) == (401, "stale")
    assert (page.status, page.headers["X-WeCom-Account"]) == (200, "B8")


async def test_second_is_refused_elsewhere(browse: Browse, twins: Gateway, start: Start, make_config: MakeConfig) -> None:
    """Another process, and one that starts later, refuses the second too."""
    there = await start(make_config(account="extattr:工号"))
    heard = asyncio.Event()
    there.live.now.ledger.subscribe(lambda record: heard.set() if record.kind == "account" else None)
    await browse("zhangsan", at=twins).open(HOME)
    await asyncio.wait_for(heard.wait(), PATIENCE_S)
    later = await start(make_config(account="extattr:工号"))

    pages = [await browse("lisi", at=gateway).open(HOME) for gateway in (there, later)]

    assert [(page.status, page.reason) for page in pages] == [(403, "account-taken")] * 2


async def test_second_is_refused_after_the_ledger_was_lost(
    browse: Browse, twins: Gateway, start: Start, make_config: MakeConfig, tmp_path: Path
) -> None:
    """Who holds which account is written into an empty ledger in its place, too: a restart gives it to nobody else."""
    await browse("zhangsan", at=twins).open(HOME)
    await until(lambda: not twins.live.now.ledger.queued)
    for each in tmp_path.glob("ledger.sqlite3*"):
        each.unlink()
    (tmp_path / "ledger.sqlite3").touch()
    await until(lambda: twins.live.now.ledger.problems)
    await until(lambda: not twins.live.now.ledger.problems)

    page = await browse("lisi", at=await start(make_config(account="extattr:工号"))).open(HOME)

    assert (page.status, page.reason) == (403, "account-taken")


async def test_first_comes_back(browse: Browse, twins: Gateway, sandbox: Sandbox) -> None:
    """Then it is the first who is refused with it."""
    await browse("zhangsan", at=twins).open(HOME)
    sandbox.change_member("zhangsan", numbered("B8"))
    await browse("lisi", at=twins).open(HOME)
    sandbox.change_member("zhangsan", numbered("A7"))

    page = await browse("zhangsan", at=twins).open(HOME)

    assert (page.status, page.reason) == (403, "account-taken")


async def test_taken_at_a_renewal(browse: Browse, twins: Gateway, sandbox: Sandbox, clock: Clock) -> None:
    """A number changed into another member's is refused at the next renewal."""
    sandbox.change_member("lisi", numbered("B8"))
    await browse("zhangsan", at=twins).open(HOME)
    browser = browse("lisi", at=twins)
    await browser.open(HOME)
    sandbox.change_member("lisi", numbered("A7"))
    clock.advance(DUE_S)

    page = await browser.open(HOME)

    assert (page.status, page.reason) == (403, "account-taken")
    assert browser.session(HOME) == ""


async def test_in_doubt_refused(browse: Browse, twins: Gateway, sandbox: Sandbox) -> None:
    """While WeCom does not say whether the first still has it, the second is refused."""
    await browse("zhangsan", at=twins).open(HOME)
    sandbox.change_member("zhangsan", numbered("B8"))
    browser = browse("lisi", at=twins)
    sandbox.state.faults += [Fault("user/get", "slow", seconds=0, times=1), Fault("user/get", errcode=60020)]

    page = await browser.open(HOME)

    assert (page.status, page.reason) == (403, "account-taken")


# ── reload ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_new_file_counts_at_once(browse: Browse, start: Start, make_config: MakeConfig, tmp_path: Path) -> None:
    """After a reload everybody, signed in before or not, has the file's account; who is no longer in it is refused."""
    path = written(tmp_path, "zhangsan,old\nlisi,lee")
    gateway = await start(make_config(account=f"file:{path}"))
    zhangsan, lisi = browse("zhangsan", at=gateway), browse("lisi", at=gateway)
    await zhangsan.open(HOME)
    await lisi.open(HOME)
    written(tmp_path, "zhangsan,new")

    before = await zhangsan.check(HOME)
    await gateway.reload(make_config(account=f"file:{path}"))
    after, gone = await zhangsan.check(HOME), await lisi.check(HOME, "fetch")
    page = await lisi.open(HOME)

    assert [answer.headers["X-WeCom-Account"] for answer in (before, after)] == ["old", "new"]
    assert (gone.status, gone.headers["X-WeCom-Reason"]) == (403, "no-account")
    assert (page.status, page.reason) == (403, "no-account")


async def test_another_source(browse: Browse, start: Start, make_config: MakeConfig, sandbox: Sandbox, clock: Clock) -> None:
    """After a change of the setting nobody passes under the former kind of name: the member is read anew, without a QR."""
    gateway = await start(make_config())
    browser = browse("lisi", at=gateway)
    await browser.open(HOME)
    await gateway.reload(make_config(account="extattr:工号"))

    fetch = await browser.check(HOME, "fetch")
    clock.advance(0.001)
    page = await browser.open(HOME)

    assert (fetch.status, fetch.headers["X-WeCom-Reason"]) == (401, "stale")
    assert (page.status, page.headers["X-WeCom-Account"]) == (200, "10002")
    assert sandbox.state.count("/connect/oauth2/authorize") == 1


async def test_another_source_with_wecom_down(
    browse: Browse, start: Start, make_config: MakeConfig, sandbox: Sandbox, clock: Clock
) -> None:
    """Where the member cannot be read then, a page says so, nobody goes round in circles, and a minute later it works."""
    gateway = await start(make_config())
    browser = browse("lisi", at=gateway)
    await browser.open(HOME)
    await gateway.reload(make_config(account="extattr:工号"))
    sandbox.state.faults.append(Fault("user/get", errcode=60020))

    page = await browser.open(HOME)

    assert (page.status, page.reason) == (503, "wecom-unreachable")
    sandbox.state.faults.clear()
    clock.advance(61)
    assert (await browser.open(HOME)).headers["X-WeCom-Account"] == "10002"
    assert sandbox.state.count("/connect/oauth2/authorize") == 1


# ── many sites ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def sites(start: Start, make_config: MakeConfig, sandbox: Sandbox) -> Gateway:
    """The callback host knows people by their alias, the other site by their number."""
    sandbox.state.app.oauth_domain = "oa.example.com"
    oa, erp = {"name": "oa", "public_url": OA, "account": "alias"}, {"name": "erp", "public_url": ERP, "account": "extattr:工号"}
    return await start(make_config(site=[oa, erp]))


async def test_each_site_has_its_own(browse: Browse, sites: Gateway, sandbox: Sandbox) -> None:
    """One sign-in gives each site its own account, whichever was opened first, without reading the member again."""
    first, second = browse("zhangsan", at=sites), browse("zhangsan", at=sites)

    pages = [await first.open(f"{OA}/"), await first.open(f"{ERP}/"), await second.open(f"{ERP}/"), await second.open(f"{OA}/")]

    assert [page.headers["X-WeCom-Account"] for page in pages] == ["Sam", "10001", "10001", "Sam"]
    assert sandbox.state.count("user/get") == 2


async def test_none_at_the_callback_host(browse: Browse, sites: Gateway) -> None:
    """Who has an account at the other site only gets in there, and at the callback host is told why not, once."""
    browser = browse("lisi", at=sites)

    there, here = await browser.open(f"{ERP}/"), await browser.open(f"{OA}/")

    assert (there.status, there.headers["X-WeCom-Account"]) == (200, "10002")
    assert (here.status, here.reason) == (403, "no-account")
    assert (await browser.check(f"{OA}/", "fetch")).status == 403
    assert (await browser.open(f"{ERP}/x")).status == 200


async def test_none_at_the_other_site(browse: Browse, sites: Gateway, sandbox: Sandbox) -> None:
    """Who has none at the other site is refused there, and goes on at the callback host."""
    sandbox.change_member("zhangsan", numbered(""))
    browser = browse("zhangsan", at=sites)
    await browser.open(f"{OA}/")

    page = await browser.open(f"{ERP}/orders")

    assert (page.status, page.reason) == (403, "no-account")
    assert page.url.startswith(ERP)
    assert "return_to=/orders" in page.links[0]
    assert browser.session(ERP) == ""
    assert (await browser.open(f"{OA}/")).status == 200


async def test_taken_on_the_way(browse: Browse, sites: Gateway, sandbox: Sandbox) -> None:
    """An alias of two members lets the second into the callback host as little by way of the other site."""
    sandbox.change_member("lisi", {"alias": "Sam"})
    await browse("zhangsan", at=sites).open(f"{OA}/")
    browser = browse("lisi", at=sites)

    there, here = await browser.open(f"{ERP}/"), await browser.open(f"{OA}/")

    assert (there.status, there.headers["X-WeCom-Account"]) == (200, "10002")
    assert (here.status, here.reason) == (403, "no-account")


async def test_a_site_that_asks_for_more(browse: Browse, sites: Gateway, make_config: MakeConfig, sandbox: Sandbox) -> None:
    """A session of the callback host from before a site's present setting is renewed before it is handed over."""
    browser = browse("zhangsan", at=sites)
    await browser.open(f"{OA}/")
    sandbox.change_member("zhangsan", {"extattr": {"attrs": [{"type": 0, "name": "域账号", "text": {"value": "corp.zs"}}]}})
    oa = {"name": "oa", "public_url": OA, "account": "alias"}
    await sites.reload(make_config(site=[oa, {"name": "erp", "public_url": ERP, "account": "extattr:域账号"}]))

    page = await browser.open(f"{ERP}/")

    assert (page.status, page.headers["X-WeCom-Account"]) == (200, "corp.zs")
    assert sandbox.state.count("/connect/oauth2/authorize") == 1


async def test_attributes_cannot_be_read(browse: Browse, sites: Gateway) -> None:
    """What accounts are made of is encrypted in the cookie."""
    browser = browse("zhangsan", at=sites)
    await browser.open(f"{OA}/")
    value = browser.session(OA)
    session = sites.live.now.sessions.genuine(value)
    bare = sites.live.now.sessions.seal(replace(session, attributes={}))

    claims, private, _ = value.rsplit(".", 2)

    assert session.attributes == {"alias": "Sam", "extattr:工号": "10001"}
    assert claims == bare.rsplit(".", 2)[0]
    assert b"10001" not in base64.urlsafe_b64decode(private + "===")
