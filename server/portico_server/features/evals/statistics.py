"""Running totals of a run: counts, scores, tokens by model, and seconds. Pure."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

from portico.wire import Usage
from portico_server.core.dataclass import dataclass

EMPTY: Mapping[str, Any] = {
    "pass": 0,
    "fail": 0,
    "error": 0,
    "score": [0, 0.0, 0.0],
    "criteria": {},
    "models": {},
    "seconds": 0.0,
}
"""The totals before the first item. ``score`` and the scores of criteria are (count, sum, sum of squares)."""


@dataclass(frozen=True, slots=True)
class MeanScore:
    """A mean score with its standard error, which is ``None`` for fewer than two scores."""

    value: float | None
    error: float | None
    count: int


def add_item(
    tally: Mapping[str, Any],
    status: str,
    score: float,
    results: Sequence[Mapping[str, Any]],
    model_usages: Sequence[tuple[str, Usage]],
    seconds: float,
) -> dict[str, Any]:
    """Return the tally with the result of one more item."""
    new_tally = copy.deepcopy({**EMPTY, **tally})
    new_tally[status] += 1
    new_tally["seconds"] += seconds
    _sum(new_tally["score"], score)
    for result in results:
        criterion_tally = new_tally["criteria"].setdefault(
            result["name"], {"pass": 0, "fail": 0, "score": [0, 0.0, 0.0]}
        )
        criterion_tally["pass" if result["passed"] else "fail"] += 1
        _sum(criterion_tally["score"], result["score"])
    for name, usage in model_usages:
        model = new_tally["models"].setdefault(
            name, {"calls": 0, "prompt": 0, "completion": 0, "cached": 0, "cost": None}
        )
        model["calls"] += 1
        model["prompt"] += usage.prompt_tokens
        model["completion"] += usage.completion_tokens
        model["cached"] += usage.cached_tokens
        if usage.cost is not None:
            model["cost"] = (model["cost"] or 0.0) + usage.cost
    return new_tally


def _sum(sums: list[float], value: float) -> None:
    sums[0] += 1
    sums[1] += value
    sums[2] += value * value


def count(tally: Mapping[str, Any]) -> int:
    """Return the number of finished items."""
    return sum(int(tally.get(status, 0)) for status in ("pass", "fail", "error"))


def mean(sums: Sequence[float]) -> MeanScore:
    """Return the mean score from a count, a sum and a sum of squares."""
    number = int(sums[0])
    if not number:
        return MeanScore(None, None, 0)
    value = sums[1] / number
    if number < 2:
        return MeanScore(value, None, number)
    variance = max(0.0, (sums[2] - number * value * value) / (number - 1))
    return MeanScore(value, math.sqrt(variance / number), number)


def of(tally: Mapping[str, Any], objective: str) -> MeanScore:
    """Return the score that a search optimizes: ``score``, ``pass_rate``, or the name of a criterion."""
    if objective == "score":
        return mean(tally.get("score") or EMPTY["score"])
    if objective == "pass_rate":
        passed_count = int(tally.get("pass", 0))
        return mean((count(tally), passed_count, passed_count))
    criterion_tally = (tally.get("criteria") or {}).get(objective)
    return mean(criterion_tally["score"] if criterion_tally else EMPTY["score"])


def tokens(tally: Mapping[str, Any]) -> int:
    """Return the total number of input and output tokens."""
    return sum(model["prompt"] + model["completion"] for model in (tally.get("models") or {}).values())


def cost(tally: Mapping[str, Any]) -> float | None:
    """Return the cost in US dollars, or ``None`` if no price is known."""
    costs = [model["cost"] for model in (tally.get("models") or {}).values() if model["cost"] is not None]
    return sum(costs) if costs else None
