"""What must outlive its age: old records that something still depends on are appended again before they are trimmed."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.records import Record

LATER = ("blocked", "unblocked", "token-issued", "token-revoked", "named", "account", "revoked")
"""The kinds that :func:`survivors` looks at among the later ones."""
SURVIVES = (*LATER, "signed-out")
"""And among the old ones; of every other kind nothing is in force for longer than a session lives."""


def survivors(old: Iterable[Record], later: Iterable[Record], now: float) -> list[Record]:
    """Of the records *old*, about to be dropped, those still in force at *now*, given all *later* ones; marked ``carried``.

    Members blocked, tokens that could still be used or are revoked, what the names of the settings were resolved to, who holds
    which account. Of revocations and sign-outs everywhere only those of members for whom a token acts: sessions end much sooner.
    """
    last = {key: record for record in old if (key := _about(record))}
    newer = {key: record for record in later if (key := _about(record))}
    tokens = [record for found in (last, newer) for (kind, _), record in found.items() if kind == "token-issued"]
    over = {str(record.details.get("id")) for record in tokens if not _lives(record, now)}
    acting = {str(record.details.get("member", "")).casefold() for record in tokens if _lives(record, now)} - {""}
    kept = []
    for key, record in last.items():
        kind, about = key
        needed = {
            "blocked": record.kind == "blocked",
            "token-issued": about not in over,
            "token-revoked": about not in over,
            "revoked": about in acting,
        }.get(kind, True)
        if needed and key not in newer:
            kept.append(record._replace(details={**record.details, "carried": True}))
    return kept


def _about(record: Record) -> tuple[str, str] | None:
    """What *record* says the last word about; None for what nothing depends on for long."""
    details = record.details
    if record.kind in ("blocked", "unblocked"):
        return "blocked", record.member.casefold()
    if record.kind in ("token-issued", "token-revoked"):
        return record.kind, str(details.get("id"))
    if record.kind == "named":
        return "named", f"{details.get('corp')} {details.get('kind')} {details.get('name')}"
    if record.kind == "account":
        return "account", f"{record.member.casefold()} {details.get('attribute')}"
    if record.member and (
        details.get("everywhere") if record.kind == "signed-out" else record.kind == "revoked" and not record.session
    ):
        return "revoked", record.member.casefold()
    return None


def _lives(token: Record, now: float) -> bool:
    ends = token.details.get("ends")
    return not isinstance(ends, (int, float)) or ends > now
