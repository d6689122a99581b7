"""Clients of the Redis that the setting ``store`` names: bounded in time, never repeating a command by themselves."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from gateway.redis_url import RedisUrl


@dataclass(frozen=True, slots=True)
class Bounds:
    """For how many seconds what gives no answer is waited for."""

    connect_s: float = 2.0
    answer_s: float = 2.0
    sentinel_s: float = 0.5  #: each of the sentinels: the first may be on the machine that went down
    call_s: float = (
        3.0  #: one call, connecting and signing in to Redis included; to close what has hung can take another connect_s
    )
    brief_s: float = 1.5  #: a call that a sign-in can do without


BOUNDS = Bounds()


class Clients:
    """Makes clients for *url* and closes them."""

    def __init__(self, url: RedisUrl, bounds: Bounds = BOUNDS) -> None:
        self._url = url
        self._bounds = bounds
        self._sentinel = _sentinel(url, bounds) if url.service else None
        self._made: list[Any] = []

    def make(self, *, answer_s: float) -> Any:
        """A :class:`redis.asyncio.Redis` with connections of its own, whose commands may take *answer_s*.

        Its types differ between releases of the library.
        """
        url, how = self._url, _common(self._url, self._bounds.connect_s, answer_s) | _tls(self._url)
        if self._sentinel is not None:
            client = self._sentinel.master_for(url.service, **how)
        elif url.path:
            client = Redis(unix_socket_path=url.path, **how)
        else:
            client = Redis(host=url.hosts[0][0], port=url.hosts[0][1], **how)
        self._made.append(client)
        return client

    async def close(self) -> None:
        for client in (*self._made, *(self._sentinel.sentinels if self._sentinel is not None else ())):
            await client.aclose()


class _Sentinels(Sentinel):
    """Asks for the master on a list of its own each time.

    The library moves whoever answered to the front of its one list; two that ask at once would so lose a sentinel for good.
    """

    async def discover_master(self, service_name: str) -> Any:
        own = copy(self)
        own.sentinels = list(self.sentinels)
        found = await Sentinel.discover_master(own, service_name)
        self.sentinels = own.sentinels
        return found


def _common(url: RedisUrl, connect_s: float, answer_s: float) -> dict[str, Any]:
    return {
        "username": url.user or None,
        "password": url.password.reveal() or None,
        "db": url.db,
        "protocol": 2,  # what every Redis since 5 speaks
        "decode_responses": True,
        "socket_connect_timeout": connect_s,
        "socket_timeout": answer_s,
        "retry": Retry(NoBackoff(), 0),  # an append that may have arrived is not sent again
    }


def _tls(url: RedisUrl) -> dict[str, Any]:
    if not url.tls:
        return {}
    return {
        "ssl": True,
        "ssl_check_hostname": True,  # releases of the library before 6 do not by themselves
        "ssl_ca_certs": url.ca_file or None,
        "ssl_certfile": url.cert_file or None,
        "ssl_keyfile": url.key_file or None,
    }


def _sentinel(url: RedisUrl, bounds: Bounds) -> Any:
    how = {
        "password": url.sentinel_password.reveal() or None,
        "protocol": 2,
        "socket_connect_timeout": bounds.sentinel_s,
        "socket_timeout": bounds.sentinel_s,
        "retry": Retry(NoBackoff(), 0),
    }
    return _Sentinels(list(url.hosts), sentinel_kwargs=how | _tls(url))  # type: ignore[no-untyped-call]
