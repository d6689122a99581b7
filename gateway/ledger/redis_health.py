"""What makes a Redis forget or refuse, a sentence each with the setting to change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

NEARLY_FULL = 0.9


async def weaknesses(redis: Redis) -> list[str]:
    """Look at the server's own report, and at its settings where our user may read them."""
    try:
        report: Mapping[str, Any] = await redis.info()
    except ResponseError as error:  # forbidden or renamed; the settings are then out of reach too
        return [f"nothing can be said of appendonly, appendfsync and maxmemory-policy: INFO is refused ({error})"]
    return [*_role(report), *_memory(report), *await _durability(redis, report)]


def _role(report: Mapping[str, Any]) -> list[str]:
    if report.get("cluster_enabled"):
        return ["it is a Redis Cluster: use one Redis, or several with sentinels"]
    if report.get("role") == "slave":
        return ["it is a read-only replica: store must name the master, or the sentinels that know it"]
    return []


def _memory(report: Mapping[str, Any]) -> list[str]:
    limit, used, policy = report.get("maxmemory", 0), report.get("used_memory", 0), report.get("maxmemory_policy", "")
    if not limit:
        return []
    found = []
    if policy != "noeviction":
        found.append(f"maxmemory-policy is {policy}: when memory is full, records are dropped; set it to noeviction")
    if used > NEARLY_FULL * limit:
        found.append(f"it is nearly full ({used} of {limit} bytes): raise maxmemory, or nothing can be revoked any more")
    return found


async def _durability(redis: Redis, report: Mapping[str, Any]) -> list[str]:
    if not report.get("aof_enabled", 1):
        return ["appendonly is no: what was confirmed is lost when it stops; set appendonly yes and appendfsync always"]
    found = []
    if report.get("aof_last_write_status", "ok") != "ok":
        found.append("it cannot write its append-only file; its own log says why (is the disk full?)")
    try:
        settings = await redis.config_get("appendfsync", "no-appendfsync-on-rewrite")
    except ResponseError as error:
        return [*found, f"appendfsync cannot be checked, CONFIG GET is refused ({error}); make sure that it is always"]
    fsync = settings.get("appendfsync", "always")
    if fsync != "always":
        found.append(f"appendfsync is {fsync}: what was confirmed just before a crash is lost; set it to always")
    if settings.get("no-appendfsync-on-rewrite") == "yes" and fsync == "always":
        found.append("no-appendfsync-on-rewrite is yes: while the file is rewritten, nothing is safe; set it to no")
    return found
