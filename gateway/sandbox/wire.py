"""The control port's manners: JSON in and out, mistakes in words, nobody else's web page."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from gateway.sandbox.changes import ChangeError, Changes, MissingError
from gateway.sandbox.crypto import EnvelopeError
from gateway.sandbox.events import Outbox, UrlCheckError

OUTBOX = web.AppKey("OUTBOX", Outbox)
CHANGES = web.AppKey("CHANGES", Changes)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_OWN_NAMES = ("127.0.0.1", "[::1]", "localhost")


@web.middleware
async def as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer mistakes in JSON; refuse what a web page of another origin or name sends."""
    name = re.sub(r":[0-9]*$", "", request.host)
    if name not in _OWN_NAMES or request.headers.get("Origin", f"http://{request.host}") != f"http://{request.host}":
        return problem(403, "only from this machine, and from no other page")
    try:
        return await handler(request)
    except MissingError as error:
        return problem(404, str(error))
    except (ChangeError, UrlCheckError, EnvelopeError) as error:
        return problem(400, str(error))
    except web.HTTPException as error:
        return problem(error.status, error.reason)


def problem(status: int, text: str) -> web.Response:
    return answer({"error": text}, status)


def answer(value: Any, status: int = 200) -> web.Response:
    text = json.dumps(value, ensure_ascii=False, indent=1, default=list) + "\n"
    return web.Response(status=status, text=text, content_type="application/json")


async def sent(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.text() or "{}")
    except ValueError as error:
        raise ChangeError(f"not JSON: {error}") from error
    if not isinstance(body, dict):
        raise ChangeError("not a JSON object")
    return body
