"""Set and clear our cookies: HttpOnly, SameSite=Lax, Secure wherever the public URL is https."""

from __future__ import annotations

from aiohttp import web

from gateway.asked import Asked
from gateway.sealing import Forged, Sealer
from gateway.session import Session
from gateway.signin import SignIn
from gateway.urls import Site

SIGNED_OUT_S = 30 * 86400
ROUNDS_S = 60
SIGN_IN_KEPT_S = 3600
"""The cookie outlives the sign-in (10 minutes), so that whoever scans late is told so and led back to the page asked for.

The browser's nonce goes with it: a like browser behind the same address may have got the same one (``browser_nonce``).
"""

ROUNDS = "rounds"
MAX_ROUNDS = 2


def sign_in_name(site: Site) -> str:
    """Its path keeps it apart from every other sign-in; ``__Host-`` would demand ``Path=/``."""
    return "__Secure-wecom_signin" if site.origin.secure else "wecom_signin"


def browser_name(site: Site) -> str:
    return "__Host-wecom_browser" if site.origin.secure else "wecom_browser"


def received(request: web.Request, name: str) -> str:
    """Give the value of our cookie *name*, empty without it; the header is read as browsers write it (RFC 6265, 4.2.1).

    ``request.cookies`` also takes blanks for separators: ``a=1 __Host-wecom_browser=x``, which any neighbouring host may set
    for a whole domain, would pass for the cookie that it must not be able to set. Of several the first counts, as in nginx:
    a browser sends that of the longest path first, and so ours before a neighbour's.
    """
    for pair in request.headers.get("Cookie", "").split(";"):
        own, _, value = pair.partition("=")
        if own.strip(" \t") == name:
            return value.strip(" \t")
    return ""


def keep_session(response: web.StreamResponse, site: Site, value: str, session: Session, now: int) -> None:
    _set(response, site, site.cookie_name, value, max_age=max(1, session.ends - now), domain=site.cookie_domain or None)


def keep_sign_in(response: web.StreamResponse, site: Site, sign_in: SignIn, value: str) -> None:
    _set(response, site, sign_in_name(site), value, max_age=SIGN_IN_KEPT_S, path=sign_in.path)
    _set(response, site, browser_name(site), sign_in.browser, max_age=SIGN_IN_KEPT_S)


def sign_out(response: web.StreamResponse, site: Site) -> None:
    """Drop the session, and ask for a press of "sign in" before the next one."""
    forget_session(response, site)
    forget_rounds(response, site)
    _set(response, site, site.cookie("signed_out"), "1", max_age=SIGNED_OUT_S)


def forget_session(response: web.StreamResponse, site: Site) -> None:
    _set(response, site, site.cookie_name, "", max_age=0, domain=site.cookie_domain or None)


def signed_in_again(response: web.StreamResponse, site: Site) -> None:
    _set(response, site, site.cookie("signed_out"), "", max_age=0)


def count_round(response: web.StreamResponse, request: web.Request, site: Site, sealer: Sealer, now: int) -> None:
    """Remember that a sign-in was completed just now: the second within a minute that leads back here is one too many."""
    value = sealer.sign(ROUNDS, [rounds(request, site, sealer, now) + 1, now])
    _set(response, site, site.cookie(ROUNDS), value, max_age=ROUNDS_S)


def forget_rounds(response: web.StreamResponse, site: Site) -> None:
    _set(response, site, site.cookie(ROUNDS), "", max_age=0)


def rounds(request: web.Request, site: Site, sealer: Sealer, now: float) -> int:
    """How many sign-ins this browser completed within the last minute, one after the other."""
    try:
        count, at = sealer.verify(ROUNDS, received(request, site.cookie(ROUNDS)))
        return int(count) if now < at + ROUNDS_S else 0
    except (Forged, TypeError, ValueError):
        return 0


def is_signed_out(request: web.Request, asked: Asked) -> bool:
    return bool(received(request, asked.site.cookie("signed_out")))


def _set(
    response: web.StreamResponse,
    site: Site,
    name: str,
    value: str,
    *,
    max_age: int,
    path: str = "/",
    domain: str | None = None,
) -> None:
    response.set_cookie(
        name, value, max_age=max_age, path=path, domain=domain, secure=site.origin.secure, httponly=True, samesite="Lax"
    )
