"""A bar chart of requests per second, as a small SVG file of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from xml.sax.saxutils import escape

from tests.bench.report import Line

WIDTH, LEFT, RIGHT, BAR, GAP, TOP = 820, 130, 230, 20, 8, 64
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2329}.t{font-size:16px;font-weight:600}.q{fill:#646a73;font-size:12px}"
    "rect{fill:#2b66d9}.o{fill:#8a94a6}.b{fill:#d5d9e0}@media(prefers-color-scheme:dark){text{fill:#e8eaed}.q{fill:#a0a6ad}}"
)


def svg(lines: Iterable[Line], machine: Mapping[str, Any], title: str = "Requests per second through nginx") -> str:
    """Draw the rows that were asked through nginx; refused ratios are not shown."""
    shown = [line for line in lines if not line.row.alone and line.figures.rate]
    most = max((line.figures.rate for line in shown), default=1.0)
    height = TOP + len(shown) * (BAR + GAP) + 16
    about = "{cpu}, {cpus} CPUs; nginx {nginx}, one worker; {connections} connections".format(**machine)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<text class="t" x="12" y="24">{escape(title)}</text><text class="q" x="12" y="44">{escape(about)}</text>',
    ]
    parts += [_bar(line, number, most) for number, line in enumerate(shown)]
    return "\n".join([*parts, "</svg>", ""])


def _bar(line: Line, number: int, most: float) -> str:
    y = TOP + number * (BAR + GAP)
    width = round(line.figures.rate / most * (WIDTH - LEFT - RIGHT), 1)
    kind = "b" if line.row.name in ("unprotected", "limit", "bare") else "o" if ":" in line.row.name else "w"
    ratio = line.ratio
    said = f"{line.figures.rate:,.0f}" + (f" · {ratio.value:.2f} of {ratio.of}" if ratio and ratio.value is not None else "")
    return (
        f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(line.row.name)}</text>'
        f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{width}" height="{BAR}" rx="3"/>'
        f'<text x="{LEFT + width + 8}" y="{y + 15}">{escape(said)}</text>'
    )
