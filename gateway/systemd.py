"""What systemd and we say to each other: the sockets it holds for us, sd_listen_fds(3), and that we are ready, sd_notify(3)."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, MutableMapping

from gateway.errors import ConfigError

FIRST = 3
NAMES = ("check", "pages", "ops")


def inherited(environment: MutableMapping[str, str] = os.environ) -> dict[str, list[socket.socket]]:
    """Take the listening sockets meant for this process, by ``FileDescriptorName=``; ConfigError for what is none of ours.

    The variables are taken out of *environment*, so that no child believes they are meant for it.
    """
    pid, count, names = (environment.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES"))
    if pid != str(os.getpid()) or not count.isdigit():
        return {}
    found: dict[str, list[socket.socket]] = {}
    for number, name in _named(int(count), names):
        found.setdefault(name, []).append(_listening(number, name))
    return found


def notify(text: str, environment: MutableMapping[str, str] = os.environ) -> None:
    """Tell systemd *text* (``READY=1``), where it asked for it (``Type=notify``)."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.sendto(text.encode(), address.replace("@", "\0", 1) if address.startswith("@") else address)
        except OSError:
            return  # systemd is not listening any more: nothing of ours depends on it


def _named(count: int, names: str) -> Iterator[tuple[int, str]]:
    given = names.split(":")
    for index in range(count):
        name = given[index] if index < len(given) else ""
        if name not in NAMES:
            raise ConfigError([f"systemd: a socket is named {name!r}; FileDescriptorName= must be one of {', '.join(NAMES)}"])
        yield FIRST + index, name


def _listening(number: int, name: str) -> socket.socket:
    try:
        os.set_inheritable(number, False)
        found = socket.socket(fileno=number)
        if found.type == socket.SOCK_STREAM and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return found
    except OSError as error:
        raise ConfigError([f"systemd: what it passed as {name} is no socket: {error.strerror}"]) from None
    raise ConfigError([f"systemd: the socket {name} does not listen; ListenStream= and Accept=no are needed"])
