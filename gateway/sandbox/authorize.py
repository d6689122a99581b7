"""The in-app authorize page: silent in the WeCom client, a consent page where private fields are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from aiohttp import web

from gateway.sandbox import addresses
from gateway.sandbox.api import STATE
from gateway.sandbox.looks import LOOKS, PageError
from gateway.sandbox.organisation import sees
from gateway.sandbox.state import CONSENT_S, App, Code, Consent, Member, Outsider, State

SCOPES = ("snsapi_base", "snsapi_privateinfo", "snsapi_userinfo")
FIELD_NAMES = {
    "gender": "性别",
    "avatar": "头像",
    "mobile": "手机号",
    "email": "邮箱",
    "biz_mail": "企业邮箱",
    "qr_code": "个人二维码",
    "address": "地址",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """An authorize request that passed the checks; ``private`` when the consent page applies."""

    app: App
    agent_id: int
    redirect_uri: str
    state: str
    private: bool
    person: Member | Outsider


async def authorize(request: web.Request) -> web.Response:
    """Sign in at once as the member of the ``sandbox_member`` cookie; ask first for private fields."""
    state, looks = request.app[STATE], request.app[LOOKS]
    query = addresses.decoded(addresses.raw_query_of(request.raw_path))
    asked = _asked(request, state, query)
    if state.switches.check_fragment and "sandbox_fragment" not in query:
        return looks.show("fragment", "fragment")
    fields = await _agreed(request, state, asked)
    if fields is None:
        names = {name: FIELD_NAMES[name] for name in asked.app.sensitive_fields}
        return looks.show("consent", "consent", app=asked.app, person=asked.person, fields=names)
    return _come_back(request, state, asked, fields)


def _asked(request: web.Request, state: State, query: dict[str, str]) -> Asked:
    client = _client(request, state)
    if client == "browser":
        raise PageError("open-in-client", "请在微信客户端打开链接", "Open this link in the WeCom client.")
    redirect_uri = check_redirect(state, request)
    if query.get("appid", "") not in {app.corp_id for app in state.apps}:
        raise PageError("param_err", "参数错误", "appid")
    if query.get("response_type") != "code" or query.get("scope") not in SCOPES:
        raise PageError("param_err", "参数错误", "response_type, scope")
    check_state(state, query.get("state", ""))
    app = _app(state, query, addresses.domain_of(redirect_uri))
    person = choose(request, state, query, openid=client == "wechat")
    private = query["scope"] == "snsapi_privateinfo" and isinstance(person, Member)
    if private and not query.get("agentid"):
        private = _without_agentid(state)
    if private and isinstance(person, Member) and not sees(state, app, person):
        raise PageError("out-of-scope", "无权限访问", "该成员不在应用的可见范围内")
    return Asked(app, int(query.get("agentid") or 0), redirect_uri, query.get("state", ""), private, person)


def _client(request: web.Request, state: State) -> str:
    agent = request.headers.get("User-Agent", "").lower()
    if "wxwork" in agent or "wwlocal" in agent or state.switches.any_browser:
        return "wecom"
    return "wechat" if "micromessenger" in agent else "browser"


def check_redirect(state: State, request: web.Request) -> str:
    """Return the redirect_uri decoded once, if it is one that WeCom would read."""
    raw = addresses.raw_value(addresses.raw_query_of(request.raw_path), "redirect_uri")
    if not addresses.redirect_is_proper(raw, nested_urls=state.switches.nested_urls):
        raise PageError("param_err", "redirect_uri参数错误", "err_type=param_err")
    return unquote(raw)


def check_state(state: State, value: str) -> None:
    """Refuse a state WeCom does not document, unless lenient."""
    if state.switches.strict_state and not addresses.state_is_proper(value):
        raise PageError("84025", "state 参数错误", "84025: a-zA-Z0-9, 128")


def _app(state: State, query: dict[str, str], domain: str) -> App:
    """Find the app by agentid, else by its trusted domain."""
    corp_id, agent_id = query["appid"], query.get("agentid", "")
    if agent_id and not (agent_id.isascii() and agent_id.isdecimal()):
        raise PageError("param_err", "参数错误", "agentid")
    if agent_id:
        app = state.find_app(corp_id, int(agent_id))
    else:
        app = next((one for one in state.apps if one.corp_id == corp_id and one.oauth_domain.lower() == domain), None)
    if agent_id and app is None:
        raise PageError("param_err", "参数错误", "agentid")
    if app is None or app.oauth_domain.lower() != domain:
        raise PageError("domain_err", "redirect_uri需使用应用可信域名", f"err_type=domain_err&uri={domain}")
    if not app.enabled:
        raise PageError("disabled-app", "应用已停用")
    return app


def _without_agentid(state: State) -> bool:
    if state.switches.privateinfo_without_agentid == "error":
        raise PageError("param_err", "参数错误", "agentid")
    return False


def choose(request: web.Request, state: State, query: dict[str, str], *, openid: bool = False) -> Member | Outsider:
    """Say who holds the client: query, cookie, else the first member (in WeChat: the first visitor)."""
    key = query.get("sandbox_member") or unquote(request.cookies.get("sandbox_member", ""))
    visitor = next((one for one in state.outsiders.values() if not one.userid), None)
    person = state.person(key) if key else visitor if openid and visitor else next(iter(state.members.values()), None)
    if person is None:
        raise PageError("nobody", "没有这个成员", key)
    return check_person(state, person)


def check_person(state: State, person: Member | Outsider) -> Member | Outsider:
    """Stop a member who is not active, where the sandbox is told to."""
    if state.switches.stop_disabled and isinstance(person, Member) and person.status != 1:
        raise PageError("disabled-member", "该成员已被禁用或未激活", person.userid)
    return person


async def _agreed(request: web.Request, state: State, asked: Asked) -> tuple[str, ...] | None:
    """Return the private fields agreed to, none for base scope; None when the person must be asked."""
    if not asked.private or not isinstance(asked.person, Member):
        return ()
    key = (asked.person.userid.lower(), asked.app.agent_id)
    if request.method == "POST":
        form = await request.post()
        agreed = [str(name) for name in form.getall("field", [])] if form.get("decision") == "agree" else []
        fields = tuple(name for name in asked.app.sensitive_fields if name in agreed)
        state.consents[key] = Consent(fields, state.now())
    elif state.switches.auto_consent:
        state.consents[key] = Consent(asked.app.sensitive_fields, state.now())
    consent = state.consents.get(key)
    return consent.fields if consent is not None and state.now() < consent.at + CONSENT_S else None


def _come_back(request: web.Request, state: State, asked: Asked, fields: tuple[str, ...]) -> web.Response:
    refused = asked.private and not fields
    if refused and state.switches.refused_consent == "nothing":
        raise PageError("refused", "已取消授权")
    answer = [("state", asked.state)]
    if not (refused and state.switches.refused_consent == "no-code"):
        answer.insert(0, ("code", state.new_code(_code(state, asked, fields))))
    return go(request, state, addresses.callback(asked.redirect_uri, answer, extra=state.switches.extra_callback_query))


def _code(state: State, asked: Asked, fields: tuple[str, ...]) -> Code:
    return Code(
        person=asked.person,
        corp_id=asked.app.corp_id,
        agent_id=asked.agent_id,
        domain=addresses.domain_of(asked.redirect_uri),
        issued_at=state.now(),
        private_fields=fields if asked.private else None,
    )


def go(request: web.Request, state: State, location: str) -> web.Response:
    """Redirect; or, where asked for, by a page that navigates twice."""
    if state.switches.double_callback:
        return request.app[LOOKS].show("twice", "twice", location=location)
    return web.Response(status=302, headers={"Location": location, "Cache-Control": "no-store"})
