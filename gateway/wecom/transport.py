"""One HTTP call to WeCom's API: sent with care, sent again where that is harmless, read with suspicion.

No error raised here carries the request's URL, for it holds the token, the secret or the code: aiohttp's errors do, so
they are never chained.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from random import SystemRandom
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from yarl import URL

from gateway.errors import CodeSpent, MemberUnknown, TicketSpent, WeComBusy, WeComError, WeComUnreachable
from gateway.wecom.codes import CODES, error_for

TRIES = 3
BIGGEST_ANSWER = 8 * 1024 * 1024
"""Bytes, unpacked: the department list of a very large corp takes about half of it."""

log = logging.getLogger("gateway.wecom")

Pause = Callable[[float], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where WeCom's API is and how to get there."""

    api: str = "https://qyapi.weixin.qq.com"  #: a private deployment may have a port and a path prefix
    timeout_s: float = 5  #: for one attempt
    proxy: str | None = None  #: an outbound HTTP proxy, ``http://[user:password@]host:port``
    private: bool = False  #: 私有化: the older family of endpoints

    def __repr__(self) -> str:
        """The proxy may hold a password."""
        return f"Endpoints({self.api!r}, timeout_s={self.timeout_s}, private={self.private})"


@dataclass(frozen=True, slots=True, repr=False)
class Call:
    """What to ask: ``path`` below ``/cgi-bin/``; a good answer has one of ``expects``."""

    path: str
    query: Mapping[str, str]
    expects: tuple[str, ...]
    body: Mapping[str, str] | None = None  #: sent by POST
    once: bool = False  #: what is asked may be spent by asking: never send it again once it may have arrived
    hide: tuple[str, ...] = ()  #: texts that no error or log may show

    def with_token(self, token: str) -> Call:
        return replace(self, query={"access_token": token, **self.query}, hide=(*self.hide, token))


class Lost(Exception):
    """No usable answer to one attempt; it never leaves this module.

    ``arrived``: WeCom may have acted on it. ``final``: asking again is futile.
    """

    def __init__(self, why: str, *, arrived: bool = True, final: bool = False) -> None:
        self.arrived = arrived
        self.final = final
        super().__init__(why)


class Transport:
    """Send calls; ``pause`` waits between attempts."""

    def __init__(self, endpoints: Endpoints, http: aiohttp.ClientSession, pause: Pause = asyncio.sleep) -> None:
        self._base = endpoints.api.rstrip("/")
        self._proxy = endpoints.proxy
        self._timeout = aiohttp.ClientTimeout(total=endpoints.timeout_s, connect=0.6 * endpoints.timeout_s)
        self._http = http
        self._pause = pause
        self._jitter = SystemRandom()

    async def send(self, call: Call) -> dict[str, Any]:
        """Give WeCom's answer to *call*, ``errcode`` 0, or raise what :func:`error_for` makes of the other ones."""
        attempt = 1
        while not isinstance(judged := _judge(call, answer := await self._attempt(call)), dict):
            if attempt == TRIES or not _again(call, answer, judged):
                _tell(call, judged)
                raise judged
            await self._pause(self._jitter.uniform(0.1, 0.3) * 2 ** (attempt - 1))
            attempt += 1
        return judged

    async def _attempt(self, call: Call) -> dict[str, Any] | Lost:
        try:
            status, body = await self._ask(call)
        except (aiohttp.ClientError, OSError, TimeoutError, Lost) as error:
            return error if isinstance(error, Lost) else _lost(error)
        return _parsed(status, body)

    async def _ask(self, call: Call) -> tuple[int, bytes]:
        url = URL(f"{self._base}/cgi-bin/{call.path}?{urlencode(call.query, quote_via=quote, safe='')}", encoded=True)
        async with self._http.request(
            "GET" if call.body is None else "POST",
            url,
            json=call.body,
            proxy=self._proxy,
            timeout=self._timeout,
            allow_redirects=False,
            middlewares=(_without_silent_repeat,),
        ) as response:
            if response.status != 200:
                return response.status, b""
            return response.status, await _bounded(response)


async def _without_silent_repeat(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """aiohttp sends a GET once more by itself when the connection breaks, which could spend a code twice."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
        pass
    raise Lost("WeCom closed the connection")


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(65536):
        body += chunk
        if len(body) > BIGGEST_ANSWER:
            raise Lost(f"WeCom's answer is larger than {BIGGEST_ANSWER} bytes", final=True)
    return bytes(body)


def _lost(error: BaseException) -> Lost:
    """Say what went wrong in words of our own."""
    match error:
        case aiohttp.ClientProxyConnectionError():
            return Lost(f"cannot connect to the outbound proxy (wecom.proxy), {_os_text(error)}", arrived=False)
        case aiohttp.ClientConnectorCertificateError():
            return Lost(
                f"the certificate of {error.host} is not trusted here; wecom.ca_file names one to trust",
                arrived=False,
                final=True,
            )
        case aiohttp.ClientConnectorError():
            return Lost(f"cannot connect to WeCom at {_os_text(error)}", arrived=False)
        case aiohttp.ConnectionTimeoutError():
            return Lost("no connection to WeCom in time", arrived=False)
        case TimeoutError():
            return Lost("WeCom did not answer in time")
        case aiohttp.ClientHttpProxyError():
            return Lost(f"the outbound proxy answered {error.status}", arrived=False, final=error.status < 500)
        case aiohttp.ClientPayloadError():
            return Lost("WeCom's answer broke off")
    return Lost(f"talking to WeCom failed ({type(error).__name__})")


def _os_text(error: aiohttp.ClientConnectorError) -> str:
    """``qyapi.weixin.qq.com:443: Connection refused``."""
    return f"{error.host}:{error.port}: {error.os_error.strerror or type(error.os_error).__name__}"


def _parsed(status: int, body: bytes) -> dict[str, Any] | Lost:
    if status >= 500:
        return Lost(f"WeCom answered HTTP {status}")
    if status != 200:
        return Lost(f"WeCom answered HTTP {status}; is wecom.api_url right, is a proxy in between?", final=True)
    try:
        answer = json.loads(body.decode("utf-8-sig"), strict=False)
    except (ValueError, RecursionError):
        return Lost("WeCom's answer is not JSON, or not all of it")
    return answer if isinstance(answer, dict) else Lost("WeCom's answer is not a JSON object")


def _tell(call: Call, error: WeComError) -> None:
    """Log WeCom's words with their hint and address: WeCom's support and the console's query page ask for them."""
    level = logging.INFO if isinstance(error, CodeSpent | TicketSpent | MemberUnknown) else logging.WARNING
    fix = getattr(error, "fix", "")
    log.log(level, "%s: %s%s", call.path, error, f"; to fix: {fix}" if fix else "")


def _judge(call: Call, answer: dict[str, Any] | Lost) -> dict[str, Any] | WeComError:
    if isinstance(answer, Lost):
        return WeComUnreachable(str(answer))
    errcode = answer.get("errcode", 0)
    if type(errcode) is not int:
        return WeComUnreachable("WeCom's errcode is not a number")
    if errcode != 0:
        return error_for(errcode, readable(answer.get("errmsg"), call.hide))
    if any(name in answer for name in call.expects):
        return answer
    return WeComUnreachable(f"WeCom's answer lacks {' or '.join(call.expects)}")


def _again(call: Call, answer: dict[str, Any] | Lost, error: WeComError) -> bool:
    if isinstance(answer, Lost):
        return not answer.final and not (call.once and answer.arrived)
    return isinstance(error, WeComBusy) and CODES[error.errcode].retry


def readable(errmsg: object, hide: tuple[str, ...] = ()) -> str:
    """WeCom's text, hint and address included, as one bounded line without what must stay hidden."""
    text = errmsg if isinstance(errmsg, str) else ""
    for secret in filter(None, hide):
        text = text.replace(secret, "***").replace(quote(secret, safe=""), "***")
    return "".join(char if char.isprintable() else " " for char in text[:1000])
