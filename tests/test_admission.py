"""Whom WeCom vouches for: every kind of visitor that must not get in, each with its own reason; and personal details."""

from __future__ import annotations

import asyncio
import base64
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.config import Config
from gateway.sandbox import Sandbox
from tests.browser_double import Browser, Page

HOME = "http://localhost:8080/"
SESSION = "wecom_session_8080"
PERSONAL = ("X-WeCom-Email", "X-WeCom-Mobile", "X-WeCom-Avatar", "X-WeCom-Position", "X-WeCom-Alias")

Browse = Callable[..., Browser]
Start = Callable[[Config], Awaitable[Gateway]]
MakeConfig = Callable[..., Config]


def personal(page: Page) -> dict[str, str]:
    return {name: page.headers[name] for name in PERSONAL if name in page.headers}


# ── who ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "person, reason",
    [
        ("zhaoliu", "out-of-scope"),
        ("qianqi", "disabled"),
        ("sunba", "not-activated"),
        ("wwfedcba9876543210/zhoujiu", "linked-corp"),
        ("oSandboxVisitorOpenId0000000", "not-a-member"),
        ("oSandboxCustomerOpenId000000", "not-a-member"),
    ],
)
async def test_refused(browse: Browse, person: str, reason: str) -> None:
    """Whoever is not an active member in the app's scope gets no session, and a page with a reason of their own."""
    browser = browse(person)

    page = await browser.open(HOME)

    assert (page.status, page.reason) == (403, reason)
    assert page.says(f"reason.{reason}.title")
    assert browser.session(HOME) == ""


@pytest.mark.parametrize("status, reason", [(5, "left"), (2, "disabled"), (4, "not-activated")])
async def test_status(browse: Browse, sandbox: Sandbox, status: int, reason: str) -> None:
    """Each ``status`` other than 1 has its reason, at a desktop as well."""
    sandbox.change_member("lisi", {"status": status})

    page = await browse().sign_in(HOME, "lisi")

    assert (page.status, page.reason) == (403, reason)
    assert SESSION not in [name for name, value in page.cookies_set.items() if value]


async def test_linked_corp_at_a_desktop(browse: Browse) -> None:
    """A member of a linked corp is refused after a scan too."""
    page = await browse().sign_in(HOME, "wwfedcba9876543210/zhoujiu")

    assert (page.status, page.reason) == (403, "linked-corp")


async def test_refused_person_loses_the_session_at_hand(browse: Browse) -> None:
    """Who signs in anew as somebody who may not be here keeps no session from before."""
    browser = browse()
    await browser.sign_in(HOME, "lisi")

    page = await browser.sign_in("http://localhost:8080/_wecom/login?again=1", "qianqi")

    assert (page.status, page.reason) == (403, "disabled")
    assert browser.session(HOME) == ""


async def test_odd_user_id(browse: Browse) -> None:
    """Capitals, dots and ``@`` in an id arrive in WeCom's stored spelling."""
    page = await browse("Li.Na@Example").open(HOME)

    assert (page.status, page.headers["X-WeCom-UserId"]) == (200, "Li.Na@Example")


async def test_identity(browse: Browse, sandbox: Sandbox) -> None:
    """A session announces the member with what WeCom told, and nothing personal that was not asked for."""
    page = await browse("wangwu").open(HOME)

    told = {name: value for name, value in page.headers.items() if name.startswith("X-WeCom-")}
    assert told == {
        "X-WeCom-UserId": "wangwu",
        "X-WeCom-Account": "wangwu",
        "X-WeCom-Name": "%E7%8E%8B%E4%BA%94",
        "X-WeCom-CorpId": sandbox.state.corp_id,
        "X-WeCom-Departments": "5,7,6",
        "X-WeCom-Kind": "member",
    }


async def test_too_big(
    browse: Browse, sandbox: Sandbox, start: Start, make_config: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    """What does not fit into a cookie is refused with a page and a log line, never dropped silently."""
    gateway = await start(make_config(details=["position"]))
    sandbox.change_member("zhangsan", {"position": "".join(chr(0x4E00 + number * 37 % 20000) for number in range(1500))})

    page = await browse("zhangsan", at=gateway).open(HOME)

    assert (page.status, page.reason) == (500, "session-too-big")
    assert SESSION not in [name for name, value in page.cookies_set.items() if value]
    assert re.search(r"of zhangsan: \d+ bytes of \d+", caplog.text)


# ── details ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_position_and_alias(browse: Browse, start: Start, make_config: MakeConfig) -> None:
    """Position and alias come with the member, where asked for."""
    gateway = await start(make_config(details=["position", "alias"]))

    page = await browse("zhangsan", at=gateway).open(HOME)

    assert personal(page) == {"X-WeCom-Position": "%E5%B7%A5%E7%A8%8B%E5%B8%88", "X-WeCom-Alias": "Sam"}


@pytest.fixture
async def asking(start: Start, make_config: MakeConfig) -> Gateway:
    """A gateway that asks for the details that need consent."""
    return await start(make_config(scope="snsapi_privateinfo", details=["email", "mobile", "avatar"]))


async def consented(browser: Browser, decision: str, fields: list[str]) -> Page:
    """Sign in by way of WeCom's consent page."""
    asked = await browser.open(HOME)
    assert "decision" in asked.text
    answer = await browser._fetch(
        "POST", asked.url, data={"decision": decision, "field": fields} if fields else {"decision": decision}
    )
    return await browser.open(answer.location)


async def test_consent(browse: Browse, asking: Gateway, sandbox: Sandbox) -> None:
    """What the member agrees to show arrives."""
    sandbox.state.switches.auto_consent = True

    page = await browse("zhangsan", at=asking).open(HOME)

    assert personal(page) == {
        "X-WeCom-Email": "zhangsan@example.com",
        "X-WeCom-Mobile": "13800010001",
        "X-WeCom-Avatar": "https://wework.qpic.example/avatar/10001/0",
    }


async def test_consent_to_a_part(browse: Browse, asking: Gateway) -> None:
    """What the member does not agree to show is empty; a second address stands in for the first."""
    page = await consented(browse("zhangsan", at=asking), "agree", ["biz_mail"])

    assert page.status == 200
    assert page.headers["X-WeCom-Email"] == "zhangsan@corp.example.com"
    assert "X-WeCom-Mobile" not in page.headers


@pytest.mark.parametrize("way", ["ticket", "no-code"])
async def test_consent_refused(browse: Browse, asking: Gateway, sandbox: Sandbox, way: str) -> None:
    """Who refuses is signed in without details, or, where WeCom gives no code then, told that the sign-in was not completed."""
    sandbox.state.switches.refused_consent = way

    page = await consented(browse("zhangsan", at=asking), "refuse", [])

    if way == "ticket":
        assert (page.status, "X-WeCom-Mobile" in page.headers) == (200, False)
    else:
        assert (page.status, page.reason) == (400, "no-code")


async def test_no_consent_at_a_desktop(browse: Browse, asking: Gateway, sandbox: Sandbox) -> None:
    """A scan brings no ticket: signed in without details."""
    page = await browse(at=asking).sign_in(HOME, "lisi")

    assert (page.status, personal(page)) == (200, {})
    assert sandbox.state.count("auth/getuserdetail") == 0


@pytest.mark.parametrize(
    "fault",
    [
        {"errcode": 84014},
        {"errcode": 84015},
        {"errcode": 92000},
        {"errcode": 92001},
        {"errcode": 60020},
        {"errcode": -1},
        {"kind": "html"},
    ],
    ids=lambda fault: str(next(iter(fault.values()))),
)
async def test_ticket_of_no_use(
    browse: Browse, asking: Gateway, sandbox: Sandbox, fault: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A ticket that WeCom does not take, or does not answer, costs the details, not the sign-in; the log says so."""
    sandbox.state.switches.auto_consent = True
    sandbox.state.fault("auth/getuserdetail", **fault)

    page = await browse("zhangsan", at=asking).open(HOME)

    assert (page.status, personal(page)) == (200, {})
    assert "no details for zhangsan" in caplog.text


async def test_details_of_somebody_else(
    browse: Browse, asking: Gateway, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """Details that WeCom gives for another member are never announced as this one's."""
    sandbox.state.switches.auto_consent = True
    sandbox.state.fault("user/get", kind="slow", seconds=1)
    coming = asyncio.create_task(browse("zhangsan", at=asking).open(HOME))
    while not sandbox.state.tickets:
        await asyncio.sleep(0)
    sandbox.state.tickets = {value: replace(ticket, userid="lisi") for value, ticket in sandbox.state.tickets.items()}

    page = await coming

    assert (page.status, page.headers["X-WeCom-UserId"], personal(page)) == (200, "zhangsan", {})
    assert "those of another member" in caplog.text


async def test_ticket_without_wish(browse: Browse, start: Start, make_config: MakeConfig, sandbox: Sandbox) -> None:
    """Details that nobody asked for are not fetched, even with a ticket."""
    sandbox.state.switches.auto_consent = True
    gateway = await start(make_config(scope="snsapi_privateinfo", details=["position"]))

    page = await browse("zhangsan", at=gateway).open(HOME)

    assert page.status == 200
    assert set(personal(page)) == {"X-WeCom-Position"}
    assert sandbox.state.count("auth/getuserdetail") == 0


async def test_old_app(browse: Browse, start: Start, make_config: MakeConfig, sandbox: Sandbox) -> None:
    """An app from before 2022 reads e-mail and mobile with the member: still only what was asked for is kept."""
    sandbox.state.app.created_at = 1_600_000_000.0
    gateway = await start(make_config(details=["email"]))

    page = await browse("zhangsan", at=gateway).open(HOME)

    assert personal(page) == {"X-WeCom-Email": "zhangsan@example.com"}


async def test_details_are_not_readable(browse: Browse, asking: Gateway, sandbox: Sandbox, caplog: Any) -> None:
    """Neither cookie nor log shows a phone number or an e-mail address."""
    sandbox.state.switches.auto_consent = True
    browser = browse("zhangsan", at=asking)

    with caplog.at_level(logging.DEBUG):
        await browser.open(HOME)

    value = browser.session(HOME)
    shown = [base64.urlsafe_b64decode(part + "===") for part in value.split(".")]
    _, private = asking.live.now.sealer.open("session", value)
    assert {"13800010001", "zhangsan@example.com"} <= set(private[:3])
    assert "13800010001" not in f"{shown}{value}{caplog.text}"
    assert "zhangsan@example.com" not in f"{shown}{value}{caplog.text}"
