"""What must be right in a request before a model sees it. Pure: values in, `InvalidRequest` with a path out.

Fields that are not known here travel on untouched, and ``null`` means absent, as it does at OpenAI.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from portico_server.core.invalid import missing as _missing
from portico_server.core.invalid import not_one_of as _not_one_of
from portico_server.core.invalid import wrong as _wrong
from portico_server.core.invalid import wrong_type as _wrong_type

MAX_CHOICES = 8
MAX_STOPS = 4
MAX_MESSAGES = 10_000
MAX_TOOLS = 128
MAX_INPUTS = 2048
MAX_METADATA = 16
MAX_METADATA_NAME = 64
MAX_METADATA_VALUE = 512

ROLES = ("developer", "system", "user", "assistant", "tool", "function")
PARTS = ("text", "image_url", "input_audio", "file", "refusal")
FORMATS = ("text", "json_object", "json_schema")

_FUNCTION_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

Check = Callable[[Any, str], None]


def chat(body: Mapping[str, Any]) -> None:
    """Check the body of ``POST /v1/chat/completions``."""
    model(body)
    messages(body.get("messages"))
    known_fields(body, _CHAT)
    _tool_choice(body)
    if body.get("top_logprobs") is not None and not body.get("logprobs"):
        _wrong("top_logprobs", "needs 'logprobs' to be true")
    _stream_options(body)


def completions(body: Mapping[str, Any]) -> None:
    """Check the body of ``POST /v1/completions``."""
    model(body)
    prompt = body.get("prompt")
    if prompt is None:
        _missing("prompt")
    if isinstance(prompt, list):
        _texts_or_tokens(prompt, "prompt", empty=True)
    elif not isinstance(prompt, str):
        _wrong_type("prompt", "a string or a list of strings", prompt)
    known_fields(body, _COMPLETIONS)
    _stream_options(body)


def embeddings(body: Mapping[str, Any]) -> None:
    """Check the body of ``POST /v1/embeddings``."""
    model(body)
    texts = body.get("input")
    if texts is None:
        _missing("input")
    if isinstance(texts, list):
        _texts_or_tokens(texts, "input", empty=False)
    elif not isinstance(texts, str):
        _wrong_type("input", "a string or a list of strings", texts)
    elif not texts:
        _wrong("input", "must not be empty")
    known_fields(body, _EMBEDDINGS)


# --- the whole ----------------------------------------------------------------------------------------------


def model(body: Mapping[str, Any]) -> None:
    """Check that the body names a model."""
    name = body.get("model")
    if name is None:
        _missing("model")
    if not isinstance(name, str):
        _wrong_type("model", "a string", name)
    if not name:
        _wrong("model", "must not be empty; GET /v1/models lists the names")


def known_fields(body: Mapping[str, Any], checks: Mapping[str, Check]) -> None:
    """Check each field that ``checks`` knows and that is there."""
    for name, value in body.items():
        check = checks.get(name)
        if check is not None and value is not None:
            check(value, name)


def _stream_options(body: Mapping[str, Any]) -> None:
    options = body.get("stream_options")
    if options is None:
        return
    if not body.get("stream"):
        _wrong("stream_options", "is only allowed when 'stream' is true")
    include = options.get("include_usage")
    if include is not None:
        boolean(include, "stream_options.include_usage")


def _texts_or_tokens(items: list[Any], path: str, *, empty: bool) -> None:
    """A list of strings, of token numbers, or of lists of these; which of them a model takes, it says."""
    if not items:
        _wrong(path, "must not be an empty list")
    if len(items) > MAX_INPUTS:
        _wrong(path, f"has {len(items)} items; at most {MAX_INPUTS} are taken in one request")
    kind = str if isinstance(items[0], str) else list if isinstance(items[0], list) else int
    for index, item in enumerate(items):
        if type(item) is not kind:
            _wrong_type(f"{path}[{index}]", "of the same kind as the first item", item)
        if item in ("", []) and not empty:
            _wrong(f"{path}[{index}]", "must not be empty")


# --- messages -----------------------------------------------------------------------------------------------


def messages(found: Any) -> None:
    """Check the messages of a conversation."""
    if found is None:
        _missing("messages")
    if not isinstance(found, list):
        _wrong_type("messages", "a list of messages", found)
    if not found:
        _wrong("messages", "must hold at least one message")
    if len(found) > MAX_MESSAGES:
        _wrong("messages", f"has {len(found)} messages; at most {MAX_MESSAGES} are taken")
    for index, message in enumerate(found):
        if not isinstance(message, dict):
            _wrong_type(f"messages[{index}]", "an object with 'role' and 'content'", message)
        role = message.get("role")
        if role not in ROLES:
            if role is None:
                _missing(f"messages[{index}].role")
            _not_one_of(f"messages[{index}].role", role, ROLES)
        content = message.get("content")
        if type(content) is str:
            pass
        elif isinstance(content, list):
            _parts(content, f"messages[{index}].content")
        elif content is not None:
            _wrong_type(f"messages[{index}].content", "a string or a list of content parts", content)
        elif role not in ("assistant", "function"):
            _missing(f"messages[{index}].content")
        if role == "assistant" and message.get("tool_calls") is not None:
            _tool_calls(message["tool_calls"], f"messages[{index}].tool_calls")
        elif role == "tool" and not isinstance(message.get("tool_call_id"), str):
            _missing(f"messages[{index}].tool_call_id")


def _parts(parts: list[Any], path: str) -> None:
    if not parts:
        _wrong(path, "must not be an empty list")
    for index, part in enumerate(parts):
        at = f"{path}[{index}]"
        if not isinstance(part, dict):
            _wrong_type(at, "an object with a 'type'", part)
        kind = part.get("type")
        if kind not in PARTS:
            _not_one_of(f"{at}.type", kind, PARTS)
        if kind == "text" and not isinstance(part.get("text"), str):
            _wrong_type(f"{at}.text", "a string", part.get("text"))
        if kind == "image_url":
            image = part.get("image_url")
            if not isinstance(image, dict) or not isinstance(image.get("url"), str):
                _wrong(f"{at}.image_url", "must be an object with a string 'url'")


def _tool_calls(calls: Any, path: str) -> None:
    if not isinstance(calls, list):
        _wrong_type(path, "a list", calls)
    for index, call in enumerate(calls):
        at = f"{path}[{index}]"
        if not isinstance(call, dict):
            _wrong_type(at, "an object with 'id', 'type' and 'function'", call)
        if not isinstance(call.get("id"), str):
            _missing(f"{at}.id")
        if call.get("type", "function") != "function":
            continue
        function = call.get("function")
        if not isinstance(function, dict):
            _wrong_type(f"{at}.function", "an object with 'name' and 'arguments'", function)
        for name in ("name", "arguments"):
            if not isinstance(function.get(name), str):
                _wrong_type(f"{at}.function.{name}", "a string", function.get(name))


# --- tools and formats --------------------------------------------------------------------------------------


def _tools(tools: Any, path: str) -> None:
    if not isinstance(tools, list):
        _wrong_type(path, "a list of tools", tools)
    if len(tools) > MAX_TOOLS:
        _wrong(path, f"has {len(tools)} items; at most {MAX_TOOLS} are taken")
    for index, tool in enumerate(tools):
        at = f"{path}[{index}]"
        if not isinstance(tool, dict) or not isinstance(tool.get("type"), str):
            _wrong(at, "must be an object with a string 'type'")
        if tool["type"] != "function":
            continue  # declared by some clients always; nothing here calls it
        function = tool.get("function")
        if not isinstance(function, dict):
            _wrong_type(f"{at}.function", "an object with a 'name'", function)
        name = function.get("name")
        if not isinstance(name, str) or not _FUNCTION_NAME.fullmatch(name):
            _wrong(f"{at}.function.name", "must be 1 to 64 letters, digits, dots, dashes or underscores")
        parameters = function.get("parameters")
        if parameters is not None and not isinstance(parameters, dict):
            _wrong_type(f"{at}.function.parameters", "a JSON Schema object", parameters)


def _tool_choice(body: Mapping[str, Any]) -> None:
    choice = body.get("tool_choice")
    if choice is None or choice in ("none", "auto"):
        return
    names = {tool["function"]["name"] for tool in body.get("tools") or () if tool.get("type") == "function"}
    if choice == "required":
        if not names:
            _wrong("tool_choice", "is 'required', but 'tools' lists no function")
        return
    if isinstance(choice, str):
        _not_one_of("tool_choice", choice, ("none", "auto", "required"))
    if not isinstance(choice, dict):
        _wrong_type("tool_choice", "a string or an object", choice)
    if choice.get("type") != "function":
        return
    function = choice.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        _missing("tool_choice.function.name")
    if name not in names:
        listed = ", ".join(sorted(names)) or "nothing"
        _wrong("tool_choice.function.name", f"is '{name}', but 'tools' lists {listed}")


def _response_format(value: Any, path: str) -> None:
    if not isinstance(value, dict):
        _wrong_type(path, "an object with a 'type'", value)
    kind = value.get("type")
    if kind not in FORMATS:
        _not_one_of(f"{path}.type", kind, FORMATS)
    if kind != "json_schema":
        return
    wrapper = value.get("json_schema")
    if not isinstance(wrapper, dict):
        _missing(f"{path}.json_schema")
    if not isinstance(wrapper.get("name"), str):
        _missing(f"{path}.json_schema.name")
    if not isinstance(wrapper.get("schema"), dict):
        _wrong_type(f"{path}.json_schema.schema", "a JSON Schema object", wrapper.get("schema"))


def _stop(value: Any, path: str) -> None:
    if isinstance(value, str):
        return
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        _wrong_type(path, "a string or a list of strings", value)
    if len(value) > MAX_STOPS:
        _wrong(path, f"has {len(value)} items; at most {MAX_STOPS} are taken")


# --- single values ------------------------------------------------------------------------------------------


def number(low: float, high: float) -> Check:
    """A number within limits."""

    def check(value: Any, path: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            _wrong_type(path, f"a number from {low:g} to {high:g}", value)
        if not low <= value <= high:
            _wrong(path, f"is {value}, but must be from {low:g} to {high:g}")

    return check


def integer(low: int | None = None, high: int | None = None) -> Check:
    """A whole number within limits."""
    if high is not None:
        wanted = f"a whole number from {low} to {high}"
    else:
        wanted = "a whole number" if low is None else f"a whole number of at least {low}"

    def check(value: Any, path: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            _wrong_type(path, wanted, value)
        if (low is not None and value < low) or (high is not None and value > high):
            _wrong(path, f"is {value}, but must be {wanted}")

    return check


def one_of(*words: str) -> Check:
    """One of these words."""

    def check(value: Any, path: str) -> None:
        if value not in words:
            _not_one_of(path, value, words)

    return check


def boolean(value: Any, path: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        _wrong_type(path, "true or false", value)


def _metadata(value: Any, path: str) -> None:
    """At most 16 pairs of a name of 64 characters and a value of 512, as OpenAI has it."""
    is_object(value, path)
    if len(value) > MAX_METADATA:
        _wrong(path, f"has {len(value)} entries; at most {MAX_METADATA} are allowed")
    for name, item in value.items():
        if len(name) > MAX_METADATA_NAME:
            _wrong(path, f"has a name of {len(name)} characters; at most {MAX_METADATA_NAME} are allowed")
        if isinstance(item, str) and len(item) > MAX_METADATA_VALUE:
            _wrong(f"{path}.{name}", f"has {len(item)} characters; at most {MAX_METADATA_VALUE} are allowed")
        if isinstance(item, dict | list):
            _wrong_type(f"{path}.{name}", "a string", item)


def is_object(value: Any, path: str) -> None:
    """A JSON object."""
    if not isinstance(value, dict):
        _wrong_type(path, "an object", value)


def string(value: Any, path: str) -> None:
    """A text."""
    if not isinstance(value, str):
        _wrong_type(path, "a string", value)


_SAMPLING: Mapping[str, Check] = {
    "temperature": number(0, 2),
    "top_p": number(0, 1),
    "presence_penalty": number(-2, 2),
    "frequency_penalty": number(-2, 2),
    "n": integer(1, MAX_CHOICES),
    "max_tokens": integer(1),
    "seed": integer(),
    "stop": _stop,
    "stream": boolean,
    "stream_options": is_object,
    "logit_bias": is_object,
    "user": string,
}

_CHAT: Mapping[str, Check] = {
    **_SAMPLING,
    "max_completion_tokens": integer(1),
    "logprobs": boolean,
    "top_logprobs": integer(0, 20),
    "tools": _tools,
    "response_format": _response_format,
    "parallel_tool_calls": boolean,
    "metadata": _metadata,
}

_COMPLETIONS: Mapping[str, Check] = {
    **_SAMPLING,
    "logprobs": integer(0, 5),
    "echo": boolean,
    "suffix": string,
    "best_of": integer(1, MAX_CHOICES),
}

_EMBEDDINGS: Mapping[str, Check] = {
    "encoding_format": one_of("float", "base64"),
    "dimensions": integer(1),
    "user": string,
}
