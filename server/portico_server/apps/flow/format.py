"""Formatters: the text of a model as a value, and a JSON schema as ``response_format`` wants it."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from itertools import chain, islice
from typing import Any, Final

from portico_server.apps.flow.spec import OutputFormat
from portico_server.core.errors import InvalidRequest
from portico_server.core.interfaces import Evaluator
from portico_server.core.untrusted_yaml import InvalidYaml, read_yaml

MAX_BLOCKS: Final = 10
"""Fenced blocks of an answer in which JSON is looked for."""

MAX_JSON_CHARS: Final = 2 * 2**20
"""Characters of an answer in which JSON is looked for: a tenth of a second."""

MAX_WORD_CHARS: Final = 2_000
"""Characters of an answer that may be a member of an enumeration with marks around it."""

_LINE_ENDS: Final = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_FENCE: Final = re.compile(r"```[\w-]*[ \t]*\n(.*?)(?:\n```|\Z)", re.S)
_SEARCH: Final = """
import re

def search(pattern, text, group):
    found = re.search(pattern, text)
    return None if found is None else found.group(group)
"""


async def formatted(form: OutputFormat, text: str, evaluator: Evaluator) -> Any:
    """``text`` as ``form`` wants it. Raises `InvalidRequest` with the code ``format_failed`` and what is missing."""
    match form.type:
        case "text":
            return text
        case "last":
            return _last(text)
        case "json":
            choice = _chosen(form.schema or {}, text)
            return _json(text) if choice is None else choice
        case "yaml":
            return _yaml(text)
        case "regex":
            # In the sandbox, because an expression can be made to search for ever.
            matched_text = await evaluator.evaluate(_SEARCH, [form.pattern, text, form.group], {})
            if matched_text is None:
                raise _failed(f"nothing in it matches {form.pattern!r}", text)
            return matched_text


def _last(text: str) -> str:
    """The last line that is not empty."""
    text = text.rstrip()
    return text[max(text.rfind(end) for end in _LINE_ENDS) + 1 :].strip()


def _chosen(schema: Mapping[str, Any], text: str) -> str | None:
    """The member of an enumeration of texts that an engine which constrains nothing has named without any JSON."""
    members = schema.get("enum")
    if not isinstance(members, list) or not all(isinstance(member, str) for member in members):
        return None
    if text.strip() in members:
        return text.strip()
    if len(text) > MAX_WORD_CHARS:
        return None
    plain = _plain(text)
    fitting = [member for member in members if plain and _plain(member) == plain]
    return fitting[0] if len(fitting) == 1 else None


def _plain(text: str) -> str:
    """A word without its case and width, and without the marks and spaces around it."""
    folded_text = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"^[\W_]+|[\W_]+$", "", folded_text)


def _json(text: str) -> Any:
    """The JSON in a text: the whole of it, a fenced block, or the first object or list."""
    if len(text) > MAX_JSON_CHARS:
        raise _failed(f"it is longer than {MAX_JSON_CHARS:,} characters", text)
    blocks = (match.group(1) for match in islice(_FENCE.finditer(text), MAX_BLOCKS))
    candidates = chain([text], blocks)
    for candidate in candidates:
        try:
            return json.loads(candidate)
        except (ValueError, RecursionError):
            continue
    starts = [place for place in (text.find("{"), text.find("[")) if place >= 0]
    if not starts:
        raise _failed("there is no JSON in it", text)
    try:
        value, _end = json.JSONDecoder().raw_decode(text, min(starts))
    except (ValueError, RecursionError) as error:
        raise _failed(f"its JSON is broken: {error}", text) from error
    return value


def _yaml(text: str) -> Any:
    block = _FENCE.search(text)
    try:
        return read_yaml(block.group(1) if block else text)
    except InvalidYaml as error:
        raise _failed(f"its YAML is broken: {error}", text) from error


def _failed(reason: str, text: str) -> InvalidRequest:
    return InvalidRequest(
        f"The model's answer has not the wanted format: {reason}. It begins {text[:80]!r}.",
        code="format_failed",
    )


WRAPPED: Final = "value"
"""The only field of the object around a schema that is not an object itself: OpenAI wants an object at the top."""


def response_format(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The option that constrains an answer to ``schema``; `unwrapped` undoes what it adds.

    ``strict`` is set where OpenAI's strict mode can hold it: every property required, none beside them.
    """
    inner = schema if schema.get("type") == "object" else _around(schema)
    closed_schema = _closed(inner)
    strict = _all_required(closed_schema)
    return {
        "type": "json_schema",
        "json_schema": {"name": name, "schema": closed_schema, "strict": strict},
    }


def unwrapped(schema: Mapping[str, Any], value: Any) -> Any:
    """The value within the object that was put around its schema. A model that left it out is understood too."""
    if schema.get("type") != "object" and isinstance(value, dict) and set(value) == {WRAPPED}:
        return value[WRAPPED]
    return value


def _around(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {WRAPPED: dict(schema)}, "required": [WRAPPED]}


def _closed(schema: Any) -> Any:
    """The schema with every object closed that does not say otherwise."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    closed_schema = {
        key: {name: _closed(part) for name, part in item.items()}
        if key in ("properties", "$defs") and isinstance(item, Mapping)
        else _closed(item)
        if key in ("items", "anyOf", "allOf", "oneOf", "prefixItems")
        else item
        for key, item in schema.items()
    }
    if closed_schema.get("type") == "object" and "properties" in closed_schema:
        closed_schema.setdefault("additionalProperties", False)
    return closed_schema


def _all_required(schema: Any) -> bool:
    if isinstance(schema, list):
        return all(_all_required(item) for item in schema)
    if not isinstance(schema, Mapping):
        return True
    if schema.get("type") == "object":
        properties = schema.get("properties") or {}
        if not properties or set(schema.get("required") or ()) != set(properties):
            return False
        if schema.get("additionalProperties") is not False:
            return False
        return all(_all_required(part) for part in properties.values())
    return all(_all_required(schema[key]) for key in ("items", "anyOf") if key in schema)
