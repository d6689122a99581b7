"""Which site a request is for: nginx says so by name; the request's host only confirms it."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.errors import Denied
from gateway.urls import Site, bare_host

MAX_ANSWERS = 1000


class Sites:
    """The configured sites, and the answers already worked out, bounded."""

    def __init__(self, sites: Iterable[Site]) -> None:
        self.all = tuple(sites)
        self._by_name = {site.name: site for site in self.all}
        if len(self.all) == 1:
            self._by_name[""] = self.all[0]
        self.origins = frozenset(str(site.at(host)) for site in self.all for host in site.hosts)
        self._answers: dict[tuple[str, str], Site] = {}

    def find(self, name: str, host: str) -> Site:
        """Give the site *name* (empty: the only one) if *host* (a ``Host`` header) is its own.

        Raises Denied ``unknown-site`` or ``other-site``, whose message names the directive to fix.
        """
        site = self._answers.get((name, host))
        if site is None:
            site = self._find(name, host)
            if len(self._answers) < MAX_ANSWERS:  # letter case and ports are the client's
                self._answers[name, host] = site
        return site

    def readable(self, origin: str) -> dict[str, str]:
        """CORS headers by which scripts of *origin*, if that is ours, can read a refusal; to others it is a network error."""
        allowed = {"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true"}
        return allowed if origin in self.origins else {}

    def named(self, name: str) -> Site | None:
        return self._by_name.get(name)

    def _find(self, name: str, host: str) -> Site:
        site = self._by_name.get(name)
        if site is None:
            known = ", ".join(each.name for each in self.all)
            raise Denied(
                "unknown-site",
                message=f"nginx says `set $wecom_site {name};`, but the sites are: {known}"
                if name
                else f"no `set $wecom_site NAME;` above `include wecom/gateway.conf;` in this server; the sites are: {known}",
            )
        if bare_host(host) not in site.hosts:
            raise Denied(
                "other-site",
                message=f"site {site.name} is at {site.origin}, not at host {host[:100]!r}: correct `public_url`, "
                "add the host to `hosts` of its [[site]], or correct `set $wecom_site` in nginx",
            )
        return site
