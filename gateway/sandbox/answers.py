"""How WeCom's API words its answers: JSON, an errmsg with a hint, two extra headers."""

from __future__ import annotations

import json
import random
import re
from typing import Any

from aiohttp import web

TEXTS = {
    -1: "system busy",
    40001: "invalid credential",
    40003: "invalid userid",
    40013: "invalid corpid",
    40014: "invalid access_token",
    40029: "invalid code",
    40056: "invalid agentid",
    40058: "invalid request parameter",
    40063: "some parameters are empty",
    40068: "invalid tagid",
    40091: "secret is invalid",
    41001: "access_token missing",
    41002: "corpid missing",
    41004: "corpsecret missing",
    41008: "missing code",
    41009: "missing userid",
    41011: "missing agentid",
    41017: "missing tagid",
    42001: "access_token expired",
    45009: "api freq out of limit",
    45033: "api concurrent out of limit",
    48002: "api forbidden",
    48006: "api forbidden for long time no used",
    48009: "api forbidden for contact sync",
    50001: "redirect_uri unauthorized",
    50003: "agent is disabled",
    60003: "department not found",
    60011: "no privilege to access/modify contact/party/agent ",
    60020: "not allow to access from your ip",
    60111: "userid not found",
    60123: "invalid party id",
    81011: "no privilege to access tag",
    84014: "user_ticket expired",
    84015: "invalid user_ticket",
    84090: "user_ticket missing",
    92000: "user is not in the visible range of the app",
    92001: "app has no privilege of sensitive info",
    301002: "no privilege to access/modify the agent",
    301007: "corp is unavailable",
}


class RefusedError(Exception):
    """An API call that ends with an ``errcode``; ``text`` replaces the usual wording."""

    def __init__(self, errcode: int, text: str | None = None) -> None:
        self.errcode = errcode
        self.text = TEXTS.get(errcode, "error") if text is None else text
        super().__init__(f"{errcode} {self.text}")


def success(fields: dict[str, Any]) -> web.Response:
    """Answer ``errcode`` 0 and the fields."""
    return _json({"errcode": 0, "errmsg": "ok", **fields})


def refusal(errcode: int, text: str, *, now: float, remote: str) -> web.Response:
    """Answer HTTP 200 with the error, its hint and the caller's address, as WeCom sees it."""
    text = re.sub(r"[^\x20-\x7e]", "?", text)
    more = f"https://open.work.weixin.qq.com/devtool/query?e={errcode}"
    message = f"{text}, hint: [{_hint(now)}], from ip: {remote}, more info at {more}"
    response = _json({"errcode": errcode, "errmsg": message})
    response.headers["Error-Code"] = str(errcode)
    response.headers["Error-Msg"] = message
    return response


def _hint(now: float) -> str:
    return f"{int(now):010d}{random.randrange(10**15):015d}"


def _json(fields: dict[str, Any]) -> web.Response:
    return web.Response(
        body=json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode(),
        headers={"Content-Type": "application/json; charset=UTF-8"},
    )
