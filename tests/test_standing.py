"""Who lost access loses it at once, in every session issued up to then; who signs in again has it again."""

from __future__ import annotations

from dataclasses import replace

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
