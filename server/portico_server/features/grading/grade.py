"""Grades answers: comparisons in this process, expressions and Python in the sandbox, judgements by a model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, Final

from portico.wire import Usage
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.interfaces import Evaluator, is_formula, require_code
from portico_server.core.request import Chat, ChatReply
from portico_server.features.grading.similarity import MEASURES
from portico_server.features.grading.template import fill, filled

_MATCH: Final = """
import re

def match(pattern, text):
    return 1.0 if re.search(pattern, text) is not None else 0.0
"""
"""The function for ``regex`` graders. It runs in the sandbox because a malicious pattern can take hours to search."""

_GRADE: Final = "\n\ndef portico_grade(sample, item):\n    return grade(sample, item)\n"


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """A model's answer to one line of the data. ``item`` contains the fields of the line, ``more`` additional fields
    of the answer.
    """

    text: str
    item: Mapping[str, Any]
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sample(self) -> dict[str, Any]:
        """The answer as graders see it. ``output_json`` is the text parsed as JSON, if it is valid JSON."""
        try:
            document = json.loads(self.text)
        except (ValueError, RecursionError):
            document = None
        return {"output_text": self.text, "output_json": document, **self.more}

    @property
    def sources(self) -> Mapping[str, Any]:
        """The values for the placeholders of a template."""
        return {"item": self.item, "sample": self.sample}


@dataclass(frozen=True, slots=True)
class Grade:
    """The result of a grader. ``passed`` is set if the grader decides between pass and fail; ``label`` is the label
    that a model chose.
    """

    score: float
    passed: bool | None = None
    label: str | None = None


class Grading:
    """One grader, validated by `portico_server.features.grading.graders.check`, that can call judge models.

    ``on_usage`` receives the model and the token usage of each call.
    """

    def __init__(
        self,
        grader: Mapping[str, Any],
        light: Evaluator,
        context: Context,
        on_usage: Callable[[str, Usage], None] | None = None,
    ) -> None:
        self._grader = grader
        self._light = light
        self._context = context
        self._on_usage = on_usage

    async def rewards(self, answers: Sequence[ModelAnswer]) -> tuple[list[float], str]:
        """Return a reward per answer, and a message about the first answer that could not be graded.

        An answer that cannot be graded earns 0.
        """
        rewards, trouble = [], ""
        for answer in answers:
            try:
                reward = (await self.grade(answer)).score
            except PorticoError as error:
                trouble = trouble or f"An answer could not be graded and counts as 0: {error.message}"
                reward = 0.0
            rewards.append(reward)
        return rewards, trouble

    async def grade(self, answer: ModelAnswer) -> Grade:
        """Grade one answer. Raise `PorticoError` if it cannot be graded."""
        if self._grader["type"] == "label_model":
            return await self._label(self._grader, answer)
        return Grade(await self._grade_one(self._grader, answer))

    async def _grade_one(self, grader: Mapping[str, Any], answer: ModelAnswer) -> float:
        match grader["type"]:
            case "string_check":
                text, reference = (fill(grader[name], answer.sources) for name in ("input", "reference"))
                return _compare(grader["operation"], text, reference)
            case "regex":
                text = fill(grader["input"], answer.sources)
                return _number(await self._light.evaluate(_MATCH, [grader["pattern"], text], {}))
            case "text_similarity":
                measure = MEASURES.get(grader["evaluation_metric"])
                if measure is None:
                    raise InvalidRequest(
                        f"'{grader['evaluation_metric']}' is not supported; choose one of "
                        f"{', '.join(MEASURES)}.",
                        param="grader",
                    )
                text, reference = (fill(grader[name], answer.sources) for name in ("input", "reference"))
                return measure(text, reference)
            case "python":
                require_code(self._context.caller, "The grader's source")
                source = grader["source"] + _GRADE
                return _number(await self._light.evaluate(source, [answer.sample, dict(answer.item)], {}))
            case "score_model":
                return await self._score(grader, answer)
        values = {name: await self._grade_one(inner, answer) for name, inner in grader["graders"].items()}
        if not is_formula(grader["calculate_output"]):
            require_code(self._context.caller, "The grader's formula")
        formula = f"lambda {', '.join(values)}: ({grader['calculate_output']})"
        return _number(await self._light.evaluate(formula, [], values))

    async def _score(self, grader: Mapping[str, Any], answer: ModelAnswer) -> float:
        """Let a model score the answer, and return the score, limited to the grader's range."""
        low, high = grader.get("range") or (0.0, 1.0)
        judgement = await self._ask(grader, answer, "score", {"type": "number"})
        try:
            score = float(json.loads(judgement)["score"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InvalidRequest(
                f"The judge '{grader['model']}' did not return a score: {judgement[:120]!r}.",
                code="no_score",
            ) from error
        return min(max(_number(score), float(low)), float(high))

    async def _label(self, grader: Mapping[str, Any], answer: ModelAnswer) -> Grade:
        """Let a model choose a label for the answer. The score is 1 for a passing label, otherwise 0."""
        judgement = await self._ask(
            grader, answer, "label", {"type": "string", "enum": list(grader["labels"])}
        )
        try:
            label = json.loads(judgement)["label"]
        except (ValueError, TypeError, KeyError, RecursionError):
            label = judgement.strip()  # a model that ignores the schema may still return the bare label
        if label not in grader["labels"]:
            raise InvalidRequest(
                f"The judge '{grader['model']}' did not return one of {', '.join(grader['labels'])}: "
                f"{judgement[:120]!r}.",
                code="no_label",
            )
        is_passed = label in grader["passing_labels"]
        return Grade(float(is_passed), is_passed, label)

    async def _ask(
        self, grader: Mapping[str, Any], answer: ModelAnswer, name: str, shape: Mapping[str, Any]
    ) -> str:
        """Ask the judge for a JSON object with the field ``name`` of the schema ``shape``, and return its reply."""
        sources = answer.sources
        messages = tuple(
            {**message, "content": filled(message.get("content"), sources)} for message in grader["input"]
        )
        schema = {
            "type": "object",
            "properties": {name: shape},
            "required": [name],
            "additionalProperties": False,
        }
        options: dict[str, Any] = {
            "temperature": 0,
            **(grader.get("sampling_params") or {}),
            "response_format": {"type": "json_schema", "json_schema": {"name": name, "schema": schema}},
        }
        reply = await self._context.call(grader["model"], Chat(messages, options))
        assert isinstance(reply, ChatReply)
        if self._on_usage is not None:
            self._on_usage(grader["model"], reply.usage)
        return reply.content


def _compare(operation: str, text: str, reference: str) -> float:
    match operation:
        case "eq":
            return float(text == reference)
        case "ne":
            return float(text != reference)
        case "like":
            return float(reference in text)
    return float(reference.lower() in text.lower())


def _number(value: Any) -> float:
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return float(value)
    raise InvalidRequest(
        f"The grader returned {str(value)[:80]!r}; expected a finite number.", code="no_score"
    )
