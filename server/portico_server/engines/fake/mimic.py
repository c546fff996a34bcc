"""How a fake model imitates a real one: words for tokens, the smallest JSON that fits a schema, vectors
from hashes.
"""

from __future__ import annotations

import hashlib
import math
import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from portico_server.core.ids import new_id
from portico_server.engines.fake.script import Scripted

_WORD = re.compile(r"\s*\S+\s*$|\s*\S+|\s+")


def words(text: str) -> list[str]:
    """The text in pieces that stand for tokens; joined they are the text."""
    return _WORD.findall(text)


def overlaps(query: str, texts: Sequence[str]) -> list[float]:
    """For each text, the share of the query's words that it holds."""
    asked = set(re.findall(r"\w+", query.lower()))
    return [len(asked & set(re.findall(r"\w+", text.lower()))) / max(1, len(asked)) for text in texts]


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice of an answer. ``stopped_by``: the stop sequence that ended it, told as vLLM tells it."""

    index: int
    pieces: list[str]
    calls: list[dict[str, str]]
    finish_reason: str
    stopped_by: str = ""

    @property
    def call_tokens(self) -> int:
        return sum(len(words(call["arguments"])) + 1 for call in self.calls)

    def message(self) -> dict[str, Any]:
        """As a chat message."""
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


def choose(rule: Scripted, body: Mapping[str, Any], index: int, *, chat: bool) -> Choice:
    """What the rule makes of the request: tools, schemas, stops and limits as a real model would honour
    them.
    """
    calls = [_called(call["name"], call["arguments"]) for call in rule.tool_calls] if chat else []
    text = rule.content[0] if rule.content else ""
    if not calls and chat:
        wanted = _wanted_tool(body)
        if wanted is not None:
            calls, text = [_called(wanted["name"], example(wanted.get("parameters") or {}))], ""
        schema = _wanted_schema(body)
        if schema is not None and not _is_json(text):
            text = orjson.dumps(example(schema)).decode()
    pieces = words(text)
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    finish = rule.finish_reason or ("tool_calls" if calls else "stop")
    stops = body.get("stop") or ()
    stopped_by = ""
    for stop in [stops] if isinstance(stops, str) else stops:
        text, hit, _ = text.partition(stop)
        stopped_by = hit or stopped_by
    pieces = words(text)
    if isinstance(limit, int) and len(pieces) > limit:
        pieces, finish, stopped_by = pieces[:limit], "length", ""
    return Choice(index, pieces, calls, finish, stopped_by)


def _called(name: str, arguments: Any) -> dict[str, str]:
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
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        return dict((wanted.get("json_schema") or {}).get("schema") or {})
    return {"type": "object"} if wanted.get("type") == "json_object" else None


def _is_json(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


def example(schema: Mapping[str, Any]) -> Any:
    """A small value that fits the schema, as far as types, enums and required properties go."""
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for join in ("anyOf", "oneOf"):
        if schema.get(join):
            return example(schema[join][0])
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        properties = schema.get("properties") or {}
        return {name: example(properties.get(name) or {}) for name in schema.get("required") or properties}
    if kind == "array":
        return [example(schema.get("items") or {}) for _ in range(schema.get("minItems", 1))]
    lowest = schema.get("minimum", 0)
    return {"integer": lowest, "number": lowest, "boolean": True, "null": None}.get(kind, "text")


def logprobs(pieces: Sequence[str]) -> dict[str, Any]:
    """Certainty for every piece, in OpenAI's shape."""
    entries = [{"token": piece, "logprob": 0.0, "bytes": list(piece.encode())} for piece in pieces]
    return {"content": [{**entry, "top_logprobs": [entry]} for entry in entries], "refusal": None}


def vector(text: str, dimensions: int) -> bytes:
    """The same unit vector for the same text; texts that share words are near each other.

    Little-endian float32.
    """
    sums = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()) or [text]:
        seed = hashlib.shake_128(word.encode()).digest(dimensions * 2)
        for place in range(dimensions):
            sums[place] += int.from_bytes(seed[2 * place : 2 * place + 2], "little") / 32767.5 - 1.0
    length = math.sqrt(math.fsum(x * x for x in sums)) or 1.0
    return array("f", [x / length for x in sums]).tobytes()


def last_user_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """What the user said last; what the last message says if the user said nothing."""
    said = [message for message in messages if message.get("role") == "user"] or list(messages)
    return text_of(said[-1].get("content")) if said else ""


def prompt_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """All that was said."""
    return "\n".join(text_of(message.get("content")) for message in messages)


def text_of(content: Any) -> str:
    """The text of a message's content, whichever form it has."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""
