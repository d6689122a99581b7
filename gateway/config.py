"""Settings: one TOML file and the environment in, a frozen tree out, or one ConfigError that lists every mistake."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NewType, get_args, get_type_hints
from urllib.parse import urlsplit

from cattrs import Converter, transform_error
from cattrs.errors import ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn

from gateway.errors import ConfigError
from gateway.secret import Secret
from gateway.session import Lifetimes
from gateway.urls import Origin, Site

ENVIRONMENT = "WECOM_GATEWAY_"
MIN_KEY_BYTES = 32

Duration = NewType("Duration", int)  #: seconds; written ``30m``, ``12h``, ``7d`` or a number of seconds
HttpUrl = NewType("HttpUrl", str)
Address = NewType("Address", str)  #: ``127.0.0.1:9180`` or ``unix:/run/wecom-gateway/check.sock``
Name = NewType("Name", str)
Host = NewType("Host", str)
VerifyFile = NewType("VerifyFile", str)
Detail = NewType("Detail", str)
Scope = NewType("Scope", str)

DETAILS = ("position", "alias", "email", "mobile", "avatar")
SCOPES = ("snsapi_base", "snsapi_privateinfo")


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """A ``[[site]]`` table."""

    name: Name
    public_url: Origin  #: how browsers reach it: scheme, host, port
    hosts: tuple[Host, ...] = ()  #: further host names, same scheme and port
    keep_fragment: bool = True  #: keep the ``#fragment`` of the page first asked for, by a small page of ours
    cookie_domain: str = ""  #: a parent domain for the session cookie; it then also reaches servers not behind us

    def site(self) -> Site:
        return Site(
            str(self.name),
            self.public_url,
            frozenset({self.public_url.host, *map(str, self.hosts)}),
            self.keep_fragment,
            self.cookie_domain,
        )


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """The ``[session]`` table."""

    lifetime: Duration = Duration(12 * 3600)  #: a session ends so long after sign-in or its last renewal
    max_lifetime: Duration = Duration(7 * 86400)  #: and so long after sign-in whatever happens; 7d at most
    renew_after: Duration = Duration(30 * 60)  #: the member is read again from WeCom at the next page after this
    idle: Duration = Duration(0)  #: a session not renewed for so long asks for a sign-in; 0: off


@dataclass(frozen=True, slots=True)
class WeComSettings:
    """The ``[wecom]`` table: where WeCom is and how to reach it."""

    api_url: HttpUrl = HttpUrl("https://qyapi.weixin.qq.com")
    authorize_url: HttpUrl = HttpUrl("https://open.weixin.qq.com")
    login_url: HttpUrl = HttpUrl("https://login.work.weixin.qq.com")
    private: bool = False  #: a private deployment: old QR page and old ``user/getuserinfo``
    proxy: str = ""  #: outbound HTTP proxy, ``http://user:password@host:port``
    ca_file: str = ""  #: PEM bundle to trust instead of the system's
    ipv4_only: bool = False  #: WeCom's trusted IPs are IPv4 only
    timeout: Duration = Duration(5)  #: for one call
    bad_codes_per_minute: int = 60  #: above so many 40029 a minute no code is exchanged: WeCom would lock out everybody


@dataclass(frozen=True, slots=True)
class Listen:
    """The ``[listen]`` table: three listeners, loopback by default."""

    check: Address = Address("127.0.0.1:9180")  #: what nginx asks for every request
    pages: Address = Address("127.0.0.1:9181")  #: sign-in and everything under /_wecom/
    ops: Address = Address("127.0.0.1:9182")  #: /healthz /readyz /metrics; never proxied


@dataclass(frozen=True, slots=True)
class Config:
    """Everything an operator can set; see the README's table."""

    corp_id: str
    agent_id: int
    app_secret: Secret
    signing_keys: tuple[Secret, ...]
    site: tuple[SiteSettings, ...]
    callback_site: str = ""  #: the site whose host is registered at WeCom; the first by default
    scope: Scope = Scope("snsapi_base")
    details: tuple[Detail, ...] = ()
    raw_headers: bool = False  #: names as UTF-8 instead of percent-encoded
    verify_files: tuple[VerifyFile, ...] = ()
    contact: str = ""  #: whom to ask, shown on refusal pages
    templates: str = ""  #: a folder whose templates replace the built-in pages
    language: str = ""  #: ``zh`` or ``en`` for everybody; empty: by the browser
    cache: bool = True  #: let nginx's cache.conf, where included, keep a positive answer to the end of the second
    remembered_sessions: int = 100_000
    log_level: str = "INFO"
    session: SessionSettings = field(default_factory=SessionSettings)
    wecom: WeComSettings = field(default_factory=WeComSettings)
    listen: Listen = field(default_factory=Listen)

    @property
    def sites(self) -> tuple[Site, ...]:
        return tuple(settings.site() for settings in self.site)

    @property
    def callback(self) -> Site:
        """The site that WeCom sends people back to."""
        wanted = self.callback_site or self.site[0].name
        return next(site for site in self.sites if site.name == wanted)

    @property
    def lifetimes(self) -> Lifetimes:
        session = self.session
        return Lifetimes(session.lifetime, session.max_lifetime, session.renew_after, session.idle)


def load(path: Path | None, environment: Mapping[str, str] = os.environ) -> Config:
    """Read the settings of *path* and *environment*, or raise ConfigError with one sentence per mistake."""
    return from_mapping(_read(path), environment)


def from_mapping(table: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Config:
    """The same from a mapping shaped like the file."""
    merged: dict[str, Any] = {key: dict(value) if isinstance(value, Mapping) else value for key, value in table.items()}
    problems = _apply_environment(merged, environment)
    problems += _read_secret_files(merged)
    _short_forms(merged)
    try:
        config = _CONVERTER.structure(merged, Config)
    except Exception as error:
        problems += [_sentence(line) for line in transform_error(error, path="", format_exception=_what)]
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
    return found


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: is not UTF-8; save it as UTF-8 without BOM"]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: is not TOML: {error}"]) from None


def _settable() -> dict[str, tuple[str, ...]]:
    """Every setting that one environment variable can give: its name without prefix -> its place."""
    places: dict[str, tuple[str, ...]] = {"PUBLIC_URL": ("public_url",), "SIGNING_KEY": ("signing_key",)}
    hints = get_type_hints(Config)
    for item in fields(Config):
        kind = hints[item.name]
        if is_dataclass(kind) and kind is not Secret:
            places |= {f"{item.name}_{inner.name}".upper(): (item.name, inner.name) for inner in fields(kind)}
        elif item.name != "site":
            places[item.name.upper()] = (item.name,)
    secrets = {f"{name}_FILE": (f"{name.lower()}_file",) for name in ("APP_SECRET", "SIGNING_KEY")}
    return places | secrets


def _apply_environment(table: dict[str, Any], environment: Mapping[str, str]) -> list[str]:
    places, problems = _settable(), []
    for name in sorted(environment):
        if not name.startswith(ENVIRONMENT) or name == f"{ENVIRONMENT}CONFIG":
            continue
        place = places.get(name.removeprefix(ENVIRONMENT))
        if place is None:
            problems.append(f"environment {name}: no such setting")
            continue
        target = table
        for step in place[:-1]:
            target = target.setdefault(step, {})
        target[place[-1]] = environment[name]
        _drop_rival(table, place[-1])
    return problems


def _drop_rival(table: dict[str, Any], name: str) -> None:
    """The environment wins over the file, also where the same secret has another spelling there."""
    rivals: dict[str, tuple[str, ...]] = {
        "signing_key": ("signing_keys", "signing_key_file"),
        "signing_keys": ("signing_key", "signing_key_file"),
    }
    rivals |= {"signing_key_file": ("signing_key", "signing_keys"), "app_secret": ("app_secret_file",)}
    rivals |= {"app_secret_file": ("app_secret",), "public_url": ("site",)}
    for rival in rivals.get(name, ()):
        table.pop(rival, None)


def _read_secret_files(table: dict[str, Any]) -> list[str]:
    problems = []
    for name in ("app_secret", "signing_key"):
        path = table.pop(f"{name}_file", None)
        if path is None:
            continue
        if name in table:
            problems.append(f"{name}_file: give either {name} or {name}_file, not both")
            continue
        try:
            table[name] = Path(str(path)).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{name}_file: {path} cannot be read: {error}")
    return problems


def _short_forms(table: dict[str, Any]) -> None:
    """``public_url`` and ``signing_key`` are the short forms of one ``[[site]]`` and of a list of keys."""
    if "signing_key" in table and "signing_keys" not in table:
        key = table.pop("signing_key")
        table["signing_keys"] = key.split() if isinstance(key, str) and "\n" in key else [key]
    if "public_url" in table and "site" not in table:
        table["site"] = [{"name": "default", "public_url": table.pop("public_url")}]


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
        if site.cookie_domain and not all(f".{host}".endswith(f".{site.cookie_domain}") for host in site.hosts):
            found.append(f"site {site.name}: cookie_domain {site.cookie_domain!r} is no parent of every host of the site")
    if config.callback_site and config.callback_site not in names:
        found.append(f"callback_site: no site is named {config.callback_site!r}; there are: {', '.join(names)}")
    session = config.session
    if session.max_lifetime > 7 * 86400:
        found.append("session.max_lifetime: 7d at most")
    if session.lifetime > session.max_lifetime:
        found.append("session.lifetime: longer than session.max_lifetime")
    if session.renew_after >= session.lifetime:
        found.append("session.renew_after: must be shorter than session.lifetime")
    if session.idle and session.idle <= session.renew_after:
        found.append("session.idle: must be longer than session.renew_after, or 0 (a session counts as used when it is renewed)")
    if config.language not in ("", "zh", "en"):
        found.append(f"language: {config.language!r}; allowed: zh, en or empty")
    if config.log_level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        found.append(f"log_level: {config.log_level!r}; allowed: DEBUG, INFO, WARNING, ERROR")
    if not config.corp_id:
        found.append("corp_id: empty; it is on the page 我的企业 of WeCom's console, like ww0123456789abcdef")
    return found


# ── reading single values ──────────────────────────────────────────────────────────────────────────────────────────


def _duration(value: Any, _: Any = None) -> Duration:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return Duration(value)
    match = re.fullmatch(r"(\d{1,9})([smhd]?)", value.strip()) if isinstance(value, str) else None
    if not match:
        raise ValueError(f"a duration like 30m, 12h, 7d or a number of seconds is needed, not {value!r}")
    return Duration(int(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]])


def _origin(value: Any, _: Any = None) -> Origin:
    return Origin.parse(_text(value))


def _http_url(value: Any, _: Any = None) -> HttpUrl:
    text = _text(value).rstrip("/")
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"a base URL like https://qyapi.weixin.qq.com is needed, not {value!r}")
    return HttpUrl(text)


def _address(value: Any, _: Any = None) -> Address:
    text = _text(value)
    if text.startswith("unix:/"):
        return Address(text)
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"an address like 127.0.0.1:9180 or unix:/run/wecom-gateway/check.sock is needed, not {text!r}")
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        raise ValueError("the host must be an IP address, like 127.0.0.1 or 0.0.0.0") from None
    return Address(text)


def _matching(pattern: str, wanted: str) -> Any:
    def structure(value: Any, _: Any = None) -> Any:
        text = _text(value)
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{wanted} is needed, not {text!r}")
        return text

    return structure


def _text(value: Any, _: Any = None) -> str:
    if not isinstance(value, str):
        raise ValueError("a text in quotes is needed")
    return value


def _integer(value: Any, _: Any = None) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value.strip()):
        return int(value)
    raise ValueError(f"a whole number is needed, not {value!r}")


def _boolean(value: Any, _: Any = None) -> bool:
    known = {True: True, False: False, "true": True, "false": False}
    if not isinstance(value, (bool, str)) or value not in known:
        raise ValueError(f"true or false is needed, not {value!r}")
    return known[value]


def _secret(value: Any, _: Any = None) -> Secret:
    text = value if isinstance(value, str) else ""
    if not text or not text.isprintable() or " " in text:
        raise ValueError("a secret without blanks is needed")
    return Secret(text)


def _tuple(value: Any, kind: Any) -> tuple[Any, ...]:
    if isinstance(value, str):  # from the environment
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"a list is needed, not {value!r}")
    return tuple(_CONVERTER.structure(list(value), list[get_args(kind)[0]]))  # type: ignore[arg-type, misc]


def _keys(value: Any, kind: Any) -> tuple[Any, ...]:
    keys = _tuple(value, kind)
    if not keys:
        raise ValueError("at least one key is needed; `wecom-gateway keygen` makes one")
    if any(len(key.reveal()) < MIN_KEY_BYTES for key in keys):
        raise ValueError(f"a key takes at least {MIN_KEY_BYTES} characters; `wecom-gateway keygen` makes one")
    return keys


def _strict(kind: Any) -> bool:
    return is_dataclass(kind) and kind not in (Secret, Origin)


def _converter() -> Converter:
    converter = Converter(detailed_validation=True, forbid_extra_keys=True)
    hooks: dict[Any, Any] = {
        int: _integer,
        str: _text,
        bool: _boolean,
        Secret: _secret,
        Origin: _origin,
        Duration: _duration,
        HttpUrl: _http_url,
        Address: _address,
        Name: _matching(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", "a name of letters, digits, - and _"),
        Host: _matching(r"[0-9a-z][0-9a-z.-]{0,252}", "a host name in lower case, without port"),
        VerifyFile: _matching(r"WW_verify_[A-Za-z0-9]{16}\.txt", "a name like WW_verify_0123456789abcdef.txt"),
        Detail: _matching("|".join(DETAILS), "one of " + ", ".join(DETAILS)),
        Scope: _matching("|".join(SCOPES), " or ".join(SCOPES)),
    }
    for kind, hook in hooks.items():
        converter.register_structure_hook(kind, hook)
    converter.register_structure_hook_func(lambda kind: getattr(kind, "__origin__", None) is tuple, _tuple)
    converter.register_structure_hook_func(lambda kind: kind == tuple[Secret, ...], _keys)
    converter.register_structure_hook_factory(
        _strict, lambda kind: make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True)
    )
    return converter


def _what(error: BaseException, _: Any) -> str:
    if isinstance(error, KeyError):
        return f"is missing: {error.args[0]}"
    if isinstance(error, ForbiddenExtraKeysError):
        allowed = [item.name for item in fields(error.cl)]
        unknown = ", ".join(sorted(map(str, error.extra_fields)))
        return f"unknown: {unknown}; known: {', '.join(allowed)}"
    return str(error)


def _sentence(line: str) -> str:
    """``what @ place`` as cattrs gives it -> ``place: what``."""
    what, _, place = line.rpartition(" @ ")
    place = place.lstrip(".").replace("$", "")
    return f"{place}: {what}" if place else what


_CONVERTER = _converter()
