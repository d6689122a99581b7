"""Run wrk once and read what it counted."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.bench import proc
from tests.bench.figures import Run

SCRIPT = Path(__file__).with_name("load.lua")
_MARK = "BENCH "
_PATIENCE_S = 60
_WITHOUT_END = "86400s"


class Broken(Exception):
    """The run cannot go on; the message says why."""


@dataclass(frozen=True, slots=True)
class Load:
    """What to send, where."""

    url: str
    request: Path  #: one request's bytes, with a place for the session
    sessions: Path
    order: str  #: none, turn, random, forge
    connections: int = 32
    answerer: int | None = None  #: process ids: whose CPU and memory are told
    nginx: int | None = None
    ours: Mapping[str, int] = field(default_factory=dict)  #: every process that we started: what is left is others'
    others_known: bool = True  #: False for a peer: its own helpers cannot be told from strangers
    prefix: tuple[str, ...] = ()  #: before the command: pinning

    async def run(self, seconds: float, start: int = 0) -> Run:
        """Send requests for *seconds*, the sessions from number *start* on; watch the processes meanwhile."""
        ours = sorted({*self.ours.values(), *(pid for pid in (self.answerer, self.nginx) if pid is not None)})
        before, own, machine = [proc.cpu_s([pid]) for pid in ours], _own_s(), proc.machine_s()
        counted = await self._wrk(seconds, start)
        used = [proc.cpu_s([pid]) - start for pid, start in zip(ours, before, strict=True)]
        busy, stolen, there_was = (now - then for now, then in zip(proc.machine_s(), machine, strict=True))
        spent = dict(zip(ours, used, strict=True))
        return replace(
            counted,
            cpu_us=_per_request(spent.get(self.answerer or 0, 0.0), counted),
            nginx_us=_per_request(spent.get(self.nginx or 0, 0.0), counted),
            rss_mb=proc.rss_mb(self.answerer) if self.answerer is not None else 0.0,
            others=max(0.0, (busy - sum(used) - _own_s() + own) / there_was) if there_was and self.others_known else 0.0,
            stolen=stolen / there_was if there_was else 0.0,
        )

    async def _wrk(self, seconds: float, start: int) -> Run:
        command = [
            *(*self.prefix, "wrk", "-t1", f"-c{self.connections}", f"-d{_WITHOUT_END}", "--timeout", "5s"),
            *("-s", str(SCRIPT), self.url, "--", str(self.request), str(self.sessions), self.order, str(start)),
        ]
        return counted_by(await interrupted(command, seconds))


def counted_by(output: str) -> Run:
    """Read what the script printed at the end; Broken with all of it if it printed nothing."""
    line = next((line for line in output.splitlines() if line.startswith(_MARK)), "")
    if not line:
        raise Broken(f"wrk did not finish:\n{output.strip()}")
    said = json.loads(line.removeprefix(_MARK))
    return Run(
        requests=said["requests"],
        seconds=said["us"] / 1e6,
        p50_ms=said["p50_us"] / 1000,
        p99_ms=said["p99_us"] / 1000,
        statuses={int(status): count for status, count in said["statuses"].items()},
        errors=said["errors"],
    )


async def interrupted(command: Sequence[str], seconds: float) -> str:
    """Run wrk from its first line, said when it has read its files, for *seconds*: it counts only whole ones by itself."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    assert process.stderr
    try:
        async with asyncio.timeout(seconds + _PATIENCE_S):
            first = await process.stderr.readline()
            await asyncio.sleep(seconds)
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
            output, errors = await process.communicate()
    except TimeoutError:
        raise Broken(f"wrk did not end within {seconds + _PATIENCE_S:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return (output + first + errors).decode(errors="replace")


def _own_s() -> float:
    """CPU seconds of this program and of the wrk runs that ended."""
    own = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in own)


def _per_request(seconds: float, counted: Run) -> float:
    return seconds / counted.requests * 1e6 if counted.requests else 0.0
