"""WeCom's error codes: what each means, which error it becomes here, and what the operator should change.

Source: developer.work.weixin.qq.com, documents 90313 (the list as of 2024-04), 90312 (limits), 91039 (gettoken).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gateway.errors import (
    AppMisconfigured,
    CodeSpent,
    MemberUnknown,
    TicketSpent,
    WeComBusy,
    WeComError,
    WeComRefused,
)


@dataclass(frozen=True, slots=True)
class Code:
    """One ``errcode``; ``fix`` is a sentence for the operator, ``{ip}`` in it is the address WeCom saw."""

    meaning: str
    error: type[WeComBusy] | type[WeComRefused]
    fix: str = ""
    retry: bool = False  #: the same call may succeed a moment later
    renew: bool = False  #: fetch a new access token and ask once more


def error_for(errcode: int, errmsg: str) -> WeComError:
    """Make the error of an ``errcode`` other than 0; a code that is not in the table is a plain refusal."""
    code = CODES.get(errcode, _UNLISTED)
    fix = code.fix.format(ip=seen_address(errmsg) or "this server's address")
    if issubclass(code.error, WeComBusy):
        return code.error(f"{errcode} {errmsg}", errcode=errcode, fix=fix)
    return code.error(errcode, errmsg, fix=fix)


def seen_address(errmsg: str) -> str:
    """The caller's address as WeCom wrote it into ``errmsg``, or an empty text."""
    found = re.search(r"from ip: ([0-9A-Fa-f.:]{2,45})", errmsg)
    return found[1] if found else ""


_UNLISTED = Code("not in the list of document 90313", WeComRefused)
_CREDENTIAL = "Copy the app's Secret from the admin console (应用管理 → the app → Secret); see that the app is enabled (启用)."
_SCOPE = "Extend the app's visible scope (可见范围) in the admin console if this member should get in."
_PARTY = "See that the department exists and lies in the app's visible scope (可见范围)."
_DOMAIN = (
    "Set the app's trusted domain (网页授权及JS-SDK → 可信域名) to the callback host with its port, verify it, "
    "and see that the Secret and the agent id belong to the same app."
)
_APP_KIND = "See that the Secret is that of a self-built app (自建应用) and that the API address is the right one."
_PROVIDER = "The settings are for a self-built app (自建应用); provider apps (第三方应用) have other credentials."
_SENSITIVE = "Tick the wanted fields in the app's page of the admin console (成员敏感信息)."
_CORP = "Copy the corp id (企业ID) from 我的企业 → 企业信息 in the admin console."
_AGENT = "Copy the AgentId from the app's page in the admin console; it must be the app that the Secret belongs to."
_LICENCE = "The provider must buy and activate API licences (接口许可) for the members."
_OPEN = "Open the app's page in the admin console: an administrator must enable it or grant the permission again."

CODES: Mapping[int, Code] = MappingProxyType(
    {
        -1: Code("system busy", WeComBusy, retry=True),
        40001: Code("wrong secret, or the app is disabled", AppMisconfigured, _CREDENTIAL, renew=True),
        40003: Code("invalid userid", MemberUnknown),
        40013: Code("invalid corp id", AppMisconfigured, _CORP),
        40014: Code("invalid access token", AppMisconfigured, _APP_KIND, renew=True),
        40029: Code("OAuth code used, expired or made up", CodeSpent),
        40031: Code("no valid id in the list", WeComRefused),
        40056: Code("invalid agent id", AppMisconfigured, _AGENT),
        40058: Code("invalid parameter", WeComRefused),
        40063: Code("empty parameter", WeComRefused),
        40066: Code("unknown department in the list", WeComRefused, _PARTY),
        40068: Code("unknown tag", AppMisconfigured, "Correct the tag's id in the rule."),
        40077: Code("pre_auth_code does not exist", WeComRefused, _PROVIDER),
        40078: Code("invalid auth_code", CodeSpent),
        40080: Code("invalid suite secret", AppMisconfigured, _PROVIDER),
        40082: Code("invalid suite_access_token", AppMisconfigured, _PROVIDER),
        40083: Code("invalid suite id", AppMisconfigured, _PROVIDER),
        40084: Code("invalid permanent code", AppMisconfigured, _PROVIDER),
        40085: Code("invalid suite_ticket", AppMisconfigured, _PROVIDER),
        40091: Code("secret of another corp", AppMisconfigured, f"{_CREDENTIAL} {_CORP}"),
        40093: Code("wrong JS-SDK signature", WeComRefused),
        40125: Code("invalid open_userid", WeComRefused),
        40133: Code("the corp forbids authorisation by members", AppMisconfigured, _OPEN),
        40134: Code("the app authorised by a member is disabled", AppMisconfigured, _OPEN),
        40209: Code(
            "the OAuth domain is not that of the second factor",
            AppMisconfigured,
            "Set the same domain for web sign-in (网页授权) and for second-factor verification (二次验证).",
        ),
        41001: Code("access token missing", WeComRefused),
        41002: Code("corp id missing", AppMisconfigured, _CORP),
        41004: Code("secret missing", AppMisconfigured, _CREDENTIAL),
        41008: Code("OAuth code missing", CodeSpent),
        41009: Code("userid missing", WeComRefused),
        41011: Code("agent id missing", WeComRefused),
        41017: Code("tag id missing", WeComRefused),
        41021: Code("suite_id missing", WeComRefused, _PROVIDER),
        41022: Code("suite_access_token missing", WeComRefused, _PROVIDER),
        41023: Code("suite_ticket missing", WeComRefused, _PROVIDER),
        41024: Code("suite secret missing", WeComRefused, _PROVIDER),
        41025: Code("permanent_code missing", WeComRefused, _PROVIDER),
        42001: Code("access token expired", AppMisconfigured, _APP_KIND, renew=True),
        42003: Code("OAuth code expired", CodeSpent),
        42007: Code("pre_auth_code expired", WeComRefused, _PROVIDER),
        42009: Code("suite_access_token expired", AppMisconfigured, _PROVIDER),
        42022: Code("OAuth code already used", CodeSpent),
        43016: Code("no sign-in of this visitor", WeComRefused),
        45009: Code(
            "called too often",
            WeComBusy,
            "WeCom lifts the limit after a minute, an hour or a day; see whether another program calls with a wrong "
            "Secret from {ip}.",
        ),
        45031: Code("the secret is not safe enough", AppMisconfigured, "Reset the app's Secret in the admin console."),
        45033: Code("too many calls at once", WeComBusy, retry=True),
        46004: Code("no such member", MemberUnknown),
        48001: Code("this API is not granted to the app", AppMisconfigured, _OPEN),
        48002: Code(
            "this API is not for this kind of app",
            AppMisconfigured,
            "Use the Secret of the self-built app (自建应用), not that of contact sync (通讯录同步).",
        ),
        48003: Code("the suite is not allowed to", AppMisconfigured, _PROVIDER),
        48004: Code("the corp has removed the app", AppMisconfigured, "The corp's administrator must install the app again."),
        48005: Code("this API is retired", WeComRefused),
        48006: Code("permission withdrawn: the app was unused for long", AppMisconfigured, _OPEN),
        48009: Code(
            "the contact API is closed to this caller",
            AppMisconfigured,
            "Use the Secret of the self-built app (自建应用), not that of contact sync (通讯录同步).",
        ),
        50001: Code("the callback host is not a trusted domain of the app", AppMisconfigured, _DOMAIN),
        50002: Code("the member is outside the permitted scope", MemberUnknown, _SCOPE),
        50003: Code("the app is disabled", AppMisconfigured, "Enable the app (启用) in the admin console."),
        50006: Code("the system app is disabled", AppMisconfigured, _OPEN),
        60003: Code("no such department", AppMisconfigured, _PARTY),
        60011: Code("no permission on that member, department or tag", MemberUnknown, _SCOPE),
        60020: Code(
            "the caller's address is not trusted",
            AppMisconfigured,
            "Add {ip} to the app's trusted addresses (企业可信IP) in the admin console; it takes about a minute.",
        ),
        60021: Code("the member is outside the visible scope", MemberUnknown, _SCOPE),
        60030: Code("beyond the visible scope", AppMisconfigured, _SCOPE),
        60031: Code("the app may not call this API", AppMisconfigured, _OPEN),
        60102: Code("the userid exists already", WeComRefused),
        60103: Code("bad mobile number", WeComRefused),
        60111: Code("no such member, or outside the visible scope", MemberUnknown, _SCOPE),
        60120: Code("the member is disabled", MemberUnknown),
        60121: Code("no such member", MemberUnknown),
        60123: Code("invalid department", AppMisconfigured, _PARTY),
        80001: Code("the trusted domain is wrong, unverified or without ICP filing", AppMisconfigured, _DOMAIN),
        81011: Code("no permission on the tag", AppMisconfigured, "Let the app see the tag (标签) in the admin console."),
        81013: Code("no valid recipient", WeComRefused),
        84014: Code("user_ticket expired", TicketSpent),
        84015: Code("invalid user_ticket", TicketSpent),
        84025: Code("invalid state parameter", WeComRefused),
        84061: Code("no relation to the external contact", WeComRefused),
        84074: Code("no permission on external contacts", WeComRefused),
        84075: Code("invalid or expired authcode", CodeSpent),
        84090: Code("user_ticket missing", TicketSpent),
        85004: Code(
            "the trusted domain was changed 20 times this month",
            AppMisconfigured,
            "Wait for the next month, or keep the present domain.",
        ),
        85005: Code("the ownership of the trusted domain is not verified", AppMisconfigured, _DOMAIN),
        85008: Code("the trusted domain has no ICP filing of this corp", AppMisconfigured, _DOMAIN),
        85111: Code("the trusted domain belongs to a provider", AppMisconfigured, _DOMAIN),
        90210: Code("the member has not given consent yet", WeComRefused),
        92000: Code("the member is out of scope for sensitive details", TicketSpent, _SCOPE),
        92001: Code("the app has no permission on sensitive details", TicketSpent, _SENSITIVE),
        301002: Code("the agent id is not that of the secret", AppMisconfigured, _AGENT),
        301007: Code("the corp is dissolved or banned", AppMisconfigured, "Ask WeCom's support about the corp's state."),
        301042: Code(
            "the caller's address is not on the list",
            AppMisconfigured,
            "Add {ip} to the address list of that product in the admin console.",
        ),
        670001: Code("the app is not in the sharing scope", AppMisconfigured, "Share the app (应用共享) with that corp."),
        701008: Code("no licence account", AppMisconfigured, _LICENCE),
        701099: Code("the member has no API licence", AppMisconfigured, _LICENCE),
        846000: Code("for provider apps only", WeComRefused, _PROVIDER),
        2000002: Code("invalid corp id", AppMisconfigured, _CORP),
    }
)
