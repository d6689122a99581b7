"""What happened to somebody's access, as one line of the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

_NOTHING: Mapping[str, Any] = MappingProxyType({})

KINDS = (
    "signed-in",  # member, session, site, address, browser; details: ends
    "renewed",  # member, session, site; details: ends
    "signed-out",  # member, session, site; details: until (the session could have lived so long), everywhere
    "refused",  # an identified member only, once per member, rule and minute: member, site, rule, reason
    "revoked",  # one of: session (details: until) · member · site; sessions issued up to `at` end
    "blocked",  # member: no session, no sign-in until "unblocked"
    "unblocked",
    "stale",  # member: what was read before `at` no longer holds
    "token-issued",  # details: token (its name), id, rule, ends, member (whom it acts for)
    "token-revoked",  # details: token, id
    "break-glass",  # member, session, site, reason; details: ends, by
    "named",  # details: kind (department, tag), name, id: what a name in the settings was resolved to
    "held",  # details: members: so many came back as gone that an operator must confirm
    "released",  # details: members, confirmed (true: they are revoked; false: they stay)
)
"""Every kind, with the fields it uses."""


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that happened; a field that its kind does not use is empty."""

    kind: str
    at: float  #: Unix seconds, when we took the record; never a time inside an event
    member: str = ""  #: member id in WeCom's stored spelling; compare case-folded
    session: str = ""  #: session id
    site: str = ""
    address: str = ""
    browser: str = ""  #: User-Agent
    reason: str = ""
    rule: str = ""
    details: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)  #: JSON values


@dataclass(frozen=True, slots=True)
class Entry:
    """A record where it stands in the ledger."""

    position: str  #: opaque; "" is before the first
    record: Record
    digest: str = ""  #: SHA-256 over the digest before and this record: the chain that ``ledger verify`` walks
