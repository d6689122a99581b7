"""Count each answer by its reason, and log what an operator wants to read; never once per image."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter

log = logging.getLogger("wecom_gateway")


class Telemetry:
    """The counters behind ``/metrics``, and warnings that must not repeat for every request."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.registry = CollectorRegistry()
        self._clock = clock
        self._warned: dict[str, float] = {}
        checks = Counter(
            "wecom_gateway_checks", "Answers to nginx's subrequest.", ["status", "reason"], registry=self.registry
        )
        self._checks = checks
        self._allowed = checks.labels("204", "")
        self._refused: dict[tuple[int, str], Callable[[], None]] = {}
        self._sign_ins = Counter(
            "wecom_gateway_sign_ins", "Sign-ins by how they ended.", ["result"], registry=self.registry
        )
        self._renewals = Counter(
            "wecom_gateway_renewals", "Renewals by how they ended.", ["result"], registry=self.registry
        )

    def allowed(self) -> None:
        self._allowed.inc()

    def refused(self, status: int, reason: str) -> None:
        count = self._refused.get((status, reason))
        if count is None:
            count = self._refused[status, reason] = self._checks.labels(str(status), reason).inc
        count()

    def signed_in(self, result: str) -> None:
        """Count a sign-in: ``ok`` or the reason it failed."""
        self._sign_ins.labels(result).inc()

    def renewed(self, result: str) -> None:
        """Count a renewal: ``ok``, ``put-off`` or the reason it was refused."""
        self._renewals.labels(result).inc()

    def warn_once(self, key: str, message: str, *, every_s: float = 600) -> None:
        """Log *message* unless the same *key* was logged in the last *every_s* seconds; bounded."""
        now = self._clock()
        if self._warned.get(key, -every_s) + every_s > now:
            return
        if len(self._warned) >= 1000:
            self._warned.clear()
        self._warned[key] = now
        log.warning(message)
