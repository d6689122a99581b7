"""Who is read again, when, and how fast: the arithmetic behind the re-check."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.member import Member
from gateway.session import Seen, Session
from gateway.watch import EARLY, FIRST_PAUSE_S, LONGEST_PAUSE_S, WAITING, Watch, told_by

T = 1_800_000_000.0
EVERY_S = 600


def session(user_id: str = "zhangsan", *, read: float = T, **changes: object) -> Session:
    member = Member(user_id, "张三", 1, (6,), position="工程师")
    made = Session(f"s-{user_id}", member, "ww1", 1, "erp", int(read), int(read), int(read) + 43200, read, user_id, (6, 1))
    return replace(made, **changes)


def seen(user_id: str = "zhangsan", *, read: float = T, **changes: object) -> Seen:
    return Seen.of(session(user_id, read=read, **changes), raw=False)


@pytest.fixture
def watch() -> Watch:
    watch = Watch()
    watch.pace(EVERY_S, per_minute=600)
    return watch


def names(watch: Watch, now: float = T) -> list[str]:
    """Who is read, in this order."""
    found = []
    while turn := watch.next(now):
        found.append(turn[0])
    return found


class TestTurns:
    """Whose turn it is."""

    def test_nobody_whose_reading_is_recent(self, watch: Watch) -> None:
        """A session made or renewed a moment ago costs no call."""
        watch.consider([seen()], T + EVERY_S * EARLY - 1)

        assert names(watch) == []

    def test_everybody_before_the_interval_is_over(self, watch: Watch) -> None:
        """Whoever is seen at the end of the interval is read, each a little earlier so that not all come at once."""
        people = [seen(f"member{number}") for number in range(200)]

        watch.consider(people, T + EVERY_S * (1 + EARLY) / 2)
        half = len(names(watch))
        watch.consider(people, T + EVERY_S)

        assert 60 < half < 140
        assert len(names(watch)) == 200

    def test_each_waits_once(self, watch: Watch) -> None:
        """However often and with however many sessions a member is seen, they wait once, with all their sessions."""
        one, other = seen(), seen(id="another-device")
        watch.consider([one, other], T + EVERY_S)
        watch.consider([one], T + EVERY_S)

        assert watch.next(T) == ("zhangsan", [one, other])
        assert watch.next(T) is None

    def test_who_was_away_comes_first(self, watch: Watch) -> None:
        """A member seen again after a pause is read ahead of those who were read since."""
        watch.consider([seen("early", read=T + 100), seen("returning", read=T - 7200), seen("late", read=T + 50)], T + 700)

        assert names(watch) == ["returning", "late", "early"]

    def test_a_flood_waits_within_bounds(self, watch: Watch) -> None:
        """While nobody is read, sessions wait up to a bound, those of one member too; who found no room waits when seen again."""
        crowd = [seen(f"member{number}") for number in range(WAITING - 50)]
        busy = [seen(id=f"device{number}") for number in range(100)]
        watch.consider([*crowd, *busy, seen("late")], T + EVERY_S)
        full, waiting = watch.full, sum(map(len, watch._waiting.values()))
        read = names(watch)
        room = not watch.full
        watch.consider([seen("late")], T + EVERY_S)

        assert (full, waiting, room) == (True, WAITING, True)
        assert "zhangsan" in read
        assert "late" not in read
        assert names(watch) == ["late"]

    def test_who_waits_is_seen_again_without_taking_room(self, watch: Watch) -> None:
        """A session that waits is one however often it is seen, also when WeCom did not tell; and its newest cookie counts."""
        for _ in range(3):
            watch.consider([seen(f"member{number}") for number in range(WAITING - 1)], T + EVERY_S)
        turn = watch.next(T)
        assert turn
        watch.failed("wecom-unreachable", turn[1], T)
        renewed = seen("member7", departments=(7, 1))
        watch.consider([renewed], T + EVERY_S)

        assert (watch.full, watch.waiting) == (False, WAITING - 1)
        assert ("member7", [renewed]) in iter(lambda: watch.next(T + 3600), None)

    def test_a_reading_here_counts(self, watch: Watch) -> None:
        """The cookie keeps its old reading; what was read in the background since counts as well."""
        watch.learn("zhangsan", T + 500, {"erp": told_by(seen())})

        watch.consider([seen()], T + 500 + EVERY_S * EARLY - 1)
        assert names(watch) == []
        watch.consider([seen()], T + 500 + EVERY_S)
        assert names(watch) == ["zhangsan"]

    @pytest.mark.parametrize("jump_s", [-3600, -86400 * 365, 3600, 86400 * 365])
    def test_a_clock_that_jumps(self, watch: Watch, jump_s: float) -> None:
        """A clock set forth or back lets nobody go unread: each is read once by the new clock, and then at the usual pace."""
        watch.learn("zhangsan", T, {"erp": told_by(seen())})
        now = T + jump_s

        watch.consider([seen()], now)
        assert names(watch) == ["zhangsan"]
        watch.learn("zhangsan", now, {"erp": told_by(seen())})
        watch.consider([seen()], now + 1)
        assert names(watch) == []
        watch.consider([seen()], now + EVERY_S)
        assert names(watch) == ["zhangsan"]

    def test_another_machines_clock(self, watch: Watch) -> None:
        """A reading by a machine whose clock is 5 s ahead counts like our own."""
        watch.learn("zhangsan", T + 5, {"erp": told_by(seen())})
        watch.consider([seen(read=T - 1000)], T)

        assert names(watch) == []

    def test_old_readings_are_let_go(self, watch: Watch) -> None:
        """Who does not come back takes no memory."""
        watch.consider([], T)
        for number in range(100):
            watch.learn(f"member{number}", T, {})
        assert watch.read_lately(T + 1) == len(watch.read) == 100
        watch.consider([], T + 3 * EVERY_S)

        assert watch.read_lately(T + 3 * EVERY_S) == len(watch.read) == 0


class TestChanges:
    """What a session says is compared with what WeCom says."""

    @pytest.mark.parametrize(
        "change",
        [
            {"departments": (7, 1)},
            {"tags": {3: True}},
            {"member": Member("zhangsan", "张三丰", 1, (6,), position="工程师")},
            {"member": Member("zhangsan", "张三", 1, (6,), position="经理")},
            {"member": Member("zhangsan", "张三", 1, (6,), (6,), "工程师")},
        ],
        ids=["departments", "tags", "name", "position", "leads"],
    )
    def test_a_difference_is_told_once(self, watch: Watch, change: dict[str, object]) -> None:
        """A session that says something else than the last reading is told, once for each reading."""
        watch.learn("zhangsan", T + 1, {"erp": told_by(seen(**change))})

        assert watch.consider([seen()], T + 2) == {"zhangsan"}
        assert watch.consider([seen()], T + 3) == set()

    def test_no_difference(self, watch: Watch) -> None:
        """Another session of the member that says the same, and one that is younger than the reading, are left alone."""
        watch.learn("zhangsan", T + 1, {"erp": told_by(seen())})

        assert watch.consider([seen(), seen(id="another"), seen(id="younger", read=T + 2, departments=(9,))], T + 3) == set()

    def test_nothing_is_told_of_who_is_gone(self, watch: Watch) -> None:
        """A member who was gone has nothing to compare with."""
        watch.learn("zhangsan", T + 1, {})

        assert watch.consider([seen()], T + 2) == set()

    def test_each_site_has_accounts_of_its_own(self, watch: Watch) -> None:
        """A session is compared with what would be said at its own site."""
        told = {"erp": told_by(seen()), "wiki": told_by(seen(site="wiki", account="10086"))}
        watch.learn("zhangsan", T + 1, told)

        right, wrong = seen(id="right", site="wiki", account="10086"), seen(id="wrong", site="wiki", account="10010")
        assert watch.consider([seen(), right, seen(id="elsewhere", site="unknown")], T + 2) == set()
        assert watch.consider([wrong], T + 3) == {"zhangsan"}

    def test_what_a_ticket_brought_is_not_compared(self) -> None:
        """E-mail and mobile come at sign-in only: a reading without them is no change."""
        member = Member("zhangsan", "张三", 1, (6,), position="工程师", email="a@example.com", mobile="13800000000")

        assert told_by(seen(member=member)) == told_by(seen())


class TestPace:
    """How fast WeCom is asked."""

    def test_at_most_so_many_a_minute(self, watch: Watch) -> None:
        """A tenth of a minute's calls at once, then as they come, never more than that together."""
        assert watch.budget(T) == 60
        for _ in range(60):
            watch.spend()
        assert watch.budget(T) == 0
        assert watch.budget(T + 1) == 10
        assert watch.budget(T + 3600) == 60

    def test_a_clock_set_back_gives_nothing_for_free(self, watch: Watch) -> None:
        """The allowance neither grows nor stops when the clock is set back."""
        for _ in range(watch.budget(T)):
            watch.spend()
        assert watch.budget(T - 3600) == 0
        assert watch.budget(T - 3599) == 10

    def test_the_pause_grows(self, watch: Watch) -> None:
        """While WeCom does not tell, it is asked about one member after a pause that grows to ten minutes."""
        now, pauses = T, []
        for _ in range(10):
            for _ in range(8):  # those under way count once
                watch.failed("wecom-busy: 45009", [seen()], now)
            began = now
            while not watch.budget(now):
                now += 1
            assert watch.budget(now) == 1
            pauses.append(now - began)

        assert FIRST_PAUSE_S <= pauses[0] <= FIRST_PAUSE_S * 1.3 + 1
        assert pauses[:5] == sorted(pauses[:5])
        assert LONGEST_PAUSE_S <= pauses[-1] <= LONGEST_PAUSE_S * 1.3 + 1

    def test_an_answer_ends_the_pause(self, watch: Watch) -> None:
        """After one answer all goes on as before."""
        watch.failed("wecom-unreachable", [seen()], T)
        assert (watch.budget(T + 1), watch.renew_s) == (0, float("inf"))
        watch.answered()

        assert (watch.failing, watch.budget(T + 1), watch.renew_s) == ("", 60, EVERY_S)

    def test_who_could_not_be_read_comes_last(self, watch: Watch) -> None:
        """One member whom WeCom answers with nonsense does not keep it from being asked about the others."""
        watch.consider([seen("poison", read=T - 9000), seen("other", read=T - 8000)], T)
        turn = watch.next(T)
        assert turn
        watch.failed("wecom-unreachable", turn[1], T)

        assert names(watch, T + 60) == ["other", "poison"]

    def test_a_pause_by_a_clock_that_was_wrong(self, watch: Watch) -> None:
        """A pause that ends in a year, by a clock set back since, is over."""
        watch.failed("wecom-busy", [seen()], T)

        assert watch.budget(T - 86400 * 365) == 1


class TestPresence:
    """What the check asks."""

    def test_who_was_away(self, watch: Watch) -> None:
        """Who was read neither for the session nor in the background for an interval is read before a page."""
        assert not watch.away(session(), T + EVERY_S - 1)
        assert watch.away(session(), T + EVERY_S)
        watch.learn("zhangsan", T + 100, {})
        assert not watch.away(session(), T + EVERY_S)
        assert watch.away(session(), T + EVERY_S + 100)

    def test_not_while_wecom_does_not_tell(self, watch: Watch) -> None:
        """While WeCom is known to be away nobody waits for it."""
        watch.failed("wecom-unreachable", [], T)

        assert not watch.away(session(), T + 10 * EVERY_S)

    def test_never_when_switched_off(self) -> None:
        """Without ``recheck.every`` only ``session.renew_after`` counts."""
        watch = Watch()
        watch.pace(0, 600)

        assert not watch.away(session(), T + 10 * EVERY_S)

    def test_closing(self, watch: Watch) -> None:
        """Once nobody could be read for the grace, whoever was not read within it is refused, until WeCom tells again."""
        watch.failed("wecom-unreachable", [], T)
        watch.close(T + 3599, 3600)
        assert not watch.unverified(session())
        watch.close(T + 3600, 3600)
        assert T - 1 < watch.unread_before <= T
        assert watch.unverified(session())
        watch.learn("zhangsan", T + 1, {})
        assert not watch.unverified(session(read=T - 1))
        watch.answered()
        assert not watch.unverified(session("lisi", read=T - 1))
