"""The sandbox's own pages: templates, and the picture that stands for a QR code."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import jinja2
from aiohttp import web
from markupsafe import Markup


def _environment() -> jinja2.Environment:
    loader = jinja2.PackageLoader("gateway.sandbox")
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)


@dataclass(frozen=True, slots=True)
class Looks:
    """Renders pages; each says in ``X-Sandbox-Page`` which one it is."""

    templates: jinja2.Environment = field(default_factory=_environment)

    def show(self, template: str, page: str, **context: Any) -> web.Response:
        text = self.templates.get_template(f"{template}.html").render(page=page, **context)
        response = web.Response(text=text, content_type="text/html", charset="utf-8")
        response.headers.update({"X-Sandbox-Page": page, "Cache-Control": "no-store"})
        return response

    def notice(self, page: str, title: str, text: str = "") -> web.Response:
        """Show a page that ends here: no callback is made."""
        return self.show("notice", page, title=title, text=text)


LOOKS = web.AppKey("LOOKS", Looks)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class PageError(Exception):
    """A page instead of a callback; ``page`` is WeCom's err_type or a slug of ours."""

    def __init__(self, page: str, title: str, text: str = "") -> None:
        self.page, self.title, self.text = page, title, text
        super().__init__(page)


@web.middleware
async def explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn a PageError into the page where a sign-in ends."""
    try:
        return await handler(request)
    except PageError as error:
        return request.app[LOOKS].show("notice", error.page, title=error.title, text=error.text)


def picture(key: str) -> Markup:
    """Draw something like a QR code for the key: three finder squares and noise."""
    size = 29
    bits = "".join(f"{byte:08b}" for part in range(4) for byte in hashlib.sha256(f"{key}{part}".encode()).digest())
    dots = [
        f'<rect x="{x}" y="{y}" width="1" height="1"/>'
        for y in range(size)
        for x in range(size)
        if not _near_finder(x, y, size) and bits[(y * size + x) % len(bits)] == "1"
    ]
    finders = [_finder(x, y) for x, y in ((0, 0), (size - 7, 0), (0, size - 7))]
    return Markup(  # noqa: S704 - numbers and squares only
        f'<svg viewBox="-1 -1 {size + 2} {size + 2}" role="img" aria-label="QR">{"".join(dots + finders)}</svg>'
    )


def _near_finder(x: int, y: int, size: int) -> bool:
    return (x < 8 and y < 8) or (x >= size - 8 and y < 8) or (x < 8 and y >= size - 8)


def _finder(x: int, y: int) -> str:
    ring = f'<path d="M{x} {y}h7v7h-7zM{x + 1} {y + 1}v5h5v-5z"/>'
    return f'{ring}<rect x="{x + 2}" y="{y + 2}" width="3" height="3"/>'
