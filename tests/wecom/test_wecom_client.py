"""The client against the sandbox: a sign-in's calls, and every refusal a gateway must tell from the others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.errors import (
    AppMisconfigured,
    CodeSpent,
    MemberUnknown,
    TicketSpent,
    WeComBusy,
    WeComUnreachable,
)
from gateway.sandbox import Sandbox
from gateway.sandbox.state import Code
from gateway.wecom import Visitor
from tests.patience import in_time
from tests.wecom.scripted import Client, Clock, everything_said


def code_of(sandbox: Sandbox, key: str, **more: Any) -> str:
    """A fresh code of this person, as the authorize page gives it."""
    state = sandbox.state
    person = state.person(key)
    assert person is not None
    domain = more.pop("domain", state.app.oauth_domain)
    return state.new_code(Code(person, state.corp_id, state.agent_id, domain, state.now(), **more))


@pytest.mark.parametrize("key", ["zhangsan", "zhaoliu", "qianqi", "Li.Na@Example", "wwfedcba9876543210/zhoujiu"])
async def test_a_code_says_whose_it_is(sandbox: Sandbox, client: Client, key: str) -> None:
    """A member's code gives the id, in scope or not, active or not, of the own corp or a linked one."""
    assert await client().exchange(code_of(sandbox, key)) == Visitor(key)


async def test_a_stranger_has_no_member_id(sandbox: Sandbox, client: Client) -> None:
    """Somebody who is no member is told apart."""
    visitor = await client().exchange(code_of(sandbox, "oSandboxCustomerOpenId000000"))

    assert visitor.user_id == ""
    assert visitor.open_id == "oSandboxCustomerOpenId000000"


async def test_the_older_endpoint_gives_the_same(sandbox: Sandbox, client: Client) -> None:
    """A private deployment's endpoints lead to the same visitor and details."""
    wecom = client(private=True)
    visitor = await wecom.exchange(code_of(sandbox, "zhangsan", private_fields=("mobile",)))
    details = await wecom.details(visitor.user_ticket)

    assert visitor.user_id == details.user_id == "zhangsan"
    assert details.mobile == "13800010001"
    assert sandbox.state.count("user/getuserinfo") == sandbox.state.count("user/getuserdetail") == 1


async def test_fields_nobody_knows_are_ignored(sandbox: Sandbox, client: Client) -> None:
    """WeCom may add fields at any time."""
    sandbox.state.switches.unknown_fields = True
    wecom = client()

    assert (await wecom.exchange(code_of(sandbox, "zhangsan"))).user_id == "zhangsan"
    assert (await wecom.member("zhangsan")).name == "张三"


async def test_a_used_code_is_spent(sandbox: Sandbox, client: Client) -> None:
    """The second exchange of one code asks for a new sign-in."""
    wecom, code = client(), code_of(sandbox, "zhangsan")
    await wecom.exchange(code)

    with pytest.raises(CodeSpent) as spent:
        await wecom.exchange(code)

    assert spent.value.errcode == 40029
    assert spent.value.reason == "code-spent"


async def test_an_old_code_is_spent(sandbox: Sandbox, client: Client, clock: Clock) -> None:
    """A code lives five minutes."""
    code = code_of(sandbox, "zhangsan")
    clock.now += 300

    with pytest.raises(CodeSpent):
        await client().exchange(code)


async def test_a_made_up_code_is_spent(client: Client) -> None:
    """What WeCom never gave out is told like a used code."""
    with pytest.raises(CodeSpent):
        await client().exchange("made-up")


async def test_a_code_of_another_app_is_a_matter_of_setup(sandbox: Sandbox, client: Client) -> None:
    """50001 tells the operator that agent id, secret and domain do not belong together."""
    with pytest.raises(AppMisconfigured) as refused:
        await client(sandbox.state.apps[1].secret).exchange(code_of(sandbox, "zhangsan"))

    assert refused.value.errcode == 50001
    assert refused.value.reason == "wecom-setup"
    assert "可信域名" in refused.value.fix


async def test_contact_sync_may_not_exchange(sandbox: Sandbox, client: Client) -> None:
    """The secret of contact sync is recognised as the wrong one."""
    with pytest.raises(AppMisconfigured) as refused:
        await client(sandbox.state.apps[2].secret).exchange(code_of(sandbox, "zhangsan"))

    assert refused.value.errcode == 48002
    assert "通讯录同步" in refused.value.fix


async def test_an_untrusted_address_is_named(sandbox: Sandbox, client: Client) -> None:
    """60020 says which address to enter in the console."""
    sandbox.state.app.trusted_ips = ("203.0.113.1",)

    with pytest.raises(AppMisconfigured) as refused:
        await client().exchange(code_of(sandbox, "zhangsan"))

    assert refused.value.errcode == 60020
    assert "Add 127.0.0.1 to" in refused.value.fix


async def test_a_member_is_read(sandbox: Sandbox, client: Client) -> None:
    """Name, departments, leadership and attributes come from user/get."""
    member = await client().member("wangwu")

    assert (member.user_id, member.name, member.status) == ("wangwu", "王五", 1)
    assert (member.departments, member.leader_of) == ((5, 7), (5,))
    assert member.extattr == {"工号": "10003"}
    assert (member.mobile, member.email) == ("", "")


async def test_an_old_app_reads_private_fields(sandbox: Sandbox, client: Client) -> None:
    """Apps from before June 2022 still get mobile and e-mail."""
    sandbox.state.app.created_at = 1_600_000_000

    member = await client().member("zhangsan")

    assert (member.mobile, member.email) == ("13800010001", "zhangsan@example.com")


@pytest.mark.parametrize("asked", ["li.na@example", "LI.NA@EXAMPLE", "Li.Na@Example"])
async def test_an_id_keeps_wecoms_spelling(client: Client, asked: str) -> None:
    """Whatever spelling is asked for, the member has the one that WeCom stores."""
    assert (await client().member(asked)).user_id == "Li.Na@Example"


@pytest.mark.parametrize("user_id, status", [("qianqi", 2), ("sunba", 4)])
async def test_a_disabled_member_is_told(client: Client, user_id: str, status: int) -> None:
    """Members who may not use WeCom are read with their status."""
    assert (await client().member(user_id)).status == status


@pytest.mark.parametrize("errcode", [60111, 60011])
@pytest.mark.parametrize("user_id", ["zhaoliu", "nobody"])
async def test_out_of_scope_and_gone_are_unknown(sandbox: Sandbox, client: Client, user_id: str, errcode: int) -> None:
    """Both of WeCom's answers for a member it does not show mean the same."""
    sandbox.state.switches.unknown_member_errcode = errcode

    with pytest.raises(MemberUnknown) as unknown:
        await client().member(user_id)

    assert unknown.value.errcode == errcode
    assert unknown.value.reason == "out-of-scope"


@pytest.mark.parametrize(
    "user_id", ["", "a/b", "wwfedcba9876543210/zhoujiu", "a b", "张三", "a" * 65, "a\n", "a&b=c", "\ud800"], ids=repr
)
async def test_what_cannot_be_an_id_is_not_asked(sandbox: Sandbox, client: Client, user_id: str) -> None:
    """An id outside WeCom's alphabet is unknown without a call."""
    with pytest.raises(MemberUnknown):
        await client().member(user_id)

    assert len(sandbox.state.requests) == 0


@pytest.mark.parametrize("errcode", [40001, 40013, 45009, 48006, 50001, 50003, 60020, 301007, -1, 45033], ids=str)
async def test_the_apps_troubles_are_not_the_members(sandbox: Sandbox, client: Client, errcode: int) -> None:
    """No error that concerns the app or WeCom is mistaken for a member who is gone."""
    sandbox.state.fault("user/get", errcode=errcode)

    with pytest.raises((AppMisconfigured, WeComBusy)) as error:
        await client().member("zhangsan")

    assert error.value.errcode == errcode


async def test_details_are_what_was_agreed(sandbox: Sandbox, client: Client) -> None:
    """Only the fields agreed to are filled."""
    wecom = client()
    visitor = await wecom.exchange(code_of(sandbox, "zhangsan", private_fields=("mobile", "email")))

    details = await wecom.details(visitor.user_ticket)

    assert (details.mobile, details.email) == ("13800010001", "zhangsan@example.com")
    assert details.biz_mail == ""
    assert details.user_id == "zhangsan"


async def test_an_old_ticket_is_spent(sandbox: Sandbox, client: Client, clock: Clock) -> None:
    """A ticket lives half an hour; after it a sign-in goes on without details."""
    wecom = client()
    visitor = await wecom.exchange(code_of(sandbox, "zhangsan", private_fields=("mobile",)))
    clock.now += 1800

    with pytest.raises(TicketSpent) as spent:
        await wecom.details(visitor.user_ticket)

    assert spent.value.errcode == 84014


@pytest.mark.parametrize("ticket, calls", [("made-up", 1), ("", 0)])
async def test_a_wrong_ticket_is_spent(sandbox: Sandbox, client: Client, ticket: str, calls: int) -> None:
    """A made-up ticket is told like an old one, and none is not asked about."""
    with pytest.raises(TicketSpent):
        await client().details(ticket)

    assert sandbox.state.count("auth/getuserdetail") == calls


@pytest.mark.parametrize("kind", ["html", "reset", "truncated", "cut", "revoke-tokens"])
async def test_a_member_is_read_through_two_faults(sandbox: Sandbox, client: Client, kind: str) -> None:
    """Reading a member survives what a bad network does twice, and a token revoked under its feet."""
    sandbox.state.fault("user/get", kind=kind, times=1 if kind == "revoke-tokens" else 2)

    assert (await client().member("zhangsan")).name == "张三"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("kind", ["html", "reset", "truncated", "cut", "redirect"])
async def test_an_exchange_is_never_repeated(sandbox: Sandbox, client: Client, kind: str, after: bool) -> None:
    """Whether WeCom had taken the code or not, a broken answer ends the exchange, and the code is not shown."""
    code = code_of(sandbox, "zhangsan")
    sandbox.state.fault("auth/getuserinfo", kind=kind, times=1, after=after)

    with pytest.raises(WeComUnreachable) as unreachable:
        await client().exchange(code)

    assert sandbox.state.count("auth/getuserinfo") == 1
    assert sandbox.state.codes[code].used is (after or kind in ("truncated", "cut"))
    assert code not in everything_said(unreachable.value)


async def test_an_exchange_survives_a_revoked_token(sandbox: Sandbox, client: Client) -> None:
    """A refused token means that the code was not looked at: it is exchanged with a new token."""
    wecom = client()
    await wecom.access_token()
    sandbox.state.revoke_tokens()

    assert (await wecom.exchange(code_of(sandbox, "zhangsan"))).user_id == "zhangsan"
    assert sandbox.state.count("auth/getuserinfo") == 2


async def test_a_busy_wecom_is_passed_over(sandbox: Sandbox, client: Client) -> None:
    """-1 twice and then an answer is an answer, for every call of a sign-in."""
    for path in ("gettoken", "auth/getuserinfo", "user/get"):
        sandbox.state.fault(path, errcode=-1, times=2)
    wecom = client()

    assert (await wecom.exchange(code_of(sandbox, "zhangsan"))).user_id == "zhangsan"
    assert (await wecom.member("zhangsan")).user_id == "zhangsan"


async def test_a_hanging_wecom_ends_in_time(sandbox: Sandbox, client: Client) -> None:
    """Ten calls that WeCom never answers end within the time given, side by side."""
    sandbox.state.fault("user/get", kind="hang")
    wecom = client()

    calls = (wecom.member("zhangsan", timeout_s=0.1) for _ in range(10))
    results = await in_time(asyncio.gather(*calls, return_exceptions=True), 1)

    assert {type(result) for result in results} == {WeComUnreachable}
