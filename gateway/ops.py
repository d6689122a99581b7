"""The ops listener, never proxied: is it alive, is it ready, what does it count."""

from __future__ import annotations

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gateway.keys import LIVE, Live, Parts


async def healthz(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def readyz(request: web.Request) -> web.Response:
    """200 once this process answers checks, with what weakens it; 503 while it waits for the ledger."""
    parts = request.app[LIVE].now
    ready = parts.ledger.ready
    body = {"ready": ready, "sites": [site.name for site in parts.sites.all], "problems": problems(parts)}
    return web.json_response(body, status=200 if ready else 503)


def problems(parts: Parts) -> list[str]:
    """What an operator should look at, a sentence each; nobody's access waits for it."""
    failing = parts.watch.failing
    unread = [f"re-check: members cannot be read again: {failing}"] if failing else []
    return [*parts.ledger.problems, *parts.wecom.problems, *parts.hold.problems(), *unread, *parts.rules.problems()]


async def metrics(request: web.Request) -> web.Response:
    parts = request.app[LIVE].now
    parts.telemetry.problems(len(problems(parts)))
    body = generate_latest(parts.telemetry.registry)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


def application(live: Live) -> web.Application:
    app = web.Application()
    app[LIVE] = live
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    return app
