"""The running gateway: three listeners, reload, an orderly end."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gateway import ops, routes
from gateway.assembly import Clock, Lasting, build, http_client
from gateway.auth import checker
from gateway.config import Config
from gateway.contradictions import warnings
from gateway.errors import ConfigError
from gateway.keys import Live, Parts
from gateway.ledger import LedgerBroken
from gateway.listeners import Listener
from gateway.recheck import Recheck
from gateway.systemd import inherited, notify

log = logging.getLogger("wecom_gateway")

MAX_HEADER_BYTES = 256 * 1024
"""Above anything that nginx can be told to pass: 8 buffers of 64k are rare, 8 of 32k are not."""

KEEPALIVE_S = 3600.0
"""nginx closes idle connections to us, not we: closing first would lose a request."""

SHUTDOWN_S = 10.0

FOR_GOOD = ("corp_id", "agent_id", "store")
"""Settings that say whose ledger it is and where: with another ledger all that was revoked would be forgotten."""

AT_START = ("listen", "retention", "syslog", "syslog_ca_file", "log_level")
"""Settings that are looked at once."""

LEAVING_S = 0.5
"""So long a connection may take to ask once more and to be told with the answer that it ends."""


class Gateway:
    """A running gateway: ``async with Gateway(config)``; the addresses it listens on are in ``addresses``."""

    def __init__(
        self, config: Config, *, clock: Clock = time.time, held: Mapping[str, Sequence[socket.socket]] | None = None
    ) -> None:
        self._config = config
        self._held = held or {}  #: listening sockets that somebody else keeps for us, by the listener's name
        self._listeners: list[Listener] = []
        self._lasting = Lasting.of(config, clock)
        self._stack = AsyncExitStack()
        self._ends = AsyncExitStack()  #: of the parts in force
        self._ending: set[asyncio.Task[None]] = set()  #: of those that were replaced, until nobody is at work with them
        self.addresses: dict[str, str] = {}
        self.live: Live
        self.recheck: Recheck

    async def __aenter__(self) -> Gateway:
        self._stack.push_async_callback(self._lasting.close_cache)
        self._stack.push_async_callback(self._end)
        try:
            self.live = Live(await self._ends.enter_async_context(self._parts(self._config)))
            self._pace()
            self.recheck = Recheck(self.live)
            await self._listen()
            await self._stack.enter_async_context(in_background(self.recheck.run()))
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._lasting.once.close()
        await self._stack.aclose()

    async def reload(self, config: Config) -> None:
        """Put *config* in force for the next request; ConfigError where that takes a restart, or it is wrong in itself."""
        if changed := self._changed(config, FOR_GOOD):
            raise ConfigError([f"{name}: another one takes a restart, for the ledger goes by it" for name in changed])
        async with AsyncExitStack() as stack:
            parts = await stack.enter_async_context(self._parts(config))
            await _meet_names(parts)
            for name in self._changed(config, AT_START):
                log.warning("%s: what is new there takes effect at the next start", name)
            self.live.now, before = parts, self._ends
            self._ends = stack.pop_all()
        self._pace()
        ending = asyncio.create_task(before.aclose())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        log.info("settings reloaded")

    def _changed(self, config: Config, names: Sequence[str]) -> list[str]:
        """Which of these settings are not those of the start."""
        return [name for name in names if getattr(config, name) != getattr(self._config, name)]

    def _pace(self) -> None:
        recheck = self.live.now.config.recheck
        self._lasting.watch.pace(recheck.every, recheck.per_minute)

    @asynccontextmanager
    async def _parts(self, config: Config) -> AsyncIterator[Parts]:
        """What *config* asks for; closed once nobody is at work with it."""
        for warning in warnings(config):
            log.warning(warning)
        async with http_client(config) as http:
            parts = build(config, http, self._lasting)
            try:
                yield parts
            finally:
                await parts.directory.close()
                await parts.in_use.idle()
                await parts.wecom.close()

    async def _end(self) -> None:
        await self._ends.aclose()
        await asyncio.gather(*self._ending)

    async def _listen(self) -> None:
        limits: dict[str, Any] = {
            "max_line_size": MAX_HEADER_BYTES,
            "max_field_size": MAX_HEADER_BYTES,
            "keepalive_timeout": KEEPALIVE_S,
            "access_log": None,
            "logger": _quiet_logger(),
        }
        listen = self._config.listen
        await self._open("ops", listen.ops, web.AppRunner(ops.application(self.live), access_log=None))
        await self._follow_ledger()
        await _meet_names(self.live.now)
        check = web.Server(checker(self.live), **limits)
        await self._open("check", listen.check, web.ServerRunner(check, shutdown_timeout=SHUTDOWN_S))
        await self._open(
            "pages", listen.pages, web.AppRunner(routes.application(self.live), shutdown_timeout=SHUTDOWN_S, **limits)
        )

    async def _follow_ledger(self) -> None:
        """Nobody is answered before everything in force is known."""
        ledger = self._lasting.ledger
        self._stack.push_async_callback(ledger.close)
        try:
            await ledger.start()
        except LedgerBroken as error:
            raise ConfigError([f"store: {error}"]) from error

    async def _open(self, name: str, address: str, runner: web.BaseRunner) -> None:
        listener = Listener(name, runner)
        self._stack.push_async_callback(listener.close)
        self._listeners.append(listener)
        await listener.open(address, self._held.get(name, ()), shared=self._config.listen.reuse_port and name != "ops")
        if listener.address != address:
            log.warning("listen.%s is %s, but systemd listens on %s: edit the socket unit", name, address, listener.address)
        self.addresses[name] = listener.address

    async def leave(self) -> None:
        """Take no more connections, and let those there are end with their next answer: a keepalive nginx loses no request."""
        self.live.leaving = True
        for listener in self._listeners:
            await listener.refuse()
        await asyncio.sleep(LEAVING_S)


async def _meet_names(parts: Parts) -> None:
    """ConfigError for names in rules that nothing, or more than one, bears; the ledger knows those that were met before."""
    if problems := await parts.directory.begin():
        raise ConfigError(problems)
    parts.directory.keep_fresh()


@asynccontextmanager
async def in_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do *work* beside everything else, and stop it first."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        while not task.done():  # what it waits for may have come at the very moment, and kept the cancellation to itself
            task.cancel()
            await asyncio.wait((task,), timeout=0.1)


async def serve(load: Callable[[], Config], *, ready: Callable[[Gateway], None] = lambda _: None) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP reads the settings again by *load*, a bad file is refused and the old stay."""
    stop, reload = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    refuse_disabled_cache(os.environ)
    async with AsyncExitStack() as stack:
        gateway = Gateway(load(), held=inherited())
        if not await _before(stop, stack.enter_async_context(gateway)):
            return
        log.info("listening: %s", ", ".join(f"{name} {address}" for name, address in gateway.addresses.items()))
        ready(gateway)
        gc.collect()
        gc.freeze()  # what was built for good is not looked through at every collection
        notify("READY=1")
        while not stop.is_set():
            waiting = [asyncio.ensure_future(event.wait()) for event in (stop, reload)]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            if reload.is_set():
                reload.clear()
                await _reload(gateway, load)
        log.info("stopping")
        notify("STOPPING=1")
        await gateway.leave()


async def _before(stop: asyncio.Event, start: Coroutine[Any, Any, Gateway]) -> bool:
    """Whether *start* came to its end before *stop*: it may wait for the ledger."""
    starting, stopping = asyncio.ensure_future(start), asyncio.ensure_future(stop.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if starting.done():
        starting.result()
        return True
    starting.cancel()
    await asyncio.wait((starting,))
    return False


async def _reload(gateway: Gateway, load: Callable[[], Config]) -> None:
    try:
        await gateway.reload(await asyncio.to_thread(load))  # a file of accounts may take a second
    except ConfigError as error:
        for problem in error.problems:
            log.error("settings not reloaded, the old ones stay: %s", problem)


def refuse_disabled_cache(environment: Mapping[str, str]) -> None:
    """With AIOCACHE_DISABLE set, aiocache says "absent" to everything: tokens would be fetched for every call."""
    if "AIOCACHE_DISABLE" in environment:
        raise ConfigError(["environment AIOCACHE_DISABLE: must not be set; every call to WeCom would fetch a token"])


def _quiet_logger() -> logging.Logger:
    """aiohttp logs the header it could not parse, and that may be a session cookie."""
    logger = logging.getLogger("wecom_gateway.http")
    if not any(isinstance(each, _WithoutBytes) for each in logger.filters):
        logger.addFilter(_WithoutBytes())
    return logger


class _WithoutBytes(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            record.msg, record.args = "bad request: %s", (type(error).__name__,)
            record.exc_info = record.exc_text = None
        return True
