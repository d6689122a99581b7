"""Renew an ageing session: read the member again and re-sign the cookie, without a visit to WeCom by the person."""

from __future__ import annotations

import logging
from dataclasses import replace

from aiohttp import web

from gateway import admission, cookies
from gateway.asked import Asked
from gateway.errors import LoginFailed, SignInNeeded, WeComError
from gateway.keys import Parts
from gateway.session import Session, moment

log = logging.getLogger(__name__)

TIMEOUT_S = 2.0


async def renew(parts: Parts, asked: Asked, request: web.Request, return_to: str) -> web.StreamResponse | None:
    """Answer the navigation that the check refused as ``renew`` or ``stale``: back to the same page with a fresh cookie.

    None where the session no longer opens or is over: then a sign-in is due. Raises LoginFailed for a member who is gone.
    """
    try:
        session = parts.sessions.open(asked.session, site=asked.site.name)
    except SignInNeeded:
        return None
    if parts.standing.ended(session):
        return None
    if cookies.rounds(request, asked.site, parts.sealer, parts.clock()) >= cookies.MAX_ROUNDS:
        return None
    session = await renewed(parts, session, return_to=return_to)
    headers = {"Location": return_to, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    response = web.Response(status=302, headers=headers)
    try:
        parts.standing.check(session)  # again: WeCom took its time
    except SignInNeeded as error:
        if error.reason != "stale":
            return response  # the next request finds it over
        raise LoginFailed(
            "wecom-unreachable", message="departments or tags changed and cannot be read", return_to=return_to
        ) from error
    session = await _with_account(parts, session, return_to)
    now = int(parts.clock())
    cookies.keep_session(response, asked.site, parts.sessions.seal(session), session, now)
    cookies.count_round(response, request, asked.site, parts.sealer, now)
    return response


async def _with_account(parts: Parts, session: Session, return_to: str) -> Session:
    try:
        return await admission.with_account(parts, session)
    except LoginFailed as error:
        error.return_to = return_to
        raise


async def renewed(parts: Parts, session: Session, *, return_to: str) -> Session:
    """The session with its member as WeCom has it now; put off where WeCom does not answer for the member.

    Raises LoginFailed for a member who is gone, disabled or out of scope; every session of theirs ends then.
    """
    since = parts.standing.stale_until(session.user_id)
    key = f"renewal {session.id} {session.renewed} {session.read} {since}"
    try:
        return await parts.once.run(key, lambda: _reread(parts, session, since))
    except LoginFailed as error:
        error.return_to = return_to
        raise


async def _reread(parts: Parts, session: Session, since: float) -> Session:
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
        log.warning("revoked %s: %s", old.user_id, error.reason)
        parts.telemetry.renewed(error.reason)
        parts.standing.revoke(old.user_id, parts.clock())
        raise
    member = replace(  # what came by a user_ticket is carried over
        member,
        email=member.email or old.email,
        mobile=member.mobile or old.mobile,
        avatar=member.avatar or old.avatar,
    )
    accounts = parts.sessions.accounts
    attributes = accounts.attributes(session.site, member)
    parts.telemetry.renewed("ok")
    return replace(
        session,
        member=admission.asked_for(parts, member),
        account=accounts.account(session.site, member.user_id, attributes),
        attributes=attributes,
        departments=member.departments,
        renewed=int(began),
        read=max(moment(began), since),
        ends=lifetimes.ends(session.issued, int(began)),
    )
