"""Sockets that listen before a server runs on them, so that neither port nor readiness can be missed."""

from __future__ import annotations

import socket


def listening(backlog: int = 512) -> socket.socket:
    """Give a socket that listens at a free port of the loopback, fit to be handed to nginx.

    Not blocking: nginx leaves a socket that it was handed as it is. Of two workers that wake for one connection the second would
    wait inside ``accept()``, and answer none of its own any more.
    """
    listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
    listener.setblocking(False)
    return listener
