"""A model's format of calls and thoughts is read from its folder, and each engine receives its own name for that
format.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.server.features.gpu_engines.external.interpreter import interpreter, model

from portico.testing.model_fixture import ModelFixture, user
from portico_server.features.gpu_engines.external import parsers
from portico_server.features.gpu_engines.external.parsers import WrittenFormat, fill_parsers, recognise
from portico_server.features.gpu_engines.lmdeploy import engine as lmdeploy
from portico_server.models.environments.recipe import RECIPES
from portico_server.models.spec import ModelSpec

PINNED = json.loads(Path(__file__).with_name("pinned_parsers.json").read_text(encoding="utf-8"))

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}

QWEN3 = """{%- if tools %}<tool_call>{"name": <function-name>, "arguments": <args-json-object>}</tool_call>{%- endif %}
{%- if enable_thinking is defined and enable_thinking is false %}<think>\\n\\n</think>\\n\\n{%- endif %}"""

TEMPLATES = [
    # text in the template, model types, tools, thoughts
    ('{% if tools %}<tool_call>{"name": x, "arguments": y}</tool_call>{% endif %}', ["qwen2"], "hermes", ""),
    (QWEN3, ["qwen3"], "hermes", "qwen3"),
    (
        "{% if tools %}<tool_call><function=f><parameter=p></tool_call>{% endif %}",
        ["qwen3_moe"],
        "qwen3_xml",
        "",
    ),
    (
        '{% for tool in tools %}{% endfor %}<|start_header_id|>{"name": "", "parameters": ',
        ["llama"],
        "llama3_json",
        "",
    ),
    ("{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]", ["mistral"], "mistral", ""),
    ("{% if tools %}[TOOL_CALLS]{% endif %}[THINK]", ["mistral3"], "mistral", "mistral"),
    ("{% if tools %}<｜tool▁calls▁begin｜>```json{% endif %}", ["deepseek_v3"], "deepseek_v3", ""),
    (
        "{% set thinking = false %}{% if tools %}<｜tool▁calls▁begin｜><｜tool▁sep｜>{% endif %}",
        ["deepseek_v3"],
        "deepseek_v31",
        "deepseek_v3",
    ),
    ("{% if tools %}<|start|><|channel|><|call|>{% endif %}", ["gpt_oss"], "openai", "openai_gptoss"),
    ("[gMASK]<sop>{% if tools %}<tool_call><arg_key>{% endif %}", ["glm4_moe"], "glm45", "glm45"),
    ("{% if tools %}<|tool_calls_section_begin|>{% endif %}", ["kimi_k2"], "kimi_k2", ""),
    ("{% if tools %}<|tool_call>{% endif %}<|channel>", ["gemma4"], "gemma4", "gemma4"),
    ("<|start_of_role|>{% if tools %}<|tool_call|>{% endif %}", ["granite"], "granite", ""),
    ("", ["deepseek_v32"], "deepseek_v32", ""),
    # A distilled model thinks, and its template has no tools.
    ("{{'<｜Assistant｜><think>\\n'}}", ["qwen2"], "", "deepseek_r1"),
    # Thinking is opt-in: a parser that expects thoughts would mistake the answer for thoughts.
    (
        "{% if enable_thinking is defined and enable_thinking is true %}<think>{% endif %}",
        ["qwen3_5"],
        "",
        "",
    ),
    # Tools in a message are not the request's variable.
    ("{{ message['tools'] }}<|tool|><|/tool|>", ["phi3"], "", ""),
    ("{% for message in messages %}{{ message.content }}{% endfor %}", ["gpt_oss"], "", "openai_gptoss"),
    ("{% if tools %}in a way of its own{% endif %}", ["novel"], "", ""),
    ("", ["llama"], "", ""),
]


@pytest.mark.parametrize(("template", "kinds", "tools", "thoughts"), TEMPLATES)
def test_a_format_is_recognised_by_the_template_or_the_architecture(
    template: str, kinds: list[str], tools: str, thoughts: str
) -> None:
    assert recognise(template, kinds) == WrittenFormat(tools, thoughts)


def test_a_mistral_tokenizer_implies_the_mistral_tool_format() -> None:
    assert recognise("", ["mistral3"], mistral=True).tools == "mistral"


@pytest.mark.parametrize("engine", sorted(PINNED))
def test_the_list_of_parsers_is_that_of_the_pinned_version(engine: str) -> None:
    if engine in RECIPES:
        assert PINNED[engine]["version"] == RECIPES[engine].version, "renew pinned_parsers.json"


def test_every_parser_that_is_chosen_is_in_the_pinned_version() -> None:
    tools = {name for name, _ in parsers.TOOL_FORMATS} | set(parsers.TOOL_FORMATS_BY_TYPE.values())
    thoughts = {row[3] for row in TEMPLATES if row[3]} | set(parsers.THOUGHT_FORMATS_BY_TYPE.values())
    assert tools <= set(PINNED["vllm"]["tools"]) and thoughts <= set(PINNED["vllm"]["thoughts"])
    assert set(lmdeploy.TOOL_PARSERS) <= tools
    assert set(lmdeploy.TOOL_PARSERS.values()) <= set(PINNED["lmdeploy"]["tools"])
    assert set(lmdeploy.THOUGHT_PARSERS.values()) <= set(PINNED["lmdeploy"]["thoughts"])


def test_the_users_parser_settings_override_the_detected_ones(tmp_path: Path) -> None:
    folder = Path(model(tmp_path, model_type="qwen3"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": QWEN3}))

    def filled(**given: Any) -> dict[str, Any]:
        return dict(fill_parsers(ModelSpec("m", str(folder), parameters=given), folder).parameters)

    assert filled() == {"tool_call_parser": "hermes", "reasoning_parser": "qwen3"}
    assert filled(tool_call_parser="xlam")["tool_call_parser"] == "xlam"
    assert filled(tool_call_parser="none", reasoning_parser="none") == {}
    template_file = tmp_path / "other.jinja"
    template_file.write_text("{% if tools %}[TOOL_CALLS]{% endif %}")
    assert filled(chat_template=str(template_file))["tool_call_parser"] == "mistral"
    spec = ModelSpec("m", str(folder))
    parameters = fill_parsers(spec, folder, lmdeploy.TOOL_PARSERS, lmdeploy.THOUGHT_PARSERS).parameters
    assert parameters == {"tool_call_parser": "qwen3", "reasoning_parser": "default"}
    two = [{"name": "default", "template": "x"}, {"name": "tool_use", "template": QWEN3}]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": two}))
    assert filled()["tool_call_parser"] == "hermes"


@pytest.mark.parametrize("damaged", [b"{", b"[1]", b'{"chat_template": 5}', b"\xff\xfe"])
def test_a_damaged_tokenizer_file_leaves_the_output_format_unknown(tmp_path: Path, damaged: bytes) -> None:
    folder = Path(model(tmp_path, model_type="qwen3"))
    (folder / "tokenizer_config.json").write_bytes(damaged)
    assert parsers.output_format(folder) == WrittenFormat()


# LMDeploy's stand-in writes only text; calls that LMDeploy reads itself are tested with the real one.
@pytest.mark.parametrize(("engine", "known"), [("vllm", True), ("vllm", False), ("lmdeploy", False)])
async def test_tool_calls_are_returned_with_and_without_a_detected_parser(
    models: ModelFixture, tmp_path: Path, engine: str, known: bool
) -> None:
    folder = Path(model(tmp_path, model_type="qwen3"))
    if known:
        (folder / "chat_template.jinja").write_text(QWEN3)
    call = {"name": "weather", "arguments": {"city": "Bern"}}
    # What reaches the daemon: a call that the engine has read, or the JSON to which the model was
    # constrained.
    answer = {"tool_calls": [call]} if known else {"content": json.dumps(call)}
    parameters = {"python": interpreter(tmp_path, script=[{"match": "rain", **answer}])}
    await models.models.add(ModelSpec("m", str(folder), engine=engine, parameters=parameters))
    for choice in ({}, {"tool_choice": "auto"}):
        response = await models.ask("m", {"messages": user("will it rain?"), "tools": [WEATHER], **choice})
        [tool_call] = response["choices"][0]["message"]["tool_calls"]
        assert json.loads(tool_call["function"]["arguments"]) == {"city": "Bern"}
    line = next(line for line in models.models.logs("m", 100) if "stand-in: " in line)
    assert ("--tool-call-parser" in line) == ("--reasoning-parser" in line) == known


@pytest.mark.parametrize(
    ("template", "parameters", "is_supported"),
    [
        ("{% for message in messages %}{{ message.content }}{% endfor %}", {}, False),
        (QWEN3, {}, True),
        ("{% if enable_thinking is true %}<think>{% endif %}", {}, True),
        ("{{ message.reasoning_content }}", {}, True),
        ("{{ message.content }}", {"reasoning_parser": "deepseek_r1"}, True),
        (QWEN3, {"reasoning_parser": "none"}, True),
    ],
)
def test_a_template_tells_whether_the_model_can_reason(
    tmp_path: Path, template: str, parameters: dict[str, Any], is_supported: bool
) -> None:
    (tmp_path / "chat_template.jinja").write_text(template)
    assert parsers.supports_thoughts(tmp_path, parameters) is is_supported
    assert not parsers.supports_thoughts(None, parameters)
