"""Departments and tags as WeCom tells them (documents 90208, 95406, 90213, 90216), read as tolerantly as members."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.errors import NotVisible, WeComRefused, WeComUnreachable
from gateway.wecom.reading import number

NOT_VISIBLE = frozenset({60003, 60011, 60123, 40066, 40068, 41017, 81011})
"""What WeCom says of a department or tag that is not there, or not for this app."""

_FIX = "See that it exists, and that the app may see it: 可见范围 of the app in the admin console, and of the tag (标签)."


@dataclass(frozen=True, slots=True)
class Department:
    """One department that the app sees; its ``parent`` may be one that the app does not see, 0 at the root."""

    id: int
    parent: int
    name: str = ""  #: only where names were asked for


@dataclass(frozen=True, slots=True)
class Tag:
    """Who has a tag, as far as the app sees; departments stand for all who are in or below them."""

    name: str
    users: frozenset[str]  #: member ids, case-folded
    departments: frozenset[int]


def departments(answer: Mapping[str, Any]) -> tuple[Department, ...]:
    """Read ``department/simplelist`` (``department_id``) or ``department/list`` (``department``)."""
    found = (
        Department(
            number(row.get("id")), number(row["parentid"]) if row.get("parentid") is not None else 0, _text(row.get("name"))
        )
        for row in map(_row, _rows(answer, "department_id", "department"))
    )
    return tuple(each for each in found if each.id > 0)


def tag(answer: Mapping[str, Any]) -> Tag:
    """Read ``tag/get``; an empty list may be absent."""
    users = (row if isinstance(row, str) else _row(row).get("userid") for row in _rows(answer, "userlist", default=True))
    parties = _rows(answer, "partylist", default=True)
    return Tag(_text(answer.get("tagname")), frozenset(map(_user, users)), frozenset(map(number, parties)))


def tag_names(answer: Mapping[str, Any]) -> dict[int, str]:
    """Read ``tag/list``: the name of every tag."""
    rows = _rows(answer, "taglist")
    return {row["tagid"]: _text(row.get("tagname")) for row in rows if isinstance(row, dict) and type(row.get("tagid")) is int}


def seen_as(refused: WeComRefused) -> WeComRefused:
    """The same refusal as an error about a department or tag: the table of codes knows 60011 as one about members."""
    if refused.errcode in NOT_VISIBLE:
        return NotVisible(refused.errcode, refused.errmsg, fix=_FIX)
    return refused


def _rows(answer: Mapping[str, Any], *names: str, default: bool = False) -> list[Any]:
    for name in names:
        if isinstance(value := answer.get(name), list):
            return value
    if default and not any(answer.get(name) for name in names):
        return []
    raise WeComUnreachable(f"WeCom's answer has no list of {' or '.join(names)}")


def _row(value: object) -> Mapping[str, Any]:
    """One of a list. What cannot be read makes it no list: who is left out of it would pass where a rule says ``not``."""
    if isinstance(value, dict):
        return value
    raise WeComUnreachable("WeCom's answer has something else where a department or member belongs")


def _user(value: object) -> str:
    if isinstance(value, str):
        return value.casefold()
    raise WeComUnreachable("tag/get: WeCom's answer has something else where a member's id belongs")


def _text(value: object) -> str:
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else ""
