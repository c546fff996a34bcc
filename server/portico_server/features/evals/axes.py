"""The settings that a search tries, and the changes that a trial makes: to a data source, a training job, or apps.
Pure.

A search tries all combinations of lists of values, or a random selection.
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
"""Maximum number of trials in a search."""

MAX_AXES: Final = 16

Settings = Mapping[str, Any]
"""The settings of a trial: maps paths to values."""


@dataclass(frozen=True, slots=True)
class AxisRange:
    """A range of numbers from ``low`` to ``high``. With ``log``, the scale is logarithmic: as many values are drawn
    between 1 and 10 as between 10 and 100.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def draw(self, chance: random.Random) -> float:
        """Return a random number from the range."""
        if self.log:
            value = math.exp(chance.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = chance.uniform(self.low, self.high)
        if self.whole:
            return min(max(round(value), math.ceil(self.low)), math.floor(self.high))
        return float(f"{value:.6g}")


@dataclass(frozen=True, slots=True)
class Halving:
    """Successive halving (Jamieson and Talwalkar 2016): all trials process ``first`` items; the best 1/``factor`` of
    the trials process ``factor`` times as many, and so on.
    """

    first: int
    factor: int = 3


@dataclass(frozen=True, slots=True)
class Axes:
    """The settings that a search varies, and its method."""

    axes: Mapping[str, Sequence[Any] | AxisRange]
    method: Literal["grid", "random"] = "grid"
    trials: int = 0
    seed: int = 0

    @property
    def size(self) -> int:
        """The number of combinations; 0 if unlimited."""
        if any(isinstance(axis, AxisRange) for axis in self.axes.values()):
            return 0
        return math.prod(len(axis) for axis in self.axes.values() if not isinstance(axis, AxisRange))

    def settings(self) -> list[Settings]:
        """Return the settings of all trials, without duplicates."""
        names = list(self.axes)
        lists = [axis for axis in self.axes.values() if not isinstance(axis, AxisRange)]
        if self.method == "grid":
            return [dict(zip(names, values, strict=True)) for values in itertools.product(*lists)]
        chance = random.Random(self.seed)  # noqa: S311  # no secret
        if self.size:
            places = chance.sample(range(self.size), min(self.trials, self.size))
            return [dict(zip(names, _at(place, lists), strict=True)) for place in places]
        return list(self._draw(chance))

    def _draw(self, chance: random.Random) -> Iterator[Settings]:
        seen_settings: list[Settings] = []
        for _attempt in range(self.trials * 10):
            settings = {
                name: axis.draw(chance) if isinstance(axis, AxisRange) else chance.choice(axis)
                for name, axis in self.axes.items()
            }
            if settings not in seen_settings:
                seen_settings.append(settings)
                yield settings
            if len(seen_settings) == self.trials:
                return


def _at(place: int, lists: Sequence[Sequence[Any]]) -> list[Any]:
    """Return the combination with the index ``place``."""
    values: list[Any] = []
    for axis in reversed(lists):
        place, number = divmod(place, len(axis))
        values.append(axis[number])
    return values[::-1]


def read(fields: Mapping[str, Any]) -> Axes:
    """Parse the settings that a search varies. Raises `InvalidRequest`, which says what to do if there are too many
    combinations.
    """
    parameters = fields.get("parameters")
    if parameters is None:
        missing("parameters")
    if not isinstance(parameters, Mapping):
        wrong_type("parameters", "an object that maps paths to lists of values", parameters)
    if not 1 <= len(parameters) <= MAX_AXES:
        wrong("parameters", f"must have 1 to {MAX_AXES} paths")
    method = fields.get("method") or "grid"
    if method not in ("grid", "random"):
        not_one_of("method", method, ("grid", "random"))
    axes = {str(path): _axis(values, f"parameters.{path}", method) for path, values in parameters.items()}
    trials, seed = fields.get("trials"), fields.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int):
        wrong_type("seed", "a whole number", seed)
    if method == "random":
        if trials is None:
            missing("trials")
        if isinstance(trials, bool) or not isinstance(trials, int) or not 1 <= trials <= MAX_TRIALS:
            wrong("trials", f"must be an integer from 1 to {MAX_TRIALS:,}")
        return Axes(axes, "random", trials, seed)
    if trials is not None:
        wrong("trials", "requires the method 'random'; a grid tries all combinations")
    found_axes = Axes(axes, seed=seed)
    if found_axes.size > MAX_TRIALS:
        raise InvalidRequest(
            f"The grid has {found_axes.size:,} combinations, but a search tries at most {MAX_TRIALS:,}. Send "
            'fewer values, or try a random selection: "method": "random", "trials": 50.',
            code="grid_too_large",
            param="parameters",
        )
    return found_axes


def _axis(given_value: Any, at: str, method: str) -> Sequence[Any] | AxisRange:
    if isinstance(given_value, list):
        if not given_value:
            wrong(at, "must have at least one value")
        if any(given_value.index(value) != number for number, value in enumerate(given_value)):
            wrong(at, "contains a duplicate value")
        return given_value
    if not isinstance(given_value, Mapping):
        wrong_type(at, 'a list of values, or {"min": …, "max": …} for the method \'random\'', given_value)
    if method != "random":
        wrong(at, "is a range, which requires the method 'random'; give a list of values")
    ends = [given_value.get("min"), given_value.get("max")]
    if set(given_value) - {"min", "max", "log", "integer"} or not all(
        isinstance(end, int | float) and not isinstance(end, bool) and math.isfinite(end) for end in ends
    ):
        wrong(at, "must contain the numbers 'min' and 'max', and may contain 'log' and 'integer'")
    low, high = float(ends[0] or 0), float(ends[1] or 0)
    if not low < high:
        wrong(at, "must have a 'min' below its 'max'")
    if given_value.get("log") and low <= 0:
        wrong(f"{at}.min", "must be above 0 on a logarithmic scale")
    return AxisRange(low, high, bool(given_value.get("log")), bool(given_value.get("integer")))


def read_halving(given_value: Any, total: int) -> Halving | None:
    """Parse the rule for stopping bad trials early; ``None`` if the search has no such rule."""
    if given_value is None or given_value is False:
        return None
    if given_value is True:
        given_value = {}
    if not isinstance(given_value, Mapping) or set(given_value) - {"first", "factor"}:
        wrong("halving", "must be true, or an object with 'first' and 'factor'")
    factor = given_value.get("factor", 3)
    first = given_value.get("first", max(4, total // 9))
    for name, value, low, high in (("factor", factor, 2, 10), ("first", first, 1, 50_000)):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            wrong(f"halving.{name}", f"must be an integer from {low} to {high:,}")
    return Halving(first, factor)


def rounds(trials: int, total: int, halving: Halving | None) -> list[tuple[int, int]]:
    """Return, for each round, the number of trials, and the number of items that each of them has completed at its
    end.
    """
    if halving is None:
        return [(trials, total)]
    found_rounds, remaining_trials, size = [], trials, min(halving.first, total)
    while size < total and remaining_trials > 1:
        found_rounds.append((remaining_trials, size))
        remaining_trials, size = (
            max(1, math.ceil(remaining_trials / halving.factor)),
            min(size * halving.factor, total),
        )
    return [*found_rounds, (remaining_trials, total)]


def items_asked(plan: Sequence[tuple[int, int]]) -> int:
    """Return the total number of items processed in all rounds."""
    before = 0
    count = 0
    for remaining_trials, size in plan:
        count += remaining_trials * (size - before)
        before = size
    return count
