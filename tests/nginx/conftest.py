"""A real nginx with the shipped snippets, and a scripted gateway and app behind it that remember what they received.

A module states its servers in ``CONFIG`` (inside ``http``; ``LISTEN`` and ``APP`` stand for addresses) and gets one nginx.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import gateway.member
from gateway.empty import Empty
from gateway.member import packed_answer
from tests.listening import listening
from tests.patience import PATIENCE_S, unhurried

SNIPPETS = Path(__file__).resolve().parents[2] / "nginx"

IDENTITY = {
    "X-WeCom-UserId": "zhangsan",
    "X-WeCom-Account": "10086",
    "X-WeCom-Name": "%E5%BC%A0%E4%B8%89",
    "X-WeCom-CorpId": "ww0123456789abcdef",
    "X-WeCom-Departments": "12,1",
    "X-WeCom-Email": "zhangsan@example.com",
    "X-WeCom-Mobile": "13800000000",
    "X-WeCom-Avatar": "https://wework.qpic.cn/a/0",
    "X-WeCom-Position": "%E5%B7%A5%E7%A8%8B%E5%B8%88",
    "X-WeCom-Alias": "jackzhang",
    "X-WeCom-Kind": "member",
    "X-WeCom-Jwt": "a.b.c",
}
SESSION = "__Host-wecom_session"
SIGNED_IN = {"Cookie": f"{SESSION}=good"}
PAGE_COOKIE = "wecom_browser=1; Domain=site.test; Path=/"
MEGABYTE = 1024 * 1024

Headers = Mapping[str, str] | Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it arrived behind nginx."""

    method: str
    uri: str
    headers: list[tuple[str, str]]
    length: int = 0  #: bytes of body that were read

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) < 2, f"{name} arrived {len(values)} times"
        return values[0] if values else None

    @property
    def names(self) -> set[str]:
        return {key.lower() for key, _ in self.headers}


@dataclass(slots=True)
class Behind:
    """The stand-in for the gateway's two listeners, and the app; each list holds what arrived since the test began."""

    checks: list[Received] = field(default_factory=list)
    pages: list[Received] = field(default_factory=list)
    app: list[Received] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)
    holds: str = ""  #: what a 204 says of how long cache.conf may keep it (X-Accel-Expires)
    trusting: bool = False  #: whether the check lets in whatever session there is
    member: Mapping[str, str] = field(default_factory=lambda: IDENTITY)  #: who it says it is

    def forget(self) -> None:
        self.holds, self.trusting, self.member = "", False, IDENTITY
        for received in (self.checks, self.pages, self.app):
            received.clear()

    async def check(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer as the contract says; a session named ``answer-STATUS``, ``closed``, ``half``, ``silent`` breaks it."""
        self.checks.append(_received(request))
        session = request.headers.get("X-WeCom-Session", "").partition(".")[0]
        assert request.transport
        if session.startswith("answer-"):
            return web.Response(status=int(session[7:]), headers={"Location": "/elsewhere"})
        if session in ("closed", "half"):
            request.transport.write(b"HTTP/1.1 204 No Con" if session == "half" else b"")
            request.transport.close()
            return web.Response()
        if session == "silent":
            await asyncio.Event().wait()
        if session == "renew" and request.headers.get("X-WeCom-Navigation"):
            return Empty(401, packed_answer("renew"))
        if session not in ("good", "big", "renew") and not self.trusting:
            return Empty(401, packed_answer("forged" if session else "no-session"))
        rule = request.raw_path.removeprefix("/_wecom/auth").strip("/")
        if rule not in ("", "user:zhangsan"):
            return Empty(403, packed_answer("rule", rule))
        big = {"X-WeCom-Departments": ",".join(["123456"] * 1500)} if session == "big" else {}
        holds = f"X-Accel-Expires: {self.holds}\r\n" if self.holds and session != "renew" else ""
        return Empty(204, _told({**self.member, **big}) + holds)

    async def page(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer ``login`` and ``denied`` as the gateway would, without reading a body; echo any other page."""
        unread = request.path in ("/_wecom/login", "/_wecom/denied")
        received = _received(request, 0 if unread else len(await request.read()))
        self.pages.append(received)
        status = {"/_wecom/login": 401, "/_wecom/denied": 403}.get(request.path, 200)
        headers = {"X-Page": request.path, "Set-Cookie": PAGE_COOKIE, "Cache-Control": "no-store"}
        if request.path == "/_wecom/big":
            headers = {"X-Big": "x" * 12_000}
        if request.path == "/_wecom/login" and received.header("X-WeCom-Navigation") and received.header("X-WeCom-Reason"):
            status, headers["Location"] = 302, "https://open.weixin.qq.com/?a=1&b=2#wechat_redirect"
        return web.Response(status=status, headers=headers, text=f"page {received.header('X-WeCom-Reason') or 'neutral'}")

    async def echo(self, request: web.BaseRequest) -> web.StreamResponse:
        """The app: 200 and what it received; ``/app-STATUS`` answers that status; upgrades are accepted and echoed."""
        if request.headers.get("Upgrade", "").lower() == "websocket":
            self.app.append(_received(request))
            return await _echoing(request)
        length = 0
        async for chunk in request.content.iter_any():
            length += len(chunk)
        self.app.append(_received(request, length))
        _, _, wanted = request.path.partition("app-")
        status = int(wanted) if wanted.isdigit() else 200
        return web.Response(status=status, text=f"the app, {length} bytes", headers={"WWW-Authenticate": "Basic"})


def _told(headers: Mapping[str, str]) -> str:
    """An identity packed into one header as gateway.conf asks for."""
    identity = "\t".join(headers[name] for name in gateway.member.IDENTITY)
    return packed_answer(identity=identity, proof=headers[gateway.member.JWT])


def _received(request: web.BaseRequest, length: int = 0) -> Received:
    headers = [(key.decode("latin-1"), value.decode("latin-1")) for key, value in request.raw_headers]
    return Received(request.method, request.raw_path, headers, length)


async def _echoing(request: web.BaseRequest) -> web.StreamResponse:
    channel = web.WebSocketResponse()
    await channel.prepare(request)
    async for message in channel:
        await channel.send_str(f"echo {message.data}")
    return channel


async def _serve(behind: Behind, ready: Callable[[], None], stop: asyncio.Event) -> None:
    runners = []
    for name, handler in (("check", behind.check), ("pages", behind.page), ("app", behind.echo)):
        server = web.Server(handler, max_field_size=MEGABYTE, max_line_size=MEGABYTE, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        behind.ports[name] = runner.addresses[0][1]
    ready()
    await stop.wait()
    for runner in runners:
        await runner.cleanup()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:  # connections that nginx dropped in the middle
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=PATIENCE_S)


@pytest.fixture(scope="session")
def _behind() -> Iterator[Behind]:
    behind, ready, stop = Behind(), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(_serve(behind, ready.set, stop)))
    thread.start()
    assert ready.wait(PATIENCE_S)
    yield behind
    loop.call_soon_threadsafe(stop.set)
    thread.join(PATIENCE_S)
    loop.close()


@pytest.fixture
def behind(_behind: Behind) -> Behind:
    _behind.forget()
    return _behind


@dataclass(frozen=True, slots=True)
class Answer:
    """What the browser got."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str:
        return ", ".join(self.all(name))

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass(slots=True)
class Nginx:
    """A running nginx; every request is made on a connection of its own, byte by byte as stated."""

    prefix: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def ask(self, method: str, uri: str, headers: Headers = (), *, body: bytes | None = None, host: str = "site.test") -> Answer:
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
        if body is not None and not any(key.lower() == "transfer-encoding" for key, _ in pairs):
            pairs.append(("Content-Length", str(len(body))))
        lines = [f"{method} {uri} HTTP/1.1", f"Host: {host}", *(f"{key}: {value}" for key, value in pairs)]
        head = "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")
        return self.send(head, body or b"", method=method)

    def get(self, uri: str, headers: Headers = (), **options: Any) -> Answer:
        return self.ask("GET", uri, headers, **options)

    def send(self, head: bytes, body: bytes = b"", *, method: str = "GET") -> Answer:
        """Send the bytes as they are and read one answer; nginx may answer and stop listening before all is sent."""
        with self.connect() as connection:
            connection.sendall(head)
            sender = threading.Thread(target=_send_all, args=(connection, body))
            sender.start()
            with http.client.HTTPResponse(connection, method=method) as response:
                response.begin()
                answer = Answer(response.status, response.getheaders(), response.read())
            connection.shutdown(socket.SHUT_RDWR) if sender.is_alive() else None
            sender.join(PATIENCE_S)
        return answer

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def log(self, name: str = "error") -> str:
        path = self.prefix / f"{name}.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""


def _send_all(connection: socket.socket, body: bytes) -> None:
    try:
        connection.sendall(body)
    except OSError:
        return  # answered and closed before the end: what the test looks at is the answer


def chunked(body: bytes) -> bytes:
    """*body* in the chunked coding, 64 kB each."""
    size = 65536
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def edited_upstream(ports: Mapping[str, int], cookie_name: str) -> str:
    """``upstream.conf`` as an operator would edit it: other ports and cookie name, two more sites."""
    text = (SNIPPETS / "upstream.conf").read_text("utf-8")
    for old, new in (
        ("127.0.0.1:9180", f"127.0.0.1:{ports['check']}"),
        ("127.0.0.1:9181", f"127.0.0.1:{ports['pages']}"),
        ("default __Host-wecom_session;", f"default {cookie_name}; plain wecom_session; ported wecom_session_8080;"),
    ):
        assert old in text
        text = text.replace(old, new)
    return text


def http2_listen(address: str) -> str:
    """Listen for HTTP/2 without TLS, as this nginx's version spells it."""
    version = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
    numbers = [int(number) for number in re.findall(r"\d+", version)[:3]]
    return f"listen {address}; http2 on;" if numbers >= [1, 25, 1] else f"listen {address} http2;"


def lay_out(prefix: Path, config: str, ports: Mapping[str, int], cookie_name: str = SESSION, *, hurried: bool = False) -> Path:
    """Write an ``nginx.conf`` around *config*, the snippets beside it, and give its path.

    *hurried*: as shipped it waits three seconds for the gateway's answer, else as long as a busy machine may need.
    """
    shutil.copytree(SNIPPETS, prefix / "wecom")
    if not hurried:
        unhurried(prefix / "wecom")
    (prefix / "wecom" / "upstream.conf").write_text(edited_upstream(ports, cookie_name), "utf-8")
    temporary = "\n".join(f"{name}_temp_path {prefix}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    path = prefix / "nginx.conf"
    path.write_text(
        f"""
{"user root;" if os.geteuid() == 0 else ""}
daemon off;
pid {prefix}/nginx.pid;
error_log {prefix}/error.log info;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    {temporary}
    include wecom/upstream.conf;
    include wecom/http.conf;
    access_log {prefix}/access.log wecom;
    large_client_header_buffers 8 64k;
{config.replace("APP", f"127.0.0.1:{ports['app']}").replace("PREFIX", str(prefix))}
}}
""",
        "utf-8",
    )
    return path


def tried(path: Path) -> subprocess.CompletedProcess[str]:
    """``nginx -t`` of the file."""
    command = ["nginx", "-t", "-p", f"{path.parent}/", "-c", str(path), "-e", str(path.parent / "error.log")]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def start(path: Path) -> Nginx:
    """Start nginx on a socket that already listens, so that neither port nor readiness can be missed."""
    with listening() as listener:
        port = listener.getsockname()[1]
        path.write_text(path.read_text("utf-8").replace("LISTEN", f"127.0.0.1:{port}"), "utf-8")
        result = tried(path)
        assert result.returncode == 0, result.stderr
        assert "[warn]" not in result.stderr, result.stderr
        process = subprocess.Popen(
            ["nginx", "-p", f"{path.parent}/", "-c", str(path), "-e", str(path.parent / "error.log")],
            env=os.environ | {"NGINX": f"{listener.fileno()};"},
            pass_fds=[listener.fileno()],
            stderr=subprocess.DEVNULL,
        )
    return Nginx(path.parent, port, process)


@pytest.fixture(scope="module")
def start_nginx(_behind: Behind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Nginx]]:
    """Start an nginx with a configuration and, where stated, other ports; all end with the module."""
    running: list[Nginx] = []

    def make(
        config: str,
        *,
        files: Mapping[str, str] | None = None,
        cookie_name: str = SESSION,
        hurried: bool = False,
        **ports: int,
    ) -> Nginx:
        prefix = tmp_path_factory.mktemp("nginx")
        for name, text in (files or {}).items():
            (prefix / name).parent.mkdir(parents=True, exist_ok=True)
            (prefix / name).write_text(text, "utf-8")
        running.append(start(lay_out(prefix, config, _behind.ports | ports, cookie_name, hurried=hurried)))
        return running[-1]

    yield make
    for nginx in running:
        assert nginx.process
        nginx.process.terminate()
        nginx.process.wait(PATIENCE_S)


@pytest.fixture
def try_nginx(_behind: Behind) -> Callable[..., str]:
    """Give what ``nginx -t`` complains about; the empty string when it accepts without a warning."""

    def run(prefix: Path, config: str, *, without: str = "") -> str:
        path = lay_out(prefix, config, _behind.ports)
        text = path.read_text("utf-8").replace("LISTEN", f"unix:{prefix}/listen")
        path.write_text(text.replace(without, "") if without else text, "utf-8")
        result = tried(path)
        return "" if result.returncode == 0 and "[warn]" not in result.stderr else result.stderr

    return run


@pytest.fixture(scope="module")
def _nginx(request: pytest.FixtureRequest, start_nginx: Callable[..., Nginx]) -> Nginx:
    return start_nginx(request.module.CONFIG, files=getattr(request.module, "FILES", None))


@pytest.fixture
def nginx(_nginx: Nginx, behind: Behind) -> Iterator[Nginx]:
    """The module's nginx; what it logs during a test holds nothing critical."""
    before = len(_nginx.log())
    yield _nginx
    logged = _nginx.log()[before:]
    assert not [line for line in logged.splitlines() if any(f"[{level}]" in line for level in ("alert", "emerg", "crit"))]


def as_json(answer: Answer) -> Any:
    return json.loads(answer.body)
