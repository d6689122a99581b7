"""The app's access token: fetched once for everybody and renewed while the old one still serves.

When WeCom refuses the secret, it is asked less and less often.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aiocache.base import BaseCache

from gateway.errors import WeComBusy, WeComError, WeComRefused, WeComUnreachable
from gateway.secret import Secret
from gateway.wecom.codes import error_for
from gateway.wecom.transport import Pause

LONGEST_LIFE_S = 7200  #: document 91039; more is not believed
MARGIN_S = 60  #: a token is not used in its last minute: the call must still arrive
AHEAD_S = 900  #: a new one is fetched that long before the end
PAUSE_S = 30  #: between two attempts to renew ahead
TURN_S = 5  #: for so long the others wait for the process that fetches, as long as a call to WeCom takes by default
LOOKS = 20  #: into the cache, meanwhile
FIRST_REFUSAL_S = 60
LONGEST_REFUSAL_S = 3600

Claim = Callable[[str, float], Awaitable[bool]]
"""True for the first process that claims a key, until a Unix second."""

log = logging.getLogger("gateway.wecom")


@dataclass(frozen=True, slots=True)
class App:
    """A self-built app (自建应用) of a corp, as the admin console shows it."""

    corp_id: str
    agent_id: int
    secret: Secret


@dataclass(frozen=True, slots=True)
class Token:
    """An access token with the times (Unix seconds) from which it should be renewed and may no longer be used."""

    text: str = field(repr=False)
    renew_at: float
    ends_at: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """WeCom's last answer to a ``gettoken`` it refused; not asked again before ``until`` (Unix seconds)."""

    errcode: int
    errmsg: str
    until: float
    wait_s: float


class Tokens:
    """Keep the access token of one app; ``fetch`` asks WeCom for one (the answer of ``gettoken``)."""

    def __init__(
        self,
        app: App,
        fetch: Callable[[], Awaitable[Mapping[str, Any]]],
        cache: BaseCache,
        clock: Callable[[], float],
        *,
        claim: Claim | None = None,
        pause: Pause = asyncio.sleep,
    ) -> None:
        digest = hashlib.sha256(f"{app.corp_id}\n{app.secret.reveal()}".encode()).hexdigest()[:32]
        self._key = f"wecom:token:{app.corp_id}:{digest}"
        self._refusal_key = f"wecom:token-refused:{app.corp_id}:{digest}"
        self._fetch = fetch
        self._cache = cache
        self._clock = clock
        self._token: Token | None = None
        self._refusal: Refusal | None = None
        self._spurned = ""  # the token that WeCom refused last
        self._task: asyncio.Task[Token] | None = None
        self._claim = claim
        self._pause = pause
        self._our_turn = ("", 0.0)  # the key and its end

    async def get(self) -> str:
        """Give a token good for a minute at least; a caller who goes away does not stop the fetch for the others."""
        now = self._clock()
        if self._token is None or not _serves(self._token, now):
            self._token = None
            return (await asyncio.shield(self._flight())).text
        if now >= self._token.renew_at:
            self._token = replace(self._token, renew_at=now + PAUSE_S)
            self._flight()
        return self._token.text

    async def instead_of(self, refused: str) -> str:
        """Give another token than the one that WeCom has just refused."""
        self._spurned = refused
        if self._token is not None and self._token.text == refused:
            self._token = None
        return await self.get()

    @property
    def problem(self) -> str:
        """What WeCom said when it was last asked for a token and gave none, and what to fix; empty once it gave one."""
        if self._refusal is None:
            return ""
        error = error_for(self._refusal.errcode, self._refusal.errmsg)
        fix = error.fix if isinstance(error, (WeComRefused, WeComBusy)) else ""
        return f"gettoken: {error}{f'; to fix: {fix}' if fix else ''}"

    async def close(self) -> None:
        """End a fetch that is still under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _flight(self) -> asyncio.Task[Token]:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._obtain(), name="wecom access token")
            self._task.add_done_callback(_look_at)
        return self._task

    async def _obtain(self) -> Token:
        token = await self._stored()
        if token is None:
            await self._heed_refusal()
            token = await self._anothers() or await self._fetched()
        self._token, self._refusal = token, None
        return token

    async def _stored(self) -> Token | None:
        """The token in the cache, unless it is the one that must be replaced."""
        token = _token_of(await self._read(self._key), self._clock())
        if token is None or token.text == self._spurned:
            return None
        ahead = self._token is not None and self._token.text == token.text
        return None if ahead else token

    async def _anothers(self) -> Token | None:
        """The token that another process is fetching at this moment; None where it is our turn, or nothing comes of it."""
        now = self._clock()
        replaced = self._spurned or (self._token.text if self._token else "")
        key = f"{self._key}:{hashlib.sha256(replaced.encode()).hexdigest()[:32]}"
        ours = self._our_turn[0] == key and now < self._our_turn[1]
        if self._claim is None or ours or await self._claim(key, now + TURN_S):
            self._our_turn = (key, now + TURN_S)
            return None
        for _ in range(LOOKS):
            await self._pause(TURN_S / LOOKS)
            if token := await self._stored():
                return token
            await self._heed_refusal()
        return None

    async def _fetched(self) -> Token:
        started = self._clock()
        try:
            answer = await self._fetch()
        except (WeComRefused, WeComBusy) as error:
            await self._remember_refusal(error)
            raise
        token = _issued(answer, started)
        await self._write(
            self._key,
            {"text": token.text, "renew_at": token.renew_at, "ends_at": token.ends_at},
            token.ends_at - started,
        )
        await self._remove(self._refusal_key)
        return token

    async def _heed_refusal(self) -> None:
        """Raise again what WeCom said while it is not to be asked: 2000 wrong secrets in an hour ban the address."""
        known = [self._refusal, _refusal_of(await self._read(self._refusal_key))]
        last = max((each for each in known if each is not None), key=lambda each: each.until, default=None)
        self._refusal = last
        if last is not None and last.until - LONGEST_REFUSAL_S <= self._clock() < last.until:
            raise error_for(last.errcode, last.errmsg)

    async def _remember_refusal(self, error: WeComRefused | WeComBusy) -> None:
        if isinstance(error, WeComBusy) and error.errcode != 45009:
            return
        last = self._refusal
        now = self._clock()
        again = last is not None and abs(now - last.until) < LONGEST_REFUSAL_S
        wait_s = min(2 * last.wait_s, LONGEST_REFUSAL_S) if last is not None and again else FIRST_REFUSAL_S
        errmsg = str(error).removeprefix(f"{error.errcode} ")
        self._refusal = Refusal(error.errcode, errmsg, now + wait_s, wait_s)
        stored = {"errcode": error.errcode, "errmsg": errmsg, "until": now + wait_s, "wait_s": wait_s}
        await self._write(self._refusal_key, stored, wait_s + LONGEST_REFUSAL_S)
        log.error("gettoken: WeCom gives no access token and is asked again in %d s", wait_s)

    async def _read(self, key: str) -> object:
        try:
            return await self._cache.get(key)
        except Exception as error:  # whatever a cache's backend raises: a lost cache costs one more fetch
            log.warning("the cache cannot be read (%s)", type(error).__name__)
            return None

    async def _write(self, key: str, value: Mapping[str, object], lifetime_s: float) -> None:
        try:
            await self._cache.set(key, dict(value), ttl=max(1, int(lifetime_s)))
        except Exception as error:
            log.warning("the cache cannot be written (%s)", type(error).__name__)

    async def _remove(self, key: str) -> None:
        try:
            await self._cache.delete(key)
        except Exception as error:
            log.warning("the cache cannot be written (%s)", type(error).__name__)


def _issued(answer: Mapping[str, Any], started: float) -> Token:
    text, life_s = answer.get("access_token"), answer.get("expires_in")
    if not isinstance(text, str) or not re.fullmatch(r"[\x21-\x7e]+", text):
        raise WeComUnreachable("gettoken: WeCom's access_token is not a text")
    if type(life_s) is not int or life_s <= 0:
        raise WeComUnreachable("gettoken: WeCom's expires_in is not a number of seconds")
    usable_s = min(life_s, LONGEST_LIFE_S) - min(MARGIN_S, life_s // 2)
    return Token(text, started + usable_s - min(AHEAD_S, usable_s / 2), started + usable_s)


def _token_of(stored: object, now: float) -> Token | None:
    match stored:
        case {"text": str(text), "renew_at": float() | int() as renew_at, "ends_at": float() | int() as ends_at}:
            token = Token(text, renew_at, ends_at)
            return token if _serves(token, now) else None
    return None


def _serves(token: Token, now: float) -> bool:
    """Not at its end; and an end too far ahead means that a clock was wrong."""
    return now < token.ends_at <= now + LONGEST_LIFE_S


def _refusal_of(stored: object) -> Refusal | None:
    match stored:
        case {
            "errcode": int(errcode),
            "errmsg": str(errmsg),
            "until": float() | int() as until,
            "wait_s": float() | int() as wait_s,
        }:
            return Refusal(errcode, errmsg, until, wait_s)
    return None


def _look_at(task: asyncio.Task[Token]) -> None:
    """A fetch whose callers have all gone must not end in "exception was never retrieved"."""
    if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, WeComError):
        log.error("fetching an access token failed", exc_info=error)
