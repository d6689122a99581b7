"""What the pages write into the ledger: who signed in, out, was renewed or refused; where, from where and with what."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from gateway.asked import Asked
from gateway.keys import Parts
from gateway.ledger import LedgerBroken, LedgerUnavailable
from gateway.records import Record
from gateway.session import Session
from gateway.urls import client_of

log = logging.getLogger(__name__)

WAIT_S = 2.0
"""How long a person waits for the store; then the record follows by itself."""

REFUSALS_S = 60


def way_in(asked: Asked) -> str:
    """How somebody came to WeCom: ``wecom`` inside the client, ``desktop`` by its QR page."""
    return "wecom" if client_of(asked.user_agent) in ("wecom", "private") else "desktop"


async def signed_in(parts: Parts, asked: Asked, session: Session, how: str, *, of: str = "") -> None:
    """Record a sign-in before its person gets the cookie; *of*: the id of the session that it was handed over from."""
    log.info("signed-in %s at %s from %s, session %s, %s", session.user_id, session.site, asked.address, session.id, how)
    await _store(parts, sign_in(parts, asked, session, how, of=of))


def sign_in(parts: Parts, asked: Asked, session: Session, how: str, *, of: str = "") -> Record:
    return _record(parts, asked, session, "signed-in", {"how": how, **({"of": of} if of else {}), **about(session)})


async def signed_out(parts: Parts, asked: Asked, session: Session, *, everywhere: bool) -> bool:
    """End *session*, or every one of its member; whether the store has it: else other processes and machines hear of it later."""
    log.info("signed-out %s at %s%s", session.user_id, session.site, " everywhere" if everywhere else "")
    details = {"until": session.over, "everywhere": everywhere}
    return await _store(parts, _record(parts, asked, session, "signed-out", details))


def refused(parts: Parts, user_id: str, reason: str, *, asked: Asked, rule: str = "") -> None:
    """Record the refusal of somebody known, once for each member, reason and rule in a minute."""
    site = asked.site.name
    key, sentence = f"{reason} {user_id} {rule}", f"refused {user_id} at {site}: {reason} {rule}".rstrip()
    if parts.telemetry.warn_once(key, sentence, every_s=REFUSALS_S):
        record = Record("refused", parts.clock(), user_id, site=site, reason=reason, rule=rule, **_where(asked))
        parts.ledger.note(record)


def about(session: Session) -> dict[str, Any]:
    """What the ledger keeps of a session besides ids: when it began and ends, and what a break-glass session is made of."""
    member = session.member
    found: dict[str, Any] = {
        "issued": session.issued,
        "ends": session.ends,
        "name": member.name,
        "departments": list(session.departments),
        "own": list(member.departments),
        "leader_of": list(member.leader_of),
        "tags": {str(tag): holds for tag, holds in session.tags.items()},
        "attributes": dict(session.attributes),
    }
    return {key: value for key, value in found.items() if value}


async def _store(parts: Parts, record: Record) -> bool:
    try:
        async with asyncio.timeout(WAIT_S):
            await parts.ledger.append(record)
    except (LedgerUnavailable, LedgerBroken, TimeoutError):  # the ledger has said so in the log
        parts.ledger.note(record)
        return False
    return True


def _record(parts: Parts, asked: Asked, session: Session, kind: str, details: Mapping[str, Any]) -> Record:
    return Record(kind, parts.clock(), session.user_id, session.id, session.site, **_where(asked), details=details)


def _where(asked: Asked) -> dict[str, Any]:
    return {"address": asked.address, "browser": asked.user_agent}
