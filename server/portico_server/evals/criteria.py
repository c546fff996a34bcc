"""What an evaluation tests: graders as OpenAI writes them, ours for what was found, and when an answer passes. Pure.

Rankings of files are measured from 0 to 1: recall, precision, hit, reciprocal rank, nDCG. A file stands where its best
passage does; ``k`` counts files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.core.invalid import missing, not_one_of, wrong, wrong_type
from portico_server.core.principal import Principal
from portico_server.grading import graders, template
from portico_server.grading.grade import Grade

MAX_CRITERIA: Final = 32
"""Criteria of one evaluation."""

RETRIEVAL: Final = "retrieval"
"""The type of a criterion that judges which files were found; ours."""

MAX_RANK: Final = 1_000
"""The largest k of a criterion that looks at the first k files."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One grader with its name. ``low`` and ``high`` are the ends of its scores; from ``threshold`` on one passes."""

    name: str
    grader: Mapping[str, Any]
    low: float = 0.0
    high: float = 1.0
    threshold: float = 0.5

    def passed(self, grade: Grade) -> bool:
        """Whether an answer with this grade is good enough."""
        return grade.score >= self.threshold if grade.passed is None else grade.passed

    def share(self, score: float) -> float:
        """A score as a share of what could be had, from 0 to 1."""
        width = self.high - self.low
        return min(max((score - self.low) / width, 0.0), 1.0) if width > 0 else float(score >= self.high)


def read(value: Any, param: str = "testing_criteria") -> tuple[Criterion, ...]:
    """The criteria of an evaluation. Raises `InvalidRequest` that names what is wrong."""
    if value is None:
        missing(param)
    if not isinstance(value, list):
        wrong_type(param, "a list", value)
    if not 1 <= len(value) <= MAX_CRITERIA:
        wrong(param, f"must have 1 to {MAX_CRITERIA} criteria")
    criterions: dict[str, Criterion] = {}
    for number, criterion in enumerate(value):
        at = f"{param}[{number}]"
        if not isinstance(criterion, Mapping):
            wrong_type(at, "an object with a 'type'", criterion)
        new_criterion = _one(criterion, at)
        if new_criterion.name in criterions:
            wrong(f"{at}.name", f"is '{new_criterion.name[:80]}', as another criterion's: each needs its own")
        criterions[new_criterion.name] = new_criterion
    return tuple(criterions.values())


def _one(fields: Mapping[str, Any], at: str) -> Criterion:
    name = fields.get("name")
    if not isinstance(name, str) or not 1 <= len(name) <= 200:
        wrong(f"{at}.name", "must be a text of 1 to 200 characters")
    kind = fields.get("type")
    if kind == RETRIEVAL:
        _retrieval(fields, at)
    else:
        try:
            graders.check(fields, at, labels=True)
        except InvalidRequest as error:
            if error.param == f"{at}.type":
                error.message = error.message.removesuffix(".") + f", {RETRIEVAL}."
            raise
    low, high = _range(fields, at)
    threshold = fields.get("pass_threshold")
    if threshold is None:
        if kind == "text_similarity":
            missing(f"{at}.pass_threshold")
        threshold = 1.0 if kind in ("string_check", "regex") else (low + high) / 2
    elif isinstance(threshold, bool) or not isinstance(threshold, int | float):
        wrong_type(f"{at}.pass_threshold", "a number", threshold)
    return Criterion(name, fields, low, high, float(threshold))


def _range(fields: Mapping[str, Any], at: str) -> tuple[float, float]:
    ends = fields.get("range")
    if ends is None:
        return 0.0, 1.0
    numbers = isinstance(ends, list) and all(
        isinstance(end, int | float) and not isinstance(end, bool) for end in ends
    )
    if not numbers or len(ends) != 2 or not ends[0] < ends[1]:
        wrong(f"{at}.range", "must be two numbers, the lower one first")
    return float(ends[0]), float(ends[1])


def _retrieval(fields: Mapping[str, Any], at: str) -> None:
    if fields.get("metric") not in MEASURES:
        not_one_of(f"{at}.metric", fields.get("metric"), MEASURES)
    k = fields.get("k", 10)
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= MAX_RANK:
        wrong(f"{at}.k", f"must be a whole number from 1 to {MAX_RANK}")
    if not isinstance(fields.get("relevant"), str) or not template.fields(as_template(fields["relevant"])):
        wrong(
            f"{at}.relevant", "must name the field of an item with its relevant files, such as 'item.files'"
        )


def as_template(reference: str) -> str:
    """``item.files`` as the template that it stands for."""
    return reference if "{{" in reference else "{{" + reference + "}}"


def fields_of(criteria: Sequence[Criterion]) -> frozenset[str]:
    """The fields of an item that the criteria ask for."""
    field_names: frozenset[str] = frozenset()
    for criterion in criteria:
        if criterion.grader["type"] == RETRIEVAL:
            field_names |= template.fields(as_template(criterion.grader["relevant"]))
        else:
            field_names |= template.fields(criterion.grader)
    return field_names


def require_rights(criteria: Sequence[Criterion], caller: Principal) -> None:
    """Raise `Forbidden` if one of them brings code along which the caller may not have executed."""
    for number, criterion in enumerate(criteria):
        if criterion.grader["type"] != RETRIEVAL:
            graders.require_rights(criterion.grader, caller, f"testing_criteria[{number}]")


def judges_of(criteria: Sequence[Criterion]) -> frozenset[str]:
    """The models that the criteria ask."""
    return frozenset(name for criterion in criteria for name in graders.judges(criterion.grader))


def judgements(criteria: Sequence[Criterion]) -> int:
    """How many calls of models the criteria take for one item."""
    return sum(_calls(criterion.grader) for criterion in criteria)


def _calls(grader: Any) -> int:
    if not isinstance(grader, Mapping):
        return 0
    call_count = int(grader.get("type") in ("score_model", "label_model"))
    inner = grader.get("graders")
    return call_count + sum(
        _calls(inner_grader) for inner_grader in (inner.values() if isinstance(inner, Mapping) else ())
    )


Gains = Mapping[str, float]
"""What each relevant file is worth; 1 unless the item says more."""


def recall(gains: Sequence[float], relevant: Gains, k: int) -> float:
    """The share of the relevant files that is among the first k."""
    return sum(gain > 0 for gain in gains[:k]) / len(relevant)


def precision(gains: Sequence[float], relevant: Gains, k: int) -> float:
    """The share of the first k that is relevant."""
    return sum(gain > 0 for gain in gains[:k]) / k


def hit(gains: Sequence[float], relevant: Gains, k: int) -> float:
    """1 if a relevant file is among the first k."""
    return float(any(gain > 0 for gain in gains[:k]))


def mrr(gains: Sequence[float], relevant: Gains, k: int) -> float:
    """One over the rank of the first relevant file, 0 if it is not among the first k."""
    return next((1 / rank for rank, gain in enumerate(gains[:k], 1) if gain > 0), 0.0)


def ndcg(gains: Sequence[float], relevant: Gains, k: int) -> float:
    """Gains discounted by the logarithm of the rank, over the best order. Source: Järvelin and Kekäläinen 2002."""
    best = sorted(relevant.values(), reverse=True)
    return _dcg(gains[:k]) / _dcg(best[:k])


MEASURES: Final[Mapping[str, Callable[[Sequence[float], Gains, int], float]]] = {
    "recall": recall,
    "precision": precision,
    "hit": hit,
    "mrr": mrr,
    "ndcg": ndcg,
}
"""By the names that a criterion gives them."""


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def measure(metric: str, hits: Sequence[Mapping[str, Any]], relevant: Any, k: int) -> float:
    """How well ``hits`` ranks the relevant files, which are known by name or id.

    ``hits``: passages in order, each with ``file_id`` and ``filename``. ``relevant``: a name, a list of them, or an
    object with what each is worth. Raises `InvalidRequest` if it is none of these.
    """
    gains = gains_of(relevant)
    ranked_gains: dict[str, float] = {}
    for passage in hits:
        names = (str(passage["filename"]), str(passage["file_id"]))
        gain = max(gains.get(name, 0.0) for name in names)
        ranked_gains.setdefault(names[0] if names[0] in gains else names[1], gain)
    return MEASURES[metric](list(ranked_gains.values()), gains, k)


def gains_of(relevant: Any) -> Gains:
    """What each relevant file is worth. Raises `InvalidRequest`."""
    if isinstance(relevant, str):
        relevant = [relevant]
    if isinstance(relevant, list) and all(isinstance(name, str) for name in relevant):
        relevant = dict.fromkeys(relevant, 1.0)
    if not isinstance(relevant, Mapping) or not all(
        isinstance(gain, int | float) and math.isfinite(gain) for gain in relevant.values()
    ):
        raise InvalidRequest(
            "An item names its relevant files by a list of names, or an object with a number for each.",
            code="no_relevant_files",
        )
    gains = {str(name): float(gain) for name, gain in relevant.items() if gain > 0}
    if not gains:
        raise InvalidRequest("An item has no relevant files.", code="no_relevant_files")
    return gains
