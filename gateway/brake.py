"""Stop exchanging codes when too many were bad: WeCom's own limit (45009) would lock out everybody."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

WINDOW_S = 60
ADDRESS_SHARE = 4
"""One address may cause this part of the bad codes: or one script could stop everybody's sign-in."""


class Brake:
    """Count bad codes; :attr:`on` while *limit* of them fell into the last minute."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._bad: deque[tuple[float, str]] = deque(maxlen=max(1, limit))
        self._per_address = max(1, limit // ADDRESS_SHARE)

    def bad_code(self, address: str = "") -> None:
        self._bad.append((self._clock(), _network(address)))

    @property
    def on(self) -> bool:
        return len(self._bad) == self._bad.maxlen and self._lately(self._bad[0][0])

    def stops(self, address: str) -> bool:
        """Whether a code that came from *address* is not to be exchanged now."""
        network = _network(address)
        own = sum(1 for when, whose in self._bad if whose == network and self._lately(when))
        return own >= self._per_address or self.on

    def _lately(self, when: float) -> bool:
        """A clock that was ahead, and was set back, stops nobody until it gets there again."""
        return abs(self._clock() - when) < WINDOW_S


def _network(address: str) -> str:
    """The address; of IPv6 its first half, since the other is anybody's to choose, unless it stands for one of IPv4."""
    try:
        known = ip_address(address)
    except ValueError:
        return address
    return f"{int(known) >> 64:x}::" if isinstance(known, IPv6Address) and not known.ipv4_mapped else address
