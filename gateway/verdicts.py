"""Would this member pass, and which part of the rule decides: what the check would say, by what WeCom says now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.criteria import AllOf, AnyOf, Criterion, Not, Term
from gateway.decision import Verdict, Who
from gateway.errors import Denied, SignInNeeded
from gateway.rules import Rules, check


@dataclass(frozen=True, slots=True)
class Step:
    """One part of a rule; what decides is marked from the whole down to the terms."""

    depth: int
    part: str
    verdict: str  #: ``yes``, ``no``, ``unsure`` (its data cannot be read now), ``broken`` (nobody can tell)
    decides: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What becomes of one member by one rule."""

    rule: str
    passes: bool
    reason: str  #: the check's word; empty where the member passes
    why: str = ""  #: what is wrong with the rule
    steps: tuple[Step, ...] = ()


def judge(rules: Rules, text: str, who: Who) -> Answer:
    """The answer to the rule that is written *text*: what stands after ``/_wecom/auth/``, empty for any member."""
    reason = why = ""
    try:
        rule = rules.rule(text)
    except Denied as denied:
        return Answer(text, passes=False, reason=denied.reason, why=str(denied))
    try:
        check(who, rule)
    except SignInNeeded as needed:
        reason = needed.reason
    except Denied as denied:
        reason, why = denied.reason, str(denied) if denied.reason == "bad-rule" else ""
    steps = _steps(rules, AnyOf(rule.alternatives), who, 0, decides=True) if rule.alternatives else ()
    return Answer(text, passes=not reason, reason=reason, why=why, steps=tuple(steps))


def _steps(rules: Rules, part: Criterion, who: Who, depth: int, *, decides: bool) -> Iterator[Step]:
    verdict = rules.judged(part, who)
    inner: tuple[Criterion, ...] = ()
    match part:
        case AnyOf((only,)) | AllOf((only,)):
            yield from _steps(rules, only, who, depth, decides=decides)
            return
        case AnyOf(parts):
            label, inner = "any of", parts
        case AllOf(parts):
            label, inner = "all of", parts
        case Not(negated):
            label, inner = "not", (negated,)
        case Term("rule", name):
            label, inner = f"rule {name}", (rules.named[str(name)],)
        case Term():
            label = f"{part.kind} {rules.shown(part)}".rstrip()
    yield Step(depth, label, verdict.value, decides)
    deciding = _deciding(rules, part, inner, who, verdict)
    for at, each in enumerate(inner):
        yield from _steps(rules, each, who, depth + 1, decides=decides and at in deciding)


def _deciding(rules: Rules, part: Criterion, inner: tuple[Criterion, ...], who: Who, verdict: Verdict) -> set[int]:
    """Which of *inner* make the verdict: the first that is enough, else all of them."""
    if isinstance(part, AnyOf | AllOf):
        same = [at for at, each in enumerate(inner) if rules.judged(each, who) is verdict]
        enough = verdict is not (Verdict.NO if isinstance(part, AnyOf) else Verdict.YES)
        return set(same[:1]) if enough else set(same)
    return set(range(len(inner)))
