"""The desktop login: a page with a QR code, the phone that scans it, the quick login beside it."""

from __future__ import annotations

import json
import re
import secrets

from aiohttp import web

from gateway.sandbox import addresses
from gateway.sandbox.api import STATE
from gateway.sandbox.authorize import check_person, check_redirect, check_state, choose, go
from gateway.sandbox.identity import domains
from gateway.sandbox.looks import LOOKS, PageError, picture
from gateway.sandbox.organisation import sees
from gateway.sandbox.state import QR_S, App, Code, Member, Outsider, QrLogin, State

_CALLBACK_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,63}", re.ASCII)
_OPEN = ("QRCODE_SCAN_NEVER", "QRCODE_SCAN_ING")


async def login_page(request: web.Request) -> web.Response:
    """Show the QR code, after the checks of a real login page."""
    state = request.app[STATE]
    query = addresses.decoded(addresses.raw_query_of(request.raw_path))
    app = _app(state, query, current=request.path.startswith("/wwlogin/"))
    redirect_uri = check_redirect(state, request)
    check_state(state, query.get("state", ""))
    domain = addresses.domain_of(redirect_uri)
    if domain not in domains(app):
        raise PageError("domain_err", "redirect_uri 与配置的授权完成回调域名不一致", domain)
    login = QrLogin(app, redirect_uri, query.get("state", ""), request.raw_path, state.now())
    return _show(request, login)


def _app(state: State, query: dict[str, str], *, current: bool) -> App:
    agent_id = query.get("agentid", "")
    if current and query.get("login_type") != "CorpApp":
        raise PageError("param_err", "该链接无法访问", "login_type")
    app = state.find_app(query.get("appid", ""), int(agent_id)) if re.fullmatch("[0-9]{1,10}", agent_id) else None
    if app is None or app.kind != "self-built":
        raise PageError("param_err", "该链接无法访问", "appid, agentid")
    if not app.enabled:
        raise PageError("disabled-app", "应用已停用")
    return app


def _show(request: web.Request, login: QrLogin, message: str = "") -> web.Response:
    """Show a fresh QR code for this login."""
    state = request.app[STATE]
    key = secrets.token_hex(16)
    state.qr_logins[key] = login
    people = [*state.members.values(), *state.outsiders.values()]
    holder = state.person(request.cookies.get("sandbox_member", "")) or next(iter(state.members.values()))
    return request.app[LOOKS].show(
        "qr", "qr", key=key, qr=picture(key), app=login.app, people=people, holder=holder, message=message
    )


async def act(request: web.Request) -> web.Response:
    """Do what a button says: scan and confirm as somebody, quick login, cancel, or let the code expire."""
    state, form = request.app[STATE], await request.post()
    login = _find(state, str(form.get("key", "")))
    match form.get("action"):
        case "cancel":
            return _cancelled(request, login)
        case "expire":
            login.status = "QRCODE_SCAN_ERR"
            return _renewed(request, login, "二维码已失效，已换新码")
        case "quick":
            person = choose(request, state, {})
        case _:
            person = _named(state, str(form.get("member", "")))
    if not _is_open(state, login):
        return _renewed(request, login, "二维码已失效，已换新码")
    _confirm(state, login, person)
    return go(request, state, _address(state, login))


def _renewed(request: web.Request, login: QrLogin, message: str) -> web.Response:
    """Show a new code for the same login."""
    fresh = QrLogin(login.app, login.redirect_uri, login.state, login.query, request.app[STATE].now())
    return _show(request, fresh, message)


def _cancelled(request: web.Request, login: QrLogin) -> web.Response:
    login.status = "QRCODE_SCAN_FAIL"
    if not request.app[STATE].switches.cancel_redirects:
        return _renewed(request, login, "已取消登录")
    return go(request, request.app[STATE], addresses.callback(login.redirect_uri, [("state", login.state)]))


async def phone_page(request: web.Request) -> web.Response:
    """Show what a phone shows after scanning: who logs in where, confirm or cancel."""
    state = request.app[STATE]
    key = request.query.get("k", "")
    login = _find(state, key)
    person = choose(request, state, dict(request.query))
    if not _is_open(state, login):
        raise PageError("expired", "二维码已失效")
    _check_scope(state, login, person)
    login.status, login.person = "QRCODE_SCAN_ING", person
    return request.app[LOOKS].show("confirm", "confirm", key=key, app=login.app, person=person)


async def phone_answer(request: web.Request) -> web.Response:
    """Take the phone's answer; the page with the QR code hears of it by its poll."""
    state, form, looks = request.app[STATE], await request.post(), request.app[LOOKS]
    login = _find(state, str(form.get("key", "")))
    if login.status != "QRCODE_SCAN_ING" or login.person is None or not _is_open(state, login):
        raise PageError("expired", "二维码已失效")
    if form.get("action") != "confirm":
        login.status = "QRCODE_SCAN_FAIL"
        return looks.notice("cancelled", "已取消登录")
    _confirm(state, login, login.person)
    return looks.notice("confirmed", "已确认登录", "请回到电脑")


async def poll(request: web.Request) -> web.Response:
    """Tell the login page how far the scan is, as JSON or through the callback function it names."""
    state = request.app[STATE]
    login = state.qr_logins.get(request.query.get("key", ""))
    if login is not None and login.status in _OPEN and not _is_open(state, login):
        login.status = "QRCODE_SCAN_ERR"
    status = login.status if login is not None else "QRCODE_SCAN_ERR"
    answer = {"status": status, "auth_code": login.code if login is not None else ""}
    if login is not None and status in ("QRCODE_SCAN_SUCC", "QRCODE_SCAN_FAIL"):
        answer["location"] = _address(state, login)
    name = request.query.get("callback", "")
    if not _CALLBACK_NAME.fullmatch(name):
        return web.json_response(answer, headers={"Cache-Control": "no-store"})
    return web.Response(text=f"{name}({json.dumps(answer)})", content_type="text/javascript")


async def image(request: web.Request) -> web.Response:
    """Draw the QR code of a key."""
    return web.Response(text=str(picture(request.query.get("key", ""))), content_type="image/svg+xml")


def _find(state: State, key: str) -> QrLogin:
    login = state.qr_logins.get(key)
    if login is None:
        raise PageError("expired", "二维码已失效")
    return login


def _named(state: State, key: str) -> Member | Outsider:
    person = state.person(key)
    if person is None:
        raise PageError("nobody", "没有这个成员", key)
    return check_person(state, person)


def _is_open(state: State, login: QrLogin) -> bool:
    return login.status in _OPEN and state.now() < login.created_at + QR_S


def _check_scope(state: State, login: QrLogin, person: Member | Outsider) -> None:
    if isinstance(person, Member) and not sees(state, login.app, person):
        raise PageError("out-of-scope", "无权限", f"{person.name} 不在应用「{login.app.name}」的可见范围内")


def _confirm(state: State, login: QrLogin, person: Member | Outsider) -> None:
    _check_scope(state, login, person)
    domain = addresses.domain_of(login.redirect_uri)
    code = Code(person, login.app.corp_id, login.app.agent_id, domain, state.now())
    login.code, login.status, login.person = state.new_code(code), "QRCODE_SCAN_SUCC", person


def _address(state: State, login: QrLogin) -> str:
    """Return where the login page goes: code, state and appid, or the state alone."""
    if not login.code:
        return addresses.callback(login.redirect_uri, [("state", login.state)])
    answer = [("code", login.code), ("state", login.state), ("appid", login.app.corp_id)]
    return addresses.callback(login.redirect_uri, answer, extra=state.switches.extra_callback_query)
