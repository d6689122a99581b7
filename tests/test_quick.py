"""A frozen dataclass made quickly is like any other of its class."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, dataclass, field, replace

import pytest

from gateway.quick import quick


@dataclass(frozen=True, slots=True)
class Place:
    street: str
    number: int = 1
    names: tuple[str, ...] = field(default_factory=tuple)

    @property
    def shown(self) -> str:
        return f"{self.street} {self.number}"


place = quick(Place)


def test_it_is_one_of_its_class() -> None:
    """Equal, with the same hash and methods; a copy with changes is made as ever."""
    made = place("Ring", 3, ("a",))

    assert type(made) is Place
    assert made == place(street="Ring", number=3, names=("a",)) == Place("Ring", 3, ("a",))
    assert hash(made) == hash(Place("Ring", 3, ("a",)))
    assert (made.shown, repr(made)) == ("Ring 3", repr(Place("Ring", 3, ("a",))))
    assert replace(made, number=4) == Place("Ring", 4, ("a",))
    assert pickle.loads(pickle.dumps(made)) == made


def test_it_is_frozen() -> None:
    """Nothing in it changes, and nothing is put beside what it has."""
    made = place("Ring", 3, ())

    with pytest.raises(FrozenInstanceError):
        made.number = 4  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        made.other = 4  # type: ignore[attr-defined]


def test_every_field_is_given() -> None:
    """What has a default too: a maker that left one out would leave nothing there."""
    with pytest.raises(TypeError):
        place("Ring", 3)
