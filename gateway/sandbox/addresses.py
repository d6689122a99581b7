"""Redirect addresses: how WeCom reads redirect_uri, and how it writes the callback."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote, unquote, urlsplit

_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")
_STATE = re.compile(r"[a-zA-Z0-9]{0,128}", re.ASCII)


def raw_query_of(raw_path: str) -> str:
    """Return what follows the first ``?``, as it arrived."""
    return raw_path.partition("?")[2]


def raw_value(raw_query: str, name: str) -> str:
    """Return one parameter undecoded."""
    pairs = (pair.partition("=") for pair in raw_query.split("&"))
    return next((value for key, _, value in pairs if key == name), "")


def decoded(raw_query: str) -> dict[str, str]:
    """Decode a query; of repeated names the first counts."""
    query: dict[str, str] = {}
    for name, value in parse_qsl(raw_query, keep_blank_values=True):
        query.setdefault(name, value)
    return query


def redirect_is_proper(raw: str, *, nested_urls: bool) -> bool:
    """Say whether a raw redirect_uri is http(s), encoded exactly once, and hides no other scheme."""
    if "://" in raw:
        return False
    try:
        uri = unquote(raw, errors="strict")
    except UnicodeDecodeError:
        return False
    if re.search(r"[\x00-\x20\x7f]", uri) or not domain_of(uri):
        return False
    inner = [scheme.lower() for scheme in _SCHEME.findall(unquote(unquote(uri)))][1:]
    return not any(scheme not in ("http", "https") for scheme in inner) and (nested_urls or not inner)


def domain_of(uri: str) -> str:
    """Return host[:port] in lower case with an explicit port kept, or "" for what is no http(s) address."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return ""
    return parts.netloc.lower() if parts.scheme in ("http", "https") else ""


def state_is_proper(state: str) -> bool:
    """Say whether the state is at most 128 letters and digits."""
    return _STATE.fullmatch(state) is not None


def callback(redirect_uri: str, answer: Iterable[tuple[str, str]], *, extra: str = "") -> str:
    """Add the answer to the address: after its own query, before its fragment."""
    base, hash_, fragment = redirect_uri.partition("#")
    query = "&".join([f"{name}={quote(value, safe='')}" for name, value in answer] + ([extra] if extra else []))
    joint = "" if base.endswith(("?", "&")) else "&" if "?" in base else "?"
    return quote(f"{base}{joint}{query}{hash_}{fragment}", safe="!#$%&'()*+,/:;=?@[]~")
