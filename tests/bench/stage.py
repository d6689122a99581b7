"""Start what is measured: gateways, the no-op nginx, the bare server, and one nginx in front of each; end it all."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from gateway import loading, snippets
from gateway.demo.child import Child, running
from gateway.ledger import store_at
from tests.bench import proc
from tests.bench.load import Broken, Load
from tests.bench.peers import Peer
from tests.bench.replay import fill
from tests.bench.requests import PLACE, Sealed, request
from tests.bench.rows import Row
from tests.bench.site import Site

REPOSITORY = Path(__file__).resolve().parents[2]
PORTION = 100_000
_READY_S = 60
_LOOK_S = 2
_ORDERS = {"none": "none", "one": "turn", "all": "turn", "many": "random", "forged": "forge"}
_FILES = {"none": "one", "one": "one", "all": "all", "many": "many", "forged": "one"}


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that is running; *pids* by the name of the answerer, or of the nginx as ``nginx-…``."""

    site: Site
    sealed: Sealed
    stack: AsyncExitStack
    peers: Mapping[str, Peer]
    pins: Mapping[str, str]  #: ``nginx``, ``answerer``, ``wrk`` -> CPU numbers
    connections: int
    remembered: int
    revoked: int  #: so many records the ledger of the row of that name holds
    say: Callable[[str], None]
    pids: dict[str, int] = field(default_factory=dict)
    children: list[Child] = field(default_factory=list)

    async def start(self, rows: Iterable[Row]) -> None:
        """Start what *rows* need."""
        rows = list(rows)
        base = loading.load(self.site.settings("gateway"), {})
        needs = {(row.answerer, row.cached) for row in rows} | ({("gateway", False)} if self.peers else set())
        through_app = any(row.path in ("/app/", "/public/") for row in rows)
        for name in sorted({name for name, _ in needs} | ({"limit"} if through_app else set())):
            await self._answerer(name)
        for name, cached in sorted(needs):
            if name.startswith("peer:"):
                continue
            front = name + ("-cached" if cached else "")
            asks = [f"127.0.0.1:{self.site.ports[f'{name}-check']}"]
            own = loading.load(self.site.settings(name), {}) if f"{name}-pages" in self.site.ports.named else base
            conf = self.site.front(front, asks, own, cached=cached, peers=[*self.peers.values()] if name == "gateway" else [])
            await self.nginx(front, conf)
        for name in self.pids:
            if not name.startswith("peer:"):
                await self.ready(name)

    async def _answerer(self, name: str) -> None:
        if name == "limit":
            await self.run(name, nginx_command(self.site.no_op()), role="answerer")
        elif name == "bare":
            port = self.site.ports["bare-check"]
            await self.run(name, [sys.executable, "-m", "tests.bench.bare", str(port)], role="answerer")
        elif name == "ledger":
            await self._with_ledger(name)
        elif name.startswith("peer:"):
            self._find(self.peers[name.removeprefix("peer:")])
        else:
            await self.gateway(name)

    async def _with_ledger(self, name: str) -> None:
        """Start a gateway on a ledger full of revocations."""
        config = loading.load(self.site.settings(name), {})
        store = store_at(config.store, config.owner, time.time)
        await store.open()
        for first in range(0, self.revoked, PORTION):
            end = min(first + PORTION, self.revoked)
            await fill(store, "revoked", first, end, time.time())
            self.say(f"writing the ledger: {end:,} of {self.revoked:,} records")
        await store.close()
        await self.gateway(name)
        await self.ready(name)

    async def gateway(self, name: str) -> Child:
        """Start a real gateway process of its own."""
        path = self.site.settings(name, remembered=self.remembered)
        return await self.run(name, [sys.executable, "-m", "gateway", "serve", "--config", str(path)], role="answerer")

    def _find(self, peer: Peer) -> None:
        pid = proc.listener(peer.port) if peer.address.startswith(("127.", "localhost")) else None
        if pid is not None:
            self.pids[f"peer:{peer.name}"] = pid

    async def nginx(self, name: str, conf: Path) -> None:
        await self.run(f"nginx-{name}", nginx_command(conf), role="nginx")

    async def run(self, name: str, command: Sequence[str], *, role: str) -> Child:
        """Start a program that ends with the stage."""
        unwanted = ("WECOM_GATEWAY_", "PYTHONDONTWRITEBYTECODE")  # what pip installs is compiled already
        environment = {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}
        environment.setdefault("PYTHONHASHSEED", "0")  # two gateways lay out their dictionaries alike
        child = await self.stack.enter_async_context(
            running(
                name,
                [*self.pinned(role), *command],
                log=self.site.logs / f"{name}.txt",
                cwd=REPOSITORY,
                environment=environment,
            )
        )
        self.pids[name] = child.process.pid
        self.children.append(child)
        return child

    def pinned(self, role: str) -> tuple[str, ...]:
        return ("taskset", "-c", self.pins[role]) if role in self.pins else ()

    async def ready(self, name: str) -> int:
        """Wait until *name* answers; give the HTTP status it answered with."""
        port = self.site.ports[name.removeprefix("nginx-")] if name.startswith("nginx-") else self.site.ports[f"{name}-check"]
        asked = request("check", "/_wecom/auth", "", session=True)
        async with asyncio.timeout(_READY_S):
            while True:
                self.alive()
                with suppress(OSError):
                    return await answer(port, asked.replace(PLACE, ""))
                await asyncio.sleep(0.02)

    async def caches_read(self) -> None:
        """Wait until every nginx has read its cache's folder, a minute after its start; before, each question looks there."""
        while waiting := self.reading_caches():
            self.alive()
            self.say(f"until {', '.join(waiting)} has read its cache's folder, a minute after its start: waiting")
            await asyncio.sleep(_LOOK_S)

    def reading_caches(self) -> list[str]:
        """Each nginx that has not read its cache's folder yet."""
        return [name for name, pid in self.pids.items() if any(map(_loads_cache, proc.tree(pid)))]

    def alive(self) -> None:
        """Broken with the last words of a process that ended."""
        for child in self.children:
            if child.process.returncode is not None:
                raise Broken(child.last_words())

    def load(self, row: Row, *, order: str = "") -> Load:
        """How to measure *row*."""
        front = row.answerer if not row.answerer.startswith("peer:") else "gateway"
        front += "-cached" if row.cached else ""
        port = self.site.ports[f"{row.answerer}-check" if row.alone else f"{front}-open" if row.plain else front]
        text = request(row.request, row.path, self._cookie_name(), session=row.sessions != "none")
        path = self.site.folder / f"request-{row.name.replace(':', '-')}.txt"
        path.write_text(text, "ascii", newline="")
        return Load(
            url=f"http://127.0.0.1:{port}{row.path}",
            request=path,
            sessions=self.sealed.file(_FILES[row.sessions]),
            order=order or _ORDERS[row.sessions],
            connections=self.connections,
            answerer=None if row.plain or row.name == "proxied-open" else self.pids.get(row.answerer),
            nginx=None if row.alone else self.pids[f"nginx-{front}"],
            ours=self.pids,
            others_known=not row.answerer.startswith("peer:"),
            prefix=self.pinned("wrk"),
        )

    def _cookie_name(self) -> str:
        return loading.load(self.site.folder / "gateway.toml", {}).sites[0].cookie_name


def _loads_cache(pid: int) -> bool:
    return proc.title(pid) == "nginx: cache loader process"


def nginx_command(conf: Path) -> list[str]:
    return ["nginx", "-p", f"{conf.parent}/", "-c", str(conf), "-e", str(conf.parent / "start.log")]


def cache_there() -> bool:
    """Whether this checkout ships cache.conf."""
    return (snippets.folder() / "cache.conf").is_file()


async def answer(port: int, head: str) -> int:
    """Send one request and give the status of the answer; OSError where nobody answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head.encode("ascii"))
        line = await reader.readline()
    finally:
        writer.close()
    if not line:
        raise ConnectionResetError(f"port {port} said nothing")
    return int(line.split()[1])
