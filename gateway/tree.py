"""The departments that the app sees: several roots, parents out of sight, circles; who is above whom, and what bears a name."""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Protocol

MAX_LEVELS = 64
"""More ancestors than any corp has; a circle in the data, or a chain without end, stops here."""


class Department(Protocol):
    """A :class:`gateway.wecom.Department`; ``name`` is empty where names were not asked for."""

    @property
    def id(self) -> int: ...
    @property
    def parent(self) -> int: ...
    @property
    def name(self) -> str: ...


class Tree:
    """One reading of the departments; an ancestor is known only where the app sees it."""

    def __init__(self, departments: Iterable[Department] = ()) -> None:
        rows = list(departments)
        self._parents = {row.id: row.parent for row in rows}
        self._names = {row.id: row.name for row in rows if row.name}
        self._above: dict[int, tuple[int, ...]] = {}

    @property
    def ids(self) -> Set[int]:
        return self._parents.keys()

    def __len__(self) -> int:
        return len(self._parents)

    def above(self, department: int) -> tuple[int, ...]:
        """The ancestors of *department*, nearest first, as far as the app sees them."""
        if department not in self._parents:
            return ()
        found = self._above.get(department)
        if found is None:
            found = self._above[department] = self._climb(department)
        return found

    def _climb(self, department: int) -> tuple[int, ...]:
        path: dict[int, None] = {department: None}
        current = self._parents[department]
        while current in self._parents and current not in path and len(path) < MAX_LEVELS:
            path[current] = None
            current = self._parents[current]
        return tuple(path)[1:]

    def placed(self, own: Iterable[int]) -> tuple[int, ...]:
        """*own* departments first, then their ancestors, each once."""
        own = tuple(own)
        return tuple(dict.fromkeys((*own, *(each for department in own for each in self.above(department)))))

    def name(self, department: int) -> str:
        return self._names.get(department, "")

    def path(self, department: int) -> str:
        """Where it stands: ``管理中心/财务部``."""
        return "/".join(self.name(each) or str(each) for each in (*reversed(self.above(department)), department))

    def named(self, name: str) -> list[int]:
        """The departments that bear *name*, lowest number first."""
        return sorted(department for department, each in self._names.items() if each == name)

    @property
    def names(self) -> dict[int, str]:
        return dict(self._names)
