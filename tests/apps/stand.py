"""Servers at work, mostly those of ``nginx/examples``: the sandbox WeCom, the gateway, nginx, an application, people."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict
from yarl import URL

from gateway import snippets
from gateway.app import Gateway
from gateway.config import Config
from gateway.loading import load
from gateway.sandbox import Sandbox
from tests.conftest import WECOM_UA
from tests.listening import listening
from tests.patience import PATIENCE_S, unhurried

NGINX = """
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 1024; }}
http {{
    {temporary}
    variables_hash_max_size 2048;
    underscores_in_headers on;      # the worst that an operator may have
    include wecom/upstream.conf;
    include wecom/http.conf;
{servers}
}}
"""

Headers = Mapping[str, str] | Iterable[tuple[str, str]]


class Clock:
    """The real time, moved on when told to."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead

    def advance(self, seconds: float) -> None:
        self.ahead += seconds


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, redirects not followed."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def told(self) -> Told:
        """What the application says that it was told."""
        return Told(**self.json)


@dataclass(frozen=True, slots=True)
class Told:
    """What reached an application: who it takes the visitor for, and its CGI or WSGI environment, percent-encoded."""

    user: str
    name: str
    length: int
    environ: Mapping[str, str]
    password: str = ":"

    def raw(self, name: str) -> bytes | None:
        value = self.environ.get(name)
        return None if value is None else unquote_to_bytes(value)

    @property
    def identity(self) -> dict[str, str]:
        """Everything by the names of our identity headers that is not empty."""
        found = {name: value for name, value in self.environ.items() if re.match("HTTP_X.WECOM", name, re.IGNORECASE)}
        return {name.removeprefix("HTTP_X_WECOM_"): unquote_to_bytes(value).decode() for name, value in found.items() if value}


@dataclass(slots=True)
class Person:
    """Somebody at a browser; ``session`` is what the site's cookie holds, empty for a stranger."""

    stand: Stand
    session: str = ""
    source: str = ""  #: the address to come from, ``127.0.0.1`` by default

    @property
    def cookie(self) -> str:
        return f"{self.stand.cookie_name}={self.session}" if self.session else ""

    async def ask(self, method: str, uri: str, headers: Headers = (), *, body: Any = None, host: str = "") -> Answer:
        """One request, its headers as stated beside the session's cookie; a ``Cookie`` among them stands alone."""
        pairs = CIMultiDict(headers)
        if self.session and "Cookie" not in pairs:
            pairs["Cookie"] = self.cookie
        local = (self.source, 0) if self.source else None
        async with (
            self.stand.client(local_addr=local) as http,
            http.request(
                method,
                URL(f"http://{host or self.stand.host}{uri}", encoded=True),
                headers=pairs,
                data=body,
                allow_redirects=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            ) as answer,
        ):
            return Answer(answer.status, answer.headers, await answer.read())

    async def get(self, uri: str, headers: Headers = (), **how: Any) -> Answer:
        return await self.ask("GET", uri, headers, **how)

    async def told(self, uri: str, headers: Headers = ()) -> Told:
        """What the application is told when the person opens a page of it."""
        answer = await self.get(uri, headers)
        assert answer.status == 200, (answer.status, answer.headers, answer.body)
        return answer.told

    async def open(self, uri: str) -> Answer:
        """Open a page as a browser does, the renewal of the session on the way."""
        answer = await self.get(uri, {"Accept": "text/html"})
        renewed = re.search(f"(?:^|, ?){self.stand.cookie_name}=([^;]+)", answer.headers.get("Set-Cookie", ""))
        if answer.status in (302, 303) and renewed:
            self.session = renewed[1]
            return await self.get(answer.headers["Location"].removeprefix(f"http://{self.stand.host}"), {"Accept": "text/html"})
        return answer

    async def sign_out(self) -> Answer:
        """Press the button on our page; the browser's copy of the cookie is kept, as a thief would."""
        return await self.ask("POST", "/_wecom/logout", {"Origin": f"http://{self.stand.host}"})


@dataclass(slots=True)
class Stand:
    """What runs; its sites are reached by their own names, on port 80."""

    folder: Path
    port: int
    sandbox: Sandbox
    gateway: Gateway
    config: Config
    clock: Clock
    host: str

    @property
    def cookie_name(self) -> str:
        return self.config.callback.cookie_name

    def client(self, **how: Any) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(resolver=_Here(self.port), local_addr=how.get("local_addr"), force_close=True)
        return aiohttp.ClientSession(
            connector=connector, cookie_jar=how.get("jar") or aiohttp.DummyCookieJar(), requote_redirect_url=False
        )

    def stranger(self, source: str = "") -> Person:
        return Person(self, source=source)

    async def issued(self, arguments: Sequence[str]) -> str:
        """The token that ``wecom-gateway token issue …`` prints, with these settings in a file."""
        command = [sys.executable, "-m", "gateway", *arguments, "--config", f"{self.folder}/gateway.toml", "--json"]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        printed, said = await process.communicate()
        assert process.returncode == 0, said.decode()
        return str(json.loads(printed)["token"])

    async def member(self, user_id: str = "zhangsan", uri: str = "/", host: str = "") -> Person:
        """Sign in inside the WeCom client by opening a page, and take the session to further requests."""
        host = host or self.host
        jar = aiohttp.CookieJar(unsafe=True, quote_cookie=False)
        jar.update_cookies({"sandbox_member": user_id}, URL(self.sandbox.url))
        headers = {"User-Agent": WECOM_UA, "Accept": "text/html"}
        async with self.client(jar=jar) as http, http.get(f"http://{host}{uri}", headers=headers) as answer:
            text = await answer.text(errors="replace")
        session = {cookie.key: cookie.value for cookie in jar if cookie["domain"] == host}.get(self.cookie_name, "")
        assert session, (answer.status, [str(each.url) for each in answer.history], text)
        return Person(self, session)


class _Here(AbstractResolver):
    """Every host name is this machine, its port that of the stand's nginx."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=self._port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        """Nothing is held."""


@contextlib.asynccontextmanager
async def running(servers: str, *, folder: Path, hosts: Sequence[str], **changes: Any) -> AsyncIterator[Stand]:
    """Start an installation whose nginx has *servers*; *hosts* are the sites' names, the first is the callback's."""
    async with contextlib.AsyncExitStack() as stack:
        listener = stack.enter_context(listening())
        port = listener.getsockname()[1]
        clock = Clock()
        sandbox = await stack.enter_async_context(Sandbox.start(clock=clock, oauth_domain=hosts[0]))
        config = _settings(sandbox, folder, hosts, changes)
        gateway = await stack.enter_async_context(Gateway(config, clock=clock))
        snippets.install(folder / "wecom", config)
        unhurried(folder / "wecom")
        _write(folder, servers.replace("listen 80;", f"listen 127.0.0.1:{port};").replace("/var/log/nginx/", f"{folder}/"))
        await stack.enter_async_context(_nginx(folder, listener))
        yield Stand(folder, port, sandbox, gateway, config, clock, hosts[0])


def _settings(sandbox: Sandbox, folder: Path, hosts: Sequence[str], changes: Mapping[str, Any]) -> Config:
    table: dict[str, Any] = {
        "corp_id": sandbox.state.corp_id,
        "agent_id": sandbox.state.agent_id,
        "app_secret": sandbox.state.secret,
        "signing_keys": ["k" * 43],
        "store": f"sqlite://{folder}/ledger.sqlite3",
        "site": [{"name": host.partition(".")[0], "public_url": f"http://{host}"} for host in hosts],
        "wecom": {"api_url": sandbox.url, "authorize_url": sandbox.url, "login_url": sandbox.url, "timeout": PATIENCE_S},
        "listen": {name: f"unix:{folder}/{name}.sock" for name in ("check", "pages", "ops")},
    }
    table |= changes
    (folder / "gateway.toml").write_text("\n".join(_toml(table)), "utf-8")
    return load(folder / "gateway.toml", {})


def _toml(table: Mapping[str, Any]) -> Iterator[str]:
    """*table* as TOML: what JSON and TOML write alike, and one level of tables."""
    yield from (f"{key} = {json.dumps(value)}" for key, value in table.items() if key != "site" and not isinstance(value, dict))
    for key, value in table.items():
        for each in value if key == "site" else [value] if isinstance(value, dict) else []:
            yield f"[[{key}]]" if key == "site" else f"[{key}]"
            yield from (f"{name} = {_inline(item)}" for name, item in each.items())


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_inline(item)}" for name, item in value.items()) + "}"
    return f"[{', '.join(map(_inline, value))}]" if isinstance(value, list) else json.dumps(value)


def _write(folder: Path, servers: str) -> None:
    temporary = " ".join(f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    user = "user root;" if os.geteuid() == 0 else ""
    text = NGINX.format(user=user, folder=folder, temporary=temporary, servers=servers)
    (folder / "nginx.conf").write_text(text, "utf-8")


@contextlib.asynccontextmanager
async def _nginx(folder: Path, listener: socket.socket) -> AsyncIterator[None]:
    """Run nginx on a socket that listens already: neither the port nor readiness can be missed."""
    command = ["nginx", "-p", f"{folder}/", "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    tried = await asyncio.create_subprocess_exec(*command, "-t", stderr=subprocess.PIPE)
    _, said = await tried.communicate()
    assert tried.returncode == 0, said.decode()
    assert b"[warn]" not in said, said.decode()
    process = await asyncio.create_subprocess_exec(
        *command,
        env=os.environ | {"NGINX": f"{listener.fileno()};"},
        pass_fds=[listener.fileno()],
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
        assert process.returncode is None, (folder / "error.log").read_text("utf-8", "replace")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


@contextlib.contextmanager
def a_folder() -> Iterator[Path]:
    """A folder whose path is short enough for unix sockets."""
    with tempfile.TemporaryDirectory(prefix="wecom-") as folder:
        yield Path(folder)
