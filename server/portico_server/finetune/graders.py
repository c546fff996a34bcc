"""Graders as OpenAI writes them, checked before anything is trained. Pure; what they ask is done elsewhere.

https://platform.openai.com/docs/guides/graders. ``regex`` is ours: ``input`` must match ``pattern``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from portico_server.core.errors import InvalidRequest
from portico_server.finetune.similarity import MEASURES

FIELD: Final = re.compile(r"\{\{\s*item\.([A-Za-z_][A-Za-z0-9_]*)")
"""A field of a line that a grader asks for: ``{{item.answer}}``."""

OPERATIONS: Final = ("eq", "ne", "like", "ilike")

METRICS: Final = tuple(MEASURES)

DEPTH: Final = 4
MOST: Final = 32
"""Graders in one ``multi``."""


def check(given: Any, param: str = "method.reinforcement.grader", depth: int = 0) -> None:
    """Raise `InvalidRequest` that names the first thing in a grader that is wrong."""
    if not isinstance(given, Mapping):
        raise InvalidRequest(f"'{param}' must be an object with a 'type'.", param=param)
    kind = given.get("type")
    test = _CHECKS.get(str(kind))
    if test is None:
        raise InvalidRequest(
            f"{str(kind)[:40]!r} is not a type of grader; there are {', '.join(_CHECKS)}.",
            param=f"{param}.type",
        )
    if depth > DEPTH:
        raise InvalidRequest(f"Graders are nested more than {DEPTH} deep.", param=param)
    test(given, param, depth)


def fields_of(given: Any) -> frozenset[str]:
    """The fields of a line that a grader asks for."""
    return frozenset(_fields(given))


def judges(given: Any) -> frozenset[str]:
    """The models that a grader asks."""
    return frozenset(_judges(given))


def _fields(given: Any) -> Iterator[str]:
    if isinstance(given, str):
        yield from FIELD.findall(given)
    elif isinstance(given, Mapping):
        for name, value in given.items():
            if name != "source":
                yield from _fields(value)
    elif isinstance(given, list | tuple):
        for value in given:
            yield from _fields(value)


def _judges(given: Any) -> Iterator[str]:
    if not isinstance(given, Mapping):
        return
    if given.get("type") == "score_model":
        yield str(given["model"])
    graders = given.get("graders")
    if isinstance(graders, Mapping):
        for one in graders.values():
            yield from _judges(one)


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
    try:
        re.compile(_word(given, "pattern", param))
    except re.error as error:
        raise InvalidRequest(
            f"'{param}.pattern' is no pattern: {error}.", param=f"{param}.pattern"
        ) from error


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


def _multi(given: Mapping[str, Any], param: str, depth: int) -> None:
    graders = given.get("graders")
    if not isinstance(graders, Mapping) or not 1 <= len(graders) <= MOST:
        raise InvalidRequest(
            f"'{param}.graders' must be an object with 1 to {MOST} graders by their names.",
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
