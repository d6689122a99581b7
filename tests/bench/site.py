"""The files of one run: the gateway's settings, and one nginx per answerer with the shipped snippets."""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gateway import snippets
from gateway.config import Config
from gateway.values import Address
from tests.bench.peers import Peer
from tests.bench.requests import HOST, user_id

FIRST_PORT = 20_100
_DEPARTMENTS = ",".join(str(number) for number in range(500, 525))
_USERS = ",".join([*(f"wangwu{number:03d}" for number in range(23)), user_id(0)])
ALTERNATIVES = f"department:{_DEPARTMENTS}/leader/user:{_USERS}"

_CACHE_PATH = re.compile(r"^(\s*proxy_cache_path\s+)[^\s;]+", re.MULTILINE)

_LOGO = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64"><path d="'
    + " ".join(f"M{number % 64} {number * 7 % 64}h1v1z" for number in range(64))
    + '"/></svg>\n'
)


@dataclass(slots=True)
class Ports:
    """Free TCP ports of loopback, below those that the kernel gives to clients; two runs at once begin at different ones."""

    _next: int = field(default_factory=lambda: FIRST_PORT + os.getpid() % 120 * 100)
    named: dict[str, int] = field(default_factory=dict)

    def __getitem__(self, name: str) -> int:
        if name not in self.named:
            self.named[name] = self._free()
        return self.named[name]

    def _free(self) -> int:
        while True:
            port = self._next
            self._next += 1
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
                return port


@dataclass(frozen=True, slots=True)
class Site:
    """Where everything of this run lies."""

    folder: Path
    ports: Ports
    signing_key: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    main: str = ""  #: further lines for the outermost level of every nginx.conf
    wecom_url: str = "http://127.0.0.1:9"  #: nobody: only the burst of sign-ins asks WeCom anything
    corp: tuple[str, int, str] = ("ww0123456789abcdef", 1000002, "a-secret-that-nobody-uses")

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def prepare(self, peers: Sequence[Peer]) -> None:
        self.logs.mkdir()
        for name in ("static", "narrow", "barest", *(f"peer/{peer.name}" for peer in peers)):
            folder = self.folder / "www" / name
            folder.mkdir(parents=True)
            (folder / "logo.svg").write_text(_LOGO, "ascii")

    def settings(self, name: str, *, remembered: int = 100_000, public_url: str = f"https://{HOST}") -> Path:
        """Write the settings of the gateway process *name*."""
        corp_id, agent_id, secret = self.corp
        lines = [
            f'corp_id = "{corp_id}"',
            f"agent_id = {agent_id}",
            f'app_secret = "{secret}"',
            f'signing_keys = ["{self.signing_key}"]',
            f"remembered_sessions = {remembered}",
            f'store = "sqlite://{self.folder}/{name}.sqlite3"',
            f'[[site]]\nname = "intranet"\npublic_url = "{public_url}"',
            "[wecom]",
            *(f'{kind}_url = "{self.wecom_url}"' for kind in ("api", "authorize", "login")),
            "[listen]",
            *(f'{kind} = "127.0.0.1:{self.ports[f"{name}-{kind}"]}"' for kind in ("check", "pages", "ops")),
        ]
        path = self.folder / f"{name}.toml"
        path.write_text("\n".join(lines) + "\n", "utf-8")
        return path

    def front(self, name: str, asks: Sequence[str], base: Config, *, cached: bool = False, peers: Sequence[Peer] = ()) -> Path:
        """Write the nginx *name*, whose checks go to the listeners *asks* (``host:port``); give its nginx.conf."""
        folder = self.folder / f"nginx-{name}"
        for each in ("tmp", "cache"):
            (folder / each).mkdir(parents=True, exist_ok=True)
        listen = replace(base.listen, check=Address(asks[0]))
        snippets.install(folder / "wecom", replace(base, listen=listen))
        if cached:
            self._own_cache(folder / "wecom" / "cache.conf", name)
        if len(asks) > 1:
            upstream = folder / "wecom" / "upstream.conf"
            first, rest = f"server {asks[0]};", [f"server {address};" for address in asks[1:]]
            upstream.write_text(upstream.read_text("utf-8").replace(first, " ".join([first, *rest]), 1), "utf-8")
        conf = folder / "nginx.conf"
        conf.write_text(self._nginx(name, folder, cached, peers), "utf-8")
        return conf

    def _own_cache(self, file: Path, name: str) -> None:
        """Give each nginx a cache folder of its own, in memory as the shipped one: two must not share one."""
        place = self.cache / name
        place.mkdir(parents=True, mode=0o700, exist_ok=True)
        file.write_text(_CACHE_PATH.sub(rf"\g<1>{place}", file.read_text("utf-8"), count=1), "utf-8")

    @property
    def cache(self) -> Path:
        """Where the caches of this run lie; to be removed at its end."""
        memory = Path("/dev/shm")
        return (memory if memory.is_dir() and os.access(memory, os.W_OK) else self.folder) / f"wecom-bench-{os.getpid()}"

    def _nginx(self, name: str, folder: Path, cached: bool, peers: Sequence[Peer]) -> str:
        return f"""{self._head(name)}
http {{
{_HTTP}
    include wecom/upstream.conf;
    include wecom/http.conf;
    {"include wecom/cache.conf;" if cached else ""}
    {" ".join(peer.upstream for peer in peers)}
    server {{                                   # nothing of ours
        listen 127.0.0.1:{self.ports[f"{name}-open"]} backlog=16384;
        root {self.folder}/www;
{_BAREST if cached else ""}
    }}
    server {{
        listen 127.0.0.1:{self.ports[name]} backlog=16384;
        server_name {HOST} localhost;
        include wecom/gateway.conf;
        root {self.folder}/www;
        location /static/ {{
            include wecom/protect.conf;
        }}
        location /narrow/ {{                     # as long as /static/: only the rule differs
            auth_request /_wecom/auth/{ALTERNATIVES};
            include wecom/member.conf;
        }}
        location /app/ {{
            include wecom/protect.conf;
            include wecom/identity.conf;
            proxy_pass http://127.0.0.1:{self.ports["limit-check"]};
        }}
        location /public/ {{
            include wecom/public.conf;
            proxy_pass http://127.0.0.1:{self.ports["limit-check"]};
        }}
{"".join(peer.locations for peer in peers)}
    }}
}}
"""

    def _head(self, name: str) -> str:
        return f"""{"user root;" if os.geteuid() == 0 else ""}
daemon off;
worker_processes 1;
pid nginx.pid;
error_log {self.logs}/nginx-{name}.log error;
{self.main}
events {{ worker_connections 16000; }}"""

    def no_op(self) -> Path:
        """Write the nginx that answers every question with an empty 204, and the app with a 200; give its nginx.conf."""
        folder = self.folder / "nginx-no-op"
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        conf = folder / "nginx.conf"
        conf.write_text(
            f"""{self._head("no-op")}
http {{
{_HTTP}
    server {{
        listen 127.0.0.1:{self.ports["limit-check"]} backlog=16384;
        location /_wecom/ {{ return 204; }}
        location / {{ return 200 "ok"; }}
    }}
}}
""",
            "utf-8",
        )
        return conf


_BAREST = """
        location /barest/ { auth_request /_barest; }
        location = /_barest {                   # nothing that a snippet could do without
            internal;
            proxy_pass http://wecom_check/_wecom/auth;
            proxy_pass_request_headers off;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_cache wecom_cache;
            proxy_cache_key barest;
            proxy_cache_valid 204 1s;
            open_file_cache max=100;
        }"""

_HTTP = """    client_body_temp_path tmp/body;
    proxy_temp_path tmp/proxy;
    fastcgi_temp_path tmp/fastcgi;
    uwsgi_temp_path tmp/uwsgi;
    scgi_temp_path tmp/scgi;
    types { image/svg+xml svg; }
    sendfile on;
    tcp_nopush on;
    access_log off;
    keepalive_requests 10000000;
    keepalive_timeout 75s;"""
