"""Which ``auth_request`` stands before an address: nginx.conf read as nginx reads it, locations chosen as nginx chooses them.

Source: nginx.org, ngx_http_core_module ``location`` and ``server_name``, ngx_http_auth_request_module. Rewrites, ``try_files``
and variables are not followed, and of a ``listen`` only the port counts; where one may change the answer, a note says so.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import crossplane

from gateway.rules import AUTH, written

Directive = dict[str, Any]
_FOLLOWED = ("rewrite", "try_files", "return", "satisfy", "if")
OURS = "wecom"
"""The folder of the shipped snippets, whose own directives need no note."""
_NAMED_GROUP = re.compile(r"\(\?<(?=[A-Za-z_])")


class CannotTell(Exception):
    """The file cannot be read, or holds more than one answer; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Found:
    """The location that answers an address, and what is asked before it."""

    server: str  #: ``server_name`` and place
    location: str  #: as written, and place
    question: str  #: the argument of ``auth_request`` in force; ``off`` or empty: nobody is asked
    notes: tuple[str, ...]  #: what may make nginx answer otherwise

    @property
    def rule(self) -> str | None:
        """The rule, empty for any member; None where nobody is asked, or somebody else than us.

        As written: a ``%`` in it is no escape, nginx escapes it once more.
        """
        return written(self.question) if _is_ours(self.question) else None


def _is_ours(question: str) -> bool:
    return question == AUTH or question.startswith(f"{AUTH}/")


def find(path: Path, uri: str, host: str = "") -> Found:
    """Find the location of *uri* in the nginx.conf at *path*; *host*, a name with a port or without, chooses the server."""
    http = [each for each in _read(path) if each["directive"] == "http"]
    blocks = [inner for each in http for inner in each["block"]]
    servers = [each for each in blocks if each["directive"] == "server"]
    name, port = re.fullmatch(r"(.*?)(?::([0-9]+))?", host.casefold(), re.DOTALL).groups(default="")  # type: ignore[union-attr]
    server = _server(servers, name, port, path)
    locations, _ = _chain(server["block"], _normal(uri))
    location, chain = locations[-1] if locations else None, [server, *locations]
    question = _question([blocks, *(each["block"] for each in chain)])
    twins = () if port in _ports(server) else _twins(servers, server, name)
    return Found(
        server=f"server {' '.join(_names(server)) or '_'} ({_place(server)})",
        location=f"location {' '.join(location['args'])} ({_place(location)})" if location else "no location: the server itself",
        question=question,
        notes=(*_unanswered(server, question), *_notes(chain), *twins),
    )


def _read(path: Path) -> list[Directive]:
    try:
        payload = crossplane.parse(str(path), check_ctx=False, check_args=False)
    except (OSError, UnicodeDecodeError) as error:
        raise CannotTell(f"{path}: cannot be read: {error}") from None
    if payload["errors"]:
        raise CannotTell("; ".join(str(each.get("error", each)) for each in payload["errors"][:5]))
    try:
        return list(_whole(payload["config"], 0, payload["config"][0]["parsed"]))
    except RecursionError:
        raise CannotTell(f"{path}: a file in it includes itself") from None


def _whole(files: list[dict[str, Any]], number: int, block: list[Directive]) -> Iterator[Directive]:
    """The directives of *block*, includes put in their place, each with the file that it stands in."""
    for each in block:
        if each["directive"] == "include":
            for included in each.get("includes", ()):
                yield from _whole(files, included, files[included]["parsed"])
        else:
            inner = {"block": list(_whole(files, number, each["block"]))} if "block" in each else {}
            yield each | inner | {"file": files[number]["file"]}


def _place(directive: Directive) -> str:
    return f"{directive['file']}:{directive['line']}"


def _names(server: Directive) -> list[str]:
    return [name for each in server["block"] if each["directive"] == "server_name" for name in each["args"]]


def _ports(server: Directive) -> tuple[str, ...]:
    addresses = [str(each["args"][0]) for each in server["block"] if each["directive"] == "listen"] or ["80"]
    return tuple({found[1] if (found := re.search(r"(?:^|:)([0-9]+)$", each)) else "80": None for each in addresses})


def _asks(server: Directive) -> bool:
    return any(_all(server["block"], "auth_request"))


def _server(servers: list[Directive], host: str, port: str, path: Path) -> Directive:
    """The server that answers *host* at *port*; without a port rather one that asks: :func:`_twins` names the others."""
    heard = [each for each in servers if port in _ports(each)]
    ports = {port} if heard else {port for each in servers for port in _ports(each)}  # else something before nginx has that port
    if host:
        found = [_at(servers, host, each) for each in sorted(ports, key=int)]
        found = [each for each in found if _fits(_names(each), host)] or (heard if len(heard) == 1 else [])
        found = sorted([each for each in found if _asks(each)] or found, key=lambda each: -_fits(_names(each), host))
    else:
        found = [each for each in heard or servers if _asks(each)] or heard or servers
    if found and (host or len(found) == 1):
        return found[0]
    known = ", ".join(f"{_called(each)} ({_place(each)})" for each in servers[:20])
    if not servers:
        raise CannotTell(f"{path}: no server block")
    raise CannotTell(f"no server is named {host!r}; there are: {known}" if host else f"several servers; say --host: {known}")


def _at(servers: list[Directive], host: str, port: str) -> Directive:
    """The best name of those that listen there, else the port's default, as nginx chooses."""
    heard = [each for each in servers if port in _ports(each)]
    return max(heard, key=lambda each: (_fits(_names(each), host), _is_default(each)))


def _is_default(server: Directive) -> bool:
    return any(each["directive"] == "listen" and "default_server" in each["args"] for each in server["block"])


def _called(server: Directive) -> str:
    return f"{' '.join(_names(server)) or '_'}:{','.join(_ports(server))}"


def _twins(servers: list[Directive], chosen: Directive, host: str) -> Iterator[str]:
    """Who answers the same name at another port, by rules of its own; one that only redirects opens nothing."""
    name = host or next(iter(_names(chosen)), "")
    for port in dict.fromkeys(port for each in servers for port in _ports(each) if port not in _ports(chosen)):
        other = _at(servers, name, port)
        met = _fits(_names(other), name) or port in ("80", "443")  # where a browser comes by itself
        if met and not any(each["directive"] == "return" for each in other["block"]):
            yield f"server {_called(other)} ({_place(other)}) answers {name}:{port}, by rules of its own: --host {name}:{port}"


def _fits(names: list[str], host: str) -> int:
    """How well *host* is named: exactly, by ``*.``, by ``.*``, by an expression; the longest first, as nginx does."""
    best = 0
    for name in map(str.casefold, names):
        if name == host or (name.startswith(".") and name[1:] == host):
            best = max(best, 4000)
        elif (name.startswith("*.") and host.endswith(name[1:])) or (name.startswith(".") and host.endswith(name)):
            best = max(best, 3000 + len(name))
        elif name.endswith(".*") and host.startswith(name[:-1]):
            best = max(best, 2000 + len(name))
        elif name.startswith("~") and _matches(name[1:], host, ignore_case=True):
            best = max(best, 1)
    return best


def _normal(uri: str) -> str:
    """The path as nginx matches it: decoded once, without query, ``//`` merged, dots resolved."""
    path = unquote(uri.partition("?")[0].partition("#")[0], errors="surrogateescape")
    if not path.startswith("/"):
        raise CannotTell(f"--uri {uri}: begins with a slash, like /finance/report?year=2025")
    slash = "/" if path.endswith(("/", "/.", "/..")) else ""
    normal = posixpath.normpath(re.sub("/+", "/", path))
    return normal if normal == "/" else normal + slash


def _chain(block: list[Directive], uri: str) -> tuple[list[Directive], bool]:
    """The locations that answer, the outermost first; True where no expression outside may take over.

    nginx's order: ``=``; else the longest prefix and what is nested there, then expressions as written, unless ``^~``.
    """
    prefix, exact = _longest(block, uri)
    chain = [prefix] if prefix else []
    if exact:
        return chain, True
    if prefix:
        nested, final = _chain(prefix["block"], uri)
        chain += nested
        if final or _written(prefix)[0] == "^~":
            return chain, final
    for each in _locations(block):
        kind, pattern = _written(each)
        if kind in ("~", "~*") and _matches(pattern, uri, ignore_case=kind == "~*"):
            return [each, *_chain(each["block"], uri)[0]], True
    return chain, False


def _longest(block: list[Directive], uri: str) -> tuple[Directive | None, bool]:
    best, size = None, -1
    for each in _locations(block):
        kind, prefix = _written(each)
        if kind == "=" and prefix == uri:
            return each, True
        if kind in ("", "^~") and uri.startswith(prefix) and len(prefix) > size:
            best, size = each, len(prefix)
    return best, False


def _written(location: Directive) -> tuple[str, str]:
    """Modifier and pattern; nginx allows them without a blank between. A named location has the modifier ``@``."""
    modifier, pattern = re.fullmatch("(=|\\^~|~\\*?|@)?(.*)", "".join(location["args"]), re.DOTALL).groups(default="")  # type: ignore[union-attr]
    if "\ufffd" in pattern:  # what crossplane makes of other bytes
        raise CannotTell(f"location {pattern} ({_place(location)}) is not UTF-8: ask the running site instead")
    return modifier, pattern


def _locations(block: list[Directive]) -> Iterator[Directive]:
    return (each for each in block if each["directive"] == "location")


def _matches(pattern: str, text: str, *, ignore_case: bool) -> bool:
    try:
        return re.search(_NAMED_GROUP.sub("(?P<", pattern), text, re.IGNORECASE if ignore_case else 0) is not None
    except re.error as error:
        raise CannotTell(f"the expression {pattern!r} cannot be read here ({error}); ask the running site instead") from None


def _question(blocks: list[list[Directive]]) -> str:
    """The innermost ``auth_request``: it is inherited until a block has its own."""
    for block in reversed(blocks):
        for each in block:
            if each["directive"] == "auth_request":
                return str(each["args"][0])
    return ""


def _all(block: list[Directive], name: str) -> Iterator[Directive]:
    for each in block:
        if each["directive"] == name:
            yield each
        yield from _all(each.get("block") or [], name)


def _is_gateway_conf(directive: Directive) -> bool:
    return Path(directive["file"]).parts[-2:] == (OURS, "gateway.conf")


def _above(server: list[Directive]) -> list[Directive]:
    """What the server does before its gateway.conf, and may answer the check; nothing where it has none (:func:`_unanswered`)."""
    ours = (number for number, each in enumerate(server) if _is_gateway_conf(each))
    return [each for each in server[: next(ours, 0)] if each["directive"] in ("if", "rewrite")]


def _unanswered(server: Directive, question: str) -> Iterator[str]:
    open_ = "a page of this server may answer it, and then everybody is in"
    if OURS in question and not _is_ours(question):
        yield f"auth_request {question} is not {AUTH}, if that is meant: {open_}"
    if _is_ours(question) and not any(_is_gateway_conf(each) for each in server["block"]):
        place = _place(server)
        yield f"{OURS}/gateway.conf is not included in this server ({place}): {open_}, or 500; include it first"


def _notes(chain: list[Directive]) -> Iterator[str]:
    for each in _above(chain[0]["block"]):
        if each["directive"] == "rewrite" or any(_all(each.get("block") or [], "rewrite")):
            yield (
                f"{each['directive']} {' '.join(each['args'])} ({_place(each)}) stands above gateway.conf: "
                "a page of this server may answer the check, and then everybody is in; move it below the include"
            )
    for block in chain:
        for each in block["block"]:
            name, place = each["directive"], _place(each)
            if name in _FOLLOWED and Path(each["file"]).parent.name != OURS:
                arguments = " ".join(each["args"])
                if name == "return":
                    yield f"return {arguments} ({place}) is answered before anybody is asked"
                elif name != "satisfy":
                    yield f"{name} {arguments} ({place}) is not followed: another location may answer"
                elif arguments == "any":
                    yield f"satisfy any ({place}): who passes by address or by auth_basic is not asked"
