"""The bundled prompts: complete, in both languages, and the ones that the code names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import portico_server
from portico_server.core.prompts import builtin
from portico_server.core.prompts.spec import PromptSpec, parse
from portico_server.features.prompts.folder import read_texts
from portico_server.features.prompts.formats import write_prompt

EVERY = builtin.every()
FORMATS = ("markdown", "yaml", "prompty", "dotprompt", "langchain")


def test_at_least_forty_builtin_prompts_exist_in_each_language() -> None:
    names = [spec.name for spec in EVERY]
    english = [name for name in names if not name.endswith(".zh")]
    assert len(english) >= 40 and len(set(names)) == len(names)
    assert {f"{name}.zh" for name in english} == set(names) - set(english)


@pytest.mark.parametrize("spec", EVERY, ids=lambda spec: spec.name)
def test_each_builtin_prompt_has_a_title_description_and_example_cases(spec: PromptSpec) -> None:
    assert spec.title and spec.description.endswith(".") and spec.cases
    for case in spec.cases:
        assert case.holds.casefold() in case.answer.casefold()
        assert spec.render(case.arguments)[-1]["role"] == "user"
    text = "".join(turn.text for turn in spec.messages)
    sentences = re.findall(r"[\u4e00-\u9fff]{5,}", text)
    assert bool(sentences) == spec.name.endswith(".zh")
    assert parse(spec.to_json()) == spec


def test_every_builtin_prompt_used_by_the_code_exists() -> None:
    folder = Path(portico_server.__file__).parent
    text = "\n".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.py"))
    prompt_names = set(re.findall(r'builtin\.(?:text|system|messages)\(\s*"([^"]+)"', text))
    prompt_names |= set(re.findall(r'= ChunkPrompt\(\s*"([^"]+)"', text))
    assert len(prompt_names) >= 15
    for name in prompt_names:
        assert builtin.prompt(name).messages


def test_builtin_system_messages_render_without_a_question() -> None:
    assert "- a\n- b" in builtin.system("route-intent", intents="- a\n- b")
    assert builtin.system("judge-passage", most=5).count("to 5 (it answers") == 1
    with pytest.raises(KeyError):
        builtin.prompt("no-such-prompt")


@pytest.mark.parametrize("format", FORMATS)
def test_builtin_prompts_survive_a_write_and_read_in_each_format(format: str) -> None:
    for spec in EVERY:
        filename, text = write_prompt(spec, format)
        [again] = read_texts({filename: text})
        for case in spec.cases:
            # LangChain has no types.
            arguments = {name: str(value) for name, value in case.arguments.items()}
            assert again.render(arguments, as_text=True) == spec.render(case.arguments), spec.name
        assert again.name == spec.name
        assert format not in ("markdown", "yaml") or again == spec
