"""A member as the check would see one who signed in now: read from WeCom for who asks at the command line."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiocache import SimpleMemoryCache

from gateway.assembly import directory_of, http_client, rules_of, wecom_client
from gateway.config import Config
from gateway.directory import Directory, Shared
from gateway.errors import ConfigError, MemberUnknown
from gateway.ledger import LedgerBroken, LedgerUnavailable, in_force, store_at
from gateway.member import ACTIVE, NOT_ACTIVE, Member
from gateway.names import Resolved
from gateway.rules import Rules
from gateway.snapshot import Placed
from gateway.telemetry import Telemetry
from gateway.verdicts import Answer
from gateway.wording import Part, asked

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Seated:
    """What the rules look at."""

    user_id: str
    departments: tuple[int, ...]
    leader_of: tuple[int, ...]
    tags: Mapping[int, bool]
    partial: bool


@dataclass(frozen=True, slots=True)
class Seat:
    """What WeCom tells: of the departments and tags in the rules, and of one member."""

    rules: Rules
    problems: tuple[str, ...]  #: what nobody can tell of, and what could not be read
    about: Mapping[str, Any]  #: the member, for scripts
    line: str  #: the same for people
    who: Seated | None = None  #: None: the member could not sign in
    reason: str = ""  #: why not

    def asked(self, rule: str) -> tuple[Part, ...]:
        return asked(self.rules, rule)

    def refused(self, rule: str) -> Answer:
        return Answer(rule, passes=False, reason=self.reason, why="this member cannot sign in")


async def take(config: Config, user_id: str | None, clock: Clock) -> Seat:
    """Read what WeCom says now; ConfigError for names of nothing, a WeComError where the member cannot be read."""
    rules, resolved = rules_of(config), await _resolved(config, clock)
    async with http_client(config) as http:
        client = wecom_client(config, http, SimpleMemoryCache(), clock)
        shared = Shared(SimpleMemoryCache(), resolved, resolved.apply, Telemetry(clock), clock)
        directory = directory_of(config, client, rules, shared, names=True)
        try:
            if wrong := await directory.begin():
                raise ConfigError(wrong)
            await directory.refresh()
            if user_id is None:
                return Seat(rules, _problems(directory, rules), {}, "")
            try:
                member = await client.member(user_id)
            except MemberUnknown as error:
                return _absent(rules, user_id, "out-of-scope", str(error))
            if member.status != ACTIVE:
                return _absent(rules, member.user_id, NOT_ACTIVE.get(member.status, "disabled"), member.name)
            placed = await directory.placed(member)
            return _seat(rules, _problems(directory, rules), member, placed)
        finally:
            await directory.close()
            await client.close()


async def _resolved(config: Config, clock: Clock) -> Resolved:
    """What the ledger knows of names; only a ledger that is there is opened, for whoever asks might not be its owner."""
    resolved, address = Resolved(), str(config.store)
    if _missing(address):
        return resolved
    store = store_at(address, config.owner, clock)
    try:
        await store.open()
        async for records, _ in in_force(store):
            for record in records:
                resolved.apply(record)
    except (LedgerUnavailable, LedgerBroken) as error:
        logging.getLogger(__name__).error("store: %s; names are looked up anew", error)
    finally:
        await store.close()
    return resolved


def _missing(address: str) -> bool:
    return address.startswith("sqlite:") and not Path(address.removeprefix("sqlite://")).exists()


def _problems(directory: Directory, rules: Rules) -> tuple[str, ...]:
    unread = [f"departments and tags cannot be read: {directory.trouble}"] if directory.trouble else []
    return (*unread, *rules.problems())


def _absent(rules: Rules, user_id: str, reason: str, told: str) -> Seat:
    line = f"{user_id} cannot sign in ({reason}){f': {told}' if told else ''}"
    return Seat(rules, (), {"user_id": user_id, "reason": reason}, line, reason=reason)


def _seat(rules: Rules, problems: tuple[str, ...], member: Member, placed: Placed) -> Seat:
    names = rules.known.names
    departments = {number: names.get(("department", number), "") for number in placed.departments}
    tags = [names.get(("tag", number), str(number)) for number, holds in placed.tags.items() if holds]
    who = Seated(member.user_id, placed.departments, member.leader_of, placed.tags, placed.partial)
    about = {"user_id": member.user_id, "name": member.name, "departments": departments, "tags": dict(placed.tags)}
    shown = ", ".join(f"{name} ({number})" if name else str(number) for number, name in departments.items())
    line = f"{member.user_id} {member.name}: departments {shown or 'none'}; tags {', '.join(tags) or 'none of those asked for'}"
    leads = f"; leads {', '.join(map(str, member.leader_of))}" if member.leader_of else ""
    return Seat(rules, problems, about | {"leads": list(member.leader_of)}, line + leads, who)
