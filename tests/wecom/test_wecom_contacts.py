"""Departments and tags as the client reads them, from the sandbox and from whatever else a server may say."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import AppMisconfigured, NotVisible, WeComBusy, WeComError, WeComUnreachable
from gateway.sandbox import Sandbox
from gateway.sandbox.faults import Fault
from gateway.wecom import Department, Tag, WeCom
from tests.wecom.scripted import Client, Script, refusal, says

BRIEF, LISTED = "department/simplelist", "department/list"


async def test_departments(sandbox: Sandbox, client: Client) -> None:
    """Every department that the app sees comes with its parent, seen or not, by the cheap call."""
    found = await client().departments()

    assert set(found) == {
        Department(2, 1),
        Department(3, 2),
        Department(4, 3),
        Department(5, 1),
        Department(6, 5),
        Department(7, 6),
    }
    assert (sandbox.state.count(BRIEF), sandbox.state.count(LISTED)) == (1, 0)


@pytest.mark.parametrize("how", [{"names": True}, {"private": True}])
async def test_departments_by_the_full_list(sandbox: Sandbox, client: Client, how: dict[str, bool]) -> None:
    """Names come by the full list, which a private deployment is asked for in any case."""
    found = await client(private=how.get("private", False)).departments(names=how.get("names", False))

    assert Department(3, 2, "财务部") in found
    assert (sandbox.state.count(BRIEF), sandbox.state.count(LISTED)) == (0, 1)


async def test_tags(sandbox: Sandbox, client: Client) -> None:
    """A tag has members, by their id in lower case, and departments; tags have names."""
    wecom = client()

    assert await wecom.tag(2) == Tag("财务系统用户", frozenset({"zhangsan"}), frozenset({3}))
    assert await wecom.tag(1) == Tag("项目负责人", frozenset({"wangwu"}), frozenset())
    assert await wecom.tag_names() == {1: "项目负责人", 2: "财务系统用户"}


@pytest.mark.parametrize("errcode", [48002, 40058, 12345])
async def test_the_full_list_where_the_brief_one_is_refused(script: Script, wecom: WeCom, errcode: int) -> None:
    """An app or a deployment that has no brief list is asked for the full one."""
    script.on(BRIEF, refusal(errcode))
    script.on(LISTED, {"errcode": 0, "department": [{"id": 2, "parentid": 1, "name": "管理中心"}]})

    assert await wecom.departments() == (Department(2, 1, "管理中心"),)


@pytest.mark.parametrize("errcode", [60020, 50003, 301007])
async def test_no_second_call_where_the_app_is_refused(script: Script, wecom: WeCom, errcode: int) -> None:
    """What WeCom says of the app itself is told at once."""
    script.on(BRIEF, refusal(errcode))

    with pytest.raises(AppMisconfigured):
        await wecom.departments()
    assert script.count(LISTED) == 0


@pytest.mark.parametrize("errcode", [60011, 40068, 81011, 60003, 60123])
async def test_not_visible(script: Script, wecom: WeCom, errcode: int) -> None:
    """A tag or department that the app may not see is an error of its own, with its fix, and none about a member."""
    script.on("tag/get", refusal(errcode))
    script.on(BRIEF, refusal(errcode))

    for call in (wecom.tag(7), wecom.departments()):
        with pytest.raises(NotVisible) as caught:
            await call
        assert (caught.value.errcode, caught.value.reason) == (errcode, "wecom-refused")
        assert "可见范围" in caught.value.fix


@pytest.mark.parametrize(
    "path, answer",
    [
        (BRIEF, {"errcode": 0, "department_id": {"id": 1}}),
        (BRIEF, {"errcode": 0, "department_id": None}),
        ("tag/get", {"errcode": 0, "tagname": "x", "userlist": "zhangsan"}),
        ("tag/list", {"errcode": 0, "taglist": "x"}),
        ("tag/get", {"errcode": 0}),
        ("tag/get", ["x"]),
        ("tag/get", refusal(-1)),
        ("tag/get", refusal(45009)),
    ],
)
async def test_nonsense_is_no_answer(script: Script, wecom: WeCom, path: str, answer: Any) -> None:
    """An answer without its list is no answer: nobody loses a department or tag by it."""
    script.on(path, says(answer))
    call = {BRIEF: wecom.departments, "tag/list": wecom.tag_names}.get(path, lambda: wecom.tag(7))

    with pytest.raises((WeComUnreachable, WeComBusy)):
        await call()


async def test_numbers_as_texts(script: Script, wecom: WeCom) -> None:
    """A number may come as a text, a member without a table around it, and a parent not at all."""
    script.on(BRIEF, {"errcode": 0, "department_id": [{"id": 2, "parentid": "1"}, {"id": "3", "parentid": None}, {"id": -1}]})
    script.on("tag/get", {"errcode": 0, "tagname": 5, "userlist": [{"userid": "Li.Na"}, "bob"], "partylist": [3, "4"]})

    assert await wecom.departments() == (Department(2, 1), Department(3, 0))
    assert await wecom.tag(7) == Tag("", frozenset({"li.na", "bob"}), frozenset({3, 4}))


@pytest.mark.parametrize(
    "row",
    [
        None,
        7,
        "7",
        {},
        {"id": True},
        {"id": "x"},
        {"id": [7]},
        *({"id": 7, "parentid": each} for each in ("x", [3], [], False, "")),
    ],
    ids=str,
)
async def test_a_department_that_cannot_be_read(script: Script, wecom: WeCom, row: object) -> None:
    """Left out, or put elsewhere, it would take its members out of what a rule's ``not`` names: it is no answer."""
    script.on(BRIEF, {"errcode": 0, "department_id": [{"id": 3, "parentid": 1}, row]})

    with pytest.raises(WeComUnreachable):
        await wecom.departments()


@pytest.mark.parametrize(
    "part",
    [{"userlist": [{"userid": 3}]}, {"userlist": [{}]}, {"userlist": [None]}, {"partylist": ["x"]}, {"partylist": [True]}],
    ids=str,
)
async def test_a_tag_that_cannot_be_read(script: Script, wecom: WeCom, part: dict[str, Any]) -> None:
    """Who is left out of it would pass where a rule says ``not``: it is no answer."""
    script.on("tag/get", {"errcode": 0, "tagname": "外包", "userlist": [{"userid": "lisi"}], "partylist": [3], **part})

    with pytest.raises(WeComUnreachable):
        await wecom.tag(7)


async def test_an_empty_tag(script: Script, wecom: WeCom) -> None:
    """Lists that are missing are empty where the tag's name shows that it is a whole answer."""
    script.on("tag/get", {"errcode": 0, "tagname": "会计"})

    assert await wecom.tag(7) == Tag("会计", frozenset(), frozenset())


async def test_it_ends_in_time(sandbox: Sandbox, client: Client) -> None:
    """A WeCom that hangs is given up after the time allowed."""
    wecom = client()
    await wecom.access_token()
    sandbox.state.faults.append(Fault(BRIEF, "hang"))

    with pytest.raises(WeComError, match="did not answer within"):
        await wecom.departments(timeout_s=0.2)
