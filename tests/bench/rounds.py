"""Which row runs when: always right beside the one that it is compared with, in turns that favour neither."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.bench.figures import Figures, Run, compare
from tests.bench.rows import Row

Slice = Callable[[Row], Awaitable[Run]]
Told = Callable[[Row, int, int, "Measured"], None]
"""Is told of each row that was measured: the number of its round, that of the last, and all so far."""


@dataclass(frozen=True, slots=True)
class Measured:
    """All slices, and which of them lie side by side."""

    slices: dict[str, list[Run]] = field(default_factory=dict)  #: by the name of the row, whatever it was measured for
    pairs: dict[str, list[tuple[Run, Run]]] = field(default_factory=dict)  #: by the name: the row, what it is compared with

    def figures(self, row: Row) -> Figures:
        return Figures(row.name, row.due, tuple(self.slices.get(row.name, ())))

    def pair(self, row: Row, other: Row) -> tuple[Figures, Figures]:
        """Only the slices of *row* and of *other* that make up their ratio, in pairs."""
        pairs = self.pairs.get(row.name, [])
        return (
            Figures(row.name, row.due, tuple(one for one, _ in pairs)),
            Figures(other.name, other.due, tuple(two for _, two in pairs)),
        )

    def add(self, row: Row, run: Run) -> None:
        self.slices.setdefault(row.name, []).append(run)


async def run(rows: Sequence[Row], rounds: int, measure: Slice, told: Told, *, further: bool) -> Measured:
    """Measure *rows* in so many rounds; with *further* go on to thrice as many with those that cannot be told from their target.

    These are looked at twice, so what is said of their targets is wrong in 5 of 100 runs at most.
    """
    measured, pairs = Measured(), list(compared(rows))
    for number in range(1, (3 * rounds if further else rounds) + 1):
        if number == rounds + 1:
            pairs = [pair for pair in pairs if _close(*pair, measured)]
        for row, other in pairs:
            await beside(row, other, number, measure, measured)
            told(row, number, rounds if number <= rounds else 3 * rounds, measured)
    return measured


def _close(row: Row, other: Row | None, measured: Measured) -> bool:
    return other is not None and compare(*measured.pair(row, other), row.by, must=row.must).close


def turns(row: Row, number: int) -> tuple[bool, ...]:
    """When *row* runs (True) and when what it is compared with does, in round *number*.

    With a target twice each, ABBA: each follows itself as often as it follows the other, and a speed that rises or falls
    evenly gives to one pair what it takes from the next. Else one pair. Who begins changes from round to round.
    """
    first = number % 2 == 1
    return (first, not first, not first, first) if row.must is not None else (first, not first)


def compared(rows: Sequence[Row]) -> Iterator[tuple[Row, Row | None]]:
    """The rows with those they are compared with; a row that is neither held against one nor held up to one stands alone."""
    known = {row.name: row for row in rows}
    held_up = {row.of for row in rows}
    for row in rows:
        if row.of in known or row.name not in held_up:
            yield row, known.get(row.of)


async def beside(row: Row, other: Row | None, number: int, measure: Slice, into: Measured) -> None:
    """Measure *row* beside *other* in round *number*, or alone where there is no other."""
    if other is None:
        into.add(row, await measure(row))
        return
    own, others = list[Run](), list[Run]()
    for mine in turns(row, number):
        run = await measure(row if mine else other)
        into.add(row if mine else other, run)
        (own if mine else others).append(run)
    into.pairs.setdefault(row.name, []).extend(zip(own, others, strict=True))
