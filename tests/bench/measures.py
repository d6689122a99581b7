"""What is measured once: the start, the memory, the growth over a long run, a flood of forged cookies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

from tests.bench import proc
from tests.bench.load import Broken, Load
from tests.bench.requests import PLACE, request
from tests.bench.rows import Row
from tests.bench.stage import Stage, answer

FLOOD = 1_000_000
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure that is no row; below *must* is what it must reach, below *aim* what it aims at."""

    name: str
    value: float
    unit: str
    must: float | None = None
    aim: float | None = None
    note: str = ""


async def starts(stage: Stage, times: int) -> list[Measure]:
    """Start a gateway *times* over: how long to its first 204, how much memory then."""
    value = stage.sealed.file("one").read_text("ascii").strip()
    asked = request("check", "/_wecom/auth", "", session=True).replace(PLACE, value)
    took, idle = [], []
    for number in range(times):
        name = f"start{number}"
        began = time.monotonic()
        child = await stage.gateway(name)
        status = await _first(stage, name, asked)
        took.append(time.monotonic() - began)
        if status != 204:
            raise Broken(f"the gateway's first answer was {status}, not 204")
        idle.append(proc.rss_mb(child.process.pid))
        child.process.terminate()
        await child.process.wait()
        stage.children.remove(child)
    return [
        Measure("start to first answer", median(took), "s", 1.0, 0.5),
        Measure("memory, idle", median(idle), "MB", 60, 45),
    ]


async def _first(stage: Stage, name: str, asked: str) -> int:
    async with asyncio.timeout(30):
        while True:
            stage.alive()
            try:
                return await answer(stage.site.ports[f"{name}-check"], asked)
            except OSError:
                await asyncio.sleep(0.003)


async def show(stage: Stage, answerer: str, kind: str, sessions: int, say: Say) -> None:
    """Show every session of *kind* to a gateway once at least."""
    row = Row(f"show-{kind}", "", answerer, path="/_wecom/auth", request="check", sessions=kind, due=204)
    load, total = stage.load(row, order="turn"), 0
    while total < sessions:
        run = await load.run(1, start=total)
        if not run.requests or set(run.statuses) != {204}:
            raise Broken(f"showing {sessions:,} sessions to the gateway: it answered {dict(run.statuses)}")
        total += run.requests
        say(f"{answerer}: {min(total, sessions):,} of {sessions:,} sessions seen")


async def seen(stage: Stage, sessions: int, say: Say) -> Measure:
    """Give the memory of the gateway ``distinct`` once it has seen all sessions."""
    await show(stage, "distinct", "all", sessions, say)
    return Measure(f"memory, {sessions:,} sessions seen", proc.rss_mb(stage.pids["distinct"]), "MB", 200, 120)


async def growth(stage: Stage, row: Row, seconds: int, say: Say) -> list[Measure]:
    """Ask for a long time; give what the memory grew by for a million checks, the first tenth left out."""
    load = stage.load(row)
    warm = await load.run(max(1, seconds // 10))
    before, checks, began = warm.rss_mb, 0, time.monotonic()
    run = warm
    while time.monotonic() - began < seconds:
        run = await load.run(max(1, seconds // 10))
        checks += run.requests
        say(f"{checks:,} checks, {run.rss_mb:.1f} MB")
    return [
        Measure("long run, checks", checks, ""),
        Measure("long run, memory at its begin", before, "MB"),
        Measure("long run, memory at its end", run.rss_mb, "MB"),
        Measure("long run, growth per million checks", (run.rss_mb - before) / checks * 1e6 if checks else 0, "MB"),
    ]


async def flood(stage: Stage, valid: Row, forged: Row, say: Say) -> list[Measure]:
    """Send a million forged cookies beside valid checks: memory must not grow, valid checks lose only the CPU that it takes.

    Each turn compares itself with the valid checks alone right before it.
    """
    half = max(1, stage.connections // 2)
    good = replace(stage.load(valid), connections=half)
    bad = replace(stage.load(forged), connections=half)
    await good.run(1)
    pid = stage.pids[valid.answerer]
    before, sent, failed, without, served, left, shares = proc.rss_mb(pid), 0, 0, [], [], [], []
    while sent < FLOOD:
        alone = await good.run(2)
        cpu = _cpu(good)
        both = await asyncio.gather(good.run(10), bad.run(10, start=sent))
        cost = (alone.cpu_us + alone.nginx_us) * both[0].requests / 1e6
        used = _cpu(good) - cpu
        shares.append(max(0.0, 1 - cost / used) if used else 0.0)
        without.append(alone.rate)
        served.append(both[0].rate)
        left.append(both[0].rate / alone.rate if alone.rate else 0.0)
        sent += both[1].requests
        failed += sum(both[0].errors.values()) + sum(both[0].statuses.values()) - both[0].statuses.get(valid.due, 0)
        say(f"{sent:,} forged cookies, {proc.rss_mb(pid):.1f} MB, valid checks {both[0].rate:,.0f}/s")
        if not both[1].requests:
            raise Broken("the flood of forged cookies had no answers")
    after = proc.rss_mb(pid)
    return [
        Measure("flood, forged cookies", sent, ""),
        Measure("flood, valid checks that failed", failed, "", 0),
        Measure("flood, memory before", before, "MB"),
        Measure("flood, memory after", after, "MB"),
        Measure("flood, memory grown by", after - before, "MB", 5, 1),
        Measure("flood, valid checks without it", median(without), "/s"),
        Measure("flood, valid checks during it", median(served), "/s"),
        Measure("flood, share of valid checks left", median(left), ""),
        Measure("flood, share of CPU it left", 1 - median(shares), ""),
    ]


def _cpu(load: Load) -> float:
    return proc.cpu_s([pid for pid in (load.answerer, load.nginx) if pid is not None])
