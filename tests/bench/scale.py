"""What is measured on demand: several processes, many open connections, slow clients, a burst of sign-ins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from gateway import loading
from tests.bench import proc
from tests.bench.figures import Figures, Run
from tests.bench.load import Broken, Load
from tests.bench.measures import Measure, Say
from tests.bench.requests import PLACE
from tests.bench.rows import Row
from tests.bench.signins import sign_ins
from tests.bench.stage import Stage

PROCESSES = (1, 2, 4)
IDLE = 10_000
SLOW = 1_000
_AT_ONCE = 200
_SECONDS = 4
_TURNS = 5


async def scale(stage: Stage, seen: Row, say: Say) -> list[Measure]:
    """Measure all of it with row *seen*."""
    if "gateway" not in stage.pids:
        raise Broken("--scale needs a row that the gateway answers, like seen")
    return [
        *await _processes(stage, seen, say),
        *await _connections(stage, seen, say),
        *await sign_ins(stage, say),
    ]


async def _processes(stage: Stage, seen: Row, say: Say) -> list[Measure]:
    """1, 2 and 4 gateway processes behind one upstream, one ``server`` line each, measured in turns."""
    loads = {}
    names = [f"process{number}" for number in range(1, max(PROCESSES) + 1)]
    for name in names:
        await stage.gateway(name)
    for name in names:
        await stage.ready(name)
    base = loading.load(stage.site.folder / f"{names[0]}.toml", {})
    for count in PROCESSES:
        front = f"processes-{count}"
        asks = [f"127.0.0.1:{stage.site.ports[f'{name}-check']}" for name in names[:count]]
        await stage.nginx(front, stage.site.front(front, asks, base))
        await stage.ready(f"nginx-{front}")
        url = f"http://127.0.0.1:{stage.site.ports[front]}{seen.path}"
        name = f"{count} process{'es' if count > 1 else ''}"
        loads[name] = replace(stage.load(seen), url=url, answerer=stage.pids[names[0]], nginx=stage.pids[f"nginx-{front}"])
        await loads[name].run(1)
    runs: dict[str, list[Run]] = {name: [] for name in loads}
    for turn in range(_TURNS):
        for name in sorted(loads, reverse=turn % 2 == 1):
            runs[name].append(await loads[name].run(1))
            say(f"{name}: {runs[name][-1].rate:,.0f}/s")
    return [_measure(Figures(name, seen.due, tuple(each))) for name, each in runs.items()]


def _measure(figures: Figures) -> Measure:
    note = "; ".join([f"p99 {figures.middle(lambda run: run.p99_ms):.2f} ms", *figures.problems])
    return Measure(f"{figures.name}, checks", figures.rate, "/s", note=note)


async def _connections(stage: Stage, seen: Row, say: Say) -> list[Measure]:
    """The same checks while thousands of other connections are open: idle after one request, or stuck in the middle of one."""
    load, found = stage.load(seen), []
    assert load.nginx
    await load.run(1)
    alone = await load.run(_SECONDS)
    found.append(Measure("no other connections, checks", alone.rate, "/s", note=f"p99 {alone.p99_ms:.2f} ms"))
    for count, what, whole in ((IDLE, "idle keepalive connections", True), (SLOW, "clients in the middle of a request", False)):
        async with _open(load, count, whole=whole):
            say(f"{count:,} {what} are open")
            run = await load.run(_SECONDS)
            memory = proc.rss_mb(load.nginx)
        note = f"p99 {run.p99_ms:.2f} ms, nginx {memory:.0f} MB, errors {sum(run.errors.values())}"
        found.append(Measure(f"{count:,} {what}, checks", run.rate, "/s", note=note))
    return found


@asynccontextmanager
async def _open(load: Load, count: int, *, whole: bool) -> AsyncIterator[None]:
    """Hold *count* connections to nginx: each has had one answer (*whole*), or has sent half a request."""
    port = int(load.url.split(":")[2].partition("/")[0])
    text = load.request.read_text("ascii").replace(PLACE, load.sessions.read_text("ascii").partition("\n")[0])
    head = text.encode("ascii") if whole else text.encode("ascii")[: len(text) // 2]
    writers: list[asyncio.StreamWriter] = []
    try:
        for start in range(0, count, _AT_ONCE):
            batch = (_connect(port, head, whole=whole) for _ in range(min(_AT_ONCE, count - start)))
            writers += await asyncio.gather(*batch)
        yield
    finally:
        for writer in writers:
            writer.close()


async def _connect(port: int, head: bytes, *, whole: bool) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)
    await writer.drain()
    if whole:
        line = await reader.readline()
        if line.split()[1:2] != [b"200"]:
            raise Broken(f"an open connection was answered {line!r}, not 200")
    return writer
