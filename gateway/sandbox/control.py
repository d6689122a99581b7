"""The control port: JSON for tests and demos, on a port of its own."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.sandbox.api import STATE
from gateway.sandbox.changes import ChangeError, Changes, MissingError, assign
from gateway.sandbox.crypto import Envelope, EnvelopeError, decode_key
from gateway.sandbox.events import Outbox, UrlCheckError, subscription
from gateway.sandbox.faults import Fault
from gateway.sandbox.state import App, State, plain

OUTBOX = web.AppKey("OUTBOX", Outbox)
CHANGES = web.AppKey("CHANGES", Changes)
PUBLIC_URL = web.AppKey("PUBLIC_URL", list[str])

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

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


@web.middleware
async def as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer mistakes in JSON; refuse what a web page of another origin sends."""
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"{request.scheme}://{request.host}":
        return _problem(403, "not from another origin")
    try:
        return await handler(request)
    except MissingError as error:
        return _problem(404, str(error))
    except (ChangeError, UrlCheckError, EnvelopeError) as error:
        return _problem(400, str(error))
    except web.HTTPException as error:
        return _problem(error.status, error.reason)


def _problem(status: int, text: str) -> web.Response:
    return _json({"error": text}, status)


def _json(answer: Any, status: int = 200) -> web.Response:
    text = json.dumps(answer, ensure_ascii=False, indent=1, default=list) + "\n"
    return web.Response(status=status, text=text, content_type="application/json")


async def _sent(request: web.Request) -> dict[str, Any]:
    try:
        sent = json.loads(await request.text() or "{}")
    except ValueError as error:
        raise ChangeError(f"not JSON: {error}") from error
    if not isinstance(sent, dict):
        raise ChangeError("not a JSON object")
    return sent


async def overview(request: web.Request) -> web.Response:
    """List what there is."""
    state, base = request.app[STATE], f"{request.scheme}://{request.host}/_sandbox/"
    return _json(
        {
            "url": request.app[PUBLIC_URL][0],
            "corp_id": state.corp_id,
            "agent_id": state.agent_id,
            "secret": state.secret,
            "oauth_domain": state.app.oauth_domain,
            "now": state.now(),
            "paths": {base + path: text for path, text in PATHS.items()},
        }
    )


@dataclass(frozen=True, slots=True)
class Collection:
    """Handlers for one kind of record: members, departments or tags."""

    listed: Callable[[State], list[Any]]
    found: Callable[[State, str], Any]
    change: Callable[[Changes, str, Mapping[str, Any]], Any]
    put: Callable[[Changes, str, Mapping[str, Any]], Any]
    remove: Callable[[Changes, str], None]

    async def all(self, request: web.Request) -> web.Response:
        return _json([plain(one) for one in self.listed(request.app[STATE])])

    async def one(self, request: web.Request) -> web.Response:
        state, changes, key = request.app[STATE], request.app[CHANGES], request.match_info["id"]
        match request.method:
            case "PATCH":
                self._existing(state, key)
                return _json(plain(self.change(changes, key, await _sent(request))))
            case "PUT":
                return _json(plain(self.put(changes, key, await _sent(request))))
            case "DELETE":
                self.remove(changes, key)
                return _json({})
            case _:
                return _json(plain(self._existing(state, key)))

    def _existing(self, state: State, key: str) -> Any:
        record = self.found(state, key)
        if record is None:
            raise MissingError(f"no {key}")
        return record


def _number(key: str) -> int:
    if not (key.isascii() and key.isdecimal()):
        raise MissingError(f"no {key}")
    return int(key)


MEMBERS = Collection(
    listed=lambda state: list(state.members.values()),
    found=State.member,
    change=Changes.change_member,
    put=Changes.put_member,
    remove=Changes.remove_member,
)
DEPARTMENTS = Collection(
    listed=lambda state: list(state.departments.values()),
    found=lambda state, key: state.departments.get(_number(key)),
    change=lambda changes, key, wanted: changes.keep_department(_number(key), wanted),
    put=lambda changes, key, wanted: changes.keep_department(_number(key), wanted),
    remove=lambda changes, key: changes.remove_department(_number(key)),
)
TAGS = Collection(
    listed=lambda state: list(state.tags.values()),
    found=lambda state, key: state.tags.get(_number(key)),
    change=lambda changes, key, wanted: changes.keep_tag(_number(key), wanted),
    put=lambda changes, key, wanted: changes.keep_tag(_number(key), wanted),
    remove=lambda changes, key: changes.remove_tag(_number(key)),
)


def _app(request: web.Request) -> App:
    state = request.app[STATE]
    key = request.match_info.get("id")
    if key is None:
        return state.app
    app = state.find_app(state.corp_id, _number(key))
    if app is None:
        raise MissingError(f"no app {key}")
    return app


async def apps(request: web.Request) -> web.Response:
    return _json([plain(app) for app in request.app[STATE].apps])


async def app(request: web.Request) -> web.Response:
    chosen = _app(request)
    if request.method == "PATCH":
        sent = await _sent(request)
        if sent.keys() & {"callback_url", "callback_token", "callback_aes_key"}:
            raise ChangeError("PUT app/callback: the URL is checked before it is saved")
        request.app[CHANGES].change_app(chosen, sent)
    return _json(plain(chosen))


async def app_secret(request: web.Request) -> web.Response:
    chosen = _app(request)
    fresh = App(chosen.corp_id, chosen.agent_id, chosen.name).secret
    request.app[CHANGES].change_app(chosen, {"secret": fresh})
    return _json({"secret": fresh})


async def app_callback(request: web.Request) -> web.Response:
    """Save the callback, after the check that WeCom's console makes; or remove it."""
    chosen, state = _app(request), request.app[STATE]
    if request.method == "DELETE":
        assign(chosen, {"callback_url": "", "callback_token": "", "callback_aes_key": ""})
        return _json({})
    sent = await _sent(request)
    url, token, aes_key = (str(sent.get(name, "")) for name in ("url", "token", "aes_key"))
    if not url.startswith(("http://", "https://")) or not (token.isalnum() and len(token) <= 32):
        raise ChangeError("url is http(s); token is at most 32 letters and digits")
    decode_key(aes_key)
    await request.app[OUTBOX].check_url(url, Envelope(token, aes_key, chosen.corp_id), state.now())
    assign(chosen, {"callback_url": url, "callback_token": token, "callback_aes_key": aes_key})
    return _json({"url": url})


async def switches(request: web.Request) -> web.Response:
    state = request.app[STATE]
    if request.method == "PATCH":
        sent = await _sent(request)
        suspended = sent.pop("suspended", state.suspended)
        assign(state.switches, sent)
        state.suspended = bool(suspended)
    return _json(plain(state.switches) | {"suspended": state.suspended})


async def limits(request: web.Request) -> web.Response:
    state = request.app[STATE]
    if request.method == "PATCH":
        assign(state.limits, await _sent(request))
    elif request.method == "DELETE":
        state.counters.windows.clear()
    return _json(plain(state.limits))


async def faults(request: web.Request) -> web.Response:
    state = request.app[STATE]
    if request.method == "DELETE":
        state.faults.clear()
    elif request.method == "POST":
        try:
            state.faults.append(Fault(**await _sent(request)))
        except (TypeError, ValueError, AttributeError) as error:
            raise ChangeError(f"not a fault: {error}") from error
    return _json([plain(fault) for fault in state.faults])


async def tokens(request: web.Request) -> web.Response:
    state = request.app[STATE]
    if request.method == "DELETE":
        state.revoke_tokens()
    return _json(
        [
            {"agent_id": token.app.agent_id, "expires_at": token.expires_at, "revoked": token.revoked}
            for token in state.tokens.values()
        ]
    )


async def consents(request: web.Request) -> web.Response:
    state = request.app[STATE]
    if request.method == "DELETE":
        state.consents.clear()
    return _json(
        [
            {"userid": userid, "agent_id": agent_id, **plain(consent)}
            for (userid, agent_id), consent in state.consents.items()
        ]
    )


async def clock(request: web.Request) -> web.Response:
    """Tell the time, set it, or move it on."""
    state = request.app[STATE]
    if request.method == "POST":
        sent = await _sent(request)
        (name, value), *rest = list(sent.items()) or [("", None)]
        if rest or name not in ("set", "advance") or isinstance(value, bool) or not isinstance(value, int | float):
            raise ChangeError('{"set": UNIX_SECONDS} or {"advance": SECONDS}')
        state.offset = value - state.clock() if name == "set" else state.offset + value
    return _json({"now": state.now(), "offset": state.offset})


async def requests(request: web.Request) -> web.Response:
    state = request.app[STATE]
    if request.method == "DELETE":
        state.requests.clear()
    path = request.query.get("path", "")
    logged = [one for one in state.requests if path in ("", one.path)]
    counts: dict[str, int] = {}
    for one in state.requests:
        counts[one.path] = counts.get(one.path, 0) + 1
    return _json({"counts": counts, "requests": [plain(one) for one in logged]})


async def outbox(request: web.Request) -> web.Response:
    box, state = request.app[OUTBOX], request.app[STATE]
    if request.method == "POST":
        sent = await _sent(request)
        if "again" in sent:
            box.start(_delivery(box, sent["again"]))
        else:
            event, userid = str(sent.get("event", "enter_agent")), str(sent.get("userid", ""))
            box.send(state.app, subscription(state.app, userid, event, state.now()), state.now())
    return _json([plain(delivery) for delivery in box.deliveries])


def _delivery(box: Outbox, number: Any) -> Any:
    found = next((one for one in box.deliveries if one.number == number), None)
    if found is None:
        raise MissingError(f"no delivery {number}")
    return found


def _routes() -> list[web.RouteDef]:
    def at(methods: str, path: str, handler: Handler) -> list[web.RouteDef]:
        return [web.route(method, f"/_sandbox/{path}", handler) for method in methods.split()]

    records = [("members", MEMBERS), ("departments", DEPARTMENTS), ("tags", TAGS)]
    routes = [at("GET", "", overview), at("GET", "apps", apps)]
    for name, collection in records:
        routes += [at("GET", name, collection.all), at("GET PATCH PUT DELETE", f"{name}/{{id:.+}}", collection.one)]
    for name in ("app", "apps/{id}"):
        routes += [
            at("GET PATCH", name, app),
            at("POST", f"{name}/secret", app_secret),
            at("PUT DELETE", f"{name}/callback", app_callback),
        ]
    routes += [
        at("GET PATCH", "switches", switches),
        at("GET PATCH DELETE", "limits", limits),
        at("GET POST DELETE", "faults", faults),
        at("GET DELETE", "tokens", tokens),
        at("GET DELETE", "consents", consents),
        at("GET POST", "clock", clock),
        at("GET DELETE", "requests", requests),
        at("GET POST", "outbox", outbox),
    ]
    return [route for some in routes for route in some]


def control_app(state: State, box: Outbox, public_url: str) -> web.Application:
    """Build the control port's application."""
    application = web.Application(middlewares=[as_json])
    application[STATE], application[OUTBOX], application[PUBLIC_URL] = state, box, [public_url]
    application[CHANGES] = Changes(state, box.send)
    application.add_routes(_routes())
    return application
