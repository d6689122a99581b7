"""The API under /cgi-bin/: which checks come in which order, for every endpoint alike."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.sandbox import faults
from gateway.sandbox.answers import RefusedError, refusal, success
from gateway.sandbox.state import App, State

Fields = dict[str, Any]

STATE = web.AppKey("STATE", State)
STOPPING = web.AppKey("STOPPING", asyncio.Event)


@dataclass(frozen=True, slots=True)
class Call:
    """One call that passed the general checks; ``app`` is whose token it carried."""

    state: State
    app: App
    query: dict[str, str]
    body: Fields
    remote: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One API; ``own``, ``sync``: the errcode for self-built apps, for the sync assistant; 0 where they may call."""

    path: str
    handle: Callable[[Call], Fields]
    method: str = "GET"
    own: int = 0
    sync: int = 0


@dataclass(frozen=True, slots=True)
class Checked:
    """An endpoint behind the checks of every call, in WeCom's order as far as it is known."""

    endpoint: Endpoint
    opens_with_token: bool = True

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        state = request.app[STATE]
        path, remote = self.endpoint.path, request.remote or ""
        text = await request.text()
        running = state.counters.running
        running[path] = running.get(path, 0) + 1
        try:
            fault = faults.take(state.faults, path, remote)
            if fault is None:
                return self._answer(request, text)
            spoiler = faults.Spoiler(
                request, lambda: self._answer(request, text), state.revoke_tokens, state.now(), request.app[STOPPING]
            )
            return await spoiler.spoil(fault)
        finally:
            running[path] -= 1

    def _answer(self, request: web.Request, text: str) -> web.Response:
        state = request.app[STATE]
        try:
            fields = self.endpoint.handle(self._call(request, text))
        except RefusedError as refused:
            return refusal(refused.errcode, refused.text, now=state.now(), remote=request.remote or "")
        if state.switches.unknown_fields:
            fields = {**fields, "sandbox_unknown": {"deep": [1, None, "新字段"]}}
        return success(fields)

    def _call(self, request: web.Request, text: str) -> Call:
        state, query, remote = request.app[STATE], dict(request.query), request.remote or ""
        app = app_of_token(state, query.get("access_token", "")) if self.opens_with_token else state.app
        _check_rate(state, self.endpoint.path, app, query, remote)
        if self.opens_with_token:
            _check_address(app, remote)
            refused = self.endpoint.sync if app.kind == "sync" else self.endpoint.own
            if refused:
                raise RefusedError(refused)
        return Call(state, app, query, _body(self.endpoint, request.method, text), remote)


def app_of_token(state: State, value: str) -> App:
    """Return the app whose token this is, while the token, the app and the corp are good."""
    if not value:
        raise RefusedError(41001)
    token = state.tokens.get(value)
    if token is None or token.revoked:
        raise RefusedError(40014)
    if state.now() >= token.expires_at:
        raise RefusedError(state.switches.expired_token_errcode)
    if not token.app.enabled:
        raise RefusedError(50003)
    if state.suspended:
        raise RefusedError(301007)
    return token.app


def _check_rate(state: State, path: str, app: App, query: dict[str, str], remote: str) -> None:
    """Count the call for its corp and API and for its address; a call with a code that is good is exempt."""
    code = state.codes.get(query.get("code", ""))
    if path.endswith("/getuserinfo") and code is not None and not code.used:
        return
    limits, now, api = state.limits, state.now(), f"{app.corp_id} {path}"
    windows = [
        (api, 60, limits.api_minute),
        (api, 3600, limits.api_hour),
        (remote, 60, limits.ip_minute),
        (remote, 3600, limits.ip_hour),
    ]
    if query.get("debug") == "1":
        windows.append(("debug", 60, limits.debug_minute))
    over = [state.counters.add(key, now=now, window_s=window_s, limit=limit) for key, window_s, limit in windows]
    if any(over):
        raise RefusedError(45009)
    if state.counters.running.get(path, 0) > limits.concurrent:
        raise RefusedError(45033)


def _check_address(app: App, remote: str) -> None:
    """Refuse an address that is not trusted; an old app without a list trusts all."""
    if remote not in app.trusted_ips and not (app.old and not app.trusted_ips):
        raise RefusedError(60020)


def _body(endpoint: Endpoint, method: str, text: str) -> Fields:
    if endpoint.method == "GET":
        return {}
    if method != "POST":
        raise RefusedError(40058, "invalid request method, should be POST")
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise RefusedError(40063, "Warning: wrong json format. some parameters are empty")
    return body
