"""The subrequest ``/_wecom/auth``: 204, 401 or 403, whatever arrives; in memory, no waiting.

The answer depends on the rule in the path, the session or the machine's token, the site and its host, and whether the
browser navigates or asks by a CORS preflight; nginx reduces what the client sent to these (``http.conf``), so nothing else
is looked at.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import hdrs, web
from multidict import istr

from gateway import rules
from gateway.errors import Denied, SignInNeeded
from gateway.keys import Live
from gateway.member import JWT, PACKED, encode, identity_headers
from gateway.session import Seen
from gateway.tokens import Known

log = logging.getLogger(__name__)

HOST, SITE, SESSION = istr("Host"), istr("X-WeCom-Site"), istr("X-WeCom-Session")
TOKEN = istr("X-WeCom-Token")
NAVIGATION, PREFLIGHT = istr("X-WeCom-Navigation"), istr("X-WeCom-Preflight")
EXPIRES = istr("X-Accel-Expires")
REASON, RULE = istr("X-WeCom-Reason"), istr("X-WeCom-Rule")


def checker(live: Live) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """Make the handler of the check listener; it looks at *live* anew for each request, so a reload takes effect."""

    async def auth(request: web.BaseRequest) -> web.StreamResponse:
        """Answer nginx's subrequest: 204 and who it is, 401 and why to sign in, 403 and why not."""
        now, asked = live.now, request.headers
        try:
            rule = now.rules.parse(request.raw_path)
            site = now.sites.find(asked.get(SITE, ""), asked.get(HOST, ""))
            if site.preflight and PREFLIGHT in asked:
                now.telemetry.checked(204, "preflight")
                return answer(204)  # let through as nobody: no identity header at all
            if TOKEN in asked:  # it alone decides, whatever session came along
                seen: Seen | Known = now.tokens.seen(asked[TOKEN], site=site.name, rule=rule)
            else:
                seen = now.sessions.seen(asked.get(SESSION, ""), site=site.name, navigation=NAVIGATION in asked)
                now.standing.check(seen)
                rules.check(seen, rule)
            response = answer(204, {PACKED: seen.identity} if PACKED in asked else identity_headers(seen.identity))
            if seen.proof:
                response.headers[JWT] = seen.proof.at(now.clock())
        except SignInNeeded as needed:
            return refusal(401, needed.reason, needed.rule)
        except Denied as denied:
            if denied.reason != "rule":
                now.telemetry.warn_once(f"{denied.reason} {denied.rule}", f"{denied.reason}: {denied}")
            return refusal(403, denied.reason, denied.rule)
        except Exception:
            log.exception("internal: the check failed")
            return refusal(403, "internal")
        now.telemetry.checked(204)
        if now.config.cache:
            response.headers[EXPIRES] = f"@{int(now.clock())}"  # to the end of this second; only cache.conf heeds it
        return response

    def refusal(status: int, reason: str, rule: str = "") -> web.StreamResponse:
        live.now.telemetry.checked(status, reason)
        headers: dict[str, str] = {hdrs.CONTENT_LENGTH: "0", REASON: reason}
        if rule:
            headers[RULE] = encode(rule)
        return answer(status, headers)

    def answer(status: int, headers: Mapping[str, str] | None = None) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers=headers)  # web.Response, with its body, costs a tenth of a check
        if live.leaving:
            response.force_close()
        return response

    return auth
