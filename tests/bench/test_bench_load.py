"""A slice ends when it is told to, and a load generator that fails says why."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.bench import proc
from tests.bench.load import Broken, counted_by, interrupted

GENERATOR = """
import signal, sys, time
def done(*_):
    print('BENCH {"requests": 7, "us": %d, "p50_us": 1, "p99_us": 2, "statuses": {"204": 7}, "errors": {}}'
          % ((time.monotonic() - began) * 1e6))
    sys.exit()
signal.signal(signal.SIGINT, done)
began = time.monotonic()
print("READY", file=sys.stderr, flush=True)
while True:
    time.sleep(0.1)  # not pause(): a signal just before it would go by
"""


async def test_a_slice_may_last_less_than_a_second() -> None:
    """The generator is interrupted once the time since it was ready is over, and what it counted is read."""
    run = counted_by(await interrupted([sys.executable, "-c", GENERATOR], 0.1))

    assert run.requests == 7
    assert run.seconds >= 0.1


async def test_a_generator_that_ends_by_itself_says_why() -> None:
    """Its last words are in the error, not an empty count."""
    output = await interrupted([sys.executable, "-c", "import sys; sys.exit('no such file')"], 0.01)

    with pytest.raises(Broken, match="no such file"):
        counted_by(output)


def test_steal_is_told_apart_from_work(tmp_path: Path) -> None:
    """What was spent, by interrupts aside, what was withheld, and what there was: seconds, of the line for all CPUs."""
    stat = tmp_path / "stat"
    stat.write_text("cpu  1000 200 300 4000 50 6 70 800 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n", "ascii")
    tick = 1 / os.sysconf("SC_CLK_TCK")

    assert proc.machine_s(stat) == pytest.approx((1500 * tick, 800 * tick, 6426 * tick))
    assert len(proc.machine_s()) == 3
