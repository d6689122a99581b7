"""The control port's records: members, departments, tags, apps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.sandbox.api import STATE
from gateway.sandbox.changes import ChangeError, Changes, MissingError, assign
from gateway.sandbox.crypto import Envelope, decode_key
from gateway.sandbox.state import App, State, plain
from gateway.sandbox.wire import CHANGES, OUTBOX, answer, sent


@dataclass(frozen=True, slots=True)
class Collection:
    """Handlers for one kind of record: members, departments or tags."""

    listed: Callable[[State], list[Any]]
    found: Callable[[State, str], Any]
    change: Callable[[Changes, str, Mapping[str, Any]], Any]
    put: Callable[[Changes, str, Mapping[str, Any]], Any]
    remove: Callable[[Changes, str], None]

    async def all(self, request: web.Request) -> web.Response:
        return answer([plain(one) for one in self.listed(request.app[STATE])])

    async def one(self, request: web.Request) -> web.Response:
        state, changes, key = request.app[STATE], request.app[CHANGES], request.match_info["id"]
        match request.method:
            case "PATCH":
                self._existing(state, key)
                return answer(plain(self.change(changes, key, await sent(request))))
            case "PUT":
                return answer(plain(self.put(changes, key, await sent(request))))
            case "DELETE":
                self.remove(changes, key)
                return answer({})
            case _:
                return answer(plain(self._existing(state, key)))

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


def _chosen(request: web.Request) -> App:
    state = request.app[STATE]
    key = request.match_info.get("id")
    if key is None:
        return state.app
    app = state.find_app(state.corp_id, _number(key))
    if app is None:
        raise MissingError(f"no app {key}")
    return app


async def apps(request: web.Request) -> web.Response:
    return answer([plain(app) for app in request.app[STATE].apps])


async def app(request: web.Request) -> web.Response:
    chosen = _chosen(request)
    if request.method == "PATCH":
        wanted = await sent(request)
        if wanted.keys() & {"callback_url", "callback_token", "callback_aes_key"}:
            raise ChangeError("PUT app/callback: the URL is checked before it is saved")
        request.app[CHANGES].change_app(chosen, wanted)
    return answer(plain(chosen))


async def app_secret(request: web.Request) -> web.Response:
    chosen = _chosen(request)
    fresh = App(chosen.corp_id, chosen.agent_id, chosen.name).secret
    request.app[CHANGES].change_app(chosen, {"secret": fresh})
    return answer({"secret": fresh})


async def app_callback(request: web.Request) -> web.Response:
    """Save the callback, after the check that WeCom's console makes; or remove it."""
    chosen, state = _chosen(request), request.app[STATE]
    if request.method == "DELETE":
        assign(chosen, {"callback_url": "", "callback_token": "", "callback_aes_key": ""})
        return answer({})
    wanted = await sent(request)
    url, token, aes_key = (str(wanted.get(name, "")) for name in ("url", "token", "aes_key"))
    if not url.startswith(("http://", "https://")) or not (token.isalnum() and len(token) <= 32):
        raise ChangeError("url is http(s); token is at most 32 letters and digits")
    decode_key(aes_key)
    await request.app[OUTBOX].check_url(url, Envelope(token, aes_key, chosen.corp_id), state.now())
    assign(chosen, {"callback_url": url, "callback_token": token, "callback_aes_key": aes_key})
    return answer({"url": url})


ROUTES = (
    ("GET", "members", MEMBERS.all),
    ("GET PATCH PUT DELETE", "members/{id:.+}", MEMBERS.one),
    ("GET", "departments", DEPARTMENTS.all),
    ("GET PATCH PUT DELETE", "departments/{id}", DEPARTMENTS.one),
    ("GET", "tags", TAGS.all),
    ("GET PATCH PUT DELETE", "tags/{id}", TAGS.one),
    ("GET", "apps", apps),
    ("GET PATCH", "app", app),
    ("POST", "app/secret", app_secret),
    ("PUT DELETE", "app/callback", app_callback),
    ("GET PATCH", "apps/{id}", app),
    ("POST", "apps/{id}/secret", app_secret),
    ("PUT DELETE", "apps/{id}/callback", app_callback),
)
