"""Templates: a text that would become too long is refused before it is made."""

from __future__ import annotations

import pytest

from portico_server.core.errors import InvalidRequest
from portico_server.core.prompts.spec import parse
from portico_server.core.template import fill, pieces
from portico_server.grading.template import fill as grader_fill

LONG = "x" * 2**20


def test_a_template_takes_its_values() -> None:
    assert fill(pieces("{a} and {{a}}", "t"), {"a": "b"}) == "b and {a}"


def test_a_template_that_repeats_a_long_value_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        fill(pieces("{a}" * 100_000, "t"), {"a": LONG})
    assert caught.value.code == "value_too_large"


def test_a_prompt_is_measured_with_all_its_messages() -> None:
    message = {"role": "user", "content": "{a}{a}"}
    prompt = parse({"name": "p", "arguments": [{"name": "a"}], "messages": [message] * 50})
    with pytest.raises(InvalidRequest) as caught:
        prompt.render({"a": LONG})
    assert caught.value.code == "value_too_large"


def test_the_template_of_a_grader_is_measured() -> None:
    with pytest.raises(InvalidRequest) as caught:
        grader_fill("{{item.a}}" * 100_000, {"item": {"a": LONG}})
    assert caught.value.code == "value_too_large"
