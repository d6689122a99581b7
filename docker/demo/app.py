"""Something to protect: the demo's old application, which shows what reached it; here for the compose network."""

from aiohttp import web

from gateway.demo.app import show

app = web.Application()
app.router.add_route("*", "/{path:.*}", show)
web.run_app(app, host="0.0.0.0", port=3000, access_log=None)  # noqa: S104 - inside its own container
