"""A member of the corp (成员), and the identity headers that announce one to the app behind nginx."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol
from urllib.parse import quote

from multidict import istr

ACTIVE = 1
"""``status`` of a member who may use WeCom (document 90196); 2 disabled, 4 not activated, 5 left."""

NOT_ACTIVE = {2: "disabled", 4: "not-activated", 5: "left"}
"""The reason of a refusal for each other ``status``."""

_IDENTITY = "UserId Account Name CorpId Departments Email Mobile Avatar Position Alias Kind"
IDENTITY = tuple(istr(f"X-WeCom-{name}") for name in _IDENTITY.split())
"""The identity headers in the order of :func:`identity`; ``istr``: their lower case is made once."""
NOBODY = "\t" * (len(IDENTITY) - 1)
REASON, RULE, JWT = istr("X-WeCom-Reason"), istr("X-WeCom-Rule"), istr("X-WeCom-Jwt")
_ANSWER = (REASON, RULE, *IDENTITY, JWT)
PACKED = istr("X-WeCom-Packed")
"""Sent by nginx's gateway.conf, which takes everything from one header: it would look for fourteen one by one, in each answer."""

_SAFE = ":/?#@!$&'()*,;="
_PLAIN = re.compile(rf"[A-Za-z0-9_.~{re.escape(_SAFE)}-]*").fullmatch
_ENCODED = [quote(bytes([byte]), safe=_SAFE) for byte in range(256)]
_NO_ATTRIBUTES: Mapping[str, str] = MappingProxyType({})


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
    extattr: Mapping[str, str] = field(default_factory=lambda: _NO_ATTRIBUTES)  #: text attributes of the address book, by name


class Announced(Protocol):
    """What an identity is made of: a :class:`gateway.session.Session`, a machine's token."""

    @property
    def member(self) -> Member: ...
    @property
    def corp_id(self) -> str: ...
    @property
    def account(self) -> str: ...
    @property
    def departments(self) -> tuple[int, ...]: ...


def identity(session: Announced, *, raw: bool = False, kind: str = "member") -> str:
    """Announce *session*: the values of the ``X-WeCom-*`` headers in the order of IDENTITY, a tab between two.

    *raw* leaves names in UTF-8 instead of percent-encoding them. No value holds a tab or any other control character.
    """
    member = session.member
    text = visible if raw else encode
    values = (
        visible(member.user_id),
        text(session.account),
        text(member.name),
        visible(session.corp_id),
        ",".join(map(str, session.departments)),
        text(member.email),
        text(member.mobile),
        text(member.avatar),
        text(member.position),
        text(member.alias),
        kind,
    )
    return "\t".join(values)


def identity_headers(packed: str) -> dict[str, str]:
    """Make a header of each value in *packed* (:func:`identity`) that is there; an empty one announces nobody."""
    return _headers("", "", packed, "")


def separate_answer(reason: str = "", rule: str = "", identity: str = NOBODY, proof: str = "") -> str:
    """The lines of a check's answer, one for each thing it says."""
    return "".join([f"{name}: {value}\r\n" for name, value in _headers(reason, rule, identity, proof).items()])


def packed_answer(reason: str = "", rule: str = "", identity: str = NOBODY, proof: str = "") -> str:
    """The same in one, which nginx's ``proxy_redirect`` (gateway.conf) takes apart: tabs between, ``;`` at the end."""
    return f"Location: wecom:{reason}\t{rule}\t{identity}\t{proof};\r\n"


def _headers(reason: str, rule: str, identity: str, proof: str) -> dict[str, str]:
    values = (reason, rule, *identity.split("\t"), proof)
    return {name: value for name, value in zip(_ANSWER, values, strict=True) if value}


def encode(value: str) -> str:
    """Percent-encode *value* as UTF-8 (RFC 3986): names are Chinese, headers are not; no CR, LF or NUL survives.

    ``+`` and blanks are encoded too, so that every language's decoder, PHP's ``urldecode`` included, gives the same text.
    """
    if not value or (value.isascii() and (value.isalnum() or _PLAIN(value))):
        return value
    octets = value.encode("utf-8", "replace")
    if min(octets) > 0x7F:  # as of most names
        return f"%{octets.hex('%').upper()}"
    return "".join([_ENCODED[octet] for octet in octets])


def visible(value: str) -> str:
    """Drop what may not stand in a header: control characters, lone surrogates, line separators."""
    if value.isprintable():
        return value
    return "".join(character for character in value if character.isprintable())
