"""Other auth_request services that are already listening: how the command line names them, how nginx asks them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_PEER = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9-]{0,30})=(?:http://)?(?P<address>[A-Za-z0-9.-]+:\d{1,5})(?P<path>/[!-~]*)?")
_HEADER = re.compile(r"(?:(?P<name>[A-Za-z][A-Za-z0-9-]{0,30})=)?(?P<key>[A-Za-z0-9-]+):[ \t]*(?P<value>[ -~]*)")
_UNQUOTABLE = re.compile(r'[$"\\;{}]')


@dataclass(frozen=True, slots=True)
class Peer:
    """Another auth_request service."""

    name: str
    address: str  #: host:port
    path: str  #: begins with a slash
    headers: tuple[tuple[str, str], ...] = ()  #: what nginx sends it besides the browser's own

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @property
    def upstream(self) -> str:
        """Its place in ``http``."""
        return f"upstream bench_{self.name} {{ server {self.address}; keepalive 64; keepalive_requests 100000; }}"

    @property
    def locations(self) -> str:
        """Its places in a server that includes gateway.conf: the question, and a folder protected by it."""
        headers = {"Host": "$host"} | dict(self.headers)
        lines = "\n".join(f'            proxy_set_header {key} "{value}";' for key, value in headers.items())
        return f"""
        location = /_bench/{self.name} {{
            internal;
            proxy_pass http://bench_{self.name}{self.path};
            proxy_pass_request_body off;
            proxy_http_version 1.1;
            proxy_set_header Content-Length "";
            proxy_set_header Connection "";
            proxy_set_header X-Original-URI $request_uri;
            proxy_set_header X-Original-URL https://$host$request_uri;
            proxy_set_header X-Original-Method $request_method;
            proxy_set_header X-Forwarded-Method $request_method;
            proxy_set_header X-Forwarded-Proto https;
            proxy_set_header X-Forwarded-Host $host;
            proxy_set_header X-Forwarded-Uri $request_uri;
{lines}
        }}
        location /peer/{self.name}/ {{
            auth_request /_bench/{self.name};
            include wecom/member.conf;          # as for ours: only the answerer differs
        }}"""


def peers_of(peers: Sequence[str], headers: Sequence[str]) -> Iterator[Peer]:
    """Read ``NAME=HOST:PORT/PATH`` and ``[NAME=]Header: value``; ValueError says what is wrong."""
    added = [_header(text) for text in headers]
    names = []
    for text in peers:
        match = _PEER.fullmatch(text)
        if not match or _UNQUOTABLE.search(match["path"] or ""):
            raise ValueError(f"--peer {text!r}: NAME=HOST:PORT/PATH is needed, like oauth2-proxy=127.0.0.1:4180/oauth2/auth")
        names.append(match["name"])
        own = tuple((key, value) for name, key, value in added if name in (None, match["name"]))
        yield Peer(match["name"], match["address"], match["path"] or "/", own)
    if strangers := {name for name, _, _ in added if name} - set(names):
        raise ValueError(f"--peer-header: no --peer is named {', '.join(sorted(strangers))}")


def _header(text: str) -> tuple[str | None, str, str]:
    match = _HEADER.fullmatch(text)
    if not match:
        raise ValueError(f"--peer-header {text!r}: 'Header: value' or 'NAME=Header: value' is needed")
    if _UNQUOTABLE.search(match["value"].replace(";", "")):
        raise ValueError(f'--peer-header {text!r}: nginx could not take $, ", \\ or braces in a value')
    return match["name"], match["key"], match["value"]
