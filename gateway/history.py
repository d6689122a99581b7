"""What the ledger tells about sessions: who signed in when, where from and with what, and whether it still holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.member import Member
from gateway.records import Record
from gateway.session import LONGEST_S, Session
from gateway.standing import Standing

_CLIENTS = (
    ("WeCom", r"wxwork/(\d+(?:\.\d+)?)"),
    ("Edge", r"Edg\w*/(\d+)"),
    ("Opera", r"OPR/(\d+)"),
    ("Firefox", r"Firefox/(\d+)"),
    ("Chrome", r"Chrome/(\d+)"),
    ("Safari", r"Version/(\d+)[\d.]* .*Safari/"),
)
_SYSTEMS = ("iPhone", "iPad", "Android", "Windows", "Macintosh", "OpenHarmony", "Linux")


@dataclass(slots=True)
class Known:
    """One session as the ledger has it; times in Unix seconds."""

    record: Record  #: its sign-in
    ends: float  #: by its last renewal
    state: str = ""  #: ``live``, ``expired``, or why it ended before its time

    @property
    def name(self) -> str:
        return str(self.record.details.get("name", ""))

    @property
    def issued(self) -> int:
        return int(_number(self.record, "issued", self.record.at))


class History:
    """Built from the entries of the ledger, oldest first."""

    def __init__(self) -> None:
        self.standing = Standing()
        self.sessions: dict[str, Known] = {}
        self._issued: dict[str, Record] = {}

    def apply(self, record: Record) -> None:
        self.standing.apply(record)
        if record.kind == "signed-in":
            self.sessions[record.session] = Known(record, _number(record, "ends"))
        elif record.kind == "break-glass":
            self._issued[record.session] = record
        elif record.kind == "renewed" and (known := self.sessions.get(record.session)):
            known.ends = _number(record, "ends")

    def about(self, member: str) -> Record | None:
        """The last sign-in of *member*."""
        key = member.casefold()
        return next((each.record for each in reversed(self.sessions.values()) if each.record.member.casefold() == key), None)

    def has(self, session: str) -> bool:
        """Whether *session* was signed in, or a link for it was issued."""
        return session in self.sessions or session in self._issued

    def family(self, session: str) -> set[str]:
        """*session*, the one that it was handed over from, and all that were handed over from that: one browser's sign-in."""
        first = self._handed_over_from(session) or session
        return {first} | {each for each in self.sessions if self._handed_over_from(each) == first}

    def _handed_over_from(self, session: str) -> str:
        known = self.sessions.get(session)
        return str(known.record.details.get("of", "")) if known else ""

    def known(self, session: str) -> dict[str, Any]:
        """The member of *session*, and when it is over in any cookie: what a record that ends it says in its details."""
        begun = self.sessions[session].record if session in self.sessions else self._issued[session]
        return {"member": begun.member, "until": over(begun)}

    def judged(self, now: float) -> Iterator[Known]:
        """Every session, with its state at *now*."""
        for known in self.sessions.values():
            known.state = self.standing.ended(_session(known)) or ("live" if now < known.ends else "expired")
            yield known


def over(begun: Record) -> float:
    """When the session that began with this record, or the link to it, is over in any cookie."""
    return _number(begun, "until", _number(begun, "issued", begun.at) + LONGEST_S)


def client(user_agent: str) -> str:
    """What a person would call the browser: ``WeCom 4.1 iPhone``, ``Chrome 131 Windows``."""
    words = [f"{name} {found[1]}" for name, pattern in _CLIENTS if (found := re.search(pattern, user_agent))][:1]
    words += [system for system in _SYSTEMS if system in user_agent][:1]
    return " ".join(words) or user_agent[:30]


def _session(known: Known) -> Session:
    record = known.record
    times = known.issued, known.issued, int(known.ends)
    return Session(record.session, Member(record.member), "", 0, record.site, *times, read=record.at)


def _number(record: Record, name: str, default: float = 0) -> float:
    value = record.details.get(name, default)
    return value if isinstance(value, (int, float)) else default
