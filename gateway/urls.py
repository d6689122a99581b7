"""Every URL we build or trust: sites and their origins, WeCom's authorize pages, return addresses."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlencode, urlsplit

from gateway.accounts import Source

PREFIX = "/_wecom"
CALLBACK = f"{PREFIX}/callback"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[0-9a-z](?:[0-9a-z.-]{0,252})|\[[0-9a-f:.]{2,45}\]")
_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_ASCII = "".join(map(chr, range(0x21, 0x7F)))
MAX_RETURN_TO = 8192
"""Bytes, as it would be sent: nginx takes no longer one, and no answer of ours with more than twice as much."""
_SIGNS_IN = frozenset({"login", "enter", "begin", "callback"})
_CLIENTS = (("wxworklocal", "private"), ("wwlocal", "private"), ("wxwork", "wecom"), ("micromessenger", "wechat"))


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of a site as people see it, such as ``https://erp.example.com:8443``."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Origin:
        """Read ``http(s)://host[:port]`` with nothing behind it; ValueError says what is wrong."""
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"not a URL: {error}") from None
        if parts.scheme not in _DEFAULT_PORTS:
            raise ValueError("must begin with https:// or http://")
        if parts.username is not None or parts.query or parts.fragment or parts.path not in ("", "/"):
            raise ValueError("must be scheme, host and port only, like https://intranet.example.com")
        netloc = parts.netloc.lower()
        host = netloc[: netloc.rindex(":")] if re.search(r":\d*$", netloc) else netloc
        if not _HOST.fullmatch(host):
            raise ValueError(f"{host!r} is no host name (an underscore is not allowed by WeCom either)")
        if port == 0:
            raise ValueError("port 0 is no port")
        return cls(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme])

    @property
    def secure(self) -> bool:
        return self.scheme == "https"

    @property
    def port_suffix(self) -> str:
        """``_8443`` for cookie names (cookies ignore ports), empty for the default port."""
        return "" if self.port == _DEFAULT_PORTS[self.scheme] else f"_{self.port}"

    @property
    def netloc(self) -> str:
        """``host[:port]``, a default port left out: WeCom's trusted domain must match to the letter."""
        return self.host + self.port_suffix.replace("_", ":")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}"

    def url(self, path: str) -> str:
        """An absolute URL here; *path* cannot change the host, whatever it holds."""
        return f"{self}{ascii_path(path if path.startswith('/') else f'/{path}')}"


@dataclass(frozen=True, slots=True)
class Site:
    """One protected site: nginx says which it serves by ``set $wecom_site NAME;``."""

    name: str
    origin: Origin
    hosts: frozenset[str] = frozenset()  #: every host name it answers to, that of ``origin`` included
    keep_fragment: bool = True
    cookie_domain: str = ""
    account: Source = field(default_factory=Source)
    preflight: bool = False
    jwt: bool = False
    _names: dict[str, str] = field(default_factory=dict, compare=False)

    @property
    def cookie_name(self) -> str:
        """Name of the session cookie; ``upstream.conf`` must have the same."""
        return self.cookie("session")

    def cookie(self, kind: str) -> str:
        """Name of our cookie *kind* (``session``, ``rounds``, ``signed_out``), one per port of a host."""
        if kind not in self._names:
            domain_wide = self.cookie_domain and kind == "session"
            prefix = "" if not self.origin.secure else "__Secure-" if domain_wide else "__Host-"
            self._names[kind] = f"{prefix}wecom_{kind}{self.origin.port_suffix}"
        return self._names[kind]

    def at(self, host: str) -> Origin:
        """The origin of this site under one of its hosts."""
        return Origin(self.origin.scheme, host, self.origin.port)


def bare_host(header: str) -> str:
    """The host name in a ``Host`` header, lower case, without port."""
    host = header.lower()
    return re.sub(r":\d*$", "", host) if not host.endswith("]") else host


def ascii_path(path: str) -> str:
    """Give a request URI as ASCII: raw UTF-8 and undecodable bytes percent-encoded, control characters too."""
    return quote(path.encode("utf-8", "surrogateescape"), safe=_ASCII)


def return_path(text: str, *, origin: Origin, sites: Iterable[Site] = ()) -> str | None:
    """Give the absolute URL that a return address from outside means, or None if it may not be followed.

    Allowed: a path of *origin*, or an absolute URL at *origin* or at a host of one of *sites* (same scheme and port); not
    what signs in itself: ``/_wecom/enter?to=/_wecom/enter?to=…`` would be hundreds of sign-ins by one click.
    """
    if not text or len(ascii_path(text)) > MAX_RETURN_TO or _CONTROL.search(text) or "\\" in text or _signs_in(text):
        return None
    if text.startswith("/"):
        return None if text.startswith("//") else origin.url(text.partition("#")[0])
    try:
        parts = urlsplit(text)
        target = Origin.parse(f"{parts.scheme}://{parts.netloc}")
    except ValueError:
        return None
    known = {origin} | {site.at(host) for site in sites for host in site.hosts}
    if target not in known:
        return None
    return target.url((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))


def _signs_in(text: str) -> bool:
    """Whether one of our pages that sign in may be meant, however it is written; one look, since anybody may send 8 kB of it."""
    _, _, ours = re.sub("/+", "/", unquote(re.split("[?#]", text, maxsplit=1)[0])).partition(f"{PREFIX}/")
    return not _SIGNS_IN.isdisjoint(ours.split("/"))


def in_app_url(base: str, *, corp_id: str, agent_id: int, redirect_uri: str, scope: str, state: str) -> str:
    """WeCom's in-app OAuth page (document 91022), parameters in its order; the fragment is required."""
    query = urlencode(
        {
            "appid": corp_id,
            "redirect_uri": redirect_uri,
            "response_type": "code",
            "scope": scope,
            "state": state,
            "agentid": agent_id,
        },
        quote_via=quote,
        safe="",
    )
    return f"{base}/connect/oauth2/authorize?{query}#wechat_redirect"


def web_login_url(base: str, *, corp_id: str, agent_id: int, redirect_uri: str, state: str, language: str) -> str:
    """WeCom's QR and quick-login page (document 98152)."""
    query = urlencode(
        {
            "login_type": "CorpApp",
            "appid": corp_id,
            "agentid": agent_id,
            "redirect_uri": redirect_uri,
            "state": state,
            "lang": language,
        },
        quote_via=quote,
        safe="",
    )
    return f"{base}/wwlogin/sso/login?{query}"


def old_web_login_url(base: str, *, corp_id: str, agent_id: int, redirect_uri: str, state: str) -> str:
    """The old QR page (document 91019), the one that private deployments have."""
    query = urlencode(
        {"appid": corp_id, "agentid": agent_id, "redirect_uri": redirect_uri, "state": state}, quote_via=quote, safe=""
    )
    return f"{base}/wwopen/sso/qrConnect?{query}"


def client_of(user_agent: str) -> str:
    """``private``, ``wecom``, ``wechat`` or ``browser``, tested in this order: every WeCom also says MicroMessenger."""
    text = user_agent.lower()
    return next((client for mark, client in _CLIENTS if mark in text), "browser")


def sign_in_url(return_to: str, *, again: bool = False) -> str:
    """The path that signs in and then goes to *return_to*; *again*: anew, whoever is signed in now."""
    return f"{PREFIX}/login?{query(return_to=return_to, **({'again': '1'} if again else {}))}"


def query(**items: str) -> str:
    """A query string, encoded once."""
    return urlencode(items, quote_via=quote, safe="/")
