"""What was counted, and what may be concluded from it: medians, spreads, ratios, how sure they are, and when none is given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations_with_replacement
from math import ceil, sqrt
from statistics import median, quantiles
from typing import TypeVar

Key = TypeVar("Key")

CONFIDENCE = 0.95
"""The true ratio lies within the interval that is given with at least this probability."""

MAX_DOUBT = 0.1
"""A ratio that is only known to a larger part of itself than this says nothing."""

MAX_OTHERS = 0.2
"""With more than this share of the machine's CPU going to others, what is left was shared out by chance."""

MAX_STOLEN = 0.05
"""With more than this share of the machine's CPU withheld by the hypervisor (steal), a slice measures its other guests."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the load generator: one slice of one row."""

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
    stolen: float = 0.0  #: share of the machine's CPU that the hypervisor gave to other guests

    @property
    def rate(self) -> float:
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def quiet(self) -> bool:
        """Whether the machine was ours."""
        return self.others <= MAX_OTHERS and self.stolen <= MAX_STOLEN


@dataclass(frozen=True, slots=True)
class Figures:
    """All slices of one row, in the order in which they ran."""

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
        others, stolen = self.middle(lambda run: run.others), self.middle(lambda run: run.stolen)
        silent = sum(not run.requests for run in self.runs)
        return [
            *(f"{self.name} had {count} {kind} errors" for kind, count in errors.items() if count),
            *(f"{count} answers of {self.name} were {status} where {self.due} was due" for status, count in strange.items()),
            *([f"{silent} slices of {self.name} had no answers"] if silent else []),
            *([f"others took {others:.0%} of the machine's CPU during {self.name}"] if others > MAX_OTHERS else []),
            *([f"the hypervisor withheld {stolen:.0%} of the CPU during {self.name} (steal)"] if stolen > MAX_STOLEN else []),
        ]


@dataclass(frozen=True, slots=True)
class Ratio:
    """How a row compares with another; *value* is None where *why_not* says why no figure is given."""

    of: str
    value: float | None = None
    low: float = 0.0  #: the ends of the interval that the true value lies in, by CONFIDENCE
    high: float = 0.0
    why_not: str = ""
    close: bool = False  #: held to a target, and more rounds are needed to tell on which side of it it lies

    def __str__(self) -> str:
        return f"refused ({self.of})" if self.value is None else f"{told(self.value, self.low, self.high)} of {self.of}"


def told(value: float, low: float, high: float, digits: int = 2) -> str:
    """A value with how far the truth may be from it, rounded up, like ``0.97 ±0.01``."""
    unit = 10**digits
    doubt = ceil(round(max(value - low, high - value) * unit, 6)) / unit
    return f"{value:.{digits}f} ±{doubt:.{digits}f}"


def speed(run: Run) -> float:
    """Compare by requests per second."""
    return run.rate


def thrift(run: Run) -> float:
    """Compare by CPU time per request: the less, the better."""
    return 1 / run.cpu_us if run.cpu_us else 0.0


def compare(row: Figures, other: Figures, by: Callable[[Run], float] = speed, *, must: float | None = None) -> Ratio:
    """Give the middle of the pairs' own ratios and how sure it is, or the reason why that would mean nothing.

    Slice by slice *row* was measured right beside *other*: a machine that slows down slows both. A pair during which the
    machine was not ours is left out, whatever it says. No ratio is given that could as well lie on the other side of *must*.
    """
    if problems := row.problems + other.problems:
        return Ratio(other.name, why_not="; ".join(problems))
    pairs = list(zip(row.runs, other.runs, strict=True))
    quiet = [(one, two) for one, two in pairs if one.quiet and two.quiet]
    if len(quiet) * 2 < len(pairs):
        said = f"the machine was ours in only {len(quiet)} of {len(pairs)} pairs of slices: wait until it is quieter"
        return Ratio(other.name, why_not=said)
    ratios = [by(one) / by(two) for one, two in quiet if by(one) and by(two)]
    if not ratios:
        return Ratio(other.name, why_not=f"no CPU time could be read for {row.name} and {other.name}")
    interval = middle_of(ratios)
    if not interval:
        return Ratio(other.name, why_not=f"{len(ratios)} pairs of slices are too few to say how sure it is: more --rounds")
    value, low, high = interval
    if max(value - low, high - value) > MAX_DOUBT * value:
        said = f"it lies anywhere from {low:.2f} to {high:.2f}: a quieter machine or more --rounds"
        return Ratio(other.name, why_not=said, close=must is not None)
    if must is not None and low < must <= high:
        said = f"it is {told(*interval, 3)}, which cannot be told from {must:.2f}: more --rounds"
        return Ratio(other.name, why_not=said, close=True)
    return Ratio(other.name, *interval)


def middle_of(ratios: Sequence[float]) -> tuple[float, float, float] | None:
    """The pseudomedian (Hodges and Lehmann) of *ratios* and the ends of its interval; None where there are too few for one.

    It is the median of the geometric means of any two: as little moved by a few wild ratios as a median, and nearly as
    narrow as a mean. A drift favours the two slices of a pair in turn, and so leaves the means of two pairs. The interval
    is that of Wilcoxon's signed ranks, which supposes no distribution.
    """
    means = sorted(sqrt(one * two) for one, two in combinations_with_replacement(ratios, 2))
    cut = _cut(len(ratios))
    return None if cut is None else (median(means), means[cut], means[-1 - cut])


def _cut(count: int) -> int | None:
    """How many means to leave out at either end: the ways in which signs can fall, counted by the sum of the ranks."""
    ways = [1]
    for rank in range(1, count + 1):
        ways = [one + two for one, two in zip(ways + [0] * rank, [0] * rank + ways, strict=True)]
    found = None
    for cut, beyond in enumerate(accumulate(ways)):
        if beyond / 2**count > (1 - CONFIDENCE) / 2:
            break
        found = cut
    return found


def spread(values: Sequence[float]) -> float:
    """The range that the middle half of *values* lies in, by their median."""
    if len(values) < 2:
        return 0.0
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return (high - low) / middle if middle else 0.0


def _sums(counts: Iterable[Mapping[Key, int]]) -> Counter[Key]:
    total: Counter[Key] = Counter()
    for each in counts:
        total.update(each)
    return total
