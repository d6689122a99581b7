"""Sign in, the way there: from a refusal, or a link of ours, to WeCom."""

from __future__ import annotations

import logging
from dataclasses import replace

from aiohttp import web

from gateway import cookies, renewal
from gateway.asked import Asked
from gateway.errors import LoginFailed, SignInNeeded
from gateway.keys import LIVE, Parts
from gateway.session import Session
from gateway.signin import LIFETIME_S, MAX_COOKIE_BYTES, Begin, SignIn, browser_nonce, new_state
from gateway.urls import PREFIX, Site, client_of, in_app_url, old_web_login_url, return_path, sign_in_url, web_login_url

log = logging.getLogger(__name__)

_LOOPS = {
    "no-session": "cookie-lost",
    "renew": "cookie-lost",
    "stale": "cookie-lost",
    "unverified": "clock",
    "forged": "keys",
    "expired": "clock",
    "other-site": "site",
    "revoked": "clock",
    "idle": "clock",
}
"""What it means when a browser that just signed in twice is refused again for this reason."""


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
    if asked.reason == "blocked":
        raise LoginFailed("blocked", return_to=return_to, user_id=_blocked_member(parts, asked))
    if asked.reason in ("renew", "stale", "unverified") and (answer := await renewal.renew(parts, asked, request, return_to)):
        return answer
    if not asked.original and not again and (answer := await _straight_on(parts, asked, request, return_to)):
        return answer
    return _stop(parts, asked, request, return_to, again) or start(parts, asked, request, return_to, again=again)


async def enter(request: web.Request) -> web.StreamResponse:
    """``/_wecom/enter?to=/…``: the app's home in WeCom; signs in anew, silently, whoever holds the client now."""
    parts = request.app[LIVE].now
    asked = Asked.of(request, parts)
    return_to = _return_to(parts, asked, request.query.get("to", ""))
    in_wecom = client_of(asked.user_agent) in ("wecom", "private")
    if not in_wecom and (answer := await _straight_on(parts, asked, request, return_to)):
        return answer
    return _stop(parts, asked, request, return_to, in_wecom) or start(parts, asked, request, return_to, again=in_wecom)


async def _straight_on(parts: Parts, asked: Asked, request: web.Request, return_to: str) -> web.StreamResponse | None:
    """For who has a session: there at once, the member read again first where a script or a form may have been refused
    for want of that. None where a sign-in is due."""
    reason = renewal.wanted(parts, asked)
    if reason and (answer := await renewal.renew(parts, replace(asked, reason=reason), request, return_to)):
        return answer
    if not session_at_hand(parts, asked.session, asked.site):
        return None
    if reason:
        raise LoginFailed("wecom-unreachable", message=f"read twice within a minute, and still {reason}", return_to=return_to)
    return redirect(return_to)


def redirect(url: str, status: int = 303) -> web.Response:
    """A redirect whose ``Location`` arrives to the letter, WeCom's fragment included, and is kept by no cache."""
    headers = {
        "Location": url,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Robots-Tag": "noindex",
    }
    return web.Response(status=status, headers=headers)


def session_at_hand(parts: Parts, value: str, site: Site) -> Session | None:
    """The session in *value* if it lets its member in right now."""
    try:
        session = parts.sessions.open(value, site=site.name)
        parts.standing.check(session)
    except SignInNeeded:
        return None
    return session


def _blocked_member(parts: Parts, asked: Asked) -> str:
    """Whose session it is that the check refused; empty where it cannot be read any more."""
    try:
        return parts.sessions.genuine(asked.session).user_id
    except SignInNeeded:
        return ""


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
    return not asked.session and bool(session_at_hand(parts, cookies.received(request, asked.site.cookie_name), asked.site))


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


def start(
    parts: Parts,
    asked: Asked,
    request: web.Request,
    return_to: str,
    *,
    again: bool = False,
    onward: Begin | None = None,
) -> web.StreamResponse:
    now = int(parts.clock())
    cookie = cookies.received(request, cookies.browser_name(asked.site))
    browser = browser_nonce(parts.sealer, cookie, address=asked.address, user_agent=asked.user_agent, now=now)
    sign_in = SignIn(new_state(now), asked.site.name, asked.origin.host, return_to, browser, now, again, onward)
    value = sign_in.seal(parts.sealer)
    if len(value) > MAX_COOKIE_BYTES:
        log.warning("return address of %s bytes is too long to be kept: %s…", len(return_to), return_to[:200])
        sign_in = replace(sign_in, return_to=asked.origin.url("/"))
        value = sign_in.seal(parts.sealer)
    target = _wecom_url(parts, asked, sign_in) if at_callback_host(parts, asked) else _begin_url(parts, sign_in)
    response: web.StreamResponse
    if asked.document and asked.site.keep_fragment and onward is None:
        page = parts.pages.render("fragment", language=asked.language, status=401, target=target, state=sign_in.state)
        response = page
    else:
        response = redirect(target, status=302)
    cookies.keep_sign_in(response, asked.site, sign_in, value)
    return response


def at_callback_host(parts: Parts, asked: Asked) -> bool:
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
    headers |= parts.sites.readable(request.headers.get("Origin", ""))
    if request.headers.get("X-WeCom-Challenge", "").lower() == "basic" and "Sec-Fetch-Dest" not in request.headers:
        headers["WWW-Authenticate"] = 'Basic realm="WeCom", charset="UTF-8"'  # in a browser it would open a dialog
    return web.json_response(body, status=401, headers=headers)


def _window(parts: Parts, asked: Asked, request: web.Request) -> web.StreamResponse:
    """For a form's POST or an iframe: sign in through a second window, so that nothing typed is lost."""
    ancestors = " ".join(parts.sites.origins | {"'self'"})
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
