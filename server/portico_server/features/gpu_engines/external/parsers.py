"""Detects how a model writes tool calls and reasoning, based on its chat template and configuration.

The names are those of vLLM 0.32 (``vllm/tool_parsers/__init__.py`` and ``vllm/reasoning/__init__.py``); other engines
translate them. If a format is not recognized, no parser is set: a wrong parser loses answers, but without a parser,
tool calls and reasoning only stay in the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from portico_server.core.dataclass import dataclass
from portico_server.models.spec import ModelSpec
from portico_server.models.thoughts import writes_thoughts

MAX_TEMPLATE_BYTES = 1024 * 1024
"""Maximum number of bytes read from a chat template, and from the file that contains it."""

MAX_TOKENIZER_CONFIG_BYTES = 32 * 1024 * 1024
"""Maximum size of a ``tokenizer_config.json``, in bytes. A file with many added tokens has several megabytes."""

NO_PARSER = "none"
"""Value of a parser parameter that leaves the model's text unchanged."""


@dataclass(frozen=True, slots=True)
class WrittenFormat:
    """Names of the parsers for a model's output. A name is empty if the format is unknown, or the template does not
    show tools to the model.
    """

    tools: str = ""
    thoughts: str = ""


TOOL_FORMATS_BY_TYPE: Mapping[str, str] = {
    "deepseek_v32": "deepseek_v32",
    "deepseek_v4": "deepseek_v4",
    "ernie4_5_moe": "ernie45",
    "glm4_moe": "glm45",
    "glm4_moe_lite": "glm47",
    "gpt_oss": "openai",
    "granitemoehybrid": "granite4",
    "internlm2": "internlm",
    "jamba": "jamba",
    "kimi_k2": "kimi_k2",
    "longcat_flash": "longcat",
    "minimax_m2": "minimax_m2",
    "olmo3": "olmo3",
    "seed_oss": "seed_oss",
    "step3p5": "step3p5",
}
"""Tool call formats by ``model_type``, for model families with a format of their own, or whose template is part of
vLLM.
"""

THOUGHT_FORMATS_BY_TYPE: Mapping[str, str] = {
    "deepseek_v4": "deepseek_v4",
    "glm4_moe": "glm45",
    "glm4_moe_lite": "glm47",
    "gpt_oss": "openai_gptoss",
    "minimax_m2": "minimax_m2_append_think",
    "seed_oss": "seed_oss",
    "step3p5": "step3p5",
}

TOOL_FORMATS: Sequence[tuple[str, Sequence[str]]] = (
    ("openai", ("<|channel|>", "<|call|>")),
    ("deepseek_v4", ("<｜DSML｜tool_calls>",)),
    ("deepseek_v3", ("<｜tool▁calls▁begin｜>", "```json")),
    ("deepseek_v31", ("<｜tool▁calls▁begin｜>", "<｜tool▁sep｜>")),
    ("kimi_k2", ("<|tool_calls_section_begin|>",)),
    ("minimax_m2", ("<minimax:tool_call>",)),
    ("seed_oss", ("<seed:tool_call>",)),
    ("gemma4", ("<|tool_call>",)),
    ("functiongemma", ("<start_function_call>",)),
    ("longcat", ("<longcat_tool_call>",)),
    ("lfm2", ("<|tool_call_start|>",)),
    ("apertus", ("<|tools_prefix|>",)),
    ("step3", ("<｜tool_calls_begin｜>",)),
    ("internlm", ("<|action_start|>", "<|plugin|>")),
    ("mistral", ("[TOOL_CALLS]",)),
    ("glm45", ("[gMASK]<sop>", "<arg_key>")),
    ("qwen3_xml", ("<tool_call>", "<function=", "<parameter=")),
    ("granite4", ("<|start_of_role|>", "<tool_call>")),
    ("granite", ("<|start_of_role|>", "<|tool_call|>")),
    ("hermes", ("<tool_call>", '"arguments"')),
    ("hunyuan_a13b", ("<tool_calls>[{",)),
    ("phi4_mini_json", ("functools[",)),
    ("llama4_json", ("<|header_start|>", '"parameters": ')),
    ("llama4_pythonic", ("<|header_start|>", "[func_name1(")),
    ("llama3_json", ("<|start_header_id|>", '"parameters": ')),
    ("pythonic", ("[func_name1(",)),
)
"""Tool call formats with the marks that identify them. The first format whose marks all occur in the chat template is
used.
"""

_SHOWS_TOOLS = re.compile(r"(?<!['\".])\btools\b(?!['\"])")
"""Matches templates that read the variable ``tools``, but not texts about tools or message fields named ``tools``."""

_THINKS_UNLESS_TOLD = re.compile(
    r"enable_thinking is defined and (?:enable_thinking is false|not enable_thinking)"
    r"|enable_thinking is not defined or "
    r"|set enable_thinking = true"
)
_BEGINS_WITH_THOUGHTS = re.compile(r"(?:assistant\\n|<｜Assistant｜>)<think>\\n")


def fill_parsers(
    spec: ModelSpec,
    path: Path | None,
    tools: Mapping[str, str] | None = None,
    thoughts: Mapping[str, str] | None = None,
) -> ModelSpec:
    """Return the spec with parsers for the model's output. Parameters that are set stay; those set to `NO_PARSER` are
    removed.

    ``tools`` and ``thoughts`` are the engine's names of the formats if they differ from vLLM's. Blocks.
    """
    parameters = dict(spec.parameters)
    written_format = output_format(path, parameters.get("chat_template"))
    for key, name in (
        ("tool_call_parser", written_format.tools if tools is None else tools.get(written_format.tools)),
        (
            "reasoning_parser",
            written_format.thoughts if thoughts is None else thoughts.get(written_format.thoughts),
        ),
    ):
        if key not in parameters and name:
            parameters[key] = name
        elif parameters.get(key) == NO_PARSER:
            del parameters[key]
    return replace(spec, parameters=parameters)


def output_format(path: Path | None, template_file: str | None = None) -> WrittenFormat:
    """Return the output format of the model in ``path``. If ``template_file`` is given, its template is used.
    Blocks.
    """
    if path is None:
        return WrittenFormat()
    config = _object(path / "config.json", MAX_TEMPLATE_BYTES)
    inner = config.get("text_config")
    kinds = [
        str(config_part.get("model_type", ""))
        for config_part in (config, inner)
        if isinstance(config_part, Mapping)
    ]
    return recognise(chat_template(path, template_file), kinds, mistral=(path / "tekken.json").is_file())


def supports_thoughts(path: Path | None, parameters: Mapping[str, Any]) -> bool:
    """Return whether the template of the model in ``path``, or a parser of the operator, supports reasoning. Blocks."""
    if path is None:
        return False
    if parameters.get("reasoning_parser", NO_PARSER) != NO_PARSER:
        return True
    template_file = parameters.get("chat_template")
    recognised_format = output_format(path, template_file)
    return bool(recognised_format.thoughts) or writes_thoughts(chat_template(path, template_file))


def recognise(template: str, kinds: Sequence[str], *, mistral: bool = False) -> WrittenFormat:
    """Return the output format for a template, which may be empty, and the model's types.

    ``mistral`` means that the tokenizer is Mistral's own, which includes the template.
    """
    if mistral:
        return WrittenFormat("mistral", "mistral" if "[THINK]" in template else "")
    tools = next((TOOL_FORMATS_BY_TYPE[kind] for kind in kinds if kind in TOOL_FORMATS_BY_TYPE), "")
    thoughts = next((THOUGHT_FORMATS_BY_TYPE[kind] for kind in kinds if kind in THOUGHT_FORMATS_BY_TYPE), "")
    if template and not _SHOWS_TOOLS.search(template):
        tools = ""
    elif not tools:
        tools = next((name for name, marks in TOOL_FORMATS if all(mark in template for mark in marks)), "")
    return WrittenFormat(tools, thoughts or _thoughts(template))


def _thoughts(template: str) -> str:
    if "<|channel|>" in template and "<|call|>" in template:
        return "openai_gptoss"
    if "<|channel>" in template:
        return "gemma4"
    if "[THINK]" in template:
        return "mistral"
    if "<｜tool▁calls▁begin｜>" in template and "set thinking = false" in template:
        return "deepseek_v3"
    if "<tool_calls>[{" in template:
        return "hunyuan_a13b"
    if "<think>" in template and _THINKS_UNLESS_TOLD.search(template):
        return "qwen3"
    if "enable_thinking" not in template and _BEGINS_WITH_THOUGHTS.search(template):
        return "deepseek_r1"
    return ""


def chat_template(path: Path, template_file: str | None = None) -> str:
    """Return the chat template of a model, or "" if it has none. If it has several, return the template for tools.
    Blocks.
    """
    _contexts = Path(template_file).expanduser() if template_file else path / "chat_template.jinja"
    try:
        with _contexts.open("rb") as file:
            return file.read(MAX_TEMPLATE_BYTES).decode("utf-8", "replace")
    except OSError:
        template = _object(path / "tokenizer_config.json", MAX_TOKENIZER_CONFIG_BYTES).get("chat_template")
    if isinstance(template, list):
        named_templates = {
            template_entry.get("name"): template_entry.get("template")
            for template_entry in template
            if isinstance(template_entry, Mapping)
        }
        template = named_templates.get("tool_use") or named_templates.get("default")
    return template if isinstance(template, str) else ""


def _object(path: Path, limit: int) -> Mapping[str, Any]:
    """Return the object in a JSON file. Return an empty object if the file cannot be read, because starting the model
    reports the error.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
        document = orjson.loads(data) if len(data) <= limit else {}
    except (OSError, orjson.JSONDecodeError):
        return {}
    return document if isinstance(document, dict) else {}
