"""The settings: every table and value an operator can set, with its default, and what the gateway makes of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.accounts import Accounts, Source
from gateway.criteria import Criterion
from gateway.secret import Secret
from gateway.session import LONGEST_S, Lifetimes
from gateway.urls import Origin, Site
from gateway.values import (
    Address,
    CorpId,
    Detail,
    Duration,
    Host,
    HttpUrl,
    Language,
    LogLevel,
    Name,
    Proxy,
    Scope,
    StoreUrl,
    SyslogUrl,
    TagName,
    Unreachable,
    VerifyFile,
)

NamedRules = dict[str, Criterion]


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """A ``[[site]]`` table."""

    name: Name
    public_url: Origin  #: how browsers reach it: scheme, host, port
    hosts: tuple[Host, ...] = ()  #: further host names, same scheme and port
    keep_fragment: bool = True  #: keep the ``#fragment`` of the page first asked for, by a small page of ours
    cookie_domain: str = ""  #: a parent domain for the session cookie; it then also reaches servers not behind us
    account: Source | None = None  #: as the setting of this name for all sites, and the two below
    preflight: bool | None = None
    jwt: bool | None = None


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """The ``[session]`` table."""

    lifetime: Duration = Duration(12 * 3600)  #: a session ends so long after sign-in or its last renewal
    max_lifetime: Duration = Duration(LONGEST_S)  #: and so long after sign-in whatever happens; 7d at most
    renew_after: Duration = Duration(30 * 60)  #: the member is read again from WeCom at the next page after this
    idle: Duration = Duration(0)  #: a session not renewed for so long asks for a sign-in; 0: off


@dataclass(frozen=True, slots=True)
class WeComSettings:
    """The ``[wecom]`` table: where WeCom is and how to reach it."""

    api_url: HttpUrl = HttpUrl("https://qyapi.weixin.qq.com")
    authorize_url: HttpUrl = HttpUrl("https://open.weixin.qq.com")
    login_url: HttpUrl = HttpUrl("https://login.work.weixin.qq.com")
    private: bool = False  #: a private deployment: old QR page and old ``user/getuserinfo``
    proxy: Proxy = field(default=Proxy(""), repr=False)  #: outbound HTTP proxy, ``http://user:password@host:port``
    ca_file: str = ""  #: PEM bundle to trust instead of the system's
    ipv4_only: bool = False  #: WeCom's trusted IPs are IPv4 only
    timeout: Duration = Duration(5)  #: for one call
    bad_codes_per_minute: int = 60  #: above so many 40029 a minute no code is exchanged: WeCom would lock out everybody


@dataclass(frozen=True, slots=True)
class RecheckSettings:
    """The ``[recheck]`` table: members who are here are read again from WeCom in the background."""

    every: Duration = Duration(600)  #: each member so often; 0: never
    per_minute: int = 600  #: at most so many calls a minute; WeCom's own limit is 10 000 for all that the corp asks
    unreachable: Unreachable = Unreachable("keep")  #: while WeCom does not answer sessions go on; ``close``: for ``grace``
    grace: Duration = Duration(3600)  #: with ``close``, how long after the last answer


@dataclass(frozen=True, slots=True)
class EventSettings:
    """The ``[events]`` table: the callback (接收消息) of the app in WeCom's console; empty: no events."""

    token: Secret = Secret("")
    aes_key: Secret = Secret("")  #: EncodingAESKey


@dataclass(frozen=True, slots=True)
class DirectorySettings:
    """The ``[directory]`` table: departments and tags."""

    refresh: Duration = Duration(10 * 60)  #: they are read again from WeCom so often, in the background


@dataclass(frozen=True, slots=True)
class Listen:
    """The ``[listen]`` table: three listeners, loopback by default."""

    check: Address = Address("127.0.0.1:9180")  #: what nginx asks for every request
    pages: Address = Address("127.0.0.1:9181")  #: sign-in and everything under /_wecom/
    ops: Address = Address("127.0.0.1:9182")  #: /healthz /readyz /metrics; never proxied
    reuse_port: bool = False  #: several processes share the ports of check and pages; each has an ops of its own


@dataclass(frozen=True, slots=True)
class Config:
    """Everything an operator can set; see the README's table."""

    corp_id: CorpId
    agent_id: int
    app_secret: Secret
    signing_keys: tuple[Secret, ...]
    site: tuple[SiteSettings, ...]
    callback_site: str = ""  #: the site whose host is registered at WeCom; the first by default
    scope: Scope = Scope("snsapi_base")
    details: tuple[Detail, ...] = ()
    account: Source = Source()  #: the name that the app knows the member by
    preflight: bool = False  #: let CORS preflights pass, without an identity
    jwt: bool = False  #: send a signed proof of the identity headers
    raw_headers: bool = False  #: names as UTF-8 instead of percent-encoded
    verify_files: tuple[VerifyFile, ...] = ()
    tags: tuple[TagName, ...] = ()  #: numbers or names of the tags that rules in nginx's paths use
    contact: str = ""  #: whom to ask, shown on refusal pages
    templates: str = ""  #: a folder whose templates replace the built-in pages
    language: Language = Language("")  #: ``zh`` or ``en`` for everybody; empty: by the browser
    cache: bool = True  #: let nginx's cache.conf, where included, keep a positive answer to the end of the second
    remembered_sessions: int = 50_000
    store: StoreUrl = field(default=StoreUrl("sqlite:///var/lib/wecom-gateway/ledger.sqlite3"), repr=False)  #: the ledger
    syslog: SyslogUrl = SyslogUrl("")  #: a syslog server that gets every entry of the ledger
    syslog_ca_file: str = ""  #: PEM bundle to trust for it instead of the system's
    retention: Duration = Duration(200 * 86400)  #: how long its entries are kept
    log_level: LogLevel = LogLevel("INFO")
    rules: NamedRules = field(default_factory=dict)  #: named rules, ``/_wecom/auth/NAME``
    session: SessionSettings = field(default_factory=SessionSettings)
    wecom: WeComSettings = field(default_factory=WeComSettings)
    recheck: RecheckSettings = field(default_factory=RecheckSettings)
    events: EventSettings = field(default_factory=EventSettings)
    directory: DirectorySettings = field(default_factory=DirectorySettings)
    listen: Listen = field(default_factory=Listen)

    @property
    def sites(self) -> tuple[Site, ...]:
        return tuple(self._site(settings) for settings in self.site)

    @property
    def callback(self) -> Site:
        """The site that WeCom sends people back to."""
        wanted = self.callback_site or self.site[0].name
        return next(site for site in self.sites if site.name == wanted)

    @property
    def accounts(self) -> Accounts:
        return Accounts({site.name: site.account for site in self.sites}, callback=self.callback.name)

    def _site(self, site: SiteSettings) -> Site:
        return Site(
            str(site.name),
            site.public_url,
            frozenset({site.public_url.host, *map(str, site.hosts)}),
            site.keep_fragment,
            site.cookie_domain,
            account=self.account if site.account is None else site.account,
            preflight=self.preflight if site.preflight is None else site.preflight,
            jwt=self.jwt if site.jwt is None else site.jwt,
        )

    @property
    def owner(self) -> str:
        """Tells the app's records apart where several gateways share a Redis."""
        return f"{self.corp_id}:{self.agent_id}"

    @property
    def lifetimes(self) -> Lifetimes:
        session = self.session
        return Lifetimes(session.lifetime, session.max_lifetime, session.renew_after, session.idle, reread_s=self.recheck.every)
