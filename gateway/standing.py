"""What the hot path knows of members and sessions that lost their access; in memory, pure, fed by the ledger."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gateway.errors import SignInNeeded
from gateway.records import Record
from gateway.session import LONGEST_S, Seen, Session

CLOCK_TOLERANCE_S = 10
"""A session issued, or read, up to this long after a revocation or a change falls under it: machines' clocks never agree."""

LONGEST_TOKEN_S = 366 * 86400
"""A machine's token ends so long after its issue, whatever happens."""

NEVER = -math.inf


class Standing:
    """For each member "sessions issued up to T are revoked" and "what was read before T is stale"; ended session ids.

    T is when we took the record, in Unix seconds. A record may be applied more than once: nothing changes by it.
    Members are known by their case-folded ids; a plain dictionary for each thing said, for a million may be revoked.
    """

    def __init__(self) -> None:
        self._members: dict[str, float] = {}  #: of a member, sessions issued up to then are revoked; the tolerance is in it
        self._fresh: dict[str, float] = {}  #: what was read of a member before then is stale
        self._blocked: set[str] = set()
        self._sites: dict[str, float] = {}  #: like ``_members``
        self._ended: dict[str, float] = {}  #: session id -> when the session is over anyway
        self._revoked_ids: set[str] = set()  #: those of ``_ended`` that an administrator ended
        self._tokens: set[str] = set()  #: ids of those revoked
        self._issued: dict[str, Record] = {}  #: those that may still open something, by id

    def apply(self, record: Record) -> None:
        """Take in what *record* says about anybody's access; a kind that says nothing about it, or is unknown, is left out."""
        if take := _BY_KIND.get(record.kind):
            take(self, record)

    def revoked(self, records: Iterable[Record]) -> None:
        """The same for ``revoked`` records, of which a start has a million: a call for each would be half of the work."""
        members = self._members
        for record in records:
            if record.session:
                self._end(record.session, _until(record))
                self._revoked_ids.add(record.session)
            elif record.member:
                until = record.at + CLOCK_TOLERANCE_S
                if until > NEVER and members.setdefault(key := record.member.casefold(), until) is not until:
                    _put_off(members, key, record.at)
            elif record.site:
                self.revoke_site(record.site, record.at)

    def revoke(self, user_id: str, at: float) -> None:
        """End every session of *user_id* issued up to *at*."""
        _put_off(self._members, user_id.casefold(), at)

    def revoke_site(self, site: str, at: float) -> None:
        """End every session at *site* issued up to *at*."""
        _put_off(self._sites, site, at)

    def outdate(self, user_id: str, at: float) -> None:
        """What was read of *user_id* up to *at* no longer holds: departments or tags have changed."""
        key = user_id.casefold()
        self._fresh[key] = max(self._fresh.get(key, NEVER), math.ceil((at + CLOCK_TOLERANCE_S) * 1000) / 1000)

    def stale_until(self, user_id: str) -> float:
        """From which reading on the data of *user_id* holds, by what is known now; 0 where any does.

        Asked for *before* WeCom is, it is the least that a session may give as ``read`` after it: machines' clocks differ, but
        what WeCom says after we heard of a change has the change.
        """
        return max(0, self._fresh.get(user_id.casefold(), 0))

    def block(self, user_id: str) -> None:
        """No session and no sign-in of *user_id* until :meth:`unblock`."""
        self._blocked.add(user_id.casefold())

    def unblock(self, user_id: str) -> None:
        self._blocked.discard(user_id.casefold())

    def blocked(self, user_id: str) -> bool:
        return user_id.casefold() in self._blocked

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
        key = session.key
        if key in self._blocked:
            raise SignInNeeded("blocked")
        if key in self._members and session.issued <= self._members[key]:  # cheaper than ``get``
            raise SignInNeeded("revoked")
        if key in self._fresh and session.read < self._fresh[key]:
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
        issued = int(began)
        for revoked in (self._members.get(user_id.casefold(), NEVER), self._sites.get(site, NEVER)):
            if revoked - CLOCK_TOLERANCE_S < began and revoked >= issued:
                issued = int(revoked) + 1
        return issued

    def gone(self, user_id: str, issued: float) -> bool:
        """Whether *user_id* lost since *issued* what a machine's token acts with: it is over like every session of theirs."""
        key = user_id.casefold()
        return key in self._blocked or issued <= self._members.get(key, NEVER)

    def forget_ended(self, now: float) -> None:
        """Drop what only stands against sessions that are over anyway, or read anew since."""
        oldest = now - LONGEST_S - CLOCK_TOLERANCE_S  # sessions live no longer; their clock may be behind
        self._ended = {session_id: over for session_id, over in self._ended.items() if over > now}
        self._revoked_ids &= self._ended.keys()
        self._sites = {site: revoked for site, revoked in self._sites.items() if revoked > oldest}
        self._members = {key: revoked for key, revoked in self._members.items() if revoked > now - LONGEST_TOKEN_S}
        self._fresh = {key: fresh for key, fresh in self._fresh.items() if fresh > oldest}
        over = {token_id for token_id, record in self._issued.items() if record.at < oldest - LONGEST_TOKEN_S}
        self._issued = {token_id: record for token_id, record in self._issued.items() if token_id not in over}
        self._tokens -= over

    def __len__(self) -> int:
        return sum(map(len, (self._members, self._fresh, self._blocked, self._sites, self._ended, self._tokens)))

    def records(self, now: float) -> list[Record]:
        """What is in force, as records that bring about the same elsewhere."""
        found = [Record("revoked", revoked - CLOCK_TOLERANCE_S, site=site) for site, revoked in self._sites.items()]
        for session_id, over in self._ended.items():
            kind = "revoked" if session_id in self._revoked_ids else "signed-out"
            found.append(Record(kind, now, session=session_id, details={"until": over}))
        found += [Record("revoked", revoked - CLOCK_TOLERANCE_S, member=key) for key, revoked in self._members.items()]
        found += [Record("stale", fresh - CLOCK_TOLERANCE_S, member=key) for key, fresh in self._fresh.items()]
        found += [Record("blocked", now, member=key) for key in self._blocked]
        found += self._issued.values()
        return found + [Record("token-revoked", now, details={"id": token_id}) for token_id in self._tokens]

    def _end(self, session_id: str, over: float) -> None:
        self._ended[session_id] = max(self._ended.get(session_id, NEVER), over)  # a NaN changes nothing

    def _signed_out(self, record: Record) -> None:
        if record.session:
            self._end(record.session, _until(record))
        if record.details.get("everywhere") and record.member:
            self.revoke(record.member, record.at)


_BY_KIND: Mapping[str, Callable[[Standing, Record], Any]] = {
    "signed-out": Standing._signed_out,
    "revoked": lambda standing, record: standing.revoked((record,)),
    "blocked": lambda standing, record: standing.block(record.member),
    "unblocked": lambda standing, record: standing.unblock(record.member),
    "stale": lambda standing, record: standing.outdate(record.member, record.at),
    "token-issued": lambda standing, record: standing.issue_token(record),
    "token-revoked": lambda standing, record: standing.revoke_token(str(record.details.get("id", ""))),
}

OF_ACCESS = tuple(_BY_KIND)
"""The kinds that :meth:`Standing.apply` takes in."""


def _put_off(ends: dict[str, float], key: str, at: float) -> None:
    """Let what *ends* says of *key* hold for a revocation at *at* too, with the tolerance.

    It goes past all that :meth:`Standing.issue` may have given since an earlier one, be it in the same second.
    """
    until = at + CLOCK_TOLERANCE_S
    if until > NEVER and until > (before := ends.setdefault(key, until)):  # a NaN, which others may have stored, says nothing
        ends[key] = max(until, int(before) + 1)


def _until(record: Record) -> float:
    """When the session of *record* is over anyway; where it does not say, as late as any session can be."""
    until = record.details.get("until")
    return float(until) if isinstance(until, (int, float)) else record.at + LONGEST_S + CLOCK_TOLERANCE_S
