"""Parser of the body of ``POST /v1/responses`` into a `ResponseRequest`. Raises `InvalidRequest` with the path of the
invalid field.

An unsupported field that would change the answer is rejected by name; a field that is only a hint is accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from portico_server.core import fields, json_values
from portico_server.core.errors import InvalidRequest, nearest
from portico_server.core.fields import BodyField, RequestBody
from portico_server.core.invalid import missing, not_one_of, unsupported, wrong
from portico_server.core.words import whole_number
from portico_server.features.responses import items, tools
from portico_server.features.responses.ids import ItemIds
from portico_server.features.responses.request import ResponseRequest

HINTS: Final = frozenset(
    {
        *("access_programs", "client_metadata", "image", "personality"),
        *("prompt_cache_key", "prompt_cache_options"),
        *("prompt_cache_retention", "safety_identifier", "service_tier", "stream_options", "user"),
    }
)
"""Fields that do not affect the answer."""

WINDOWS: Final = ("2h", "8h")
"""Completion windows, in hours, that a background response without urgency may request."""

PASSED: Final[Mapping[str, BodyField]] = {
    "seed": fields.integer(),
    "stop": fields.STOP,
    "presence_penalty": fields.number(-2, 2),
    "frequency_penalty": fields.number(-2, 2),
    "logit_bias": fields.LOGIT_BIAS,
    "top_k": fields.integer(),
    "min_p": fields.number(0, 1),
    "repetition_penalty": fields.number(0, 10),
    "chat_template_kwargs": fields.mapping(),
}
"""Chat options that local models support and OpenAI's Responses API does not."""

INCLUDES: Final = (
    "file_search_call.results",
    "code_interpreter_call.outputs",
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "message.input_image.image_url",
    "web_search_call.action.sources",
    "web_search_call.results",
    "computer_call_output.output.image_url",
)

EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
TRUNCATIONS: Final = ("auto", "disabled")
VERBOSITIES: Final = ("low", "medium", "high")
FORMATS: Final = ("text", "json_object", "json_schema")

MIN_THRESHOLD_TOKENS: Final = 100
"""Lowest accepted ``compact_threshold``, in tokens."""

MAX_PERSONALITY_CHARS: Final = 64
"""Maximum length of the name of a personality, in characters."""

MAX_METADATA_ENTRIES: Final = 16
"""Maximum number of metadata entries; keys may have 64 characters, and values 512."""


def read(body: Mapping[str, Any], mint: ItemIds) -> ResponseRequest:
    """Parse the request; ``mint`` creates ids for items that have none."""
    given_fields = {name: value for name, value in body.items() if value is not None}
    for name in given_fields:
        if name not in _KNOWN and name != "moderation":
            raise InvalidRequest(
                f"Unknown parameter: '{name[:100]}'.{nearest(name, _KNOWN)}",
                code="unknown_parameter",
                param=name[:100],
            )
    if "moderation" in given_fields:
        unsupported(
            "moderation",
            "is not supported: send the texts to /v1/moderations, or guard the model ('guards' in the configuration)",
        )
    RESPONSE.check(given_fields)
    background = given_fields.get("background", False)
    compacts = _triggered(given_fields)
    for name in given_fields:  # fields that the response repeats or that are stored as received
        if name in HINTS or name == "tool_choice" or background:
            json_values.shallow(given_fields[name], name)
    options, echo = _options(given_fields)
    _add_tools_of_input(given_fields)
    declared_tools, choice = tools.read(given_fields)
    input_items = items.read(given_fields["input"], mint) if "input" in given_fields else []
    for number, item in enumerate(input_items):
        if item["type"] == "tool_search_output":
            tools.parse_tools(item["tools"], f"input[{number}].tools")
    store = given_fields.get("store", True)
    if background and not store:
        wrong("background", "needs 'store': a response that is not stored cannot be answered later")
    window = given_fields.get("background_options", {}).get("completion_window")
    if window in WINDOWS and (not background or given_fields.get("stream")):
        wrong(
            "background_options.completion_window",
            f"is '{window}', which needs 'background' and excludes 'stream'",
        )
    ask = ResponseRequest(
        body=body,
        model=given_fields["model"],
        input=tuple(input_items),
        instructions=given_fields.get("instructions", ""),
        options=options,
        tools=declared_tools,
        choice=choice,
        most_calls=given_fields.get("max_tool_calls"),
        most_tokens=given_fields.get("max_output_tokens"),
        include=frozenset(given_fields.get("include", ())),
        previous=given_fields.get("previous_response_id", ""),
        conversation=_conversation(given_fields.get("conversation", "")),
        prompt=echo["prompt"],
        store=store,
        stream=given_fields.get("stream", False),
        background=background,
        truncate=given_fields.get("truncation") == "auto",
        compacts=compacts,
        threshold=_threshold(given_fields.get("context_management", [])),
        echo={
            **echo,
            "tools": tools.as_shown(given_fields.get("tools") or ()),
            "tool_choice": given_fields.get("tool_choice", "auto"),
        },
    )
    if ask.previous and ask.conversation:
        wrong("conversation", "and 'previous_response_id' cannot be used together: send one of them")
    if not (ask.input or "input" in given_fields or ask.previous or ask.conversation or ask.prompt):
        missing("input")
    return ask


def compaction(body: Mapping[str, Any], mint: ItemIds) -> ResponseRequest:
    """Parse the body of ``POST /v1/responses/compact``, which has fewer fields."""
    known_fields = {*HINTS, "model", "input", "instructions", "previous_response_id"}
    for name, value in body.items():
        if value is not None and name not in known_fields:
            raise InvalidRequest(
                f"'{name[:100]}' is not a parameter of a compaction.{nearest(name, known_fields)}",
                code="unknown_parameter",
                param=name[:100],
            )
    return replace(read({**body, "store": False}, mint), compacts=True, keeps=True)


def _add_tools_of_input(given_fields: dict[str, Any]) -> None:
    """Add the tools in ``additional_tools`` items of the input to the tools of the request, each once."""
    input_items = given_fields.get("input")
    tool_lists = {
        f"input[{number}].tools": item["tools"]
        for number, item in enumerate(input_items if isinstance(input_items, list) else ())
        if isinstance(item, dict) and item.get("type") == "additional_tools" and item.get("tools")
    }
    if not tool_lists:
        return
    all_tools: dict[bytes, Any] = {}
    for at, tool_list in {"tools": given_fields.get("tools") or [], **tool_lists}.items():
        for tool in json_values.items(json_values.shallow(tool_list, at), at, "a list of tools"):
            all_tools[orjson.dumps(tool, option=orjson.OPT_SORT_KEYS)] = tool
        if len(all_tools) > tools.MAX_TOOLS:
            wrong(at, f"brings the request above {tools.MAX_TOOLS} tools")
    given_fields["tools"] = list(all_tools.values())


def _triggered(given_fields: dict[str, Any]) -> bool:
    """Return whether the last item of the input requests a compaction, and remove this item."""
    input_items = given_fields.get("input")
    if not isinstance(input_items, list):
        return False
    kinds = [input_item.get("type") if isinstance(input_item, dict) else None for input_item in input_items]
    if "compaction_trigger" not in kinds:
        return False
    if kinds.index("compaction_trigger") != len(kinds) - 1:
        at = f"input[{kinds.index('compaction_trigger')}]"
        wrong(at, "requests a compaction, and must be the last item")
    given_fields["input"] = input_items[:-1]
    return True


def _threshold(value: Any) -> int | None:
    """Return the number of tokens above which a conversation is compacted; ``None`` for never."""
    threshold: int | None = None
    for number, strategy in enumerate(json_values.items(value, "context_management", "a list of objects")):
        at = f"context_management[{number}]"
        if json_values.mapping(strategy, at).get("type") != "compaction":
            not_one_of(f"{at}.type", strategy.get("type"), ("compaction",))
        for name in strategy:
            if name not in ("type", "compact_threshold"):
                wrong(f"{at}.{name[:100]}", "is an unknown parameter", code="unknown_parameter")
        raw_threshold = strategy.get("compact_threshold")
        if raw_threshold is None:
            missing(f"{at}.compact_threshold")
        new_threshold = json_values.integer(raw_threshold, f"{at}.compact_threshold", MIN_THRESHOLD_TOKENS)
        threshold = new_threshold if threshold is None else min(threshold, new_threshold)
    return threshold


def _options(given_fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of the chat, and the fields in which the response repeats the request's settings."""
    options: dict[str, Any] = {
        name: given_fields[name]
        for name in given_fields
        if name in PASSED or name in ("temperature", "top_p")
    }
    logprobs = given_fields.get("top_logprobs", 0)
    if logprobs or "message.output_text.logprobs" in given_fields.get("include", ()):
        options["logprobs"] = True
        if logprobs:
            options["top_logprobs"] = logprobs
    max_output_tokens = given_fields.get("max_output_tokens")
    if max_output_tokens is not None:
        options["max_tokens"] = max_output_tokens
    effort = given_fields.get("reasoning", {}).get("effort")
    if effort is not None:
        options["reasoning_effort"] = effort
    parallel = given_fields.get("parallel_tool_calls", True)
    if "parallel_tool_calls" in given_fields and given_fields.get("tools"):
        options["parallel_tool_calls"] = parallel
    text, form = _text(given_fields.get("text", {}))
    if form is not None:
        options["response_format"] = form
    echo = {
        "instructions": given_fields.get("instructions"),
        "metadata": given_fields.get("metadata", {}),
        "temperature": options.get("temperature", 1.0),
        "top_p": options.get("top_p", 1.0),
        "presence_penalty": options.get("presence_penalty", 0.0),
        "frequency_penalty": options.get("frequency_penalty", 0.0),
        "top_logprobs": logprobs,
        "max_output_tokens": max_output_tokens,
        "max_tool_calls": given_fields.get("max_tool_calls"),
        "reasoning": {"effort": effort, "summary": None},
        "parallel_tool_calls": parallel,
        "text": text,
        "truncation": given_fields.get("truncation", "disabled"),
        "prompt": _prompt(given_fields.get("prompt")),
        "prompt_cache_key": given_fields.get("prompt_cache_key"),
        "safety_identifier": given_fields.get("safety_identifier"),
        "user": given_fields.get("user"),
    }
    return options, echo


def _text(value: Any) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return ``text`` as the response repeats it, and the ``response_format`` of the chat if the request sets one."""
    given_fields = json_values.mapping(value, "text")
    verbosity = json_values.one_of(given_fields.get("verbosity") or "medium", "text.verbosity", VERBOSITIES)
    form = json_values.mapping(
        given_fields.get("format") or {"type": "text"}, "text.format", "an object with a 'type'"
    )
    kind = form.get("type")
    if kind not in FORMATS:
        not_one_of("text.format.type", kind, FORMATS)
    if kind == "text":
        return {"format": {"type": "text"}, "verbosity": verbosity}, None
    if kind == "json_object":
        return {"format": {"type": "json_object"}, "verbosity": verbosity}, {"type": "json_object"}
    schema = json_values.mapping(form.get("schema"), "text.format.schema", "a JSON Schema object")
    format_name = json_values.needed(form, "name", "text.format")
    fields.check_schema(format_name, schema, "text.format.schema")
    schema_fields = {
        "name": format_name,
        "schema": json_values.shallow(schema, "text.format.schema"),
    }
    for name in ("description", "strict"):
        if form.get(name) is not None:
            schema_fields[name] = form[name]
    text = {"format": {"type": "json_schema", "description": None, "strict": False, **schema_fields}}
    return {**text, "verbosity": verbosity}, {"type": "json_schema", "json_schema": schema_fields}


def include(value: Any) -> frozenset[str]:
    """Parse the ``include`` parameter of a request for a stored response."""
    _check_include(value, "include")
    return frozenset(value)


def _check_include(value: Any, path: str) -> None:
    for number, word in enumerate(json_values.texts(value, path)):
        if word not in INCLUDES:
            not_one_of(f"{path}[{number}]", word, INCLUDES)


def _conversation(value: Any) -> str:
    if isinstance(value, dict):
        return json_values.needed(value, "id", "conversation")
    return json_values.text(value, "conversation")


def _prompt(value: Any) -> Mapping[str, Any] | None:
    if value is None:
        return None
    given_fields = json_values.mapping(value, "prompt", "an object with an 'id'")
    version = given_fields.get("version")
    if version is not None and not (isinstance(version, str) and whole_number(version, 9) is not None):
        wrong("prompt.version", "must be a version number, as a string")
    variables = json_values.mapping(given_fields.get("variables") or {}, "prompt.variables")
    for name, variable in variables.items():
        if isinstance(variable, dict) and variable.get("type") != "input_text":
            unsupported(f"prompt.variables.{name}", "must be a string: Portico's prompts accept only strings")
    json_values.shallow(variables, "prompt.variables")
    return {
        "id": json_values.needed(given_fields, "id", "prompt"),
        "version": version,
        "variables": variables,
    }


def _metadata(value: Any, path: str) -> None:
    entries = json_values.mapping(value, path)
    if len(entries) > MAX_METADATA_ENTRIES:
        wrong(path, f"has {len(entries)} entries; the maximum is {MAX_METADATA_ENTRIES}")
    for name, entry in entries.items():
        if len(name) > 64:
            wrong(path, "has a key of more than 64 characters")
        if len(json_values.text(entry, f"{path}.{name}")) > 512:
            wrong(f"{path}.{name}", "has more than 512 characters")


def metadata(value: Any) -> dict[str, str]:
    """Parse metadata: a mapping of strings to strings. Raises `InvalidRequest` above OpenAI's limits."""
    _metadata(value, "metadata")
    entries: dict[str, str] = value
    return entries


def _word(*words: str) -> BodyField:
    def check(value: Any, path: str) -> None:
        if value not in words:
            not_one_of(path, value, words)

    return BodyField(check, {"enum": [*words]})


def _model(value: Any, path: str) -> None:
    if not json_values.text(value, path):
        missing(path)


_STRING: Final = {"type": "string"}
_OBJECT: Final = {"type": "object"}

RESPONSE: Final = RequestBody(
    {"model": BodyField(_model, {**_STRING, "description": "A name from GET /v1/models"})},
    {
        **{name: fields.any_value() for name in sorted(HINTS)},
        **PASSED,
        "input": fields.any_value(oneOf=[_STRING, {"type": "array", "items": _OBJECT}]),
        "instructions": fields.text(),
        "stream": fields.boolean().annotate(default=False),
        "store": fields.boolean().annotate(default=True),
        "background": fields.boolean().annotate(default=False),
        # Work starts immediately, so every completion window is met.
        "background_options": fields.closed_object(
            {"completion_window": fields.choice("soonest", *WINDOWS), "continuation_id": fields.text()}
        ),
        "previous_response_id": fields.text(),
        "conversation": fields.any_value(oneOf=[_STRING, {**_OBJECT, "required": ["id"]}]),
        "context_management": fields.any_value(
            type="array",
            items={
                **_OBJECT,
                "required": ["type", "compact_threshold"],
                "properties": {
                    "type": {"const": "compaction"},
                    "compact_threshold": {"type": "integer", "minimum": MIN_THRESHOLD_TOKENS},
                },
            },
        ),
        "tools": fields.any_value(
            type="array", maxItems=tools.MAX_TOOLS, items={**_OBJECT, "required": ["type"]}
        ),
        "tool_choice": fields.any_value(oneOf=[{"enum": ["none", "auto", "required"]}, _OBJECT]),
        "parallel_tool_calls": fields.boolean().annotate(default=True),
        "max_tool_calls": fields.integer(1),
        "max_output_tokens": fields.integer(1),
        "temperature": fields.number(0, 2),
        "top_p": fields.number(0, 1),
        "top_logprobs": fields.integer(0, 20),
        "text": fields.any_value(
            **_OBJECT,
            properties={
                "verbosity": {"enum": [*VERBOSITIES], "default": "medium"},
                "format": {**_OBJECT, "properties": {"type": {"enum": [*FORMATS]}}},
            },
        ),
        "reasoning": fields.mapping({"effort": _word(*EFFORTS)}),
        "prompt": fields.any_value(**_OBJECT, required=["id"]),
        "truncation": _word(*TRUNCATIONS).annotate(default="disabled"),
        "include": BodyField(_check_include, {"type": "array", "items": {"enum": [*INCLUDES]}}),
        "metadata": BodyField(
            _metadata,
            {
                **_OBJECT,
                "maxProperties": MAX_METADATA_ENTRIES,
                "propertyNames": {"maxLength": 64},
                "additionalProperties": {**_STRING, "maxLength": 512},
            },
        ),
        "personality": fields.identifier(MAX_PERSONALITY_CHARS),
        "prompt_cache_key": fields.text(),
        "safety_identifier": fields.text(),
        "user": fields.text(),
    },
    example={"model": "default", "input": "Hello"},
)
"""Fields of ``POST /v1/responses``. The parser of a structured field checks its contents."""

_KNOWN: Final = frozenset({*RESPONSE.required, *RESPONSE.optional})
