"""Whose turn it is to be read again from WeCom, what was read, and how fast WeCom may be asked; in memory, pure."""

from __future__ import annotations

import heapq
import json
import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from gateway.member import IDENTITY, identity_headers
from gateway.presence import HERE, Presence
from gateway.session import Seen

EARLY = 0.75
"""A member's turn comes somewhere between this part of the interval and its end: who signed in together is spread out."""
AHEAD_S = 60
"""A reading that seems to come later than this is of a clock that was wrong, and counts for nothing."""
FIRST_PAUSE_S = 15.0
LONGEST_PAUSE_S = 600.0
BURST = 10
"""This part of a minute's calls may come at once."""
WAITING = 4 * HERE
"""So many sessions wait at most; whoever finds no room is noted again with their next request."""

_TOLD = tuple(name for name in IDENTITY if name.removeprefix("X-WeCom-") in ("Account", "Name", "Position", "Alias"))


def told_by(seen: Seen) -> str:
    """A digest of what WeCom told about the member of *seen*, the same in every process; without what a user_ticket brought."""
    announced = identity_headers(seen.identity)
    told = [seen.departments, seen.leader_of, sorted(seen.tags.items()), [announced.get(name, "") for name in _TOLD]]
    return blake2b(json.dumps(told).encode(), digest_size=8).hexdigest()


def differs(seen: Seen, told: Mapping[str, str]) -> bool:
    """Whether the session says something else than a reading told about its site; never of one that an operator gave."""
    return seen.site in told and seen.renewed < seen.ends and told[seen.site] != told_by(seen)


@dataclass(slots=True)
class Reading:
    """The last reading of a member outside of their sessions."""

    at: float  #: Unix seconds, when it began
    told: Mapping[str, str]  #: site: what :func:`told_by` gives for a session made then; empty where the member was gone
    agreeing: set[str] = field(default_factory=set)  #: ids of sessions that were compared with it


class Watch(Presence):
    """The members who are here: who waits to be read, who was read when, and how fast WeCom may be asked."""

    def __init__(self) -> None:
        super().__init__()
        self.every_s = 0.0
        self.failing = ""  #: why nobody can be read right now
        self.failing_since = math.inf
        self._failures, self._resume = 0, -math.inf
        self._waiting: dict[str, dict[str, Seen]] = {}  #: member id -> the sessions seen since the turn came, by id
        self._room = WAITING
        self._queue: list[tuple[float, str]] = []  #: who was not read the longest is first
        self._readings: dict[str, Reading] = {}
        self._swept = -math.inf
        self._per_s = 1.0
        self._allowed, self._allowed_at = 0.0, -math.inf

    def pace(self, every_s: float, per_minute: int) -> None:
        """Take the settings: ``every_s`` 0 means never, and nobody waits."""
        self.every_s, self._per_s = every_s, per_minute / 60
        if not every_s:
            self._waiting, self._queue, self._room = {}, [], WAITING
        self.renew_s = every_s if every_s and not self.failing else math.inf
        self.unread_before = -math.inf  # until :meth:`close` says so again

    @property
    def waiting(self) -> int:
        """How many members wait to be read."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether no further session can wait."""
        return self._room <= 0

    # ── whose turn it is ───────────────────────────────────────────────────────────────────────────────────────────

    def consider(self, here: Iterable[Seen], now: float) -> set[str]:
        """Let those wait whose turn has come; give the members of whom a session says something else than the last reading."""
        differing = set()
        for seen in here:
            reading = self._readings.get(seen.user_id)
            last = _latest(now, seen.read, reading.at if reading else -math.inf)
            if now >= last + self.every_s * (EARLY + (1 - EARLY) * _part((seen.user_id, last))):
                self._wait(seen, last)
            elif reading and seen.read < reading.at and seen.id not in reading.agreeing:
                reading.agreeing.add(seen.id)
                if differs(seen, reading.told):
                    differing.add(seen.user_id)
        self._forget(now)
        return differing

    def next(self, now: float) -> tuple[str, list[Seen]] | None:
        """Who is to be read now, and the sessions of theirs that were seen; whoever was away the longest comes first."""
        if not self._queue or self._pausing(now):
            return None
        _, user_id = heapq.heappop(self._queue)
        sessions = list(self._waiting.pop(user_id).values())
        self._room += len(sessions)
        return user_id, sessions

    def _wait(self, seen: Seen, last: float) -> None:
        waiting = self._waiting.get(seen.user_id, {})
        if self.full and seen.id not in waiting:
            return
        if not waiting:
            self._waiting[seen.user_id] = waiting
            heapq.heappush(self._queue, (last, seen.user_id))
        self._room -= seen.id not in waiting
        waiting[seen.id] = seen

    # ── what was read ──────────────────────────────────────────────────────────────────────────────────────────────

    def learn(self, user_id: str, at: float, told: Mapping[str, str]) -> None:
        """*user_id* was read, from *at* on, here or by another process."""
        self._readings[user_id] = Reading(at, told)
        self.read[user_id] = at

    def read_lately(self, now: float) -> int:
        """How many members were read within the last interval."""
        return sum(1 for reading in self._readings.values() if now - self.every_s < reading.at)

    def _forget(self, now: float) -> None:
        """Once an interval, let go of readings that are too old to matter."""
        if not 0 <= now - self._swept < self.every_s:
            self._swept = now
            self._readings = {key: reading for key, reading in self._readings.items() if abs(now - reading.at) < 2 * self.every_s}
            self.read = {user_id: reading.at for user_id, reading in self._readings.items()}

    # ── how fast ───────────────────────────────────────────────────────────────────────────────────────────────────

    def budget(self, now: float) -> int:
        """How many may be read right now; one at a time, after a growing pause, while WeCom does not tell."""
        if self._pausing(now):
            return 0
        most, elapsed = max(1.0, self._per_s * 60 / BURST), max(0.0, now - self._allowed_at)
        self._allowed, self._allowed_at = min(most, self._allowed + elapsed * self._per_s), now
        return min(1, int(self._allowed)) if self.failing else int(self._allowed)

    def _pausing(self, now: float) -> bool:
        return bool(self.failing) and 0 < self._resume - now <= 2 * LONGEST_PAUSE_S

    def spend(self) -> None:
        self._allowed -= 1

    def failed(self, why: str, sessions: Iterable[Seen], now: float) -> None:
        """WeCom did not tell about the member of *sessions*, who comes last among those who wait."""
        for seen in sessions:
            self._wait(seen, now)
        if self._pausing(now):  # several were under way
            return
        pause = min(FIRST_PAUSE_S * 2.0**self._failures, LONGEST_PAUSE_S) * random.uniform(1, 1.3)  # noqa: S311 - spreads load
        self._failures, self._resume = min(self._failures + 1, 10), now + pause
        self.failing, self.renew_s = why, math.inf
        self.failing_since = min(self.failing_since, now)

    def answered(self) -> None:
        """WeCom told about a member."""
        self.failing, self._failures, self.failing_since = "", 0, math.inf
        self.renew_s, self.unread_before = self.every_s or math.inf, -math.inf

    def close(self, now: float, grace_s: float) -> None:
        """Refuse whoever was not read for *grace_s*, once nobody could be read for so long."""
        self.unread_before = now - grace_s if now >= self.failing_since + grace_s else -math.inf


def _latest(now: float, *times: float) -> float:
    return max((time for time in times if time <= now + AHEAD_S), default=-math.inf)


def _part(of: object) -> float:
    """A number from 0 to 1, the same for the same thing."""
    return hash(of) % 1024 / 1024
