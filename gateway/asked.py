"""What nginx tells the pages about the browser's request; every field is set or emptied by ``gateway.conf``."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from gateway.keys import Parts
from gateway.urls import Origin, Site, bare_host


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for a page: for which site and host, with which session, and what nginx refused before."""

    site: Site
    origin: Origin  #: of the site, under the host that the browser used
    session: str  #: the session cookie's value as nginx read it
    navigation: bool  #: a person opens a page: a redirect is fine
    window: bool  #: a page can be shown, but a redirect would lose what was sent: a form's POST, an iframe
    document: bool  #: the browser says so itself (``Sec-Fetch-Dest: document``, of a service worker ``empty``): it runs scripts
    original: str  #: URI of the refused request as sent, with its query; empty on a page asked for directly
    reason: str  #: why the check refused; empty for a 401 or 403 that is not ours
    rule: str
    address: str
    cookie_name: str  #: the session cookie's name as nginx has it
    user_agent: str
    language: str  #: ``zh`` or ``en``

    @classmethod
    def of(cls, request: web.Request, parts: Parts) -> Asked:
        """Read the headers; raise Denied ``unknown-site`` or ``other-site``."""
        headers = request.headers
        host = headers.get("Host", "")
        site = parts.sites.find(headers.get("X-WeCom-Site", ""), host)
        navigation = "X-WeCom-Navigation" in headers
        return cls(
            site=site,
            origin=site.at(bare_host(host)),
            session=headers.get("X-WeCom-Session", ""),
            navigation=navigation,
            window="X-WeCom-Window" in headers,
            document=navigation and headers.get("Sec-Fetch-Dest") in ("document", "empty"),
            original=headers.get("X-WeCom-Original-Uri", ""),
            reason=headers.get("X-WeCom-Reason", ""),
            rule=headers.get("X-WeCom-Rule", ""),
            address=headers.get("X-WeCom-Address", ""),
            cookie_name=headers.get("X-WeCom-Cookie-Name", ""),
            user_agent=headers.get("User-Agent", ""),
            language=language_of(request, parts),
        )


def language_of(request: web.Request, parts: Parts) -> str:
    """``zh`` or ``en``: the setting, else what the browser prefers."""
    return parts.config.language or parts.pages.language(request.headers.get("Accept-Language", ""))
