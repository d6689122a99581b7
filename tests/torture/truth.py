"""What was confirmed to people and operators during a torture run, and what must therefore hold."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from random import Random

WITHIN_S = 1.0
"""Every running process obeys a confirmed revocation by then."""

SHADOW_S = 12.0
"""Sign-ins of a member so long after a revocation may fall under it: clocks are given ten seconds, issue times are whole."""


@dataclass(slots=True)
class Known:
    """A session whose person got its cookie; times by one loop."""

    cookie: str
    id: str
    member: str
    confirmed: float
    doubtful: bool = False  #: somebody tried to end it: it may be refused
    ended: float = math.inf  #: its end was confirmed then


@dataclass(slots=True)
class Truth:
    """Every confirmed sign-in and revocation, and every answer that contradicts them."""

    within_s: float = WITHIN_S
    sessions: list[Known] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    slowest_s: float = 0  #: the latest answer 204 after the confirmation, within the bound
    _shadows: dict[str, float] = field(default_factory=dict)

    def signed_in(self, known: Known, began: float) -> None:
        known.doubtful = began < self._shadows.get(known.member, -math.inf)
        self.sessions.append(known)
        self.counts["signed in"] += 1

    def trying(self, concerned: list[Known], member: str, now: float) -> None:
        """Somebody begins to end sessions: whether they are over is open until it is confirmed."""
        for known in concerned:
            known.doubtful = True
        if member:
            self._shadows[member] = now + SHADOW_S

    def ended(self, concerned: list[Known], now: float) -> None:
        for known in concerned:
            known.ended = min(known.ended, now)
        self.counts["revoked"] += 1

    def answered(self, known: Known, status: int, reason: str, *, asked: float, started: float, where: str) -> None:
        """Judge one answer of a process that was *started* then, to a question *asked* then."""
        self.counts[f"answered {status}"] += 1
        late = asked - known.ended
        if status == 204 and (late > self.within_s or started > known.ended):
            self.violations.append(f"{where}: {known.id} of {known.member} let in {late:.2f} s after its end was confirmed")
        elif status == 204:
            self.slowest_s = max(self.slowest_s, late)
        elif not known.doubtful:
            self.violations.append(f"{where}: {known.id} of {known.member} refused as {reason or status}, nobody ended it")

    def live(self, rng: Random) -> Known | None:
        """One that nobody has ended; None while there is none."""
        found = [known for known in self.sessions[-200:] if known.ended == math.inf and not known.doubtful]
        return rng.choice(found) if found else None

    def of(self, member: str) -> list[Known]:
        return [known for known in self.sessions if known.member == member]
