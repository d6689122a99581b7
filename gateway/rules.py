"""Who may enter: the rule in a subrequest's path, deny by default.

``/_wecom/auth`` asks for any signed-in member. ``/_wecom/auth/user:zhangsan,lisi/user:wangwu`` lists alternatives, by
segment and, inside one segment, by comma. What does not parse is a :class:`~gateway.errors.Denied` ``bad-rule``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

from gateway.errors import Denied
from gateway.session import Seen, Session

AUTH = "/_wecom/auth"
MAX_BYTES = 8192
_USER_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.@-]{0,63}")


@dataclass(frozen=True, slots=True)
class Rule:
    """A parsed rule: whoever matches one alternative enters; ``everyone`` is the bare ``/_wecom/auth``."""

    text: str
    everyone: bool = False
    users: frozenset[str] = frozenset()  #: member ids, case-folded

    def admits(self, session: Session | Seen) -> bool:
        return self.everyone or session.user_id.casefold() in self.users


@lru_cache(maxsize=1024)
def parse(path: str) -> Rule:
    """Give the rule in the path of a subrequest, as nginx sends it; raise Denied ``bad-rule`` naming what is wrong."""
    text = _text(path)
    if not text:
        return Rule(text, everyone=True)
    users: set[str] = set()
    for segment in text.split("/"):
        kind, colon, values = segment.partition(":")
        if not colon:
            raise _bad(text, f"no rule is named {kind!r}")
        if kind != "user":
            raise _bad(text, f"unknown kind {kind!r}; known: user")
        users.update(_user_id(text, value) for value in values.split(","))
    return Rule(text, users=frozenset(users))


def check(session: Session | Seen, rule: Rule) -> None:
    """Return if *rule* admits the member of *session*; else Denied ``rule``."""
    if not rule.admits(session):
        raise Denied("rule", rule=rule.text)


def _text(path: str) -> str:
    if path == AUTH:
        return ""
    if not path.startswith(AUTH + "/"):
        message = f"auth_request {path[:100]}: the location to ask is {AUTH} or {AUTH}/RULE"
        raise Denied("bad-rule", rule=path[:100], message=message)
    written = path[len(AUTH) + 1 :]
    if len(path) > MAX_BYTES:
        raise _bad(written[:100], f"a rule takes at most {MAX_BYTES} bytes")
    text = unquote(written, errors="replace")
    if not text or not text.isprintable():
        raise _bad(written, "the rule is empty or holds control characters")
    return text


def _user_id(text: str, value: str) -> str:
    if not _USER_ID.fullmatch(value):
        raise _bad(text, f"{value!r} is no member id")
    return value.casefold()


def _bad(text: str, problem: str) -> Denied:
    return Denied("bad-rule", rule=text, message=f"auth_request {AUTH}/{text}: {problem}")
