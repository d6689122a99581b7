"""``/_wecom/events``: what WeCom tells the app by itself (接收消息与事件, documents 90930 and 90240): who may no longer use it.

Every answer but 200 makes WeCom send an event again, three times in all, so 200 means: stored in the ledger, or of no use
to us. While the ledger cannot store, the member is refused here at once, the record waits in the ledger's queue, and WeCom
is told to come back: its next attempt may meet a process that can store, or this one after a restart that lost the queue.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from contextlib import suppress
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError

from aiohttp import web
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from gateway.keys import LIVE, Parts
from gateway.ledger import LedgerBroken, LedgerUnavailable
from gateway.records import Record
from gateway.wecom.crypto import CallbackRefused, Callbacks
from gateway.wecom.reading import USER_ID

log = logging.getLogger(__name__)

ANSWER_S = 4.0
"""WeCom waits 5 s."""
MAX_BYTES = 16 * 1024
"""Of a body, some times what WeCom sends: anybody can send one, and while it is parsed the checks wait."""
WINDOW_S = 86400
"""How far WeCom's clock and ours may differ: generous, since a repeated event can only end access again."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event; *key* is the same for every delivery of it."""

    name: str
    member: str
    agent_id: str
    key: str


async def check(request: web.Request) -> web.Response:
    """GET: the console's check when the address is saved; the decrypted ``echostr`` and nothing else, within a second."""
    parts = request.app[LIVE].now
    callbacks = _callbacks(parts)
    try:
        # a proxy that decodes the query leaves blanks where WeCom wrote +, at the ends too; base64 has none
        return web.Response(body=_opened(callbacks, request, request.query.get("echostr", "").replace(" ", "+")))
    except CallbackRefused as error:
        return _refused(parts, error)


async def receive(request: web.Request) -> web.Response:
    """POST: an event, answered within 5 s."""
    parts = request.app[LIVE].now
    callbacks = _callbacks(parts)
    try:
        encrypted = _xml(await _body(request)).findtext("Encrypt", "").strip()
        event = _event(_opened(callbacks, request, encrypted))
        _in_time(parts, request)
    except CallbackRefused as error:
        return _refused(parts, error)
    return await _taken(parts, event)


async def _body(request: web.Request) -> bytes:
    with suppress(web.HTTPRequestEntityTooLarge):
        if len(body := await request.read()) <= MAX_BYTES:
            return body
    raise CallbackRefused("the callback is too large")


async def _taken(parts: Parts, event: Event) -> web.Response:
    if event.agent_id not in ("", str(parts.config.agent_id)) or event.name not in ("subscribe", "unsubscribe"):
        parts.telemetry.event("ignored")
        return web.Response()
    if event.name == "subscribe":  # nothing stands against the member by it: sign-in asks WeCom, a blocked one stays blocked
        parts.telemetry.event("subscribe")
        return web.Response()
    return await _unsubscribed(parts, event)


async def _unsubscribed(parts: Parts, event: Event) -> web.Response:
    """The member left, was disabled or lost sight of the app: their sessions up to now end, whenever the event was made."""
    record, stored = Record("revoked", parts.clock(), member=event.member, reason="unsubscribe"), False
    try:
        async with asyncio.timeout(ANSWER_S):
            if await parts.ledger.get(event.key) is not None:
                parts.telemetry.event("duplicate")
                return web.Response()
            parts.standing.revoke(event.member, record.at)  # here at once, elsewhere when it is stored
            await parts.ledger.append(record)
            stored = True
            await parts.ledger.put(event.key, "1", record.at + 2 * WINDOW_S)
    except (LedgerUnavailable, LedgerBroken, TimeoutError) as error:
        if not stored:
            return _unstored(parts, record, error)
    parts.telemetry.event("unsubscribe")
    log.warning("revoked %s: unsubscribe", event.member)
    return web.Response()


def _unstored(parts: Parts, record: Record, error: Exception) -> web.Response:
    parts.ledger.note(record)
    parts.telemetry.event("unstored")
    log.error("unsubscribe of %s: refused here, not stored yet: %s", record.member, str(error) or "the store does not answer")
    return web.Response(status=503, headers={"Retry-After": "5"})


def _opened(callbacks: Callbacks, request: web.Request, encrypted: str) -> bytes:
    query = request.query
    signature, timestamp, nonce = (query.get(name, "") for name in ("msg_signature", "timestamp", "nonce"))
    return callbacks.open(signature, timestamp, nonce, encrypted)


def _callbacks(parts: Parts) -> Callbacks:
    settings = parts.config.events
    if not settings.token:
        parts.telemetry.warn_once("events", "somebody calls /_wecom/events; events.token and events.aes_key are not set")
        raise web.HTTPNotFound
    return Callbacks(settings.token, settings.aes_key, parts.config.corp_id)


def _in_time(parts: Parts, request: web.Request) -> None:
    """An event that was signed long ago is a replay, or a clock is wrong by a day."""
    timestamp = request.query.get("timestamp", "")
    if not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > 12:
        raise CallbackRefused("the callback's timestamp is no number", reason="callback-timestamp")
    if abs(int(timestamp) - parts.clock()) > WINDOW_S:
        raise CallbackRefused(
            "the callback was signed more than a day ago or ahead: a replay, or a wrong clock", reason="callback-timestamp"
        )


def _event(message: bytes) -> Event:
    root = _xml(message)
    name, member, agent_id = (root.findtext(tag, "").strip() for tag in ("Event", "FromUserName", "AgentID"))
    if name in ("subscribe", "unsubscribe") and not USER_ID.fullmatch(member):
        raise CallbackRefused("the event names no member")
    return Event(name, member, agent_id, f"event {hashlib.sha256(message).hexdigest()}")


def _xml(text: bytes) -> Element:
    try:
        root: Element = fromstring(text.decode("utf-8"), forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError):
        pass  # not chained: what could not be read is shown nowhere
    else:
        return root
    raise CallbackRefused("the callback is not the XML that WeCom sends")


def _refused(parts: Parts, error: CallbackRefused) -> web.Response:
    """Anybody can send anything here: counted, and one line a minute."""
    parts.telemetry.event(error.reason)
    parts.telemetry.warn_once(
        error.reason, f"{error.reason}: {error}; events.token and events.aes_key must be those of WeCom's console", every_s=60
    )
    return web.Response(status=403, headers={"X-WeCom-Reason": error.reason})
