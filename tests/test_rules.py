"""The rule in a subrequest's path says who may enter; what does not parse lets nobody in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway import rules
from gateway.criteria import read_rules
from gateway.decision import Verdict
from gateway.errors import Denied, SignInNeeded
from gateway.member import Member
from gateway.rules import Knowledge, Rules
from gateway.session import Session

USER_IDS = st.from_regex(r"[0-9A-Za-z][0-9A-Za-z_.@-]{0,63}", fullmatch=True)


def session_of(user_id: str, **more: Any) -> Session:
    leads = more.pop("leads", ())
    return Session("s", Member(user_id, leader_of=leads), "ww1", 1, "erp", issued=0, renewed=0, ends=1, read=0, **more)


def rules_of(table: dict[str, Any] | None = None, *, tags: Iterable[int | str] = (), **known: Any) -> Rules:
    """The rules of a ``[rules]`` table without a mistake in it, knowing what is *known*."""
    named, problems = read_rules(table or {})
    assert problems == []
    made = Rules(named, tags)
    made.learn(Knowledge(**known))
    return made


def answer(made: Rules, rule: str, who: Session) -> str:
    """``yes``, or the reason of the refusal."""
    try:
        rules.check(who, made.parse(f"/_wecom/auth/{rule}"))
    except (Denied, SignInNeeded) as refused:
        return refused.reason
    return "yes"


def admits(path: str, user_id: str) -> bool:
    try:
        rules.check(session_of(user_id), Rules().parse(path))
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
        rules.check(session_of("lisi"), Rules().parse("/_wecom/auth/user:zhangsan%2Cwangwu"))

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
        Rules().parse(path)

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
        rule = Rules().parse(f"/_wecom/auth/{text}")
    except Denied as denied:
        verdict = denied.reason
    else:
        verdict = "some" if rule.alternatives else "everybody"

    assert verdict in {"bad-rule", "some"}


def test_bad_rules_are_not_remembered() -> None:
    """A path that does not parse is told each time, and takes no good rule's place in the memory."""
    made = Rules()
    good = made.parse("/_wecom/auth/user:lisi")
    for number in range(2 * rules.REMEMBERED):
        with pytest.raises(Denied):
            made.parse(f"/_wecom/auth/bad-{number}")

    assert made.parse("/_wecom/auth/user:lisi") is good


# ── departments, tags, leaders ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "rule, expected",
    [
        ("department:3", "yes"),
        ("department:2", "yes"),
        ("department:7,3", "yes"),
        ("department:7/department:3", "yes"),
        ("department:7,8", "rule"),
        ("department:33", "rule"),
        ("tag:1", "yes"),
        ("tag:2", "rule"),
        ("tag:2,1", "yes"),
        ("leader", "rule"),
        ("leader/user:LISI", "yes"),
        ("department:7/tag:2/user:wangwu/leader", "rule"),
        ("department:7/tag:2/user:wangwu/leader/department:2", "yes"),
    ],
)
def test_departments_and_tags(rule: str, expected: str) -> None:
    """A session's departments with their ancestors, its tags and what its member leads decide."""
    who = session_of("lisi", departments=(3, 2), tags={1: True, 2: False})

    assert answer(rules_of(tags=[1, 2]), rule, who) == expected


def test_leader() -> None:
    """``leader`` is whoever leads a department."""
    assert answer(Rules(), "leader", session_of("wangwu", leads=(5,))) == "yes"


@pytest.mark.parametrize(
    "rule, problem",
    [
        ("department:财务部", "is no number of a department"),
        ("department:", "'' is no department"),
        ("department:0", "'0' is no department"),
        ("department:-3", "the app does not see"),
        ("department:3,", "'' is no department"),
        ("department:3:4", "is no department"),
        ("department:12345678901", "'12345678901' is no department: digits alone are its number"),
        ("tag:007", "'007' is no tag: digits alone are its number"),
        ("department:１２", "is no department"),
        ("tag:", "'' is no tag"),
        ("tag:*", "is no tag"),
        ("leader:3", "unknown kind 'leader'"),
        ("leaders", "no rule is named 'leaders'"),
        ("rule:", "no rule is named ''"),
        ("rule:nosuch", "no rule is named 'nosuch'"),
        ("finance:3", "unknown kind 'finance'"),
    ],
)
def test_bad_departments_and_tags(rule: str, problem: str) -> None:
    """What is no department, tag or rule is ``bad-rule`` for everybody."""
    made = rules_of({"finance": "user:lisi"}, departments={1, 3})
    if rule == "department:-3":
        problem = "is no number of a department"

    with pytest.raises(Denied, match="auth_request") as caught:
        rules.check(session_of("lisi", departments=(3,)), made.parse(f"/_wecom/auth/{rule}"))

    assert caught.value.reason == "bad-rule"
    assert problem in str(caught.value)


def test_a_name_of_digits() -> None:
    """Where a number is nothing that the app sees, and the name of something, the number to write is told."""
    names = {("department", 17): "2024", ("department", 3): "财务部", ("tag", 4): "99"}
    made = rules_of(tags=[99], departments={3, 17}, names=names, unseen_tags={99: "40068 invalid tagid"})

    for rule, number in (("department:2024", 17), ("tag:99", 4)):
        with pytest.raises(Denied, match=f"but the name of {number}: write that number") as caught:
            rules.check(session_of("lisi", departments=(17,)), made.parse(f"/_wecom/auth/{rule}"))
        assert caught.value.reason == "bad-rule"
    assert answer(made, "department:17", session_of("lisi", departments=(17,))) == "yes"


def test_an_alternative_that_admits_is_enough() -> None:
    """Whoever passes by one alternative is not hurt by another that nobody can tell of."""
    made = rules_of(departments={1, 3}, tags=[4])
    broken = "department:99/tag:9/tag:4/user:lisi"

    assert answer(made, broken, session_of("lisi")) == "yes"
    assert answer(made, broken, session_of("wangwu", tags={4: False})) == "bad-rule"


def test_an_unlisted_tag_names_the_setting() -> None:
    """A tag in a path that no sign-in looks at is ``bad-rule`` naming the setting, never ``stale`` without end."""
    with pytest.raises(Denied, match="list this tag under `tags`") as caught:
        rules.check(session_of("lisi"), Rules().parse("/_wecom/auth/tag:7"))

    assert caught.value.reason == "bad-rule"


# ── what a session does not know ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "rule, tags, expected",
    [
        ("tag:1", {}, "stale"),
        ("tag:1", {2: True}, "stale"),
        ("tag:1,2", {2: True}, "yes"),
        ("tag:1/user:lisi", {}, "yes"),
        ("tag:1/user:wangwu", {}, "stale"),
        ("without", {}, "stale"),
        ("without", {1: False}, "yes"),
        ("without", {1: True}, "rule"),
        ("both", {}, "stale"),
        ("both", {1: True}, "stale"),
        ("both", {1: False}, "rule"),
        ("both", {2: False}, "rule"),
        ("both", {1: True, 2: True}, "yes"),
        ("neither", {2: True}, "rule"),
        ("neither", {2: False}, "stale"),
        ("neither", {1: False, 2: False}, "yes"),
        ("hopeless", {}, "rule"),
    ],
)
def test_a_tag_that_was_not_looked_at(rule: str, tags: dict[int, bool], expected: str) -> None:
    """A session that did not look at a tag is ``stale`` where the tag decides, also under ``not``, and nowhere else."""
    made = rules_of(
        {
            "without": {"not": "tag:1"},
            "both": {"all": ["tag:1", "tag:2"]},
            "neither": {"not": ["tag:1", "tag:2"]},
            "hopeless": {"all": ["tag:1", "user:wangwu"]},
        }
    )

    assert answer(made, rule, session_of("lisi", tags=tags)) == expected


@pytest.mark.parametrize(
    "rule, expected",
    [("department:3", "yes"), ("department:2", "stale"), ("outside", "stale"), ("user:lisi", "yes"), ("user:wangwu", "rule")],
)
def test_ancestors_that_could_not_be_read(rule: str, expected: str) -> None:
    """A session made while the department tree could not be read is ``stale`` where an ancestor would decide."""
    made = rules_of({"outside": {"not": "department:2"}}, departments={2, 3})
    who = session_of("lisi", departments=(3,), partial=True)

    assert answer(made, rule, who) == expected
    assert made.lacks(who)


@pytest.mark.parametrize("rule", ["without", "department:99", "named", "without-named", "tag:5", "without-tag"])
def test_what_nobody_can_tell_admits_nobody(rule: str) -> None:
    """A department or tag that the app does not see, or a name of nothing, denies as ``bad-rule``, also under ``not``."""
    made = rules_of(
        {
            "without": {"not": "department:99"},
            "named": ["department:财务部"],
            "without-named": {"not": "department:财务部"},
            "without-tag": {"not": "tag:5"},
        },
        departments={1, 3},
        unseen_tags={5: "40068 invalid tagid"},
    )

    assert answer(made, rule, session_of("lisi", departments=(3, 1), tags={5: False})) == "bad-rule"
    assert len(made.problems()) == 3


def test_not_in_a_department_needs_the_departments() -> None:
    """Before it is known which departments the app sees, nobody is let in for not being in one."""
    made = rules_of({"outside": {"not": "department:99"}, "twice": {"not": {"not": "department:3"}}})
    who = session_of("lisi", departments=(3,))
    before = [answer(made, rule, who) for rule in ("outside", "twice", "department:99")]
    made.learn(Knowledge(departments={3, 99}))

    assert before == ["bad-rule", "yes", "rule"]
    assert answer(made, "outside", who) == "yes"


def test_names_become_numbers() -> None:
    """A department or tag by name is the one that the name was resolved to."""
    made = rules_of(
        {"finance": ["department:财务部", "tag:会计"]},
        ids={("department", "财务部"): 3, ("tag", "会计"): 7},
        departments={3},
    )

    assert answer(made, "finance", session_of("lisi", departments=(3,), tags={7: False})) == "yes"
    assert answer(made, "finance", session_of("lisi", tags={7: True})) == "yes"
    assert answer(made, "finance", session_of("lisi", tags={7: False})) == "rule"
    assert made.tags == {7}


def test_what_is_learnt_holds_for_paths_read_before() -> None:
    """What WeCom tells later changes the answer of a path that was asked already."""
    made = rules_of(departments={1})
    who = session_of("lisi", departments=(3,))
    before = answer(made, "department:3", who)

    made.learn(Knowledge(departments={1, 3}))

    assert (before, answer(made, "department:3", who)) == ("bad-rule", "yes")


# ── named rules ────────────────────────────────────────────────────────────────────────────────────────────────────────


NAMED = {
    "one": "user:lisi",
    "list": ["user:lisi", "user:wangwu"],
    "table": {"any": ["department:3", "department:5"], "not": "user:lisi"},
    "all": {"all": ["leader", "department:5"]},
    "nested": {"any": [{"all": ["leader", {"not": "department:3"}]}, "rule:one"]},
    "other": ["table", "user:sunba"],
    "财务": ["department:3"],
}


@pytest.mark.parametrize(
    "rule, admitted",
    [
        ("one", {"lisi"}),
        ("list", {"lisi", "wangwu"}),
        ("table", {"zhangsan", "wangwu"}),
        ("all", {"wangwu"}),
        ("nested", {"wangwu", "lisi"}),
        ("other", {"zhangsan", "wangwu", "sunba"}),
        ("one/table", {"lisi", "zhangsan", "wangwu"}),
        ("rule:one/user:sunba", {"lisi", "sunba"}),
        ("%E8%B4%A2%E5%8A%A1", {"lisi", "zhangsan"}),
    ],
)
def test_named_rules(rule: str, admitted: set[str]) -> None:
    """A rule of the settings joins its terms by any, all and not, nested, and may speak of another."""
    people = [
        session_of("lisi", departments=(3,), leads=(3,)),
        session_of("zhangsan", departments=(3, 1)),
        session_of("wangwu", departments=(5,), leads=(5,)),
        session_of("sunba", departments=(7,)),
    ]

    assert {who.user_id for who in people if answer(rules_of(NAMED, departments={3, 5, 7}), rule, who) == "yes"} == admitted


@pytest.mark.parametrize(
    "table, problem",
    [
        ({"a": "department:3/user:lisi"}, 'not a slash: ["department:3", "user:lisi"]'),
        ({"a": ["leader", "/_wecom/auth/tag:会计"]}, 'not a slash: ["tag:会计"]'),
        ([], "rules: a table is needed"),
        ({"a": []}, "rules.a: a list is empty"),
        ({"a": {}}, "rules.a: is empty; it needs any, all or not"),
        ({"a": {"any": []}}, "rules.a: any is empty"),
        ({"a": {"none": ["user:x"]}}, "rules.a: unknown: none; known: any, all, not"),
        ({"a": 3}, "rules.a: a text like"),
        ({"a": {"not": 3}}, "rules.a: a text like"),
        ({"a": ["group:3"]}, "rules.a: unknown kind 'group'"),
        ({"a": ["user:张三"]}, "rules.a: '张三' is no member id"),
        ({"a": ["department:"]}, "rules.a: '' is no department"),
        ({"a": ["b"]}, "rules.a: no rule is named 'b'; there are: a"),
        ({"leader": ["user:x"]}, "rules.leader: this word has a meaning of its own"),
        ({"a/b": ["user:x"]}, "rules.a/b: a rule's name has letters, digits, - and _ only"),
        ({"a": ["a"]}, "rules.a: goes round in a circle: a → a"),
        ({"c": ["a"], "a": ["b"], "b": {"not": "c"}}, "rules.a: goes round in a circle: a → b → c → a"),
        ({f"r{n}": [f"r{n + 1}"] * 2 for n in range(20)} | {"r20": "leader"}, "more than 2000 terms"),
        ({f"r{n}": f"r{n + 1}" for n in range(40)} | {"r40": "leader"}, "more than 32 deep"),
    ],
)
def test_mistakes_in_named_rules(table: Any, problem: str) -> None:
    """Each mistake in ``[rules]`` is a sentence that names the rule and what is wrong."""
    _, problems = read_rules(table)

    assert any(each.startswith(problem.partition(" more")[0]) or problem in each for each in problems), problems


def test_deep_nesting_is_a_mistake() -> None:
    """A rule nested without end is refused, not a crash."""
    deep: Any = "leader"
    for _ in range(100):
        deep = [deep]

    assert read_rules({"a": deep})[1] == ["rules.a: nested more than 32 deep"]


ATOMS = st.sampled_from(["user:u", "user:v", "tag:1", "tag:2", "department:3", "department:99", "leader"])
TREES = st.recursive(
    ATOMS,
    lambda inner: st.fixed_dictionaries(
        {}, optional={key: st.lists(inner, min_size=1, max_size=3) for key in ("any", "all", "not")}
    ).filter(bool),
    max_leaves=12,
)


def expected(tree: Any, truth: dict[str, bool]) -> bool:
    """What *tree* comes to when the truth of every term is known."""
    if isinstance(tree, str):
        return truth[tree]
    found = {key: [expected(item, truth) for item in items] for key, items in tree.items()}
    return any(found.get("any", [True])) and all(found.get("all", [])) and not any(found.get("not", []))


@given(
    TREES, st.fixed_dictionaries({term: st.booleans() for term in ("tag:1", "tag:2", "department:3", "department:99", "leader")})
)
def test_logic(tree: Any, truth: dict[str, bool]) -> None:
    """Any tree of terms comes to what logic says; and what is not known is told only where it makes a difference."""
    made = rules_of({"r": tree}, departments={3})
    departments = tuple(number for number in (3, 99) if truth[f"department:{number}"])
    leads = (3,) if truth["leader"] else ()
    tags = {1: truth["tag:1"], 2: truth["tag:2"]}
    worlds = [truth | {"department:99": seen, "user:u": True, "user:v": False} for seen in (True, False)]
    outcomes = {expected(tree, world) for world in worlds}

    verdict = made.parse("/_wecom/auth/r").verdict(session_of("u", departments=departments, tags=tags, leads=leads))
    half = made.parse("/_wecom/auth/r").verdict(session_of("u", departments=departments, tags={1: tags[1]}, leads=leads))

    if verdict is Verdict.BROKEN:
        assert "department:99" in str(tree)
    else:
        assert outcomes == {verdict is Verdict.YES}
    assert half in (verdict, Verdict.UNSURE)
