"""WeCom's answers of all generations, whole and damaged, as our own types."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import WeComError, WeComUnreachable
from gateway.member import Member, encode
from gateway.wecom import Details, Visitor, reading

OLD_APP = {
    "errcode": 0,
    "errmsg": "ok",
    "userid": "ZhangSan",
    "name": "张三",
    "department": [12, 1],
    "position": "工程师",
    "mobile": "13800000000",
    "gender": "1",
    "email": "zhangsan@example.com",
    "avatar": "https://wework.example/a/0",
    "status": 1,
    "isleader": 1,
    "extattr": {
        "attrs": [
            {"type": 0, "name": "工号", "text": {"value": "10086"}},
            {"type": 1, "name": "主页", "web": {"url": "https://example.com", "title": "x"}},
        ]
    },
    "enable": 1,
    "order": [0, 0],
    "main_department": 12,
    "alias": "Sam",
    "is_leader_in_dept": [0, 1],
    "direct_leader": ["lisi"],
    "biz_mail": "zs@corp.example.com",
}


def test_a_whole_member_is_read() -> None:
    """Everything an old app is told arrives under our names, the id in WeCom's spelling."""
    assert reading.member(OLD_APP, "zhangsan") == Member(
        user_id="ZhangSan",
        name="张三",
        status=1,
        departments=(12, 1),
        leader_of=(1,),
        position="工程师",
        alias="Sam",
        email="zhangsan@example.com",
        mobile="13800000000",
        avatar="https://wework.example/a/0",
        extattr={"工号": "10086"},
    )


def test_a_member_of_a_new_app_has_no_private_fields() -> None:
    """Absent fields are empty."""
    assert reading.member({"errcode": 0, "userid": "lisi"}, "lisi") == Member("lisi")


def test_the_business_mail_stands_in() -> None:
    """Without a private e-mail address the corp's mailbox is the address."""
    answer = {**OLD_APP, "email": ""}

    assert reading.member(answer, "zhangsan").email == "zs@corp.example.com"


def test_attributes_of_private_deployments_are_read() -> None:
    """The older ``{name, value}`` shape gives the same attributes."""
    answer = {"userid": "lisi", "extattr": {"attrs": [{"name": "工号", "value": "7"}, {"name": "空"}]}}

    assert reading.member(answer, "lisi").extattr == {"工号": "7", "空": ""}


@pytest.mark.parametrize(
    "fields, status",
    [
        ({}, 1),
        ({"status": 1}, 1),
        ({"status": 2}, 2),
        ({"status": 4}, 4),
        ({"status": 5}, 5),
        ({"status": "2"}, 2),
        ({"enable": 0}, 2),
        ({"enable": 1}, 1),
        ({"status": 1, "enable": 0}, 1),
    ],
    ids=str,
)
def test_the_status_is_read(fields: dict[str, Any], status: int) -> None:
    """A member without a status is active, unless an old deployment says that the account is not enabled."""
    assert reading.member({"userid": "lisi", **fields}, "lisi").status == status


@pytest.mark.parametrize("status", [True, 1.0, "", "active", "１", [], {}, [1]], ids=repr)
def test_a_senseless_status_is_no_answer(status: object) -> None:
    """Whether somebody is still with the company is never guessed."""
    with pytest.raises(WeComUnreachable):
        reading.member({"userid": "lisi", "status": status}, "lisi")


@pytest.mark.parametrize("user_id", ["wangwu", "", None, 7, ["lisi"], "lisi ", "li/si", "lisi\n"], ids=repr)
def test_another_member_is_no_answer(user_id: object) -> None:
    """An answer about anybody else than the member asked for is not used."""
    with pytest.raises(WeComUnreachable):
        reading.member({"userid": user_id, "status": 1}, "lisi")


@pytest.mark.parametrize(
    "departments, leads, expected",
    [
        ([1, 2, 3], [0, 1, 1], ((1, 2, 3), (2, 3))),
        ([1, "2", 3], [1, 1, 0], ((1, 2, 3), (1, 2))),
        ([1, 2], [1], ((1, 2), ())),
        ([1, 2], None, ((1, 2), ())),
        ([1, 2], "11", ((1, 2), ())),
        ([2, 2], [1, 1], ((2,), (2,))),
        ([2, 4], [True, 1], ((2, 4), (4,))),
        (None, [1], ((), ())),
    ],
    ids=str,
)
def test_departments_and_those_led(departments: object, leads: object, expected: tuple[Any, Any]) -> None:
    """Leadership runs parallel to the departments; what makes no sense grants nothing."""
    member = reading.member({"userid": "lisi", "department": departments, "is_leader_in_dept": leads}, "lisi")

    assert (member.departments, member.leader_of) == expected


@pytest.mark.parametrize("departments", ["12", 12, {"id": 12}, [12, None], [True], [2.5], [[12]], ["十二"], ["-1"]], ids=str)
def test_departments_that_cannot_be_read(departments: object) -> None:
    """Left out they would make a member of none, who passes where a rule says ``not``: it is no answer."""
    with pytest.raises(WeComUnreachable):
        reading.member({"userid": "lisi", "department": departments}, "lisi")


def test_half_a_surrogate_pair_does_not_break_headers() -> None:
    """A text that no encoder takes becomes one that can be sent."""
    member = reading.member({"userid": "lisi", "name": "李\ud83d四"}, "lisi")

    assert member.name == "李?四"
    assert encode(member.name) == "%E6%9D%8E?%E5%9B%9B"


@pytest.mark.parametrize(
    "answer, expected",
    [
        ({"userid": "zhangsan", "user_ticket": "t"}, Visitor("zhangsan", "t")),
        ({"UserId": "ZhangSan", "DeviceId": "x"}, Visitor("ZhangSan")),
        ({"userid": "wwfedcba9876543210/zhoujiu"}, Visitor("wwfedcba9876543210/zhoujiu")),
        ({"openid": "o1", "external_userid": "wm1"}, Visitor(open_id="o1")),
        ({"OpenId": "o1"}, Visitor(open_id="o1")),
        ({"userid": "", "openid": "o1"}, Visitor(open_id="o1")),
    ],
    ids=["member", "old spelling", "linked corp", "external contact", "old spelling outside", "empty id"],
)
def test_visitors_are_read(answer: dict[str, Any], expected: Visitor) -> None:
    """Both generations of names give the same visitor."""
    assert reading.visitor(answer) == expected


@pytest.mark.parametrize("answer", [{}, {"userid": ""}, {"userid": None}, {"userid": 7}, {"openid": ["o"]}], ids=str)
def test_an_answer_about_nobody_is_no_answer(answer: dict[str, Any]) -> None:
    """A success that names neither a member nor anybody else is WeCom talking nonsense."""
    with pytest.raises(WeComUnreachable):
        reading.visitor(answer)


def test_details_are_read_and_do_not_print() -> None:
    """What was agreed to arrives; the rest is empty; and printing shows nothing private."""
    details = reading.details({"userid": "zhangsan", "mobile": "13800000000", "email": None})

    assert details == Details(mobile="13800000000", user_id="zhangsan")
    assert "13800000000" not in repr(details)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=9), children, max_size=4),
    max_leaves=8,
)
NAMES = st.sampled_from(["userid", "name", "department", "is_leader_in_dept", "status", "enable", "extattr", "email"])


@given(fields=st.dictionaries(NAMES, JSON), attrs=JSON)
def test_any_member_at_all_is_read_or_refused(fields: dict[str, Any], attrs: object) -> None:
    """Whatever WeCom sends, the answer is a member of sane types or one error."""
    answer = {"userid": "lisi", "extattr": {"attrs": attrs}, **fields}
    try:
        member = reading.member(answer, "lisi")
    except WeComError:
        return
    assert member.user_id.casefold() == "lisi"
    assert all(type(each) is int for each in (member.status, *member.departments, *member.leader_of))
    assert all(type(each) is str for each in (member.name, member.email, *member.extattr, *member.extattr.values()))


@given(answer=st.dictionaries(st.sampled_from(["userid", "UserId", "openid", "user_ticket", "mobile"]), JSON))
def test_any_visitor_at_all_is_read_or_refused(answer: dict[str, Any]) -> None:
    """The same for visitors and their details."""
    assert isinstance(reading.details(answer), Details)
    try:
        visitor = reading.visitor(answer)
    except WeComError:
        return
    assert visitor.user_id or visitor.open_id
