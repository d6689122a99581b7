"""The ops listener, never proxied: is it alive, is it ready, what does it count."""

from __future__ import annotations

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gateway.keys import LIVE, Live


async def healthz(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def readyz(request: web.Request) -> web.Response:
    """200 once this process answers checks, with what weakens it; 503 while it waits for the ledger."""
    parts = request.app[LIVE].now
    ready, problems = parts.ledger.ready, [*parts.ledger.problems, *parts.hold.problems()]
    if parts.watch.failing:
        problems.append(f"re-check: members cannot be read again: {parts.watch.failing}")
    body = {"ready": ready, "sites": [site.name for site in parts.sites.all], "problems": problems}
    return web.json_response(body, status=200 if ready else 503)


async def metrics(request: web.Request) -> web.Response:
    body = generate_latest(request.app[LIVE].now.telemetry.registry)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


def application(live: Live) -> web.Application:
    app = web.Application()
    app[LIVE] = live
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    return app
