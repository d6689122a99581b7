"""What a rule asks for: terms joined by any, all and not; read from the path of a subrequest or from the settings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

LISTS = ("department", "tag", "user")
"""Kinds that take values, separated by commas."""

MAX_DEPTH = 32
MAX_TERMS = 2000

NAME = re.compile(r"\w[\w-]{0,63}")
"""The name of a rule; a Chinese one arrives percent-encoded from nginx and is read all the same."""

_USER_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.@-]{0,63}")
_NUMBER = re.compile(r"[1-9][0-9]{0,9}")


@dataclass(frozen=True, slots=True)
class Term:
    """``department`` and ``tag`` with an id, or a name to be resolved; ``user`` with a member id; ``leader``; ``rule``."""

    kind: str
    value: int | str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}" if self.value != "" else self.kind


@dataclass(frozen=True, slots=True)
class AnyOf:
    parts: tuple[Criterion, ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    parts: tuple[Criterion, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: Criterion


Criterion = Term | AnyOf | AllOf | Not


def read_term(text: str) -> tuple[Term, ...]:
    """Read ``department:12,15``, ``tag:会计``, ``user:lisi``, ``leader``, ``rule:finance`` or a bare name; else ValueError."""
    kind, colon, values = text.partition(":")
    if not colon:
        return (Term("leader"),) if kind == "leader" else (Term("rule", _rule_name(kind)),)
    if kind == "rule":
        return (Term("rule", _rule_name(values)),)
    if kind not in LISTS:
        raise ValueError(f"unknown kind {kind!r}; known: {', '.join(LISTS)}, leader, or the name of a rule in the settings")
    return tuple(Term(kind, _user_id(value) if kind == "user" else reference(value, kind)) for value in values.split(","))


def reference(text: str, kind: str = "tag") -> int | str:
    """The id in *text*, or the name that it is; ValueError where it can be neither."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return int(text)
    if text.isdigit():
        raise ValueError(f"{text!r} is no {kind}: digits alone are its number, 1 to 10 of them and no 0 in front, never its name")
    if not text or len(text) > 128 or not text.isprintable() or set('/\\:*?"<>|') & set(text):
        raise ValueError(f"{text!r} is no {kind}: its number is needed, or its name")
    return text


def read_rules(value: Any) -> tuple[dict[str, Criterion], list[str]]:
    """Read the ``[rules]`` of the settings: each rule by its name, and a sentence for each mistake."""
    if not isinstance(value, Mapping):
        return {}, ["rules: a table is needed, like [rules.finance]"]
    named, problems = {}, []
    for name, rule in value.items():
        try:
            if not NAME.fullmatch(name):
                raise ValueError("a rule's name has letters, digits, - and _ only, 64 at most")  # noqa: TRY301
            if name in (*LISTS, "leader", "rule"):
                raise ValueError("this word has a meaning of its own; choose another name")  # noqa: TRY301
            named[name] = _criterion(rule)
        except ValueError as error:
            problems.append(f"rules.{name}: {error}")
    return named, problems + _references(named, set(value))


def terms(criterion: Criterion) -> Iterator[Term]:
    """Every term in *criterion*, those of other rules not included."""
    match criterion:
        case Term():
            yield criterion
        case Not(part):
            yield from terms(part)
        case AnyOf(parts) | AllOf(parts):
            for part in parts:
                yield from terms(part)


def _criterion(value: Any, depth: int = 0) -> Criterion:
    """A text is a term, a list is any of its items, a table holds ``any``, ``all``, ``not``: all that it holds must be true."""
    if depth > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    if isinstance(value, str):
        if "/" in value:
            raise ValueError(
                f"{value!r}: here a list joins alternatives, not a slash: {json.dumps(_listed(value), ensure_ascii=False)}"
            )
        return _joined(read_term(value))
    if isinstance(value, list):
        return _joined(_items(value, "a list", depth))
    if not isinstance(value, Mapping):
        raise ValueError(f'a text like "department:3", a list or a table with any, all, not is needed, not {value!r}')
    unknown = [key for key in value if key not in ("any", "all", "not")]
    if unknown or not value:
        raise ValueError(
            f"unknown: {', '.join(unknown)}; known: any, all, not" if unknown else "is empty; it needs any, all or not"
        )
    parts: list[Criterion] = []
    for key, items in value.items():
        found = _items(items if isinstance(items, list) else [items], key, depth)
        parts += [_joined(found)] if key == "any" else found if key == "all" else [Not(_joined(found))]
    return parts[0] if len(parts) == 1 else AllOf(tuple(parts))


def _listed(path: str) -> list[str]:
    """What stands in nginx behind ``/_wecom/auth/``, as the settings would have it."""
    return [each for each in path.removeprefix("/_wecom/auth").split("/") if each]


def _items(items: list[Any], where: str, depth: int) -> list[Criterion]:
    if not items:
        raise ValueError(f"{where} is empty")
    return [_criterion(item, depth + 1) for item in items]


def _joined(parts: list[Criterion] | tuple[Criterion, ...]) -> Criterion:
    return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))


def _rule_name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ValueError(f"no rule is named {text!r}{_full_width(text)}")
    return text


def _user_id(text: str) -> str:
    if not _USER_ID.fullmatch(text):
        raise ValueError(f"{text!r} is no member id{_full_width(text)}")
    return text


def _full_width(text: str) -> str:
    """Signs that an input method put for those of a rule: they look alike."""
    alike = {"：": ":", "，": ",", "／": "/"}
    return "".join(f"; {wide!r} is full-width: {plain!r} is needed (半角)" for wide, plain in alike.items() if wide in text)


def _references(named: Mapping[str, Criterion], written: set[str]) -> list[str]:
    """What is wrong between rules: a name that is none, a circle, too much in one."""
    problems: dict[str, None] = {}
    sizes: dict[str, int] = {}

    def size(name: str, chain: tuple[str, ...]) -> int:
        if name in chain:
            circle = (*chain[chain.index(name) :], name)
            first = min(range(len(circle) - 1), key=lambda at: circle[at])
            turned = (*circle[first:-1], *circle[:first], circle[first])
            problems[f"rules.{turned[0]}: goes round in a circle: {' → '.join(turned)}"] = None
            return 0
        if len(chain) > MAX_DEPTH:
            problems[f"rules.{chain[0]}: refers to rules more than {MAX_DEPTH} deep"] = None
            return 0
        if name not in sizes:
            sizes[name] = sum(_size(term, name, (*chain, name), size, problems, named, written) for term in terms(named[name]))
            if sizes[name] > MAX_TERMS:
                problems[f"rules.{name}: more than {MAX_TERMS} terms, those of the rules it refers to included"] = None
                sizes[name] = 1
        return sizes[name]

    for name in named:
        size(name, ())
    return list(problems)


def _size(
    term: Term,
    name: str,
    chain: tuple[str, ...],
    size: Callable[[str, tuple[str, ...]], int],
    problems: dict[str, None],
    named: Mapping[str, Criterion],
    written: set[str],
) -> int:
    if term.kind != "rule":
        return 1
    other = str(term.value)
    if other in named:
        return size(other, chain)
    if other not in written:  # else its own mistake is told
        known = f"there are: {', '.join(sorted(written))}"
        problems[f"rules.{name}: no rule is named {other!r}; {known}"] = None
    return 1
