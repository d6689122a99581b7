"""A member of the corp (成员), and the identity headers that announce one to the app behind nginx."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote

ACTIVE = 1
"""``status`` of a member who may use WeCom (document 90196); 2 disabled, 4 not activated, 5 left."""

NOT_ACTIVE = {2: "disabled", 4: "not-activated", 5: "left"}
"""The reason of a refusal for each other ``status``."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member as WeCom tells it (documents 90196 and 95833); what was not asked for or not granted is empty."""

    user_id: str  #: WeCom's stored spelling; compare case-folded
    name: str = ""
    status: int = ACTIVE
    departments: tuple[int, ...] = ()  #: own departments, as far as the app may see
    leader_of: tuple[int, ...] = ()  #: those of ``departments`` that the member leads
    position: str = ""
    alias: str = ""
    email: str = ""
    mobile: str = ""
    avatar: str = ""
    extattr: Mapping[str, str] = field(default_factory=dict)  #: text attributes of the address book, by name


class Announced(Protocol):
    """What identity headers are made of: a :class:`gateway.session.Session`."""

    @property
    def member(self) -> Member: ...
    @property
    def corp_id(self) -> str: ...
    @property
    def account(self) -> str: ...
    @property
    def departments(self) -> tuple[int, ...]: ...


def identity_headers(session: Announced, *, raw: bool = False) -> dict[str, str]:
    """Make the ``X-WeCom-*`` headers of *session*; *raw* leaves names in UTF-8 instead of percent-encoding them."""
    member = session.member
    text = visible if raw else encode
    headers = {
        "X-WeCom-UserId": visible(member.user_id),
        "X-WeCom-Account": text(session.account),
        "X-WeCom-Name": text(member.name),
        "X-WeCom-CorpId": visible(session.corp_id),
        "X-WeCom-Departments": ",".join(map(str, session.departments)),
        "X-WeCom-Email": text(member.email),
        "X-WeCom-Mobile": text(member.mobile),
        "X-WeCom-Avatar": text(member.avatar),
        "X-WeCom-Position": text(member.position),
        "X-WeCom-Alias": text(member.alias),
        "X-WeCom-Kind": "member",
    }
    return {name: value for name, value in headers.items() if value}


def encode(value: str) -> str:
    """Percent-encode *value* as UTF-8 (RFC 3986): names are Chinese, headers are not; no CR, LF or NUL survives.

    ``+`` and blanks are encoded too, so that every language's decoder, PHP's ``urldecode`` included, gives the same text.
    """
    return quote(value, safe=":/?#@!$&'()*,;=", errors="replace")


def visible(value: str) -> str:
    """Drop what may not stand in a header: control characters, lone surrogates, line separators."""
    return "".join(character for character in value if character.isprintable())
