"""Radicale, unmodified, as ``examples/radicale.conf`` has it; its users are the accounts of a file, one of them in Chinese."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator
from urllib.parse import unquote

import aiohttp
import pytest
import pytest_asyncio

from tests.apps.contract import FORGED, HTML, JSON
from tests.apps.servers import radicale
from tests.apps.stand import Person, Stand, a_folder, running
from tests.examples import command, placed, settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

ACCOUNTS = "zhangsan,张三\nlisi,lisi\n"
ASKS = '<propfind xmlns="DAV:"><prop><current-user-principal/></prop></propfind>'
EVENT = "\r\n".join(
    ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//test//", "BEGIN:VEVENT", "UID:1", "DTSTAMP:20260101T000000Z",
     "DTSTART:20260101T000000Z", "SUMMARY:开会", "END:VEVENT", "END:VCALENDAR", ""]
)  # fmt: skip
FORGED_USER = [(f"X{first}Remote{second}User", "%E5%BC%A0%E4%B8%89") for first, second in itertools.product("-_", "-_")]
CALENDAR = "/%E5%BC%A0%E4%B8%89/work/"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stand() -> AsyncIterator[Stand]:
    with a_folder() as folder:
        (folder / "accounts.csv").write_text(ACCOUNTS, "utf-8")
        account = f"file:{folder}/accounts.csv"
        async with radicale(folder) as address:
            servers = placed("radicale.conf", {"127.0.0.1:5232": address})
            async with running(
                servers, folder=folder, hosts=["cal.example.com"], account=account, **settings("radicale.conf")
            ) as stand:
                yield stand


async def principal(person: Person, headers: object = ()) -> str:
    """Who Radicale says is there: the member's own folder."""
    answer = await person.ask("PROPFIND", "/", [("Depth", "0"), *headers], body=ASKS)
    assert answer.status == 207, (answer.status, answer.text)
    found = re.search(r"<(?:\w+:)?current-user-principal><(?:\w+:)?href>([^<]*)<", answer.text)
    return unquote(found[1]) if found else ""


async def test_knows_the_member_by_the_account(stand: Stand) -> None:
    """Each has a folder by the name of the account; 张三 is readable by one line of Radicale's settings."""
    assert await principal(await stand.member()) == "/张三/"
    assert await principal(await stand.member("lisi")) == "/lisi/"


async def test_a_forged_user_does_not_arrive(stand: Stand) -> None:
    """lisi stays lisi, whatever the header, its spelling or the password says."""
    basic = ("Authorization", aiohttp.encode_basic_auth("张三", "x", "utf-8"))

    assert await principal(await stand.member("lisi"), [*FORGED_USER, *FORGED, basic]) == "/lisi/"


async def test_a_calendar_is_its_owner_s(stand: Stand) -> None:
    """What a member keeps there the member reads again, and nobody else does: Radicale's own refusal is shown as it is."""
    owner, other = await stand.member(), await stand.member("lisi")

    assert (await owner.ask("MKCALENDAR", CALENDAR)).status == 201
    assert (await owner.ask("PUT", f"{CALENDAR}1.ics", {"Content-Type": "text/calendar"}, body=EVENT)).status == 201

    assert "SUMMARY:开会" in (await owner.get(f"{CALENDAR}1.ics")).text
    refused = await other.get(f"{CALENDAR}1.ics")
    assert (refused.status, "Access to the requested resource forbidden" in refused.text) == (403, True)


async def test_who_has_no_account_does_not_get_in(stand: Stand) -> None:
    """A member whom the file does not know is told so, and Radicale makes no folder."""
    with pytest.raises(AssertionError, match="no-account"):
        await stand.member("wangwu")

    assert not [*(stand.folder / "collections").rglob("wangwu")]


async def test_strangers_sign_in_or_are_told(stand: Stand) -> None:
    """A page leads to WeCom, a calendar program gets 401; signed out, so does the member."""
    member = await stand.member()
    await member.sign_out()

    assert (await stand.stranger().get("/", HTML)).status == 302
    assert (await stand.stranger().ask("PROPFIND", "/", FORGED_USER, body=ASKS)).status == 401
    assert (await member.ask("PROPFIND", "/", JSON, body=ASKS)).json["reason"] == "signed-out"


async def test_a_calendar_program_comes_with_a_token(stand: Stand) -> None:
    """Asked for a password it gives the member's token, and then is that member, whatever name it types beside it."""
    token = await stand.issued(command("radicale.conf"))
    asked = await stand.stranger().ask("PROPFIND", "/", {"Depth": "0"}, body=ASKS)

    for name in ("zhangsan", "lisi"):
        basic = ("Authorization", aiohttp.encode_basic_auth(name, token))
        assert await principal(stand.stranger(), [*FORGED_USER, basic]) == "/张三/"

    assert (asked.status, asked.headers["WWW-Authenticate"].partition(" ")[0]) == (401, "Basic")
    wrong = await stand.stranger().ask(
        "PROPFIND", "/", {"Authorization": aiohttp.encode_basic_auth("zhangsan", "guess")}, body=ASKS
    )
    assert (wrong.status, "WWW-Authenticate" in wrong.headers) == (401, True)
