"""The gateway, with very many other members revoked: as ``wecom-gateway serve``, its standing filled before it says it is ready.

    python -m tests.bench.revoked SETTINGS HOW_MANY

Prints ``filled SECONDS`` once that is done.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import uvloop

from gateway import app
from gateway.app import Gateway
from gateway.config import load


def fill(gateway: Gateway, count: int) -> None:
    began, now = time.monotonic(), time.time()
    standing = gateway.live.now.standing
    for number in range(count):
        standing.revoke(f"lizhiguo{number:07d}", now)
    print(f"filled {time.monotonic() - began:.3f}", flush=True)


def main(path: Path, count: int) -> None:
    uvloop.run(app.serve(lambda: load(path, {}), ready=lambda gateway: fill(gateway, count)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
