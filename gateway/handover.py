"""One callback host for many sites: begin there for another host, hand the session over, take it."""

from __future__ import annotations

from dataclasses import replace

from aiohttp import web

from gateway import admission, cookies, renewal, trail
from gateway.asked import Asked
from gateway.claims import claims_of
from gateway.errors import LoginFailed, SignInNeeded
from gateway.keys import LIVE, Parts
from gateway.login import at_callback_host, redirect, session_at_hand, start
from gateway.session import Session, new_id
from gateway.signin import HAND_OVER_S, Begin, HandOver
from gateway.urls import CALLBACK, Site, query


async def begin(request: web.Request) -> web.StreamResponse:
    """``/_wecom/begin/…`` on the callback host: sign a person in for another host, without WeCom where a session is at hand."""
    parts = request.app[LIVE].now
    asked = Asked.of(request, parts)
    onward = Begin.open(parts.sealer, request.match_info["begin"], now=parts.clock())
    if not at_callback_host(parts, asked):
        raise LoginFailed("other-site", message=f"{asked.origin} is not the callback host", return_to=onward.return_to)
    session = None if onward.again else session_at_hand(parts, asked.session, asked.site)
    if session is None or parts.standing.ended(replace(session, site=onward.site)):
        return start(parts, asked, request, onward.return_to, onward=onward, again=onward.again)
    known = parts.sessions.accounts.looked_at(onward.site, session.attributes)
    if not known or parts.sessions.lifetimes.renewal_due(session, parts.clock()):
        session = await renewal.renewed(parts, session, return_to=onward.return_to)
        session = await admission.with_or_without_account(parts, session)
    response = hand_over(parts, session, onward)
    cookies.keep_session(response, asked.site, parts.sessions.seal(session), session, int(parts.clock()))
    return response


def hand_over(parts: Parts, session: Session, onward: Begin) -> web.StreamResponse:
    """Send the person on to the host they came from, with a session for it."""
    site = _known(parts, onward)
    now = int(parts.clock())
    issued = parts.standing.issue(session.user_id, session.issued, site=site.name)
    own = replace(
        session,
        id=new_id(),
        site=site.name,
        issued=issued,
        ends=min(session.ends, parts.sessions.lifetimes.ends(issued, now)),
    )
    sealed = HandOver(own.id, now + HAND_OVER_S, onward.host, onward.state, claims_of(own), session.id).seal(parts.sealer)
    return redirect(site.at(onward.host).url(f"{CALLBACK}/{onward.state}?{query(handover=sealed)}"))


async def handed_over(parts: Parts, asked: Asked, coming: HandOver) -> Session:
    """The session that came from the callback host, if it is in force and for this site, and its member has an account here."""
    try:
        session = parts.sessions.from_claims(coming.session)
        parts.standing.check(session)
        parts.standing.check(replace(session, id=coming.of))
    except SignInNeeded as error:
        reason = "blocked" if error.reason == "blocked" else "hand-over"
        raise LoginFailed(reason, message=f"the session handed over is {error.reason}") from error
    if session.site != asked.site.name:
        raise LoginFailed("hand-over", message="the session handed over is for another site")
    accounts = parts.sessions.accounts
    session = await admission.with_account(parts, replace(session, attributes=accounts.kept(session.site, session.attributes)))
    await trail.signed_in(parts, asked, session, "hand-over", of=coming.of)
    return session


def _known(parts: Parts, onward: Begin) -> Site:
    site = parts.sites.named(onward.site)
    if site is None or onward.host not in site.hosts:
        raise LoginFailed("hand-over", message=f"{onward.host} is no host of site {onward.site} any more")
    return site
