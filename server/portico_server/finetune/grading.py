"""Judging answers as a grader says: comparisons here, expressions and Python in the sandbox, opinions from a model."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from portico_server.core.code import Evaluator
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.request import Chat, Reply
from portico_server.finetune.similarity import MEASURES

_PLACE = re.compile(r"\{\{\s*(item|sample)((?:\.[A-Za-z_][A-Za-z0-9_]*)+)\s*\}\}")

_MATCH: Final = """
import re

def match(pattern, text):
    return 1.0 if re.search(pattern, text) is not None else 0.0
"""
"""In the sandbox, because a pattern can be made to search for hours."""

_GRADE: Final = "\n\ndef portico_grade(sample, item):\n    return grade(sample, item)\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said to a line; ``item`` is what the line has for graders."""

    text: str
    item: Mapping[str, Any]

    @property
    def sample(self) -> dict[str, Any]:
        """As graders see it; ``output_json`` is the text read as JSON, if it is that."""
        try:
            document = json.loads(self.text)
        except (ValueError, RecursionError):
            document = None
        return {"output_text": self.text, "output_json": document}


class Grading:
    """One grader, checked by `portico_server.finetune.graders.check`, and what it asks."""

    def __init__(self, grader: Mapping[str, Any], light: Evaluator, context: Context) -> None:
        self._grader = grader
        self._light = light
        self._context = context

    async def rewards(self, answers: Sequence[Answer]) -> tuple[list[float], str]:
        """A number for each answer, and a sentence about the first that could not be judged: such a one earns 0."""
        found, trouble = [], ""
        for answer in answers:
            try:
                reward = await self._one(self._grader, answer)
            except PorticoError as error:
                trouble = trouble or f"An answer could not be graded and counts as 0: {error.message}"
                reward = 0.0
            found.append(reward)
        return found, trouble

    async def _one(self, grader: Mapping[str, Any], answer: Answer) -> float:
        match grader["type"]:
            case "string_check":
                return _compare(
                    grader["operation"], fill(grader["input"], answer), fill(grader["reference"], answer)
                )
            case "regex":
                text = fill(grader["input"], answer)
                return _number(await self._light.evaluate(_MATCH, [grader["pattern"], text], {}))
            case "text_similarity":
                measure = MEASURES.get(grader["evaluation_metric"])
                if measure is None:
                    raise InvalidRequest(
                        f"'{grader['evaluation_metric']}' is not measured here; {', '.join(MEASURES)} are.",
                        param="grader",
                    )
                return measure(fill(grader["input"], answer), fill(grader["reference"], answer))
            case "python":
                source = grader["source"] + _GRADE
                return _number(await self._light.evaluate(source, [answer.sample, dict(answer.item)], {}))
            case "score_model":
                return await self._ask(grader, answer)
        values = {name: await self._one(inner, answer) for name, inner in grader["graders"].items()}
        formula = f"lambda {', '.join(values)}: ({grader['calculate_output']})"
        return _number(await self._light.evaluate(formula, [], values))

    async def _ask(self, grader: Mapping[str, Any], answer: Answer) -> float:
        """What a model thinks of it, as one number within the range."""
        low, high = grader.get("range") or (0.0, 1.0)
        messages = tuple(
            {**message, "content": _filled(message.get("content"), answer)} for message in grader["input"]
        )
        schema = {
            "type": "object",
            "properties": {"score": {"type": "number"}},
            "required": ["score"],
            "additionalProperties": False,
        }
        options: dict[str, Any] = {
            "temperature": 0,
            **(grader.get("sampling_params") or {}),
            "response_format": {"type": "json_schema", "json_schema": {"name": "score", "schema": schema}},
        }
        reply = await self._context.call(grader["model"], Chat(messages, options))
        assert isinstance(reply, Reply)
        try:
            score = float(json.loads(reply.content)["score"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InvalidRequest(
                f"The judge '{grader['model']}' did not answer with a score: {reply.content[:120]!r}.",
                code="no_score",
            ) from error
        return min(max(_number(score), float(low)), float(high))


def fill(template: str, answer: Answer) -> str:
    """``{{item.name}}`` and ``{{sample.output_text}}`` replaced; what is not there is empty."""
    sources = {"item": answer.item, "sample": answer.sample}

    def value(match: re.Match[str]) -> str:
        found: Any = sources[match[1]]
        for name in match[2][1:].split("."):
            found = found.get(name) if isinstance(found, Mapping) else None
        if found is None:
            return ""
        return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)

    return _PLACE.sub(value, template)


def _filled(content: Any, answer: Answer) -> Any:
    if isinstance(content, str):
        return fill(content, answer)
    if isinstance(content, list):
        return "".join(_filled(part.get("text", ""), answer) for part in content if isinstance(part, Mapping))
    return content


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
        f"The grader gave {str(value)[:80]!r}; a finite number was expected.", code="no_score"
    )
