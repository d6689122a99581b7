"""One sign-in: what our cookie says, what the check keeps of it, and how long it lives."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from gateway.member import Member, identity
from gateway.proof import Proof
from gateway.quick import quick

NO_TAGS: Mapping[int, bool] = MappingProxyType({})
NO_ATTRIBUTES: Mapping[str, str] = MappingProxyType({})
LONGEST_S = 7 * 86400
"""No session lives longer than this after it was issued, whatever the settings."""


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
    tags: Mapping[int, bool] = field(default_factory=lambda: NO_TAGS)  #: the tags that were looked at, and whether each holds
    partial: bool = False  #: the ancestors in ``departments`` could not be read
    attributes: Mapping[str, str] = field(default_factory=lambda: NO_ATTRIBUTES)  #: what accounts are made of (``Accounts``)

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
    admitted: object = field(default=None, compare=False, repr=False)  #: what let it in last; see :meth:`admit`

    def admit(self, rule: object) -> None:
        """Keep that *rule* lets it in: neither ever changes, so the same rule need not be asked again."""
        object.__setattr__(self, "admitted", rule)

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
            None,
        )


_seen = quick(Seen)
