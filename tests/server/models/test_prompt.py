"""The standing instructions of a model are rendered the same way on every engine."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.models.engines.remote.provider import Answer, completion, serving

from portico.testing.model_fixture import ModelFixture, user
from portico_server.core.errors import InvalidRequest
from portico_server.models.prompt import ModelPrompt
from portico_server.models.spec import ModelSpec

CLERK = {
    "system": "You sort letters of {house}.",
    "examples": [{"user": "Letter: cold", "assistant": "repairs"}],
    "user": "Letter: {input}",
    "arguments": {"house": "the town hall"},
}


def rendered(prompt: dict[str, Any], *messages: dict[str, Any], **body: Any) -> list[dict[str, Any]]:
    model_prompt = ModelPrompt.parse("m", prompt)
    assert model_prompt is not None
    rendered_messages: list[dict[str, Any]] = model_prompt.render("m", {"messages": list(messages), **body})[
        "messages"
    ]
    return rendered_messages


def said(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def test_a_prompt_renders_system_text_examples_history_and_question_template() -> None:
    history = (said("user", "first"), said("assistant", "taxes"))
    assert rendered(CLERK, said("system", "Be brief."), *history, said("user", "{x} my roof")) == [
        said("system", "You sort letters of the town hall.\n\nBe brief."),
        said("user", "Letter: cold"),
        said("assistant", "repairs"),
        *history,
        said("user", "Letter: {x} my roof"),
    ]


def test_a_calls_prompt_arguments_override_defaults_and_are_not_sent_on() -> None:
    model_prompt = ModelPrompt.parse("m", CLERK)
    assert model_prompt is not None
    body = model_prompt.render(
        "m", {"messages": [said("user", "x")], "prompt_arguments": {"house": "Bree"}, "n": 1}
    )
    assert body["messages"][0]["content"] == "You sort letters of Bree."
    assert set(body) == {"messages", "n"}


def test_the_value_of_an_argument_is_not_expanded_as_a_template() -> None:
    messages = rendered(CLERK, said("user", "x"), prompt_arguments={"house": "{input} {house}"})
    assert messages[0]["content"] == "You sort letters of {input} {house}."


def test_the_question_template_applies_to_the_first_text_part() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    parts = [image, {"type": "text", "text": "what?"}, {"type": "text", "text": "and?"}]
    messages = rendered(CLERK, said("user", parts))
    assert messages[-1]["content"] == [image, {"type": "text", "text": "Letter: what?"}, parts[2]]


def test_the_question_before_tool_results_keeps_its_template() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    result = {"role": "tool", "tool_call_id": "1", "content": "5"}
    messages = rendered({"user": "Q: {input}"}, said("user", "how many"), call, result)
    assert messages == [said("user", "Q: how many"), call, result]


def test_a_developers_message_counts_as_the_systems() -> None:
    assert rendered({"system": "A"}, said("developer", [{"type": "text", "text": "B"}])) == [
        said("system", "A\n\nB")
    ]


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        ({"sytem": "x"}, "prompt.sytem"),
        ({"system": 5}, "prompt.system"),
        ({"system": "a { b"}, "prompt.system"),
        ({"system": "{town}"}, "prompt.system"),
        ({"system": "{input}"}, "prompt.system"),
        ({"user": "no place for it"}, "prompt.user"),
        ({"examples": {"user": "a"}}, "prompt.examples"),
        ({"examples": [{"user": "a"}]}, "prompt.examples"),
        ({"arguments": {"input": "x"}}, "prompt.arguments"),
        ({"arguments": ["x"]}, "prompt.arguments"),
    ],
)
def test_an_invalid_prompt_is_refused_by_field(prompt: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as error_info:
        ModelSpec("m", "fake://", prompt=prompt)
    assert error_info.value.param == param


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({}, "prompt_arguments.town"),
        ({"town": ["x"]}, "prompt_arguments.town"),
        ({"tow": "x", "town": "y"}, "prompt_arguments.tow"),
        (["x"], "prompt_arguments"),
    ],
)
def test_an_invalid_prompt_argument_is_refused_by_name(given: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as error_info:
        rendered({"system": "{town}", "arguments": {"town": None}}, said("user", "x"), prompt_arguments=given)
    assert error_info.value.param == param


async def test_local_and_online_models_receive_the_same_rendered_prompt(models: ModelFixture) -> None:
    body = {
        "messages": [said("system", "Be brief."), *user("my roof")],
        "prompt_arguments": {"house": "Bree"},
    }
    async with serving(Answer(completion())) as provider:
        await models.models.add(ModelSpec("far", f"{provider.url}/v1#x", prompt=CLERK), keep=False)
        await models.ask("far", body)
        online = provider.bodies[0]
    await models.models.add(ModelSpec("here", "fake://", prompt=CLERK), keep=False)
    answer = await models.ask("here", body)
    assert (
        answer["choices"][0]["message"]["content"] == online["messages"][-1]["content"] == "Letter: my roof"
    )
    assert "prompt_arguments" not in online
    assert online["messages"] == rendered(CLERK, *body["messages"], prompt_arguments={"house": "Bree"})


def test_a_spec_with_a_prompt_round_trips_through_json() -> None:
    spec = ModelSpec("m", "fake://", prompt=CLERK)
    assert ModelSpec.from_json(spec.to_json()) == spec
