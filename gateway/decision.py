"""What becomes of one member by one rule: the nodes that a rule is made of once its names are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class Verdict(Enum):
    """What becomes of one member by one criterion."""

    YES = "yes"
    UNSURE = "unsure"  #: this session was made without looking: read the member again
    BROKEN = "broken"  #: nobody can tell: a department or tag that the app does not see, or a name of nothing
    NO = "no"


YES, UNSURE, BROKEN, NO = Verdict  # looked up once: an enum's attribute costs as much as a set's
_ANY = {verdict: rank for rank, verdict in enumerate((Verdict.NO, Verdict.BROKEN, Verdict.UNSURE, Verdict.YES))}
_ALL = {verdict: rank for rank, verdict in enumerate((Verdict.YES, Verdict.BROKEN, Verdict.UNSURE, Verdict.NO))}
_OPPOSITE = {Verdict.YES: Verdict.NO, Verdict.NO: Verdict.YES}


class Looked(Protocol):
    """What was looked at when a session was made."""

    @property
    def tags(self) -> Mapping[int, bool]: ...
    @property
    def partial(self) -> bool: ...


class Who(Looked, Protocol):
    """A member as the check knows one: a :class:`~gateway.session.Seen`, a :class:`~gateway.session.Session`."""

    @property
    def user_id(self) -> str: ...
    @property
    def departments(self) -> tuple[int, ...]: ...
    @property
    def leader_of(self) -> tuple[int, ...]: ...


class Node(Protocol):
    def verdict(self, who: Who) -> Verdict: ...


@dataclass(frozen=True, slots=True)
class Alternatives:
    """One of these is enough: what most rules are, in sets that are looked up whole."""

    departments: frozenset[int]
    users: frozenset[str]  #: case-folded
    tags: frozenset[int]
    leader: bool
    broken: bool  #: one more alternative of which nobody can tell
    others: tuple[Node, ...]

    def verdict(self, who: Who) -> Verdict:
        if self.departments and not self.departments.isdisjoint(who.departments):
            return YES
        if self.users and who.user_id.casefold() in self.users:
            return YES
        if self.leader and who.leader_of:
            return YES
        looked = who.tags
        if self.tags and any(looked[tag] for tag in self.tags & looked.keys()):
            return YES
        found = max((other.verdict(who) for other in self.others), key=_ANY.__getitem__, default=NO)
        if found is YES:
            return found
        if (self.departments and who.partial) or not self.tags <= looked.keys():
            return UNSURE
        return BROKEN if self.broken and found is NO else found


@dataclass(frozen=True, slots=True)
class Every:
    parts: tuple[Node, ...]

    def verdict(self, who: Who) -> Verdict:
        return max((part.verdict(who) for part in self.parts), key=_ALL.__getitem__)


@dataclass(frozen=True, slots=True)
class Never:
    part: Node

    def verdict(self, who: Who) -> Verdict:
        found = self.part.verdict(who)
        return _OPPOSITE.get(found, found)
