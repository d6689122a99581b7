"""The benchmark's own arithmetic: medians, ratios and when none is given, the table, JSON, the chart, peers."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from tests.bench.chart import svg
from tests.bench.figures import Figures, Ratio, Run, compare, spread, thrift
from tests.bench.load import Broken, counted_by
from tests.bench.measures import Measure
from tests.bench.peers import Peer, peers_of
from tests.bench.report import Report, lines_of, verdict
from tests.bench.requests import request
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


def test_rate_is_the_median_of_the_rounds() -> None:
    """One slow round does not move the figure."""
    measured = figures("seen", 30_000, 12_000, 31_000)

    assert measured.rate == 30_000


def test_spread_is_the_range_by_the_median() -> None:
    """The spread is (largest - smallest) / median."""
    assert spread([90.0, 100.0, 110.0]) == pytest.approx(0.2)


def test_ratio_compares_each_round_with_itself() -> None:
    """A machine that is half as fast for one round changes no ratio."""
    ratio = compare(figures("seen", 600, 300, 606), figures("limit", 1000, 500, 1000))

    assert (ratio.of, ratio.value) == ("limit", pytest.approx(0.6))


def test_ratio_by_thrift_compares_cpu_time() -> None:
    """Half the CPU time for a request is twice the thrift, whatever the rates."""
    ratio = compare(figures("one", 10, 10, cpu_us=10.0), figures("two", 99, 99, cpu_us=20.0), thrift)

    assert ratio.value == pytest.approx(2.0)


@pytest.mark.parametrize(
    "row, said",
    [
        pytest.param(figures("seen", 600, 600, errors={"timeout": 1}), "seen had 2 timeout errors", id="errors"),
        pytest.param(
            figures("seen", 600, 600, statuses={200: 590, 502: 10}),
            "20 answers of seen were 502 where 200 was due",
            id="another status",
        ),
        pytest.param(figures("seen", 600, 600, statuses={302: 600}), "1200 answers of seen were 302", id="redirects"),
        pytest.param(figures("seen", 600, 300), "it was 0.30 in one round and 0.60 in another", id="spread"),
        pytest.param(figures("seen", 600), "one round has no spread", id="one round"),
        pytest.param(figures("seen"), "seen had no answers", id="no run"),
        pytest.param(figures("seen", 0, 0), "seen had no answers", id="no answers"),
        pytest.param(figures("seen", 600, 600, others=0.5), "others took 50% of the machine's CPU during seen", id="others"),
    ],
)
def test_no_ratio_is_given_where_it_would_mean_nothing(row: Figures, said: str) -> None:
    """Errors, answers of another status, a wide spread, a single round or a busy machine: no ratio, and the reason is said."""
    ratio = compare(row, figures("limit", 1000, 1000))

    assert ratio.value is None
    assert said in ratio.why_not


def test_no_ratio_is_given_where_the_other_row_failed() -> None:
    """The row that is compared with counts as much as the row itself."""
    ratio = compare(figures("seen", 600, 600), figures("limit", 1000, 1000, statuses={200: 999, 500: 1}))

    assert ratio == Ratio("limit", None, "2 answers of limit were 500 where 200 was due")


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


def report(*measured: Figures) -> Report:
    by_name = {each.name: each for each in measured}
    rows = [row for row in ROWS if row.name in by_name]
    return Report(MACHINE, lines_of(rows, by_name), (Measure("memory, idle", 42.0, "MB", 60, 45),), ("a note",))


def test_json_has_the_promised_shape() -> None:
    """``machine``, and ``rows`` with name, rate, latencies, CPU time, memory, ratio and what it is a ratio of."""
    written = json.loads(json.dumps(report(figures("limit", 1000, 1000), figures("seen", 600, 600)).as_json()))
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
    }
    assert promised.items() <= seen.items()


def test_json_has_no_ratio_where_none_is_given() -> None:
    """A refused ratio is null, with the reason beside it."""
    written = report(figures("limit", 1000, 1000), figures("seen", 600, 300)).as_json()["rows"][1]

    assert written["ratio"] is None
    assert "in one round" in written["why_no_ratio"]


def test_text_says_what_was_met_and_what_was_refused() -> None:
    """The table ends with every target and its verdict, every refusal and its reason."""
    good = report(figures("limit", 1000, 1000), figures("seen", 600, 600)).text()
    bad = report(figures("limit", 1000, 1000), figures("seen", 600, 300)).text()

    assert "0.60 of limit" in good
    assert "met        seen / limit: 0.60 (must 0.55, aim 0.62)" in good
    assert "aim met    memory, idle: 42 MB (at most 60, aim 45)" in good
    assert "refused (limit)" in bad
    assert "not judged seen / limit: -" in bad
    assert "seen: it was 0.30 in one round and 0.60 in another" in bad


def test_chart_is_well_formed_with_one_bar_a_row() -> None:
    """The chart parses as XML, has a bar for each row through nginx, and hides a refused ratio."""
    lines = report(figures("limit", 1000, 1000), figures("seen", 600, 300), figures("seen-alone", 9, 9)).lines
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
