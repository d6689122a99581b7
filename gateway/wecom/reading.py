"""WeCom's answers read into our own types, tolerantly: old and new spellings, fields missing or of another type."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import WeComUnreachable
from gateway.member import ACTIVE, Member

DISABLED = 2
USER_ID = re.compile(r"[0-9A-Za-z_.@-]{1,64}")
"""WeCom's alphabet for a member's id (document 90195); a linked corp's member is ``CorpId/userid``."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whose code it was: a member (``user_id``), in the visible scope or not, or somebody else (``open_id``)."""

    user_id: str = ""  #: as WeCom spells it, or ``CorpId/userid`` of a linked corp
    user_ticket: str = field(default="", repr=False)  #: buys the private details for 30 minutes; in-app consent only
    open_id: str = ""


@dataclass(frozen=True, slots=True)
class Details:
    """What the member agreed to show (document 95833); empty where not asked for, not ticked or not agreed."""

    mobile: str = field(default="", repr=False)
    email: str = field(default="", repr=False)
    biz_mail: str = field(default="", repr=False)
    avatar: str = field(default="", repr=False)  #: WeCom's default picture when not agreed
    user_id: str = ""  #: whose details these are


def visitor(answer: Mapping[str, Any]) -> Visitor:
    """Read ``getuserinfo`` of either generation (documents 91023 and 90213)."""
    found = Visitor(
        user_id=_text(answer, "userid", "UserId"),
        user_ticket=_text(answer, "user_ticket"),
        open_id=_text(answer, "openid", "OpenId"),
    )
    if not found.user_id and not found.open_id:
        raise WeComUnreachable("getuserinfo: WeCom's answer names nobody")
    return found


def details(answer: Mapping[str, Any]) -> Details:
    """Read ``getuserdetail``."""
    return Details(
        mobile=_text(answer, "mobile"),
        email=_text(answer, "email"),
        biz_mail=_text(answer, "biz_mail"),
        avatar=_text(answer, "avatar"),
        user_id=_text(answer, "userid", "UserId"),
    )


def member(answer: Mapping[str, Any], asked: str) -> Member:
    """Read ``user/get``; an answer about another member than *asked*, or without a sane status, is no answer."""
    user_id = _text(answer, "userid", "UserId")
    if not USER_ID.fullmatch(user_id) or user_id.casefold() != asked.casefold():
        raise WeComUnreachable("user/get: WeCom's answer is not about the member asked for")
    return Member(
        user_id=user_id,
        name=_text(answer, "name"),
        status=_status(answer),
        departments=_departments(answer),
        leader_of=_led(answer),
        position=_text(answer, "position"),
        alias=_text(answer, "alias"),
        email=_text(answer, "email", "biz_mail"),
        mobile=_text(answer, "mobile"),
        avatar=_text(answer, "avatar"),
        extattr=_attributes(answer),
    )


def _text(answer: Mapping[str, Any], *names: str) -> str:
    """The first of *names* that holds a text; half of a surrogate pair, which no encoder takes, becomes ``?``."""
    for name in names:
        if isinstance(value := answer.get(name), str) and value:
            return value.encode("utf-8", "replace").decode("utf-8")
    return ""


def _status(answer: Mapping[str, Any]) -> int:
    """1 when absent, as in old deployments, unless their ``enable`` says 0; never guessed when it makes no sense."""
    status = answer.get("status")
    if status is None:
        return DISABLED if answer.get("enable") in (0, "0", False) else ACTIVE
    if isinstance(status, str) and re.fullmatch("[0-9]{1,3}", status):
        return int(status)
    if type(status) is not int:
        raise WeComUnreachable("user/get: the member's status is not a number")
    return status


def number(value: object) -> int:
    """A number, also as digits in a text. What is none is no answer: left out, it would pass a rule's ``not``."""
    if isinstance(value, str) and re.fullmatch("[0-9]{1,10}", value):
        return int(value)
    if type(value) is not int:
        raise WeComUnreachable("WeCom's answer has something else where the number of a department belongs")
    return value


def _listed(value: object) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise WeComUnreachable("user/get: the member's departments are no list")
    return value


def _departments(answer: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(map(number, _listed(answer.get("department")))))


def _led(answer: Mapping[str, Any]) -> tuple[int, ...]:
    """``is_leader_in_dept`` runs parallel to ``department``; lists of different length say nothing for sure."""
    departments, leads = _listed(answer.get("department")), answer.get("is_leader_in_dept")
    if not isinstance(leads, list) or len(departments) != len(leads):
        return ()
    pairs = zip(map(number, departments), leads, strict=True)
    return tuple(dict.fromkeys(each for each, leading in pairs if type(leading) is int and leading == 1))


def _attributes(answer: Mapping[str, Any]) -> dict[str, str]:
    """Text attributes: ``{type: 0, name, text: {value}}``, or ``{name, value}`` of private deployments."""
    extattr = answer.get("extattr")
    entries = extattr.get("attrs") if isinstance(extattr, dict) else None
    found: dict[str, str] = {}
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and (name := _text(entry, "name")) and entry.get("type", 0) == 0:
            holder = entry["text"] if isinstance(entry.get("text"), dict) else entry
            found[name] = _text(holder, "value")
    return found
