"""Templates: a text that would become too long is refused before it is created."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import portico_server
from portico_server.core.errors import InvalidRequest
from portico_server.core.prompts.spec import parse
from portico_server.core.template import fill, pieces, substitute
from portico_server.features.grading.template import fill as grader_fill

LONG = "x" * 2**20


def test_a_template_takes_its_values() -> None:
    assert fill(pieces("{a} and {{a}}", "t"), {"a": "b"}) == "b and {a}"


def test_a_template_that_repeats_a_long_value_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        fill(pieces("{a}" * 100_000, "t"), {"a": LONG})
    assert caught.value.code == "value_too_large"


def test_the_size_limit_of_a_prompt_covers_all_its_messages() -> None:
    message = {"role": "user", "content": "{a}{a}"}
    prompt = parse({"name": "p", "arguments": [{"name": "a"}], "messages": [message] * 50})
    with pytest.raises(InvalidRequest) as caught:
        prompt.render({"a": LONG})
    assert caught.value.code == "value_too_large"


def test_the_size_of_a_filled_grader_template_is_limited() -> None:
    with pytest.raises(InvalidRequest) as caught:
        grader_fill("{{item.a}}" * 100_000, {"item": {"a": LONG}})
    assert caught.value.code == "value_too_large"


@pytest.mark.parametrize("template", ["{a}" * 100, "{b}" * 100_000, "x" * 2**20 + "{b}"])
def test_the_size_of_substituted_text_is_limited(template: str) -> None:
    values = {"a": LONG, "b": ""}
    with pytest.raises(InvalidRequest) as caught:
        substitute(re.compile(r"\{(\w)\}"), lambda place: values[place[1]], template)
    assert caught.value.code == "value_too_large"


OURS = {
    "answer/sentences.py": "takes the marks of Markdown out",
    "answer/negations.py": "takes words out",
    "agent/planning.py": "counts first",
    "features/prompts/formats.py": "writes a prompt's file once",
}
"""Other places that insert variable text, and why the result cannot grow there."""


def test_no_other_code_inserts_variable_text_without_a_size_limit() -> None:
    """Only measured templates are filled: ``sub`` with a function and ``replace`` with a value make 100 GB of two 300
    KB texts.
    """
    root = Path(str(portico_server.__file__)).parent
    places = []
    for path in (*root.glob("apps/**/*.py"), *root.glob("grading/*.py"), *root.glob("evals/*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            with_function = node.func.attr == "sub" and not isinstance(node.args[0], ast.Constant)
            with_value = (
                node.func.attr == "replace"
                and len(node.args) == 2
                and not isinstance(node.args[1], ast.Constant)
            )
            if (with_function or with_value) and not any(str(path).endswith(own_path) for own_path in OURS):
                places.append(f"{path.relative_to(root)}:{node.lineno}")
    assert places == []
