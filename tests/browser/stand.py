"""A whole installation on loopback: the sandbox WeCom, the gateway, nginx with the shipped snippets, an app behind it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway import snippets
from gateway.app import Gateway
from gateway.config import Config
from gateway.loading import from_mapping
from gateway.sandbox import Sandbox
from gateway.values import Duration
from tests.browser.legacy import Legacy
from tests.listening import listening
from tests.patience import PATIENCE_S, unhurried

HTTP_SITES = {
    "home": ("localhost", 0),
    "twin": ("localhost", 1),
    "intranet": ("intranet.example.test", 0),
    "erp": ("erp.example.org", 0),
}
"""By site: host, and which of the two ports. Browsers trust localhost like https; the others are plain http."""

HTTPS_SITES = {
    "home": ("oa.example.test", 0),
    "twin": ("oa.example.test", 1),
    "erp": ("erp.example.org", 0),
}

SERVER = """
    server {{
        listen 127.0.0.1:{port}{tls};
        server_name {host};
        set $wecom_site {site};
        include wecom/gateway.conf;

        location / {{ include wecom/protect.conf; include wecom/identity.conf; proxy_pass http://{app}; }}
        location /finance/ {{
            auth_request /_wecom/auth/user:lisi;
            include wecom/member.conf;
            include wecom/identity.conf;
            proxy_pass http://{app};
        }}
        location /public/ {{ include wecom/public.conf; proxy_pass http://{app}; }}
        location = /favicon.ico {{ include wecom/public.conf; return 204; }}
    }}
"""

NGINX = """
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 1024; }}
http {{
    {temporary}
    include wecom/upstream.conf;
    include wecom/http.conf;
    access_log {folder}/access.log wecom;
    {tls}
{servers}
}}
"""


class Clock:
    """The real time, moved on when told to."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead

    def advance(self, seconds: float) -> None:
        self.ahead += seconds


@dataclass(slots=True)
class Stand:
    """What runs; browsers reach its sites at ``url(site, path)``."""

    scheme: str
    folder: Path
    sites: Mapping[str, tuple[str, int]]
    ports: tuple[int, int]
    sandbox: Sandbox
    clock: Clock
    config: Config
    gateway: Gateway
    http_port: int  #: where ``also_http`` is served
    app: Legacy = field(default_factory=Legacy)

    def url(self, site: str, path: str = "/") -> str:
        host, port = self.sites[site]
        return f"{self.scheme}://{host}:{self.ports[port]}{path}"

    def is_own(self, url: str) -> bool:
        """Whether an address is one of the sites' or the sandbox's."""
        own = {self.url(site) for site in self.sites} | {f"{self.sandbox.url}/"}
        own.add(f"http://{self.sites['home'][0]}:{self.http_port}/")
        return any(url.startswith(each) for each in own)

    def cookie_name(self, site: str) -> str:
        return next(each.cookie_name for each in self.config.sites if each.name == site)

    def revoke_sessions(self) -> None:
        """End every session of every member, as an administrator would; a new sign-in works at once."""
        for member in self.sandbox.state.members.values():
            self.gateway.live.now.standing.revoke(member.userid, self.clock() - 1)

    async def wait_for_wecom(self) -> None:
        """From now on WeCom has as long for an answer as a busy machine may need."""
        self.config = replace(self.config, wecom=replace(self.config.wecom, timeout=Duration(PATIENCE_S)))
        await self.gateway.reload(self.config)

    async def stop_gateway(self) -> None:
        await self.gateway.__aexit__(None, None, None)

    async def start_gateway(self) -> None:
        self.gateway = Gateway(self.config, clock=self.clock)
        await self.gateway.__aenter__()


def settings_for(
    sandbox: Sandbox, sites: Mapping[str, str], folder: Path, changes: Mapping[str, Any], wecom_has_s: int = PATIENCE_S
) -> Config:
    table: dict[str, Any] = {
        "corp_id": sandbox.state.corp_id,
        "agent_id": sandbox.state.agent_id,
        "app_secret": sandbox.state.secret,
        "signing_keys": ["k" * 43],
        "contact": "信息部 8001",
        "store": f"sqlite://{folder}/ledger.sqlite3",
        "site": [{"name": name, "public_url": url} for name, url in sites.items()],
        "wecom": {"api_url": sandbox.url, "authorize_url": sandbox.url, "login_url": sandbox.url, "timeout": wecom_has_s},
        "listen": {name: f"unix:{folder}/{name}.sock" for name in ("check", "pages", "ops")},
    }
    return from_mapping(table | dict(changes), {})


@contextlib.asynccontextmanager
async def running(
    *,
    scheme: str = "http",
    callback: str = "home",
    nginx: Mapping[str, str] | None = None,
    also_http: str = "",
    other_key_checks: bool = False,
    wecom_has_s: int = PATIENCE_S,
    **changes: Any,
) -> AsyncIterator[Stand]:
    """Start an installation.

    *nginx* replaces texts of ``upstream.conf``, *changes* settings; *also_http* is a site of https that is served by plain
    http as well; *other_key_checks* lets a gateway with another signing key answer nginx's question; *wecom_has_s* is the
    time for each call of WeCom.
    """
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wecom-")))
        sockets = [stack.enter_context(listening()) for _ in range(3)]
        ports = sockets[0].getsockname()[1], sockets[1].getsockname()[1]
        sites = HTTPS_SITES if scheme == "https" else HTTP_SITES
        urls = {name: f"{scheme}://{host}:{ports[port]}" for name, (host, port) in sites.items()}
        clock = Clock()
        domain = urls[callback].partition("//")[2]
        sandbox = await stack.enter_async_context(Sandbox.start(clock=clock, oauth_domain=domain))
        config = settings_for(sandbox, urls, folder, {"callback_site": callback} | changes, wecom_has_s)
        gateway = Gateway(config, clock=clock)
        stand = Stand(scheme, folder, sites, ports, sandbox, clock, config, gateway, sockets[2].getsockname()[1])
        await stand.gateway.__aenter__()
        stack.push_async_callback(stand.stop_gateway)
        if other_key_checks:
            nginx = await _other_key(stack, stand)
        app = await _serve(stack, stand.app)
        _configure(stand, app, nginx or {}, also_http)
        await stack.enter_async_context(_nginx(folder, sockets))
        yield stand


async def _serve(stack: contextlib.AsyncExitStack, app: Legacy) -> str:
    runner = web.AppRunner(app.application(), access_log=None, shutdown_timeout=0, max_line_size=65536, max_field_size=65536)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"127.0.0.1:{runner.addresses[0][1]}"


async def _other_key(stack: contextlib.AsyncExitStack, stand: Stand) -> Mapping[str, str]:
    """Start a gateway with another signing key, and give what makes nginx ask it."""
    folder = stand.folder / "other"
    folder.mkdir()
    listen = {name: f"unix:{folder}/{name}.sock" for name in ("check", "pages", "ops")}
    urls = {site: stand.url(site).rstrip("/") for site in stand.sites}
    config = settings_for(stand.sandbox, urls, folder, {"signing_keys": ["o" * 43], "listen": listen})
    await stack.enter_async_context(Gateway(config, clock=stand.clock))
    return {f"unix:{stand.folder}/check.sock": listen["check"]}


def _configure(stand: Stand, app: str, replaced: Mapping[str, str], also_http: str) -> None:
    folder, secure = stand.folder, stand.scheme == "https"
    snippets.install(folder / "wecom", stand.config)
    unhurried(folder / "wecom")
    upstream = folder / "wecom" / "upstream.conf"
    text = upstream.read_text("utf-8")
    for old, new in replaced.items():
        assert old in text, f"{old!r} is not in {text}"
        text = text.replace(old, new)
    upstream.write_text(text, "utf-8")
    servers = [
        SERVER.format(port=stand.ports[port], tls=" ssl" * secure, host=host, site=site, app=app)
        for site, (host, port) in stand.sites.items()
    ]
    servers.append(_http_server(stand, also_http, app))
    temporary = " ".join(f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    user = "user root;" if os.geteuid() == 0 else ""
    tls = f"ssl_certificate {folder}/tls.pem; ssl_certificate_key {folder}/tls.pem;" * secure
    if secure:
        (folder / "tls.pem").write_bytes(_certificate({host for host, _ in stand.sites.values()}))
    text = NGINX.format(user=user, folder=folder, temporary=temporary, tls=tls, servers="".join(servers))
    (folder / "nginx.conf").write_text(text, "utf-8")


def _http_server(stand: Stand, site: str, app: str) -> str:
    """The third socket: a site by plain http, or nothing to see."""
    if not site:
        return f"server {{ listen 127.0.0.1:{stand.http_port}; return 444; }}"
    return SERVER.format(port=stand.http_port, tls="", host=stand.sites[site][0], site=site, app=app)


@contextlib.asynccontextmanager
async def _nginx(folder: Path, sockets: list[socket.socket]) -> AsyncIterator[None]:
    """Run nginx on sockets that listen already: neither ports nor readiness can be missed."""
    numbers = [each.fileno() for each in sockets]
    process = await asyncio.create_subprocess_exec(
        "nginx", "-p", f"{folder}/", "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log"),
        env=os.environ | {"NGINX": "".join(f"{number};" for number in numbers)},
        pass_fds=numbers,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
        assert process.returncode is None, (folder / "error.log").read_text("utf-8", "replace")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


def _certificate(hosts: set[str]) -> bytes:
    """A certificate that nobody vouches for, with its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "self-signed")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in sorted(hosts)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private + signed.public_bytes(pem)
