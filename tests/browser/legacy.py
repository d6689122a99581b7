"""The unmodified application behind nginx: pages, forms, frames and a script-driven page; it remembers what was posted."""

from __future__ import annotations

import html
from dataclasses import dataclass, field

from aiohttp import web

SPA = """<!doctype html><meta charset=utf-8><title>spa</title><h1>spa</h1><pre id=log></pre><script>
fetch('/api/items', {headers: {Accept: 'application/json'}}).then(async answer => {
  const text = await answer.text();
  document.getElementById('log').textContent = answer.status + ' ' + text;
  if (answer.status === 401 && location.search !== '?stay') location.href = JSON.parse(text).login_url + location.hash;
}, error => { document.getElementById('log').textContent = 'died: ' + error; });
</script>"""

WORKER = "onfetch = event => event.respondWith(fetch(event.request)); onactivate = event => event.waitUntil(clients.claim());"

FORM = """<h1>{path}</h1><p>user: <b id=user>{user_id}</b></p><a id=link href='{to}'>link</a>
<form method=post action='{to}'><input id=text name=text><input name=kept value='a&amp;b %26 张'>
<button id=send>send</button></form>"""


@dataclass(frozen=True, slots=True)
class Post:
    """A form as it arrived."""

    user_id: str
    fields: dict[str, str]
    origin: str


@dataclass(slots=True)
class Legacy:
    """The app, and what reached it."""

    posts: list[Post] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)  #: raw URIs of pages, in the order they arrived
    headers: dict[str, str] = field(default_factory=dict)  #: of the last page

    def application(self) -> web.Application:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", self.answer)
        return app

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """``/public/spa`` is driven by a script, ``…/framing?src=…`` frames a page, ``…/form?to=…`` posts to one.

        ``/worker.js`` is a service worker through which every request of its pages goes.
        """
        user_id = request.headers.get("X-WeCom-UserId", "")
        if request.path.startswith("/api/"):
            return web.json_response({"user_id": user_id})
        if request.path == "/worker.js":
            return web.Response(text=WORKER, content_type="text/javascript")
        if request.method == "POST":
            return await self._posted(request, user_id)
        self.asked.append(request.raw_path)
        self.headers = dict(request.headers)
        to = html.escape(request.query.get("to", ""))
        if request.path.endswith("/spa"):
            return _page(SPA)
        if request.path.endswith("/framing"):
            return _page(f"<h1>framing</h1><iframe src='{to}' width=600 height=600></iframe>")
        return _page(FORM.format(path=html.escape(request.path), user_id=user_id, to=to))

    async def _posted(self, request: web.Request, user_id: str) -> web.Response:
        fields = {name: str(value) for name, value in (await request.post()).items()}
        self.posts.append(Post(user_id, fields, request.headers.get("Origin", "")))
        return _page(f"<h1>saved</h1><b id=user>{user_id}</b>")


def _page(text: str) -> web.Response:
    return web.Response(text=f"<!doctype html><meta charset=utf-8><link rel=icon href='data:,'>{text}", content_type="text/html")
