"""Measure the gateway behind a real nginx on this machine; ``scripts/bench`` sets up what it needs and runs this."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from tests.bench.chart import svg
from tests.bench.load import Broken
from tests.bench.peers import Peer, peers_of
from tests.bench.program import Options, bench
from tests.bench.report import Report
from tests.bench.rows import ROWS, Row, selected

_ROLES = ("nginx", "answerer", "wrk")
_QUICK: Mapping[str, Any] = {
    "settled": False,
    "further": False,
    "rounds": 3,
    "seconds": 0.15,
    "warm_s": 0.1,
    "sessions": 20_000,
    "revoked": 50_000,
    "starts": 3,
    "show_all": False,
}


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option(
    "--rows",
    "names",
    default="",
    help="Only these, comma separated, and what they are compared with. "
    f"There are: {', '.join(row.name for row in ROWS)}. The last three only by name.",
)
@click.option(
    "--rounds",
    default=20,
    show_default=True,
    type=click.IntRange(1, 100),
    help="How often each row runs beside what it is compared with: twice each where there is a target, else once. "
    "Thrice as often where it then cannot be told from its target.",
)
@click.option("--seconds", default=0.5, show_default=True, type=click.FloatRange(0.1, 600), help="How long each time.")
@click.option("--connections", default=32, show_default=True, type=click.IntRange(1, 20000), help="Open at once.")
@click.option("--quick", is_flag=True, help="Under a minute: fewer and shorter turns, 20 000 sessions.")
@click.option(
    "--long",
    "long_s",
    default=0,
    type=click.IntRange(0, 86400),
    metavar="SECONDS",
    help="Afterwards ask for so long and watch the memory; then a million forged cookies beside valid checks.",
)
@click.option(
    "--scale", is_flag=True, help="Afterwards: 1, 2 and 4 processes; 10 000 open connections; 5 000 sign-ins in a minute."
)
@click.option(
    "--peer", "peers", multiple=True, metavar="NAME=HOST:PORT/PATH", help="Another auth_request service, already listening."
)
@click.option(
    "--peer-header",
    "peer_headers",
    multiple=True,
    metavar="[NAME=]HEADER: VALUE",
    help="What nginx sends to that peer, or to all, such as a cookie that it accepts.",
)
@click.option("--pin", "pins", multiple=True, metavar="ROLE=CPUS", help=f"Pin to CPUs by taskset; roles: {', '.join(_ROLES)}.")
@click.option("--nginx-main", default="", help="Further lines for the outermost level of nginx.conf, like 'pcre_jit on;'.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False, writable=True), help="Write all figures.")
@click.option("--svg", "svg_file", type=click.Path(path_type=Path, dir_okay=False, writable=True), help="Write a chart.")
@click.option(
    "--keep", type=click.Path(path_type=Path, file_okay=False), help="Leave settings, nginx.conf and logs in this folder."
)
def main(
    *,
    names: str,
    rounds: int,
    seconds: float,
    connections: int,
    quick: bool,
    long_s: int,
    scale: bool,
    peers: tuple[str, ...],
    peer_headers: tuple[str, ...],
    pins: tuple[str, ...],
    nginx_main: str,
    json_file: Path | None,
    svg_file: Path | None,
    keep: Path | None,
) -> None:
    """Measure the gateway behind nginx with the shipped snippets, everything on loopback, and compare.

    Every row runs right beside the one that it is compared with, so that a machine whose speed drifts slows both; the
    ratio is the middle of many such pairs, and ± says how sure it is. A row whose run had errors or answers with another
    status than the due one, or whose ratio is too unsure to be held against its target, is printed without a ratio, and
    the reason is said. What two processes of one program differ by is no part of ±: row twin shows it. No figure changes
    the exit status.
    """
    try:
        others = list(peers_of(peers, peer_headers))
        rows = selected(filter(None, (name.strip() for name in names.split(","))), [peer.name for peer in others])
        pinned = dict(_pin(text) for text in pins)
    except (ValueError, KeyError) as error:
        raise click.UsageError(str(error.args[0])) from None
    options = Options(rounds, seconds, connections, long_s=long_s, scale=scale, nginx_main=nginx_main, pins=pinned)
    if quick:
        options = replace(options, **_QUICK)
    report = _run(options, rows, others, keep)
    click.echo(report.text())
    if json_file:
        json_file.write_text(json.dumps(report.as_json(), ensure_ascii=False, indent=2) + "\n", "utf-8")
    if svg_file:
        svg_file.write_text(svg(report.lines, report.machine), "utf-8")


def _run(options: Options, rows: list[Row], peers: list[Peer], keep: Path | None) -> Report:
    progress = _Progress()
    try:
        with TemporaryDirectory(prefix="wecom-bench-", ignore_cleanup_errors=True) as temporary:
            folder = keep.resolve() if keep else Path(temporary)
            if keep and keep.exists() and any(keep.iterdir()):
                raise click.UsageError(f"--keep {keep}: is not empty")
            folder.mkdir(parents=True, exist_ok=True)
            return asyncio.run(bench(options, rows, peers, folder, progress.say))
    except Broken as error:
        progress.end()
        raise click.ClickException(str(error)) from None
    except asyncio.CancelledError:
        progress.end()
        click.echo("ended before it was done; everything that was started is stopped", err=True)
        raise SystemExit(130) from None
    finally:
        progress.end()


def _pin(text: str) -> tuple[str, str]:
    role, _, cpus = text.partition("=")
    if role not in _ROLES or not cpus or cpus.strip("0123456789,-"):
        raise ValueError(f"--pin {text!r}: ROLE=CPUS is needed, like nginx=0; roles: {', '.join(_ROLES)}")
    return role, cpus


class _Progress:
    """One line that changes, at a terminal; a line for each step elsewhere."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._open = False

    def say(self, text: str) -> None:
        if self._live:
            click.echo(f"\r\x1b[K{text}", nl=False, err=True)
            self._open = True
        else:
            click.echo(text, err=True)

    def end(self) -> None:
        if self._open:
            click.echo("\r\x1b[K", nl=False, err=True)
            self._open = False


if __name__ == "__main__":
    main()
