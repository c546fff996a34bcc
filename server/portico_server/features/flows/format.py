"""Formatters: parse a model's text as a value, and convert a JSON schema to a ``response_format``."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from itertools import chain, islice
from typing import Any, Final

from portico_server.core.errors import InvalidRequest
from portico_server.core.interfaces import Evaluator
from portico_server.core.untrusted_yaml import InvalidYaml, read_yaml
from portico_server.features.flows.spec import OutputFormat

MAX_BLOCKS: Final = 10
"""Maximum number of fenced blocks in an answer that are searched for JSON."""

MAX_JSON_CHARS: Final = 2 * 2**20
"""Maximum length of an answer that is searched for JSON, in characters. The search takes a tenth of a second."""

MAX_WORD_CHARS: Final = 2_000
"""Maximum length of an answer that may be a member of an enumeration with surrounding punctuation, in characters."""

_LINE_ENDS: Final = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_FENCE: Final = re.compile(r"```[\w-]*[ \t]*\n(.*?)(?:\n```|\Z)", re.S)
_SEARCH: Final = """
import re

def search(pattern, text, group):
    found = re.search(pattern, text)
    return None if found is None else found.group(group)
"""


async def formatted(form: OutputFormat, text: str, evaluator: Evaluator) -> Any:
    """Return the value of ``text`` in the format ``form``. If the text does not have this format, raise
    `InvalidRequest` with the code ``format_failed`` and the reason.
    """
    match form.type:
        case "text":
            return text
        case "last":
            return _last(text)
        case "json":
            choice = _choose_member(form.schema or {}, text)
            return _json(text) if choice is None else choice
        case "yaml":
            return _yaml(text)
        case "regex":
            # The pattern is matched in the sandbox, because a malicious expression can search forever.
            matched_text = await evaluator.evaluate(_SEARCH, [form.pattern, text, form.group], {})
            if matched_text is None:
                raise _failure(f"nothing in the answer matches {form.pattern!r}", text)
            return matched_text


def _last(text: str) -> str:
    """Return the last non-empty line."""
    text = text.rstrip()
    return text[max(text.rfind(end) for end in _LINE_ENDS) + 1 :].strip()


def _choose_member(schema: Mapping[str, Any], text: str) -> str | None:
    """Return the member of a text enumeration that an answer names without JSON, as engines that do not constrain
    answers may do.
    """
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
    """Return a word with normalized case and width, without surrounding punctuation and spaces."""
    folded_text = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"^[\W_]+|[\W_]+$", "", folded_text)


def _json(text: str) -> Any:
    """Return the JSON value in a text: the whole text, a fenced block, or the first object or list."""
    if len(text) > MAX_JSON_CHARS:
        raise _failure(f"it is longer than {MAX_JSON_CHARS:,} characters", text)
    blocks = (match.group(1) for match in islice(_FENCE.finditer(text), MAX_BLOCKS))
    candidates = chain([text], blocks)
    for candidate in candidates:
        try:
            return json.loads(candidate)
        except (ValueError, RecursionError):
            continue
    starts = [place for place in (text.find("{"), text.find("[")) if place >= 0]
    if not starts:
        raise _failure("it contains no JSON", text)
    try:
        value, _end = json.JSONDecoder().raw_decode(text, min(starts))
    except (ValueError, RecursionError) as error:
        raise _failure(f"its JSON is invalid: {error}", text) from error
    return value


def _yaml(text: str) -> Any:
    block = _FENCE.search(text)
    try:
        return read_yaml(block.group(1) if block else text)
    except InvalidYaml as error:
        raise _failure(f"its YAML is invalid: {error}", text) from error


def _failure(reason: str, text: str) -> InvalidRequest:
    return InvalidRequest(
        f"The model's answer does not have the required format: {reason}. It begins {text[:80]!r}.",
        code="format_failed",
    )


WRAPPED: Final = "value"
"""The only field of the object in which a schema is wrapped if it is not an object itself. OpenAI requires an object
at the top.
"""


def response_format(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``response_format`` option that constrains an answer to ``schema``; `unwrapped` removes the wrapper
    from the answer.

    ``strict`` is set if OpenAI's strict mode supports the schema: every property is required, and no others are
    allowed.
    """
    inner = schema if schema.get("type") == "object" else _around(schema)
    closed_schema = _close_objects(inner)
    strict = _all_required(closed_schema)
    return {
        "type": "json_schema",
        "json_schema": {"name": name, "schema": closed_schema, "strict": strict},
    }


def unwrapped(schema: Mapping[str, Any], value: Any) -> Any:
    """Return the value without the wrapper that `response_format` adds to its schema. A model may also have omitted
    the wrapper.
    """
    if schema.get("type") != "object" and isinstance(value, dict) and set(value) == {WRAPPED}:
        return value[WRAPPED]
    return value


def _around(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {WRAPPED: dict(schema)}, "required": [WRAPPED]}


def _close_objects(schema: Any) -> Any:
    """Return the schema with every object closed, unless the schema says otherwise."""
    if isinstance(schema, list):
        return [_close_objects(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    closed_schema = {
        key: {name: _close_objects(part) for name, part in item.items()}
        if key in ("properties", "$defs") and isinstance(item, Mapping)
        else _close_objects(item)
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
