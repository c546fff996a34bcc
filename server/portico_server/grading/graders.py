"""Graders as OpenAI writes them, checked before anything is trained or asked. Pure; what they ask is done elsewhere.

https://platform.openai.com/docs/guides/graders. ``regex`` is ours: ``input`` must match ``pattern``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from portico_server.core.errors import InvalidRequest
from portico_server.core.interfaces import is_formula, require_code
from portico_server.core.pattern import require_python_pattern
from portico_server.core.principal import Principal
from portico_server.grading.similarity import MEASURES

OPERATIONS: Final = ("eq", "ne", "like", "ilike")

METRICS: Final = tuple(MEASURES)

MAX_DEPTH: Final = 4
MAX_GRADERS: Final = 32
"""Graders in one ``multi``."""


def check(
    given: Any, param: str = "method.reinforcement.grader", depth: int = 0, *, labels: bool = False
) -> None:
    """Raise `InvalidRequest` that names the first thing in a grader that is wrong.

    ``labels``: a ``label_model`` is one too, which says that an answer is good rather than how good.
    """
    if not isinstance(given, Mapping):
        raise InvalidRequest(f"'{param}' must be an object with a 'type'.", param=param)
    kind = given.get("type")
    known = {**_CHECKS, "label_model": _label} if labels else _CHECKS
    test = known.get(str(kind))
    if test is None:
        raise InvalidRequest(
            f"{str(kind)[:40]!r} is not a type of grader; there are {', '.join(known)}.",
            param=f"{param}.type",
        )
    if depth > MAX_DEPTH:
        raise InvalidRequest(f"Graders are nested more than {MAX_DEPTH} deep.", param=param)
    test(given, param, depth)


def judges(given: Any) -> frozenset[str]:
    """The models that a grader asks."""
    return frozenset(_judges(given))


def _judges(given: Any) -> Iterator[str]:
    if not isinstance(given, Mapping):
        return
    if given.get("type") in ("score_model", "label_model"):
        yield str(given["model"])
    graders = given.get("graders")
    if isinstance(graders, Mapping):
        for one in graders.values():
            yield from _judges(one)


def require_rights(given: Any, caller: Principal, param: str = "method.reinforcement.grader") -> None:
    """Raise `Forbidden` if a grader that was checked brings code along which the caller may not have executed."""
    if given["type"] == "python":
        require_code(caller, f"{param}.source")
    elif given["type"] == "multi":
        if not is_formula(given["calculate_output"]):
            require_code(caller, f"{param}.calculate_output")
        for name, one in given["graders"].items():
            require_rights(one, caller, f"{param}.graders.{name}")


def _word(given: Mapping[str, Any], name: str, param: str) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"'{param}.{name}' is missing: a text was expected.", param=f"{param}.{name}")
    return value


def _string(given: Mapping[str, Any], param: str, _depth: int) -> None:
    _word(given, "input", param)
    _word(given, "reference", param)
    if given.get("operation") not in OPERATIONS:
        raise InvalidRequest(
            f"'{param}.operation' must be one of {', '.join(OPERATIONS)}.", param=f"{param}.operation"
        )


def _regex(given: Mapping[str, Any], param: str, _depth: int) -> None:
    _word(given, "input", param)
    require_python_pattern(_word(given, "pattern", param), f"{param}.pattern")


def _similarity(given: Mapping[str, Any], param: str, _depth: int) -> None:
    _word(given, "input", param)
    _word(given, "reference", param)
    if given.get("evaluation_metric") not in METRICS:
        raise InvalidRequest(
            f"'{param}.evaluation_metric' must be one of {', '.join(METRICS)}.",
            param=f"{param}.evaluation_metric",
        )


def _python(given: Mapping[str, Any], param: str, _depth: int) -> None:
    if "def grade" not in _word(given, "source", param):
        raise InvalidRequest(
            f"'{param}.source' must define grade(sample, item), which returns a number.",
            param=f"{param}.source",
        )


def _judge(given: Mapping[str, Any], param: str, _depth: int) -> None:
    _word(given, "model", param)
    messages = given.get("input")
    if (
        not isinstance(messages, list)
        or not messages
        or not all(isinstance(one, Mapping) for one in messages)
    ):
        raise InvalidRequest(f"'{param}.input' must be a list of messages.", param=f"{param}.input")


def _label(given: Mapping[str, Any], param: str, depth: int) -> None:
    _judge(given, param, depth)
    labels, passing = given.get("labels"), given.get("passing_labels")
    for name, value in (("labels", labels), ("passing_labels", passing)):
        if not isinstance(value, list) or not value or not all(isinstance(one, str) and one for one in value):
            raise InvalidRequest(f"'{param}.{name}' must be a list of words.", param=f"{param}.{name}")
    assert isinstance(labels, list)
    assert isinstance(passing, list)
    unknown = [one for one in passing if one not in labels]
    if unknown:
        raise InvalidRequest(
            f"'{unknown[0][:40]}' is in '{param}.passing_labels', but not in '{param}.labels'.",
            param=f"{param}.passing_labels",
        )


def _multi(given: Mapping[str, Any], param: str, depth: int) -> None:
    graders = given.get("graders")
    if not isinstance(graders, Mapping) or not 1 <= len(graders) <= MAX_GRADERS:
        raise InvalidRequest(
            f"'{param}.graders' must be an object with 1 to {MAX_GRADERS} graders by their names.",
            param=f"{param}.graders",
        )
    for name, one in graders.items():
        if not str(name).isidentifier():
            raise InvalidRequest(
                f"'{str(name)[:40]}' cannot name a grader in a formula.", param=f"{param}.graders"
            )
        check(one, f"{param}.graders.{name}", depth + 1)
    _word(given, "calculate_output", param)


_CHECKS: Final[Mapping[str, Callable[[Mapping[str, Any], str, int], None]]] = {
    "string_check": _string,
    "regex": _regex,
    "text_similarity": _similarity,
    "python": _python,
    "score_model": _judge,
    "multi": _multi,
}
