"""One run of the benchmark, from empty folder to report."""

from __future__ import annotations

import asyncio
import resource
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from gateway import loading
from gateway.config import Config
from tests.bench import measures, proc
from tests.bench.figures import Run
from tests.bench.load import Broken
from tests.bench.measures import Measure, Say
from tests.bench.peers import Peer
from tests.bench.report import Report, lines_of
from tests.bench.requests import Sealed
from tests.bench.rounds import Measured, run
from tests.bench.rows import MANY, ROWS, Row
from tests.bench.scale import scale
from tests.bench.site import Ports, Site
from tests.bench.stage import Stage, cache_there

REMEMBERED = next(int(item.default) for item in fields(Config) if item.name == "remembered_sessions")
"""How many sessions the product remembers unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to run; see ``--help``."""

    rounds: int = 8
    seconds: float = 0.5
    connections: int = 32
    warm_s: float = 1.0  #: a slice of each row that does not count, before the first round
    sessions: int = 100_000  #: as many are sealed
    revoked: int = 1_000_000  #: as many records the ledger of its row holds
    starts: int = 5
    further: bool = True  #: thrice the rounds for what could not be told from its target
    settled: bool = True  #: measure caches as they are a minute after nginx's start
    show_all: bool = True  #: measure the memory with all sessions seen
    long_s: int = 0
    scale: bool = False
    nginx_main: str = ""
    pins: Mapping[str, str] | None = None


async def bench(options: Options, rows: Sequence[Row], peers: Sequence[Peer], folder: Path, say: Say) -> Report:
    """Measure *rows*; raise Broken where something does not run. SIGINT and SIGTERM end it in order."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        task = asyncio.current_task()
        assert task
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    _open_files()
    there = [row for row in rows if not row.cached or cache_there()]
    notes = [f"{row.name}: nginx/cache.conf is not there" for row in rows if row not in there]
    machine = proc.machine() | _how(options)
    async with AsyncExitStack() as stack:
        stage = await _stage(options, there, peers, folder, stack, say)
        measured = await _rounds(options, stage, there, say)
        once = await _once(options, stage, there, say)
    notes += _notes(options, there, folder)
    return Report(machine, lines_of(there, measured), tuple(once), tuple(notes))


async def _stage(
    options: Options, rows: Sequence[Row], peers: Sequence[Peer], folder: Path, stack: AsyncExitStack, say: Say
) -> Stage:
    site = Site(folder, Ports(), main=options.nginx_main)
    site.prepare(peers)
    stack.callback(shutil.rmtree, site.cache, ignore_errors=True)
    sealed = Sealed(folder)
    say(f"sealing {options.sessions:,} sessions")
    await asyncio.to_thread(
        sealed.write,
        loading.load(site.settings("gateway"), {}),
        {"one": 1, "many": min(MANY, options.sessions), "all": options.sessions},
    )
    stage = Stage(
        site,
        sealed,
        stack,
        peers={peer.name: peer for peer in peers},
        pins=options.pins or {},
        connections=options.connections,
        remembered=min(options.sessions, REMEMBERED),
        revoked=options.revoked,
        say=say,
    )
    say("starting " + ", ".join(sorted({row.answerer for row in rows})))
    await stage.start(rows)
    return stage


async def _rounds(options: Options, stage: Stage, rows: Sequence[Row], say: Say) -> Measured:
    loads = {row.name: stage.load(row) for row in rows}
    sent = dict.fromkeys(loads, 0)

    async def measure(row: Row, seconds: float = options.seconds) -> Run:
        stage.alive()
        done = await loads[row.name].run(seconds, start=sent[row.name])
        sent[row.name] += done.requests
        return done

    for row in rows:
        say(f"{row.name}: warming up")
        if row.sessions == "many" and not row.cached:  # the same gateway answers both
            await measures.show(stage, row.answerer, "many", min(MANY, options.sessions), say)
        await measure(row, options.warm_s)
    if options.settled:
        await stage.caches_read()

    def told(row: Row, number: int, last: int, so_far: Measured) -> None:
        say(f"round {number} of {last}  {_last(row, so_far)}")

    return await run(rows, options.rounds, measure, told, further=options.further)


def _last(row: Row, measured: Measured) -> str:
    """What the last slice of *row* gave."""
    run = measured.slices[row.name][-1]
    one, two = measured.pairs[row.name][-1] if row.name in measured.pairs else (run, None)
    ratio = f"  {row.by(one) / row.by(two):.2f} of {row.of}" if two and row.by(two) else ""
    return f"{row.name:<14}{run.rate:>10,.0f}/s  p99 {run.p99_ms:.2f} ms{ratio}"


async def _once(options: Options, stage: Stage, rows: Sequence[Row], say: Say) -> list[Measure]:
    answerers = {row.answerer for row in rows}
    known = {row.name: row for row in ROWS}
    found: list[Measure] = []
    if options.starts and "gateway" in answerers:
        say(f"starting a gateway {options.starts} times")
        found += await measures.starts(stage, options.starts)
    if options.show_all and "distinct" in answerers:
        found.append(await measures.seen(stage, options.sessions, say))
    if "ledger" in answerers:
        what = f"{options.revoked:,} records in the ledger"
        said = (stage.site.logs / "ledger.txt").read_text("utf-8", "replace").partition("ledger: read in ")[2].split()
        if not said:
            raise Broken("the gateway of row ledger did not say how long it read its ledger")
        found.append(Measure(f"{what} read at the start", float(said[0]), "s", 5.0))
        found.append(Measure(f"memory with {what}", proc.rss_mb(stage.pids["ledger"]), "MB"))
    if options.scale:
        found += await scale(stage, known["seen"], say)
    if options.long_s:
        found += await _long(options, stage, say)
    return found


async def _long(options: Options, stage: Stage, say: Say) -> list[Measure]:
    known: dict[str, Row] = {row.name: row for row in ROWS}
    if "gateway" not in stage.pids:
        raise Broken("--long needs a row that the gateway answers, like seen")
    grown = await measures.growth(stage, known["seen"], options.long_s, say)
    forged = replace(known["garbage"], answerer=known["seen"].answerer)
    return grown + await measures.flood(stage, known["seen"], forged, say)


def _notes(options: Options, rows: Sequence[Row], folder: Path) -> list[str]:
    notes = []
    if any(row.name == "distinct" for row in rows):
        notes.append(f"distinct: {options.sessions:,} sessions in turn, {min(options.sessions, REMEMBERED):,} remembered at most")
    if any(row.name == "ledger" for row in rows):
        notes.append(f"ledger: {options.revoked:,} members revoked, each by a record in a SQLite file that is read at the start")
    logs = {log.stem: log.read_text("utf-8", "replace").splitlines() for log in sorted((folder / "logs").glob("nginx-*.log"))}
    return notes + [f"{name} logged {len(lines)} errors, the first: {lines[0][:200]}" for name, lines in logs.items() if lines]


def _how(options: Options) -> dict[str, Any]:
    pins = options.pins or {}
    return {
        "connections": options.connections,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "nginx_main": options.nginx_main or None,
        "pinned": ", ".join(f"{role} to {cpus}" for role, cpus in pins.items()) or None,
    }


def _open_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
