"""Types of the values that are passed between steps, as far as annotations and formats define them. Standard library
only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

Schema: TypeAlias = Mapping[str, Any]
"""A JSON schema; empty if the type is unknown."""

TEXT: Final[Schema] = {"type": "string"}
MANY: Final[Schema] = {"type": "array"}
PASSAGES: Final[Schema] = {"type": "array", "items": {"type": "object"}}

_WORDS: Final = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "nothing",
}


@dataclass(frozen=True, slots=True)
class Incoming:
    """The input of a step: its ``schema``, and the name of the step that produces it (``source``; empty for the input
    of the flow).

    ``packed``: the input is a list with an item for each of several branches; ``count`` is their number, if known.
    """

    schema: Schema
    source: str = ""
    packed: bool = False
    count: int | None = None

    @property
    def subject(self) -> str:
        """The source of the input, as part of a sentence."""
        return f"the step '{self.source}'" if self.source else "the input of the flow"

    def item(self, number: int = 0) -> Schema:
        """Return the schema of an item of the list; empty if unknown."""
        schemas: Sequence[Schema] = self.schema.get("prefixItems") or ()
        if number < len(schemas):
            return schemas[number]
        schema: Schema = self.schema.get("items") or {}
        return schema


UNKNOWN: Final = Incoming({})


def clashes(wanted_schema: Schema, given_schema: Schema) -> bool:
    """Return whether no value can match both schemas. Return false if that is unknown."""
    if any(key in schema for schema in (wanted_schema, given_schema) for key in ("anyOf", "enum", "const")):
        return _apart(wanted_schema, given_schema)
    kinds = wanted_schema.get("type"), given_schema.get("type")
    if not all(isinstance(kind, str) for kind in kinds):
        return False
    if kinds[0] != kinds[1]:
        return set(kinds) != {"integer", "number"}
    if kinds[0] == "array":
        inner, outer = wanted_schema.get("items"), given_schema.get("items")
        return bool(inner and outer) and clashes(inner or {}, outer or {})
    return False


def _apart(wanted_schema: Schema, given_schema: Schema) -> bool:
    """Return whether two schemas clash when one of them has alternatives (``anyOf``, ``enum``, ``const``). See
    `clashes`.
    """
    for entry, other_schema in ((wanted_schema, given_schema), (given_schema, wanted_schema)):
        if entry.get("anyOf"):
            return all(clashes(way, other_schema) for way in entry["anyOf"])
    kinds = {
        _json_type(item) for schema in (wanted_schema, given_schema) for item in schema.get("enum") or ()
    }
    plain = {
        str(schema["type"]) for schema in (wanted_schema, given_schema) if isinstance(schema.get("type"), str)
    }
    return len(kinds) == 1 and len(plain) == 1 and kinds != plain and kinds | plain != {"integer", "number"}


def _json_type(value: Any) -> str:
    match value:
        case bool():
            return "boolean"
        case str():
            return "string"
        case int():
            return "integer"
        case float():
            return "number"
    return "null" if value is None else "object"


def words(schema: Schema) -> str:
    """Describe a schema in words that fit into a sentence, such as "text" or "a whole number"."""
    if schema.get("anyOf"):
        return " or ".join(dict.fromkeys(words(way) for way in schema["anyOf"]))
    kind = schema.get("type")
    if kind == "array" and schema.get("items"):
        return f"a list (each item: {words(schema['items'])})"
    return _WORDS.get(str(kind), "anything")


def output_of(step_document: Mapping[str, Any], incoming: Incoming) -> Incoming:
    """Return what a step passes to the next step, given the step's JSON and its input."""
    name = str(step_document["name"])
    if "on_error" in step_document or "when" in step_document:
        return Incoming({}, name)
    if "output_schema" in step_document:
        return Incoming(step_document["output_schema"], name)
    match step_document["op"]:
        case "llm" if not (step_document.get("options") or {}).get(
            "tools"
        ):  # such a model may answer with tool calls instead
            return Incoming(_formatted(step_document.get("format")), name)
        case "intent" | "agent":
            return Incoming(TEXT, name)
        case "embed":
            return Incoming(MANY, name)
        case "retrieve":
            return Incoming(PASSAGES, name)
        case "rerank":
            return Incoming(MANY, name)
        case "http":
            return Incoming({"type": "object"}, name)
        case "approve":
            return Incoming(step_document.get("answer_schema") or incoming.schema, name)
        case "emit":
            return Incoming(incoming.schema, name)
    return Incoming({}, name)


def join_outputs(step_document: Mapping[str, Any], outputs: Sequence[Incoming]) -> Incoming:
    """Return what a `parallel` or `diverter` passes to the next step."""
    name = str(step_document["name"])
    match step_document.get("join", "list"):
        case "list":
            is_whole = not any("when" in step for step in step_document["steps"])
            item_schemas = (
                [output.schema for output in outputs] if is_whole and not step_document.get("collect") else []
            )
            list_schema = {"prefixItems": item_schemas} if item_schemas else {}
            return Incoming({**MANY, **list_schema}, name, packed=True, count=len(item_schemas) or None)
        case "zip":
            return Incoming(MANY, name)
        case "dict":
            return Incoming({"type": "object"}, name)
        case "text":
            return Incoming(TEXT, name)
    return Incoming({}, name)


def _formatted(form: Any) -> Schema:
    """Return the schema of a model's answer, given its output format."""
    if form is None or form in ("text", "last"):
        return TEXT
    if isinstance(form, Mapping):
        if form.get("type") in ("text", "last", "regex"):
            return TEXT
        schema: Schema = form.get("schema") or {}
        return schema
    return {}
