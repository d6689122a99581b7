"""Pages about the person and the refusal: who am I, sign out, denied, done; and the domain verification file."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from gateway import cookies, login, trail, wording
from gateway.asked import Asked
from gateway.errors import Denied
from gateway.keys import LIVE
from gateway.login import redirect, session_at_hand
from gateway.renewal import not_over
from gateway.session import Session
from gateway.urls import PREFIX, Origin, ascii_path, sign_in_url

_REFUSED = frozenset(("rule", "bad-rule", "no-account", "internal"))
"""Reasons of the check's 403: no sign-in would change the answer."""


async def sign_in_or_denied(request: web.Request) -> web.StreamResponse:
    """``@wecom_login``, where a refusal may come as well: with ``satisfy any``, auth_basic's 401 covers our 403.

    A sign-in would lead back there without end.
    """
    asked = Asked.of(request, request.app[LIVE].now)
    return await (denied if asked.original and asked.reason in _REFUSED else login.login)(request)


async def me(request: web.Request) -> web.StreamResponse:
    """``/_wecom/me``: this session, as a page or, by ``Accept``, as JSON; 401 without one."""
    parts = request.app[LIVE].now
    asked = Asked.of(request, parts)
    session = session_at_hand(parts, asked.session, asked.site)
    wants_json = "application/json" in request.headers.get("Accept", "") or "json" in request.query
    if session is None:
        if not wants_json and asked.navigation:
            return redirect(asked.origin.url(sign_in_url(f"{PREFIX}/me")), status=302)
        return web.json_response({"error": "unauthorized", "reason": "no-session"}, status=401, headers=_PRIVATE)
    if wants_json:
        return web.json_response(_about(session), headers=_PRIVATE)
    member = {key: _readable(key, value) for key, value in _about(session).items()}
    return parts.pages.render("me", language=asked.language, member=member, logout=asked.origin.url(f"{PREFIX}/logout"))


async def denied(request: web.Request) -> web.StreamResponse:
    """What ``@wecom_denied`` shows: who you are, why not, whom to ask, another account; neutral for a 403 that is not ours."""
    parts = request.app[LIVE].now
    asked = Asked.of(request, parts)
    if not asked.reason:
        return parts.pages.render("neutral", language=asked.language, status=403)
    session = session_at_hand(parts, asked.session, asked.site)
    rule = unquote(asked.rule)
    member = session.member if session else None
    if asked.reason == "rule" and member:
        trail.refused(parts, member.user_id, "rule", asked=asked, rule=rule)
    if not asked.navigation and not asked.window:
        body = {"error": "forbidden", "reason": asked.reason, "rule": rule}
        headers = _PRIVATE | parts.sites.readable(request.headers.get("Origin", ""))
        return web.json_response(body, status=403, headers=headers)
    return parts.pages.render(
        "denied",
        language=asked.language,
        status=403,
        reason=asked.reason,
        user_id=member.user_id if member else "",
        name=member.name if member else "",
        rule=rule if asked.reason in ("rule", "bad-rule") else "",
        asks=wording.asked(parts.rules, rule) if asked.reason in ("rule", "bad-rule") else (),
        contact=parts.config.contact,
        switch_url=asked.origin.url(sign_in_url(ascii_path(asked.original or "/"), again=True)),
        frame_ancestors="'self'",
    )


async def ask_logout(request: web.Request) -> web.StreamResponse:
    """GET ``/_wecom/logout`` asks first: a link or an image must sign nobody out."""
    parts = request.app[LIVE].now
    asked = Asked.of(request, parts)
    session = not_over(parts, asked)
    if session is None:
        url = asked.origin.url(sign_in_url("/", again=True))
        return parts.pages.render("signed_out", language=asked.language, login_url=url, later="later" in request.query)
    member = session.member
    return parts.pages.render(
        "logout", language=asked.language, user_id=member.user_id, name=member.name, action=f"{PREFIX}/logout"
    )


async def logout(request: web.Request) -> web.StreamResponse:
    """POST ``/_wecom/logout`` ends this session, with ``everywhere=1`` every session of the member."""
    parts = request.app[LIVE].now
    asked = Asked.of(request, parts)
    if not from_our_page(request, asked.origin):
        raise Denied("bad-request", message="sign-out was posted by another site")
    session, later = not_over(parts, asked), ""
    if session:
        everywhere = b"everywhere=1" in (await request.read()).split(b"&")
        later = "" if await trail.signed_out(parts, asked, session, everywhere=everywhere) or not everywhere else "?later=1"
    response = redirect(asked.origin.url(f"{PREFIX}/logout{later}"))
    cookies.sign_out(response, asked.site)
    response.headers["Clear-Site-Data"] = '"cache"'  # or Back would show the pages of who signed out; browsers heed it on https
    return response


async def done(request: web.Request) -> web.StreamResponse:
    """``/_wecom/done``: the second window's last page; it tells the first one and closes."""
    parts = request.app[LIVE].now
    return parts.pages.render("done", language=Asked.of(request, parts).language)


async def verify_file(request: web.Request) -> web.StreamResponse:
    """``/WW_verify_….txt`` of a trusted domain: the 16 characters of its name, and only for configured names."""
    parts = request.app[LIVE].now
    name = request.match_info["name"]
    if name not in parts.config.verify_files:
        raise web.HTTPNotFound
    return web.Response(text=name.removeprefix("WW_verify_").removesuffix(".txt"))


async def jwks(request: web.Request) -> web.StreamResponse:
    """``/_wecom/jwks.json``: the public keys of ``X-WeCom-Jwt``, the same at every site; 404 where no site asks for it."""
    published = request.app[LIVE].now.prover.published
    if not published:
        raise web.HTTPNotFound
    return web.json_response(
        {"keys": published}, headers={"Cache-Control": f"public, max-age={_KEYS_S}", "X-Robots-Tag": "noindex"}
    )


_KEYS_S = 300
_PRIVATE = {"Cache-Control": "no-store", "X-Robots-Tag": "noindex"}


def _about(session: Session) -> dict[str, Any]:
    member = session.member
    return {
        "user_id": member.user_id,
        "name": member.name,
        "account": session.account,
        "corp_id": session.corp_id,
        "departments": list(session.departments),
        "site": session.site,
        "issued": session.issued,
        "renewed": session.renewed,
        "ends": session.ends,
    }


def _readable(key: str, value: Any) -> str:
    if key in ("issued", "renewed", "ends"):
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value))
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def from_our_page(request: web.Request, origin: Origin) -> bool:
    """Whether a form was sent by a page of this host, not by another site."""
    site = request.headers.get("Sec-Fetch-Site", "")
    if site:
        return site in ("same-origin", "none")
    return request.headers.get("Origin", str(origin)) == str(origin)
