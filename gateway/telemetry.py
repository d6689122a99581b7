"""Count each answer by its reason, and log what an operator wants to read; never once per image."""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.ledger import Ledger

log = logging.getLogger("wecom_gateway")


class Telemetry:
    """The counters behind ``/metrics``, and warnings that must not repeat for every request."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.registry = CollectorRegistry()
        self.checks: defaultdict[tuple[int, str], int] = defaultdict(int)
        self._clock = clock
        self._warned: dict[str, float] = {}
        self.registry.register(_Checks(self.checks))
        self._sign_ins = Counter("wecom_gateway_sign_ins", "Sign-ins by how they ended.", ["result"], registry=self.registry)
        self._rechecks = Counter(
            "wecom_gateway_rechecks", "Members read again in the background, by result.", ["result"], registry=self.registry
        )
        self._waiting = Gauge("wecom_gateway_recheck_waiting", "Members whose turn to be read has come.", registry=self.registry)
        self._full = Gauge("wecom_gateway_recheck_full", "1 while no further session can wait for that.", registry=self.registry)
        self._held = Gauge("wecom_gateway_recheck_held", "Members gone that an operator must confirm.", registry=self.registry)
        self._events = Counter(
            "wecom_gateway_events", "Calls of the events address by result.", ["result"], registry=self.registry
        )
        self._problems = Gauge(
            "wecom_gateway_problems", "What an operator should look at; /readyz has the sentences.", registry=self.registry
        )
        self._renewals = Counter("wecom_gateway_renewals", "Renewals by how they ended.", ["result"], registry=self.registry)

    def checked(self, status: int, reason: str = "") -> None:
        """Count an answer to the subrequest: a plain number, since a library's counter costs as much as the rest of it."""
        self.checks[status, reason] += 1

    def signed_in(self, result: str) -> None:
        """Count a sign-in: ``ok`` or the reason it failed."""
        self._sign_ins.labels(result).inc()

    def renewed(self, result: str) -> None:
        """Count a renewal: ``ok``, ``put-off`` or the reason it was refused."""
        self._renewals.labels(result).inc()

    def follow(self, ledger: Ledger) -> None:
        """Show how *ledger* fares in ``/metrics``."""
        self.registry.register(_Ledger(ledger))

    def rechecked(self, result: str) -> None:
        """Count a reading in the background: ``ok``, ``stale``, ``held``, ``failed``, or why the member is gone."""
        self._rechecks.labels(result).inc()

    def waiting(self, members: int, held: int, *, full: bool) -> None:
        """Tell how many members wait to be read, whether more can, and how many are held."""
        self._waiting.set(members)
        self._full.set(full)
        self._held.set(held)

    def problems(self, number: int) -> None:
        """Tell how many sentences /readyz has."""
        self._problems.set(number)

    def event(self, result: str) -> None:
        """Count a call of the events address: what it was, or the reason it was refused."""
        self._events.labels(result).inc()

    def warn_once(self, key: str, message: str, *, every_s: float = 600) -> bool:
        """Log *message* unless the same *key* was logged in the last *every_s* seconds, and say whether; bounded."""
        now = self._clock()
        if abs(now - self._warned.get(key, -math.inf)) < every_s:  # a clock set back keeps nobody waiting
            return False
        if len(self._warned) >= 1000:
            self._warned.clear()
        self._warned[key] = now
        log.warning(message)
        return True


class _Ledger(Collector):
    """How the ledger fares."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterable[Metric]:
        for name, text, value in (
            ("queue", "Records that wait to be stored.", self._ledger.queued),
            ("problems", "What weakens the ledger; /readyz has the sentences.", len(self._ledger.problems)),
        ):
            yield GaugeMetricFamily(f"wecom_gateway_ledger_{name}", text, value)
        yield CounterMetricFamily(
            "wecom_gateway_ledger_failures", "Writes that the store did not confirm.", self._ledger.failures
        )


class _Checks(Collector):
    """The answers to the subrequest, by status and reason."""

    def __init__(self, counts: Mapping[tuple[int, str], int]) -> None:
        self._counts = counts

    def collect(self) -> Iterable[CounterMetricFamily]:
        family = CounterMetricFamily("wecom_gateway_checks", "Answers to nginx's subrequest.", labels=["status", "reason"])
        for (status, reason), count in list(self._counts.items()):
            family.add_metric([str(status), reason], count)
        yield family
