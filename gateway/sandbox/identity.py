"""Tokens, codes and tickets: who is calling, and who signed in."""

from __future__ import annotations

import secrets

from gateway.sandbox.answers import RefusedError
from gateway.sandbox.api import Call, Endpoint, Fields
from gateway.sandbox.organisation import sees
from gateway.sandbox.state import CODE_S, TICKET_S, TOKEN_S, App, Code, Member, Outsider, State, Ticket, Token

DEFAULT_AVATAR = "https://rescdn.qqmail.example/node/wwmng/wwmng/style/images/independent/DefaultAvatar.png"


def gettoken(call: Call) -> Fields:
    """Give the app's token: the same one while it is good."""
    state, remote = call.state, call.remote
    if state.counters.blocked(f"secret {remote}", now=state.now(), window_s=3600):
        raise RefusedError(45009)
    app = _app_of_secret(state, call.query.get("corpid", ""), call.query.get("corpsecret", ""), remote)
    now = state.now()
    current = None if state.switches.rotate_tokens else _current_token(state, app, now)
    value = current or secrets.token_urlsafe(160)
    if current is None:
        state.tokens[value] = Token(app, now + TOKEN_S)
    return {"access_token": value, "expires_in": int(state.tokens[value].expires_at - now)}


def _app_of_secret(state: State, corp_id: str, secret: str, remote: str) -> App:
    if not corp_id:
        raise RefusedError(41002)
    if not secret:
        raise RefusedError(41004)
    if corp_id not in {app.corp_id for app in state.apps}:
        raise RefusedError(40013)
    owner = next((app for app in state.apps if app.secret == secret), None)
    if owner is not None and owner.corp_id != corp_id:
        raise RefusedError(40091)
    if owner is None:
        limit = state.limits.wrong_secrets_hour
        banned = state.counters.add(f"secret {remote}", now=state.now(), window_s=3600, limit=limit)
        raise RefusedError(45009 if banned else 40001)
    if not owner.enabled:
        raise RefusedError(40001)
    return owner


def _current_token(state: State, app: App, now: float) -> str | None:
    good = (value for value, token in state.tokens.items() if token.app is app and not token.revoked)
    return next((value for value in good if now < state.tokens[value].expires_at), None)


def getuserinfo(call: Call) -> Fields:
    """Say who came back with this code: a member, in scope or not, or an openid."""
    code = _spend_code(call)
    person = code.person
    if isinstance(person, Outsider) and not person.userid:
        return {"openid": person.openid} | _external(call, person)
    answer: Fields = {"userid": spelled(call.state, person.userid)}
    if isinstance(person, Member) and code.private_fields is not None and sees(call.state, call.app, person):
        answer["user_ticket"] = _new_ticket(call, person, code.private_fields)
    return answer


def old_getuserinfo(call: Call) -> Fields:
    """Give the same in the capitalised names of the first generation."""
    answer = getuserinfo(call)
    names = {"userid": "UserId", "openid": "OpenId"}
    renamed: Fields = {names.get(name, name): value for name, value in answer.items()}
    lifetime: Fields = {"expires_in": TICKET_S} if "user_ticket" in answer else {}
    return renamed | {"DeviceId": ""} | lifetime


def _spend_code(call: Call) -> Code:
    """Use up the code; one of another app's domain is not consumed."""
    value = call.query.get("code", "")
    if not value:
        raise RefusedError(41008)
    state, app = call.state, call.app
    code = state.codes.get(value)
    if code is None or code.used or state.now() >= code.issued_at + CODE_S or code.corp_id != app.corp_id:
        raise RefusedError(40029)
    if code.agent_id not in (0, app.agent_id) or code.domain not in domains(app):
        raise RefusedError(50001)
    code.used = True
    return code


def domains(app: App) -> set[str]:
    """Return the host[:port]s that may receive this app's codes."""
    return {domain.lower() for domain in (app.oauth_domain, app.weblogin_domain) if domain}


def spelled(state: State, userid: str) -> str:
    """Give a user id as WeCom spells it, or in the other letter case where that is asked for."""
    return userid.swapcase() if state.switches.other_case else userid


def _external(call: Call, person: Outsider) -> Fields:
    follower = call.state.member(person.follower)
    if not person.external_userid or follower is None or not sees(call.state, call.app, follower):
        return {}
    return {"external_userid": person.external_userid}


def _new_ticket(call: Call, member: Member, fields: tuple[str, ...]) -> str:
    value = secrets.token_urlsafe(96)
    call.state.tickets[value] = Ticket(call.app, member.userid, fields, call.state.now())
    return value


def getuserdetail(call: Call) -> Fields:
    """Give the private fields that the admin ticked and the member agreed to."""
    value = call.body.get("user_ticket")
    if not value:
        raise RefusedError(84090)
    ticket = call.state.tickets.get(str(value))
    if ticket is None or ticket.app is not call.app:
        raise RefusedError(84015)
    if call.state.now() >= ticket.issued_at + TICKET_S:
        raise RefusedError(84014)
    member = call.state.member(ticket.userid)
    if member is None or not sees(call.state, call.app, member):
        raise RefusedError(92000)
    granted = {name: getattr(member, name) for name in ticket.fields if name in call.app.sensitive_fields}
    return {"userid": spelled(call.state, member.userid), "gender": "0", "avatar": DEFAULT_AVATAR} | granted


GETTOKEN = Endpoint("gettoken", gettoken)
ENDPOINTS = (
    Endpoint("auth/getuserinfo", getuserinfo, sync=48002),
    Endpoint("user/getuserinfo", old_getuserinfo, sync=48002),
    Endpoint("auth/getuserdetail", getuserdetail, method="POST", sync=48002),
    Endpoint("user/getuserdetail", getuserdetail, method="POST", sync=48002),
)
