"""``python -m tests.torture --seconds 120 --seed 7``: what it found, as JSON; exit status 1 where something did not hold."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from tests.torture.run import torture


@click.command()
@click.option("--seconds", default=120.0, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--store", type=click.Choice(["sqlite", "redis"]), default="sqlite", show_default=True)
def main(seconds: float, seed: int, store: str) -> None:
    """Kill and restart four gateways on one store under load, and see whether what was confirmed holds."""
    with TemporaryDirectory(prefix="torture-", ignore_cleanup_errors=True) as folder:
        found = asyncio.run(torture(Path(folder), seconds=seconds, seed=seed, store=store))
    print(json.dumps(found, indent=1, ensure_ascii=False))
    sys.exit(1 if found["violations"] else 0)


main()
