"""What a rule asks for, for people: its parts with the names of departments and tags, as far as these are known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gateway.criteria import AllOf, AnyOf, Criterion, Not, Term
from gateway.errors import Denied
from gateway.rules import Rules


@dataclass(frozen=True, slots=True)
class Part:
    """``department``, ``tag``, ``user``, ``leader`` with what it names; ``any``, ``all``, ``not`` with their parts."""

    kind: str
    what: str = ""
    parts: tuple[Part, ...] = ()
    broken: bool = False  #: nobody can tell: the app does not see it

    def __str__(self) -> str:
        if not self.parts:
            return f"{self.kind} {self.what}".rstrip()
        inner = {"any": " or ", "all": " and "}.get(self.kind, "").join(map(str, self.parts))
        return f"not {inner}" if self.kind == "not" else f"({inner})" if len(self.parts) > 1 else inner


def asked(rules: Rules, text: str) -> tuple[Part, ...]:
    """The alternatives of the rule that is written *text*; none where it cannot be read, or asks for nothing."""
    try:
        rule = rules.rule(text)
    except Denied:
        return ()
    return tuple(dict.fromkeys(_flat(_part(rules, each) for each in rule.alternatives)))


def _flat(parts: Iterable[Part]) -> Iterator[Part]:
    for part in parts:
        yield from part.parts if part.kind == "any" else (part,)


def _part(rules: Rules, criterion: Criterion) -> Part:
    match criterion:
        case Term("rule", name):
            return _part(rules, rules.named[str(name)])
        case Term():
            return Part(criterion.kind, rules.shown(criterion), broken=bool(rules.why_broken(criterion)))
        case Not(part):
            return Part("not", parts=(_part(rules, part),))
        case AnyOf(parts):
            return Part("any", parts=tuple(_flat(_part(rules, part) for part in parts)))
        case AllOf(parts):
            return Part("all", parts=tuple(_part(rules, part) for part in parts))
