"""Turn what a page's handler raised into a page that says why and what to do; nothing escapes as a bare error."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway import __version__, cookies, trail
from gateway.asked import Asked, language_of
from gateway.errors import (
    AppMisconfigured,
    Denied,
    GatewayError,
    LoginFailed,
    WeComBusy,
    WeComRefused,
    WeComUnreachable,
)
from gateway.keys import LIVE, Parts
from gateway.urls import sign_in_url

log = logging.getLogger(__name__)

_STATUS = {
    "bad-request": 400,
    "no-cookie": 400,
    "no-code": 400,
    "code-spent": 400,
    "other-browser": 400,
    "sign-in-expired": 400,
    "hand-over": 400,
    "break-glass": 400,
    "session-too-big": 500,
    "paused": 503,
    "unverified": 503,
    "wecom-busy": 503,
    "wecom-refused": 503,
    "wecom-setup": 503,
    "wecom-unreachable": 503,
    "internal": 500,
}
"""HTTP status of a failed page by its reason; 403 for every refusal of a known person."""

_UNCACHED = {"Cache-Control": "no-store", "X-Robots-Tag": "noindex"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error with a page: 404 for unknown addresses, the reason for the rest."""
    parts = request.app[LIVE].now
    _compare_versions(request, parts)
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status not in (404, 405):
            return _failed(request, parts, Denied("bad-request", message=error.reason))
        return parts.pages.render("not_found", language=language_of(request, parts), status=404)
    except GatewayError as error:
        return _failed(request, parts, error)
    except Exception:
        log.exception("internal: %s failed", request.match_info.route.name or "a page")
        return _failed(request, parts, GatewayError())


def _compare_versions(request: web.Request, parts: Parts) -> None:
    """Warn where nginx's snippets came with another gateway: members may come without an identity then, or not at all."""
    found = request.headers.get("X-WeCom-Snippets", "")
    if found != __version__ and "X-WeCom-Address" in request.headers:  # else it is not nginx that asks
        theirs = f"version {found!r}" if found else "an older version"
        fix = "to fix: `wecom-gateway nginx install DIR`, then reload nginx; restart gateways that are older"
        parts.telemetry.warn_once("snippets", f"nginx's snippets are of {theirs}, this gateway is {__version__!r}; {fix}")


def _failed(request: web.Request, parts: Parts, error: GatewayError) -> web.StreamResponse:
    if isinstance(error, Denied) and _from_a_script(request):  # the check has said so in the log
        return web.json_response({"error": "forbidden", "reason": error.reason}, status=403, headers=_UNCACHED)
    reference = secrets.token_hex(4)
    level = logging.ERROR if isinstance(error, AppMisconfigured) or error.reason == "account-taken" else logging.WARNING
    fix = f"; to fix: {error.fix}" if isinstance(error, (WeComBusy, WeComRefused)) and error.fix else ""
    log.log(level, "%s%s [%s]: %s%s", error.reason, _who(request, error), reference, error, fix)
    parts.telemetry.signed_in(error.reason)
    response = parts.pages.render(
        "failed",
        language=language_of(request, parts),
        status=_STATUS.get(error.reason, 403),
        reason=error.reason,
        retry_url=_retry(request, parts, error),
        reference=reference,
        missing=error.missing if isinstance(error, LoginFailed) else "",
        contact=parts.config.contact,
    )
    if isinstance(error, LoginFailed) and error.user_id:
        asked = Asked.of(request, parts)
        trail.refused(parts, error.user_id, error.reason, asked=asked)
        cookies.forget_session(response, asked.site)  # a member who may not be here any more keeps none
    if isinstance(error, (WeComUnreachable, WeComBusy)):
        response.headers["Retry-After"] = "10"
    return response


def _from_a_script(request: web.Request) -> bool:
    """A refused request that can show no page: an image, a fetch, whatever looks for holes at an address without a name."""
    headers = request.headers
    return "X-WeCom-Original-Uri" in headers and not {"X-WeCom-Navigation", "X-WeCom-Window"} & headers.keys()


def _who(request: web.Request, error: GatewayError) -> str:
    """`` zhangsan from 192.0.2.7``, as far as known."""
    member = error.user_id if isinstance(error, LoginFailed) else ""
    address = request.headers.get("X-WeCom-Address", "")
    return (f" {member}" if member else "") + (f" from {address}" if address else "")


def _retry(request: web.Request, parts: Parts, error: GatewayError) -> str:
    """The one way on: sign in again, back to the page first asked for; on its own host, if it is another."""
    return_to = request.query.get("return_to", "/") if error.return_to == "/" else error.return_to
    for site in parts.sites.all:
        for host in site.hosts:
            origin = str(site.at(host))
            if return_to.startswith(f"{origin}/"):
                return origin + sign_in_url(return_to.removeprefix(origin), again=True)
    return sign_in_url("/", again=True)
