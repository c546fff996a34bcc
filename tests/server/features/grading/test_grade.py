"""Graders: the score of each kind for an answer, and a faulty grader costs no more than its answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.server.features.training.child.bases import Alone

from portico_server.core.context import Listener
from portico_server.core.principal import Principal
from portico_server.core.request import Chat, ChatReply, Request, Result
from portico_server.features.grading.grade import Grading, ModelAnswer
from portico_server.features.grading.similarity import MEASURES
from portico_server.features.sandbox.light import LightSandbox

OUTPUT = "{{sample.output_text}}"


@pytest.fixture
async def light() -> AsyncIterator[LightSandbox]:
    sandbox = LightSandbox()
    yield sandbox
    await sandbox.close()


async def grade(
    light: LightSandbox, grader: dict[str, Any], text: str, context: Any = None, **item: Any
) -> tuple[float, str]:
    grading = Grading(grader, light, context or Alone())
    [reward], trouble = await grading.rewards([ModelAnswer(text, item)])
    return reward, trouble


@pytest.mark.parametrize(
    ("operation", "text", "reward"),
    [
        ("eq", "Amber", 1.0),
        ("eq", "amber", 0.0),
        ("ne", "amber", 1.0),
        ("like", "say Amber!", 1.0),
        ("like", "say amber!", 0.0),
        ("ilike", "say amber!", 1.0),
    ],
)
async def test_a_string_check_compares_answer_and_reference(
    light: LightSandbox, operation: str, text: str, reward: float
) -> None:
    grader = {
        "type": "string_check",
        "input": OUTPUT,
        "reference": "{{ item.word }}",
        "operation": operation,
    }
    assert await grade(light, grader, text, word="Amber") == (reward, "")


async def test_a_regex_grader_rewards_only_matching_answers(light: LightSandbox) -> None:
    grader = {"type": "regex", "input": OUTPUT, "pattern": r"^\[CODE\] \w+ \w+$"}
    assert await grade(light, grader, "[CODE] amber heron") == (1.0, "")
    assert await grade(light, grader, "amber heron") == (0.0, "")


async def test_python_sees_sample_and_item(light: LightSandbox) -> None:
    source = "def near(a, b):\n    return 1 - abs(a - b) / 10\n\ndef grade(sample, item):\n"
    source += "    return near(sample['output_json']['n'], item['n'])\n\ndef unused():\n    return 0\n"
    assert await grade(light, {"type": "python", "source": source}, '{"n": 7}', n=5) == (0.8, "")


async def test_a_failing_python_grader_gives_zero_to_that_answer_only(light: LightSandbox) -> None:
    grader = {
        "type": "python",
        "source": "def grade(sample, item):\n    return 1 / len(sample['output_text'])",
    }
    rewards, trouble = await Grading(grader, light, Alone()).rewards(
        [ModelAnswer("", {}), ModelAnswer("ab", {})]
    )
    assert rewards == [0.0, 0.5]
    assert "ZeroDivisionError" in trouble
    for value in ("'much'", "float('nan')", "None"):
        bad = {"type": "python", "source": f"def grade(sample, item):\n    return {value}"}
        assert (await grade(light, bad, "a"))[0] == 0.0


class Narrow(Alone):
    """A context whose caller may not run code."""

    @property
    def caller(self) -> Principal:
        return Principal("key_narrow", frozenset({"chat"}))


@pytest.mark.parametrize(
    "grader",
    [
        {"type": "python", "source": "def grade(sample, item):\n    return 1.0"},
        {"type": "multi", "graders": {}, "calculate_output": "[1.0 for _ in range(1)][0]"},
    ],
)
async def test_a_code_grader_runs_only_for_callers_allowed_to_run_code(
    light: LightSandbox, grader: dict[str, Any]
) -> None:
    assert await grade(light, grader, "a") == (1.0, "")
    reward, trouble = await grade(light, grader, "a", Narrow())
    assert reward == 0.0 and "tools:python_light:call" in trouble


async def test_several_graders_are_combined_by_a_formula(light: LightSandbox) -> None:
    graders = {
        "form": {"type": "regex", "input": OUTPUT, "pattern": r"^\["},
        "word": {"type": "string_check", "input": OUTPUT, "reference": "amber", "operation": "like"},
    }
    grader = {"type": "multi", "graders": graders, "calculate_output": "0.25 * form + 0.75 * word"}
    assert await grade(light, grader, "[CODE] amber") == (1.0, "")
    assert await grade(light, grader, "amber") == (0.75, "")
    assert await grade(light, grader, "[CODE]") == (0.25, "")


class Judge(Alone):
    """A model that always gives the same answer."""

    def __init__(self, said: str) -> None:
        super().__init__()
        self.said = said
        self.asked: list[tuple[str, Chat]] = []

    async def call(self, name: str, request: Request, *, listener: Listener | None = None) -> Result:
        assert isinstance(request, Chat)
        self.asked.append((name, request))
        return ChatReply(self.said)


async def test_a_model_is_asked_and_kept_within_its_range(light: LightSandbox) -> None:
    messages = [
        {"role": "user", "content": "Rate {{sample.output_text}} for {{item.ask}}; {{item.gone}}{{other}}"}
    ]
    grader = {"type": "score_model", "model": "judge", "input": messages, "range": [0, 5]}
    judge = Judge('{"score": 9}')
    assert await grade(light, grader, "this", judge, ask="that") == (5.0, "")
    [(name, chat)] = judge.asked
    assert name == "judge"
    assert chat.messages[0]["content"] == "Rate this for that; {{other}}"
    assert chat.options["response_format"]["type"] == "json_schema"
    reward, trouble = await grade(light, grader, "this", Judge("very good"), ask="that")
    assert reward == 0.0
    assert "did not return a score" in trouble


@pytest.mark.parametrize("name", MEASURES)
def test_text_similarity_is_one_for_equal_texts_and_less_otherwise(name: str) -> None:
    measure = MEASURES[name]
    text = "the quick brown fox jumps over the lazy dog"
    assert measure(text, text) == pytest.approx(1.0)
    assert measure("雪莲花生长在高山", "雪莲花生长在高山") == pytest.approx(1.0)
    near, far = (
        measure("the quick brown fox jumps over a sleepy dog", text),
        measure("nothing of it", text),
    )
    assert far < near < 1
    assert measure("", text) == 0


async def test_a_text_similarity_grader_rewards_by_its_metric(light: LightSandbox) -> None:
    grader = {
        "type": "text_similarity",
        "input": OUTPUT,
        "reference": "{{item.word}}",
        "evaluation_metric": "rouge_1",
    }
    assert (await grade(light, grader, "amber heron", word="amber fox"))[0] == pytest.approx(0.5)
    reward, trouble = await grade(
        light, {**grader, "evaluation_metric": "meteor"}, "amber heron", word="amber"
    )
    assert reward == 0.0
    assert "rouge_l" in trouble
