"""The torture run: gateways on one store are killed and restarted while people sign in, browse and lose their access."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import aiohttp

from gateway.ledger import LedgerBroken, LedgerUnavailable, Store, store_at
from gateway.ledger.chain import digest
from gateway.loading import load
from gateway.records import Entry, Record
from gateway.sealing import Sealer
from gateway.session import LONGEST_S
from tests.conftest import free_port
from tests.ledger.redis_server import RedisServer
from tests.ledger.redis_server import running as running_redis
from tests.machine import LISTENERS, Machine, Process, machine_in
from tests.patience import until
from tests.torture.truth import WITHIN_S, Known, Truth

HOME = "http://localhost:8080/"
PROCESSES = 4
PEOPLE = 24
SIGNERS, CHECKERS = 2, 3
SIGN_INS, REVOCATIONS = 11, 4
"""A run goes on until so many were confirmed, however long a machine takes for them."""

NEEDED = (aiohttp.ClientError, TimeoutError, AssertionError, OSError)
"""What a browser meets whose gateway was killed in the middle."""


def _now() -> float:
    """The loop's time: that of the tests does not count while the whole machine stands still."""
    return asyncio.get_running_loop().time()


@dataclass(slots=True)
class Place:
    """One gateway process of the run; it comes and goes, its addresses stay."""

    number: int
    listen: dict[str, str]
    process: Process | None = None
    started: float = 0  #: the loop's time when the process in force was started

    @property
    def environment(self) -> dict[str, str]:
        return {f"WECOM_GATEWAY_LISTEN_{name.upper()}": address for name, address in self.listen.items()}


class Torture:
    """One run, the same for the same *seed* as far as scheduling lets it be."""

    def __init__(self, machine: Machine, seed: int, redis: RedisServer | None, within_s: float) -> None:
        self.truth = Truth(within_s)
        self._machine = machine
        self._redis = redis
        self._seed = seed
        self._ports = {name: free_port() for name in LISTENERS}
        self._places = [
            Place(number, {name: f"127.0.0.{number}:{port}" for name, port in self._ports.items()})
            for number in range(1, PROCESSES + 1)
        ]
        self._stop = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._logs: list[str] = []
        config = load(machine.file, {})
        self._sealer = Sealer(config.signing_keys)
        self._store: Store = store_at(config.store, config.owner, time.time)

    async def run(self, seconds: float) -> dict[str, Any]:
        for number in range(PEOPLE):
            url = f"{self._machine.sandbox.control_url}members/m{number}"
            async with self._machine.http.put(url, json={"name": f"成员{number}", "department": [6], "status": 1}) as answer:
                answer.raise_for_status()
        await asyncio.gather(*(self._start(place) for place in self._places))
        await self._store.open()
        actors = [self._repeat(f"signer {number}", self._sign_in) for number in range(SIGNERS)]
        actors += [self._repeat(f"checker {number}", self._check) for number in range(CHECKERS)]
        actors += [
            *(self._repeat(f"revoker {number}", self._revoke) for number in range(2)),
            *(self._repeat(f"killer {number}", self._kill) for number in range(2)),
        ]
        async with asyncio.TaskGroup() as group:
            for actor in actors:
                group.create_task(actor)
            await asyncio.sleep(seconds)
            await until(lambda: self.truth.counts["signed in"] >= SIGN_INS and self.truth.counts["revoked"] >= REVOCATIONS)
            self._stop.set()
        await self._audit()
        await self._store.close()
        return self._summary(seconds)

    async def _repeat(self, name: str, act: Callable[[Random], Coroutine[Any, Any, None]]) -> None:
        rng = Random(f"{self._seed} {name}")
        while not self._stop.is_set():
            await act(rng)

    # ── processes ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _start(self, place: Place) -> None:
        place.started = _now()
        process = await self._machine.serve(place.environment)
        await process.says("listening:")
        place.process = process

    async def _kill(self, rng: Random) -> None:
        await asyncio.sleep(rng.uniform(0.2, 1.5))
        if self._redis and rng.random() < 0.3:
            await self._kill_redis(self._redis, rng)
            return
        place = rng.choice([place for place in self._places if place.process])
        process, place.process = place.process, None  # nobody else's, meanwhile
        assert process
        number = rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP))
        self.truth.counts[number.name] += 1
        await process.signal(number)
        if number is signal.SIGHUP:
            place.process = process
            return
        await process.ends()
        self._logs += process.said
        await self._start(place)

    async def _kill_redis(self, redis: RedisServer, rng: Random) -> None:
        async with self._one_at_a_time:
            if rng.random() < 0.3:
                self.truth.counts["redis held up"] += 1
                redis.hold()
                await asyncio.sleep(rng.uniform(0, 3))
                redis.go_on()
            else:
                self.truth.counts["redis killed"] += 1
                await redis.kill()
                await asyncio.sleep(rng.uniform(0, 1))
                await redis.start()

    # ── people ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _sign_in(self, rng: Random) -> None:
        """Somebody signs in, from process to process where one is killed; confirmed once the browser has the cookie."""
        member, began = f"m{rng.randrange(PEOPLE)}", _now()
        browser = self._machine.browser(member)
        for _ in range(5):
            browser.addresses = rng.choice(self._places).listen
            with suppress(*NEEDED):
                await browser.open(HOME)
            if cookie := browser.session(HOME):
                (_, own_id, *_), _ = self._sealer.open("session", cookie)
                self.truth.signed_in(Known(cookie, own_id, member, _now()), began)
                break
        await asyncio.sleep(rng.uniform(0, 0.1))

    async def _check(self, rng: Random) -> None:
        """A page is opened with some session, most often a young one, at some process."""
        sessions = self.truth.sessions
        if not sessions:
            await asyncio.sleep(0.05)
            return
        known = rng.choice(sessions[-50:] if rng.random() < 0.7 else sessions)
        await self._ask(known, rng.choice(self._places))
        await asyncio.sleep(0.002)

    async def _ask(self, known: Known, place: Place) -> int:
        headers = {"Host": "localhost", "X-WeCom-Session": known.cookie}
        asked, started = _now(), place.started
        try:
            async with self._machine.http.get(f"http://{place.listen['check']}/_wecom/auth", headers=headers) as answer:
                reason = answer.headers.get("X-WeCom-Reason", "")
        except NEEDED:
            self.truth.counts["not answered"] += 1
            return 0
        self.truth.answered(known, answer.status, reason, asked=asked, started=started, where=f"process {place.number}")
        return answer.status

    # ── operators ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _revoke(self, rng: Random) -> None:
        await asyncio.sleep(rng.uniform(0.05, 0.4))
        known = self.truth.live(rng)
        if known is None:
            return
        ways = (self._end_session, self._end_member, self._sign_out, self._command)
        (way,) = rng.choices(ways, weights=(6, 2, 2, 1))
        whole = way in (self._end_member, self._sign_out)
        concerned = self.truth.of(known.member) if whole else [known]
        self.truth.trying(concerned, known.member if whole else "", _now())
        if await way(rng, known):
            self.truth.ended(concerned, _now())

    async def _end_session(self, _: Random, known: Known) -> bool:
        until = {"until": time.time() + LONGEST_S}
        return await self._stored(Record("revoked", time.time(), known.member, known.id, details=until))

    async def _end_member(self, _: Random, known: Known) -> bool:
        return await self._stored(Record("revoked", time.time(), known.member))

    async def _stored(self, record: Record) -> bool:
        try:
            await self._store.append([record])
        except (LedgerUnavailable, LedgerBroken):
            self.truth.counts["not confirmed"] += 1
            return False
        return True

    async def _sign_out(self, rng: Random, known: Known) -> bool:
        """On all devices, by the page; confirmed unless it says that other devices follow later."""
        browser = self._machine.browser(known.member)
        browser.addresses = rng.choice(self._places).listen
        browser.set_session(HOME, known.cookie)
        with suppress(*NEEDED):
            page = await browser.post(f"{HOME}_wecom/logout", {"everywhere": "1"})
            return page.status == 303 and "later" not in page.location
        return False

    async def _command(self, rng: Random, known: Known) -> bool:
        """By the command, which is itself killed now and then."""
        command = [sys.executable, "-m", "gateway", "sessions", "revoke", known.id, "--config", str(self._machine.file)]
        nowhere = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(*command, stdout=nowhere, stderr=nowhere)
        if rng.random() < 0.4:
            await asyncio.sleep(rng.uniform(0.2, 1))
            with suppress(ProcessLookupError):
                process.kill()
        confirmed = await process.wait() == 0
        self.truth.counts["command confirmed" if confirmed else "command not confirmed"] += 1
        return confirmed

    # ── afterwards ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _audit(self) -> None:
        """Every process, every session; then the ledger itself."""
        await asyncio.sleep(self.truth.within_s + 0.5)
        for known in self.truth.sessions:
            answers = {await self._ask(known, place) for place in self._places}
            if len(answers) > 1:
                self.truth.violations.append(f"processes disagree about {known.id} of {known.member}: {answers}")
        for place in self._places:
            assert place.process
            await place.process.signal(signal.SIGTERM)
            await place.process.ends()
            self._logs += place.process.said
        entries = await self._entries()
        written = {entry.record.session for entry in entries if entry.record.kind == "signed-in"}
        log = "".join(line for line in self._logs if "not stored yet" in line)
        for known in self.truth.sessions:
            if known.id not in written and known.id not in log:
                self.truth.violations.append(f"the sign-in {known.id} of {known.member} is not in the ledger")
        previous = ""
        for entry in entries:
            if entry.digest != digest(previous, entry.record):
                self.truth.violations.append(f"the chain breaks at {entry.position}")
            previous = entry.digest
        self.truth.violations += [line.strip() for line in self._logs if "Traceback" in line]
        self.truth.counts["entries"] = len(entries)

    async def _entries(self) -> list[Entry]:
        found: list[Entry] = []
        while True:
            more = await self._store.read(found[-1].position if found else "", 1000)
            found += more
            if len(more) < 1000:
                return found

    def _summary(self, seconds: float) -> dict[str, Any]:
        truth = self.truth
        return {
            "seed": self._seed,
            "seconds": seconds,
            "store": "redis" if self._redis else "sqlite",
            "counts": dict(sorted(truth.counts.items())),
            "slowest_revocation_s": round(truth.slowest_s, 3),
            "violations": truth.violations,
        }


async def torture(
    folder: Path, *, seconds: float, seed: int, store: str = "sqlite", within_s: float = WITHIN_S
) -> dict[str, Any]:
    """Run it in *folder*; what it found, with an empty list of violations where all is well."""
    async with AsyncExitStack() as stack:
        machine = await stack.enter_async_context(machine_in(folder))
        redis = None
        if store == "redis":
            redis = await stack.enter_async_context(running_redis(folder / "redis"))
            machine.store = redis.url
            machine.write()
        return await Torture(machine, seed, redis, within_s).run(seconds)
