"""Many members gone at once: who is held, and who decides."""

from __future__ import annotations

import pytest

from gateway.hold import AT_LEAST, Hold
from gateway.records import Record

T = 1_800_000_000.0


def found(hold: Hold, count: int, *, read: int, at: float = T, since: float = T - 600) -> int:
    """So many come back as gone, one after the other; gives how many of them are let go."""
    return sum(not hold.holds(f"member{number}", at, read=read, since=since) for number in range(count))


@pytest.mark.parametrize("read, let_go", [(0, 19), (100, 19), (399, 19), (400, 20), (1000, 50), (10_000, 100)])
def test_how_many(read: int, let_go: int) -> None:
    """More than one in twenty of those read, and at least twenty, is too many."""
    assert found(Hold(), 100, read=read) == let_go


def test_the_same_member_counts_once() -> None:
    """A member who is found gone again and again, by several processes, is one."""
    hold = Hold()
    for _ in range(100):
        assert not hold.holds("zhangsan", T, read=100, since=T - 600)
        hold.apply(Record("revoked", T, member="ZhangSan", reason="left"))


def test_only_of_late() -> None:
    """Who left before the interval is not counted."""
    hold = Hold()
    assert found(hold, AT_LEAST - 1, read=0) == AT_LEAST - 1

    assert not hold.holds("one-more", T + 700, read=0, since=T + 100)


def test_a_clock_that_was_ahead() -> None:
    """Who left by a clock that was a day ahead keeps nobody's access for a day: they are not of the last interval."""
    hold = Hold()
    assert found(hold, AT_LEAST - 1, read=0, at=T + 86400, since=T + 86400 - 600) == AT_LEAST - 1

    assert not hold.holds("one-more", T, read=0, since=T - 600)


def test_what_other_processes_found_counts() -> None:
    """Revocations that others stored are counted as well; those by an operator, a sign-out or an event are not."""
    hold = Hold()
    for number in range(AT_LEAST):
        hold.apply(Record("revoked", T, member=f"event{number}", reason="unsubscribe"))
        hold.apply(Record("revoked", T, session=f"s{number}", reason="left"))
    assert not hold.holds("zhangsan", T, read=0, since=T - 600)
    for number in range(AT_LEAST):
        hold.apply(Record("revoked", T, member=f"gone{number}", reason="disabled"))

    assert hold.holds("lisi", T, read=0, since=T - 600)


def test_released() -> None:
    """Whom an operator lets stay is held again, never let go, while WeCom still says that they are gone; until it does not."""
    hold = Hold()
    hold.apply(Record("held", T, details={"members": ["ZhangSan"]}))
    hold.apply(Record("released", T, details={"members": ["zhangsan"], "confirmed": False}))
    assert hold.problems() == []
    assert hold.holds("zhangsan", T, read=1000, since=T - 600)
    hold.apply(Record("released", T, details={"members": ["zhangsan"], "confirmed": False}))
    assert not hold.here("zhangsan")

    assert not hold.holds("zhangsan", T, read=1000, since=T - 600)


def test_an_event_decides() -> None:
    """Whoever is revoked by other means while held needs no decision."""
    hold = Hold()
    hold.apply(Record("held", T, details={"members": ["zhangsan", "lisi"]}))
    hold.apply(Record("revoked", T, member="ZHANGSAN", reason="unsubscribe"))

    assert list(hold.members.values()) == ["lisi"]


@pytest.mark.parametrize("details", [{}, {"members": None}, {"members": 7}, {"members": "zhangsan"}, {"members": [None, 1]}])
def test_records_of_a_later_release(details: dict[str, object]) -> None:
    """What this release does not understand breaks nothing."""
    hold = Hold()
    for kind in ("held", "released", "revoked", "unheard-of"):
        hold.apply(Record(kind, T, details=details))

    assert "zhangsan" not in hold.members
