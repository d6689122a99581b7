"""Who lost access loses it at once, in every session issued up to then; who signs in again has it again."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import SignInNeeded
from gateway.member import Member
from gateway.records import Record
from gateway.session import LONGEST_S, Session
from gateway.standing import CLOCK_TOLERANCE_S, Standing

T = 1_800_000_000
SESSION = Session("s-1", Member("ZhangSan"), "ww1", 1000002, "erp", issued=T, renewed=T, ends=T + 43200, read=T)


def verdict(standing: Standing, session: Session = SESSION) -> str:
    """``""`` where nothing stands against *session*, else the reason."""
    try:
        standing.check(session)
    except SignInNeeded as needed:
        return needed.reason
    return ""


def test_nothing_stands_against_anybody_at_first() -> None:
    """A new standing refuses nobody."""
    assert verdict(Standing()) == ""
    assert len(Standing()) == 0


class TestRevoked:
    """``revoked`` ends every session of a member issued up to then."""

    @pytest.mark.parametrize(
        "at, reason",
        [
            (T + 1, "revoked"),
            (T, "revoked"),
            (T - CLOCK_TOLERANCE_S, "revoked"),
            (T - CLOCK_TOLERANCE_S - 0.5, ""),
            (T - CLOCK_TOLERANCE_S - 1, ""),
        ],
        ids=["later", "same-moment", "within-clocks", "just-before", "before"],
    )
    def test_sessions_issued_up_to_then_end(self, at: float, reason: str) -> None:
        """A session issued up to 10 s after the record is revoked: two machines' clocks never agree."""
        standing = Standing()
        standing.revoke("ZhangSan", at)

        assert verdict(standing) == reason

    def test_renewal_does_not_help(self) -> None:
        """What counts is when the session was issued: a renewed one is revoked too."""
        standing = Standing()
        standing.revoke("ZhangSan", T + 1000)

        assert verdict(standing, replace(SESSION, renewed=T + 2000, read=T + 2000, ends=T + 50000)) == "revoked"

    @pytest.mark.parametrize("user_id", ["zhangsan", "ZHANGSAN", "ZhangSan"])
    def test_letter_case_does_not_help(self, user_id: str) -> None:
        """WeCom's member ids are one whatever their letter case."""
        standing = Standing()
        standing.revoke(user_id, T + 1)

        assert verdict(standing) == "revoked"
        assert verdict(standing, replace(SESSION, member=Member("zHANGsAN"))) == "revoked"

    def test_others_are_untouched(self) -> None:
        """Revoking one member revokes no other."""
        standing = Standing()
        standing.revoke("zhangsan", T + 1)

        assert verdict(standing, replace(SESSION, member=Member("zhangsan2"))) == ""

    def test_an_older_record_takes_nothing_back(self) -> None:
        """Records may come in any order: the latest holds."""
        standing = Standing()
        standing.revoke("ZhangSan", T + 100)
        standing.revoke("ZhangSan", T - 100)

        assert verdict(standing) == "revoked"


class TestStale:
    """``stale``: what was read of a member no longer holds."""

    @pytest.mark.parametrize(
        "at, reason",
        [(T + 1, "stale"), (T + 0.5, "stale"), (T - CLOCK_TOLERANCE_S + 0.001, "stale"), (T - CLOCK_TOLERANCE_S, "")],
    )
    def test_what_was_read_before_is_stale(self, at: float, reason: str) -> None:
        """A session read up to 10 s after the record is stale: the machine that read it may have a faster clock."""
        standing = Standing()
        standing.outdate("zhangsan", at)

        assert verdict(standing) == reason

    def test_a_new_reading_cures_it(self) -> None:
        """What was read after the record was known stands, whatever the reader's clock said."""
        standing = Standing()
        standing.outdate("ZhangSan", T + 100.0004)

        assert verdict(standing) == "stale"
        assert verdict(standing, replace(SESSION, read=standing.stale_until("zhangsan"))) == ""
        assert standing.stale_until("lisi") == 0

    def test_a_change_right_after_a_reading_counts(self) -> None:
        """A second change, a millisecond after the reading that cured the first, is not lost."""
        standing = Standing()
        standing.outdate("ZhangSan", T + 100)
        read = standing.stale_until("ZhangSan")
        standing.outdate("ZhangSan", T + 100.001)

        assert verdict(standing, replace(SESSION, read=read)) == "stale"

    def test_an_older_record_takes_nothing_back(self) -> None:
        """The latest record holds."""
        standing = Standing()
        standing.outdate("ZhangSan", T + 100)
        standing.outdate("ZhangSan", T - 100)

        assert verdict(standing) == "stale"

    def test_stale_does_not_revoke(self) -> None:
        """A stale session of another member, or a fresh one, is not refused."""
        standing = Standing()
        standing.outdate("lisi", T + 100)

        assert verdict(standing) == ""

    def test_revoked_is_said_before_stale(self) -> None:
        """Who is gone is not asked to renew."""
        standing = Standing()
        standing.outdate("ZhangSan", T + 100)
        standing.revoke("ZhangSan", T + 100)

        assert verdict(standing) == "revoked"


class TestEnded:
    """``signed-out`` ends one session."""

    def test_a_session_ended_stays_ended(self) -> None:
        """The session is ``signed-out`` in every cookie that carries its id; others of the member go on."""
        standing = Standing()
        standing.end(SESSION)

        assert verdict(standing) == "signed-out"
        assert verdict(standing, replace(SESSION, renewed=T + 9, ends=T + 99999)) == "signed-out"
        assert verdict(standing, replace(SESSION, id="s-2")) == ""

    def test_ended_says_why(self) -> None:
        """``ended`` gives the reason that no renewal cures: ``signed-out`` or ``revoked``, and nothing for ``stale``."""
        standing = Standing()
        assert standing.ended(SESSION) == ""
        standing.outdate("zhangsan", T + 1)
        assert standing.ended(SESSION) == ""
        standing.revoke("zhangsan", T + 1)
        assert standing.ended(SESSION) == "revoked"
        standing.end(SESSION)
        assert standing.ended(SESSION) == "signed-out"

    def test_what_is_over_anyway_is_forgotten(self) -> None:
        """An ended session's id is kept for as long as any copy of its cookie, however renewed, could live."""
        standing = Standing()
        standing.end(SESSION)
        standing.forget_ended(SESSION.issued + LONGEST_S - 1)
        assert verdict(standing) == "signed-out"

        standing.forget_ended(SESSION.issued + LONGEST_S)
        assert len(standing) == 0


class TestIssue:
    """A sign-in that WeCom vouched for after a revocation gives a session that stands."""

    def test_without_revocation_it_is_when_it_began(self) -> None:
        """``issued`` is the second in which the sign-in began."""
        assert Standing().issue("zhangsan", T + 0.9) == T

    @pytest.mark.parametrize("began", [T + 0.8, T + 1, T + 5, T + CLOCK_TOLERANCE_S, T + 1000])
    def test_signing_in_again_lets_in(self, began: float) -> None:
        """Whoever signs in after a revocation is in, within the tolerance for clocks too."""
        standing = Standing()
        standing.revoke("ZhangSan", T + 0.7)

        assert verdict(standing, replace(SESSION, issued=standing.issue("zhangsan", began))) == ""

    @pytest.mark.parametrize("began", [T - 5, T, T + 0.6, T + 0.7])
    def test_a_revocation_during_a_sign_in_holds(self, began: float) -> None:
        """A sign-in that began before the revocation gives a session that is revoked."""
        standing = Standing()
        standing.revoke("ZhangSan", T + 0.7)

        assert verdict(standing, replace(SESSION, issued=standing.issue("ZhangSan", began))) == "revoked"

    @given(
        st.integers(0, 40).map(lambda quarter: T + quarter / 4),
        st.integers(0, 40).map(lambda quarter: quarter / 4),
        st.integers(0, 40).map(lambda quarter: quarter / 4),
    )
    def test_the_next_revocation_ends_it(self, revoked: float, then: float, again: float) -> None:
        """However soon after a revocation a person signs in, the next revocation ends that session."""
        standing = Standing()
        standing.revoke("ZhangSan", revoked)
        session = replace(SESSION, issued=standing.issue("ZhangSan", revoked + then))
        standing.revoke("ZhangSan", revoked + then + again)

        assert verdict(standing, session) == "revoked"


# ── machines' tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────


MOMENTS = st.integers(-80, 80).map(lambda quarter: T + quarter / 4)
ISSUED = Record("token-issued", T, details={"token": "ci", "id": "t-1", "ends": T + 366 * 86400})


def test_tokens_are_told_on() -> None:
    """What was issued and what was revoked brings about the same elsewhere, for as long as a token can live."""
    standing, other = Standing(), Standing()
    standing.apply(ISSUED)
    standing.apply(Record("token-revoked", T + 1, details={"id": "t-1"}))
    standing.forget_ended(T + 366 * 86400)

    for record in standing.records(T + 2):
        other.apply(record)

    assert ISSUED in other.records(T + 2)
    assert other.token_revoked("t-1")


def test_what_no_token_can_need_is_forgotten() -> None:
    """A token that is long over, and the revocation of a member for whom one could have acted, take no memory for ever."""
    standing = Standing()
    standing.apply(ISSUED)
    standing.apply(Record("token-revoked", T, details={"id": "t-1"}))
    standing.revoke("zhangsan", T)

    standing.forget_ended(T + 366 * 86400)
    assert standing.gone("ZhangSan", T)
    standing.forget_ended(T + 400 * 86400)
    assert len(standing) == 0
    assert standing.records(T) == []


def test_a_member_is_gone_for_what_was_issued_before() -> None:
    """Blocked, or revoked since: within the tolerance for clocks, and under any spelling."""
    standing = Standing()
    assert not standing.gone("zhangsan", T)
    standing.revoke("ZhangSan", T)

    assert standing.gone("zhangsan", T + CLOCK_TOLERANCE_S)
    assert not standing.gone("zhangsan", T + CLOCK_TOLERANCE_S + 1)
    standing.block("zhangsan")
    assert standing.gone("ZHANGSAN", T + 86400)


class TestApply:
    """What a record of the ledger says about anybody's access."""

    @pytest.mark.parametrize(
        "record, reason",
        [
            (Record("signed-out", T + 5, session="s-1"), "signed-out"),
            (Record("signed-out", T + 5, session="s-1", details={"until": T + 9}), "signed-out"),
            (Record("signed-out", T + 5, session="s-1", details={"until": "never"}), "signed-out"),
            (Record("signed-out", T + 5, session="s-2", member="ZhangSan"), ""),
            (Record("signed-out", T + 5, session="s-2", member="zhangsan", details={"everywhere": True}), "revoked"),
            (Record("revoked", T + 5, session="s-1"), "revoked"),
            (Record("revoked", T + 5, session="s-2", member="zhangsan", site="erp"), ""),
            (Record("revoked", T + 5, member="zhangsan"), "revoked"),
            (Record("revoked", T - 100, member="zhangsan"), ""),
            (Record("revoked", T + 5, site="erp"), "revoked"),
            (Record("revoked", T - CLOCK_TOLERANCE_S, site="erp"), "revoked"),
            (Record("revoked", T - 100, site="erp"), ""),
            (Record("revoked", T + 5, site="wiki"), ""),
            (Record("revoked", T + 5), ""),
            (Record("blocked", T - 100, member="zhangsan"), "blocked"),
            (Record("blocked", T, member="lisi"), ""),
            (Record("stale", T + 5, member="zhangsan"), "stale"),
            (Record("signed-in", T + 5, member="zhangsan", session="s-1"), ""),
            (Record("invented-later", T + 5, member="zhangsan", session="s-1"), ""),
        ],
    )
    def test_each_kind(self, record: Record, reason: str) -> None:
        """Each kind stands against exactly the sessions that it is about; said twice it is the same."""
        standing = Standing()
        standing.apply(record)
        assert verdict(standing) == reason

        standing.apply(record)
        assert verdict(standing) == reason

    def test_a_block_is_lifted(self) -> None:
        """Blocked until unblocked, whatever the letter case, for sign-ins too."""
        standing = Standing()
        standing.apply(Record("blocked", T, member="ZHANGSAN"))
        assert standing.blocked("zhangsan")
        standing.apply(Record("unblocked", T + 1, member="zhangSan"))

        assert not standing.blocked("zhangsan")
        assert verdict(standing) == ""

    @pytest.mark.parametrize("whom", [{"member": SESSION.user_id}, {"site": SESSION.site}, {"session": SESSION.id}], ids=str)
    def test_no_later_record_takes_it_back(self, whom: dict[str, str]) -> None:
        """Whatever times stand in a store that others have written to, what was revoked stays revoked."""
        standing = Standing()
        standing.apply(Record("revoked", T, **whom))
        for kind, at in ((kind, at) for kind in ("revoked", "signed-out") for at in (nan, -inf, 0.0, T - 1)):
            standing.apply(Record(kind, at, **whom, details={"until": at}))
        standing.forget_ended(T + 1)

        assert verdict(standing) in ("revoked", "signed-out")

    @pytest.mark.parametrize("whom", [{"member": SESSION.user_id}, {"site": SESSION.site}], ids=str)
    @pytest.mark.parametrize("at", [nan, -inf])
    def test_a_time_that_is_none_takes_nothing_away(self, whom: dict[str, str], at: float) -> None:
        """A record whose time is no time says nothing, and what comes after it holds."""
        standing = Standing()
        standing.apply(Record("revoked", at, **whom))
        assert (verdict(standing), len(standing)) == ("", 0)
        standing.apply(Record("revoked", T, **whom))

        assert verdict(standing) == "revoked"

    def test_a_session_ended_by_us_says_so(self) -> None:
        """Who signed out and whose session was ended by an administrator read different words."""
        standing = Standing()
        standing.apply(Record("revoked", T, session="s-1"))
        standing.apply(Record("signed-out", T, session="s-2"))

        assert verdict(standing) == "revoked"
        assert verdict(standing, replace(SESSION, id="s-2")) == "signed-out"

    def test_a_cookie_renewed_later_does_not_outlive_a_sign_out(self) -> None:
        """A sign-out is remembered for as long as any copy of the session, however renewed, could live."""
        standing = Standing()
        standing.end(SESSION)
        standing.forget_ended(SESSION.issued + LONGEST_S - 1)

        assert verdict(standing, replace(SESSION, renewed=T + 6 * 86400, ends=T + LONGEST_S)) == "signed-out"

    def test_the_site_lets_in_again(self) -> None:
        """Who signs in after all sessions of a site were ended is in, at once."""
        standing = Standing()
        standing.apply(Record("revoked", T, site="erp"))

        again = replace(SESSION, issued=standing.issue("zhangsan", T + 1, site="erp"))
        assert verdict(standing, again) == ""
        standing.apply(Record("revoked", T + 2, site="erp"))
        assert verdict(standing, again) == "revoked"


OF_MEMBERS = st.sampled_from(["revoked", "blocked", "unblocked", "stale"])
OF_SESSIONS = st.sampled_from(["signed-out", "revoked"])
RECORDS = st.lists(
    st.one_of(
        st.tuples(OF_MEMBERS, MOMENTS, st.sampled_from(["a", "A", "b"])).map(lambda parts: Record(*parts)),
        st.tuples(OF_SESSIONS, MOMENTS, st.just(""), st.sampled_from(["s-1", "s-2"])).map(lambda parts: Record(*parts)),
        MOMENTS.map(lambda at: Record("revoked", at, site="erp")),
    )
)


@given(RECORDS, MOMENTS, st.sampled_from(["a", "b", "c"]), st.sampled_from(["s-1", "s-3"]))
def test_told_on_it_is_the_same(records: list[Record], issued: float, user_id: str, session_id: str) -> None:
    """Whatever was applied, the records that a standing gives bring about the same verdict elsewhere."""
    standing, other = Standing(), Standing()
    for record in records:
        standing.apply(record)
    for record in standing.records(T):
        other.apply(record)
    session = replace(SESSION, id=session_id, member=Member(user_id), issued=int(issued), read=issued)

    assert verdict(other, session) == verdict(standing, session)
