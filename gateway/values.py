"""Single values of the settings: their types, and how each is read from a file or the environment."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, NewType
from urllib.parse import urlsplit

from gateway.accounts import Source
from gateway.criteria import reference
from gateway.redis_url import SCHEMES, RedisUrl
from gateway.secret import UNREAD, Secret
from gateway.urls import Origin

Duration = NewType("Duration", int)  #: seconds; written ``30m``, ``12h``, ``7d`` or a number of seconds
HttpUrl = NewType("HttpUrl", str)
Address = NewType("Address", str)  #: ``127.0.0.1:9180`` or ``unix:/run/wecom-gateway/check.sock``
Name = NewType("Name", str)
Host = NewType("Host", str)
VerifyFile = NewType("VerifyFile", str)
Detail = NewType("Detail", str)
Scope = NewType("Scope", str)
CorpId = NewType("CorpId", str)
Language = NewType("Language", str)
LogLevel = NewType("LogLevel", str)
Proxy = NewType("Proxy", str)
SyslogUrl = NewType("SyslogUrl", str)
TagName = NewType("TagName", str)  #: the number of a tag, or its name
StoreUrl = NewType("StoreUrl", str)  #: may hold a password
Unreachable = NewType("Unreachable", str)  #: ``keep`` or ``close``

DETAILS = ("position", "alias", "email", "mobile", "avatar")
SCOPES = ("snsapi_base", "snsapi_privateinfo")
LANGUAGES = ("zh", "en")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def _duration(value: Any, _: Any = None) -> Duration:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return Duration(value)
    match = re.fullmatch(r"(\d{1,9})([smhd]?)", value.strip()) if isinstance(value, str) else None
    if not match:
        raise ValueError(f"a duration like 30m, 12h, 7d or a number of seconds is needed, not {value!r}")
    return Duration(int(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]])


def _origin(value: Any, _: Any = None) -> Origin:
    return Origin.parse(_text(value))


def _source(value: Any, _: Any = None) -> Source:
    return Source.parse(_text(value))


def _http_url(value: Any, _: Any = None) -> HttpUrl:
    text = _text(value).rstrip("/")
    if not _is_http(text) or "@" in text or "?" in text or "#" in text:
        found = "one with a name or password" if "@" in text else repr(text)
        raise ValueError(f"a base URL like https://qyapi.weixin.qq.com is needed, not {found}")
    return HttpUrl(text)


def _proxy(value: Any, _: Any = None) -> Proxy:
    text = _text(value)
    if text and not _is_http(text):
        raise ValueError("a proxy like http://proxy.example.com:3128 or http://user:password@10.0.0.1:3128 is needed")
    return Proxy(text)


def _syslog(value: Any, _: Any = None) -> SyslogUrl:
    text = _text(value)
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("tcp", "tls") and bool(parts.hostname) and not parts.path and parts.port != 0 and "@" not in text
    except ValueError:
        good = False
    if text and not (good and text.isprintable()):
        raise ValueError(f"an address like tcp://syslog.example.com:514 or tls://syslog.example.com:6514 is needed, not {text!r}")
    return SyslogUrl(text)


def _store(value: Any, _: Any = None) -> StoreUrl:
    text = _text(value)
    scheme, _, place = text.partition("://")
    if scheme in SCHEMES:
        RedisUrl.parse(text)
    elif text != UNREAD and (scheme != "sqlite" or not place.startswith("/") or place.endswith("/") or not place.isprintable()):
        raise ValueError(
            "an address like sqlite:///var/lib/wecom-gateway/ledger.sqlite3 is needed, with an absolute path, "
            "or one like redis://redis.internal:6379/0"
        )
    return StoreUrl(text)


def _is_http(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and text.isprintable()
    except ValueError:
        return False


def _address(value: Any, _: Any = None) -> Address:
    text = _text(value)
    if text.startswith("unix:/"):
        return Address(text)
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"an address like 127.0.0.1:9180 or unix:/run/wecom-gateway/check.sock is needed, not {text!r}")
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        raise ValueError("the host must be an IP address, like 127.0.0.1 or 0.0.0.0") from None
    if ":" in host and not re.fullmatch(r"\[.*\]", host):  # nginx could not read it in upstream.conf
        raise ValueError(f"an IPv6 address stands in brackets, like [::1]:9180, not {text!r}")
    return Address(text)


def _matching(pattern: str, wanted: str) -> Any:
    def structure(value: Any, _: Any = None) -> Any:
        text = _text(value)
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{wanted} is needed, not {text!r}")
        return text

    return structure


def _text(value: Any, _: Any = None) -> str:
    if not isinstance(value, str):
        raise ValueError("a text in quotes is needed")
    return value


def _integer(value: Any, _: Any = None) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value.strip()):
        return int(value)
    raise ValueError(f"a whole number is needed, not {value!r}")


def _boolean(value: Any, _: Any = None) -> bool:
    known = {True: True, False: False, "true": True, "false": False}
    if not isinstance(value, (bool, str)) or value not in known:
        raise ValueError(f"true or false is needed, not {value!r}")
    return known[value]


def _secret(value: Any, _: Any = None) -> Secret:
    text = value if isinstance(value, str) else ""
    if not text or not text.isprintable() or " " in text:
        raise ValueError("a secret without blanks is needed")
    return Secret(text)


def _tag(value: Any, _: Any = None) -> TagName:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(f"the number or the name of a tag is needed, not {value!r}")
    return TagName(str(reference(str(value))))


READERS: dict[Any, Callable[..., Any]] = {
    int: _integer,
    str: _text,
    bool: _boolean,
    Secret: _secret,
    Origin: _origin,
    Source: _source,
    Duration: _duration,
    HttpUrl: _http_url,
    Address: _address,
    Name: _matching(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", "a name of letters, digits, - and _"),
    Host: _matching(r"[0-9a-z][0-9a-z.-]{0,252}", "a host name in lower case, without port"),
    VerifyFile: _matching(r"WW_verify_[A-Za-z0-9]{16}\.txt", "a name like WW_verify_0123456789abcdef.txt"),
    TagName: _tag,
    Detail: _matching("|".join(DETAILS), "one of " + ", ".join(DETAILS)),
    Scope: _matching("|".join(SCOPES), " or ".join(SCOPES)),
    Proxy: _proxy,
    StoreUrl: _store,
    SyslogUrl: _syslog,
    CorpId: _matching("[A-Za-z0-9_-]{1,64}", "a corp id like ww0123456789abcdef, from 我的企业 in WeCom's console,"),
    Language: _matching("|".join(("", *LANGUAGES)), "zh, en or nothing"),
    Unreachable: _matching("keep|close", "keep or close"),
    LogLevel: _matching("|".join(LOG_LEVELS), "one of " + ", ".join(LOG_LEVELS)),
}
"""For each type the function that reads it: ValueError says what is needed, and never prints a secret."""
