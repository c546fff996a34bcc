"""The fields of a prompt, and its use of arguments."""

from __future__ import annotations

from typing import Any

import pytest

from portico_server.core.errors import InvalidRequest
from portico_server.core.prompts.spec import MAX_ITEMS, parse

REVIEW: dict[str, Any] = {
    "name": "team/review",
    "description": "Reviews code.",
    "arguments": [
        {"name": "language", "enum": ["Python", "Go"], "required": True},
        {"name": "lines", "type": "integer", "default": 5},
        {"name": "strict", "type": "boolean"},
        {"name": "share", "type": "number", "default": 0.5},
    ],
    "messages": [
        {
            "role": "user",
            "content": "Review this {language}: {{}} in {lines} lines, {share}, strict: {strict}",
        },
        {"role": "system", "content": "You review {language}."},
    ],
    "examples": [{"user": "print {x}", "assistant": "Fine."}],
}


def _prompt(**changed: Any) -> dict[str, Any]:
    return {"name": "p", "arguments": ["a"], "messages": "{a}", **changed}


def test_system_comes_first_then_the_examples_then_the_question() -> None:
    messages = parse(REVIEW).render({"language": "Go", "strict": True})
    assert messages == (
        {"role": "system", "content": "You review Go."},
        {"role": "user", "content": "print {x}"},
        {"role": "assistant", "content": "Fine."},
        {"role": "user", "content": "Review this Go: {} in 5 lines, 0.5, strict: true"},
    )


def test_a_missing_optional_argument_is_rendered_as_empty_text() -> None:
    assert parse(REVIEW).render({"language": "Go"})[-1]["content"].endswith("strict: ")


def test_a_prompt_is_unchanged_after_a_json_round_trip() -> None:
    spec = parse(REVIEW)
    assert parse(spec.to_json()) == spec


def test_values_are_text_and_never_templates() -> None:
    spec = parse(_prompt(messages="<{a}>"))
    assert spec.render({"a": "{a} {0.__class__} {{"})[0]["content"] == "<{a} {0.__class__} {{>"


@pytest.mark.parametrize(
    ("arguments", "param", "message"),
    [
        ({}, "arguments.language", "needs the argument 'language'"),
        ({"language": "Go", "lnes": 3}, "arguments.lnes", "has no argument 'lnes'. Did you mean 'lines'"),
        ({"language": "Rust"}, "arguments.language", 'must be one of "Python", "Go", not "Rust"'),
        ({"language": 3}, "arguments.language", "must be a string, not 3"),
        ({"language": "Go", "lines": "5"}, "arguments.lines", 'must be an integer, not "5"'),
        ({"language": "Go", "lines": True}, "arguments.lines", "must be an integer, not true"),
        ({"language": "Go", "lines": 5.5}, "arguments.lines", "must be an integer"),
        ({"language": "Go", "share": float("nan")}, "arguments.share", "must be a number"),
        ({"language": "Go", "strict": 1}, "arguments.strict", "must be true or false"),
        ({"language": None}, "arguments.language", "needs the argument"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message.replace("?", r"\?")) as caught:
        parse(REVIEW).render(arguments)
    assert caught.value.param == param


def test_arguments_as_text_are_read_as_their_types() -> None:
    spec = parse(REVIEW)
    arguments = {"language": "Go", "lines": "7", "strict": "TRUE", "share": "1e-1"}
    assert spec.render(arguments, as_text=True)[-1]["content"].endswith("in 7 lines, 0.1, strict: true")
    with pytest.raises(InvalidRequest, match=r'arguments\.lines must be an integer, not "seven"'):
        spec.render({"language": "Go", "lines": "seven"}, as_text=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "must be a mapping"),
        ({"messages": "x"}, "prompt.name must have at most 128 letters"),
        (_prompt(name="a b"), "prompt.name must have at most 128 letters"),
        (_prompt(name="../etc"), "prompt.name must have at most 128 letters"),
        (_prompt(mesages="x"), "Did you mean 'messages'"),
        (_prompt(messages=None), "needs 'messages'"),
        (_prompt(messages=[]), "needs 'messages'"),
        (_prompt(messages=3), "must be a list"),
        (
            _prompt(messages=[{"role": "tool", "content": "{a}"}]),
            "role must be one of system, user, assistant",
        ),
        (_prompt(messages=[{"role": "user", "content": " "}]), "non-empty string"),
        (_prompt(messages=[{"role": "user", "text": "x"}]), "only 'role' and 'content'"),
        (_prompt(messages="{b}"), "{b}, which is not among the prompt's arguments"),
        (_prompt(messages="{a} and {a.__class__}"), "unmatched '{'"),
        (_prompt(messages="{a} and\n{0}"), "line 2: unmatched '{'"),
        (_prompt(messages="{a!r}"), "unmatched '{'"),
        (_prompt(messages="{a:>99999999}"), "unmatched '{'"),
        (_prompt(messages="{a} }"), "unmatched '}'"),
        (_prompt(messages="text"), "declares the argument 'a' but does not use {a}"),
        (_prompt(arguments=["a", "a"]), "declares the argument 'a' twice"),
        (_prompt(arguments=["a-b"]), "must be a word"),
        (_prompt(arguments=[{"name": "a", "type": "list"}]), "type must be one of"),
        (_prompt(arguments=[{"name": "a", "sort": "list"}]), "has no field 'sort'"),
        (_prompt(arguments=[{"name": "a", "required": "yes"}]), "has the wrong type"),
        (_prompt(arguments=[{"name": "a", "required": True, "default": "x"}]), "remove one of the two"),
        (_prompt(arguments=[{"name": "a", "type": "integer", "default": "x"}]), "must be an integer"),
        (_prompt(arguments=[{"name": "a", "enum": ["x", 3]}]), "must be a string, not 3"),
        (_prompt(arguments=[{"name": "a", "enum": ["x"], "default": "y"}]), 'must be one of "x"'),
        (_prompt(arguments="a"), "must be a list"),
        (_prompt(arguments=["a"] * (MAX_ITEMS + 1)), "the maximum is 200"),
        (_prompt(examples=[{"user": "x"}]), "two strings"),
        (_prompt(messages="{a}" + "x" * 300_000), "characters of text"),
    ],
)
def test_an_invalid_prompt_is_refused_with_the_reason(given: Any, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(given)
    assert message in caught.value.message
