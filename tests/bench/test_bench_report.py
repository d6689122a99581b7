"""The benchmark's own arithmetic: ratios, how sure they are and when none is given, the table, JSON, the chart, peers."""

from __future__ import annotations

import json
import random
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from tests.bench.chart import svg
from tests.bench.figures import Figures, Ratio, Run, compare, middle_of, spread, thrift, told
from tests.bench.load import Broken, counted_by
from tests.bench.measures import Measure
from tests.bench.peers import Peer, peers_of
from tests.bench.report import Report, lines_of, verdict
from tests.bench.requests import request
from tests.bench.rounds import Measured
from tests.bench.rows import ROWS, Row, selected

MACHINE = {
    "cpu": "a CPU",
    "cpus": 2,
    "memory_gb": 4,
    "system": "Debian",
    "kernel": "6",
    "python": "3.11",
    "aiohttp": "3",
    "uvloop": "0",
    "nginx": "1.22.1",
    "wrk": "4",
    "connections": 32,
    "rounds": 3,
    "seconds": 4,
    "at": "now",
}


def run(rate: int, **how: Any) -> Run:
    values = {
        "requests": rate,
        "seconds": 1.0,
        "p50_ms": 1.0,
        "p99_ms": 2.0,
        "statuses": {200: rate},
        "errors": {},
        "cpu_us": 20.0,
    }
    return Run(**values | how)


def figures(name: str, *rates: int, **how: Any) -> Figures:
    return Figures(name, 200, tuple(run(rate, **how) for rate in rates))


def six(name: str, rate: int, **how: Any) -> Figures:
    """As few slices as a ratio needs."""
    return figures(name, *[rate] * 6, **how)


def test_rate_is_the_median_of_the_slices() -> None:
    """One slow slice does not move the figure."""
    measured = figures("seen", 30_000, 12_000, 31_000)

    assert measured.rate == 30_000


def test_spread_is_the_middle_half_by_the_median() -> None:
    """The spread is the range of the middle half / median: one wild slice is none."""
    assert spread([90.0, 95.0, 100.0, 105.0, 900.0]) == pytest.approx(0.1)
    assert spread([100.0]) == 0.0


def test_ratio_compares_each_slice_with_its_neighbour() -> None:
    """A machine that is half as fast for a while changes no ratio."""
    row, other = figures("seen", 600, 300, 606, 600, 150, 594), figures("limit", 1000, 500, 1000, 1000, 250, 1000)
    ratio = compare(row, other)

    assert (ratio.of, ratio.value) == ("limit", pytest.approx(0.6))
    assert ratio.low == pytest.approx(0.594)
    assert ratio.high == pytest.approx(0.606)


def test_wild_pairs_move_no_ratio() -> None:
    """Slices that were held up are outvoted."""
    quiet = [0.98, 0.99, 1.0, 1.01, 1.02, 1.0, 0.99, 1.01]
    middle = middle_of([*quiet, *quiet[:6], 0.1, 10.0])

    assert middle
    assert middle[0] == pytest.approx(1.0, abs=0.01)
    assert middle[1:] == pytest.approx((1.0, 1.0), abs=0.05)


def test_a_pair_is_left_out_by_what_disturbed_it_and_not_by_what_it_says() -> None:
    """Where others or the hypervisor took the CPU in one slice of a pair, the pair counts for nothing."""
    runs = six("seen", 600).runs
    disturbed = Figures("seen", 200, (*runs, run(100, others=0.5), run(900, stolen=0.2), run(300)))
    limits = Figures("limit", 200, (*six("limit", 1000).runs, *[run(1000)] * 2, run(1000, others=0.3)))
    ratio = compare(disturbed, limits)

    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((0.6, 0.6, 0.6))


def test_no_ratio_is_made_of_a_minority() -> None:
    """Where the row was disturbed in some pairs and the other in as many more, too little is left."""
    row = Figures("seen", 200, (*six("seen", 600).runs, *[run(600, others=0.5)] * 5))
    limits = Figures("limit", 200, (*[run(1000, stolen=0.2)] * 5, *six("limit", 1000).runs))

    assert "the machine was ours in only 1 of 11 pairs" in compare(row, limits).why_not


def test_a_drift_within_the_pairs_is_balanced_by_the_next() -> None:
    """Where the speed rises by a tenth from slice to slice, ABBA still finds the ratio."""
    middle = middle_of([0.97 * 1.1, 0.97 / 1.1] * 4)

    assert middle
    assert middle[0] == pytest.approx(0.97)


@pytest.mark.parametrize("count, cut", [(5, None), (6, 0), (7, 2), (8, 3), (10, 8), (16, 29)])
def test_interval_is_that_of_signed_ranks(count: int, cut: int | None) -> None:
    """As many means are left out at either end as the published tables of Wilcoxon's test say for 95 %."""
    ratios = [1 + number / 1000 for number in range(count)]
    means = sorted((one * two) ** 0.5 for number, one in enumerate(ratios) for two in ratios[number:])
    interval = middle_of(ratios)

    assert (interval and interval[1:]) == (None if cut is None else pytest.approx((means[cut], means[-1 - cut])))


def test_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Over many runs on a machine that drifts and jumps, the true ratio lies within ± in about 95 of 100."""
    chance = random.Random(1)
    found = []
    for _ in range(400):
        interval = middle_of([0.97 * chance.lognormvariate(0, 0.1 if chance.random() < 0.1 else 0.02) for _ in range(16)])
        assert interval
        found.append(interval[1] <= 0.97 <= interval[2])

    assert 0.92 <= sum(found) / len(found) <= 0.98


@pytest.mark.parametrize(
    "low, high, said",
    [(0.965, 0.972, "0.97 ±0.01"), (0.97, 0.9701, "0.97 ±0.01"), (0.97, 0.97, "0.97 ±0.00"), (0.9, 1.0, "0.97 ±0.07")],
)
def test_doubt_is_rounded_up(low: float, high: float, said: str) -> None:
    """No ratio looks surer than it is."""
    assert told(0.97, low, high) == said


def test_ratio_by_thrift_compares_cpu_time() -> None:
    """Half the CPU time for a request is twice the thrift, whatever the rates."""
    ratio = compare(six("one", 10, cpu_us=10.0), six("two", 99, cpu_us=20.0), thrift)

    assert ratio.value == pytest.approx(2.0)


@pytest.mark.parametrize(
    "row, said",
    [
        pytest.param(six("seen", 600, errors={"timeout": 1}), "seen had 6 timeout errors", id="errors"),
        pytest.param(
            six("seen", 600, statuses={200: 590, 502: 10}), "60 answers of seen were 502 where 200 was due", id="status"
        ),
        pytest.param(six("seen", 600, statuses={302: 600}), "3600 answers of seen were 302", id="redirects"),
        pytest.param(figures("seen", 600, 300, 600, 300, 600, 300), "it lies anywhere from 0.30 to 0.60", id="spread"),
        pytest.param(figures("seen", *[600] * 5), "5 pairs of slices are too few", id="few pairs"),
        pytest.param(figures("seen"), "seen had no answers", id="no run"),
        pytest.param(six("seen", 0), "seen had no answers", id="no answers"),
        pytest.param(figures("seen", 600, 600, 0, 600, 600, 600), "1 slices of seen had no answers", id="a silent slice"),
        pytest.param(six("seen", 600, others=0.5), "others took 50% of the machine's CPU during seen", id="others"),
        pytest.param(six("seen", 600, stolen=0.1), "the hypervisor withheld 10% of the CPU during seen (steal)", id="steal"),
    ],
)
def test_no_ratio_is_given_where_it_would_mean_nothing(row: Figures, said: str) -> None:
    """Errors, another status, a wide interval, too few pairs, a stalled slice, a busy machine or host: no ratio, and why."""
    ratio = compare(row, figures("limit", *[1000] * len(row.runs)))

    assert ratio.value is None
    assert said in ratio.why_not


def test_no_ratio_is_given_where_the_other_row_failed() -> None:
    """The row that is compared with counts as much as the row itself."""
    ratio = compare(six("seen", 600), figures("limit", 1000, 1000, statuses={200: 999, 500: 1}))

    assert ratio == Ratio("limit", why_not="2 answers of limit were 500 where 200 was due")


def test_slices_that_are_no_pairs_are_never_compared() -> None:
    """A slice without a neighbour is a mistake of the program, not left out."""
    with pytest.raises(ValueError, match="longer"):
        compare(six("seen", 600), figures("limit", *[1000] * 7))


@pytest.mark.parametrize("must, given", [(0.54, True), (0.59, False), (0.61, False), (0.66, True), (None, True)])
def test_no_ratio_is_given_that_may_lie_on_either_side_of_its_target(must: float | None, given: bool) -> None:
    """Where the interval reaches from below the target to above it there is no verdict: more rounds are asked for."""
    ratio = compare(figures("seen", 580, 590, 600, 600, 610, 620), six("limit", 1000), must=must)

    assert (ratio.value is not None) is given
    assert ("cannot be told from" in ratio.why_not and "more --rounds" in ratio.why_not) is not given


def test_a_refusal_that_was_due_is_no_problem() -> None:
    """Where 401 is due, 401 is right and 200 is wrong."""
    right = Figures("refused", 401, (run(10, statuses={401: 10}),))
    wrong = Figures("refused", 401, (run(10, statuses={401: 9, 200: 1}),))

    assert not right.problems
    assert wrong.problems == ["1 answers of refused were 200 where 401 was due"]


@pytest.mark.parametrize(
    "value, most, said",
    [
        pytest.param(0.54, False, "NOT MET", id="too small"),
        pytest.param(0.55, False, "met", id="exactly"),
        pytest.param(0.63, False, "aim met", id="aim"),
        pytest.param(None, False, "not judged", id="no ratio"),
        pytest.param(0.4, True, "aim met", id="small enough"),
        pytest.param(0.6, True, "NOT MET", id="too large"),
    ],
)
def test_verdict(value: float | None, most: bool, said: str) -> None:
    """What must be reached is judged, and nothing is where there is no ratio."""
    assert verdict(value, 0.55, 0.5 if most else 0.62, most=most) == said


def measured(*of: Figures) -> Measured:
    """The first is what the others are compared with."""
    slices = {each.name: list(each.runs) for each in of}
    return Measured(slices, {each.name: list(zip(each.runs, of[0].runs, strict=True)) for each in of[1:]})


def report(*of: Figures) -> Report:
    rows = [row for row in ROWS if row.name in {each.name for each in of}]
    return Report(MACHINE, lines_of(rows, measured(*of)), (Measure("memory, idle", 42.0, "MB", 60, 45),), ("a note",))


LIMIT = six("limit", 1000)
SURE = six("seen", 600)
UNSURE = figures("seen", 600, 300, 600, 300, 600, 300)


def test_json_has_the_promised_shape() -> None:
    """``machine``, and ``rows`` with name, rate, latencies, CPU time, memory, ratio and what it is a ratio of."""
    written = json.loads(json.dumps(report(LIMIT, SURE).as_json()))
    seen = written["rows"][1]

    assert written["machine"]["nginx"] == "1.22.1"
    promised = {
        "name": "seen",
        "requests_per_s": 600,
        "p50_ms": 1,
        "p99_ms": 2,
        "cpu_us": 20,
        "rss_mb": 0,
        "ratio": 0.6,
        "of": "limit",
        "ratio_low": 0.6,
        "ratio_high": 0.6,
        "slices": 6,
    }
    assert promised.items() <= seen.items()


def test_json_has_no_ratio_where_none_is_given() -> None:
    """A refused ratio is null, with the reason beside it."""
    written = report(LIMIT, UNSURE).as_json()["rows"][1]

    assert written["ratio"] is None
    assert written["ratio_low"] is None
    assert "it lies anywhere from" in written["why_no_ratio"]


def test_text_says_what_was_met_and_what_was_refused() -> None:
    """The table ends with every target and its verdict, every refusal and its reason."""
    good = report(LIMIT, SURE).text()
    bad = report(LIMIT, UNSURE).text()

    assert "0.60 ±0.00 of limit" in good
    assert "met        seen / limit: 0.60 ±0.00 (must 0.55, aim 0.62)" in good
    assert "aim met    memory, idle: 42 MB (at most 60, aim 45)" in good
    assert "refused (limit)" in bad
    assert "not judged seen / limit: -" in bad
    assert "seen: it lies anywhere from 0.30 to 0.60: a quieter machine or more --rounds" in bad


def test_text_judges_no_target_of_a_row_that_was_held_against_nothing() -> None:
    """Where only ``rule`` and ``seen`` were asked for, nothing is said of ``seen`` against the limit."""
    assert "seen / limit" not in report(SURE, six("rule", 600)).text()


def test_steal_is_told() -> None:
    """A single slice that the hypervisor held up is worth a note."""
    runs = (run(600, stolen=0.3), *SURE.runs[1:])

    assert "the hypervisor gave up to 30% of a slice's CPU to other guests" in report(LIMIT, Figures("seen", 200, runs)).text()
    assert "hypervisor" not in report(LIMIT, SURE).text()


def test_chart_is_well_formed_with_one_bar_a_row() -> None:
    """The chart parses as XML, has a bar for each row through nginx, and hides a refused ratio."""
    lines = report(LIMIT, UNSURE, six("seen-alone", 9)).lines
    drawn = svg(lines, MACHINE | {"cpu": "a <CPU> & more"})
    root = ET.fromstring(drawn)
    bars = root.findall("{http://www.w3.org/2000/svg}rect")

    assert len(bars) == 2
    assert float(bars[1].attrib["width"]) < float(bars[0].attrib["width"])
    assert "of limit" not in drawn


def test_rows_bring_what_they_are_compared_with() -> None:
    """Asking for ``cache`` alone measures ``unprotected`` too."""
    assert [row.name for row in selected(["cache"])] == ["unprotected", "cache"]


def test_an_unknown_row_is_named() -> None:
    """A mistyped row is refused with the list of those there are."""
    with pytest.raises(KeyError, match=r"'sene'.*seen"):
        selected(["sene"])


def test_every_row_is_compared_with_one_that_exists() -> None:
    """No row is held against a row that is not there."""
    assert {row.of for row in ROWS if row.of} <= {row.name for row in ROWS}


def test_what_wrk_counted_is_read() -> None:
    """The script's last line becomes a run, statuses as numbers."""
    line = (
        'BENCH {"requests": 50, "us": 2000000, "p50_us": 900, "p99_us": 1800, "statuses": {"200": 49, "502": 1}, '
        '"errors": {"connect": 0, "read": 1, "write": 0, "timeout": 0}}'
    )
    counted = counted_by(f"Running 2s test\n{line}\n")

    assert (counted.rate, counted.p50_ms, counted.statuses, counted.errors["read"]) == (25.0, 0.9, {200: 49, 502: 1}, 1)


def test_wrk_that_counted_nothing_is_an_error() -> None:
    """A run without a count is never taken for zero requests."""
    with pytest.raises(Broken, match="unable to connect"):
        counted_by("unable to connect to 127.0.0.1:1")


def test_our_cookie_stands_among_others_and_only_where_wanted() -> None:
    """A request with a session has exactly one place for it, one without has none, and both bring an old app's cookies."""
    with_session = request("image", "/a", "__Host-wecom_session", session=True)
    without = request("xhr", "/a", "__Host-wecom_session", session=False)

    assert "; __Host-wecom_session={session}; " in with_session
    assert "{session}" not in without
    assert all("JSESSIONID=" in each and each.endswith("\r\n\r\n") for each in (with_session, without))


def test_peers_are_read_with_their_headers() -> None:
    """A header with a peer's name before it is that peer's alone."""
    read = list(peers_of(["one=127.0.0.1:4180/oauth2/auth", "two=127.0.0.1:9000"], ["two=Cookie: a=b; c=d", "X-All: 1"]))

    assert read == [
        Peer("one", "127.0.0.1:4180", "/oauth2/auth", (("X-All", "1"),)),
        Peer("two", "127.0.0.1:9000", "/", (("Cookie", "a=b; c=d"), ("X-All", "1"))),
    ]


@pytest.mark.parametrize(
    "peers, headers",
    [
        pytest.param(["127.0.0.1:4180/auth"], [], id="no name"),
        pytest.param(["one=127.0.0.1/auth"], [], id="no port"),
        pytest.param(["one=127.0.0.1:80/a;return"], [], id="nginx syntax in the path"),
        pytest.param(["one=127.0.0.1:80/a"], ["Cookie"], id="no value"),
        pytest.param(["one=127.0.0.1:80/a"], ["Cookie: $http_host"], id="nginx variable"),
        pytest.param(["one=127.0.0.1:80/a"], ['Cookie: a"b'], id="quote"),
        pytest.param(["one=127.0.0.1:80/a"], ["two=Cookie: a"], id="header of nobody"),
    ],
)
def test_peers_that_nginx_could_not_take_are_refused(peers: list[str], headers: list[str]) -> None:
    """What would not be a valid nginx.conf is an error of the command line."""
    with pytest.raises(ValueError, match="--peer"):
        list(peers_of(peers, headers))


def test_peer_row_is_held_against_the_limit() -> None:
    """A peer is measured with the limit in the same run."""
    assert [row.name for row in selected(["seen"], ["one"])] == ["limit", "seen", "peer:one"]
    assert selected([], ["one"])[-1] == Row(
        "peer:one", "another auth_request service", "peer:one", path="/peer/one/logo.svg", of="limit"
    )
