"""What is printed and written: the table, the targets, JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.bench.figures import MAX_STOLEN, Figures, Ratio, compare, told
from tests.bench.measures import Measure
from tests.bench.rounds import Measured
from tests.bench.rows import Row

OTHERS = 0.05
"""A machine that spends more than this share of its CPU on others is worth a line."""


@dataclass(frozen=True, slots=True)
class Line:
    """One row, measured and compared."""

    row: Row
    figures: Figures
    ratio: Ratio | None


@dataclass(frozen=True, slots=True)
class Report:
    """One run of the benchmark."""

    machine: Mapping[str, Any]
    lines: tuple[Line, ...]
    measures: tuple[Measure, ...] = ()
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "machine": dict(self.machine),
            "rows": [_json_row(line) for line in self.lines],
            "measures": [asdict(measure) for measure in self.measures],
            "notes": list(self.notes),
        }

    def text(self) -> str:
        parts = [_about(self.machine), "\n".join(_table(self.lines))]
        for title, lines in (
            ("Targets", [*_targets(self.lines), *_limits(self.measures)]),
            ("Measured once", [_measured(measure) for measure in self.measures]),
            ("No ratio is given", _refusals(self.lines)),
            ("Notes", [*self.notes, *_crowded(self.lines), *_stolen(self.lines)]),
        ):
            if lines:
                parts.append("\n".join([title, *(f"  {line}" for line in lines)]))
        return "\n\n".join(parts)


def lines_of(rows: Sequence[Row], measured: Measured) -> tuple[Line, ...]:
    """Compare each of *rows* with the row it is held against, by the slices that lie side by side."""
    known = {row.name: row for row in rows}
    return tuple(Line(row, measured.figures(row), _compared(row, known.get(row.of), measured)) for row in rows)


def _compared(row: Row, other: Row | None, measured: Measured) -> Ratio | None:
    return compare(*measured.pair(row, other), row.by, must=row.must) if other else None


def verdict(value: float | None, must: float | None, aim: float | None, *, most: bool = False) -> str:
    """``met``, ``aim met``, ``NOT MET`` or ``not judged``; with *most* the value may be at most that."""
    if value is None or must is None:
        return "not judged"
    sign = -1 if most else 1
    if sign * value < sign * must:
        return "NOT MET"
    return "aim met" if aim is not None and sign * value >= sign * aim else "met"


def _json_row(line: Line) -> dict[str, Any]:
    figures, ratio, row = line.figures, line.ratio, line.row
    return {
        "name": row.name,
        "requests_per_s": round(figures.rate, 1),
        "p50_ms": round(figures.middle(lambda run: run.p50_ms), 3),
        "p99_ms": round(figures.middle(lambda run: run.p99_ms), 3),
        "cpu_us": round(figures.middle(lambda run: run.cpu_us), 2),
        "rss_mb": round(figures.middle(lambda run: run.rss_mb), 1),
        "ratio": None if ratio is None or ratio.value is None else round(ratio.value, 3),
        "of": row.of or None,
        "ratio_low": None if ratio is None or ratio.value is None else round(ratio.low, 4),
        "ratio_high": None if ratio is None or ratio.value is None else round(ratio.high, 4),
        "slices": len(figures.runs),
        "nginx_cpu_us": round(figures.middle(lambda run: run.nginx_us), 2),
        "spread": round(figures.spread, 3),
        "others": round(figures.middle(lambda run: run.others), 3),
        "stolen": round(figures.middle(lambda run: run.stolen), 3),
        "what": row.what,
        "problems": figures.problems,
        "why_no_ratio": ratio.why_not if ratio else "",
        "must": row.must,
        "aim": row.aim,
        "verdict": verdict(ratio.value if ratio else None, row.must, row.aim) if row.must is not None else None,
    }


def _table(lines: Iterable[Line]) -> Iterator[str]:
    head = ("row", "requests/s", "spread", "p50 ms", "p99 ms", "CPU us", "nginx us", "MB", "ratio")
    widths = (14, 11, 7, 8, 8, 8, 9, 7)
    yield _columns(head, widths)
    for line in lines:
        figures, middle = line.figures, line.figures.middle
        cpu, nginx, rss = (middle(of) for of in (lambda run: run.cpu_us, lambda run: run.nginx_us, lambda run: run.rss_mb))
        cells = (
            line.row.name,
            f"{figures.rate:,.0f}",
            f"{figures.spread:.0%}",
            f"{middle(lambda run: run.p50_ms):.2f}",
            f"{middle(lambda run: run.p99_ms):.2f}",
            f"{cpu:.1f}" if cpu else "-",
            f"{nginx:.1f}" if nginx else "-",
            f"{rss:.0f}" if rss else "-",
            str(line.ratio or ""),
        )
        yield f"{_columns(cells, widths)}   {line.row.what}"


def _columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = cells[:-1]
    return (
        first.ljust(widths[0])
        + "".join(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        + ("   " + cells[-1].ljust(26))
    )


def _targets(lines: Iterable[Line]) -> Iterator[str]:
    for line in lines:
        row, ratio = line.row, line.ratio
        if row.must is None or ratio is None:
            continue
        value = ratio.value
        aim = f", aim {row.aim:.2f}" if row.aim is not None else ""
        said = told(value, ratio.low, ratio.high) if value is not None else "-"
        yield f"{verdict(value, row.must, row.aim):<10} {row.name} / {row.of}: {said} (must {row.must:.2f}{aim})"


def _limits(measures: Iterable[Measure]) -> Iterator[str]:
    for measure in measures:
        if measure.must is not None:
            judged = verdict(measure.value, measure.must, measure.aim, most=True)
            aim = f", aim {measure.aim:g}" if measure.aim is not None else ""
            yield f"{judged:<10} {_measured(measure)} (at most {measure.must:g}{aim})"


def _measured(measure: Measure) -> str:
    whole = measure.value >= 100 or measure.value == int(measure.value)
    value = f"{measure.value:,.0f}" if whole else f"{measure.value:.2f}"
    gap = " " if measure.unit.isalpha() else ""
    note = f" ({measure.note})" if measure.note else ""
    return f"{measure.name}: {value}{gap}{measure.unit}{note}"


def _refusals(lines: Iterable[Line]) -> list[str]:
    return [f"{line.row.name}: {line.ratio.why_not}" for line in lines if line.ratio and line.ratio.why_not]


def _crowded(lines: Iterable[Line]) -> Iterator[str]:
    shares = {line.row.name: line.figures.middle(lambda run: run.others) for line in lines}
    crowded = {name: share for name, share in shares.items() if share > OTHERS}
    if crowded:
        worst = max(crowded, key=crowded.__getitem__)
        yield (
            f"the machine was not ours alone: others took more than {OTHERS:.0%} of its CPU in {len(crowded)} of "
            f"{len(shares)} rows, {crowded[worst]:.0%} in {worst}"
        )


def _stolen(lines: Iterable[Line]) -> Iterator[str]:
    most = max((run.stolen for line in lines for run in line.figures.runs), default=0.0)
    if most > MAX_STOLEN:
        yield f"the hypervisor gave up to {most:.0%} of a slice's CPU to other guests (steal)"


def _about(machine: Mapping[str, Any]) -> str:
    about = dict(machine)
    first = "{cpu}, {cpus} CPUs, {memory_gb} GB, {system}, Linux {kernel}".format(**about)
    second = "Python {python}, aiohttp {aiohttp}, uvloop {uvloop}, nginx {nginx} with one worker, wrk {wrk}".format(**about)
    third = (
        "{connections} connections; {rounds} rounds, each row right beside what it is compared with, {seconds:g} s at a time; "
        "medians; the true ratio lies within ± in 95 of 100 runs; {at}"
    ).format(**about)
    return "\n".join((first, second, third))
