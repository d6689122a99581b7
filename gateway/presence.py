"""Who is here: what the check and the reading of members in the background tell each other."""

from __future__ import annotations

import math

from gateway.session import Seen, Session

HERE = 4096
"""So many sessions in use are noted between two looks; with more, whoever is left out is noted after the next."""


class Presence:
    """The sessions in use, and what became of reading their members; times are Unix seconds.

    The check writes down nobody it has noted a moment ago, so that a request costs nothing by it.
    """

    __slots__ = ("here", "read", "renew_s", "unread_before")

    def __init__(self) -> None:
        self.here: dict[str, Seen] = {}  #: sessions in use since somebody last looked, by id; not all of very many
        self.read: dict[str, float] = {}  #: member id: when last read in the background
        self.renew_s = math.inf  #: who opens a page and was not read for so long is read first
        self.unread_before = -math.inf  #: whoever was not read since then is refused

    def note(self, seen: Seen) -> None:
        if len(self.here) < HERE:
            self.here[seen.id] = seen

    def away(self, session: Session | Seen, now: float) -> bool:
        """Whether nobody has asked WeCom about the member for longer than the background would leave one who is here."""
        renew_s = self.renew_s
        return now >= session.renewed + renew_s and now >= self.read.get(session.user_id, -math.inf) + renew_s

    def unverified(self, session: Session | Seen) -> bool:
        given = session.renewed >= session.ends  # by an operator, for when WeCom is down
        return not given and self.read.get(session.user_id, -math.inf) < self.unread_before
