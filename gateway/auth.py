"""The subrequest ``/_wecom/auth``: 204, 401 or 403, whatever arrives; in memory, no waiting.

The answer depends on the rule in the path, the session or the machine's token, the site and its host, and whether the
browser navigates or asks by a CORS preflight; nginx reduces what the client sent to these (``http.conf``), so nothing else
is looked at.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from multidict import istr

from gateway import rules
from gateway.empty import Empty
from gateway.errors import Denied, SignInNeeded
from gateway.keys import Live
from gateway.member import PACKED, encode, packed_answer, separate_answer
from gateway.session import Seen
from gateway.tokens import Known

log = logging.getLogger(__name__)

HOST, SITE, SESSION = istr("Host"), istr("X-WeCom-Site"), istr("X-WeCom-Session")
TOKEN = istr("X-WeCom-Token")
NAVIGATION, PREFLIGHT = istr("X-WeCom-Navigation"), istr("X-WeCom-Preflight")


def checker(live: Live) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """Make the handler of the check listener; it looks at *live* anew for each request, so a reload takes effect."""

    async def auth(request: web.BaseRequest) -> web.StreamResponse:
        """Answer nginx's subrequest: 204 and who it is, 401 and why to sign in, 403 and why not."""
        now, asked = live.now, request.headers
        how, again = asked.get(PACKED, ""), False  # ``1``, then the name of nginx's cache
        tell = packed_answer if how else separate_answer
        try:
            rule = now.rules.parse(request.raw_path)
            site = now.sites.find(asked.get(SITE, ""), asked.get(HOST, ""))
            if site.preflight and PREFLIGHT in asked:
                now.telemetry.checked(204, "preflight")
                return Empty(204, tell(), last=live.leaving)  # let through as nobody
            if TOKEN in asked:  # it alone decides, whatever session came along
                seen: Seen | Known = now.tokens.seen(asked[TOKEN], site=site.name, rule=rule)
            else:
                value = asked.get(SESSION, "")
                again = len(how) > 1 and now.sessions.lately(value)
                seen = now.sessions.seen(value, site=site.name, navigation=NAVIGATION in asked)
                now.standing.check(seen)
                if seen.admitted is not rule:
                    rules.check(seen, rule)
                    seen.admit(rule)
            proof = seen.proof.at(now.clock()) if seen.proof else ""
            told = tell("", "", seen.identity, proof)
        except SignInNeeded as needed:
            return refusal(401, needed.reason, tell(needed.reason, encode(needed.rule)))
        except Denied as denied:
            if denied.reason != "rule":
                now.telemetry.warn_once(f"{denied.reason} {denied.rule}", f"{denied.reason}: {denied}")
            return refusal(403, denied.reason, tell(denied.reason, encode(denied.rule)))
        except Exception:
            log.exception("internal: the check failed")
            return refusal(403, "internal", tell("internal"))
        now.telemetry.checked(204)
        if again and now.config.cache and type(seen) is Seen and not now.sessions.due(seen, moment := now.clock()):
            told += f"X-Accel-Expires: @{int(moment)}\r\n"  # to the end of this second, for pages and images alike
        return Empty(204, told, last=live.leaving)

    def refusal(status: int, reason: str, told: str) -> web.StreamResponse:
        live.now.telemetry.checked(status, reason)
        return Empty(status, told, last=live.leaving)

    return auth
