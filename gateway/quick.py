"""Make a frozen dataclass as quickly as one that is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, make_dataclass
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")


def quick(cls: Callable[P, T]) -> Callable[P, T]:
    """A maker of *cls*, a frozen dataclass with slots, that takes every field.

    A frozen one sets each of its fields by ``object.__setattr__``, and fifteen of them cost more than all else in opening a
    session. Here they are set in a twin that is not frozen, with the same slots, which then becomes one of *cls*.
    """
    kind: Any = cls
    twin: Any = make_dataclass(kind.__name__, [field.name for field in fields(kind)], slots=True)

    def make(*values: P.args, **named: P.kwargs) -> T:
        made = twin(*values, **named)
        made.__class__ = kind
        return cast(T, made)

    return make
