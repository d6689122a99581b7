"""Many members gone at once is rather a mistake at WeCom's end: they wait for an operator; in memory, pure."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.member import NOT_ACTIVE
from gateway.records import Record

AT_LEAST = 20
PART = 0.05
"""More than this part of those read in one interval, and at least :data:`AT_LEAST`."""

GONE = frozenset({"out-of-scope", *NOT_ACTIVE.values()})
"""Why a reading of the member revokes: reasons of ``revoked`` records that are counted, whichever process wrote them."""

RECHECK = "recheck"
"""``details["by"]`` of what the re-check writes itself."""


class Hold:
    """Who was found gone lately, by any process, and who is kept until an operator confirms; fed by the ledger."""

    def __init__(self) -> None:
        self.members: dict[str, str] = {}  #: held members: case-folded id -> id
        self._gone: dict[str, float] = {}
        self._spared: set[str] = set()  #: released by an operator although WeCom says they are gone

    def holds(self, user_id: str, now: float, *, read: int, since: float) -> bool:
        """Whether *user_id*, whom WeCom says to be gone, is kept for now; *read*: how many were read since *since*.

        It counts at once: the ledger takes its time, and several are read together.
        """
        key = user_id.casefold()
        self._gone = {each: at for each, at in self._gone.items() if abs(now - at) < now - since}  # not of a clock since set back
        gone = len(self._gone.keys() | {key})
        if self.members or key in self._spared or (gone >= AT_LEAST and gone > PART * max(read, gone)):
            self.members[key] = user_id
            return True
        self._gone[key] = now
        return False

    def here(self, user_id: str) -> bool:
        """*user_id* was read and may be here; true if they were held until now."""
        self._spared.discard(user_id.casefold())
        return user_id.casefold() in self.members

    def apply(self, record: Record) -> None:
        """Take in a record of the ledger, ours or another process's."""
        match record.kind:
            case "held":
                self.members |= {name.casefold(): name for name in named(record)}
            case "released":
                self._release(record)
            case "revoked":
                self.revoked((record,))

    def revoked(self, records: Iterable[Record]) -> None:
        """The same for ``revoked`` records, of which a start has a million."""
        for record in records:
            if record.reason in GONE and record.member:
                self._gone[record.member.casefold()] = record.at
            if self.members:
                self.members.pop(record.member.casefold(), None)

    def _release(self, record: Record) -> None:
        keys = {name.casefold() for name in named(record)}
        for key in keys:
            self.members.pop(key, None)
        if record.details.get("by") != RECHECK:
            self._gone = {}
            if not record.details.get("confirmed"):
                self._spared |= keys

    def problems(self) -> list[str]:
        if not self.members:
            return []
        return [
            f"re-check held: WeCom says that {len(self.members)} more members are gone, too many at once; they keep their "
            "access until `wecom-gateway recheck confirm` ends it or `wecom-gateway recheck release` lets them stay"
        ]


def named(record: Record) -> list[str]:
    """The members that a ``held`` or ``released`` record names."""
    names = record.details.get("members", ())
    return [str(name) for name in names] if isinstance(names, (list, tuple)) else []
