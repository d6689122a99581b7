"""Settings: one TOML file and the environment in, a frozen tree out, or one ConfigError that lists every mistake."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_type_hints

from cattrs import Converter, transform_error
from cattrs.errors import ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn

from gateway.accounts import Accounts, Source
from gateway.criteria import Criterion, read_rules
from gateway.errors import ConfigError
from gateway.redis_url import FILES, SCHEMES, RedisUrl
from gateway.secret import SECRETS, UNREAD, Secret, read_files
from gateway.session import LONGEST_S, Lifetimes
from gateway.urls import Origin, Site
from gateway.values import (
    READERS,
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

ENVIRONMENT = "WECOM_GATEWAY_"
MIN_KEY_BYTES = 32
MIN_RETENTION_S = LONGEST_S + 86400
DEMO_KEY = "demo-only-"
NamedRules = dict[str, Criterion]
SHORT_FORMS = ("public_url", "signing_key", "signing_key_file", "app_secret_file", "store_file")


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


def _rules(value: Any) -> tuple[NamedRules, list[str]]:
    """The named rules and their mistakes; of a setting below ``[rules]`` the name is told, not the value: it may be a secret."""
    named, wrong = read_rules(value)
    settings = {f"rules.{name}" for name in _settings()}
    strayed = sorted({place for line in wrong if (place := line.partition(": ")[0]) in settings})
    wrong = [line for line in wrong if line.partition(": ")[0] not in strayed]
    return named, wrong + [f"{place}: is a setting and no rule; {_ABOVE_TABLES}" for place in strayed]


def _settings() -> set[str]:
    return {item.name for item in fields(Config)}.union(SHORT_FORMS)


_ABOVE_TABLES = "what belongs to no table stands above the first [table] of the file"


def load(path: Path | None, environment: Mapping[str, str] = os.environ) -> Config:
    """Read the settings of *path* and *environment*, or raise ConfigError with one sentence per mistake."""
    try:
        return from_mapping(_read(path), environment)
    except ConfigError as error:
        if path is None:
            raise ConfigError([*error.problems, "no file was read; --config or WECOM_GATEWAY_CONFIG names it"]) from None
        raise


def from_mapping(table: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Config:
    """The same from a mapping shaped like the file."""
    merged: dict[str, Any] = {key: dict(value) if isinstance(value, Mapping) else value for key, value in table.items()}
    problems = _apply_environment(merged, environment)
    folder = environment.get("STATE_DIRECTORY", "").partition(":")[0]  # as systemd gives it
    if folder and not merged.keys() & {"store", "store_file"}:
        merged["store"] = f"sqlite://{folder}/ledger.sqlite3"
    problems += read_files(merged)
    short = "public_url" in merged
    problems += _short_forms(merged)
    named, wrong = _rules(merged.pop("rules", {}))
    problems += wrong
    try:
        config = replace(_CONVERTER.structure(merged, Config), rules=named)
    except Exception as error:
        found = [_sentence(line) for line in transform_error(error, path="", format_exception=_what)]
        problems += [line.removeprefix("site[0].") if short else line for line in found]
        raise ConfigError(problems) from None
    problems += _contradictions(config)
    if problems:
        raise ConfigError(problems)
    return config


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


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))  # Windows editors put a mark in front
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: is not UTF-8; save it as UTF-8"]) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError([f"{path}: is not TOML: {error}"]) from None


def _settable() -> dict[str, tuple[str, ...]]:
    """Every setting that one environment variable can give: its name without prefix -> its place."""
    places: dict[str, tuple[str, ...]] = {"PUBLIC_URL": ("public_url",), "SIGNING_KEY": ("signing_key",)}
    hints = get_type_hints(Config)
    for item in fields(Config):
        kind = hints[item.name]
        if _strict(kind):
            places |= {f"{item.name}_{inner.name}".upper(): (item.name, inner.name) for inner in fields(kind)}
        elif item.name not in ("site", "rules"):
            places[item.name.upper()] = (item.name,)
    files = {f"{'_'.join(place)}_FILE".upper(): (*place[:-1], f"{place[-1]}_file") for place in SECRETS}
    return places | files


def _apply_environment(table: dict[str, Any], environment: Mapping[str, str]) -> list[str]:
    places, problems = _settable(), []
    for name in sorted(environment):
        if not name.startswith(ENVIRONMENT) or name == f"{ENVIRONMENT}CONFIG":
            continue
        place = places.get(name.removeprefix(ENVIRONMENT))
        if place is None:
            problems.append(f"environment {name}: no such setting")
            continue
        target: Any = table
        for step in place[:-1]:
            target = target.setdefault(step, {})
        if isinstance(target, dict):  # else the file's mistake is reported
            target[place[-1]] = environment[name]
            _drop_rival(target, place[-1])
    return problems


def _drop_rival(table: dict[str, Any], name: str) -> None:
    """The environment wins over the file, also where the same secret has another spelling there."""
    rivals: dict[str, tuple[str, ...]] = {
        "signing_key": ("signing_keys", "signing_key_file"),
        "signing_keys": ("signing_key", "signing_key_file"),
    }
    rivals |= {"signing_key_file": ("signing_key", "signing_keys"), "app_secret": ("app_secret_file",)}
    rivals |= {"app_secret_file": ("app_secret",), "public_url": ("site",), "store": ("store_file",), "store_file": ("store",)}
    rivals |= {"token": ("token_file",), "token_file": ("token",), "aes_key": ("aes_key_file",), "aes_key_file": ("aes_key",)}
    for rival in rivals.get(name, ()):
        table.pop(rival, None)


def _short_forms(table: dict[str, Any]) -> list[str]:
    """``public_url`` and ``signing_key`` are the short forms of one ``[[site]]`` and of a list of keys."""
    problems = []
    for short, long in (("signing_key", "signing_keys"), ("public_url", "site")):
        if short in table and long in table:
            problems.append(f"{short}: give either {short} or {long}, not both")
            del table[short]
    if "signing_key" in table:
        key = table.pop("signing_key")
        table["signing_keys"] = key.split() if isinstance(key, str) and "\n" in key else [key]
    if "public_url" in table:
        table["site"] = [{"name": "default", "public_url": table.pop("public_url")}]
    return problems


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
            if path:
                Path(path).read_bytes()
        except (OSError, ValueError) as error:
            found.append(f"{name}: {path} cannot be read: {getattr(error, 'strerror', '') or error}")
    return found


def _contradictions(config: Config) -> list[str]:
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
    session = config.session
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
    found += _recheck(config.recheck) + _events(config.events) + _listen(config.listen) + _tls_files(config)
    if any(key.reveal().startswith(DEMO_KEY) for key in config.signing_keys):
        public = [str(site) for site in config.sites if site.origin.host not in ("localhost", "127.0.0.1")]
        if public:
            found.append("signing_keys: the demo's key, which everybody can read; `wecom-gateway keygen` makes one of your own")
    if config.directory.refresh < 60:
        found.append("directory.refresh: 60s at least; each time every department is read from WeCom")
    if config.wecom.timeout < 1:
        found.append("wecom.timeout: 1s at least; 0 would wait for ever")
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


# ── reading the tree ───────────────────────────────────────────────────────────────────────────────────────────────────


def _tuple(value: Any, kind: Any) -> tuple[Any, ...]:
    if isinstance(value, str):  # from the environment
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"a list is needed, not {value!r}")
    return tuple(_CONVERTER.structure(list(value), list[get_args(kind)[0]]))  # type: ignore[arg-type, misc]


def _keys(value: Any, kind: Any) -> tuple[Any, ...]:
    if not isinstance(value, (str, list, tuple)):
        raise ValueError("a list of keys is needed")  # and what was found may hold one
    keys = _tuple(value, kind)
    if not keys:
        raise ValueError("at least one key is needed; `wecom-gateway keygen` makes one")
    if any(len(key.reveal()) < MIN_KEY_BYTES and key.reveal() != UNREAD for key in keys):
        raise ValueError(f"a key takes at least {MIN_KEY_BYTES} characters; `wecom-gateway keygen` makes one")
    return keys


def _sites(value: Any, kind: Any) -> tuple[Any, ...]:
    if isinstance(value, Mapping):
        raise ValueError("write [[site]] in two pairs of brackets, once for each site")
    sites = _tuple(value, kind)
    if not sites:
        raise ValueError("at least one [[site]] is needed")
    return sites


def _no_rules(_: Any, __: Any = None) -> NamedRules:
    return {}  # they are read apart, so that each mistake in them is told


def _strict(kind: Any) -> bool:
    return is_dataclass(kind) and kind not in (Secret, Origin, Source)


def _table(kind: Any, converter: Converter) -> Any:
    structure = make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True)

    def checked(value: Any, _: Any = None) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError("a table is needed")
        return structure(value, kind)

    return checked


def _converter() -> Converter:
    converter = Converter(detailed_validation=True, forbid_extra_keys=True)
    for kind, hook in READERS.items():
        converter.register_structure_hook(kind, hook)
    converter.register_structure_hook_func(lambda kind: getattr(kind, "__origin__", None) is tuple, _tuple)
    converter.register_structure_hook_func(lambda kind: kind == tuple[Secret, ...], _keys)
    converter.register_structure_hook_func(lambda kind: kind == tuple[SiteSettings, ...], _sites)
    converter.register_structure_hook_func(lambda kind: kind == NamedRules, _no_rules)
    converter.register_structure_hook_factory(_strict, lambda kind: _table(kind, converter))
    return converter


def _what(error: BaseException, _: Any) -> str:
    if isinstance(error, KeyError):
        return _MISSING.get(error.args[0], "is missing")
    if isinstance(error, ForbiddenExtraKeysError):
        allowed = [item.name for item in fields(error.cl)] + list(SHORT_FORMS if error.cl is Config else ())
        unknown = ", ".join(sorted(map(str, error.extra_fields)))
        strayed = error.cl is not Config and error.extra_fields & _settings()
        near = [(name, get_close_matches(str(name), allowed, 1)) for name in sorted(map(str, error.extra_fields))]
        meant = "".join(f"; is {name} meant to be {best[0]}?" for name, best in near if best)
        return f"unknown: {unknown}; known: {', '.join(allowed)}{f'; {_ABOVE_TABLES}' if strayed else meant}"
    return str(error)


def _sentence(line: str) -> str:
    """``what @ place`` as cattrs gives it -> ``place: what``."""
    what, _, place = line.rpartition(" @ ")
    place = place.lstrip(".").replace("$", "")
    return f"{place}: {what}" if place else what


_MISSING = {
    "site": "is missing; give `public_url`, or a [[site]] with name and public_url",
    "signing_keys": "is missing; give `signing_key` or `signing_key_file`; `wecom-gateway keygen` makes one",
    "app_secret": "is missing; give `app_secret` or `app_secret_file`",
}
_CONVERTER = _converter()
