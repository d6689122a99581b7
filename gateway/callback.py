"""Sign in, the way back: from WeCom's callback or a hand-over to a session, and on to the page first asked for."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import web

from gateway import admission, cookies, trail
from gateway.asked import Asked
from gateway.claims import claims_of
from gateway.errors import GatewayError, LoginFailed, SignInNeeded
from gateway.handover import hand_over, handed_over
from gateway.keys import LIVE, Parts
from gateway.login import redirect, session_at_hand
from gateway.once import REMEMBERED_S, among_processes
from gateway.sealing import Forged
from gateway.session import Session
from gateway.signin import HandOver, SignIn, begun, is_state
from gateway.urls import client_of

OUTCOME = "outcome"
_SPENT = frozenset({"code-spent", "hand-over"})


async def callback(request: web.Request) -> web.StreamResponse:
    """``/_wecom/callback/STATE``: from WeCom with a code, or from the callback host with a hand-over."""
    parts = request.app[LIVE].now
    asked = Asked.of(request, parts)
    try:
        sign_in = _sign_in(parts, asked, request)
    except LoginFailed as error:
        if session_at_hand(parts, asked.session, asked.site):
            return redirect(error.return_to if error.return_to not in ("/", "") else asked.origin.url("/"))
        raise
    at_hand = session_at_hand(parts, asked.session, asked.site)
    since = at_hand if at_hand and at_hand.issued >= sign_in.started else None
    if since and not sign_in.again and not sign_in.onward:
        return _signed_in_meanwhile(parts, asked, request, sign_in, since)
    try:
        session = await _completed(parts, asked, request, sign_in)
    except GatewayError as error:
        if error.reason in _SPENT and (found := since if sign_in.again else at_hand):
            return _signed_in_meanwhile(parts, asked, request, sign_in, found)
        error.return_to = sign_in.return_to
        raise
    parts.telemetry.signed_in("ok")
    now = int(parts.clock())
    response = _onward(parts, asked, request, sign_in, session)
    cookies.keep_session(response, asked.site, parts.sessions.seal(session), session, now)
    cookies.count_round(response, request, asked.site, parts.sealer, now)
    if cookies.is_signed_out(request, asked):
        cookies.signed_in_again(response, asked.site)
    return response


def _sign_in(parts: Parts, asked: Asked, request: web.Request) -> SignIn:
    """The sign-in that this callback belongs to, or LoginFailed."""
    state = request.match_info["state"]
    if not is_state(state) or request.query.get("state", state) != state:
        raise LoginFailed("bad-request", message="the state in path and query differ")
    value = cookies.received(request, cookies.sign_in_name(asked.site))
    if not value and parts.clock() >= begun(state) + cookies.SIGN_IN_KEPT_S:
        raise LoginFailed("sign-in-expired", message="by now the cookie of its sign-in is gone")
    if not value:
        raise LoginFailed("no-cookie", message="the callback came without the cookie of its sign-in")
    browser = cookies.received(request, cookies.browser_name(asked.site))
    sign_in = SignIn.open(parts.sealer, value, state=state, browser=browser, now=parts.clock())
    if (sign_in.site, sign_in.host) != (asked.site.name, asked.origin.host):
        raise LoginFailed("other-browser", message="the sign-in was started at another site")
    return sign_in


async def _completed(parts: Parts, asked: Asked, request: web.Request, sign_in: SignIn) -> Session:
    """The session that the code or the hand-over gives; the same one twice within 60 s gives the first result."""
    if text := request.query.get("handover"):
        coming = HandOver.open(parts.sealer, text, host=asked.origin.host, state=sign_in.state, now=parts.clock())
        return await _once(parts, f"hand-over {coming.id}", lambda: handed_over(parts, asked, coming))
    code = request.query.get("code", "")
    if not code:
        raise LoginFailed("no-code", message="WeCom sent no code: refused or cancelled")
    key = parts.sealer.digest("code", f"{sign_in.state} {code}")
    return await _once(parts, f"code {key}", lambda: _exchanged(parts, asked, code, sign_in), again=True)


async def _once(parts: Parts, key: str, work: Callable[[], Coroutine[Any, Any, Session]], *, again: bool = False) -> Session:
    """The session of the one sign-in for *key*, whichever process makes it; where it fails, it fails for everybody.

    With *again*, what a process began and did not end is tried once more: WeCom takes a code only once, so nothing is had twice.
    """

    def pack(outcome: Session | GatewayError) -> str:
        ended = claims_of(outcome) if isinstance(outcome, Session) else outcome.reason
        return parts.sealer.encrypt(OUTCOME, [key, ended])  # whoever writes to the store moves nobody's to another

    async def made() -> Session:
        outcome = await among_processes(parts.ledger, key, parts.clock() + REMEMBERED_S, work, pack)
        if outcome is None and again:
            return await work()
        return outcome if isinstance(outcome, Session) else _of_another_process(parts, key, outcome)

    return _in_force(parts, await parts.once.run(key, made))


def _of_another_process(parts: Parts, key: str, text: str | None) -> Session:
    if text is None:
        raise LoginFailed("hand-over", message="another process began to take this hand-over and did not end it")
    try:
        of, outcome = parts.sealer.decrypt(OUTCOME, text)
        session = None if isinstance(outcome, str) else parts.sessions.from_claims(outcome)
    except (Forged, SignInNeeded, TypeError, ValueError) as error:
        raise LoginFailed("code-spent", message="what another process made of this sign-in cannot be read") from error
    if of != key:
        raise LoginFailed("code-spent", message="what the store holds is of another sign-in")
    if session is None:
        raise LoginFailed(outcome, message="so it ended in another process")
    return session


def _in_force(parts: Parts, session: Session) -> Session:
    """The session, unless its person signed out since, or it was revoked while WeCom was asked."""
    if reason := parts.standing.ended(session):
        raise LoginFailed(reason)
    return session


async def _exchanged(parts: Parts, asked: Asked, code: str, sign_in: SignIn) -> Session:
    onward = sign_in.onward is not None
    session = await admission.session_for(parts, code, site=asked.site.name, address=asked.address, onward=onward)
    parts.sessions.seal(_in_force(parts, session))  # one that does not fit is no sign-in
    await trail.signed_in(parts, asked, session, trail.way_in(asked))
    return session


def _onward(parts: Parts, asked: Asked, request: web.Request, sign_in: SignIn, session: Session) -> web.StreamResponse:
    """After the sign-in: to the host it was for, or to the page first asked for."""
    return hand_over(parts, session, sign_in.onward) if sign_in.onward else _arrive(parts, asked, request, sign_in)


def _arrive(parts: Parts, asked: Asked, request: web.Request, sign_in: SignIn) -> web.StreamResponse:
    """The page first asked for, its fragment put back by a page of ours where there was one.

    Inside the client the empty fragment replaces WeCom's ``#wechat_redirect``, which a browser carries through redirects
    and an app with routes in the fragment would take for one of its own.
    """
    if cookies.received(request, "wecom_fragment"):
        return parts.pages.render("restore", language=asked.language, target=sign_in.return_to, state=sign_in.state)
    return redirect(sign_in.return_to + ("#" if client_of(asked.user_agent) in ("wecom", "private") else ""))


def _signed_in_meanwhile(
    parts: Parts, asked: Asked, request: web.Request, sign_in: SignIn, session: Session
) -> web.StreamResponse:
    """Another tab was quicker, or the callback was opened again: go on with the session at hand.

    One that is not younger than the sign-in may be the very one that nginx refused, so this counts as a round.
    """
    response = _onward(parts, asked, request, sign_in, session)
    if session.issued <= sign_in.started:
        cookies.count_round(response, request, asked.site, parts.sealer, int(parts.clock()))
    return response
