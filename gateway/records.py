"""What happened to somebody's access, as one line of the ledger.

Named tuples, not frozen dataclasses: a million are made at a start, and these take a fifth of the time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

NOTHING: Mapping[str, Any] = MappingProxyType({})

KINDS = (
    "signed-in",  # member, session, site, address, browser; details: ends
    "renewed",  # member, session, site; details: ends
    "signed-out",  # member, session, site; details: until (the session could have lived so long), everywhere
    "refused",  # an identified member only, once per member, rule and minute: member, site, rule, reason
    "revoked",  # one of: session (details: until, member) · member · site; sessions issued up to `at` end
    "blocked",  # member: no session, no sign-in until "unblocked"
    "unblocked",
    "account",  # member; details: attribute, account (whoever has it first keeps it), instead_of (who has it no longer)
    "stale",  # member: what was read before `at` no longer holds
    "token-issued",  # details: token (its name), id, rules, issued, ends, member (whom it acts for), by
    "token-revoked",  # details: token, id
    "break-glass",  # member, session, site, reason; details: ends, by
    "named",  # details: kind (department, tag), name, id: what a name in the settings was resolved to
    "held",  # details: members: so many came back as gone that an operator must confirm
    "released",  # details: members, confirmed (true: they are revoked; false: they stay)
    "trimmed",  # details: position and digest of the last entry dropped for its age, count
)
"""Every kind, with the fields it uses. A later version adds kinds, and values in details; what is unknown is skipped."""

AUDIT_ONLY = ("signed-in", "renewed", "refused", "break-glass", "trimmed")
"""Kinds that only tell what happened; every other kind says what is in force."""

MAX_TEXT = 1000
"""Characters of one text; what is longer was made up by a client and is cut."""


class Record(NamedTuple):
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
    details: Mapping[str, Any] = NOTHING  #: JSON values

    def mapping(self) -> dict[str, Any]:
        """What it says, without the fields that are empty; :meth:`of` reads it again."""
        return {name: value for name in _FIELDS if (value := getattr(self, name)) or name == "at"}

    @classmethod
    def of(cls, mapping: Mapping[str, Any]) -> Record:
        """The record in *mapping*; a field that this release does not know is left out."""
        try:
            return cls(**mapping)
        except TypeError:
            return cls(**{name: mapping[name] for name in _FIELDS if name in mapping})

    def tidied(self) -> Record:
        """The same as any store can hold it: whole Unicode, bounded texts, plain JSON values.

        Raises ValueError where *details* are no JSON.
        """
        texts = {name: _tidy(getattr(self, name)) for name in _TEXTS}
        return Record(at=float(self.at), details=_json(self.details), **texts)


class Entry(NamedTuple):
    """A record where it stands in the ledger."""

    position: str  #: opaque; "" is before the first
    record: Record
    digest: str = ""  #: SHA-256 over the digest before and this record: the chain that ``ledger verify`` walks


_FIELDS = Record._fields
_TEXTS = tuple(name for name in _FIELDS if name not in ("at", "details"))


def _tidy(text: str) -> str:
    return text[:MAX_TEXT].encode("utf-8", "replace").decode()


def _json(details: Mapping[str, Any]) -> Mapping[str, Any]:
    if not details:
        return NOTHING
    try:
        text = json.dumps(dict(details), ensure_ascii=False, allow_nan=False)
    except (TypeError, RecursionError) as error:
        raise ValueError(f"details are no JSON: {error}") from error
    found: dict[str, Any] = json.loads(text.encode("utf-8", "replace"))
    return found
