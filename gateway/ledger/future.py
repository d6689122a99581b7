"""Sessions and tokens from the future: begun while a clock was ahead, so that a revocation does not reach them by its time.

Those that stand before it in the ledger began before it, whatever the clocks say: it ends each by its id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.history import over
from gateway.records import Record
from gateway.session import LONGEST_S
from gateway.standing import CLOCK_TOLERANCE_S

BEGINS = ("signed-in", "break-glass", "token-issued")
"""The kinds that a session, the link to one, or a token begins with."""


def revocations(records: Sequence[Record]) -> list[Record]:
    """Those of *records* that end all sessions of a member or of a site."""
    return [record for record in records if (record.kind == "revoked" and not record.session) or _everywhere(record)]


def since(now: float) -> float:
    """From when on the ledger must be looked through: what was taken at that time or later, and all that follows."""
    return now + CLOCK_TOLERANCE_S


def ended(records: Sequence[Record], begun: Iterable[Record], now: float) -> list[Record]:
    """What ends those of *begun* from after *now* that *records* end and do not name: sessions until they are over anyway."""
    named = {record.session for record in records}
    members = {record.member.casefold(): record for record in revocations(records) if record.member}
    sites = {record.site: record for record in revocations(records) if record.site and not record.member}
    found = []
    for each in begun:
        own, until = members.get(each.member.casefold()), over(each)
        if until - LONGEST_S <= since(now):
            continue
        if each.kind == "token-issued":  # a token ends with the member it acts for, never with a site's sessions
            found += [_token(each, own)] if own else []
        elif (revoked := own or sites.get(each.site)) and each.session not in named:
            details = {"by": revoked.details.get("by", ""), "member": each.member, "until": until}
            found.append(Record("revoked", revoked.at, session=each.session, reason=revoked.reason, details=details))
    return found


def _token(issued: Record, revoked: Record) -> Record:
    details = {name: issued.details.get(name, "") for name in ("token", "id")} | {"by": revoked.details.get("by", "")}
    return Record("token-revoked", revoked.at, issued.member, site=issued.site, reason=revoked.reason, details=details)


def _everywhere(record: Record) -> bool:
    return record.kind == "signed-out" and bool(record.member and record.details.get("everywhere"))
