"""What goes wrong with a Redis, told in a sentence that names what to change."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions as redis
from redis.asyncio.sentinel import MasterNotFoundError

from gateway.errors import GatewayError
from gateway.ledger.store import LedgerBroken, LedgerUnavailable

_CLUSTER = "is a Redis Cluster, where one log cannot be: use one Redis, or several with sentinels"
_NONE = ()

_FOR_GOOD = (
    (redis.MovedError, "MOVED", _CLUSTER),
    (redis.ClusterCrossSlotError, "CROSSSLOT", _CLUSTER),
    (_NONE, "STRANGE", "holds an entry that is not ours; take it out by XDEL: {said}"),
    (_NONE, "WRONGTYPE", "holds something else under our key: give store a prefix of its own, like ?prefix=gateway"),
)
"""The library's class, the word that Redis begins such an error with, and what it means: waiting does not help."""

_FOR_NOW = (
    (
        MasterNotFoundError,  # what it says has the sentinels' password in it, in some releases of the library
        "",
        "has no sentinel that names the master: do they answer, do they know one of that name, is sentinel_password right?",
    ),
    (redis.AuthenticationError, "NOAUTH", "does not let us in; look at user and password in store: {said}"),
    (redis.NoPermissionError, "NOPERM", "does not let our user do this; allow it by ACL SETUSER: {said}"),
    (redis.OutOfMemoryError, "OOM", "is full: raise maxmemory, and keep maxmemory-policy noeviction"),
    (redis.ReadOnlyError, "READONLY", "is a read-only replica: store must name the master, or the sentinels that know it"),
    (redis.BusyLoadingError, "LOADING", "is still loading its data"),
    (redis.MasterDownError, "MASTERDOWN", "is a replica that has lost its master"),
    (_NONE, "MISCONF", "cannot write to its disk and takes nothing more; its own log says why"),
    (_NONE, "NOREPLICAS", "has fewer replicas than its min-replicas-to-write and takes nothing"),
    (redis.InvalidResponse, "", "does not talk like a Redis: another service listens there, or it wants rediss://"),
    ((redis.TimeoutError, TimeoutError), "", "does not answer in time"),
    (ssl.SSLCertVerificationError, "", "has a certificate that we do not trust; name its CA by ?ca_file=… in store: {said}"),
    (ssl.SSLError, "", "breaks off TLS: does it ask for a certificate of ours (?cert_file=…&key_file=… in store)? {said}"),
    ((redis.ConnectionError, OSError), "", "cannot be reached: {said}"),
    (redis.ResponseError, "", "refuses: {said}"),
    (Exception, "", "gives an answer that makes no sense"),
)

_HANGS_UP = "cannot be reached: {said}; over TLS: does it ask for a certificate of ours (?cert_file=…&key_file=… in store)?"
_OVER_TLS = (
    ((ConnectionResetError, BrokenPipeError), "", _HANGS_UP),
    (_NONE, "closed by", _HANGS_UP),
    *_FOR_NOW,
)
"""A Redis that wants a certificate refuses after the handshake: the alert that says so may come, or be lost as it hangs up."""


@contextmanager
def told(shown: str) -> Iterator[None]:
    """Turn whatever a Redis client raises into LedgerUnavailable or LedgerBroken; *shown* says which Redis, without password."""
    task = asyncio.current_task()
    cancelled = task.cancelling() if task else 0
    try:
        yield
    except GatewayError:
        raise
    except Exception as error:  # a server that is no Redis breaks the library in any way
        if fault := _fault(_FOR_GOOD, error):
            raise LedgerBroken(f"{shown} {fault}") from error
        faults = _OVER_TLS if shown.startswith("rediss:") else _FOR_NOW
        raise LedgerUnavailable(f"{shown} {_fault(faults, error)}") from error
    finally:
        if task and task.cancelling() > cancelled:  # the library sometimes goes on as if nobody had asked it to stop
            raise asyncio.CancelledError


def _fault(faults: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str, str], ...], error: Exception) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    errors = (error, error.__context__)  # the library puts its own class around a broken TLS handshake
    for kind, word, fault in faults:
        if any(isinstance(each, kind) for each in errors) or (word and f"{word} " in said):
            return fault.format(said=said)
    return ""
