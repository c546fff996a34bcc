"""The settings that a search tries, all combinations of lists of values or some by chance, and what a trial changes by
them: a data source, a training, apps. Pure.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.core.invalid import missing, not_one_of, wrong, wrong_type

MAX_TRIALS: Final = 1_000
"""Trials of one search."""

MAX_AXES: Final = 16

Settings = Mapping[str, Any]
"""What a trial sets: values by paths."""


@dataclass(frozen=True, slots=True)
class AxisRange:
    """Numbers from ``low`` to ``high``; ``log``: as many between 1 and 10 as between 10 and 100."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def draw(self, chance: random.Random) -> float:
        """One of them."""
        if self.log:
            value = math.exp(chance.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = chance.uniform(self.low, self.high)
        if self.whole:
            return min(max(round(value), math.ceil(self.low)), math.floor(self.high))
        return float(f"{value:.6g}")


@dataclass(frozen=True, slots=True)
class Halving:
    """Successive halving (Jamieson and Talwalkar 2016): all trials do ``first`` items, the best share of
    1/``factor`` of them ``factor`` times as many, and so on.
    """

    first: int
    factor: int = 3


@dataclass(frozen=True, slots=True)
class Axes:
    """What is tried, and in what way."""

    axes: Mapping[str, Sequence[Any] | AxisRange]
    method: Literal["grid", "random"] = "grid"
    trials: int = 0
    seed: int = 0

    @property
    def size(self) -> int:
        """How many combinations there are; 0 for endless."""
        if any(isinstance(axis, AxisRange) for axis in self.axes.values()):
            return 0
        return math.prod(len(axis) for axis in self.axes.values() if not isinstance(axis, AxisRange))

    def settings(self) -> list[Settings]:
        """What each trial sets, no two alike."""
        names = list(self.axes)
        lists = [axis for axis in self.axes.values() if not isinstance(axis, AxisRange)]
        if self.method == "grid":
            return [dict(zip(names, values, strict=True)) for values in itertools.product(*lists)]
        chance = random.Random(self.seed)  # noqa: S311  # no secret
        if self.size:
            places = chance.sample(range(self.size), min(self.trials, self.size))
            return [dict(zip(names, _at(place, lists), strict=True)) for place in places]
        return list(self._drawn(chance))

    def _drawn(self, chance: random.Random) -> Iterator[Settings]:
        seen: list[Settings] = []
        for _attempt in range(self.trials * 10):
            made = {
                name: axis.draw(chance) if isinstance(axis, AxisRange) else chance.choice(axis)
                for name, axis in self.axes.items()
            }
            if made not in seen:
                seen.append(made)
                yield made
            if len(seen) == self.trials:
                return


def _at(place: int, lists: Sequence[Sequence[Any]]) -> list[Any]:
    """The combination of that number."""
    found: list[Any] = []
    for axis in reversed(lists):
        place, number = divmod(place, len(axis))
        found.append(axis[number])
    return found[::-1]


def read(given: Mapping[str, Any]) -> Axes:
    """The axes of a search. Raises `InvalidRequest` that says what to do about too many."""
    parameters = given.get("parameters")
    if parameters is None:
        missing("parameters")
    if not isinstance(parameters, Mapping):
        wrong_type("parameters", "an object of paths with lists of values", parameters)
    if not 1 <= len(parameters) <= MAX_AXES:
        wrong("parameters", f"must have 1 to {MAX_AXES} paths")
    method = given.get("method") or "grid"
    if method not in ("grid", "random"):
        not_one_of("method", method, ("grid", "random"))
    axes = {str(path): _axis(values, f"parameters.{path}", method) for path, values in parameters.items()}
    trials, seed = given.get("trials"), given.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int):
        wrong_type("seed", "a whole number", seed)
    if method == "random":
        if trials is None:
            missing("trials")
        if isinstance(trials, bool) or not isinstance(trials, int) or not 1 <= trials <= MAX_TRIALS:
            wrong("trials", f"must be a whole number from 1 to {MAX_TRIALS:,}")
        return Axes(axes, "random", trials, seed)
    if trials is not None:
        wrong("trials", "belongs to the method 'random'; a grid tries all combinations")
    found = Axes(axes, seed=seed)
    if found.size > MAX_TRIALS:
        raise InvalidRequest(
            f"The grid has {found.size:,} combinations, and a search tries {MAX_TRIALS:,} at most. Give fewer values, "
            f"or try "
            'some of them by chance: "method": "random", "trials": 50.',
            code="grid_too_large",
            param="parameters",
        )
    return found


def _axis(given: Any, at: str, method: str) -> Sequence[Any] | AxisRange:
    if isinstance(given, list):
        if not given:
            wrong(at, "must have at least one value")
        if any(given.index(value) != number for number, value in enumerate(given)):
            wrong(at, "has a value twice")
        return given
    if not isinstance(given, Mapping):
        wrong_type(at, 'a list of values, or {"min": …, "max": …} for the method \'random\'', given)
    if method != "random":
        wrong(at, "is a range, which only the method 'random' can draw from; give a list of values")
    ends = [given.get("min"), given.get("max")]
    if set(given) - {"min", "max", "log", "integer"} or not all(
        isinstance(end, int | float) and not isinstance(end, bool) and math.isfinite(end) for end in ends
    ):
        wrong(at, "must have the numbers 'min' and 'max', and may have 'log' and 'integer'")
    low, high = float(ends[0] or 0), float(ends[1] or 0)
    if not low < high:
        wrong(at, "must have a 'min' below its 'max'")
    if given.get("log") and low <= 0:
        wrong(f"{at}.min", "must be above 0 on a logarithmic scale")
    return AxisRange(low, high, bool(given.get("log")), bool(given.get("integer")))


def read_halving(given: Any, total: int) -> Halving | None:
    """When trials are given up, if they are."""
    if given is None or given is False:
        return None
    if given is True:
        given = {}
    if not isinstance(given, Mapping) or set(given) - {"first", "factor"}:
        wrong("halving", "must be true, or an object with 'first' and 'factor'")
    factor = given.get("factor", 3)
    first = given.get("first", max(4, total // 9))
    for name, value, low, high in (("factor", factor, 2, 10), ("first", first, 1, 50_000)):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            wrong(f"halving.{name}", f"must be a whole number from {low} to {high:,}")
    return Halving(first, factor)


def rounds(trials: int, total: int, halving: Halving | None) -> list[tuple[int, int]]:
    """For each round how many trials take part, and how many items each has done at the end."""
    if halving is None:
        return [(trials, total)]
    found, left, size = [], trials, min(halving.first, total)
    while size < total and left > 1:
        found.append((left, size))
        left, size = max(1, math.ceil(left / halving.factor)), min(size * halving.factor, total)
    return [*found, (left, total)]


def items_asked(plan: Sequence[tuple[int, int]]) -> int:
    """How many items are asked in all rounds together."""
    before = 0
    count = 0
    for left, size in plan:
        count += left * (size - before)
        before = size
    return count
