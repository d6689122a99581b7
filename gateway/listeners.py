"""A listener: a server behind one or several sockets, of our own or held for us; closed without losing a connection."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from gateway.errors import ConfigError

BACKLOG = 4096
"""Connections that may wait to be accepted: with fewer, those of a burst come a second later, and nginx waits no longer."""

_UNIX = "unix:"


class Listener:
    """One of our servers, named as in the settings; ``address`` is the first it listens on."""

    def __init__(self, name: str, runner: web.BaseRunner) -> None:
        self.address = ""
        self._name = name
        self._runner = runner
        self._own: list[socket.socket] = []

    async def open(self, address: str, held: Sequence[socket.socket], *, shared: bool) -> None:
        """Listen on the sockets that are *held* for us, else on *address*, *shared* with other processes or not."""
        await self._runner.setup()
        if held:
            for each in held:
                await web.SockSite(self._runner, each, backlog=BACKLOG).start()
        else:
            self._own.append(bound(self._name, address, shared=shared))
            # a second handle on it: asyncio closes its own before we have looked for the last time who waits there
            await web.SockSite(self._runner, self._own[0].dup(), backlog=BACKLOG).start()
        self.address = _shown(held[0].getsockname()) if held else address

    async def refuse(self) -> None:
        """Take no more connections. Whoever waits to be accepted at a socket of ours alone is served still.

        At a socket held for us nothing is lost: they wait for the other processes, or for the next start.
        """
        for site in self._runner.sites:
            await site.stop()
        loop, server = asyncio.get_running_loop(), self._runner.server
        while self._own:
            for waiting in _last(self._own.pop()):
                if server:
                    await loop.connect_accepted_socket(server, waiting)

    async def close(self) -> None:
        """End every connection, after the answer that is under way on it."""
        await self.refuse()
        await self._runner.cleanup()


def bound(name: str, address: str, *, shared: bool) -> socket.socket:
    """A socket bound to *address*, not yet listening; ConfigError with the setting's name where it cannot be had."""
    try:
        return _unix(Path(address.removeprefix(_UNIX))) if address.startswith(_UNIX) else _tcp(address, shared=shared)
    except OSError as error:
        hint = _hint(name) if error.errno == errno.EADDRINUSE else ""
        raise ConfigError([f"listen.{name}: cannot listen on {address}: {error.strerror or error}{hint}"]) from None


def _tcp(address: str, *, shared: bool) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    own = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        own.setblocking(False)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if own.family == socket.AF_INET6:
            own.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        own.bind((host, int(port)))
        own.listen(BACKLOG)
    except OSError:
        own.close()
        raise
    return own


def _unix(path: Path) -> socket.socket:
    """It takes its place in one step, so that a connection meets the process before or this one, and may enter either.

    As open as loopback is (nginx's worker is another user); the mode of its folder narrows it.
    """
    if path.exists() and not path.is_socket():
        raise FileExistsError(errno.EEXIST, "a file that is no socket is there")
    own = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    coming = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        own.setblocking(False)
        coming.unlink(missing_ok=True)
        own.bind(str(coming))
        coming.chmod(0o666)
        own.listen(BACKLOG)
        coming.replace(path)
    except OSError:
        own.close()
        coming.unlink(missing_ok=True)
        raise
    return own


def _last(own: socket.socket) -> list[socket.socket]:
    """Accept whoever waits, and close."""
    found = []
    with own:
        while True:
            try:
                found.append(own.accept()[0])
            except OSError:  # nobody any more
                return found


def _shown(name: Any) -> str:
    if isinstance(name, tuple):
        return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
    return f"{_UNIX}{name}"


def _hint(name: str) -> str:
    if name == "ops":
        return "; does another gateway run? Several have an address each here: WECOM_GATEWAY_LISTEN_OPS=127.0.0.2:9182"
    return "; does another gateway run? Several share it with listen.reuse_port = true in each"
