"""The rule in a subrequest's path says who may enter; what does not parse lets nobody in."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway import rules
from gateway.errors import Denied
from gateway.member import Member
from gateway.session import Session

USER_IDS = st.from_regex(r"[0-9A-Za-z][0-9A-Za-z_.@-]{0,63}", fullmatch=True)


def session_of(user_id: str) -> Session:
    return Session("s", Member(user_id), "ww1", 1, "erp", issued=0, renewed=0, ends=1, read=0)


def admits(path: str, user_id: str) -> bool:
    try:
        rules.check(session_of(user_id), rules.parse(path))
    except Denied as denied:
        if denied.reason == "rule":
            return False
        raise
    return True


def test_the_bare_question_admits_every_member() -> None:
    """``/_wecom/auth`` asks for any signed-in member."""
    assert admits("/_wecom/auth", "anybody")


@pytest.mark.parametrize(
    "rule, user_id, admitted",
    [
        ("user:zhangsan", "zhangsan", True),
        ("user:zhangsan", "ZhangSan", True),
        ("user:ZhangSan", "zhangsan", True),
        ("user:zhangsan", "lisi", False),
        ("user:zhangsan", "zhangsan2", False),
        ("user:zhangsan2", "zhangsan", False),
        ("user:zhangsan,lisi", "lisi", True),
        ("user:zhangsan,lisi", "wangwu", False),
        ("user:zhangsan/user:lisi", "lisi", True),
        ("user:zhangsan/user:lisi,wangwu", "wangwu", True),
        ("user:zhangsan/user:lisi,wangwu", "zhaoliu", False),
        ("user:zhang.san_1-2@corp", "zhang.san_1-2@corp", True),
        ("user%3Azhangsan%2Clisi", "lisi", True),
        ("user:zhangsan%2Fuser:lisi", "lisi", True),
    ],
)
def test_a_rule_admits_those_it_names(rule: str, user_id: str, admitted: bool) -> None:
    """Segments are alternatives, commas are alternatives inside one, letter case does not count."""
    assert admits(f"/_wecom/auth/{rule}", user_id) is admitted


def test_a_refusal_names_the_rule() -> None:
    """Who is refused by a rule is told which, as it is written in nginx."""
    with pytest.raises(Denied) as caught:
        rules.check(session_of("lisi"), rules.parse("/_wecom/auth/user:zhangsan%2Cwangwu"))

    assert (caught.value.reason, caught.value.rule) == ("rule", "user:zhangsan,wangwu")


@given(st.lists(USER_IDS, min_size=1, max_size=8), USER_IDS)
def test_nobody_else_is_admitted(named: list[str], other: str) -> None:
    """A rule admits those it names and nobody else."""
    path = "/_wecom/auth/user:" + ",".join(named)

    assert all(admits(path, user_id) for user_id in named)
    assert admits(path, other) is (other.casefold() in {user_id.casefold() for user_id in named})


@pytest.mark.parametrize(
    "path, problem",
    [
        ("", "the location to ask is"),
        ("/", "the location to ask is"),
        ("/_wecom/authority", "the location to ask is"),
        ("/_wecom/auth%2Fuser:zhangsan", "the location to ask is"),
        ("/_wecom/auth%3Fuser:zhangsan", "the location to ask is"),
        ("/_wecom/../_wecom/auth", "the location to ask is"),
        ("/_WECOM/auth", "the location to ask is"),
        ("//_wecom/auth", "the location to ask is"),
        ("/_wecom/auth/", "empty"),
        ("/_wecom/auth//", "no rule is named ''"),
        ("/_wecom/auth/user:zhangsan/", "no rule is named ''"),
        ("/_wecom/auth/user:zhangsan//user:lisi", "no rule is named ''"),
        ("/_wecom/auth/finance", "no rule is named 'finance'"),
        ("/_wecom/auth/user", "no rule is named 'user'"),
        ("/_wecom/auth/..", "no rule is named '..'"),
        ("/_wecom/auth/group:12", "unknown kind 'group'; known: "),
        ("/_wecom/auth/USER:zhangsan", "unknown kind 'USER'"),
        ("/_wecom/auth/:zhangsan", "unknown kind ''"),
        ("/_wecom/auth/user:", "'' is no member id"),
        ("/_wecom/auth/user:zhangsan,", "'' is no member id"),
        ("/_wecom/auth/user:,zhangsan", "'' is no member id"),
        ("/_wecom/auth/user:zhang san", "'zhang san' is no member id"),
        ("/_wecom/auth/user:张三", "is no member id"),
        ("/_wecom/auth/user:*", "is no member id"),
        ("/_wecom/auth/user:.x", "is no member id"),
        ("/_wecom/auth/user:corp/lisi", "no rule is named 'lisi'"),
        ("/_wecom/auth/user:" + "x" * 65, "is no member id"),
        ("/_wecom/auth/user:a%0Ab", "control characters"),
        ("/_wecom/auth/user:a%00", "control characters"),
        ("/_wecom/auth/user:a%ff", "is no member id"),
        ("/_wecom/auth/" + "user:abcdefg," * 700, "at most 8192 bytes"),
    ],
)
def test_what_does_not_parse_is_bad_rule(path: str, problem: str) -> None:
    """A rule that does not parse is ``bad-rule``, with the directive and what is wrong with it."""
    with pytest.raises(Denied) as caught:
        rules.parse(path)

    assert caught.value.reason == "bad-rule"
    assert str(caught.value).startswith(f"auth_request {path[:40]}" if "%" not in path else "auth_request /")
    assert str(caught.value).isprintable()
    assert problem in str(caught.value)


@given(st.text(max_size=50).map(lambda text: quote(text, safe="/:,")) | st.text(max_size=50))
@example("user:zhangsan,")
@example("/" * 9000)
@example("%")
def test_anything_parses_or_is_bad_rule(text: str) -> None:
    """No path raises anything but ``bad-rule``, and only the bare question admits everybody."""
    try:
        rule = rules.parse(f"/_wecom/auth/{text}")
    except Denied as denied:
        verdict = denied.reason
    else:
        verdict = "everyone" if rule.everyone else "some" if rule.users else "nobody"

    assert verdict in {"bad-rule", "some"}


def test_bad_rules_are_not_remembered() -> None:
    """A path that does not parse takes no place in the memory of rules."""
    rules.parse.cache_clear()
    for number in range(50):
        with pytest.raises(Denied):
            rules.parse(f"/_wecom/auth/bad-{number}")

    assert rules.parse.cache_info().currsize == 0
