"""Who may enter: the rule in a subrequest's path, deny by default.

``/_wecom/auth`` asks for any signed-in member. ``/_wecom/auth/department:12,15/tag:7/user:zhangsan/leader/finance`` lists
alternatives, by segment and, inside one segment, by comma; a bare word is a rule of the settings. What does not parse is a
:class:`~gateway.errors.Denied` ``bad-rule``. So is a refusal that rests on what cannot be known: a department or tag that
the app does not see, a name that nothing bears. What could be known, but is not of this session, is ``stale``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import quote, unquote

from gateway.criteria import AllOf, AnyOf, Criterion, Not, Term, read_term, terms
from gateway.decision import BROKEN, UNSURE, YES, Alternatives, Every, Looked, Never, Node, Verdict, Who
from gateway.errors import Denied, SignInNeeded

AUTH = "/_wecom/auth"
MAX_BYTES = 8192
REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class Rule:
    """A parsed rule: whoever matches one alternative enters; without any, as in ``/_wecom/auth``, every member."""

    text: str
    alternatives: tuple[Criterion, ...] = ()
    problems: tuple[str, ...] = ()  #: why nobody can tell of some part: sentences for log and page
    _decide: Node | None = None

    def verdict(self, who: Who) -> Verdict:
        return self._decide.verdict(who) if self._decide else YES


def check(who: Who, rule: Rule) -> None:
    """Return if *rule* admits *who*; else Denied ``rule`` or ``bad-rule``, or SignInNeeded ``stale``."""
    if rule._decide is None:
        return
    verdict = rule._decide.verdict(who)
    if verdict is YES:
        return
    if verdict is UNSURE:
        raise SignInNeeded("stale", rule=rule.text)
    if verdict is BROKEN:
        raise _bad(rule.text, "; ".join(rule.problems) or "departments could not be read from WeCom yet")
    raise Denied("rule", rule=rule.text)


_NOTHING: Mapping[tuple[str, str], int] = MappingProxyType({})
_NO_REASONS: Mapping[tuple[str, str], str] = MappingProxyType({})
_NO_PROBLEMS: Mapping[int, str] = MappingProxyType({})
_NO_NAMES: Mapping[tuple[str, int], str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What WeCom told about the departments and tags that rules speak of."""

    ids: Mapping[tuple[str, str], int] = field(default_factory=lambda: _NOTHING)  #: (kind, name): what it was resolved to
    unknown: Mapping[tuple[str, str], str] = field(default_factory=lambda: _NO_REASONS)  #: (kind, name): why it was not
    departments: Set[int] | None = None  #: those that the app sees; None while that is not known
    unseen_tags: Mapping[int, str] = field(default_factory=lambda: _NO_PROBLEMS)  #: id: why it cannot be read
    names: Mapping[tuple[str, int], str] = field(default_factory=lambda: _NO_NAMES)  #: (kind, id): its name, where known


class Rules:
    """The rules of the settings, what is known of the departments and tags in them, and the paths read so far."""

    def __init__(self, named: Mapping[str, Criterion] | None = None, tags: Iterable[int | str] = ()) -> None:
        self.named = named or {}
        self._listed = tuple(Term("tag", tag) for tag in tags)
        self._known = Knowledge()
        self._parsed: dict[str, Rule] = {}

    @property
    def known(self) -> Knowledge:
        return self._known

    @property
    def terms(self) -> tuple[Term, ...]:
        """What the settings speak of, each once: the tags listed there and the terms of every named rule."""
        return tuple(dict.fromkeys((*self._listed, *(term for rule in self.named.values() for term in terms(rule)))))

    @property
    def tags(self) -> frozenset[int]:
        """The tags that a session must have looked at."""
        found = (self._id(term) for term in self.terms if term.kind == "tag")
        return frozenset(number for number in found if number is not None)

    def learn(self, known: Knowledge) -> None:
        """Take what WeCom told; every path is read anew with it."""
        self._known = known
        self._parsed = {}

    def lacks(self, who: Looked) -> bool:
        """Whether a rule may be ``stale`` for this session: ancestors or tags were not looked at."""
        return who.partial or not self.tags - self._known.unseen_tags.keys() <= who.tags.keys()

    def parse(self, path: str) -> Rule:
        """Give the rule in the path of a subrequest, as nginx sends it; raise Denied ``bad-rule`` naming what is wrong."""
        rule = self._parsed.get(path)
        if rule is None:
            rule = self._read(path)
            if len(self._parsed) >= REMEMBERED:
                self._parsed = {}
            self._parsed[path] = rule
        return rule

    def rule(self, text: str) -> Rule:
        """The same from its text: what stands after ``/_wecom/auth/``, decoded."""
        return self.parse(f"{AUTH}/{quote(text)}" if text else AUTH)

    def problems(self) -> list[str]:
        """A sentence for each term of the settings that nobody can tell of, naming the rules that it breaks."""
        found = ((term, self.why_broken(term)) for term in self.terms)
        return [f"{self.places(term.kind, term.value)}: {why}" for term, why in found if why]

    def places(self, kind: str, value: int | str) -> str:
        """Where the settings speak of a department or tag: ``tags, rules.finance``."""
        wanted = Term(kind, value)
        listed = ["tags"] if wanted in self._listed else []
        return ", ".join([*listed, *(f"rules.{name}" for name, rule in self.named.items() if wanted in terms(rule))])

    def shown(self, term: Term) -> str:
        """What *term* names, for people: ``财务部 (3)``, ``zhangsan``."""
        number = self._id(term)
        if term.kind not in ("department", "tag") or number is None:
            return str(term.value)
        name = self._known.names.get((term.kind, number), "")
        return f"{name} ({number})" if name else str(number)

    def judged(self, criterion: Criterion, who: Who) -> Verdict:
        """The verdict of one part of a rule, for whoever wants to know which part decides."""
        return self._compiled((criterion,)).verdict(who)

    def _read(self, path: str) -> Rule:
        text = _text(path)
        if not text:
            return Rule(text)
        found: list[Criterion] = []
        for segment in text.split("/"):
            try:
                found += [self._in_path(term) for term in read_term(segment)]
            except ValueError as error:
                raise _bad(text, str(error)) from None
        alternatives = tuple(found)
        problems = tuple(dict.fromkeys(self._broken_in(alternatives)))
        return Rule(text, alternatives, problems, self._compiled(alternatives))

    def _in_path(self, term: Term) -> Term:
        """*term* if a path may hold it."""
        if term.kind == "rule" and term.value not in self.named:
            raise ValueError(f"no rule is named {term.value!r}")
        if term.kind == "department" and isinstance(term.value, str):
            raise ValueError(f"{term.value!r} is no number of a department; names stand in a rule of the settings")
        return term

    def _compiled(self, alternatives: Iterable[Criterion], *, negated: bool = False) -> Node:
        """One node for *alternatives*: those that are terms become sets, those of named rules flow in.

        *negated*: under ``not`` a department that may be out of sight must not let in those of whom it is not told.
        """
        unknown = negated and self._known.departments is None
        sets: dict[str, set[int | str]] = {"department": set(), "user": set(), "tag": set()}
        leader = broken = False
        others: list[Node] = []
        waiting = list(alternatives)
        while waiting:
            match waiting.pop():
                case AnyOf(parts):
                    waiting += parts
                case Term("rule", name):
                    waiting.append(self.named[str(name)])
                case Term("leader"):
                    leader = True
                case Term("user", user_id):
                    sets["user"].add(str(user_id).casefold())
                case Term() as term:
                    number = self._id(term)
                    if number is None or self.why_broken(term):
                        broken = True
                    else:
                        sets[term.kind].add(number)
                        broken |= unknown and term.kind == "department"
                case AllOf(parts):
                    others.append(Every(tuple(self._compiled((part,), negated=negated) for part in parts)))
                case Not(part):
                    others.append(Never(self._compiled((part,), negated=True)))
        if others and len(others) == 1 and not (leader or broken or any(sets.values())):
            return others[0]
        departments, tags = (frozenset(int(number) for number in sets[kind]) for kind in ("department", "tag"))
        return Alternatives(departments, frozenset(map(str, sets["user"])), tags, leader, broken, tuple(others))

    def _broken_in(self, alternatives: Iterable[Criterion]) -> Iterable[str]:
        for criterion in alternatives:
            for term in terms(criterion):
                if term.kind == "rule":
                    yield from self._broken_in((self.named[str(term.value)],))
                elif why := self.why_broken(term):
                    yield why

    def _id(self, term: Term) -> int | None:
        return term.value if isinstance(term.value, int) else self._known.ids.get((term.kind, term.value))

    def why_broken(self, term: Term) -> str:
        """Why nobody can tell of *term*; empty where it can be told."""
        if term.kind not in ("department", "tag"):
            return ""
        number = self._id(term)
        if number is None:
            why = self._known.unknown.get((term.kind, str(term.value)))
            return f"{term}: {why or 'not known yet what this name stands for; WeCom was not reached so far'}"
        shown = str(term) if term.value == number else f"{term} ({number})"
        if term.kind == "department":
            seen = self._known.departments
            once = _ONCE if number != term.value else ""
            return "" if seen is None or number in seen else f"{shown}: {_UNSEEN}{once}{self._bearers(term)}"
        if number not in self.tags:
            return f"{shown}: list this tag under `tags` in the settings, so that a sign-in looks at it"
        return f"{shown}: {why}{self._bearers(term)}" if (why := self._known.unseen_tags.get(number)) else ""

    def _bearers(self, term: Term) -> str:
        """What a number that is nothing may have been meant for: digits are a name, too."""
        names = self._known.names.items()
        found = sorted(number for (kind, number), name in names if kind == term.kind and name == str(term.value))
        if not found or isinstance(term.value, str):
            return ""
        return f"; this is the number of none, but the name of {', '.join(map(str, found[:10]))}: write that number"


_UNSEEN = "the app does not see this department (可见范围), or it is gone"
_ONCE = "; its name was resolved to this number once: if another is meant now, write that one's number"


def written(text: str) -> str:
    """The rule in *text* as people paste it: what stands behind ``/_wecom/auth/``, the path, or the whole directive.

    Empty: any member. A ``/`` with nothing behind is none, and stays: nobody passes by it.
    """
    path = text.strip(" ").removeprefix("auth_request ").removesuffix(";").strip("\"' ")
    return "" if path in ("", AUTH) else path.removeprefix(f"{AUTH}/") or "/"


def _text(path: str) -> str:
    if path == AUTH:
        return ""
    if not path.startswith(AUTH + "/"):
        message = f"auth_request {path[:100]}: the location to ask is {AUTH} or {AUTH}/RULE"
        raise Denied("bad-rule", rule=path[:100], message=message)
    written = path[len(AUTH) + 1 :]
    if len(path) > MAX_BYTES:
        raise _bad(written[:100], f"a rule takes at most {MAX_BYTES} bytes")
    text = unquote(written, errors="replace")
    if not text or not text.isprintable():
        raise _bad(written, "the rule is empty or holds control characters")
    return text


def _bad(text: str, problem: str) -> Denied:
    return Denied("bad-rule", rule=text, message=f"auth_request {AUTH}/{text}: {problem}")
