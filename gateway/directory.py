"""Departments and tags as WeCom has them: read when first needed, refreshed in the background, kept while WeCom is down.

One reading serves all processes that share the cache. What rules need of it is told to :class:`~gateway.rules.Rules`, so that
the check stays in memory; where a member stands is asked at a sign-in, a renewal and a re-check.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from aiocache.base import BaseCache

from gateway import names
from gateway.errors import NotVisible, WeComError
from gateway.member import Member
from gateway.names import Name, Resolved
from gateway.records import Record
from gateway.rules import Knowledge, Rules
from gateway.snapshot import Placed, Snapshot
from gateway.telemetry import Telemetry
from gateway.tree import Tree
from gateway.wecom import Tag, WeCom

log = logging.getLogger(__name__)

RETRY_S = 30
"""After a reading that failed, or one that still lacked something, the next is tried no sooner."""

AHEAD_S = 60
"""A reading that seems to come later than this is of a clock that was wrong: it counts as one of long ago."""

SIGN_IN_S = 2.0
"""How long a sign-in waits for a reading; it goes on with the member's own departments, and is read again soon."""

START_S = 8.0
KEPT_S = 7 * 86400


@dataclass(frozen=True, slots=True)
class Shared:
    """What a directory shares with other processes and with itself after a restart."""

    cache: BaseCache
    resolved: Resolved
    note: Callable[[Record], None]  #: where a resolved name is written down
    telemetry: Telemetry
    clock: Callable[[], float]


class Directory:
    """The departments and tags of one app; all times are Unix seconds of *clock*, *refresh_s* seconds."""

    def __init__(
        self,
        wecom: WeCom,
        rules: Rules,
        shared: Shared,
        *,
        corp_id: str,
        agent_id: int,
        refresh_s: float,
        with_names: bool = False,  #: read names of departments that no rule needs
    ) -> None:
        self._wecom = wecom
        self._rules = rules
        self._cache = shared.cache
        self._resolved = shared.resolved
        self._note = shared.note
        self._telemetry = shared.telemetry
        self._clock = shared.clock
        self._corp_id = corp_id
        self._key = f"wecom-gateway directory {corp_id} {agent_id}"
        self._refresh_s = refresh_s
        self._with_names = with_names
        self._snapshot: Snapshot | None = None
        self._wrong: dict[Name, str] = {}
        self.trouble = ""  #: why the last reading gave nothing
        self._tried = -1e18
        self._reading: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def snapshot(self) -> Snapshot | None:
        return self._snapshot

    async def begin(self) -> list[str]:
        """Read what the settings speak of; a sentence for each name in them that nothing, or more than one, bears.

        Where WeCom does not answer, such rules deny until it does: nothing is wrong with the settings then.
        """
        self._take(shared := await self._shared())
        fresh = shared is not None and self._began(shared) > self._clock() - self._refresh_s / 2 and not self._unread(shared)
        if self._needed and not fresh:
            await self.refresh(timeout_s=START_S if self._unresolved else 0)  # a start need not wait for what only warns
        return self.wrong_names()

    def keep_fresh(self) -> None:
        """Go on reading in the background until :meth:`close`."""
        self._keeping = asyncio.create_task(self._keep(), name="directory")

    async def close(self) -> None:
        """Leave nothing under way."""
        for task in filter(None, (self._keeping, self._reading)):
            task.cancel()
            await asyncio.wait([task])

    def wrong_names(self) -> list[str]:
        """A sentence for each name of the settings that was looked for and is not that of exactly one."""
        return [f"{self._rules.places(kind, name)}: {kind}:{name}: {why}" for (kind, name), why in self._wrong.items()]

    async def placed(self, member: Member, *, after: float = 0.0) -> Placed:
        """Where *member* stands by a reading that began *after* (Unix seconds), if WeCom answers soon; else by what is known."""
        found = self._snapshot
        if found is None or self._began(found) < after or self._lacks(found, member):
            await self.refresh(after=after, timeout_s=SIGN_IN_S)
            found = self._snapshot
        if found is None:
            return Placed(member.departments, partial=True)
        return found.place(member, self._rules.tags)

    async def refresh(self, *, after: float = 0.0, timeout_s: float = START_S) -> None:
        """Read now, unless that was tried a moment ago and *after* is not newer; who has waited *timeout_s* goes on without."""
        if self._reading is None or self._reading.done():
            if self._tried >= after and abs(self._clock() - self._tried) < RETRY_S:
                return
            self._reading = asyncio.create_task(self._read(after), name="directory reading")
            self._reading.add_done_callback(_look_at)
        await asyncio.wait([self._reading], timeout=timeout_s)

    async def _keep(self) -> None:
        while True:
            complete = self._snapshot is not None and not self._unread(self._snapshot)
            await asyncio.sleep(self._refresh_s if complete else min(RETRY_S, self._refresh_s))
            if self._needed or self._snapshot:
                await self.refresh(timeout_s=60)

    async def _read(self, after: float) -> None:
        self._tried = began = self._clock()
        shared = await self._shared()
        held, theirs = (self._began(each) if each else 0.0 for each in (self._snapshot, shared))
        if shared and theirs > max(held, began - self._refresh_s / 2) and theirs >= after and not self._unread(shared):
            self._take(shared)
            return
        try:
            await self._ask(began)
        except WeComError as error:
            fix = getattr(error, "fix", "")
            self.trouble = f"{error}{f'; to fix: {fix}' if fix else ''}"
            self._telemetry.warn_once("directory", f"departments and tags cannot be read: {self.trouble}")
        else:
            self.trouble = ""

    async def _ask(self, began: float) -> None:
        wanted = self._unresolved
        departments = await self._wecom.departments(names=self._with_names or any(kind == "department" for kind, _ in wanted))
        tree = Tree(departments)
        if wanted:
            tag_names = await self._wecom.tag_names() if any(kind == "tag" for kind, _ in wanted) else {}
            found, self._wrong = names.resolve(wanted, tree, tag_names)
            for name, number in found.items():
                self._note(names.record(self._corp_id, name, number, began))
            self._rules.learn(self._knowledge())
        tags, unseen = await self._tags()
        snapshot = Snapshot(began, departments, tags, unseen, tree)
        self._take(snapshot)
        await self._share(snapshot)

    async def _tags(self) -> tuple[dict[int, Tag], dict[int, str]]:
        """Every tag that rules speak of; one that WeCom does not answer for now stays as it was."""
        before = self._snapshot.tags if self._snapshot else {}
        tags: dict[int, Tag] = {}
        unseen: dict[int, str] = {}
        for number in sorted(self._rules.tags):
            try:
                tags[number] = await self._wecom.tag(number)
            except NotVisible as refused:
                unseen[number] = f"the app does not see this tag, or it is gone ({refused.errcode})"
            except WeComError as error:
                self._telemetry.warn_once(f"tag {number}", f"tag {number} cannot be read: {error}")
                if number in before:
                    tags[number] = before[number]
        return tags, unseen

    def _take(self, snapshot: Snapshot | None) -> None:
        self._snapshot = snapshot or self._snapshot
        self._rules.learn(self._knowledge())
        if snapshot:
            for problem in self._rules.problems():
                self._telemetry.warn_once(f"rules {problem}", f"bad-rule: {problem}")

    def _knowledge(self) -> Knowledge:
        ids, snapshot = self._resolved.known(self._corp_id), self._snapshot
        shown = {(kind, number): name for (kind, name), number in ids.items()}
        if snapshot is None:
            return Knowledge(ids, self._wrong, names=shown)
        shown |= {("department", number): name for number, name in snapshot.tree.names.items()}
        shown |= {("tag", number): tag.name for number, tag in snapshot.tags.items() if tag.name}
        return Knowledge(ids, self._wrong, snapshot.tree.ids, snapshot.unseen, shown)

    @property
    def _needed(self) -> bool:
        return any(term.kind in ("department", "tag") for term in self._rules.terms)

    @property
    def _unresolved(self) -> list[Name]:
        known = self._resolved.known(self._corp_id)
        spoken = ((term.kind, term.value) for term in self._rules.terms if term.kind in ("department", "tag"))
        return [(kind, name) for kind, name in spoken if isinstance(name, str) and (kind, name) not in known]

    def _began(self, snapshot: Snapshot) -> float:
        return snapshot.at if snapshot.at <= self._clock() + AHEAD_S else 0.0

    def _unread(self, snapshot: Snapshot) -> bool:
        """Whether rules speak of what *snapshot* lacks."""
        return bool(self._unresolved) or not self._rules.tags <= snapshot.tags.keys() | snapshot.unseen.keys()

    def _lacks(self, snapshot: Snapshot, member: Member) -> bool:
        return self._unread(snapshot) or not snapshot.tree.ids >= set(member.departments)

    async def _shared(self) -> Snapshot | None:
        try:
            return Snapshot.load(await self._cache.get(self._key))
        except Exception as error:  # whatever a cache's backend raises: a lost cache costs one more reading
            log.warning("the cache cannot be read (%s)", type(error).__name__)
            return None

    async def _share(self, snapshot: Snapshot) -> None:
        try:
            await self._cache.set(self._key, snapshot.dump(), ttl=KEPT_S)
        except Exception as error:
            log.warning("the cache cannot be written (%s)", type(error).__name__)


def _look_at(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("departments and tags: %r", error, exc_info=error)
