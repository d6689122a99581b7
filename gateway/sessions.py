"""The sessions of one app: sealed into a cookie's value, opened again, remembered once the signature was checked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from gateway.accounts import Accounts
from gateway.claims import claims_of, session_of
from gateway.errors import Denied, LoginFailed, SignInNeeded
from gateway.member import identity, separate_answer
from gateway.presence import Presence
from gateway.proof import Proof, Prover
from gateway.sealing import Forged, Sealer
from gateway.session import Lifetimes, Seen, Session

PURPOSE = "session"
HOT = 1024
MAX_BYTES = 3072
"""A cookie value longer than this is refused at sign-in: browsers stop at 4096 bytes for name, value and attributes."""
MAX_HEADER_BYTES = 8192
"""Identity headers longer than this in all are refused too: nginx has 16k for our answer, many apps take 8k."""


class Sessions:
    """Seal and open the sessions of one app (corp and agent).

    The memory of opened values says only "genuine signature, these claims"; site, end, standing and rule are looked at
    on every request by whoever asks. Refusals are never remembered, so garbage cannot grow it. It is keyed by a SHA-256
    of the value, a tenth of what the value takes; the few in use right now are found by the value itself, without digest.
    """

    def __init__(
        self,
        sealer: Sealer,
        *,
        corp_id: str,
        agent_id: int,
        lifetimes: Lifetimes,
        clock: Callable[[], float],
        raw_headers: bool = False,
        remembered: int = 50_000,
        accounts: Accounts | None = None,
        presence: Presence | None = None,
        prover: Prover | None = None,
    ) -> None:
        self.lifetimes = lifetimes
        self.accounts = accounts or Accounts({})
        self.presence = Presence() if presence is None else presence
        self._prover = prover
        self._sealer = sealer
        self._app = (corp_id, agent_id)
        self._clock = clock
        self._raw_headers = raw_headers
        self._half = max(1, remembered // 2)
        self._recent: dict[bytes, Seen] = {}
        self._older: dict[bytes, Seen] = {}
        self._hot: dict[str, Seen] = {}

    def seal(self, session: Session) -> str:
        """Give the cookie value of *session*, or raise LoginFailed ``session-too-big``."""
        value = self._sealer.seal(PURPOSE, *claims_of(session))
        proof = self._proof(session)
        told = separate_answer("", "", identity(session, raw=self._raw_headers), proof.at(session.renewed) if proof else "")
        headers = len(told.encode())
        for what, size, limit in (("session cookie", len(value), MAX_BYTES), ("identity headers", headers, MAX_HEADER_BYTES)):
            if size > limit:
                raise LoginFailed(
                    "session-too-big",
                    message=f"{what} of {session.member.user_id}: {size} bytes of {limit}; "
                    "ask for fewer `details` or shorten what WeCom holds",
                    user_id=session.member.user_id,
                )
        return value

    def open(self, value: str, *, site: str, navigation: bool = False) -> Session:
        """Give the session in *value* if it is ours, for *site*, and not over; else raise SignInNeeded with the reason.

        ``renew`` is raised for navigations only: everything else keeps using the session until it ends.
        """
        session = self.genuine(value)
        self._in_force(session, site, navigation)
        return session

    def seen(self, value: str, *, site: str, navigation: bool = False) -> Seen:
        """The same for the check: its signature verified once, then remembered."""
        if not value:
            raise SignInNeeded("no-session")
        seen = self._hot.get(value)
        if seen is None:
            seen = self._hot[value] = self._found(value, site, navigation)
        self._in_force(seen, site, navigation)
        if seen.read < self.presence.unread_before and self.presence.unverified(seen):
            raise SignInNeeded("unverified")
        return seen

    def lately(self, value: str) -> bool:
        """Whether this session was asked for a moment ago: else it does not pay to keep an answer for it."""
        return value in self._hot

    def genuine(self, value: str) -> Session:
        """Give the session in *value* whatever its site and end, or raise SignInNeeded ``no-session`` or ``forged``."""
        if not value:
            raise SignInNeeded("no-session")
        try:
            claims = self._sealer.open(PURPOSE, value)
        except Forged as error:
            raise SignInNeeded("forged") from error
        return self.from_claims(claims)

    def _in_force(self, session: Session | Seen, site: str, navigation: bool) -> None:
        now = self._clock()
        if session.site != site:
            raise SignInNeeded("other-site")
        if now >= session.ends:
            raise SignInNeeded("expired")
        if self.lifetimes.idle_s and now >= session.renewed + self.lifetimes.idle_s:
            raise SignInNeeded("idle")
        if navigation and self.due(session, now):
            raise SignInNeeded("renew")

    def due(self, session: Session | Seen, now: float) -> bool:
        """Whether a navigation would be sent to renew it first, while all else may go on."""
        age_s = now - session.renewed
        return age_s >= self.lifetimes.renew_after_s or (age_s >= self.presence.renew_s and self.presence.away(session, now))

    def _found(self, value: str, site: str, navigation: bool) -> Seen:
        if len(self._hot) >= HOT:
            self._hot.clear()
        key = hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()
        seen = self._recent.get(key)
        if seen is None:
            seen = self._older.get(key) or self._opened(value, site, navigation)
            self._remember(key, seen)
        self.presence.note(seen)
        return seen

    def _opened(self, value: str, site: str, navigation: bool) -> Seen:
        session = self.genuine(value)
        if not session.account:
            self._in_force(session, site, navigation)
            if not self.accounts.looked_at(site, session.attributes):
                raise SignInNeeded("stale")
            source = self.accounts.source(site).text
            raise Denied("no-account", message=f"{session.user_id} has no account at {site}: account = {source!r}")
        return Seen.of(session, raw=self._raw_headers, proof=self._proof(session))

    def _proof(self, session: Session) -> Proof | None:
        return self._prover.proof(session.site, session, kind="member", ends=session.ends) if self._prover else None

    def look(self) -> list[Seen]:
        """The sessions in use since the last look; whoever is still here is noted anew with the next request."""
        here, self.presence.here = list(self.presence.here.values()), {}
        self._hot = {}
        return here

    def _remember(self, key: bytes, found: Seen) -> None:
        """Two halves, the older dropped when the newer is full: as bounded as an LRU, with nothing to do on a hit."""
        if len(self._recent) >= self._half:
            self._older, self._recent = self._recent, {}
        self._recent[key] = found

    def forget(self) -> None:
        """Empty the memory: keys have changed."""
        self._recent, self._older, self._hot = {}, {}, {}

    def __len__(self) -> int:
        return len(self._recent) + len(self._older)

    def from_claims(self, claims: Any) -> Session:
        """The session in *claims*, or SignInNeeded ``forged``."""
        try:
            session = session_of(claims, self.accounts)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise SignInNeeded("forged") from error
        if (session.corp_id, session.agent_id) != self._app:
            raise SignInNeeded("other-site")
        return session
