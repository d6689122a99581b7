"""The departments an app sees form a tree that may have holes, several roots and circles; none of it hurts."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import names
from gateway.tree import MAX_LEVELS, Tree
from gateway.wecom import Department

SAMPLE = Tree(
    Department(*row)
    for row in [
        (2, 1, "管理中心"),
        (3, 2, "财务部"),
        (4, 3, "会计组"),
        (5, 1, "技术中心"),
        (6, 5, "研发部"),
        (9, 5, "财务部"),
        (20, 99, ""),
    ]
)


class Parents(dict[int, int]):
    """The parents of a tree, counting how often one is looked up."""

    looked = 0

    def __getitem__(self, key: int) -> int:
        type(self).looked += 1
        return super().__getitem__(key)


@pytest.mark.parametrize(
    "own, placed",
    [
        ((4,), (4, 3, 2)),
        ((3, 6), (3, 6, 2, 5)),
        ((4, 3), (4, 3, 2)),
        ((2,), (2,)),
        ((20,), (20,)),
        ((77,), (77,)),
        ((), ()),
    ],
    ids=["chain", "two branches", "one above the other", "below the unseen root", "orphan", "not in the tree", "none"],
)
def test_placed(own: tuple[int, ...], placed: tuple[int, ...]) -> None:
    """Own departments come first, then the ancestors that the app sees, each once."""
    assert SAMPLE.placed(own) == placed


def test_a_circle_ends() -> None:
    """Departments that are their own ancestors, as no sane data has them, give each other and no more."""
    circle = Tree([Department(1, 3), Department(2, 1), Department(3, 2), Department(4, 4), Department(5, 2)])

    assert circle.above(1) == (3, 2)
    assert circle.above(4) == ()
    assert circle.above(5) == (2, 1, 3)


def test_an_endless_chain_is_cut() -> None:
    """A chain longer than any corp's gives a bounded number of ancestors, the nearest."""
    chain = Tree(Department(number, number + 1) for number in range(1, 10_000))

    assert chain.above(1) == tuple(range(2, MAX_LEVELS + 1))


def test_ten_thousand_departments_fifty_levels_cost_little() -> None:
    """Each department is climbed from once, one look per level, however many members ask."""
    rows = [Department(1, 0)]
    rows += [Department(number, number - 200 if number > 200 else 1) for number in range(2, 10_001)]
    random.Random(7).shuffle(rows)
    tree = Tree(rows)
    tree._parents = parents = Parents(tree._parents)

    for _ in range(20):
        for number in range(1, 10_001, 10):
            tree.placed((number,))

    assert max(len(tree.above(number)) for number in range(9_800, 10_001)) == 50
    assert parents.looked <= 1000 * 52 + 201 * 52


@given(st.dictionaries(st.integers(1, 30), st.integers(0, 30), max_size=30), st.lists(st.integers(1, 30), max_size=4))
def test_any_data(parents: dict[int, int], own: list[int]) -> None:
    """Whatever parents WeCom tells: it ends, own departments are in, each further one is a visible parent of one before."""
    tree = Tree(Department(number, parent) for number, parent in parents.items())
    placed = tree.placed(own)

    assert len(set(placed)) == len(placed)
    assert set(own) <= set(placed)
    assert all(number in tree.ids and number in {parents.get(each) for each in placed} for number in set(placed) - set(own))


# ── names ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_names_that_one_bears_are_resolved() -> None:
    """A name that exactly one department or tag bears is that one's number."""
    found, wrong = names.resolve([("department", "会计组"), ("tag", "会计")], SAMPLE, {7: "会计", 8: "出纳"})

    assert (found, wrong) == ({("department", "会计组"): 4, ("tag", "会计"): 7}, {})


@pytest.mark.parametrize(
    "name, told",
    [
        (("department", "财务部"), "2 bear this name; write the number of one: 3 (管理中心/财务部), 9 (技术中心/财务部)"),
        (("department", "财务"), "there are: 3 (管理中心/财务部), 9 (技术中心/财务部), …"),
        (("department", "xyz"), "no department that the app sees bears this name; there are: 2 (管理中心), 3 (管理中心/财务部)"),
        (("tag", "出纳组"), "no tag that the app sees bears this name; there are: 8 (出纳)"),
    ],
)
def test_other_names_list_the_candidates(name: names.Name, told: str) -> None:
    """A name that several bear, or none, is told with those that may be meant."""
    found, wrong = names.resolve([name], SAMPLE, {7: "会计", 8: "出纳"})

    assert found == {}
    assert told in wrong[name]


def test_a_name_keeps_its_first_number() -> None:
    """What a name was resolved to first stays, for each corp by itself."""
    resolved = names.Resolved()
    for corp, number in (("ww1", 3), ("ww1", 9), ("ww2", 5)):
        resolved.apply(names.record(corp, ("department", "财务部"), number, 0.0))

    assert resolved.known("ww1") == {("department", "财务部"): 3}
    assert resolved.known("ww2") == {("department", "财务部"): 5}
    assert resolved.known("ww3") == {}
