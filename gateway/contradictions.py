"""What no setting shows by itself: mistakes of several together, files that cannot be read, and what deserves a warning."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.config import Config, EventSettings, Listen, RecheckSettings
from gateway.redis_url import FILES, SCHEMES, RedisUrl
from gateway.secret import UNREAD
from gateway.session import LONGEST_S
from gateway.urls import Site

MIN_RETENTION_S = LONGEST_S + 86400
DEMO_KEY = "demo-only-"


def contradictions(config: Config) -> list[str]:
    """One sentence per mistake; with any of them the settings are refused."""
    found = _sites(config) + _sessions(config)
    found += _recheck(config.recheck) + _events(config.events) + _listen(config.listen) + _tls_files(config) + _demo_key(config)
    if config.directory.refresh < 60:
        found.append("directory.refresh: 60s at least; each time every department is read from WeCom")
    if config.wecom.timeout < 1:
        found.append("wecom.timeout: 1s at least; 0 would wait for ever")
    return found


def warnings(config: Config) -> list[str]:
    """What is allowed but worth a line in the log at start."""
    found = []
    for settings in config.site:
        if not settings.public_url.secure:
            found.append(f"site {settings.name}: public_url is plain http: the session cookie can be read on the way")
        if settings.cookie_domain:
            found.append(
                f"site {settings.name}: cookie_domain = {settings.cookie_domain!r} sends the session cookie to every "
                "server of that domain, also to those not behind this gateway"
            )
    if config.templates and not Path(config.templates).is_dir():
        found.append(f"templates: {config.templates} is no folder; the built-in pages are shown")
    if config.retention < 184 * 86400:
        found.append("retention: below 184d; Chinese law asks for six months of network logs")
    for name, seconds in (("session.renew_after", config.session.renew_after), ("recheck.every", config.recheck.every or 60)):
        if seconds < 60:
            found.append(f"{name}: below a minute, who opens a page every few seconds is taken for a sign-in loop")
    return found


def _sites(config: Config) -> list[str]:
    found = []
    names = [str(site.name) for site in config.site]
    found += [f"site: the name {name!r} is used twice" for name in sorted({n for n in names if names.count(n) > 1})]
    cookies: dict[tuple[str, str], str] = {}
    for site in config.sites:
        for host in site.hosts:
            other = cookies.setdefault((host, site.cookie_name), site.name)
            if other != site.name:
                found.append(f"site {site.name}: host {host} with the same port belongs to site {other} already")
        if site.cookie_domain:
            found += _cookie_domain(site, config.sites)
    if config.callback_site and config.callback_site not in names:
        found.append(f"callback_site: no site is named {config.callback_site!r}; there are: {', '.join(names)}")
    return found


def _cookie_domain(site: Site, sites: tuple[Site, ...]) -> list[str]:
    """A cookie for a whole domain must belong to its site, and to no other site there that has a cookie of the same name."""
    found, domain = [], site.cookie_domain
    if "." not in domain or not all(f".{host}".endswith(f".{domain}") for host in site.hosts):
        found.append(f"site {site.name}: cookie_domain {domain!r} is no parent of every host of the site")
    for other in sites:
        if other.name != site.name and other.cookie_name == site.cookie_name:
            found += [
                f"site {site.name}: cookie_domain {domain!r} also sends its session to {host} of site {other.name}, "
                "where it would take the place of that site's own"
                for host in sorted(other.hosts)
                if f".{host}".endswith(f".{domain}")
            ]
    return found


def _sessions(config: Config) -> list[str]:
    found, session = [], config.session
    if session.max_lifetime > LONGEST_S:
        found.append("session.max_lifetime: 7d at most")
    if session.lifetime > session.max_lifetime:
        found.append("session.lifetime: longer than session.max_lifetime")
    if config.retention < MIN_RETENTION_S:
        found.append("retention: 8d at least; a revocation must outlive every session")
    if session.renew_after < 10:
        found.append("session.renew_after: 10s at least; each renewal reads the member from WeCom")
    if session.renew_after >= session.lifetime:
        found.append("session.renew_after: must be shorter than session.lifetime")
    if session.idle and session.idle <= session.renew_after:
        found.append("session.idle: must be longer than session.renew_after, or 0 (a session counts as used when it is renewed)")
    return found


def _recheck(recheck: RecheckSettings) -> list[str]:
    found = []
    if 0 < recheck.every < 10:
        found.append("recheck.every: 10s at least, or 0 for never")
    if recheck.per_minute < 1:
        found.append("recheck.per_minute: 1 at least; recheck.every = 0 switches it off")
    if recheck.unreachable == "close" and not recheck.every:
        found.append('recheck.unreachable: "close" needs recheck.every: without it nobody is ever read again')
    if recheck.unreachable == "close" and recheck.grace < recheck.every:
        found.append("recheck.grace: shorter than recheck.every would close on people whose turn has not come")
    return found


def _events(events: EventSettings) -> list[str]:
    found = []
    token, aes_key = events.token.reveal(), events.aes_key.reveal()
    if bool(token) != bool(aes_key):
        found.append(
            "events: token and aes_key are given together, as the app's callback (接收消息) in WeCom's console shows them"
        )
    if token and not re.fullmatch(r"[0-9A-Za-z]{1,32}", token) and token != UNREAD:
        found.append("events.token: at most 32 letters and digits")
    if aes_key and not re.fullmatch(r"[0-9A-Za-z+/]{43}", aes_key) and aes_key != UNREAD:
        found.append("events.aes_key: 43 letters and digits (EncodingAESKey)")
    return found


def _listen(listen: Listen) -> list[str]:
    places: dict[str, str] = {}
    found = []
    for name in ("check", "pages", "ops"):
        other = places.setdefault(getattr(listen, name), name)
        if other != name:
            found.append(f"listen.{name}: the same address as listen.{other}; each takes its own")
    return found


def _tls_files(config: Config) -> list[str]:
    found, named = [], [("wecom.ca_file", config.wecom.ca_file), ("syslog_ca_file", config.syslog_ca_file)]
    if config.store.partition("://")[0] in SCHEMES:
        url = RedisUrl.parse(config.store)
        named += [(f"store: {name}", getattr(url, name)) for name in FILES]
    for name, path in named:
        try:
            if path and b"CERTIFICATE-----" not in Path(path).read_bytes() and not name.endswith("key_file"):
                found.append(f"{name}: {path} holds no certificate in PEM; of a .cer: openssl x509 -inform der -in {path}")
        except (OSError, ValueError) as error:
            found.append(f"{name}: {path} cannot be read: {getattr(error, 'strerror', '') or error}")
    return found


def _demo_key(config: Config) -> list[str]:
    public = any(site.origin.host not in ("localhost", "127.0.0.1") for site in config.sites)
    if not public or not any(key.reveal().startswith(DEMO_KEY) for key in config.signing_keys):
        return []
    return ["signing_keys: the demo's key, which everybody can read; `wecom-gateway keygen` makes one of your own"]
