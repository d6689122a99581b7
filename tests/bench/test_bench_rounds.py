"""The order in which the benchmark measures: every row beside the one that it is compared with, neither favoured."""

from __future__ import annotations

from dataclasses import replace
from math import sin

import pytest

from tests.bench.figures import Run, compare
from tests.bench.rounds import Measured, beside, compared, run, turns
from tests.bench.rows import ROWS, Row, selected

SEEN, RULE, GARBAGE = (next(row for row in ROWS if row.name == name) for name in ("seen", "rule", "garbage"))


class Machine:
    """A machine on which ``rule`` is as fast as *ratio* of all else, and whose speed changes from slice to slice."""

    def __init__(self, ratio: float, drift: float = 1.0, first: float = 1.0, wobble: float = 0.0) -> None:
        self.ratio, self.drift, self.wobble, self.speed = ratio, drift, wobble, 1000.0 * first
        self.first = first
        self.order: list[str] = []

    async def measure(self, row: Row) -> Run:
        self.order.append(row.name)
        rate = self.speed * (self.ratio if row.name == "rule" else 1.0) * (1 + self.wobble * sin(len(self.order)))
        self.speed *= self.drift / (self.first if len(self.order) == 1 else 1.0)
        return Run(round(rate * 1000), 1000.0, 1.0, 2.0, {row.due: round(rate * 1000)}, {})


async def measured(machine: Machine, row: Row = RULE, rounds: int = 8) -> Measured:
    found = Measured()
    for number in range(1, rounds + 1):
        await beside(row, SEEN, number, machine.measure, found)
    return found


async def test_a_row_with_a_target_runs_in_turns_that_mirror_each_other() -> None:
    """Row, other, other, row; in the next round the other way about."""
    machine = Machine(1.0)

    await measured(machine, rounds=2)

    assert machine.order == ["rule", "seen", "seen", "rule", "seen", "rule", "rule", "seen"]


async def test_a_row_without_a_target_runs_once_a_round() -> None:
    """Who begins still changes."""
    machine = Machine(1.0)

    await measured(machine, GARBAGE, rounds=2)

    assert machine.order == ["garbage", "seen", "seen", "garbage"]


@pytest.mark.parametrize("ratio, count", [(0.95, 24), (0.9, 8), (1.0, 8)], ids=["at its target", "below", "above"])
async def test_what_cannot_be_told_from_its_target_is_measured_further(ratio: float, count: int) -> None:
    """Thrice the rounds, for that row alone; and only where it is wanted."""
    machine, lasts = Machine(ratio, wobble=0.02), list[int]()

    def told(row: Row, number: int, last: int, so_far: Measured) -> None:
        lasts.append(last)

    found = await run([SEEN, RULE, GARBAGE], 8, machine.measure, told, further=True)

    assert len(found.pairs["rule"]) == 2 * count
    assert len(found.pairs["garbage"]) == 8
    assert lasts == [8] * 16 + [24] * (count - 8)

    assert len((await run([SEEN, RULE], 8, machine.measure, told, further=False)).pairs["rule"]) == 16


@pytest.mark.parametrize("row", [RULE, GARBAGE], ids=["target", "none"])
def test_neither_side_is_favoured_by_its_place(row: Row) -> None:
    """In two rounds each place of a round has held both."""
    assert [not mine for mine in turns(row, 1)] == list(turns(row, 2))


@pytest.mark.parametrize("drift", [0.97, 1.03])
async def test_a_machine_that_slows_down_or_warms_up_changes_no_ratio(drift: float) -> None:
    """Three percent from slice to slice, by the end more than half of the speed, leave a true 0.97 as it is."""
    found = await measured(Machine(0.97, drift))
    ratio = compare(*found.pair(RULE, SEEN), RULE.by, must=None)

    assert ratio.value == pytest.approx(0.97, abs=0.001)


async def test_a_first_slice_that_is_slow_changes_no_ratio() -> None:
    """Whoever runs first pays for it in one pair of many."""
    found = await measured(Machine(0.97, first=0.7))
    ratio = compare(*found.pair(RULE, SEEN), RULE.by, must=0.95)

    assert ratio.value == pytest.approx(0.97, abs=0.001)


async def test_a_row_that_is_too_slow_is_found_out_while_the_machine_drifts() -> None:
    """What balances the drift does not hide the difference."""
    found = await measured(Machine(0.93, 1.001))
    ratio = compare(*found.pair(RULE, SEEN), RULE.by, must=0.95)

    assert ratio.value == pytest.approx(0.93, abs=0.001)


async def test_only_neighbours_make_a_ratio_and_all_slices_the_figures() -> None:
    """What the other row did beside a third is no part of the ratio, but of its own figures."""
    found = await measured(Machine(0.5), rounds=2)
    await beside(GARBAGE, SEEN, 1, Machine(1.0).measure, found)

    row, other = found.pair(RULE, SEEN)

    assert (len(row.runs), len(other.runs), len(found.figures(SEEN).runs)) == (4, 4, 5)
    assert {one.rate / two.rate for one, two in zip(row.runs, other.runs, strict=True)} == {0.5}


async def test_a_row_that_is_compared_with_nothing_is_measured_too() -> None:
    """``--rows unprotected`` runs alone."""
    rows, found = selected(["unprotected"]), Measured()
    for row, other in compared(rows):
        await beside(row, other, 1, Machine(1.0).measure, found)

    assert len(found.figures(rows[0]).runs) == 1


def test_every_row_is_measured_and_every_comparison_made() -> None:
    """No row of the whole benchmark is left out, as itself or as what another is compared with."""
    rows = selected([])
    pairs = list(compared(rows))

    assert {row.name for pair in pairs for row in pair if row} == {row.name for row in rows}
    assert {row.name for row, other in pairs if other} == {row.name for row in rows if row.of}


@pytest.mark.parametrize("name", ["rule", "ledger", "twin"])
def test_what_is_compared_closely_differs_in_nothing_but_what_is_named(name: str) -> None:
    """The same browser request, session, file and due answer, at a path of the same length and depth."""
    row = next(row for row in ROWS if row.name == name)

    assert replace(row, name="", what="", answerer="", path="", of="", must=None, aim=None, extra=False) == replace(
        SEEN, name="", what="", answerer="", path="", of="", must=None, aim=None
    )
    assert (len(row.path), row.path.count("/")) == (len(SEEN.path), SEEN.path.count("/"))
