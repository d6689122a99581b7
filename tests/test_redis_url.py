"""The address of a Redis: what each part means, and mistakes told without a password."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.redis_url import RedisUrl


@pytest.mark.parametrize(
    "text, told",
    [
        ("redis://redis.internal", {"hosts": (("redis.internal", 6379),), "db": 0, "tls": False}),
        ("redis://redis.internal:6380/3", {"hosts": (("redis.internal", 6380),), "db": 3}),
        ("redis://[fd00::1]:6380/", {"hosts": (("fd00::1", 6380),)}),
        ("redis://gateway:p%40ss%2Fw%25@redis.internal", {"user": "gateway", "shown": "redis://redis.internal"}),
        ("rediss://redis.internal?ca_file=/etc/ca.pem", {"tls": True, "ca_file": "/etc/ca.pem"}),
        ("rediss://r?cert_file=/c.pem&key_file=/k.pem", {"cert_file": "/c.pem", "key_file": "/k.pem"}),
        ("redis://redis.internal?prefix=oa:", {"prefix": "oa:"}),
        ("unix:///run/redis/redis.sock?db=1", {"hosts": (), "path": "/run/redis/redis.sock", "db": 1}),
        (
            "redis+sentinel://one,two:26380,three/mymaster/2",
            {"hosts": (("one", 26379), ("two", 26380), ("three", 26379)), "service": "mymaster", "db": 2, "tls": False},
        ),
        ("rediss+sentinel://one/mymaster", {"service": "mymaster", "tls": True}),
    ],
)
def test_parts(text: str, told: dict[str, Any]) -> None:
    """Each part of the address is where it is looked for."""
    url = RedisUrl.parse(text)

    assert {name: getattr(url, name) for name in told} == told


def test_passwords_are_read_and_not_shown() -> None:
    """Passwords are decoded, and stand in no representation."""
    url = RedisUrl.parse("redis+sentinel://u:p%40ss%2Fw%25@one/m?sentinel_password=s%3Fcret")

    assert (url.password.reveal(), url.sentinel_password.reveal()) == ("p@ss/w%", "s?cret")
    assert not [
        text for text in (repr(url), str(url), url.shown) for secret in ("p@ss", "p%40", "s?cret", "s%3F") if secret in text
    ]


@pytest.mark.parametrize(
    "text, told",
    [
        ("http://redis.internal", "begins with one of redis://"),
        ("redis.internal:6379", "begins with one of redis://"),
        ("redis://", "a host is needed"),
        ("redis://host:0", "a host is needed"),
        ("redis://host:70000", "a host is needed"),
        ("redis://ho st", "a host is needed"),
        ("redis://[fd00::1", "a URL like redis://"),
        ("redis://one,two", "redis+sentinel://"),
        ("redis://host/one", "the database is a number"),
        ("redis://host/-1", "the database is a number"),
        ("redis://host?database=1", "unknown after the ?: database"),
        ("redis://host?prefix=a/b", "prefix: letters"),
        ("redis://host?ca_file=/etc/ca.pem", "the URL begins with rediss://"),
        ("unix:///run/redis.sock?key_file=/k.pem", "the URL begins with rediss://"),
        ("redis://host#0", "write / as %2F"),
        ("unix://run/redis.sock", "the path of a socket"),
        ("unix:///", "the path of a socket"),
        ("redis+sentinel://one,two", "the sentinels' name for the master"),
    ],
)
def test_mistakes(text: str, told: str) -> None:
    """A mistake says what is needed."""
    with pytest.raises(ValueError, match=told.replace("?", r"\?").replace("+", r"\+")):
        RedisUrl.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "redis://u:hush-a@b@host",
            "redis://u:hush/a@host",
            "redis://u:hush#a@host",
            "redis://u:hush?a@host",
            "redis://u:hush@",
        ),
        *("ftp://u:hush@host", "redis://u:hush@host/x", "redis://u:hush@host?sentinel_password=hush&x=1", "redis://:hush@[host"),
    ],
)
def test_mistakes_tell_no_password(text: str) -> None:
    """Whatever is wrong with it, the sentence holds nothing of the password; what cannot be a mistake is read whole."""
    try:
        shown = RedisUrl.parse(text).shown
    except ValueError as error:
        shown = str(error)

    assert "hush" not in shown
