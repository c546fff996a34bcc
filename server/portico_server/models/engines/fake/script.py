"""The script of a fake model, and its imitation of a real model. See `docs/fake-engine.md`."""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, fields, replace
from pathlib import Path
from typing import Any

import orjson

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest
from portico_server.core.ids import new_id
from portico_server.models.engines.openai_client.resolved_schema import SchemaResolver
from portico_server.models.openai_wire import arguments_schema, type_of

MAX_START_S = 3_600
"""Seconds."""


@dataclass(frozen=True, slots=True)
class ScriptedFailure:
    """An error that is returned instead of a reply. If ``type`` is empty, ``status`` determines it."""

    status: int = 500
    message: str = "Failure defined by the script."
    type: str = ""
    code: str | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class ScriptedReply:
    """A rule of a script.

    The first rule that may still be used, and whose ``match`` is found in the last user message, determines the reply.
    If ``system`` or ``result`` is given, it must be found too: ``system`` in the instructions, and ``result`` in the
    tool results after the last user message.

    ``delay`` is the time before the first word and ``interval`` the time between words, in seconds. After ``crash`` or
    ``hang`` words, the process dies or stops responding. ``times`` is how often the rule may be used.
    """

    match: str = ""
    system: str = ""
    result: str = ""
    content: tuple[str, ...] = ()
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    finish_reason: str = ""
    delay: float = 0.0
    interval: float = 0.0
    error: ScriptedFailure | None = None
    crash: int | None = None
    hang: int | None = None
    times: int | None = None


@dataclass(frozen=True, slots=True)
class Script:
    """Rules in the order in which they are tried. If no rule matches a request, the request is echoed. ``start`` is
    the loading time of the model in seconds.
    """

    replies: tuple[ScriptedReply, ...] = ()
    context_length: int | None = None
    dimensions: int = 64
    start: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def with_limits(self, context_length: Any, dimensions: Any) -> Script:
        """Return the script with the given limits, which replace the limits in the script."""
        limits = {"context_length": context_length, "dimensions": dimensions}
        return read_script(
            {**self.to_json(), **{name: value for name, value in limits.items() if value is not None}}
        )


def load_script(script_value: Any) -> Script:
    """Load a script from a path or from parsed YAML. An empty value means an empty script.

    Raises `InvalidRequest` with the position of the error.
    """
    if isinstance(script_value, str) and script_value:
        import yaml  # needed only if the script is in a file

        path = Path(script_value).expanduser()
        try:
            script_value = yaml.safe_load(path.read_text("utf-8"))
        except OSError as error:
            raise InvalidRequest(
                f"The fake model's script {path} cannot be read: {error.strerror}.", param="script"
            ) from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"The script {path} is not valid YAML: {error}", param="script") from error
    if isinstance(script_value, list):
        script_value = {"replies": script_value}
    return read_script(script_value or {})


def read_script(value: Any) -> Script:
    """Parse a script from objects parsed from YAML or JSON. Raise `InvalidRequest` with the position of the error."""
    known_fields = _fields(value, Script, "script")
    replies = known_fields.pop("replies", None) or []
    if not isinstance(replies, list | tuple):
        raise InvalidRequest("'replies' in a fake model's script must be a list.", param="script")
    for name in ("context_length", "dimensions"):
        number = known_fields.get(name)
        if number is not None and (not isinstance(number, int) or number < 1):
            raise InvalidRequest(f"'{name}' in a fake model's script must be an integer ≥ 1.", param="script")
    start = known_fields.get("start")
    if start is not None and (not isinstance(start, int | float) or not 0 <= start <= MAX_START_S):
        raise InvalidRequest(
            f"'start' in a fake model's script must be a number from 0 to {MAX_START_S}.", param="script"
        )
    rules = tuple(_reply(reply, f"replies[{index}]") for index, reply in enumerate(replies))
    return replace(Script(rules), **{name: item for name, item in known_fields.items() if item is not None})


def _reply(value: Any, path: str) -> ScriptedReply:
    if isinstance(value, str):
        return ScriptedReply(content=(value,))
    known_fields = _fields(value, ScriptedReply, path)
    content = known_fields.get("content") or ()
    known_fields["content"] = (content,) if isinstance(content, str) else tuple(str(item) for item in content)
    known_fields["tool_calls"] = tuple(known_fields.get("tool_calls") or ())
    if known_fields.get("error") is not None:
        failure = ScriptedFailure(**_fields(known_fields["error"], ScriptedFailure, f"{path}.error"))
        known_fields["error"] = replace(failure, type=failure.type or type_of(failure.status))
    for call in known_fields["tool_calls"]:
        if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
            raise InvalidRequest(
                f"'{path}.tool_calls' must be objects with 'name' and 'arguments'.", param="script"
            )
    for name in ("match", "system", "result"):
        try:
            re.compile(str(known_fields.get(name) or ""))
        except re.error as error:
            raise InvalidRequest(
                f"'{path}.{name}' is not a valid regular expression: {error}.", param="script"
            ) from error
    return ScriptedReply(**{name: item for name, item in known_fields.items() if item is not None})


def _fields(value: Any, cls: type[Any], path: str) -> dict[str, Any]:
    names = [item.name for item in fields(cls)]
    if not isinstance(value, Mapping):
        raise InvalidRequest(
            f"'{path}' must be an object with any of these fields: {', '.join(names)}.", param="script"
        )
    for name in value:
        if name not in names:
            raise InvalidRequest(
                f"'{path}' has an unknown field '{name}'.{nearest(str(name), names)}", param="script"
            )
    return dict(value)


@dataclass(slots=True)
class ScriptPlayer:
    """Plays a script: decides which rule answers a request, and counts how often each rule was used."""

    script: Script
    _use_counts: dict[int, int] = field(default_factory=dict)

    def next(self, prompt: str, system: str = "", results: str = "") -> ScriptedReply:
        """Return the rule for the last user message. If the rule has several texts, its content is the next of them.

        ``results`` are the tool results since the last user message.
        """
        for index, rule in enumerate(self.script.replies):
            use_count = self._use_counts.get(index, 0)
            match = _search(rule.match, prompt)
            if rule.result and match is not None:
                match = _search(rule.result, results)
            if match is None or _search(rule.system, system) is None:
                continue
            if rule.times is not None and use_count >= rule.times:
                continue
            self._use_counts[index] = use_count + 1
            text = rule.content[min(use_count, len(rule.content) - 1)] if rule.content else ""
            return replace(
                rule,
                content=(_expand(match, text),),
                tool_calls=tuple(
                    {"name": call["name"], "arguments": _deep(match, call.get("arguments", {}))}
                    for call in rule.tool_calls
                ),
            )
        return ScriptedReply(content=(prompt,))


def _search(pattern: str, text: str) -> re.Match[str] | None:
    return re.search(pattern, text, re.IGNORECASE | re.DOTALL)


def _expand(match: re.Match[str], text: str) -> str:
    """Replace ``\\1`` and ``\\g<name>`` in the text with the groups that the pattern of the rule matched."""
    try:
        return match.expand(text) if "\\" in text else text
    except (re.error, IndexError):
        return text


def _deep(match: re.Match[str], value: Any) -> Any:
    if isinstance(value, str):
        return _expand(match, value)
    if isinstance(value, Mapping):
        return {name: _deep(match, item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_deep(match, item) for item in value]
    return value


# How a fake model imitates a real model: words are tokens, JSON answers are the smallest that fit the schema,
# and vectors are hashes.


_WORD = re.compile(r"\s*\S+\s*$|\s*\S+|\s+")


def split_words(text: str) -> list[str]:
    """Split a text into pieces that represent tokens. Joining the pieces restores the text."""
    return _WORD.findall(text)


def count_common_words(query: str, texts: Sequence[str]) -> list[float]:
    """Return, for each text, the share of the query's words that it contains."""
    query_words = set(re.findall(r"\w+", query.lower()))
    return [
        len(query_words & set(re.findall(r"\w+", text.lower()))) / max(1, len(query_words)) for text in texts
    ]


@dataclass(frozen=True, slots=True)
class FakeChoice:
    """One choice of an answer. ``stopped_by`` is the stop sequence that ended the choice, which vLLM reports."""

    index: int
    pieces: list[str]
    calls: list[dict[str, str]]
    finish_reason: str
    stopped_by: str = ""

    @property
    def call_tokens(self) -> int:
        return sum(len(split_words(call["arguments"])) + 1 for call in self.calls)

    def message(self) -> dict[str, Any]:
        """Return the choice as a chat message."""
        message: dict[str, Any] = {
            "role": "assistant",
            "content": "".join(self.pieces) or None,
            "refusal": None,
        }
        if self.calls:
            message["tool_calls"] = [
                {
                    "id": call["id"],
                    "type": "function",
                    "function": {"name": call["name"], "arguments": call["arguments"]},
                }
                for call in self.calls
            ]
        elif message["content"] is None:
            message["content"] = ""
        return message


def choose_reply(rule: ScriptedReply, body: Mapping[str, Any], index: int, *, chat: bool) -> FakeChoice:
    """Apply the rule to a request. Tools, schemas, stop sequences and limits have the same effect as on a real
    model.
    """
    calls = [_tool_call(call["name"], call["arguments"]) for call in rule.tool_calls] if chat else []
    text = rule.content[0] if rule.content else ""
    if not calls and chat:
        wanted_tool = _wanted_tool(body)
        if wanted_tool is not None:
            calls, text = (
                [_tool_call(wanted_tool["name"], schema_example(arguments_schema(wanted_tool), "tools"))],
                "",
            )
        schema = _wanted_schema(body)
        if schema is not None and not _is_json(text):
            text = orjson.dumps(schema_example(schema)).decode()
    pieces = split_words(text)
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    finish = rule.finish_reason or ("tool_calls" if calls else "stop")
    stops = body.get("stop") or ()
    stopped_by = ""
    for stop in filter(None, [stops] if isinstance(stops, str) else stops):
        text, hit, _ = text.partition(stop)
        stopped_by = hit or stopped_by
    pieces = split_words(text)
    if isinstance(limit, int) and len(pieces) > limit:
        pieces, finish, stopped_by = pieces[:limit], "length", ""
    return FakeChoice(index, pieces, calls, finish, stopped_by)


def _tool_call(name: str, arguments: Any) -> dict[str, str]:
    text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    return {"id": new_id("call_"), "name": name, "arguments": text}


def _wanted_tool(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    tools = [tool["function"] for tool in body.get("tools") or () if tool.get("type") == "function"]
    choice = body.get("tool_choice")
    if choice == "required" and tools:
        return dict(tools[0])
    if isinstance(choice, Mapping):
        name = (choice.get("function") or {}).get("name")
        return next((dict(tool) for tool in tools if tool["name"] == name), None)
    return None


def _wanted_schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    response_format = body.get("response_format") or {}
    if response_format.get("type") == "json_schema":
        return dict((response_format.get("json_schema") or {}).get("schema") or {})
    is_object = response_format.get("type") == "json_object"
    return response_format.get("schema") or {"type": "object"} if is_object else None


def _is_json(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


class _Endless(Exception):
    """Every value of a schema contains another value of this schema."""


def schema_example(schema: Mapping[str, Any], param: str = "response_format") -> Any:
    """Return a small value that fits a JSON schema. References, types, enums and required properties are considered.

    Raise `InvalidRequest` for ``param`` if a reference leads nowhere, or no finite value fits.
    """
    resolver = SchemaResolver()
    root = resolver.resolve(schema, f"'{param}'", param)
    try:
        return _example(root, resolver.definitions, ())
    except _Endless as error:
        raise InvalidRequest(
            f"No finite value fits the schema in '{param}', because it requires itself.", param=param
        ) from error


def _example(schema: Any, definitions: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """Return a value for a resolved schema. ``path`` lists the references that led to it."""
    if not isinstance(schema, Mapping):
        return "text"  # ``true`` allows every value
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name in path:
            raise _Endless
        return _example(definitions[name], definitions, (*path, name))
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for join in ("anyOf", "oneOf"):
        if schema.get(join):
            return _first_example(schema[join], definitions, path)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return _object_example(schema, definitions, path)
    if kind == "array":
        return _array_example(schema, definitions, path)
    lowest = schema.get("minimum", 0)
    return {"integer": lowest, "number": lowest, "boolean": True, "null": None}.get(kind, "text")


def _first_example(schemas: Sequence[Any], definitions: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """Return an example of the first schema that has a finite one."""
    for schema in schemas:
        with contextlib.suppress(_Endless):
            return _example(schema, definitions, path)
    raise _Endless


def _object_example(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], path: tuple[str, ...]
) -> dict[str, Any]:
    """Return an object with the required properties, or with all properties if none is required."""
    properties = schema.get("properties") or {}
    example = {}
    for name in schema.get("required") or properties:
        try:
            example[name] = _example(properties.get(name) or {}, definitions, path)
        except _Endless:
            if schema.get("required"):
                raise
    return example


def _array_example(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], path: tuple[str, ...]
) -> list[Any]:
    """Return a list with one item for each schema in ``prefixItems``, and with ``minItems`` items, by default 1."""
    examples = [_example(item, definitions, path) for item in schema.get("prefixItems") or ()]
    min_count = schema.get("minItems", 0 if examples else 1)
    try:
        examples += [
            _example(schema.get("items") or {}, definitions, path) for _ in range(len(examples), min_count)
        ]
    except _Endless:
        if schema.get("minItems"):
            raise
    return examples


def fake_logprobs(pieces: Sequence[str]) -> dict[str, Any]:
    """Return log probabilities for every piece, in OpenAI's format."""
    entries = [{"token": piece, "logprob": 0.0, "bytes": list(piece.encode())} for piece in pieces]
    return {"content": [{**entry, "top_logprobs": [entry]} for entry in entries], "refusal": None}


def fake_vector(text: str, dimensions: int) -> bytes:
    """Return a unit vector that depends only on the text. Texts with common words have vectors near each other.

    The numbers are little-endian float32.
    """
    sums = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()) or [text]:
        seed = hashlib.shake_128(word.encode()).digest(dimensions * 2)
        for place in range(dimensions):
            sums[place] += int.from_bytes(seed[2 * place : 2 * place + 2], "little") / 32767.5 - 1.0
    length = math.sqrt(math.fsum(x * x for x in sums)) or 1.0
    return array("f", [x / length for x in sums]).tobytes()


def last_user_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the text of the last user message, or of the last message if there is no user message."""
    prompt = [message for message in messages if message.get("role") == "user"] or list(messages)
    return text_of(prompt[-1].get("content")) if prompt else ""


def system_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the instructions."""
    return "\n".join(
        text_of(message.get("content"))
        for message in messages
        if message.get("role") in ("system", "developer")
    )


def results_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the tool results since the last user message."""
    since: list[str] = []
    for message in messages:
        if message.get("role") == "user":
            since = []
        elif message.get("role") == "tool":
            since.append(text_of(message.get("content")))
    return "\n".join(since)


def prompt_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the text of all messages."""
    return "\n".join(text_of(message.get("content")) for message in messages)


def text_of(content: Any) -> str:
    """Return the text of a message's content, which may be a text or a list of parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""


VOICES = ("default", "alloy", "echo", "nova")
"""Voices of a fake speech model."""
