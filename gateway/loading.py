"""Settings in: one TOML file and the environment, to a Config, or one ConfigError that lists every mistake."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_type_hints

from cattrs import Converter, transform_error
from cattrs.errors import ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn

from gateway.accounts import Source
from gateway.config import Config, NamedRules, SiteSettings
from gateway.contradictions import contradictions
from gateway.criteria import read_rules
from gateway.errors import ConfigError
from gateway.secret import SECRETS, UNREAD, Secret, read_files
from gateway.urls import Origin
from gateway.values import READERS

ENVIRONMENT = "WECOM_GATEWAY_"
MIN_KEY_BYTES = 32
SHORT_FORMS = ("public_url", "signing_key", "signing_key_file", "app_secret_file", "store_file")


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
    problems += contradictions(config)
    if problems:
        raise ConfigError(problems)
    return config


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    text = ""
    try:
        text = path.read_text("utf-8-sig")  # Windows editors put a mark in front
        return tomllib.loads(text)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: is not UTF-8; save it as UTF-8"]) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError([f"{path}: is not TOML: {error}{_full_width(text, str(error))}"]) from None


def _full_width(text: str, told: str) -> str:
    """The sign at the place that was *told*, where an input method put another like it; at a line's end the last quote."""
    place = re.search(r"line ([0-9]+), column ([0-9]+)", told)
    if not place:
        return ""
    line, column = text.replace("\r\n", "\n").split("\n")[int(place[1]) - 1], int(place[2])
    sign = line[column - 1 : column] or "".join(re.findall("[”’＂＇]", line)[-1:])
    return "" if sign.isascii() else f"; {sign!r} there is no sign of TOML: type \" ' = , # [ ] and blanks in half width (半角)"


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
            near = get_close_matches(name.removeprefix(ENVIRONMENT), places, 1, 0.75)
            meant = "".join(f"; is it meant to be {ENVIRONMENT}{each}?" for each in near)
            problems.append(f"environment {name}: no such setting{meant}")
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


def _rules(value: Any) -> tuple[NamedRules, list[str]]:
    """The named rules and their mistakes; of a setting below ``[rules]`` the name is told, not the value: it may be a secret."""
    named, wrong = read_rules(value)
    settings = {f"rules.{name}" for name in _settings()}
    strayed = sorted({place for line in wrong if (place := line.partition(": ")[0]) in settings})
    wrong = [line for line in wrong if line.partition(": ")[0] not in strayed]
    return named, wrong + [f"{place}: is a setting and no rule; {_ABOVE_TABLES}" for place in strayed]


def _settings() -> set[str]:
    return {item.name for item in fields(Config)}.union(SHORT_FORMS)


def _inner() -> dict[str, str]:
    """What belongs below a table, and below which."""
    hints = get_type_hints(Config)
    tables = {f"[{item.name}]": fields(hints[item.name]) for item in fields(Config) if _strict(hints[item.name])}
    tables["[[site]], with its name and its public_url"] = fields(SiteSettings)
    return {inner.name: table for table, each in tables.items() for inner in each}


_ABOVE_TABLES = "what belongs to no table stands above the first [table] of the file"


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
        meant += "".join(f"; {name} stands below {_inner()[name]}" for name in sorted(error.extra_fields & _inner().keys()))
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
