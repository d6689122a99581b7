"""Renew an ageing session: read the member again and re-sign the cookie, without a visit to WeCom by the person."""

from __future__ import annotations

import logging
from dataclasses import replace
from urllib.parse import unquote

from aiohttp import web

from gateway import admission, cookies, recheck
from gateway.asked import Asked
from gateway.decision import Verdict
from gateway.errors import LoginFailed, SignInNeeded, WeComError
from gateway.keys import Parts
from gateway.member import Member
from gateway.records import Record
from gateway.session import Session, moment
from gateway.snapshot import Placed

log = logging.getLogger(__name__)

TIMEOUT_S = 2.0

_MUST_BE_READ = {"stale": "wecom-unreachable", "unverified": "unverified"}
"""Why the check refused what no put-off session cures, and what to say when WeCom does not answer."""


def wanted(parts: Parts, asked: Asked) -> str:
    """Why the check may refuse a session that is not over: ``stale``, ``unverified``; empty where nothing stands against it.

    A navigation is renewed where it is refused; a script or a form cannot be, and comes here by its ``login_url``.
    """
    presence, accounts = parts.sessions.presence, parts.sessions.accounts
    session = not_over(parts, asked)
    if session is None or not session.renewable:
        return ""
    told = session.account or accounts.looked_at(session.site, session.attributes)
    if not told or parts.rules.lacks(session) or session.read < parts.standing.stale_until(session.user_id):
        return "stale"
    return "unverified" if session.read < presence.unread_before and presence.unverified(session) else ""


async def renew(parts: Parts, asked: Asked, request: web.Request, return_to: str) -> web.StreamResponse | None:
    """Answer the navigation that the check refused as ``renew``, ``stale`` or ``unverified``: a fresh cookie, and back there.

    None where the session no longer opens or is over: then a sign-in is due. Raises LoginFailed for a member who is gone, and
    where nothing but what WeCom says now would do, and it says nothing.
    """
    old = not_over(parts, asked)
    if old is None:
        return None
    if cookies.rounds(request, asked.site, parts.sealer, parts.clock()) >= cookies.MAX_ROUNDS:
        return None
    session = await renewed(parts, old, return_to=return_to, why=asked.reason)
    if asked.reason in _MUST_BE_READ and session.read == old.read:
        raise LoginFailed(_MUST_BE_READ[asked.reason], message="the member cannot be read", return_to=return_to)
    headers = {"Location": return_to, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    response = web.Response(status=302, headers=headers)
    session = await _with_account(parts, session, return_to)
    if parts.standing.ended(session):  # again: WeCom took its time
        return response  # without a cookie; the next request finds it over
    _still_told(parts, asked, session, return_to)
    now = int(parts.clock())
    cookies.keep_session(response, asked.site, parts.sessions.seal(session), session, now)
    cookies.count_round(response, request, asked.site, parts.sealer, now)
    return response


def not_over(parts: Parts, asked: Asked) -> Session | None:
    """The session at hand, be it that its member is to be read again first: then it lets nobody in now, but soon."""
    try:
        session = parts.sessions.open(asked.session, site=asked.site.name)
    except SignInNeeded:
        return None
    return None if parts.standing.ended(session) else session


async def _with_account(parts: Parts, session: Session, return_to: str) -> Session:
    try:
        return await admission.with_account(parts, session)
    except LoginFailed as error:
        error.return_to = return_to
        raise


def _still_told(parts: Parts, asked: Asked, session: Session, return_to: str) -> None:
    """LoginFailed where the rule that was refused as ``stale`` would be so again: departments or tags cannot be read."""
    if asked.reason == "stale" and asked.rule:
        rule = unquote(asked.rule)
        if parts.rules.rule(rule).verdict(session) is Verdict.UNSURE:
            message = f"rule {rule}: its departments or tags cannot be read"
            raise LoginFailed("wecom-unreachable", message=message, return_to=return_to)


async def renewed(parts: Parts, session: Session, *, return_to: str, why: str = "renew") -> Session:
    """The session with its member as WeCom has it now; put off where WeCom does not answer for the member.

    Raises LoginFailed for a member who is gone, disabled or out of scope; every session of theirs ends then.
    """
    if not session.renewable:
        return session
    since = parts.standing.stale_until(session.user_id)
    key = f"renewal {session.id} {session.renewed} {session.read} {since}"
    try:
        return await parts.once.run(key, lambda: _reread(parts, session, since, why))
    except LoginFailed as error:
        error.return_to = return_to
        raise


async def _reread(parts: Parts, session: Session, since: float, why: str) -> Session:
    """*since*: what :meth:`Standing.stale_until` gave before WeCom was asked."""
    lifetimes, began = parts.sessions.lifetimes, parts.clock()
    old = session.member
    try:
        member = await admission.read(parts, old.user_id, timeout_s=TIMEOUT_S)
    except WeComError as error:
        log.warning("renewal of %s put off: %s", old.user_id, error)
        parts.telemetry.renewed("put-off")
        return lifetimes.put_off(session, int(began))
    except LoginFailed as error:
        if await recheck.gone(parts, old.user_id, error.reason, [session]):
            parts.telemetry.renewed(error.reason)
            raise
        parts.telemetry.renewed("held")
        return lifetimes.put_off(session, int(began))
    member = replace(  # what came by a user_ticket is carried over
        member,
        email=member.email or old.email,
        mobile=member.mobile or old.mobile,
        avatar=member.avatar or old.avatar,
    )
    placed = await _placed(parts, session, member, since)
    session = _with(parts, session, member, placed, began=began, since=since)
    parts.telemetry.renewed("stale" if why == "stale" else "ok")
    await recheck.was_read(parts, member, began)
    parts.ledger.note(
        Record("renewed", parts.clock(), member.user_id, session.id, session.site, reason=why, details={"ends": session.ends})
    )
    return lifetimes.put_off(session, int(began)) if placed.partial else session


def _with(parts: Parts, session: Session, member: Member, placed: Placed, *, began: float, since: float) -> Session:
    """The session as what WeCom told from *began* on makes it; *since* as above."""
    accounts, now = parts.sessions.accounts, int(began)
    attributes = accounts.attributes(session.site, member)
    return replace(
        session,
        member=admission.asked_for(parts, member),
        account=accounts.account(session.site, member.user_id, attributes),
        attributes=attributes,
        departments=placed.departments,
        tags=placed.tags,
        partial=placed.partial,
        renewed=now,
        read=max(moment(began), since),
        ends=parts.sessions.lifetimes.ends(session.issued, now),
    )


async def _placed(parts: Parts, session: Session, member: Member, since: float) -> Placed:
    """Where *member* stands; what cannot be read now stays as the session has it, unless a change is known."""
    placed = await parts.directory.placed(member, after=since)
    if session.partial or session.read < since or member.departments != session.member.departments:
        return placed
    tags = {tag: holds for tag, holds in session.tags.items() if tag in parts.rules.tags}
    return Placed(session.departments if placed.partial else placed.departments, tags | dict(placed.tags))
