"""Rules beside the locations, as ``examples/rules.conf`` has them with the settings in its header."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.apps.contract import FORGED, HTML, JSON
from tests.apps.inside import application
from tests.apps.stand import Person, Stand, a_folder, running
from tests.examples import placed, settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLACES = ("/", "/finance/", "/technology/", "/leaders/", "/ledger/", "/board/")
OPEN = {
    "zhangsan": {"/", "/technology/", "/ledger/"},
    "lisi": {"/", "/finance/", "/technology/", "/leaders/", "/ledger/", "/board/"},
    "wangwu": {"/", "/technology/", "/leaders/", "/board/"},
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stand() -> AsyncIterator[Stand]:
    with a_folder() as folder:
        async with application(folder) as app:
            servers = placed("rules.conf", {"http://127.0.0.1:3000": app})
            async with running(servers, folder=folder, hosts=["rules.example.com"], **settings("rules.conf")) as stand:
                yield stand


@pytest.mark.parametrize("user_id", OPEN)
async def test_each_member_opens_what_the_rules_say(stand: Stand, user_id: str) -> None:
    """And no more; the application is told who it is, and headers that a client invents change neither."""
    member = await stand.member(user_id)

    answers = {uri: await member.get(uri, FORGED) for uri in PLACES}

    assert {uri for uri, answer in answers.items() if answer.status == 200} == OPEN[user_id]
    assert {answer.status for answer in answers.values()} <= {200, 403}
    assert {answer.told.user for answer in answers.values() if answer.status == 200} == {user_id}


async def test_a_refusal_is_a_page_and_no_loop(stand: Stand) -> None:
    """It names the member and the rule; a script is told the same in JSON."""
    member = await stand.member("wangwu")

    page, script = await member.get("/finance/", HTML), await member.get("/finance/", JSON)

    assert (page.status, "王五" in page.text, "Location" in page.headers) == (403, True, False)
    assert (script.status, script.json["reason"], script.json["rule"]) == (403, "rule", "department:3")


@pytest.mark.parametrize(
    "header",
    [
        "X-WeCom-Rule",
        "X-WeCom-Session",
        "X-WeCom-Site",
        "X-WeCom-Token",
        "X-WeCom-Navigation",
        "X-WeCom-Preflight",
        "X-WeCom-Packed",
        "X-Original-URI",
        "X-WeCom-Original-Uri",
    ],
)
async def test_no_header_changes_a_rule(stand: Stand, header: str) -> None:
    """What nginx tells the gateway, a client cannot."""
    member, other = await stand.member("wangwu"), await stand.member("lisi")
    for value in ("board", "1", "/board/", other.session, "rules"):
        answer = await member.get("/finance/", JSON | {header: value})
        assert (answer.status, answer.json["reason"]) == (403, "rule")


async def reread(stand: Stand, member: Person) -> None:
    """Let time pass until the member has been read again: a renewal that waits for 2 s on a busy machine is put off."""

    def read() -> float:
        return stand.gateway.live.now.sessions.open(member.session, site=stand.config.callback.name).read

    before = read()
    for _ in range(9):
        stand.clock.advance(31 * 60)
        await member.open("/")
        if read() > before:
            return
    raise AssertionError("put off again and again")


async def test_moving_a_member_moves_the_doors(stand: Stand) -> None:
    """After the next reading of the member, another department opens and the former one does not; nobody scans again."""
    member = await stand.member()
    before = (await member.open("/finance/")).status, (await member.open("/technology/")).status

    stand.sandbox.change_member("zhangsan", {"department": [4]})
    try:
        await reread(stand, member)
        after = (await member.open("/finance/")).status, (await member.open("/technology/")).status
    finally:
        stand.sandbox.change_member("zhangsan", {"department": [6]})

    assert (before, after) == ((403, 200), (200, 403))
