"""Changes to the organisation in WeCom's own words, checked, with the events that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from gateway.sandbox import events
from gateway.sandbox.limits import Limits
from gateway.sandbox.organisation import below
from gateway.sandbox.state import App, Department, Member, State, Switches, Tag

Record = TypeVar("Record", Member, Department, Tag)
Settings = TypeVar("Settings", App, Switches, Limits)

STATUSES = (1, 2, 4, 5)


class ChangeError(ValueError):
    """A change that cannot be made; the text says why."""


class MissingError(LookupError):
    """No such member, department, tag, app."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes the state and announces the difference."""

    state: State
    send: events.Send

    def put_member(self, userid: str, wanted: Mapping[str, Any]) -> Member:
        """Add or replace a member."""
        name = str(wanted.get("name", userid))
        return self._keep_member(updated(Member(userid, name, ()), wanted), previous=None)

    def change_member(self, userid: str, wanted: Mapping[str, Any]) -> Member:
        """Change some fields of a member; a new ``userid`` renames."""
        member = self._member(userid)
        return self._keep_member(updated(member, wanted), previous=member)

    def remove_member(self, userid: str) -> None:
        before = events.snapshot(self.state)
        del self.state.members[self._member(userid).userid.lower()]
        events.announce(self.state, before, self.send)

    def _member(self, userid: str) -> Member:
        member = self.state.member(userid)
        if member is None:
            raise MissingError(f"no member {userid}")
        return member

    def _keep_member(self, member: Member, *, previous: Member | None) -> Member:
        _check_member(self.state, member)
        before = events.snapshot(self.state)
        renamed = None
        if previous is not None and previous.userid.lower() != member.userid.lower():
            if member.userid.lower() in self.state.members:
                raise ChangeError(f"userid {member.userid} exists")
            del self.state.members[previous.userid.lower()]
            renamed = (previous.userid, member.userid)
        self.state.members[member.userid.lower()] = member
        events.announce(self.state, before, self.send, renamed=renamed)
        return member

    def keep_department(self, number: int, wanted: Mapping[str, Any]) -> Department:
        """Add a department or change one."""
        current = self.state.departments.get(number) or Department(number, f"部门{number}", 1)
        department = updated(current, {**wanted, "id": number})
        inside = below(self.state.departments, [number]) | {number}
        if number != 1 and (department.parentid in inside or department.parentid not in self.state.departments):
            raise ChangeError(f"parentid {department.parentid} is no department outside {number}")
        before = events.snapshot(self.state)
        self.state.departments[number] = department
        events.announce(self.state, before, self.send)
        return department

    def remove_department(self, number: int) -> None:
        """Remove a department that has no members and no departments below."""
        if number not in self.state.departments:
            raise MissingError(f"no department {number}")
        parent = any(one.parentid == number for one in self.state.departments.values())
        if number == 1 or parent or any(number in one.department for one in self.state.members.values()):
            raise ChangeError(f"department {number} is the root, or not empty")
        before = events.snapshot(self.state)
        del self.state.departments[number]
        events.announce(self.state, before, self.send)

    def keep_tag(self, number: int, wanted: Mapping[str, Any]) -> Tag:
        """Add a tag or change one."""
        tag = updated(self.state.tags.get(number) or Tag(number, f"标签{number}"), {**wanted, "tagid": number})
        before = events.snapshot(self.state)
        self.state.tags[number] = tag
        events.announce(self.state, before, self.send)
        return tag

    def remove_tag(self, number: int) -> None:
        if number not in self.state.tags:
            raise MissingError(f"no tag {number}")
        before = events.snapshot(self.state)
        del self.state.tags[number]
        events.announce(self.state, before, self.send)

    def change_app(self, app: App, wanted: Mapping[str, Any]) -> App:
        """Change an app's settings; a changed scope sends events, a new secret ends the app's tokens."""
        before, secret = events.snapshot(self.state), app.secret
        assign(app, wanted)
        if app.secret != secret:
            for token in self.state.tokens.values():
                token.revoked = token.revoked or token.app is app
        events.announce(self.state, before, self.send)
        return app


def updated(record: Record, wanted: Mapping[str, Any]) -> Record:
    """Return the record with some fields changed, each checked to be of its field's kind."""
    return replace(record, **{name: _fitting(record, name, value) for name, value in wanted.items()})


def assign(settings: Settings, wanted: Mapping[str, Any]) -> None:
    """Change settings in place, all or none."""
    fitting = {name: _fitting(settings, name, value) for name, value in wanted.items()}
    for name, value in fitting.items():
        setattr(settings, name, value)


def _fitting(record: Any, name: str, value: Any) -> Any:
    if name not in {one.name for one in fields(record)}:
        raise ChangeError(f"no field {name}: there are {', '.join(one.name for one in fields(record))}")
    current = getattr(record, name)
    if isinstance(current, tuple):
        return _tuple(type(record).__annotations__[name], name, value)
    if isinstance(current, float) and not isinstance(value, bool) and isinstance(value, int | float):
        return float(value)
    if type(current) is not type(value):
        raise ChangeError(f"{name} is a {type(current).__name__}")
    return value


def _tuple(annotation: str, name: str, value: Any) -> tuple[Any, ...]:
    item = int if "int" in annotation else str
    if not isinstance(value, list | tuple) or any(type(one) is not item for one in value):
        raise ChangeError(f"{name} is a list of {item.__name__}")
    return tuple(value)


def _check_member(state: State, member: Member) -> None:
    unknown = [one for one in member.department if one not in state.departments]
    if unknown:
        raise ChangeError(f"no department {unknown[0]}")
    if member.status not in STATUSES:
        raise ChangeError(f"status is one of {STATUSES}")
