"""The public port: the API and the pages, and the log of everything that arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import quote, unquote

from aiohttp import web

from gateway.sandbox import addresses, contacts, identity, weblogin
from gateway.sandbox.api import STATE, STOPPING, Checked
from gateway.sandbox.authorize import authorize
from gateway.sandbox.looks import LOOKS, Looks, explain
from gateway.sandbox.state import Logged, State

AGENT = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)  Mobile/15E148"
    " wxwork/4.1.30 MicroMessenger/7.0.1 Language/zh ColorScheme/Light wwmver/3.26.13.714"
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def log(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Keep what arrived, in its raw form, and how it was answered."""
    state, at = request.app[STATE], request.app[STATE].now()
    status, errcode = 500, None
    try:
        response = await handler(request)
        status, errcode = response.status, _errcode(request, response)
    except web.HTTPException as error:
        status = error.status
        raise
    else:
        return response
    finally:
        state.requests.append(await _logged(request, at, status, errcode))


def _errcode(request: web.Request, response: web.StreamResponse) -> int | None:
    if not request.path.startswith("/cgi-bin/") or response.content_type != "application/json":
        return None
    return int(response.headers.get("Error-Code", "0"))


async def _logged(request: web.Request, at: float, status: int, errcode: int | None) -> Logged:
    raw_query = addresses.raw_query_of(request.raw_path)
    body = await request.read() if request.body_exists and request.content.exception() is None else b""
    return Logged(
        at=at,
        method=request.method,
        path=request.path,
        raw_query=raw_query,
        redirect_uri=addresses.raw_value(raw_query, "redirect_uri"),
        query=addresses.decoded(raw_query),
        headers=dict(request.headers),
        body=body.decode(errors="replace"),
        remote=request.remote or "",
        status=status,
        errcode=errcode,
    )


async def phone(request: web.Request) -> web.Response:
    """Show, or take, who holds the WeCom client."""
    state = request.app[STATE]
    if request.method == "POST":
        key = str((await request.post()).get("member", ""))
        response = web.Response(status=303, headers={"Location": "/"})
        if state.person(key) is not None:
            response.set_cookie("sandbox_member", quote(key, safe="@"), httponly=True, samesite="Lax")
        return response
    people = [*state.members.values(), *state.outsiders.values()]
    holder = unquote(request.cookies.get("sandbox_member", "")) or next(iter(state.members.values())).userid
    return request.app[LOOKS].show("phone", "phone", people=people, holder=holder, agent=AGENT)


def public_app(state: State, stopping: asyncio.Event) -> web.Application:
    """Build the public port's application."""
    application = web.Application(middlewares=[log, explain])
    application[STATE], application[STOPPING], application[LOOKS] = state, stopping, Looks()
    checked = [Checked(endpoint) for endpoint in (*identity.ENDPOINTS, *contacts.ENDPOINTS)]
    for one in (Checked(identity.GETTOKEN, opens_with_token=False), *checked):
        application.router.add_route("*", f"/cgi-bin/{one.endpoint.path}", one.__call__)
    application.add_routes(
        [
            web.get("/", phone),
            web.post("/", phone),
            web.get("/connect/oauth2/authorize", authorize),
            web.post("/connect/oauth2/authorize", authorize),
            web.get("/wwlogin/sso/login", weblogin.login_page),
            web.get("/wwopen/sso/qrConnect", weblogin.login_page),
            web.post("/wwlogin/sso/act", weblogin.act),
            web.get("/wwopen/sso/confirm2", weblogin.phone_page),
            web.post("/wwopen/sso/confirm2", weblogin.phone_answer),
            web.get("/wwopen/sso/l/qrConnect", weblogin.poll),
            web.get("/wwopen/sso/qrImg", weblogin.image),
        ]
    )
    return application
