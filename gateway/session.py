"""What our cookie holds: sealed into a value, opened again, remembered once its signature was checked."""

from __future__ import annotations

import hashlib
import math
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from gateway.accounts import Accounts
from gateway.errors import Denied, LoginFailed, SignInNeeded
from gateway.member import ACTIVE, Member, identity, separate_answer
from gateway.proof import Proof, Prover
from gateway.quick import quick
from gateway.sealing import Forged, Sealer

_NO_TAGS: Mapping[int, bool] = MappingProxyType({})
_NO_ATTRIBUTES: Mapping[str, str] = MappingProxyType({})
PURPOSE = "session"
VERSION = 2
READABLE_VERSION = 3  #: release N reads N+1, so that a rollback signs nobody out
OLDEST_VERSION = 2  #: 1 was never released, and its times were others
HOT = 1024
LONGEST_S = 7 * 86400
"""No session lives longer than this after it was issued, whatever the settings."""
HERE = 4096
"""So many sessions in use are noted between two looks; with more, whoever is left out is noted after the next."""
MAX_BYTES = 3072
"""A cookie value longer than this is refused at sign-in: browsers stop at 4096 bytes for name, value and attributes."""
MAX_HEADER_BYTES = 8192
"""Identity headers longer than this in all are refused too: nginx has 16k for our answer, many apps take 8k."""


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in of one member at one site; all times are Unix seconds."""

    id: str
    member: Member
    corp_id: str
    agent_id: int
    site: str
    issued: int  #: when WeCom vouched for the person; renewal never changes it
    renewed: int  #: what the next renewal counts from; idle too
    ends: int
    read: float  #: when the last reading of the member from WeCom began, to the millisecond
    account: str = ""  #: what the app at ``site`` knows the member by; made anew at each opening, empty: it knows nobody
    departments: tuple[int, ...] = ()  #: own departments and their ancestors
    tags: Mapping[int, bool] = field(default_factory=lambda: _NO_TAGS)  #: the tags that were looked at, and whether each holds
    partial: bool = False  #: the ancestors in ``departments`` could not be read
    attributes: Mapping[str, str] = field(default_factory=lambda: _NO_ATTRIBUTES)  #: what accounts are made of (``Accounts``)

    @property
    def user_id(self) -> str:
        return self.member.user_id

    @property
    def key(self) -> str:
        """What ``Standing`` knows the member by: case-folded, the id itself where that is the same."""
        key = self.user_id.casefold()
        return self.user_id if key == self.user_id else key

    @property
    def leader_of(self) -> tuple[int, ...]:
        return self.member.leader_of

    @property
    def renewable(self) -> bool:
        """Whether it can live longer than it does: not one that an operator gave."""
        return self.renewed < self.ends

    @property
    def over(self) -> int:
        """When it is over in any cookie, however often renewed."""
        return self.issued + LONGEST_S


def new_id() -> str:
    """Make a session's id: no secret, and no option of a command (`sessions revoke ID`) by a leading ``-``."""
    return secrets.token_hex(8)


def moment(now: float) -> float:
    """*now* to the millisecond, never later: what a cookie holds of the time of a reading."""
    return math.floor(now * 1000) / 1000


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long sessions live, in seconds."""

    lifetime_s: int = 12 * 3600
    max_lifetime_s: int = LONGEST_S
    renew_after_s: int = 30 * 60
    idle_s: int = 0  #: 0: off
    put_off_s: int = 300  #: how long a renewal waits when WeCom does not answer
    reread_s: int = 0  #: how often members who are here are read again in the background; 0: never

    def ends(self, issued: int, now: int) -> int:
        """When a session issued at *issued* and (re)signed *now* ends."""
        return min(now + self.lifetime_s, issued + self.max_lifetime_s)

    def renewal_due(self, session: Session | Seen, now: float) -> bool:
        return now >= session.renewed + self.renew_after_s

    def put_off(self, session: Session, now: int) -> Session:
        """The same session, its next renewal *put_off_s* from *now*; it ends when it would have ended."""
        return replace(session, renewed=now - min(self.renew_after_s, self.reread_s or self.renew_after_s) + self.put_off_s)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the check needs of a session whose signature was genuine, and the headers that announce it, made once.

    A process remembers tens of thousands of these; what only pages show is read anew from the cookie.
    """

    id: str
    user_id: str
    key: str
    site: str
    issued: int
    renewed: int
    ends: int
    read: float
    leader_of: tuple[int, ...]
    departments: tuple[int, ...]
    tags: Mapping[int, bool]
    partial: bool
    identity: str  #: as :func:`gateway.member.identity` packs it
    proof: Proof | None = None

    @staticmethod
    def of(session: Session, *, raw: bool, proof: Proof | None = None) -> Seen:
        return _seen(
            session.id,
            session.user_id,
            session.key,
            session.site,
            session.issued,
            session.renewed,
            session.ends,
            session.read,
            session.member.leader_of,
            session.departments,
            session.tags,
            session.partial,
            identity(session, raw=raw),
            proof,
        )


_member, _session, _seen = quick(Member), quick(Session), quick(Seen)


class Presence:
    """What the check and the reading of members in the background tell each other; times are Unix seconds.

    The check writes down nobody it has noted a moment ago, so that a request costs nothing by it.
    """

    __slots__ = ("here", "read", "renew_s", "unread_before")

    def __init__(self) -> None:
        self.here: dict[str, Seen] = {}  #: sessions in use since somebody last looked, by id; not all of very many
        self.read: dict[str, float] = {}  #: member id: when last read in the background
        self.renew_s = math.inf  #: who opens a page and was not read for so long is read first
        self.unread_before = -math.inf  #: whoever was not read since then is refused

    def note(self, seen: Seen) -> None:
        if len(self.here) < HERE:
            self.here[seen.id] = seen

    def away(self, session: Session | Seen, now: float) -> bool:
        """Whether nobody has asked WeCom about the member for longer than the background would leave one who is here."""
        renew_s = self.renew_s
        return now >= session.renewed + renew_s and now >= self.read.get(session.user_id, -math.inf) + renew_s

    def unverified(self, session: Session | Seen) -> bool:
        given = session.renewed >= session.ends  # by an operator, for when WeCom is down
        return not given and self.read.get(session.user_id, -math.inf) < self.unread_before


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
        value = self._sealer.seal(PURPOSE, *_claims(session))
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
        return self.lifetimes.renewal_due(session, now) or self.presence.away(session, now)

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

    def to_claims(self, session: Session) -> tuple[Any, Any]:
        """What a hand-over carries to another host of ours: all of the session, in the clear, to be encrypted by the caller."""
        return _claims(session)

    def from_claims(self, claims: Any) -> Session:
        """The session in *claims*, or SignInNeeded ``forged``."""
        try:
            session = self._parsed(*claims)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise SignInNeeded("forged") from error
        if (session.corp_id, session.agent_id) != self._app:
            raise SignInNeeded("other-site")
        return session

    def _parsed(self, claims: Any, private: Any) -> Session:
        version, own_id, user_id, corp_id, agent_id, site, *more = claims
        if not OLDEST_VERSION <= int(version) <= READABLE_VERSION:
            raise ValueError("a version this release cannot read")
        issued, renewed, ends, read, name, departments, own, leader_of, position, alias, tags, partial, *_ = more
        email, mobile, avatar, attributes, *_ = private or ("", "", "", {})
        user_id, site, issued, departments = str(user_id), sys.intern(str(site)), int(issued), tuple(map(int, departments))
        attributes = {str(key): str(value) for key, value in attributes.items()} if attributes else _NO_ATTRIBUTES
        member = _member(
            user_id,
            str(name),
            ACTIVE,
            departments[:own] if isinstance(own, int) else tuple(map(int, own)),
            tuple(map(int, leader_of)),
            str(position),
            str(alias),
            str(email),
            str(mobile),
            str(avatar),
            _NO_ATTRIBUTES,
        )
        return _session(
            str(own_id),
            member,
            sys.intern(str(corp_id)),
            int(agent_id),
            site,
            issued,
            issued + later if (later := int(renewed)) else issued,  # one object: a hundred thousand sessions are remembered
            issued + int(ends),
            (issued * 1000 + int(read)) / 1000,
            self.accounts.account(site, user_id, attributes),
            departments,
            {int(tag): bool(holds) for tag, holds in tags.items()} if tags else _NO_TAGS,
            bool(partial),
            attributes,
        )


def _claims(session: Session) -> tuple[Any, Any]:
    """What anybody may read in a cookie, by position, and what only we: a new claim goes to the end.

    It is as short as it may be, for nginx and the check go through every letter: times are told from ``issued`` on, ``read``
    in milliseconds; of ``departments`` the first are the member's own, so many.
    """
    member, issued, departments = session.member, session.issued, session.departments
    own = len(member.departments)
    private = [member.email, member.mobile, member.avatar, dict(session.attributes)]
    claims = [
        VERSION,
        session.id,
        member.user_id,
        session.corp_id,
        session.agent_id,
        session.site,
        issued,
        session.renewed - issued,
        session.ends - issued,
        round((session.read - issued) * 1000),
        member.name,
        departments,
        own if departments[:own] == member.departments else member.departments,
        member.leader_of,
        member.position,
        member.alias,
        {tag: int(holds) for tag, holds in session.tags.items()},
        int(session.partial),
    ]
    return claims, private if any(private) else None
