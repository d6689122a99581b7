"""Members who are here are read again from WeCom in the background, so that access ends when the person leaves.

Each process notes who is here; each member is read by one of them, and the others learn of it through the ledger. Only what
WeCom says about the member counts: whatever concerns the app, or is no answer, revokes nobody and makes the readings pause.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Sequence

from gateway import admission
from gateway.errors import LoginFailed, SignInNeeded, WeComError
from gateway.hold import RECHECK
from gateway.keys import Live, Parts
from gateway.ledger import LedgerBroken, LedgerUnavailable
from gateway.member import Member
from gateway.records import Record
from gateway.session import LONGEST_S, Seen, Session, moment
from gateway.watch import EARLY, WAITING, differs, told_by

log = logging.getLogger(__name__)

LOOK_S = 1.0
AT_ONCE = 8
TOGETHER = 256
CLAIM_S = 30
"""For how long a member is one process's to read: longer than a call with its retries takes."""


class Recheck:
    """The background of one process; *live* is looked at anew each time, so a reload takes effect."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Look once a second, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except Exception:
                log.exception("internal: the re-check failed")

    async def look(self) -> None:
        """See who is here, and read those whose turn has come, as many as WeCom may be asked about now."""
        async with self._turn:
            parts = self._live.now
            with parts.in_use:
                await self._look(parts)

    async def _look(self, parts: Parts) -> None:
        settings, watch, now = parts.config.recheck, parts.watch, parts.clock()
        if not settings.every:
            _tell(parts)
            return
        here = parts.sessions.look()
        for start in range(0, len(here), TOGETHER):
            for user_id in watch.consider(_in_force(parts, here[start : start + TOGETHER], now), now):
                await _changed(parts, user_id)
            await asyncio.sleep(0)  # thousands must not keep the checks waiting
        workers = min(AT_ONCE, budget := watch.budget(now))
        turns = iter(range(budget))
        await asyncio.gather(*(_work(parts, turns) for _ in range(workers)))
        settings = self._live.now.config.recheck  # they may have been reloaded meanwhile
        if settings.every and settings.unreachable == "close":
            watch.close(parts.clock(), settings.grace)
        _tell(parts)


def _tell(parts: Parts) -> None:
    watch, telemetry = parts.watch, parts.telemetry
    telemetry.waiting(watch.waiting, len(parts.hold.members), full=watch.full)
    if watch.full:
        telemetry.warn_once("recheck full", f"{WAITING} sessions wait for their member to be read; others are noted again later")


def _in_force(parts: Parts, here: Iterable[Seen], now: float) -> list[Seen]:
    """Those of the sessions in use that are not over yet."""
    found = []
    for seen in here:
        try:
            parts.standing.check(seen)
        except SignInNeeded:
            continue
        if now < seen.ends:
            found.append(seen)
    return found


async def _work(parts: Parts, turns: Iterable[int]) -> None:
    for _ in turns:
        turn = parts.watch.next(parts.clock())
        if turn is None:
            return
        await _one(parts, *turn)


async def _one(parts: Parts, user_id: str, sessions: list[Seen]) -> None:
    """Read *user_id*, unless another process does or just did."""
    watch = parts.watch
    if shared := await _shared(parts, user_id):
        watch.learn(user_id, *shared)
        return
    if not watch.failing and not await _claimed(parts, user_id):
        return  # somebody else's: considered again at the next look
    watch.spend()
    began, told = moment(parts.clock()), dict[str, str]()
    try:
        told = await _told(parts, await admission.read(parts, user_id))
    except LoginFailed as error:
        watch.answered()
        await gone(parts, user_id, error.reason, sessions)
    except WeComError as error:
        _failed(parts, error, sessions)
        return
    else:
        watch.answered()
        parts.telemetry.rechecked("ok")
        await _here(parts, user_id)
    watch.learn(user_id, began, told)
    if any(differs(seen, told) for seen in sessions):
        await _changed(parts, user_id)
    await parts.ledger.put(_key(parts, user_id), json.dumps([began, told]), parts.clock() + watch.every_s)


async def _claimed(parts: Parts, user_id: str) -> bool:
    now, for_s = parts.clock(), min(CLAIM_S, parts.watch.every_s * EARLY)
    return await parts.ledger.claim(
        f"recheck {parts.config.owner} {user_id.casefold()} {now // for_s:.0f}", now + for_s
    )  # a clock set back waits for nothing


async def _told(parts: Parts, member: Member) -> dict[str, str]:
    """What sessions made now would say about the member, by site."""
    now, raw = parts.clock(), parts.config.raw_headers
    placed = await parts.directory.placed(member)
    if parts.rules.lacks(placed):
        return {}  # what cannot be read now has not changed
    made = (admission.new_session(parts, member, placed, site=site.name, began=now) for site in parts.sites.all)
    return {session.site: told_by(Seen.of(session, raw=raw)) for session in made}


def _key(parts: Parts, user_id: str) -> str:
    """Of this app: another one of the company may still see whom this one does not."""
    return f"read {parts.config.owner} {user_id.casefold()}"


async def _shared(parts: Parts, user_id: str) -> tuple[float, dict[str, str]] | None:
    """What another process read of *user_id*, and when, if that is not too long ago."""
    value, now = await parts.ledger.get(_key(parts, user_id)), parts.clock()
    if value is None:
        return None
    try:
        at, told = json.loads(value)
        at, told = float(at), {str(site): str(text) for site, text in told.items()}
    except (ValueError, TypeError, AttributeError):
        return None
    return (at, told) if abs(now - at) < parts.watch.every_s * EARLY else None


def _failed(parts: Parts, error: WeComError, sessions: list[Seen]) -> None:
    parts.watch.failed(f"{error.reason}: {error}", sessions, parts.clock())
    parts.telemetry.rechecked("failed")
    parts.telemetry.warn_once("recheck", f"members cannot be read again, nobody is revoked by it: {error.reason}: {error}")


async def gone(parts: Parts, user_id: str, reason: str, sessions: Sequence[Seen | Session]) -> bool:
    """WeCom says that *user_id* may not be here any more: end their access, or hold that while too many are gone at once.

    True where their sessions are over now. Those of *sessions* that come from the future, since the clock was set back, end
    by their id: a revocation up to now would not reach them.
    """
    watch, now = parts.watch, parts.clock()
    known = user_id.casefold() in parts.hold.members
    if watch.every_s and parts.hold.holds(user_id, now, read=watch.read_lately(now), since=now - watch.every_s):
        if not known:
            await _store(parts, Record("held", now, reason=reason, details={"members": [user_id]}))
        for problem in parts.hold.problems():
            parts.telemetry.warn_once("held", problem)
        parts.telemetry.rechecked("held")
        return False
    records = [Record("revoked", now, member=user_id, reason=reason, details={"by": RECHECK})]
    records += [
        Record("revoked", now, session=each.id, reason=reason, details={"by": RECHECK, "until": each.issued + LONGEST_S})
        for each in sessions
        if each.issued > now
    ]
    for record in records:
        parts.standing.apply(record)  # here at once, elsewhere when it is stored
    log.warning("revoked %s: %s", user_id, reason)
    parts.telemetry.rechecked(reason)
    await _store(parts, *records)
    return True


async def _here(parts: Parts, user_id: str) -> None:
    """WeCom says that *user_id* may be here; so nobody has to decide about them."""
    if parts.hold.here(user_id):
        await _store(parts, Record("released", parts.clock(), details={"members": [user_id], "by": RECHECK}))


async def was_read(parts: Parts, member: Member, began: float) -> None:
    """A renewal has read *member* from *began* on: the background need not."""
    if parts.watch.every_s:
        parts.watch.answered()
        parts.watch.learn(member.user_id, moment(began), await _told(parts, member))
        await _here(parts, member.user_id)


async def _changed(parts: Parts, user_id: str) -> None:
    """WeCom says something else about *user_id* than a session of theirs: each is made anew at its next navigation."""
    log.info("stale %s: what WeCom says about the member has changed", user_id)
    parts.telemetry.rechecked("stale")
    await _store(parts, Record("stale", parts.clock(), member=user_id))


async def _store(parts: Parts, *records: Record) -> None:
    """Store *records*; while that cannot be done they are in force here, and wait in the ledger's queue."""
    try:
        await parts.ledger.append(*records)
    except (LedgerUnavailable, LedgerBroken, asyncio.CancelledError) as error:
        for record in records:
            why = str(error) or "the gateway ends"
            log.error("%s %s: in force here, not stored yet: %s", record.kind, record.member, why)
            parts.ledger.note(record)
        if isinstance(error, asyncio.CancelledError):
            raise
