"""What a browser sends, byte for byte, with a place for the session; and the sessions to put there."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from gateway.config import Config
from gateway.member import Member
from gateway.sealing import Sealer
from gateway.session import Session
from gateway.sessions import Sessions

HOST = "intranet.example.com"
PLACE = "{session}"

_AGENT = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
_OLD_AGENT = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 15_8 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 "
    "wxwork/4.1.30 MicroMessenger/7.0.1 Language/zh"
)
_COMMON = (
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Accept-Language", "zh-CN,zh;q=0.9,en;q=0.8"),
    ("Referer", f"https://{HOST}/report/list.jsp?page=3&sort=created"),
)
_KINDS = {
    "image": (
        ("User-Agent", _AGENT),
        ("Accept", "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"),
        ("Sec-Fetch-Site", "same-origin"),
        ("Sec-Fetch-Mode", "no-cors"),
        ("Sec-Fetch-Dest", "image"),
        ("sec-ch-ua", '"Google Chrome";v="131", "Chromium";v="131", "Not_A Brand";v="24"'),
        ("sec-ch-ua-mobile", "?0"),
        ("sec-ch-ua-platform", '"Windows"'),
        *_COMMON,
    ),
    "xhr": (
        ("User-Agent", _AGENT),
        ("Accept", "application/json, text/javascript, */*; q=0.01"),
        ("X-Requested-With", "XMLHttpRequest"),
        ("Sec-Fetch-Site", "same-origin"),
        ("Sec-Fetch-Mode", "cors"),
        ("Sec-Fetch-Dest", "empty"),
        *_COMMON,
    ),
    "navigation": (  # a browser without Sec-Fetch: it gets the plain redirect
        ("User-Agent", _OLD_AGENT),
        ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("Upgrade-Insecure-Requests", "1"),
        *_COMMON,
    ),
}
_BEFORE = "JSESSIONID=5D8C7A1B2E3F4A5B6C7D8E9F0A1B2C3D; Hm_lvt_6bcd52f51e9b3dce32bec4a3997715ac=1731400000,1731490000"
_AFTER = "theme=default; userLocale=zh_CN; menu_state=1%2C4%2C9; _ga=GA1.2.1203847563.1729999999; sidebar=collapsed"


def request(kind: str, path: str, cookie_name: str, *, session: bool) -> str:
    """The head of one GET; with *session* our cookie stands among an old app's, its value being ``{session}``."""
    if kind == "check":
        return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nX-WeCom-Session: {PLACE}\r\n\r\n"
    ours = f"; {cookie_name}={PLACE}" if session else ""
    headers = [("Host", HOST), ("Connection", "keep-alive"), *_KINDS[kind], ("Cookie", f"{_BEFORE}{ours}; {_AFTER}")]
    return f"GET {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers) + "\r\n"


@dataclass(frozen=True, slots=True)
class Sealed:
    """Files of session values, one a line."""

    folder: Path

    def file(self, kind: str) -> Path:
        return self.folder / f"sessions-{kind}.txt"

    def write(self, config: Config, counts: dict[str, int]) -> None:
        """Write one file for each kind of *counts*; each session is another member's."""
        sessions = Sessions(
            Sealer(config.signing_keys),
            corp_id=config.corp_id,
            agent_id=config.agent_id,
            lifetimes=config.lifetimes,
            clock=time.time,
        )
        now = int(time.time())
        values = [sessions.seal(_session(config, number, now)) for number in range(max(counts.values()))]
        for kind, count in counts.items():
            self.file(kind).write_text("\n".join(values[:count]) + "\n", "ascii")


def user_id(number: int) -> str:
    return f"zhangsan{number:06d}"


def _session(config: Config, number: int, now: int) -> Session:
    """A session with everything in it that can be asked for."""
    member = Member(
        user_id=user_id(number),
        name="张三丰",
        departments=(1200, 37),
        position="高级工程师",
        alias=f"zhang.san{number}",
        email=f"{user_id(number)}@example.com",
        mobile=f"138{number:08d}",
        avatar=f"https://wework.qpic.cn/bizmail/{number:032x}/0",
    )
    return Session(
        id=f"{number:016x}",
        member=member,
        corp_id=config.corp_id,
        agent_id=config.agent_id,
        site=config.sites[0].name,
        issued=now,
        renewed=now,
        ends=config.lifetimes.ends(now, now),
        read=now,
        account=user_id(number),
        departments=(1200, 37, 12, 2, 1),
    )
