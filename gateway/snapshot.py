"""One reading of departments and tags: what it tells of a member, and how processes share it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from gateway.member import Member
from gateway.tree import Tree
from gateway.wecom import Department, Tag

_NO_TAGS: Mapping[int, bool] = MappingProxyType({})
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a member stands: what a session carries for the rules."""

    departments: tuple[int, ...]  #: own departments and their ancestors
    tags: Mapping[int, bool] = field(default_factory=lambda: _NO_TAGS)  #: the tags that were looked at, and whether each holds
    partial: bool = False  #: the ancestors could not be read


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What WeCom told of departments and tags; ``at`` is when the reading began (Unix seconds)."""

    at: float
    departments: tuple[Department, ...]
    tags: Mapping[int, Tag]
    unseen: Mapping[int, str]  #: tags that cannot be read, and why
    tree: Tree

    def place(self, member: Member, tags: Iterable[int]) -> Placed:
        """Where *member* stands, *tags* looked at as far as they were read."""
        departments = self.tree.placed(member.departments)
        user, around = member.user_id.casefold(), set(departments)
        looked = ((number, self.tags[number]) for number in sorted(tags) if number in self.tags)
        holds = {number: user in tag.users or not around.isdisjoint(tag.departments) for number, tag in looked}
        return Placed(departments, holds)

    def dump(self) -> str:
        tags = {number: [tag.name, sorted(tag.users), sorted(tag.departments)] for number, tag in self.tags.items()}
        rows = [[row.id, row.parent, row.name] for row in self.departments]
        return json.dumps([_FORMAT, self.at, rows, tags, dict(self.unseen)], ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def load(cls, text: object) -> Snapshot | None:
        """What :meth:`dump` gave, or None for anything else: the cache may hold what another release wrote."""
        try:
            version, at, rows, tags, unseen = json.loads(str(text))
            departments = tuple(Department(int(number), int(parent), str(name)) for number, parent, name in rows)
            read = {
                int(key): Tag(str(name), frozenset(users), frozenset(parties)) for key, (name, users, parties) in tags.items()
            }
            why = {int(key): str(reason) for key, reason in unseen.items()}
            return cls(float(at), departments, read, why, Tree(departments)) if version == _FORMAT else None
        except (ValueError, TypeError, AttributeError):
            return None
