"""The address of a Redis, as the setting ``store`` has it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from gateway.secret import Secret

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
PORT, SENTINEL_PORT = 6379, 26379
FILES = ("ca_file", "cert_file", "key_file")
"""The options that name a file for TLS."""
_OPTIONS = ("db", "prefix", *FILES, "sentinel_password")
_NOTHING = Secret("")


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """``redis[s]://[user:password@]host[:port][/db]`` · ``unix://[user:password@]/path`` ·
    ``redis[s]+sentinel://[user:password@]host[:port],…/service[/db]``, each with ``?prefix=…`` and other options.
    """

    hosts: tuple[tuple[str, int], ...]  #: the server's, or those of the sentinels; none with *path*
    path: str = ""  #: of a unix socket
    service: str = ""  #: the master's name with sentinels; empty without
    tls: bool = False
    user: str = ""
    password: Secret = _NOTHING
    sentinel_password: Secret = _NOTHING
    db: int = 0
    prefix: str = ""  #: stands before every key in place of the corp's and the app's id
    ca_file: str = ""  #: PEM bundle to trust instead of the system's
    cert_file: str = ""  #: ours, where Redis asks for one
    key_file: str = ""
    shown: str = field(default="", compare=False)  #: without user, password and options: for logs and messages

    @classmethod
    def parse(cls, text: str) -> RedisUrl:
        """Read *text*, or raise ValueError with a sentence that holds no password."""
        try:
            parts = urlsplit(text)
        except ValueError:
            raise ValueError("a URL like redis://redis.internal:6379/0 is needed") from None
        if parts.scheme not in SCHEMES:
            raise ValueError(f"a URL is needed that begins with one of {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
        if parts.fragment or "@" in parts.path + parts.query:
            raise ValueError("in user and password, write / as %2F, ? as %3F, # as %23, @ as %40 and % as %25")
        options, tls = _options(parts.query), parts.scheme.startswith("rediss")
        if not tls and any(options.get(name) for name in FILES):
            raise ValueError(f"{', '.join(FILES)} are for TLS: the URL begins with rediss:// or rediss+sentinel:// then")
        login, _, where = parts.netloc.rpartition("@")
        user, _, password = login.partition(":")
        sentinel = parts.scheme.endswith("+sentinel")
        path, service, db = _place(parts.scheme, where, unquote(parts.path), sentinel)
        return cls(
            hosts=() if path else _hosts(where, SENTINEL_PORT if sentinel else PORT, several=sentinel),
            path=path,
            service=service,
            tls=tls,
            user=unquote(user),
            password=Secret(unquote(password)),
            sentinel_password=Secret(options.get("sentinel_password", "")),
            db=_number(options.get("db", db)),
            prefix=_prefix(options.get("prefix", "")),
            ca_file=options.get("ca_file", ""),
            cert_file=options.get("cert_file", ""),
            key_file=options.get("key_file", ""),
            shown=f"{parts.scheme}://{where}{parts.path}",
        )


def _options(query: str) -> Mapping[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := [name for name in options if name not in _OPTIONS]:
        raise ValueError(f"unknown after the ?: {', '.join(sorted(unknown))}; known: {', '.join(_OPTIONS)}")
    return options


def _place(scheme: str, where: str, path: str, sentinel: bool) -> tuple[str, str, str]:
    """The path of the socket, the sentinels' name for the master, and the database; what there is none of is empty or "0"."""
    if scheme == "unix":
        if where or len(path) < 2:
            raise ValueError("the path of a socket is needed, like unix:///run/redis/redis.sock")
        return path, "", "0"
    service, _, db = path.strip("/").partition("/") if sentinel else ("", "", path.strip("/"))
    if sentinel and not service:
        raise ValueError("the sentinels' name for the master is needed, like redis+sentinel://one,two,three/mymaster")
    return "", service, db or "0"


def _hosts(where: str, port: int, *, several: bool) -> tuple[tuple[str, int], ...]:
    found = tuple(_host(each, port) for each in where.split(","))
    if len(found) > 1 and not several:
        raise ValueError("one host is needed; with sentinels the URL begins with redis+sentinel://")
    return found


def _host(text: str, port: int) -> tuple[str, int]:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(?::([0-9]{1,5}))?", text)
    if not match or not 0 < int(match[2] or port) < 65536:
        raise ValueError("a host is needed, with or without a port, like redis.internal:6379")
    return match[1].strip("[]"), int(match[2] or port)


def _number(text: str) -> int:
    if not re.fullmatch("[0-9]{1,6}", text):
        raise ValueError("the database is a number, like redis://redis.internal:6379/0")
    return int(text)


def _prefix(text: str) -> str:
    if not re.fullmatch("[A-Za-z0-9_.:-]{0,64}", text):
        raise ValueError("prefix: letters, digits and _ . : - are allowed, 64 at most")
    return text
