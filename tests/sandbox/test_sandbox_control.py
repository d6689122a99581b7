"""The control port changes the sandbox, and says what it did not understand."""

from __future__ import annotations

import pytest


async def test_overview(client, sandbox):
    """GET /_sandbox/ lists what there is and how to reach the public port."""
    status, answer = await client.control("GET", "")

    assert (status, answer["url"], answer["corp_id"]) == (200, sandbox.url, "ww0123456789abcdef")
    assert f"{sandbox.control_url}members" in answer["paths"]


async def test_every_listed_path_answers(client):
    """Each path of the overview that can be read is there."""
    paths = ["members", "departments", "tags", "app", "apps", "switches", "limits", "faults", "tokens", "consents"]
    for path in [*paths, "clock", "requests", "outbox"]:
        assert (await client.control("GET", path))[0] == 200


async def test_patch_member(client):
    """PATCH changes a member in WeCom's own words, and the API shows it."""
    status, answer = await client.control("PATCH", "members/ZhangSan", {"status": 2, "department": [3]})
    read = await client.call("user/get", userid="zhangsan")

    assert (status, answer["status"], answer["department"]) == (200, 2, [3])
    assert (read["status"], read["department"]) == (2, [3])


async def test_rename_member(client):
    """A new userid renames; one that exists is refused."""
    taken = await client.control("PATCH", "members/zhangsan", {"userid": "LISI"})
    await client.control("PATCH", "members/zhangsan", {"userid": "zhang.san"})

    assert taken[0] == 400
    assert (await client.call("user/get", userid="zhangsan"))["errcode"] == 60111
    assert (await client.call("user/get", userid="zhang.san"))["name"] == "张三"


async def test_put_and_delete_member(client):
    """PUT adds a member with an odd id, DELETE removes it."""
    put = await client.control("PUT", "members/New.One@x", {"name": "新人", "department": [6]})
    got = await client.control("GET", "members/new.one@X")
    deleted = await client.control("DELETE", "members/New.One@x")
    gone = await client.control("GET", "members/New.One@x")
    again = await client.control("DELETE", "members/New.One@x")

    assert (put[0], got[1]["userid"], deleted[0], gone[0], again[0]) == (200, "New.One@x", 200, 404, 404)


@pytest.mark.parametrize(
    "change",
    [{"status": 3}, {"status": "2"}, {"status": True}, {"department": [99]}, {"department": 3}, {"nome": "x"}, [1], "{"],
    ids=str,
)
async def test_bad_change(client, sandbox, change):
    """A change with an unknown field or a value of the wrong kind changes nothing and says why."""
    before = sandbox.state.member("zhangsan")
    status, answer = await client.control("PATCH", "members/zhangsan", change)

    assert (status, sandbox.state.member("zhangsan")) == (400, before)
    assert answer["error"]


async def test_not_json(client, sandbox):
    """A body that is not JSON is refused."""
    async with client.http.post(f"{sandbox.control_url}faults", data="{") as answer:
        assert (answer.status, "not JSON" in (await answer.json())["error"]) == (400, True)


@pytest.mark.parametrize("path", ["members/x", "departments/99", "departments/x", "tags/99", "apps/7", "nothing"])
async def test_unknown(client, path):
    """What does not exist is 404 in JSON."""
    status, answer = await client.control("GET", path)

    assert (status, bool(answer["error"])) == (404, True)


async def test_departments(client):
    """Departments are added, moved and removed; the root, a full one and a strange parent are refused."""
    added = await client.control("PUT", "departments/9", {"name": "法务部", "parentid": 2})
    seen = await client.call("department/get", id=9)
    moved = await client.control("PATCH", "departments/9", {"parentid": 8})
    unseen = await client.call("department/get", id=9)
    removed = await client.control("DELETE", "departments/9")
    refused = [(await client.control("DELETE", f"departments/{one}"))[0] for one in (1, 3, 9)]
    strange = await client.control("PATCH", "departments/3", {"parentid": 77})
    missing = await client.control("PATCH", "departments/77", {"name": "x"})

    assert (added[0], seen["department"]["name"], moved[0], unseen["errcode"]) == (200, "法务部", 200, 60011)
    assert (removed[0], refused, strange[0], missing[0]) == (200, [400, 400, 404], 400, 404)


async def test_department_cannot_stand_below_itself(client):
    """A department whose parent would be one below it is refused."""
    status, _ = await client.control("PATCH", "departments/2", {"parentid": 4})

    assert status == 400


async def test_tags(client):
    """Tags are added, changed and removed."""
    await client.control("PUT", "tags/3", {"tagname": "临时", "userlist": ["lisi"]})
    added = await client.call("tag/get", tagid=3)
    await client.control("PATCH", "tags/3", {"partylist": [3]})
    changed = await client.call("tag/get", tagid=3)
    removed = await client.control("DELETE", "tags/3")
    again = await client.control("DELETE", "tags/3")

    assert (added["tagname"], changed["partylist"], removed[0], again[0]) == ("临时", [3], 200, 404)


async def test_app(client):
    """The app's domains, addresses and scope can be set; a callback not without its check."""
    changed = await client.control("PATCH", "app", {"oauth_domain": "a.example.com", "trusted_ips": ["203.0.113.7"]})
    unchecked = await client.control("PATCH", "app", {"callback_url": "http://127.0.0.1:1/"})
    other = await client.control("GET", "apps/1000003")

    assert (changed[0], unchecked[0], other[1]["name"]) == (200, 400, "考勤打卡")
    assert (await client.authorize()).page == "domain_err"
    assert (await client.call("tag/list"))["errcode"] == 60020


async def test_age_of_the_app(client):
    """An app made older than June 2022 reads private fields."""
    await client.control("PATCH", "app", {"created_at": 1600000000})

    assert (await client.call("user/get", userid="lisi"))["mobile"] == "13800010002"


async def test_secret_reset(client, sandbox):
    """A reset secret ends the tokens; the old secret is 40001 and the new one works."""
    token, old = await client.token(), sandbox.state.secret
    _, answer = await client.control("POST", "app/secret")
    stale = await client.api("tag/list", access_token=token)
    refused = await client.api("gettoken", corpid=sandbox.state.corp_id, corpsecret=old)

    assert (len(answer["secret"]), answer["secret"]) == (43, sandbox.state.secret)
    assert (stale["errcode"], refused["errcode"]) == (40014, 40001)
    assert (await client.call("tag/list"))["errcode"] == 0


async def test_switches_and_limits(client, sandbox):
    """Switches and limits are set by name; the corp can be suspended; counts can be forgotten."""
    await client.control("PATCH", "switches", {"auto_consent": True, "suspended": True})
    await client.control("PATCH", "limits", {"api_minute": 0})
    limited = await client.api("gettoken")
    await client.control("PATCH", "limits", {"api_minute": 9})
    await client.control("DELETE", "limits")
    free = await client.api("gettoken")
    unknown = await client.control("PATCH", "switches", {"nonsense": 1})

    assert (sandbox.state.switches.auto_consent, sandbox.state.suspended) == (True, True)
    assert (limited["errcode"], free["errcode"], unknown[0]) == (45009, 41002, 400)


async def test_faults(client):
    """Faults are added, listed and cleared; one nobody knows is refused."""
    _, listed = await client.control("POST", "faults", {"path": "/cgi-bin/tag/list", "errcode": 45033, "times": 5})
    broken = await client.call("tag/list")
    _, cleared = await client.control("DELETE", "faults")
    whole = await client.call("tag/list")
    refused = [(await client.control("POST", "faults", body))[0] for body in ({"kind": "gremlin"}, {"x": 1}, {"path": 5})]

    assert (listed[0]["path"], cleared, refused) == ("tag/list", [], [400, 400, 400])
    assert (broken["errcode"], whole["errcode"]) == (45033, 0)


async def test_tokens_end_early(client):
    """DELETE tokens ends every access token."""
    token = await client.token()
    _, listed = await client.control("DELETE", "tokens")

    assert [one["revoked"] for one in listed] == [True]
    assert (await client.api("tag/list", access_token=token))["errcode"] == 40014


async def test_consents_are_forgotten(client):
    """DELETE consents makes the consent page ask again."""
    await client.authorize(scope="snsapi_privateinfo", form={"decision": "agree", "field": "mobile"})
    _, listed = await client.control("GET", "consents")
    await client.control("DELETE", "consents")

    assert [(one["userid"], one["fields"]) for one in listed] == [("zhangsan", ["mobile"])]
    assert (await client.authorize(scope="snsapi_privateinfo")).page == "consent"


async def test_clock(client, sandbox):
    """The clock can be advanced and set, and nothing else."""
    _, advanced = await client.control("POST", "clock", {"advance": 301})
    _, set_ = await client.control("POST", "clock", {"set": 5})
    refused = [(await client.control("POST", "clock", body))[0] for body in ({}, {"set": "x"}, {"back": 1}, {"advance": True})]

    assert (advanced["now"], set_["now"], sandbox.state.now()) == (1_800_000_301.0, 5, 5)
    assert refused == [400, 400, 400, 400]


async def test_requests(client):
    """The log counts calls, filters by path, and can be forgotten."""
    await client.api("gettoken")
    await client.api("tag/list")
    _, all_of_them = await client.control("GET", "requests")
    _, some = await client.control("GET", "requests?path=/cgi-bin/tag/list")
    _, none = await client.control("DELETE", "requests")

    assert all_of_them["counts"] == {"/cgi-bin/gettoken": 1, "/cgi-bin/tag/list": 1}
    assert [one["errcode"] for one in some["requests"]] == [41001]
    assert none["requests"] == []


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example.com"}, {"Host": "evil.example.com"}], ids=str)
async def test_foreign_pages_are_refused(client, sandbox, headers):
    """A web page of another origin, or under a name that was pointed here, changes nothing."""
    status, _ = await client.control("DELETE", "members/zhangsan", **headers)

    assert (status, sandbox.state.member("zhangsan") is not None) == (403, True)


async def test_console(client, sandbox):
    """The console page is on the control port, in one piece."""
    async with client.http.get(sandbox.control_url.removesuffix("_sandbox/")) as answer:
        text = await answer.text()

    assert (answer.status, answer.content_type) == (200, "text/html")
    assert 'id="callback"' in text
    assert "src=" not in text
