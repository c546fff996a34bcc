"""A data class of the daemon behaves like one of the standard library."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import FrozenInstanceError, field
from typing import Any, ClassVar

import pytest

from portico_server.core.dataclass import dataclass


def point(decorate: Any, **options: Any) -> Any:
    @decorate(**options)
    class Point:
        x: int
        y: int = 2
        names: list[str] = field(default_factory=list, compare=False)
        secret: str = field(default="", repr=False)
        sign: int = field(default=1, init=False)
        count: ClassVar[int] = 0

    return Point


def outcome(work: Any) -> Any:
    """Return the result or the exception of ``work`` in comparable form."""
    try:
        return repr(work())
    except Exception as error:
        return type(error), str(error)


WORK = {
    "repr": lambda kind: kind(x=1, names=["a"], secret="s"),
    "equal": lambda kind: (kind(x=1) == kind(x=1, names=["a"]), kind(x=1) == kind(x=2), kind(x=1) == 1),
    "hash": lambda kind: len({hash(item) for item in [kind(x=1), kind(x=1)]}),
    "too few values": lambda kind: kind(),
    "too many values": lambda kind: kind(1, 2, [], "s", 3),
    "an unknown name": lambda kind: kind(x=1, z=3),
    "by position": lambda kind: kind(1, 2, ["b"]),
    "replace": lambda kind: dataclasses.replace(kind(x=1), y=3),
    "asdict": lambda kind: dataclasses.asdict(kind(x=1)),
    "copies": lambda kind: (copy.copy(kind(x=1)), copy.deepcopy(kind(x=1, names=["a"]))),
    "set": lambda kind: setattr(kind(x=1), "x", 2),
    "delete": lambda kind: delattr(kind(x=1), "x"),
    "set another": lambda kind: setattr(kind(x=1), "other", 2),
    "patterns": lambda kind: kind.__match_args__,
    "fields": lambda kind: [(item.name, item.init) for item in dataclasses.fields(kind)],
    "its own list": lambda kind: kind(x=1).names is kind(x=1).names,
}


@pytest.mark.parametrize("name", WORK)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"frozen": True},
        {"slots": True},
        {"frozen": True, "slots": True},
        {"frozen": True, "slots": True, "kw_only": True},
        {"slots": True, "eq": False},
    ],
    ids=str,
)
def test_own_dataclasses_behave_like_those_of_the_standard_library(
    name: str, options: dict[str, bool]
) -> None:
    expected_outcome = outcome(lambda: WORK[name](point(dataclasses.dataclass, **options)))
    if options.get("slots") and options.get("frozen") and name == "set another":
        # The standard library raises a TypeError about super() instead, python/cpython#90562.
        expected_outcome = (FrozenInstanceError, "cannot assign to field 'other'")
    assert outcome(lambda: WORK[name](point(dataclass, **options))) == expected_outcome


def test_methods_defined_by_a_class_are_not_overwritten() -> None:
    @dataclass(frozen=True, slots=True)
    class Base:
        x: int
        seen: list[int] = field(default_factory=list)

        def __post_init__(self) -> None:
            self.seen.append(self.x)

        def __repr__(self) -> str:
            return "mine"

        def __hash__(self) -> int:
            return 7

    @dataclass(frozen=True, slots=True)
    class Derived(Base):
        y: int = 0

    class Plain(Derived):
        pass

    assert (repr(Base(1)), hash(Base(1)), Base(3).seen) == ("mine", 7, [3])
    derived = Derived(1, y=2)
    assert (derived.x, derived.y, derived.seen) == (1, 2, [1])
    assert Plain(4).seen == [4]
    assert Derived(1, y=2) == derived
    assert Derived(1) != Base(1)


def test_a_frozen_class_of_the_standard_library_is_extended() -> None:
    @dataclasses.dataclass(frozen=True, slots=True)
    class Noun:
        x: int
        y: object = None

    @dataclass(frozen=True, slots=True)
    class Answer(Noun):
        y: str

    assert Answer(1, "a") == Answer(1, "a") != Answer(1, "b")
    with pytest.raises(dataclasses.FrozenInstanceError):
        Answer(1, "a").x = 2  # type: ignore[misc]
