"""What the pages listener answers: every address below ``/_wecom/``, and who answers it."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway import callback, events, glass, handover, login, people
from gateway.answers import explain
from gateway.keys import LIVE, Live
from gateway.turns import in_turn
from gateway.urls import PREFIX

ROUTES = (
    web.get(f"{PREFIX}/login", people.sign_in_or_denied),
    web.get(f"{PREFIX}/begin/{{begin}}", handover.begin),
    web.get(f"{PREFIX}/callback/{{state}}", callback.callback),
    web.get(f"{PREFIX}/enter", login.enter),
    web.get(f"{PREFIX}/denied", people.denied),
    web.get(f"{PREFIX}/done", people.done),
    web.get(f"{PREFIX}/logout", people.ask_logout),
    web.post(f"{PREFIX}/logout", people.logout),
    web.get(f"{PREFIX}/me", people.me),
    web.get(f"{PREFIX}/glass/{{glass}}", glass.ask),
    web.post(f"{PREFIX}/glass/{{glass}}", glass.enter),
    web.get(f"{PREFIX}/events", events.check),
    web.post(f"{PREFIX}/events", events.receive),
    web.get(f"{PREFIX}/jwks.json", people.jwks),
    web.get("/{name:WW_verify_.+}", people.verify_file),
)


def application(live: Live) -> web.Application:
    """The application behind the pages listener."""
    app = web.Application(middlewares=[in_turn(), _at_work, explain], client_max_size=64 * 1024)
    app[LIVE] = live
    app.add_routes(ROUTES)
    app.on_response_prepare.append(_last_when_leaving)
    return app


@web.middleware
async def _at_work(request: web.Request, handler: Handler) -> web.StreamResponse:
    with request.app[LIVE].now.in_use:
        return await handler(request)


async def _last_when_leaving(request: web.Request, response: web.StreamResponse) -> None:
    if request.app[LIVE].leaving:
        response.force_close()
