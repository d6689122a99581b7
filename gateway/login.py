"""Sign in: from a refusal to WeCom, from its callback to a session, and on to the page first asked for."""

from __future__ import annotations

import logging
import secrets
from dataclasses import replace
from urllib.parse import quote, urlencode

from aiohttp import web

from gateway import admission, cookies, renewal
from gateway.asked import Asked
from gateway.errors import GatewayError, LoginFailed, SignInNeeded
from gateway.keys import LIVE, Parts
from gateway.session import Session
from gateway.signin import (
    HAND_OVER_S,
    LIFETIME_S,
    MAX_COOKIE_BYTES,
    Begin,
    HandOver,
    SignIn,
    browser_nonce,
    is_state,
    new_state,
)
from gateway.urls import PREFIX, Site, client_of, in_app_url, old_web_login_url, return_path, web_login_url

log = logging.getLogger(__name__)

_LOOPS = {
    "no-session": "cookie-lost",
    "renew": "cookie-lost",
    "stale": "cookie-lost",
    "forged": "keys",
    "expired": "clock",
    "other-site": "site",
    "revoked": "clock",
    "idle": "clock",
}
"""What it means when a browser that just signed in twice is refused again for this reason."""

_SPENT = frozenset({"code-spent", "hand-over"})


async def login(request: web.Request) -> web.StreamResponse:
    """``@wecom_login`` and ``/_wecom/login``: renew, sign in, or say that a sign-in is needed.

    The only way for a return address from outside is the query ``return_to`` of ``/_wecom/login``; nginx empties
    ``X-WeCom-Original-Uri`` there and drops the page's own query in ``@wecom_login``.
    """
    parts = request.app[LIVE].now
    asked = Asked.of(request, parts)
    if asked.original and not asked.reason:
        return parts.pages.render("neutral", language=asked.language, status=401)
    again = not asked.original and request.query.get("again") == "1"
    return_to = _return_to(parts, asked, request.query.get("return_to", ""))
    if not asked.navigation:
        return _window(parts, asked, request) if asked.window else _unauthorized(parts, asked, request)
    if asked.reason in ("renew", "stale") and (answer := await renewal.renew(parts, asked, request, return_to)):
        return answer
    if not asked.original and not again and _session_at_hand(parts, asked.session, asked.site):
        return redirect(return_to)
    return _stop(parts, asked, request, return_to, again) or _start(parts, asked, request, return_to, again=again)


async def begin(request: web.Request) -> web.StreamResponse:
    """``/_wecom/begin/…`` on the callback host: sign a person in for another host, without WeCom where a session is at hand."""
    parts = request.app[LIVE].now
    asked = Asked.of(request, parts)
    onward = Begin.open(parts.sealer, request.match_info["begin"], now=parts.clock())
    if not _at_callback_host(parts, asked):
        raise LoginFailed("other-site", message=f"{asked.origin} is not the callback host", return_to=onward.return_to)
    session = None if onward.again else _session_at_hand(parts, asked.session, asked.site)
    if session is None:
        return _start(parts, asked, request, onward.return_to, onward=onward, again=onward.again)
    if parts.sessions.lifetimes.renewal_due(session, parts.clock()):
        session = await renewal.renewed(parts, session, return_to=onward.return_to)
    response = _hand_over(parts, session, onward)
    cookies.keep_session(response, asked.site, parts.sessions.seal(session), session, int(parts.clock()))
    return response


async def callback(request: web.Request) -> web.StreamResponse:
    """``/_wecom/callback/STATE``: from WeCom with a code, or from the callback host with a hand-over."""
    parts = request.app[LIVE].now
    asked = Asked.of(request, parts)
    try:
        sign_in = _sign_in(parts, asked, request)
    except LoginFailed as error:
        if _session_at_hand(parts, asked.session, asked.site):
            return redirect(error.return_to if error.return_to != "/" else asked.origin.url("/"))
        raise
    at_hand = _session_at_hand(parts, asked.session, asked.site)
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


async def enter(request: web.Request) -> web.StreamResponse:
    """``/_wecom/enter?to=/…``: the app's home in WeCom; signs in anew, silently, whoever holds the client now."""
    parts = request.app[LIVE].now
    asked = Asked.of(request, parts)
    return_to = _return_to(parts, asked, request.query.get("to", ""))
    in_wecom = client_of(asked.user_agent) in ("wecom", "private")
    if not in_wecom and _session_at_hand(parts, asked.session, asked.site):
        return redirect(return_to)
    return _stop(parts, asked, request, return_to, in_wecom) or _start(parts, asked, request, return_to, again=in_wecom)


def sign_in_url(return_to: str, *, again: bool = False) -> str:
    """The path that signs in and then goes to *return_to*; *again*: anew, whoever is signed in now."""
    return f"{PREFIX}/login?{_query(return_to=return_to, **({'again': '1'} if again else {}))}"


def redirect(url: str, status: int = 303) -> web.Response:
    """A redirect whose ``Location`` arrives to the letter, WeCom's fragment included, and is kept by no cache."""
    headers = {
        "Location": url,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Robots-Tag": "noindex",
    }
    return web.Response(status=status, headers=headers)


# ── before WeCom ───────────────────────────────────────────────────────────────────────────────────────────────────


def _return_to(parts: Parts, asked: Asked, outside: str) -> str:
    """Where to go after the sign-in: the page that was refused, or an address from outside that we may follow."""
    if asked.original:
        return asked.origin.url(asked.original)
    target = return_path(outside or "/", origin=asked.origin, sites=parts.sites.all)
    if target is None:
        log.warning("return address not followed: %r from %s", outside[:200], asked.address)
    return target or asked.origin.url("/")


def _stop(parts: Parts, asked: Asked, request: web.Request, return_to: str, again: bool) -> web.StreamResponse | None:
    """The pages that stand before a sign-in that would not help, or that nobody asked for."""
    now, site = parts.clock(), asked.site
    if _cookie_by_another_name(parts, asked, request):
        return _loop(parts, asked, "cookie-name", return_to)
    if asked.reason in _LOOPS and cookies.rounds(request, site, parts.sealer, now) >= cookies.MAX_ROUNDS:
        response = _loop(parts, asked, _LOOPS[asked.reason], return_to)
        cookies.forget_rounds(response, site)
        return response
    if client_of(asked.user_agent) == "wechat":
        return parts.pages.render("wechat", language=asked.language, status=401, url=return_to)
    if not again and cookies.is_signed_out(request, asked):
        return parts.pages.render(
            "signed_out",
            language=asked.language,
            status=401,
            login_url=asked.origin.url(sign_in_url(return_to, again=True)),
        )
    return None


def _cookie_by_another_name(parts: Parts, asked: Asked, request: web.Request) -> bool:
    """The browser holds our session, but nginx looks for a cookie of another name."""
    return not asked.session and bool(_session_at_hand(parts, request.cookies.get(asked.site.cookie_name, ""), asked.site))


def _loop(parts: Parts, asked: Asked, cause: str, return_to: str) -> web.StreamResponse:
    expected, found = asked.site.cookie_name, asked.cookie_name
    log.error(
        "a sign-in does not stick (%s): site %s at %s, refused as %s; cookie here %s, in nginx %s",
        cause, asked.site.name, asked.origin, asked.reason, expected, found,
    )  # fmt: skip
    parts.telemetry.signed_in("loop")
    return parts.pages.render(
        "loop", language=asked.language, status=500, cause=cause, expected=expected, found=found, retry_url=return_to
    )


def _start(
    parts: Parts,
    asked: Asked,
    request: web.Request,
    return_to: str,
    *,
    again: bool = False,
    onward: Begin | None = None,
) -> web.StreamResponse:
    now = int(parts.clock())
    cookie = request.cookies.get(cookies.browser_name(asked.site), "")
    browser = browser_nonce(parts.sealer, cookie, address=asked.address, user_agent=asked.user_agent, now=now)
    sign_in = SignIn(new_state(), asked.site.name, asked.origin.host, return_to, browser, now, again, onward)
    value = sign_in.seal(parts.sealer)
    if len(value) > MAX_COOKIE_BYTES:
        log.warning("return address of %s bytes is too long to be kept: %s…", len(return_to), return_to[:200])
        sign_in = replace(sign_in, return_to=asked.origin.url("/"))
        value = sign_in.seal(parts.sealer)
    target = _wecom_url(parts, asked, sign_in) if _at_callback_host(parts, asked) else _begin_url(parts, sign_in)
    response: web.StreamResponse
    if asked.document and asked.site.keep_fragment and onward is None:
        page = parts.pages.render("fragment", language=asked.language, status=401, target=target, state=sign_in.state)
        response = page
    else:
        response = redirect(target, status=302)
    cookies.keep_sign_in(response, asked.site, sign_in, value)
    return response


def _at_callback_host(parts: Parts, asked: Asked) -> bool:
    return asked.origin == parts.callback.origin


def _begin_url(parts: Parts, sign_in: SignIn) -> str:
    short = sign_in.return_to if len(sign_in.return_to) < 1000 else ""
    until = sign_in.started + LIFETIME_S
    begin = Begin(sign_in.site, sign_in.host, sign_in.state, sign_in.again, until, short)
    return parts.callback.origin.url(f"{PREFIX}/begin/{begin.seal(parts.sealer)}")


def _wecom_url(parts: Parts, asked: Asked, sign_in: SignIn) -> str:
    config, client = parts.config, client_of(asked.user_agent)
    redirect_uri = parts.callback.origin.url(sign_in.path)
    corp_id, agent_id, state = config.corp_id, config.agent_id, sign_in.state
    if client in ("wecom", "private"):
        return in_app_url(
            config.wecom.authorize_url,
            corp_id=corp_id,
            agent_id=agent_id,
            redirect_uri=redirect_uri,
            scope=config.scope,
            state=state,
        )
    base = config.wecom.login_url
    if config.wecom.private:
        return old_web_login_url(base, corp_id=corp_id, agent_id=agent_id, redirect_uri=redirect_uri, state=state)
    return web_login_url(
        base, corp_id=corp_id, agent_id=agent_id, redirect_uri=redirect_uri, state=state, language=asked.language
    )


def _unauthorized(parts: Parts, asked: Asked, request: web.Request) -> web.StreamResponse:
    """For scripts: never a redirect, which a fetch would follow to WeCom and die of CORS."""
    here = return_path(request.headers.get("Referer", ""), origin=asked.origin, sites=parts.sites.all)
    login_url = asked.origin.url(sign_in_url(here or "/"))
    body = {"error": "unauthorized", "reason": asked.reason or "no-session", "login_url": login_url}
    headers = {"Cache-Control": "no-store", "X-Robots-Tag": "noindex", "X-WeCom-Reason": body["reason"]}
    return web.json_response(body, status=401, headers=headers)


def _window(parts: Parts, asked: Asked, request: web.Request) -> web.StreamResponse:
    """For a form's POST or an iframe: sign in through a second window, so that nothing typed is lost."""
    ancestors = " ".join({str(site.at(host)) for site in parts.sites.all for host in site.hosts} | {"'self'"})
    return parts.pages.render(
        "window",
        language=asked.language,
        status=401,
        login_url=asked.origin.url(sign_in_url(f"{PREFIX}/done")),
        kind=_window_kind(asked, request),
        frame_ancestors=ancestors,
    )


def _window_kind(asked: Asked, request: web.Request) -> str:
    """``frame`` reloads, ``form`` sends the form again, ``foreign`` does neither.

    A form that another site posted came without our cookie (SameSite=Lax); sent again by our page it would carry it.
    """
    if request.headers.get("X-WeCom-Method", "GET") in ("GET", "HEAD"):
        return "frame"
    site = request.headers.get("Sec-Fetch-Site")
    own = site == "same-origin" if site else request.headers.get("Origin") == str(asked.origin)
    return "form" if own else "foreign"


# ── after WeCom ────────────────────────────────────────────────────────────────────────────────────────────────────


def _sign_in(parts: Parts, asked: Asked, request: web.Request) -> SignIn:
    """The sign-in that this callback belongs to, or LoginFailed."""
    state = request.match_info["state"]
    if not is_state(state) or request.query.get("state", state) != state:
        raise LoginFailed("bad-request", message="the state in path and query differ")
    value = request.cookies.get(cookies.sign_in_name(asked.site), "")
    if not value:
        raise LoginFailed("no-cookie", message="the callback came without the cookie of its sign-in")
    browser = request.cookies.get(cookies.browser_name(asked.site), "")
    sign_in = SignIn.open(parts.sealer, value, state=state, browser=browser, now=parts.clock())
    if (sign_in.site, sign_in.host) != (asked.site.name, asked.origin.host):
        raise LoginFailed("other-browser", message="the sign-in was started at another site")
    return sign_in


async def _completed(parts: Parts, asked: Asked, request: web.Request, sign_in: SignIn) -> Session:
    """The session that the code or the hand-over gives; the same one twice within 60 s gives the first result."""
    if text := request.query.get("handover"):
        hand_over = HandOver.open(parts.sealer, text, host=asked.origin.host, state=sign_in.state, now=parts.clock())
        session = await parts.once.run(f"hand-over {hand_over.id}", lambda: _handed_over(parts, asked, hand_over))
        return _in_force(parts, session)
    code = request.query.get("code", "")
    if not code:
        raise LoginFailed("no-code", message="WeCom sent no code: refused or cancelled")
    key = parts.sealer.digest("code", f"{sign_in.state} {code}")
    return _in_force(parts, await parts.once.run(f"code {key}", lambda: _exchanged(parts, asked, code)))


def _in_force(parts: Parts, session: Session) -> Session:
    """The session, unless its person signed out since, or it was revoked while WeCom was asked."""
    if reason := parts.standing.ended(session):
        raise LoginFailed(reason)
    return session


async def _exchanged(parts: Parts, asked: Asked, code: str) -> Session:
    session = await admission.session_for(parts, code, site=asked.site.name)
    log.info("signed-in %s at %s from %s, session %s", session.member.user_id, asked.site.name, asked.address, session.id)
    return session


async def _handed_over(parts: Parts, asked: Asked, hand_over: HandOver) -> Session:
    try:
        session = parts.sessions.from_claims(hand_over.session)
        parts.standing.check(session)
    except SignInNeeded as error:
        raise LoginFailed("hand-over", message=f"the session handed over is {error.reason}") from error
    if session.site != asked.site.name:
        raise LoginFailed("hand-over", message="the session handed over is for another site")
    log.info(
        "signed-in %s at %s from %s, session %s, handed over",
        session.member.user_id,
        asked.site.name,
        asked.address,
        session.id,
    )
    return session


def _hand_over(parts: Parts, session: Session, onward: Begin) -> web.StreamResponse:
    """Send the person on to the host they came from, with a session for it."""
    site = _known(parts, onward)
    now = int(parts.clock())
    lifetimes = parts.sessions.lifetimes
    own = replace(
        session,
        id=secrets.token_urlsafe(12),
        site=site.name,
        ends=min(session.ends, lifetimes.ends(session.issued, now)),
    )
    sealed = HandOver(own.id, now + HAND_OVER_S, onward.host, onward.state, parts.sessions.to_claims(own)).seal(parts.sealer)
    return redirect(site.at(onward.host).url(f"{PREFIX}/callback/{onward.state}?{_query(handover=sealed)}"))


def _known(parts: Parts, onward: Begin) -> Site:
    site = parts.sites.named(onward.site)
    if site is None or onward.host not in site.hosts:
        raise LoginFailed("hand-over", message=f"{onward.host} is no host of site {onward.site} any more")
    return site


def _onward(parts: Parts, asked: Asked, request: web.Request, sign_in: SignIn, session: Session) -> web.StreamResponse:
    """After the sign-in: to the host it was for, or to the page first asked for."""
    return _hand_over(parts, session, sign_in.onward) if sign_in.onward else _arrive(parts, asked, request, sign_in)


def _arrive(parts: Parts, asked: Asked, request: web.Request, sign_in: SignIn) -> web.StreamResponse:
    """The page first asked for, its fragment put back by a page of ours where there was one.

    Inside the client the empty fragment replaces WeCom's ``#wechat_redirect``, which a browser carries through redirects
    and an app with routes in the fragment would take for one of its own.
    """
    if "wecom_fragment" in request.cookies:
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


def _session_at_hand(parts: Parts, value: str, site: Site) -> Session | None:
    """The session in *value* if it lets its member in right now."""
    try:
        session = parts.sessions.open(value, site=site.name)
        parts.standing.check(session)
    except SignInNeeded:
        return None
    return session


def _query(**items: str) -> str:
    return urlencode(items, quote_via=quote, safe="/")
