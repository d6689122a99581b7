"""The API answers as the real one: order of checks, wording, lifetimes."""

from __future__ import annotations

import re
from dataclasses import replace

import aiohttp
import pytest

from gateway.sandbox import Sandbox
from gateway.sandbox.organisation import below
from gateway.sandbox.state import OLD_APPS_UNTIL, SENSITIVE


async def test_error_names_hint_address_and_devtool(client, sandbox):
    """An errmsg carries a 25-digit hint that begins with the time, the caller's address and the devtool link."""
    answer = await client.api("user/get", userid="zhangsan")

    assert answer["errcode"] == 41001
    assert re.fullmatch(
        r"access_token missing, hint: \[1800000000[0-9]{15}\], from ip: 127\.0\.0\.1, "
        r"more info at https://open\.work\.weixin\.qq\.com/devtool/query\?e=41001",
        answer["errmsg"],
    )


async def test_token_is_repeated_while_good(client, clock):
    """A repeated gettoken gives the same token with less time left, and a new one after 7200 s."""
    first = await client.token()
    clock.now += 7199
    again = await client.token()
    clock.now += 1
    later = await client.token()

    assert first == again
    assert first != later


async def test_token_lives_two_hours(client, clock):
    """A token is refused 42001 from its 7200th second on."""
    token = await client.token()
    clock.now += 7199
    good = await client.api("tag/list", access_token=token)
    clock.now += 1
    expired = await client.api("tag/list", access_token=token)

    assert (good["errcode"], expired["errcode"]) == (0, 42001)


async def test_rotating_tokens_stay_good(client, sandbox):
    """With rotation switched on a repeat gives another token and the first still works."""
    sandbox.state.switches.rotate_tokens = True
    first, second = await client.token(), await client.token()

    assert first != second
    assert (await client.api("tag/list", access_token=first))["errcode"] == 0


async def test_revoked_token_is_invalid(client, sandbox):
    """A token that WeCom ended early is 40014, and gettoken gives a new one."""
    token = await client.token()
    sandbox.state.revoke_tokens()

    assert (await client.api("tag/list", access_token=token))["errcode"] == 40014
    assert await client.token() != token


@pytest.mark.parametrize(
    ("query", "errcode"),
    [
        ({}, 41002),
        ({"corpid": "ww0123456789abcdef"}, 41004),
        ({"corpid": "wwffffffffffffffff", "corpsecret": "x"}, 40013),
        ({"corpid": "ww0123456789abcdef", "corpsecret": "x"}, 40001),
        ({"corpid": "ww0123456789abcdef", "corpsecret": "sandbox-other-corp-secret-0123456789abcdefg"}, 40091),
    ],
    ids=["no-corpid", "no-secret", "bad-corpid", "bad-secret", "other-corp"],
)
async def test_gettoken_refuses(client, query, errcode):
    """gettoken names what is missing or wrong."""
    assert (await client.api("gettoken", **query))["errcode"] == errcode


async def test_disabled_app(client, sandbox):
    """A disabled app gets no token (40001) and its old one is refused (50003)."""
    token = await client.token()
    sandbox.state.app.enabled = False
    refused = await client.api("gettoken", corpid=sandbox.state.corp_id, corpsecret=sandbox.state.secret)

    assert refused["errcode"] == 40001
    assert (await client.api("tag/list", access_token=token))["errcode"] == 50003


async def test_suspended_corp(client, sandbox):
    """A corp that is not available is 301007."""
    token = await client.token()
    sandbox.state.suspended = True

    assert (await client.api("tag/list", access_token=token))["errcode"] == 301007


async def test_wrong_secrets_ban_the_address(client, sandbox, clock):
    """Too many wrong secrets are 45009 for an hour, even with the right secret; other addresses go on."""
    sandbox.state.limits.wrong_secrets_hour = 2
    wrong = {"corpid": sandbox.state.corp_id, "corpsecret": "wrong"}
    right = {"corpid": sandbox.state.corp_id, "corpsecret": sandbox.state.secret}
    codes = [(await client.api("gettoken", **wrong))["errcode"] for _ in range(3)]
    banned = await client.api("gettoken", **right)
    elsewhere = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
    async with (
        aiohttp.ClientSession(connector=elsewhere) as http,
        http.get(f"{sandbox.url}/cgi-bin/gettoken", params=right) as answer,
    ):
        other = await answer.json()
    clock.now += 3601
    after = await client.api("gettoken", **right)

    assert codes == [40001, 40001, 45009]
    assert (banned["errcode"], other["errcode"], after["errcode"]) == (45009, 0, 0)


async def test_too_many_calls_block_for_the_window(client, sandbox, clock):
    """More calls of one API than its minute allows are 45009 until the minute is over; another API goes on."""
    token = await client.token()
    sandbox.state.limits.api_minute = 2
    codes = [(await client.api("tag/list", access_token=token))["errcode"] for _ in range(4)]
    other = await client.api("department/list", access_token=token)
    clock.now += 61
    after = await client.api("tag/list", access_token=token)

    assert codes == [0, 0, 45009, 45009]
    assert (other["errcode"], after["errcode"]) == (0, 0)


async def test_good_codes_are_not_limited(client, sandbox):
    """A call with a code that is good passes an exhausted limit; one with a bad code does not."""
    token, code = await client.token(), await client.code()
    sandbox.state.limits.api_minute = 0
    bad = await client.api("auth/getuserinfo", access_token=token, code="bad")
    good = await client.api("auth/getuserinfo", access_token=token, code=code)

    assert (bad["errcode"], good["errcode"]) == (45009, 0)


async def test_debug_is_limited_to_five_a_minute(client):
    """debug=1 is 45009 at its sixth call in a minute."""
    token = await client.token()
    codes = [(await client.api("tag/list", access_token=token, debug=1))["errcode"] for _ in range(6)]

    assert codes == [0, 0, 0, 0, 0, 45009]


async def test_untrusted_address_comes_before_parameters(client, sandbox):
    """60020 comes before the parameters are looked at, names the address, and does not concern gettoken."""
    sandbox.state.app.trusted_ips = ("203.0.113.7",)
    token = await client.token()
    answer = await client.api("auth/getuserinfo", access_token=token, code="made-up")

    assert answer["errcode"] == 60020
    assert "from ip: 127.0.0.1" in answer["errmsg"]


async def test_old_app_without_list_trusts_all(client, sandbox):
    """An app from before June 2022 needs no trusted address; a new one without any refuses all."""
    sandbox.state.app.trusted_ips = ()
    new = await client.call("tag/list")
    sandbox.state.app.created_at = OLD_APPS_UNTIL - 1
    old = await client.call("tag/list")

    assert (new["errcode"], old["errcode"]) == (60020, 0)


async def test_code_gives_userid_once(client):
    """A code gives the userid, and only that, exactly once."""
    code = await client.code()
    first = await client.call("auth/getuserinfo", code=code)
    second = await client.call("auth/getuserinfo", code=code)

    assert first == {"errcode": 0, "errmsg": "ok", "userid": "zhangsan"}
    assert second["errcode"] == 40029


async def test_code_lives_five_minutes(client, clock):
    """A code is good in its 299th second and 40029 in its 300th."""
    early, late = await client.code(), await client.code()
    clock.now += 299
    good = await client.call("auth/getuserinfo", code=early)
    clock.now += 1
    old = await client.call("auth/getuserinfo", code=late)

    assert (good["errcode"], old["errcode"]) == (0, 40029)


async def test_code_missing(client):
    """A missing code is 41008."""
    assert (await client.call("auth/getuserinfo"))["errcode"] == 41008


async def test_code_of_another_app(client):
    """A code of one app with the token of another is 50001 and stays good for its own."""
    code = await client.code()
    foreign = await client.api("auth/getuserinfo", access_token=await client.token(1), code=code)
    own = await client.call("auth/getuserinfo", code=code)

    assert (foreign["errcode"], own["errcode"]) == (50001, 0)


async def test_code_whose_domain_is_no_longer_trusted(client, sandbox):
    """A code sent to a host that is not the app's trusted domain is 50001."""
    code = await client.code()
    sandbox.state.app.oauth_domain = "other.example.com"

    assert (await client.call("auth/getuserinfo", code=code))["errcode"] == 50001


async def test_code_with_sync_assistant(client):
    """The contact-sync assistant may not consume codes: 48002."""
    code = await client.code()
    answer = await client.api("auth/getuserinfo", access_token=await client.token(2), code=code)

    assert answer["errcode"] == 48002


async def test_member_out_of_scope_still_has_a_userid(client):
    """getuserinfo answers for every member, in the app's scope or not."""
    code = await client.code(member="zhaoliu")

    assert (await client.call("auth/getuserinfo", code=code))["userid"] == "zhaoliu"


async def test_linked_corp_member(client):
    """A member of a linked corp is CorpId/userid, without a ticket."""
    code = await client.code(member="wwfedcba9876543210/zhoujiu", scope="snsapi_privateinfo")
    answer = await client.call("auth/getuserinfo", code=code)

    assert answer == {"errcode": 0, "errmsg": "ok", "userid": "wwfedcba9876543210/zhoujiu"}


async def test_visitors_have_openids(client, sandbox):
    """A visitor is an openid; a customer also has external_userid while the follower is in scope."""
    visitor, customer = [one for one in sandbox.state.outsiders.values() if one.openid]
    plain = await client.call("auth/getuserinfo", code=await client.code(member=visitor.key))
    known = await client.call("auth/getuserinfo", code=await client.code(member=customer.key))
    sandbox.state.app.allow_departments = (2,)
    unknown = await client.call("auth/getuserinfo", code=await client.code(member=customer.key))

    assert plain == {"errcode": 0, "errmsg": "ok", "openid": visitor.openid}
    assert known["external_userid"] == customer.external_userid
    assert "external_userid" not in unknown


async def test_old_endpoint_has_capital_names(client, sandbox):
    """user/getuserinfo gives UserId or OpenId, and DeviceId."""
    visitor = next(one for one in sandbox.state.outsiders.values() if one.openid)
    member = await client.call("user/getuserinfo", code=await client.code())
    stranger = await client.call("user/getuserinfo", code=await client.code(member=visitor.key))

    assert member == {"errcode": 0, "errmsg": "ok", "UserId": "zhangsan", "DeviceId": ""}
    assert stranger["OpenId"] == visitor.openid


@pytest.mark.parametrize("path", ["auth/getuserdetail", "user/getuserdetail"])
async def test_ticket_gives_private_fields(client, sandbox, path):
    """A ticket of a member who agreed gives what the admin ticked."""
    sandbox.state.switches.auto_consent = True
    sandbox.state.app.sensitive_fields = ("mobile", "biz_mail")
    code = await client.code(scope="snsapi_privateinfo")
    ticket = (await client.call("auth/getuserinfo", code=code))["user_ticket"]
    detail = await client.call(path, body={"user_ticket": ticket})

    assert detail.keys() == {"errcode", "errmsg", "userid", "gender", "avatar", "mobile", "biz_mail"}
    assert (detail["userid"], detail["gender"], detail["mobile"]) == ("zhangsan", "0", "13800010001")


async def test_ticket_lives_half_an_hour(client, sandbox, clock):
    """A ticket is 84014 from its 1800th second; a made-up one 84015; none 84090."""
    sandbox.state.switches.auto_consent = True
    code = await client.code(scope="snsapi_privateinfo")
    ticket = (await client.call("auth/getuserinfo", code=code))["user_ticket"]
    clock.now += 1800
    answers = [
        await client.call("auth/getuserdetail", body=body) for body in ({"user_ticket": ticket}, {"user_ticket": "made-up"}, {})
    ]

    assert [answer["errcode"] for answer in answers] == [84014, 84015, 84090]


async def test_ticket_of_member_who_left_the_scope(client, sandbox):
    """A ticket is 92000 once its member is out of the visible scope."""
    sandbox.state.switches.auto_consent = True
    code = await client.code(scope="snsapi_privateinfo")
    ticket = (await client.call("auth/getuserinfo", code=code))["user_ticket"]
    sandbox.change_member("zhangsan", {"department": [8]})

    assert (await client.call("auth/getuserdetail", body={"user_ticket": ticket}))["errcode"] == 92000


async def test_post_call_by_get(client):
    """GET on a call that wants POST is 40058; a body that is not JSON is 40063 with a warning."""
    token = await client.token()
    by_get = await client.api("auth/getuserdetail", access_token=token)
    no_object = await client.api("auth/getuserdetail", access_token=token, body="text")
    url = f"{client.sandbox.url}/cgi-bin/auth/getuserdetail?access_token={token}"
    async with client.http.post(url, data="{") as answer:
        not_json = await answer.json()

    assert (by_get["errcode"], no_object["errcode"], not_json["errcode"]) == (40058, 40063, 40063)
    assert "wrong json format" in not_json["errmsg"]


async def test_token_in_the_body_is_missing(client):
    """A token that is only in the body is 41001."""
    answer = await client.api("auth/getuserdetail", body={"access_token": await client.token()})

    assert answer["errcode"] == 41001


async def test_member_is_found_in_any_case(client):
    """userid is compared without case and comes back as stored."""
    assert (await client.call("user/get", userid="li.na@EXAMPLE"))["userid"] == "Li.Na@Example"


async def test_new_app_reads_no_private_fields(client, sandbox):
    """The private keys are absent for a new app and present for an old one."""
    new = await client.call("user/get", userid="lisi")
    sandbox.state.app.created_at = OLD_APPS_UNTIL - 1
    old = await client.call("user/get", userid="lisi")

    assert not new.keys() & set(SENSITIVE)
    assert set(SENSITIVE) <= old.keys()


async def test_member_shows_visible_departments_only(client):
    """department, order and is_leader_in_dept leave out what the app does not see."""
    member = await client.call("user/get", userid="Li.Na@Example")

    assert (member["department"], member["order"], member["is_leader_in_dept"]) == ([4], [0], [0])


@pytest.mark.parametrize(
    ("userid", "errcode"),
    [("zhaoliu", 60111), ("nobody", 60111), ("bad id", 40003), ("-x", 40003), ("a" * 65, 40003), ("", 41009)],
    ids=["out-of-scope", "unknown", "blank", "first", "long", "missing"],
)
async def test_member_refused(client, userid, errcode):
    """user/get refuses unknown and invisible alike, and names bad ids."""
    assert (await client.call("user/get", userid=userid))["errcode"] == errcode


async def test_inactive_members_can_be_read(client):
    """A disabled and a not yet activated member are read with their status."""
    disabled, new = [await client.call("user/get", userid=userid) for userid in ("qianqi", "sunba")]

    assert (disabled["status"], disabled["enable"], new["status"]) == (2, 0, 4)


async def test_departments_of_the_scope(client):
    """department/list gives the visible departments with their real parents, though these are not visible."""
    answer = await client.call("department/list")

    assert {one["id"]: one["parentid"] for one in answer["department"]} == {2: 1, 3: 2, 4: 3, 5: 1, 6: 5, 7: 6}


async def test_departments_below_one(client):
    """With id the lists give that department and all below."""
    full = await client.call("department/list", id=3)
    brief = await client.call("department/simplelist", id=3)
    one = await client.call("department/get", id=3)

    assert [department["id"] for department in full["department"]] == [3, 4]
    assert [department["id"] for department in brief["department_id"]] == [3, 4]
    assert (one["department"]["name"], one["department"]["department_leader"]) == ("财务部", ["lisi"])


@pytest.mark.parametrize(("number", "errcode"), [("99", 60003), ("8", 60011), ("x", 60123)])
async def test_department_refused(client, number, errcode):
    """A department is unknown, not visible, or not a number."""
    assert (await client.call("department/get", id=number))["errcode"] == errcode
    assert (await client.call("department/list", id=number))["errcode"] == errcode


async def test_members_of_a_department(client):
    """The member lists give a department's visible members, with fetch_child those below too."""
    direct = await client.call("user/simplelist", department_id=3)
    nested = await client.call("user/list", department_id=3, fetch_child=1)

    assert direct["userlist"] == [{"userid": "lisi", "name": "李四", "department": [3]}]
    assert [one["userid"] for one in nested["userlist"]] == ["lisi", "Li.Na@Example"]


async def test_id_list_is_for_the_sync_assistant(client):
    """user/list_id pages through memberships for the sync assistant and is 48002 for an app."""
    token = await client.token(2)
    rows, cursor = [], ""
    while not rows or cursor:
        body = {"cursor": cursor, "limit": 4}
        answer = await client.api("user/list_id", access_token=token, body=body)
        rows += answer["dept_user"]
        cursor = answer["next_cursor"]

    assert (await client.call("user/list_id", body={}))["errcode"] == 48002
    assert len(rows) == 9
    assert {"userid": "wangwu", "department": 7} in rows


@pytest.mark.parametrize("body", [{"limit": 0}, {"limit": 10001}, {"limit": "9"}, {"cursor": "x"}], ids=str)
async def test_id_list_refuses(client, body):
    """A limit outside 1 to 10000 and a cursor that is none are 40058."""
    answer = await client.api("user/list_id", access_token=await client.token(2), body=body)

    assert answer["errcode"] == 40058


async def test_unknown_path(client, sandbox):
    """An API that does not exist is 404, and logged."""
    async with client.http.get(f"{sandbox.url}/cgi-bin/user/nothing") as answer:
        assert answer.status == 404

    assert [(one.status, one.errcode) for one in sandbox.state.requests] == [(404, None)]


async def test_departments_in_a_circle(sandbox):
    """Departments that contain each other are walked once."""
    departments = sandbox.state.departments
    departments[2] = replace(departments[2], parentid=4)

    assert below(departments, [2]) == {2, 3, 4}


async def test_sync_assistant_reads_no_details(client):
    """The sync assistant may list department ids and whole tags but not read members: 48009."""
    token = await client.token(2)
    brief = await client.api("department/simplelist", access_token=token)
    member = await client.api("user/get", access_token=token, userid="lisi")
    tag = await client.api("tag/get", access_token=token, tagid=1)

    assert (len(brief["department_id"]), member["errcode"]) == (8, 48009)
    assert [one["userid"] for one in tag["userlist"]] == ["wangwu", "zhaoliu"]


async def test_tags(client):
    """tag/list gives all tags; tag/get only visible members, and departments unexpanded."""
    tags = await client.call("tag/list")
    leaders, finance = [await client.call("tag/get", tagid=number) for number in (1, 2)]

    assert [tag["tagid"] for tag in tags["taglist"]] == [1, 2]
    assert (leaders["userlist"], leaders["partylist"]) == ([{"userid": "wangwu", "name": "王五"}], [])
    assert finance["partylist"] == [3]


@pytest.mark.parametrize(("number", "errcode"), [("", 41017), ("9", 40068), ("x", 40068)])
async def test_tag_refused(client, number, errcode):
    """A tag id is missing or unknown."""
    assert (await client.call("tag/get", tagid=number))["errcode"] == errcode


async def test_scope_by_tag(client, sandbox):
    """A tag in the visible scope lets its members and its departments in."""
    sandbox.state.app.allow_departments = ()
    sandbox.state.app.allow_tags = (1, 2)
    seen = [(await client.call("user/get", userid=one))["errcode"] for one in ("zhaoliu", "zhangsan", "lisi", "qianqi")]

    assert seen == [0, 0, 0, 60111]


async def test_agent(client, sandbox):
    """agent/get tells scope and trusted domain of the token's own app, and refuses others."""
    own = await client.call("agent/get", agentid=sandbox.state.agent_id)
    refused = [(await client.call("agent/get", agentid=one))["errcode"] for one in ("1000003", "7", "")]

    assert (own["redirect_domain"], own["allow_partys"], own["close"]) == ("sso.example.com", {"partyid": [2, 5]}, 0)
    assert own["allow_userinfos"] == {"user": [{"userid": "Li.Na@Example"}]}
    assert refused == [301002, 40056, 41011]


@pytest.mark.parametrize("path", ["getcallbackip", "get_api_domain_ip"])
async def test_address_lists(client, path):
    """The platform's address lists are there."""
    assert (await client.call(path))["ip_list"] == ["127.0.0.1"]


async def test_switched_answers(client, sandbox):
    """Unknown fields, another letter case and 60011 appear where switched on."""
    switches = sandbox.state.switches
    switches.unknown_fields, switches.other_case, switches.unknown_member_errcode = True, True, 60011
    member = await client.call("user/get", userid="zhangsan")
    gone = await client.call("user/get", userid="nobody")

    assert "sandbox_unknown" in member
    assert (member["userid"], gone["errcode"]) == ("ZHANGSAN", 60011)


async def test_expired_token_by_choice(client, sandbox, clock):
    """An expired token is 40014 where switched."""
    token = await client.token()
    sandbox.state.switches.expired_token_errcode = 40014
    clock.now += 7200

    assert (await client.api("tag/list", access_token=token))["errcode"] == 40014


async def test_user_text_cannot_break_a_header(client, sandbox):
    """Control bytes and Chinese in a parameter reach neither errmsg nor headers raw."""
    answer = await client.call("user/get", userid="a\r\nSet-Cookie: x=1")

    assert answer["errcode"] == 40003


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.com"])
async def test_loopback_only(host):
    """Any host but loopback is refused before a port opens."""
    with pytest.raises(ValueError, match="loopback only"):
        async with Sandbox.start(host=host):
            pass
