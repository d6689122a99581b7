"""Events: what changed, who hears of it, and the delivery with its retries."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode
from xml.sax.saxutils import escape

import aiohttp
from yarl import URL

from gateway.sandbox.crypto import Envelope
from gateway.sandbox.organisation import sees
from gateway.sandbox.state import App, State

RETRIES = 3
TIMEOUT_S = 5.0
CHECK_TIMEOUT_S = 1.0


class UrlCheckError(Exception):
    """The callback URL did not answer the GET check as it must."""


@dataclass(slots=True)
class Delivery:
    """One event on its way: ``answers`` holds each attempt's HTTP status, or the error's name."""

    number: int
    url: str
    event: dict[str, Any]
    body: str
    query: dict[str, str]
    answers: list[str] = field(default_factory=list)
    done: bool = False


@dataclass(slots=True)
class Outbox:
    """Sends events in the background; ``retry_after_s`` apart, up to three times after the first try."""

    http: aiohttp.ClientSession
    retry_after_s: float = 5.0
    deliveries: list[Delivery] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def send(self, app: App, event: dict[str, Any], now: float) -> None:
        """Encrypt, sign and send one event to the app's callback URL, if it has one."""
        if not app.callback_url:
            return
        encrypted = app.envelope.encrypt(as_xml(event))
        query = _signed(app.envelope, encrypted, now)
        agent = "" if app.kind == "sync" else str(app.agent_id)
        body = (
            f"<xml><ToUserName><![CDATA[{app.corp_id}]]></ToUserName><AgentID><![CDATA[{agent}]]></AgentID>"
            f"<Encrypt><![CDATA[{encrypted}]]></Encrypt></xml>"
        )
        delivery = Delivery(len(self.deliveries) + 1, app.callback_url, event, body, query)
        self.deliveries.append(delivery)
        self.start(delivery)

    def start(self, delivery: Delivery) -> None:
        """Send a delivery, for the first time or again as a duplicate."""
        task = asyncio.create_task(self._deliver(delivery))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def settle(self) -> None:
        """Wait until nothing is on its way."""
        while self.tasks:
            await asyncio.wait(set(self.tasks))

    async def stop(self) -> None:
        for task in set(self.tasks):
            task.cancel()
        await self.settle()

    async def _deliver(self, delivery: Delivery) -> None:
        for attempt in range(1 + RETRIES):
            if attempt:
                await asyncio.sleep(self.retry_after_s)
            answer = await self._attempt(delivery)
            delivery.answers.append(answer)
            if answer == "200":
                break
        delivery.done = True

    async def _attempt(self, delivery: Delivery) -> str:
        headers, timeout = {"Content-Type": "text/xml"}, aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with self.http.post(
                _address(delivery.url, delivery.query),
                data=delivery.body.encode(),
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                await response.read()
                return str(response.status)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            return type(error).__name__

    async def check_url(self, url: str, envelope: Envelope, now: float) -> None:
        """Ask the callback URL to decrypt an echostr within a second; else raise UrlCheckError."""
        echo = str(secrets.randbelow(9 * 10**22) + 10**22)
        encrypted = envelope.encrypt(echo)
        query = {**_signed(envelope, encrypted, now), "echostr": encrypted}
        timeout = aiohttp.ClientTimeout(total=CHECK_TIMEOUT_S)
        try:
            async with self.http.get(_address(url, query), timeout=timeout, allow_redirects=False) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise UrlCheckError(f"no answer within {CHECK_TIMEOUT_S:g} s: {type(error).__name__}") from error
        if response.status != 200 or body != echo.encode():
            raise UrlCheckError(f"answered {response.status} and {body[:80]!r} instead of 200 and {echo!r}")


def _signed(envelope: Envelope, encrypted: str, now: float) -> dict[str, str]:
    timestamp, nonce = str(int(now)), str(secrets.randbelow(9 * 10**9) + 10**9)
    return {"msg_signature": envelope.sign(timestamp, nonce, encrypted), "timestamp": timestamp, "nonce": nonce}


def _address(url: str, query: dict[str, str]) -> URL:
    """Add the query, every special character of base64 percent-encoded."""
    return URL(f"{url}{'&' if '?' in url else '?'}{urlencode(query)}", encoded=True)


def as_xml(event: dict[str, Any]) -> str:
    """Write an event in WeCom's XML: numbers bare, text in CDATA."""
    parts = [
        f"<{name}>{value}</{name}>" if isinstance(value, int) else f"<{name}><![CDATA[{_cdata(value)}]]></{name}>"
        for name, value in event.items()
    ]
    return f"<xml>{''.join(parts)}</xml>"


def _cdata(value: Any) -> str:
    return str(value).replace("]]>", escape("]]>"))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Who and what there was before a change."""

    reached: dict[int, frozenset[str]]
    people: dict[str, tuple[str, tuple[int, ...]]]
    parties: dict[int, int]
    tags: dict[int, tuple[frozenset[str], frozenset[int]]]


def snapshot(state: State) -> Snapshot:
    """Note, for each app, the active members in its scope; and the directory as the sync assistant hears of it."""
    own = [app for app in state.apps if app.corp_id == state.corp_id and app.kind != "sync"]
    active = [member for member in state.members.values() if member.status == 1]
    return Snapshot(
        {app.agent_id: frozenset(one.userid for one in active if sees(state, app, one)) for app in own},
        {key: (one.userid, one.department) for key, one in state.members.items()},
        {one.id: one.parentid for one in state.departments.values()},
        {one.tagid: (frozenset(one.userlist), frozenset(one.partylist)) for one in state.tags.values()},
    )


Send = Callable[[App, dict[str, Any], float], None]


def announce(state: State, before: Snapshot, send: Send, *, renamed: tuple[str, str] | None = None) -> None:
    """Send what the real WeCom would send for the difference between then and now."""
    after, now = snapshot(state), state.now()
    apps = {app.agent_id: app for app in state.apps if app.corp_id == state.corp_id and app.kind != "sync"}
    for agent_id, app in apps.items():
        was, is_now = before.reached.get(agent_id, frozenset()), after.reached[agent_id]
        for event, userids in (("unsubscribe", was - is_now), ("subscribe", is_now - was)):
            for userid in sorted(userids):
                send(app, subscription(app, userid, event, now), now)
    for app in state.apps:
        if app.kind == "sync":
            for change in _changes(before, after, renamed):
                common = {"ToUserName": app.corp_id, "FromUserName": "sys", "CreateTime": int(now), "MsgType": "event"}
                send(app, common | {"Event": "change_contact"} | change, now)


def subscription(app: App, userid: str, event: str, now: float) -> dict[str, Any]:
    """Build an event about a member for an app: subscribe, unsubscribe, enter_agent."""
    return {
        "ToUserName": app.corp_id,
        "FromUserName": userid,
        "CreateTime": int(now),
        "MsgType": "event",
        "Event": event,
        **({"EventKey": ""} if event == "enter_agent" else {}),
        "AgentID": app.agent_id,
    }


def _changes(before: Snapshot, after: Snapshot, renamed: tuple[str, str] | None) -> list[dict[str, Any]]:
    """List the reduced change_contact events: no names, no status (since 2022-08-15)."""
    return _people(before, after, renamed) + _parties(before, after) + _tags(before, after)


def _people(before: Snapshot, after: Snapshot, renamed: tuple[str, str] | None) -> list[dict[str, Any]]:
    was, is_now = dict(before.people), dict(after.people)
    changes: list[dict[str, Any]] = []
    if renamed is not None:
        old, new = renamed[0].lower(), renamed[1].lower()
        userid, _ = was.pop(old)
        departments = is_now.pop(new)[1]
        changes.append(_user("update_user", userid, departments) | {"NewUserID": renamed[1]})
    for key in sorted(is_now.keys() | was.keys()):
        if key not in was:
            changes.append(_user("create_user", *is_now[key]))
        elif key not in is_now:
            changes.append({"ChangeType": "delete_user", "UserID": was[key][0]})
        elif was[key] != is_now[key]:
            changes.append(_user("update_user", *is_now[key]))
    return changes


def _user(change: str, userid: str, departments: tuple[int, ...]) -> dict[str, Any]:
    return {"ChangeType": change, "UserID": userid, "Department": ",".join(map(str, departments))}


def _parties(before: Snapshot, after: Snapshot) -> list[dict[str, Any]]:
    changes: list[dict[str, Any]] = []
    for number in sorted(before.parties.keys() | after.parties.keys()):
        parent = after.parties.get(number)
        if parent is None:
            changes.append({"ChangeType": "delete_party", "Id": number})
        elif parent != before.parties.get(number):
            change = "update_party" if number in before.parties else "create_party"
            changes.append({"ChangeType": change, "Id": number, "ParentId": parent})
    return changes


def _tags(before: Snapshot, after: Snapshot) -> list[dict[str, Any]]:
    changes: list[dict[str, Any]] = []
    nothing: tuple[frozenset[str], frozenset[int]] = (frozenset(), frozenset())
    for number in sorted(before.tags.keys() | after.tags.keys()):
        (old_users, old_parties), (users, parties) = before.tags.get(number, nothing), after.tags.get(number, nothing)
        items = {
            "AddUserItems": users - old_users,
            "DelUserItems": old_users - users,
            "AddPartyItems": parties - old_parties,
            "DelPartyItems": old_parties - parties,
        }
        lists = {name: ",".join(sorted(map(str, found))) for name, found in items.items() if found}
        if lists:
            changes.append({"ChangeType": "update_tag", "TagId": number, **lists})
    return changes
