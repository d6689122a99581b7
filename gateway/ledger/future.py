"""Sessions from the future: begun while a clock was ahead, so that a revocation does not reach them by its time.

Those that stand before it in the ledger began before it, whatever the clocks say: it ends each by its id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.history import over
from gateway.records import Record
from gateway.session import LONGEST_S
from gateway.standing import CLOCK_TOLERANCE_S

BEGINS = ("signed-in", "break-glass")
"""The kinds that a session, or the link to one, begins with."""


def revocations(records: Sequence[Record]) -> list[Record]:
    """Those of *records* that end all sessions of a member or of a site."""
    return [record for record in records if (record.kind == "revoked" and not record.session) or _everywhere(record)]


def since(now: float) -> float:
    """From when on the ledger must be looked through: what was taken at that time or later, and all that follows."""
    return now + CLOCK_TOLERANCE_S


def ended(records: Sequence[Record], begun: Iterable[Record], now: float) -> list[Record]:
    """What ends those sessions of *begun* from after *now* that *records* end and do not name, until they are over anyway."""
    named = {record.session for record in records}
    members = {record.member.casefold(): record for record in revocations(records) if record.member}
    sites = {record.site: record for record in revocations(records) if record.site and not record.member}
    found = []
    for each in begun:
        revoked, until = members.get(each.member.casefold()) or sites.get(each.site), over(each)
        if revoked and each.session not in named and until - LONGEST_S > since(now):
            details = {"by": revoked.details.get("by", ""), "member": each.member, "until": until}
            found.append(Record("revoked", revoked.at, session=each.session, reason=revoked.reason, details=details))
    return found


def _everywhere(record: Record) -> bool:
    return record.kind == "signed-out" and bool(record.member and record.details.get("everywhere"))
