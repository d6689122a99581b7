"""What the hot path knows of members and sessions that lost their access; in memory, pure, fed by the ledger."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from gateway.errors import SignInNeeded
from gateway.records import Record
from gateway.session import LONGEST_S, Seen, Session

CLOCK_TOLERANCE_S = 10
"""A session issued, or read, up to this long after a revocation or a change falls under it: machines' clocks never agree."""

LONGEST_TOKEN_S = 366 * 86400
"""A machine's token ends so long after its issue, whatever happens."""

NEVER = -math.inf


class _Against:
    """What stands against one member."""

    __slots__ = ("blocked", "fresh", "revoked")

    def __init__(self) -> None:
        self.revoked = NEVER  #: sessions issued up to then, and the tolerance after, are revoked
        self.fresh = NEVER  #: what was read before then is stale
        self.blocked = False


class Standing:
    """For each member "sessions issued up to T are revoked" and "what was read before T is stale"; ended session ids.

    T is when we took the record, in Unix seconds. A record may be applied more than once: nothing changes by it.
    """

    def __init__(self) -> None:
        self._members: dict[str, _Against] = {}
        self._sites: dict[str, float] = {}  #: like ``_Against.revoked``
        self._ended: dict[str, float] = {}  #: session id -> when the session is over anyway
        self._revoked_ids: set[str] = set()  #: those of ``_ended`` that an administrator ended
        self._tokens: set[str] = set()  #: ids of those revoked
        self._issued: dict[str, Record] = {}  #: those that may still open something, by id

    def apply(self, record: Record) -> None:
        """Take in what *record* says about anybody's access; a kind that says nothing about it, or is unknown, is left out."""
        if take := _BY_KIND.get(record.kind):
            take(self, record)

    def revoke(self, user_id: str, at: float) -> None:
        """End every session of *user_id* issued up to *at*."""
        key = user_id.casefold()
        against = self._members.get(key)
        if against is None:  # most often, at a start
            against = self._members[key] = _Against()
            against.revoked = at + CLOCK_TOLERANCE_S
        else:
            against.revoked = _later(against.revoked, at)

    def revoke_site(self, site: str, at: float) -> None:
        """End every session at *site* issued up to *at*."""
        self._sites[site] = _later(self._sites.get(site, NEVER), at)

    def outdate(self, user_id: str, at: float) -> None:
        """What was read of *user_id* up to *at* no longer holds: departments or tags have changed."""
        against = self._against(user_id)
        against.fresh = max(against.fresh, math.ceil((at + CLOCK_TOLERANCE_S) * 1000) / 1000)

    def stale_until(self, user_id: str) -> float:
        """From which reading on the data of *user_id* holds, by what is known now; 0 where any does.

        Asked for *before* WeCom is, it is the least that a session may give as ``read`` after it: machines' clocks differ, but
        what WeCom says after we heard of a change has the change.
        """
        against = self._members.get(user_id.casefold())
        return max(0, against.fresh) if against else 0

    def block(self, user_id: str) -> None:
        """No session and no sign-in of *user_id* until :meth:`unblock`."""
        self._against(user_id).blocked = True

    def unblock(self, user_id: str) -> None:
        self._against(user_id).blocked = False

    def blocked(self, user_id: str) -> bool:
        against = self._members.get(user_id.casefold())
        return against is not None and against.blocked

    def end(self, session: Session) -> None:
        """End one session, in every cookie of it: its person signed out."""
        self._end(session.id, session.over)

    def issue_token(self, record: Record) -> None:
        """Keep what is known of a machine's token: a store that lost it is told again."""
        self._issued[str(record.details.get("id", ""))] = record

    def revoke_token(self, token_id: str) -> None:
        self._tokens.add(token_id)

    def token_revoked(self, token_id: str) -> bool:
        return token_id in self._tokens

    def check(self, session: Session | Seen) -> None:
        """Return if nothing stands against *session*.

        Else SignInNeeded ``signed-out``, ``revoked``, ``blocked`` or ``stale``.
        """
        if session.id in self._ended:
            raise SignInNeeded("revoked" if session.id in self._revoked_ids else "signed-out")
        if self._sites and session.issued <= self._sites.get(session.site, NEVER):
            raise SignInNeeded("revoked")
        if self._members and (against := self._members.get(session.user_id.casefold())):
            if against.blocked:
                raise SignInNeeded("blocked")
            if session.issued <= against.revoked:
                raise SignInNeeded("revoked")
            if session.read < against.fresh:
                raise SignInNeeded("stale")

    def ended(self, session: Session) -> str:
        """Why *session* is over, ``signed-out``, ``revoked`` or ``blocked``; empty while it is not."""
        try:
            self.check(session)
        except SignInNeeded as error:
            return "" if error.reason == "stale" else error.reason
        return ""

    def issue(self, user_id: str, began: float, *, site: str = "") -> int:
        """Give the ``issued`` of a sign-in that WeCom vouched for from *began* on: past any revocation before that.

        Without it, whoever signs in again right after signing out everywhere would be refused for a while.
        """
        against = self._members.get(user_id.casefold())
        issued = int(began)
        for revoked in (against.revoked if against else NEVER, self._sites.get(site, NEVER)):
            if revoked - CLOCK_TOLERANCE_S < began and revoked >= issued:
                issued = int(revoked) + 1
        return issued

    def gone(self, user_id: str, issued: float) -> bool:
        """Whether *user_id* lost since *issued* what a machine's token acts with: it is over like every session of theirs."""
        against = self._members.get(user_id.casefold())
        return against is not None and (against.blocked or issued <= against.revoked)

    def forget_ended(self, now: float) -> None:
        """Drop what only stands against sessions that are over anyway, or read anew since."""
        oldest = now - LONGEST_S - CLOCK_TOLERANCE_S  # sessions live no longer; their clock may be behind
        self._ended = {session_id: over for session_id, over in self._ended.items() if over > now}
        self._revoked_ids &= self._ended.keys()
        self._sites = {site: revoked for site, revoked in self._sites.items() if revoked > oldest}
        self._members = {
            key: against
            for key, against in self._members.items()
            if against.blocked or against.revoked > now - LONGEST_TOKEN_S or against.fresh > oldest
        }
        over = {token_id for token_id, record in self._issued.items() if record.at < oldest - LONGEST_TOKEN_S}
        self._issued = {token_id: record for token_id, record in self._issued.items() if token_id not in over}
        self._tokens -= over

    def __len__(self) -> int:
        return len(self._members) + len(self._sites) + len(self._ended) + len(self._tokens)

    def records(self, now: float) -> list[Record]:
        """What is in force, as records that bring about the same elsewhere."""
        found = [Record("revoked", revoked - CLOCK_TOLERANCE_S, site=site) for site, revoked in self._sites.items()]
        for session_id, over in self._ended.items():
            kind = "revoked" if session_id in self._revoked_ids else "signed-out"
            found.append(Record(kind, now, session=session_id, details={"until": over}))
        for key, against in self._members.items():
            if against.revoked > NEVER:
                found.append(Record("revoked", against.revoked - CLOCK_TOLERANCE_S, member=key))
            if against.fresh > NEVER:
                found.append(Record("stale", against.fresh - CLOCK_TOLERANCE_S, member=key))
            if against.blocked:
                found.append(Record("blocked", now, member=key))
        found += self._issued.values()
        return found + [Record("token-revoked", now, details={"id": token_id}) for token_id in self._tokens]

    def _against(self, user_id: str) -> _Against:
        key = user_id.casefold()
        against = self._members.get(key)
        if against is None:
            against = self._members[key] = _Against()
        return against

    def _end(self, session_id: str, over: float) -> None:
        self._ended[session_id] = max(self._ended.get(session_id, NEVER), over)  # a NaN changes nothing

    def _signed_out(self, record: Record) -> None:
        if record.session:
            self._end(record.session, _until(record))
        if record.details.get("everywhere") and record.member:
            self.revoke(record.member, record.at)

    def _revoked(self, record: Record) -> None:
        if record.session:
            self._end(record.session, _until(record))
            self._revoked_ids.add(record.session)
        elif record.member:
            self.revoke(record.member, record.at)
        elif record.site:
            self.revoke_site(record.site, record.at)


_BY_KIND: Mapping[str, Callable[[Standing, Record], Any]] = {
    "signed-out": Standing._signed_out,
    "revoked": Standing._revoked,
    "blocked": lambda standing, record: standing.block(record.member),
    "unblocked": lambda standing, record: standing.unblock(record.member),
    "stale": lambda standing, record: standing.outdate(record.member, record.at),
    "token-issued": lambda standing, record: standing.issue_token(record),
    "token-revoked": lambda standing, record: standing.revoke_token(str(record.details.get("id", ""))),
}


def _later(before: float, at: float) -> float:
    """The end of a revocation at *at* after an earlier one that ended at *before*, both with the tolerance.

    It goes past all that :meth:`Standing.issue` may have given since then, be it in the same second.
    """
    until = at + CLOCK_TOLERANCE_S
    if not until > before:  # nor is a NaN, which a store may hold that others write to
        return before
    return max(until, int(before) + 1) if before > NEVER else until


def _until(record: Record) -> float:
    """When the session of *record* is over anyway; where it does not say, as late as any session can be."""
    until = record.details.get("until")
    return float(until) if isinstance(until, (int, float)) else record.at + LONGEST_S + CLOCK_TOLERANCE_S
