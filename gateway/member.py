"""A member of the corp (成员), and the identity headers that announce one to the app behind nginx."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

ACTIVE = 1
"""``status`` of a member who may use WeCom (document 90196); 2 disabled, 4 not activated, 5 left."""


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


def encode(value: str) -> str:
    """Percent-encode *value* as UTF-8 (RFC 3986): names are Chinese, headers are not; no CR, LF or NUL survives.

    ``+`` and blanks are encoded too, so that every language's decoder, PHP's ``urldecode`` included, gives the same text.
    """
    return quote(value, safe=":/?#@!$&'()*,;=")
