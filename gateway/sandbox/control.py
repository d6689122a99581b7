"""The control port: JSON for tests and demos, on a port of its own, and a console for people."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway.sandbox import directory
from gateway.sandbox.api import STATE
from gateway.sandbox.changes import ChangeError, Changes, MissingError, assign
from gateway.sandbox.events import Delivery, Outbox, subscription
from gateway.sandbox.faults import Fault
from gateway.sandbox.looks import LOOKS, Looks
from gateway.sandbox.state import State, plain
from gateway.sandbox.wire import CHANGES, OUTBOX, answer, as_json, sent

PUBLIC_URL = web.AppKey("PUBLIC_URL", str)

PATHS = {
    "members": "GET all; members/ID: GET, PATCH with WeCom's field names, PUT, DELETE; events follow",
    "departments": "GET all; departments/ID: GET, PATCH, PUT, DELETE",
    "tags": "GET all; tags/ID: GET, PATCH, PUT, DELETE",
    "app": "GET, PATCH: secret, enabled, trusted_ips, oauth_domain, weblogin_domain, allow_users, ...",
    "app/secret": "POST resets the secret",
    "app/callback": "PUT {url, token, aes_key}: saved only after the URL check; DELETE",
    "apps": "GET all; apps/AGENTID: as app",
    "switches": "GET, PATCH: behaviours of the real WeCom that differ or are not documented",
    "limits": "GET, PATCH: frequency limits; DELETE forgets what was counted",
    "faults": "GET; POST {path, kind, errcode, times, seconds, after, ...}; DELETE clears",
    "tokens": "GET; DELETE ends every access token early",
    "consents": "GET; DELETE forgets them",
    "clock": "GET; POST {set: UNIX_SECONDS} or {advance: SECONDS}",
    "requests": "GET, GET ?path=/cgi-bin/gettoken; DELETE forgets them",
    "outbox": "GET deliveries; POST {again: NUMBER} sends a duplicate, {event, userid} sends an event",
}


async def overview(request: web.Request) -> web.Response:
    """List what there is."""
    state, base = request.app[STATE], f"{request.scheme}://{request.host}/_sandbox/"
    return answer(
        {
            "url": request.app[PUBLIC_URL],
            "corp_id": state.corp_id,
            "agent_id": state.agent_id,
            "secret": state.secret,
            "oauth_domain": state.app.oauth_domain,
            "now": state.now(),
            "paths": {base + path: text for path, text in PATHS.items()},
        }
    )


async def switches(request: web.Request) -> web.Response:
    state = request.app[STATE]
    if request.method == "PATCH":
        wanted = await sent(request)
        suspended = wanted.pop("suspended", state.suspended)
        assign(state.switches, wanted)
        state.suspended = bool(suspended)
    return answer(plain(state.switches) | {"suspended": state.suspended})


async def limits(request: web.Request) -> web.Response:
    state = request.app[STATE]
    if request.method == "PATCH":
        assign(state.limits, await sent(request))
    elif request.method == "DELETE":
        state.counters.windows.clear()
    return answer(plain(state.limits))


async def faults(request: web.Request) -> web.Response:
    state = request.app[STATE]
    if request.method == "DELETE":
        state.faults.clear()
    elif request.method == "POST":
        try:
            state.faults.append(Fault(**await sent(request)))
        except (TypeError, ValueError, AttributeError) as error:
            raise ChangeError(f"not a fault: {error}") from error
    return answer([plain(fault) for fault in state.faults])


async def tokens(request: web.Request) -> web.Response:
    state = request.app[STATE]
    if request.method == "DELETE":
        state.revoke_tokens()
    return answer(
        [
            {"agent_id": token.app.agent_id, "expires_at": token.expires_at, "revoked": token.revoked}
            for token in state.tokens.values()
        ]
    )


async def consents(request: web.Request) -> web.Response:
    state = request.app[STATE]
    if request.method == "DELETE":
        state.consents.clear()
    return answer(
        [{"userid": userid, "agent_id": agent_id, **plain(consent)} for (userid, agent_id), consent in state.consents.items()]
    )


async def clock(request: web.Request) -> web.Response:
    """Tell the time, set it, or move it on."""
    state = request.app[STATE]
    if request.method == "POST":
        wanted = await sent(request)
        (name, value), *rest = list(wanted.items()) or [("", None)]
        if rest or name not in ("set", "advance") or isinstance(value, bool) or not isinstance(value, int | float):
            raise ChangeError('{"set": UNIX_SECONDS} or {"advance": SECONDS}')
        state.offset = value - state.clock() if name == "set" else state.offset + value
    return answer({"now": state.now(), "offset": state.offset})


async def requests(request: web.Request) -> web.Response:
    state = request.app[STATE]
    if request.method == "DELETE":
        state.requests.clear()
    path = request.query.get("path", "")
    logged = [one for one in state.requests if path in ("", one.path)]
    counts: dict[str, int] = {}
    for one in state.requests:
        counts[one.path] = counts.get(one.path, 0) + 1
    return answer({"counts": counts, "requests": [plain(one) for one in logged]})


async def outbox(request: web.Request) -> web.Response:
    box, state = request.app[OUTBOX], request.app[STATE]
    if request.method == "POST":
        wanted = await sent(request)
        if "again" in wanted:
            box.start(_delivery(box, wanted["again"]))
        else:
            event, userid = str(wanted.get("event", "enter_agent")), str(wanted.get("userid", ""))
            box.send(state.app, subscription(state.app, userid, event, state.now()), state.now())
    return answer([plain(delivery) for delivery in box.deliveries])


def _delivery(box: Outbox, number: Any) -> Delivery:
    found = next((one for one in box.deliveries if one.number == number), None)
    if found is None:
        raise MissingError(f"no delivery {number}")
    return found


ROUTES = (
    ("GET", "", overview),
    ("GET PATCH", "switches", switches),
    ("GET PATCH DELETE", "limits", limits),
    ("GET POST DELETE", "faults", faults),
    ("GET DELETE", "tokens", tokens),
    ("GET DELETE", "consents", consents),
    ("GET POST", "clock", clock),
    ("GET DELETE", "requests", requests),
    ("GET POST", "outbox", outbox),
)


async def console(request: web.Request) -> web.Response:
    """Show what the control port does to a person: the app, its callback, the members, the clock, the log."""
    return request.app[LOOKS].show("console", "console")


def control_app(state: State, box: Outbox, public_url: str) -> web.Application:
    """Build the control port's application."""
    application = web.Application(middlewares=[as_json])
    application[STATE], application[OUTBOX], application[PUBLIC_URL] = state, box, public_url
    application[CHANGES], application[LOOKS] = Changes(state, box.send), Looks()
    application.router.add_get("/", console)
    for methods, path, handler in (*ROUTES, *directory.ROUTES):
        for method in methods.split():
            application.router.add_route(method, f"/_sandbox/{path}", handler)
    return application
