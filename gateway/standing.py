"""What the hot path knows of members and sessions that lost their access; in memory, pure."""

from __future__ import annotations

import math

from gateway.errors import SignInNeeded
from gateway.session import Seen, Session

CLOCK_TOLERANCE_S = 10
"""A session issued, or read, up to this long after a revocation or a change falls under it: machines' clocks never agree."""


class Standing:
    """For each member "sessions issued up to T are revoked" and "what was read before T is stale"; ended session ids.

    T is when we took the record, in Unix seconds.
    """

    def __init__(self) -> None:
        self._revoked: dict[str, float] = {}
        self._stale: dict[str, float] = {}
        self._ended: dict[str, int] = {}
        self._tokens: set[str] = set()

    def revoke(self, user_id: str, at: float) -> None:
        """End every session of *user_id* issued up to *at*."""
        key = user_id.casefold()
        before = self._revoked.get(key)
        if before is None:
            self._revoked[key] = at
        elif at > before:  # past all that :meth:`issue` may have given since *before*, be it in the same second
            self._revoked[key] = max(at, int(before) + 1)

    def outdate(self, user_id: str, at: float) -> None:
        """What was read of *user_id* up to *at* no longer holds: departments or tags have changed."""
        key = user_id.casefold()
        until = math.ceil((at + CLOCK_TOLERANCE_S) * 1000) / 1000
        self._stale[key] = max(until, self._stale.get(key, 0))

    def stale_until(self, user_id: str) -> float:
        """From which reading on the data of *user_id* holds, by what is known now; 0 where any does.

        Asked for *before* WeCom is, it is the least that a session may give as ``read`` after it: machines' clocks differ, but
        what WeCom says after we heard of a change has the change.
        """
        return self._stale.get(user_id.casefold(), 0)

    def end(self, session: Session) -> None:
        """End one session: its person signed out."""
        self._ended[session.id] = session.ends

    def check(self, session: Session | Seen) -> None:
        """Return if nothing stands against *session*; else SignInNeeded ``signed-out``, ``revoked`` or ``stale``."""
        if session.id in self._ended:
            raise SignInNeeded("signed-out")
        if not (self._revoked or self._stale):
            return
        key = session.user_id.casefold()
        if session.issued <= self._revoked.get(key, -CLOCK_TOLERANCE_S) + CLOCK_TOLERANCE_S:
            raise SignInNeeded("revoked")
        if session.read < self._stale.get(key, 0):
            raise SignInNeeded("stale")

    def ended(self, session: Session) -> str:
        """Why *session* is over, ``signed-out`` or ``revoked``; empty while it is not."""
        try:
            self.check(session)
        except SignInNeeded as error:
            return "" if error.reason == "stale" else error.reason
        return ""

    def issue(self, user_id: str, began: float) -> int:
        """Give the ``issued`` of a sign-in that WeCom vouched for from *began* on: past any revocation before that.

        Without it, whoever signs in again right after signing out everywhere would be refused for a while.
        """
        revoked = self._revoked.get(user_id.casefold())
        if revoked is None or revoked >= began:
            return int(began)
        return max(int(began), int(revoked) + CLOCK_TOLERANCE_S + 1)

    def gone(self, user_id: str, issued: float) -> bool:
        """Whether *user_id* lost since *issued* what a machine's token acts with: it is over like every session of theirs."""
        return issued <= self._revoked.get(user_id.casefold(), -CLOCK_TOLERANCE_S) + CLOCK_TOLERANCE_S

    def token_revoked(self, token_id: str) -> bool:
        return token_id in self._tokens

    def revoke_token(self, token_id: str) -> None:
        """End a machine's token."""
        self._tokens.add(token_id)

    def forget_ended(self, now: float) -> None:
        """Drop the ids of sessions that are over anyway."""
        self._ended = {session_id: ends for session_id, ends in self._ended.items() if ends > now}

    def __len__(self) -> int:
        return len(self._revoked) + len(self._stale) + len(self._ended)
