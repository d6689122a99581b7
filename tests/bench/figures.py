"""What was counted, and what may be concluded from it: medians, spreads, ratios, and when no ratio is given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

Key = TypeVar("Key")

MAX_SPREAD = 0.15
"""A ratio that differs by more than this from round to round, (largest - smallest) / median, says nothing."""

MAX_OTHERS = 0.2
"""With more than this share of the machine's CPU going to others, what is left was shared out by chance."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the load generator: one row in one round."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    statuses: Mapping[int, int]  #: how many answers had each HTTP status
    errors: Mapping[str, int]  #: connect, read, write, timeout: how many
    cpu_us: float = 0.0  #: CPU time of the answering process per request
    nginx_us: float = 0.0  #: CPU time of the nginx in front per request
    rss_mb: float = 0.0  #: resident memory of the answering process at the end of the run
    others: float = 0.0  #: share of the machine's CPU that went to processes not ours

    @property
    def rate(self) -> float:
        return self.requests / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Figures:
    """All runs of one row, in the order of the rounds."""

    name: str
    due: int  #: the HTTP status that every answer should have
    runs: tuple[Run, ...]

    def middle(self, of: Callable[[Run], float]) -> float:
        return median(map(of, self.runs)) if self.runs else 0.0

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.middle(lambda run: run.rate)

    @property
    def spread(self) -> float:
        return spread([run.rate for run in self.runs])

    @property
    def problems(self) -> list[str]:
        """Why the row says nothing, one sentence each."""
        if not any(run.requests for run in self.runs):
            return [f"{self.name} had no answers"]
        errors = _sums(run.errors for run in self.runs)
        strange = _sums(run.statuses for run in self.runs)
        strange.pop(self.due, None)
        others = self.middle(lambda run: run.others)
        return [
            *(f"{self.name} had {count} {kind} errors" for kind, count in errors.items() if count),
            *(f"{count} answers of {self.name} were {status} where {self.due} was due" for status, count in strange.items()),
            *([f"others took {others:.0%} of the machine's CPU during {self.name}"] if others > MAX_OTHERS else []),
        ]


@dataclass(frozen=True, slots=True)
class Ratio:
    """How a row compares with another; *value* is None where *why_not* says why no figure is given."""

    of: str
    value: float | None = None
    why_not: str = ""


def speed(run: Run) -> float:
    """Compare by requests per second."""
    return run.rate


def thrift(run: Run) -> float:
    """Compare by CPU time per request: the less, the better."""
    return 1 / run.cpu_us if run.cpu_us else 0.0


def compare(row: Figures, other: Figures, by: Callable[[Run], float] = speed, *, max_spread: float = MAX_SPREAD) -> Ratio:
    """Give the median of the rounds' own ratios, or the reason why that would mean nothing.

    Each round is compared with itself: a machine that slows down for a minute slows both rows.
    """
    if problems := row.problems + other.problems:
        return Ratio(other.name, None, "; ".join(problems))
    ratios = [by(one) / by(two) for one, two in zip(row.runs, other.runs, strict=False) if by(one) and by(two)]
    if not ratios:
        return Ratio(other.name, None, f"no CPU time could be read for {row.name} and {other.name}")
    if len(ratios) < 2:
        return Ratio(other.name, None, "one round has no spread: a ratio needs two at least")
    if spread(ratios) > max_spread:
        low, high = min(ratios), max(ratios)
        return Ratio(other.name, None, f"it was {low:.2f} in one round and {high:.2f} in another: the machine was not quiet")
    return Ratio(other.name, median(ratios))


def spread(values: Sequence[float]) -> float:
    """(largest - smallest) / median."""
    middle = median(values) if values else 0.0
    return (max(values) - min(values)) / middle if middle else 0.0


def _sums(counts: Iterable[Mapping[Key, int]]) -> Counter[Key]:
    total: Counter[Key] = Counter()
    for each in counts:
        total.update(each)
    return total
