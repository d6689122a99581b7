"""WeCom's API as this gateway uses it: who brought a code, and who a member is."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiocache.base import BaseCache

from gateway.errors import (
    AppMisconfigured,
    CodeSpent,
    MemberUnknown,
    NotVisible,
    TicketSpent,
    WeComRefused,
    WeComUnreachable,
)
from gateway.member import Member
from gateway.wecom import contacts, reading
from gateway.wecom.codes import CODES
from gateway.wecom.contacts import Department, Tag
from gateway.wecom.reading import USER_ID, Details, Visitor
from gateway.wecom.tokens import App, Claim, Tokens
from gateway.wecom.transport import Call, Endpoints, Pause, Transport

CODE = re.compile(r"[\x21-\x7e]{1,512}")
_FUTILE = frozenset({40001, 40013, 40014, 40091, 42001, 50003, 60020, 301007})
"""With these about the app itself, another call fares no better."""

FUTILE_S = 30
"""After a fresh token was refused too, no further one is fetched for so long: fetching has a limit (45009)."""


class WeCom:
    """Ask WeCom on behalf of one app; every call raises a :class:`~gateway.errors.WeComError` or gives a whole answer.

    *http* carries the CA bundle and the choice of IPv4, *cache* shares the access token with other processes,
    and by *claim* (:meth:`gateway.ledger.Ledger.claim`) one of them fetches it.
    """

    def __init__(
        self,
        app: App,
        endpoints: Endpoints,
        http: aiohttp.ClientSession,
        cache: BaseCache,
        clock: Callable[[], float],
        *,
        pause: Pause = asyncio.sleep,
        claim: Claim | None = None,
    ) -> None:
        self._app = app
        self._endpoints = endpoints
        self._clock = clock
        self._transport = Transport(endpoints, http, pause)
        self._tokens = Tokens(app, self._gettoken, cache, clock, claim=claim, pause=pause)
        self._futile_until = 0.0
        self._longest_s = 2 * endpoints.timeout_s

    async def access_token(self) -> str:
        """Give the app's access token; a secret: it reaches no browser and no log."""
        return await self._tokens.get()

    @property
    def problems(self) -> list[str]:
        """Why nobody can sign in, as far as WeCom's last answer about our Secret tells."""
        return [self._tokens.problem] if self._tokens.problem else []

    async def close(self) -> None:
        """Leave nothing under way."""
        await self._tokens.close()

    async def exchange(self, code: str) -> Visitor:
        """Spend the OAuth *code* and give whose it was; the code is never sent again once it may have arrived.

        Raises :class:`CodeSpent` also for what cannot be a code, :class:`WeComUnreachable` when the outcome is unknown.
        """
        if not CODE.fullmatch(code):
            raise CodeSpent(40029, "not a code; WeCom was not asked")
        path = "user/getuserinfo" if self._endpoints.private else "auth/getuserinfo"
        expects = ("userid", "UserId", "openid", "OpenId")
        call = Call(path, {"code": code}, expects, once=True, hide=(code,))
        async with _within(2 * self._longest_s, path):
            return reading.visitor(await self._ask(call))

    async def member(self, user_id: str, *, timeout_s: float | None = None) -> Member:
        """Read a member (document 90196); *timeout_s* bounds the whole, retries and token included.

        Raises :class:`MemberUnknown` for one who left, was never there or is outside the app's visible scope.
        """
        if not USER_ID.fullmatch(user_id):
            raise MemberUnknown(40003, "not a member's id; WeCom was not asked")
        call = Call("user/get", {"userid": user_id}, ("userid", "UserId"))
        async with _within(timeout_s or self._longest_s, call.path):
            return reading.member(await self._ask(call), user_id)

    async def details(self, user_ticket: str) -> Details:
        """Read what the member agreed to show (document 95833)."""
        if not user_ticket:
            raise TicketSpent(84090, "no user_ticket; WeCom was not asked")
        path = "user/getuserdetail" if self._endpoints.private else "auth/getuserdetail"
        call = Call(path, {}, ("userid", "UserId"), body={"user_ticket": user_ticket}, hide=(user_ticket,))
        async with _within(self._longest_s, path):
            return reading.details(await self._ask(call))

    async def departments(self, *, names: bool = False, timeout_s: float | None = None) -> tuple[Department, ...]:
        """Read every department that the app sees; their names cost WeCom more, so they come only where asked for."""
        listed = Call("department/list", {}, ("department",))
        brief = Call("department/simplelist", {}, ("department_id",))
        async with _within(timeout_s or self._longest_s, brief.path):
            if names or self._endpoints.private:
                return contacts.departments(await self._ask_contacts(listed))
            try:
                return contacts.departments(await self._ask_contacts(brief))
            except WeComRefused as refused:  # the younger of the two is not everywhere, nor for every kind of app
                if isinstance(refused, NotVisible) or refused.errcode in _FUTILE:
                    raise
            return contacts.departments(await self._ask_contacts(listed))

    async def tag(self, tag: int, *, timeout_s: float | None = None) -> Tag:
        """Read who has *tag*, as far as the app sees; :class:`NotVisible` where it is none, or not for this app."""
        call = Call("tag/get", {"tagid": str(tag)}, ("userlist", "partylist", "tagname"))
        async with _within(timeout_s or self._longest_s, call.path):
            return contacts.tag(await self._ask_contacts(call))

    async def tag_names(self, *, timeout_s: float | None = None) -> dict[int, str]:
        """Read the name of every tag of the corp."""
        call = Call("tag/list", {}, ("taglist",))
        async with _within(timeout_s or self._longest_s, call.path):
            return contacts.tag_names(await self._ask_contacts(call))

    async def _ask_contacts(self, call: Call) -> dict[str, Any]:
        try:
            return await self._ask(call)
        except WeComRefused as refused:
            if (error := contacts.seen_as(refused)) is refused:
                raise
        raise error

    async def _ask(self, call: Call) -> dict[str, Any]:
        """Send *call* with the access token; when WeCom refuses that token, once more with a new one."""
        token = await self._tokens.get()
        try:
            return await self._send(call, token)
        except AppMisconfigured as refused:
            if not _about_token(refused) or 0 < self._futile_until - self._clock() <= FUTILE_S:
                raise
        token = await self._tokens.instead_of(token)
        try:
            return await self._send(call, token)
        except AppMisconfigured as refused:
            if _about_token(refused):
                self._futile_until = self._clock() + FUTILE_S
            raise

    async def _send(self, call: Call, token: str) -> dict[str, Any]:
        answer = await self._transport.send(call.with_token(token))
        self._futile_until = 0.0
        return answer

    async def _gettoken(self) -> Mapping[str, Any]:
        secret = self._app.secret.reveal()
        query = {"corpid": self._app.corp_id, "corpsecret": secret}
        async with _within(self._longest_s, "gettoken"):
            return await self._transport.send(Call("gettoken", query, ("access_token",), hide=(secret,)))


def _about_token(refused: WeComRefused) -> bool:
    return refused.errcode in CODES and CODES[refused.errcode].renew


@asynccontextmanager
async def _within(seconds: float, path: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
            return
    except TimeoutError:
        pass  # not chained: what it interrupted may hold the URL
    raise WeComUnreachable(f"{path}: WeCom did not answer within {seconds:g} s")
