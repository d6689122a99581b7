"""Names of departments and tags in the settings, each resolved once to an id: an id stays when a name changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches

from gateway.records import Record
from gateway.tree import Tree

Name = tuple[str, str]
"""Kind (``department``, ``tag``) and name."""

Shown = Callable[[int], str]


class Resolved:
    """What names were resolved to, for each corp; fed by the ledger's ``named`` records, the first of a name counts."""

    def __init__(self) -> None:
        self._ids: dict[str, dict[Name, int]] = {}

    def known(self, corp_id: str) -> Mapping[Name, int]:
        return self._ids.get(corp_id, {})

    def apply(self, record: Record) -> None:
        if record.kind == "named":
            corp, kind, name, number = (record.details.get(key) for key in ("corp", "kind", "name", "id"))
            if type(number) is int:
                self._ids.setdefault(str(corp), {}).setdefault((str(kind), str(name)), number)

    def records(self, now: float) -> list[Record]:
        """The same as records that bring it about elsewhere."""
        return [record(corp, name, number, now) for corp, ids in self._ids.items() for name, number in ids.items()]


def record(corp_id: str, name: Name, number: int, now: float) -> Record:
    """What the ledger keeps of a name that was resolved."""
    return Record("named", now, details={"corp": corp_id, "kind": name[0], "name": name[1], "id": number})


def resolve(wanted: Iterable[Name], tree: Tree, tags: Mapping[int, str]) -> tuple[dict[Name, int], dict[Name, str]]:
    """Give the id of each name that exactly one department or tag bears, and for each other name what is wrong with it."""
    found: dict[Name, int] = {}
    wrong: dict[Name, str] = {}
    for kind, name in dict.fromkeys(wanted):
        known = tree.names if kind == "department" else dict(tags)
        shown: Shown = _shown_department(tree) if kind == "department" else _shown_tag(known)
        bearers = sorted(number for number, each in known.items() if each == name)
        if len(bearers) == 1:
            found[kind, name] = bearers[0]
        else:
            wrong[kind, name] = _ambiguous(bearers, shown) if bearers else _unknown(kind, name, known, shown)
    return found, wrong


def _ambiguous(bearers: list[int], shown: Shown) -> str:
    return f"{len(bearers)} bear this name; write the number of one: {', '.join(map(shown, bearers[:10]))}"


def _unknown(kind: str, name: str, known: Mapping[int, str], shown: Shown) -> str:
    close = set(get_close_matches(name, sorted(set(known.values()))[:2000], n=5, cutoff=0.4))
    near = [number for number, each in known.items() if each in close or name in each]
    candidates = sorted(near or known)[:10]
    there = f"; there are: {', '.join(map(shown, candidates))}{', …' if len(known) > len(candidates) else ''}" if known else ""
    return f"no {kind} that the app sees bears this name{there}"


def _shown_department(tree: Tree) -> Shown:
    return lambda number: f"{number} ({tree.path(number)})"


def _shown_tag(known: Mapping[int, str]) -> Shown:
    return lambda number: f"{number} ({known[number]})"
