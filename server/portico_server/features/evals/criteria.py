"""The criteria of an evaluation: OpenAI's graders, Portico's grader for retrieval, and the pass condition. Pure.

Measures of rankings are from 0 to 1: recall, precision, hit, reciprocal rank, nDCG. The rank of a file is the rank of
its best passage; ``k`` counts files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.core.invalid import missing, not_one_of, wrong, wrong_type
from portico_server.core.principal import Principal
from portico_server.features.grading import graders, template
from portico_server.features.grading.grade import Grade

MAX_CRITERIA: Final = 32
"""Maximum number of criteria in an evaluation."""

RETRIEVAL: Final = "retrieval"
"""The type of Portico's own criterion, which grades the files that a search returned."""

MAX_RANK: Final = 1_000
"""Maximum value of ``k``."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """A named grader. ``low`` and ``high`` are the bounds of its scores; a score of at least ``threshold`` passes."""

    name: str
    grader: Mapping[str, Any]
    low: float = 0.0
    high: float = 1.0
    threshold: float = 0.5

    def is_passed(self, grade: Grade) -> bool:
        """Return whether an answer with this grade passes."""
        return grade.score >= self.threshold if grade.passed is None else grade.passed

    def share(self, score: float) -> float:
        """Return a score as a share from 0 to 1 of the range of scores."""
        width = self.high - self.low
        return min(max((score - self.low) / width, 0.0), 1.0) if width > 0 else float(score >= self.high)


def read(value: Any, param: str = "testing_criteria") -> tuple[Criterion, ...]:
    """Parse the criteria of an evaluation. Raises `InvalidRequest` that names the invalid field."""
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
        new_criterion = _read_criterion(criterion, at)
        if new_criterion.name in criterions:
            wrong(
                f"{at}.name",
                f"is '{new_criterion.name[:80]}', which is also the name of another criterion; each name "
                "must be unique",
            )
        criterions[new_criterion.name] = new_criterion
    return tuple(criterions.values())


def _read_criterion(fields: Mapping[str, Any], at: str) -> Criterion:
    name = fields.get("name")
    if not isinstance(name, str) or not 1 <= len(name) <= 200:
        wrong(f"{at}.name", "must be a string of 1 to 200 characters")
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
        wrong(f"{at}.k", f"must be an integer from 1 to {MAX_RANK}")
    if not isinstance(fields.get("relevant"), str) or not template.fields(as_template(fields["relevant"])):
        wrong(
            f"{at}.relevant",
            "must name the field of an item that lists its relevant files, such as 'item.files'",
        )


def as_template(reference: str) -> str:
    """Return the template for a reference such as ``item.files``."""
    return reference if "{{" in reference else "{{" + reference + "}}"


def fields_of(criteria: Sequence[Criterion]) -> frozenset[str]:
    """Return the item fields that the criteria use."""
    field_names: frozenset[str] = frozenset()
    for criterion in criteria:
        if criterion.grader["type"] == RETRIEVAL:
            field_names |= template.fields(as_template(criterion.grader["relevant"]))
        else:
            field_names |= template.fields(criterion.grader)
    return field_names


def require_rights(criteria: Sequence[Criterion], caller: Principal) -> None:
    """Raise `Forbidden` if any of the criteria contains code that the caller cannot run."""
    for number, criterion in enumerate(criteria):
        if criterion.grader["type"] != RETRIEVAL:
            graders.require_rights(criterion.grader, caller, f"testing_criteria[{number}]")


def judges_of(criteria: Sequence[Criterion]) -> frozenset[str]:
    """Return the names of the models that the criteria call."""
    return frozenset(name for criterion in criteria for name in graders.judges(criterion.grader))


def judgements(criteria: Sequence[Criterion]) -> int:
    """Return the number of model calls that the criteria make for one item."""
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
"""Maps each relevant file to its gain, which is 1 unless the item sets it."""


def recall(gains: Sequence[float], relevant: Gains, k: int) -> float:
    """Return the share of the relevant files that are among the first k."""
    return sum(gain > 0 for gain in gains[:k]) / len(relevant)


def precision(gains: Sequence[float], relevant: Gains, k: int) -> float:
    """Return the share of the first k files that are relevant."""
    return sum(gain > 0 for gain in gains[:k]) / k


def hit_rate(gains: Sequence[float], relevant: Gains, k: int) -> float:
    """Return 1 if a relevant file is among the first k, else 0."""
    return float(any(gain > 0 for gain in gains[:k]))


def mrr(gains: Sequence[float], relevant: Gains, k: int) -> float:
    """Return the reciprocal rank of the first relevant file, 0 if it is not among the first k."""
    return next((1 / rank for rank, gain in enumerate(gains[:k], 1) if gain > 0), 0.0)


def ndcg(gains: Sequence[float], relevant: Gains, k: int) -> float:
    """Return the gains discounted by the logarithm of the rank, divided by the discounted gains of the best order.

    Source: Järvelin and Kekäläinen 2002.
    """
    best = sorted(relevant.values(), reverse=True)
    return _dcg(gains[:k]) / _dcg(best[:k])


MEASURES: Final[Mapping[str, Callable[[Sequence[float], Gains, int], float]]] = {
    "recall": recall,
    "precision": precision,
    "hit": hit_rate,
    "mrr": mrr,
    "ndcg": ndcg,
}
"""Maps the names that criteria use to measures."""


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def measure(metric: str, hits: Sequence[Mapping[str, Any]], relevant: Any, k: int) -> float:
    """Return how well ``hits`` ranks the relevant files, which are identified by name or id.

    ``hits`` are passages in order, each with ``file_id`` and ``filename``. ``relevant`` is a name, a list of names, or
    an object that maps names to gains. Raises `InvalidRequest` for any other value.
    """
    gains = gains_of(relevant)
    ranked_gains: dict[str, float] = {}
    for passage in hits:
        names = (str(passage["filename"]), str(passage["file_id"]))
        gain = max(gains.get(name, 0.0) for name in names)
        ranked_gains.setdefault(names[0] if names[0] in gains else names[1], gain)
    return MEASURES[metric](list(ranked_gains.values()), gains, k)


def gains_of(relevant: Any) -> Gains:
    """Return the gain of each relevant file. Raises `InvalidRequest`."""
    if isinstance(relevant, str):
        relevant = [relevant]
    if isinstance(relevant, list) and all(isinstance(name, str) for name in relevant):
        relevant = dict.fromkeys(relevant, 1.0)
    if not isinstance(relevant, Mapping) or not all(
        isinstance(gain, int | float) and math.isfinite(gain) for gain in relevant.values()
    ):
        raise InvalidRequest(
            "The relevant files of an item must be a list of names, or an object with a number for each name.",
            code="no_relevant_files",
        )
    gains = {str(name): float(gain) for name, gain in relevant.items() if gain > 0}
    if not gains:
        raise InvalidRequest("An item has no relevant files.", code="no_relevant_files")
    return gains
