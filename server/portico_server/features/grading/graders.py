"""Validates graders in OpenAI's format before training or a request starts. Pure; other modules run the graders.

Format: https://platform.openai.com/docs/guides/graders. The ``regex`` grader is Portico's own: ``input`` must match
``pattern``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from portico_server.core.errors import InvalidRequest
from portico_server.core.interfaces import is_formula, require_code
from portico_server.core.pattern import require_python_pattern
from portico_server.core.principal import Principal
from portico_server.features.grading.similarity import MEASURES

OPERATIONS: Final = ("eq", "ne", "like", "ilike")

METRICS: Final = tuple(MEASURES)

MAX_DEPTH: Final = 4
MAX_GRADERS: Final = 32
"""Maximum number of graders in one ``multi``."""


def check(
    grader: Any, param: str = "method.reinforcement.grader", depth: int = 0, *, labels: bool = False
) -> None:
    """Raise `InvalidRequest` for the first error in a grader.

    ``labels`` also allows ``label_model`` graders, which decide whether an answer passes instead of scoring it.
    """
    if not isinstance(grader, Mapping):
        raise InvalidRequest(f"'{param}' must be an object with a 'type'.", param=param)
    kind = grader.get("type")
    checks = {**_CHECKS, "label_model": _label} if labels else _CHECKS
    test = checks.get(str(kind))
    if test is None:
        raise InvalidRequest(
            f"{str(kind)[:40]!r} is not a grader type; choose one of {', '.join(checks)}.",
            param=f"{param}.type",
        )
    if depth > MAX_DEPTH:
        raise InvalidRequest(f"Graders are nested more than {MAX_DEPTH} levels deep.", param=param)
    test(grader, param, depth)


def judges(grader: Any) -> frozenset[str]:
    """Return the models that a grader calls."""
    return frozenset(_judges(grader))


def _judges(grader: Any) -> Iterator[str]:
    if not isinstance(grader, Mapping):
        return
    if grader.get("type") in ("score_model", "label_model"):
        yield str(grader["model"])
    graders = grader.get("graders")
    if isinstance(graders, Mapping):
        for inner_grader in graders.values():
            yield from _judges(inner_grader)


def require_rights(grader: Any, caller: Principal, param: str = "method.reinforcement.grader") -> None:
    """Raise `Forbidden` if a validated grader contains code that the caller is not allowed to run."""
    if grader["type"] == "python":
        require_code(caller, f"{param}.source")
    elif grader["type"] == "multi":
        if not is_formula(grader["calculate_output"]):
            require_code(caller, f"{param}.calculate_output")
        for name, inner_grader in grader["graders"].items():
            require_rights(inner_grader, caller, f"{param}.graders.{name}")


def _word(fields: Mapping[str, Any], name: str, param: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"'{param}.{name}' is missing: expected text.", param=f"{param}.{name}")
    return value


def _string(fields: Mapping[str, Any], param: str, _depth: int) -> None:
    _word(fields, "input", param)
    _word(fields, "reference", param)
    if fields.get("operation") not in OPERATIONS:
        raise InvalidRequest(
            f"'{param}.operation' must be one of {', '.join(OPERATIONS)}.", param=f"{param}.operation"
        )


def _regex(fields: Mapping[str, Any], param: str, _depth: int) -> None:
    _word(fields, "input", param)
    require_python_pattern(_word(fields, "pattern", param), f"{param}.pattern")


def _similarity(fields: Mapping[str, Any], param: str, _depth: int) -> None:
    _word(fields, "input", param)
    _word(fields, "reference", param)
    if fields.get("evaluation_metric") not in METRICS:
        raise InvalidRequest(
            f"'{param}.evaluation_metric' must be one of {', '.join(METRICS)}.",
            param=f"{param}.evaluation_metric",
        )


def _python(fields: Mapping[str, Any], param: str, _depth: int) -> None:
    if "def grade" not in _word(fields, "source", param):
        raise InvalidRequest(
            f"'{param}.source' must define grade(sample, item), which returns a number.",
            param=f"{param}.source",
        )


def _judge(fields: Mapping[str, Any], param: str, _depth: int) -> None:
    _word(fields, "model", param)
    messages = fields.get("input")
    if (
        not isinstance(messages, list)
        or not messages
        or not all(isinstance(message, Mapping) for message in messages)
    ):
        raise InvalidRequest(f"'{param}.input' must be a list of messages.", param=f"{param}.input")


def _label(fields: Mapping[str, Any], param: str, depth: int) -> None:
    _judge(fields, param, depth)
    labels, passing = fields.get("labels"), fields.get("passing_labels")
    for name, value in (("labels", labels), ("passing_labels", passing)):
        if (
            not isinstance(value, list)
            or not value
            or not all(isinstance(label, str) and label for label in value)
        ):
            raise InvalidRequest(f"'{param}.{name}' must be a list of strings.", param=f"{param}.{name}")
    assert isinstance(labels, list)
    assert isinstance(passing, list)
    unknown = [label for label in passing if label not in labels]
    if unknown:
        raise InvalidRequest(
            f"'{unknown[0][:40]}' is in '{param}.passing_labels' but not in '{param}.labels'.",
            param=f"{param}.passing_labels",
        )


def _multi(fields: Mapping[str, Any], param: str, depth: int) -> None:
    graders = fields.get("graders")
    if not isinstance(graders, Mapping) or not 1 <= len(graders) <= MAX_GRADERS:
        raise InvalidRequest(
            f"'{param}.graders' must be an object that maps names to 1 to {MAX_GRADERS} graders.",
            param=f"{param}.graders",
        )
    for name, inner_grader in graders.items():
        if not str(name).isidentifier():
            raise InvalidRequest(
                f"'{str(name)[:40]}' is not a valid name for a grader in a formula.", param=f"{param}.graders"
            )
        check(inner_grader, f"{param}.graders.{name}", depth + 1)
    _word(fields, "calculate_output", param)


_CHECKS: Final[Mapping[str, Callable[[Mapping[str, Any], str, int], None]]] = {
    "string_check": _string,
    "regex": _regex,
    "text_similarity": _similarity,
    "python": _python,
    "score_model": _judge,
    "multi": _multi,
}
