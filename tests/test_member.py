"""Identity headers announce one member, in bytes that every app can read and no name can break."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, unquote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.member import ACTIVE, IDENTITY, NOT_ACTIVE, Member, encode, identity, identity_headers, visible


@dataclass(frozen=True)
class Announced:
    """The least that headers are made of."""

    member: Member = field(default_factory=lambda: Member("zhangsan"))
    corp_id: str = "ww0123456789abcdef"
    account: str = "zhangsan"
    departments: tuple[int, ...] = ()


FULL = Announced(
    Member(
        user_id="ZhangSan",
        name="张三",
        position="R&D 工程师",
        alias="jack+zhang",
        email="zhang.san@example.com",
        mobile="+86 138 0013 8000",
        avatar="https://wework.qpic.cn/a/0?b=c&d=e",
    ),
    account="1 0086",
    departments=(12, 1),
)


def test_all_headers() -> None:
    """Each value has its header; names are percent-encoded UTF-8, blanks and + too."""
    assert identity_headers(identity(FULL)) == {
        "X-WeCom-UserId": "ZhangSan",
        "X-WeCom-Account": "1%200086",
        "X-WeCom-Name": "%E5%BC%A0%E4%B8%89",
        "X-WeCom-CorpId": "ww0123456789abcdef",
        "X-WeCom-Departments": "12,1",
        "X-WeCom-Email": "zhang.san@example.com",
        "X-WeCom-Mobile": "%2B86%20138%200013%208000",
        "X-WeCom-Avatar": "https://wework.qpic.cn/a/0?b=c&d=e",
        "X-WeCom-Position": "R&D%20%E5%B7%A5%E7%A8%8B%E5%B8%88",
        "X-WeCom-Alias": "jack%2Bzhang",
        "X-WeCom-Kind": "member",
    }


def test_raw_headers_keep_utf8() -> None:
    """With *raw* the texts are the names themselves."""
    headers = identity_headers(identity(FULL, raw=True))

    assert headers["X-WeCom-Name"] == "张三"
    assert headers["X-WeCom-Position"] == "R&D 工程师"


def test_what_is_empty_is_not_sent() -> None:
    """What was not asked for or not granted has no header at all."""
    assert list(identity_headers(identity(Announced()))) == [
        "X-WeCom-UserId",
        "X-WeCom-Account",
        "X-WeCom-CorpId",
        "X-WeCom-Kind",
    ]


def test_names_are_the_documented_ones() -> None:
    """No header comes that nginx's snippets do not know."""
    assert identity_headers(identity(FULL)).keys() == set(IDENTITY)


@given(st.text(st.characters(), max_size=60))
@example("a\r\nX-WeCom-UserId: boss")
@example("\x00\x0b\x7f\x85\u2028\ud800\udcff")
@example("%0d%0aX-WeCom-UserId: boss")
@example("100%")
def test_no_name_breaks_a_header(name: str) -> None:
    """Whatever a name holds, neither way of sending it gives a control character, and percent-encoding gives plain ASCII."""
    announced = Announced(Member("zhangsan", name=name, position=name, alias=name), account=name)

    for raw in (False, True):
        packed = identity(announced, raw=raw)
        assert packed.count("\t") == len(IDENTITY) - 1
        for header, value in identity_headers(packed).items():
            assert value.isprintable(), header
            assert value.encode("utf-8")
            assert raw or (value.isascii() and " " not in value)


@given(st.text(max_size=60))
@example("a+b c%20d")
@example("张三")
@example("张三 (上海) Zhang")
@example("٣")
def test_every_decoder_gives_the_name(name: str) -> None:
    """A percent-encoded value decodes to the text, also by decoders that take + for a blank."""
    assert unquote(encode(name)) == name
    assert unquote_plus(encode(name)) == name


@pytest.mark.parametrize(
    "text, shown",
    [("张 三", "张 三"), ("a\r\nb", "ab"), ("\ud800x", "x"), ("a\u2028b\x85c", "abc"), ("", "")],
    ids=["plain", "line-ends", "surrogate", "separators", "empty"],
)
def test_visible_drops_what_no_header_may_hold(text: str, shown: str) -> None:
    """Control characters, line separators and lone surrogates are dropped, the rest stays."""
    assert visible(text) == shown


@pytest.mark.parametrize("raw", [False, True], ids=["encoded", "raw"])
async def test_an_emoji_arrives(browse: Any, start: Any, make_config: Any, sandbox: Any, raw: bool) -> None:
    """A name of emoji arrives whole where it is encoded; raw, without the invisible characters that join them."""
    sandbox.change_member("lisi", {"name": "李四👨‍👩‍👧"})

    page = await browse("lisi", at=await start(make_config(raw_headers=raw))).open("http://localhost:8080/")

    name = page.headers["X-WeCom-Name"]
    assert (name if raw else unquote(name)) == ("李四👨👩👧" if raw else "李四👨‍👩‍👧")


@pytest.mark.parametrize("raw", [False, True], ids=["encoded", "raw"])
@pytest.mark.parametrize("name", ["李" * 3400, "xy\r\n" * 5000, "👨" * 2500], ids=["Chinese", "lines", "emoji"])
async def test_ten_kilobytes(browse: Any, start: Any, make_config: Any, sandbox: Any, name: str, raw: bool) -> None:
    """A name that no header could hold is refused at sign-in, by a page, however well it packs into a cookie."""
    sandbox.change_member("lisi", {"name": name})

    page = await browse("lisi", at=await start(make_config(raw_headers=raw))).open("http://localhost:8080/")

    assert (page.status, page.reason) == (500, "session-too-big")


async def test_without_departments(browse: Any, sandbox: Any) -> None:
    """A member of whose departments the app sees none is let in where no rule asks, without the header."""
    sandbox.state.apps[0].allow_users = (*sandbox.state.apps[0].allow_users, "zhaoliu")

    page = await browse("zhaoliu").open("http://localhost:8080/")

    assert (page.status, page.headers["X-WeCom-UserId"]) == (200, "zhaoliu")
    assert "X-WeCom-Departments" not in page.headers


def test_only_active_members_have_no_reason() -> None:
    """Every status but that of an active member has a reason to refuse."""
    assert NOT_ACTIVE == {2: "disabled", 4: "not-activated", 5: "left"}
    assert ACTIVE not in NOT_ACTIVE
    assert Member("zhangsan").status == ACTIVE
    assert not Member("zhangsan").extattr
