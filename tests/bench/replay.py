"""How long a process takes to know all that is in force, and the memory it holds it in.

    python -m tests.bench.replay [--records 1000000] [--kind revoked] [--store sqlite:///…]

Writes so many records of the kind to the store, unless some are there already, and starts a ledger on it. As JSON: ``seconds``
from opening to knowing everything (``cpu_s`` of the processor: what counts on a busy machine), ``mirror_mb`` for the standing.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import tempfile
import time
from pathlib import Path

from gateway.ledger import Ledger, Record, Store, store_at
from gateway.standing import Standing

TOGETHER = 2000


def record(kind: str, number: int, now: float) -> Record:
    """The record *number*: each about another member and session."""
    details = {"until": int(now) + 7 * 86400} if kind == "signed-out" else {}
    session = f"s{number:015d}" if kind in ("signed-out", "signed-in") else ""
    site, reason = ("intranet", "") if session else ("", "unsubscribe")
    return Record(kind, now, member=f"lizhiguo{number:07d}", session=session, site=site, reason=reason, details=details)


async def fill(store: Store, kind: str, start: int, end: int, now: float) -> float:
    """Write the records from number *start* to *end*; the seconds it took."""
    began = time.monotonic()
    for first in range(start, end, TOGETHER):
        await store.append([record(kind, number, now) for number in range(first, min(first + TOGETHER, end))])
    return time.monotonic() - began


async def replay(address: str, kind: str, count: int) -> dict[str, float]:
    """Measure one start."""
    store = store_at(address, "bench", time.time)
    await store.open()
    written = 0.0 if await store.head() else await fill(store, kind, 0, count, time.time())
    await store.close()
    gc.collect()
    before, standing = _memory_mb(), Standing()
    ledger = Ledger(store_at(address, "bench", time.time), standing, time.time)
    began, cpu = time.monotonic(), time.process_time()
    await ledger.start()
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    gc.collect()
    after = _memory_mb()
    await ledger.close()
    return {
        "records": count,
        "in_force": len(standing),
        "seconds": round(seconds, 3),
        "cpu_s": round(cpu, 3),
        "mirror_mb": round(after - before, 1),
        "written_s": round(written, 2),
    }


def _memory_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * 4096 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--kind", default="revoked", choices=["revoked", "signed-out", "signed-in", "blocked"])
    parser.add_argument("--store", help="keep what was written; else a temporary file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        address = options.store or f"sqlite://{folder}/ledger.sqlite3"
        print(json.dumps(asyncio.run(replay(address, options.kind, options.records))))


if __name__ == "__main__":
    main()
