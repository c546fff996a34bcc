"""Forms made from JSON schemas: for the input of an app, the arguments of a tool or a prompt, or the answer to a
question.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from portico.cli.render import one_line, shorten
from portico_tui.widgets.dialogs import Field

Schema = Mapping[str, Any]

WHOLE = "input"
"""The name of the form's only field if the schema does not describe an object."""

MAX_HINT_CHARS = 60
"""Maximum length of a description that is shown as a hint in an empty field, in characters."""


def fields_of(schema: Schema | None) -> list[Field]:
    """Return a field for each property if the schema describes an object, required fields first. Otherwise return one
    field.
    """
    schema = schema or {}
    if not _is_object(schema):
        return [_field(WHOLE, schema, is_needed=True)]
    required_names = set(schema.get("required") or ())
    properties = schema.get("properties") or {}
    sorted_names = sorted(properties, key=lambda name: name not in required_names)
    return [_field(name, properties[name], is_needed=name in required_names) for name in sorted_names]


def value_of(schema: Schema | None, answers: Mapping[str, str]) -> Any:
    """Convert the answers in a form to a value that the schema describes. Empty fields are omitted."""
    schema = schema or {}
    if not _is_object(schema):
        return reader(schema)(answers.get(WHOLE, ""))
    properties = schema.get("properties") or {}
    return {name: reader(properties.get(name) or {})(text) for name, text in answers.items() if text != ""}


def local_path(text: str) -> Path:
    """Parse a path on this machine. Raises `ValueError` if it does not exist."""
    path = Path(text).expanduser()
    if not path.exists():
        raise ValueError(f"{path} does not exist.")
    return path


def json_object(text: str) -> dict[str, Any]:
    """Parse a JSON object. Raises `ValueError`."""
    document = _json(text)
    if not isinstance(document, dict):
        raise ValueError('expected a JSON object, such as {"name": 1}.')
    return document


def reader(schema: Schema) -> Callable[[str], Any]:
    """Return a function that parses a text according to a schema. It raises a `ValueError` whose message says what is
    expected.
    """
    kinds = _kinds(schema)

    def read(text: str) -> Any:
        allowed_values = schema.get("enum")
        value = _value(text, kinds)
        if allowed_values is not None and value not in allowed_values:
            raise ValueError(f"expected one of: {', '.join(map(str, allowed_values))}.")
        return value

    return read


def _value(text: str, kinds: Sequence[str]) -> Any:
    if not kinds:  # any type is allowed: parse the text as JSON, or keep it if it is not valid JSON
        try:
            return _json(text)
        except ValueError:
            return text
    if "string" in kinds and len(kinds) == 1:
        return text
    if "null" in kinds and text in ("", "null"):
        return None
    problem = ""
    for kind in kinds:
        try:
            return _READERS[kind](text)
        except KeyError:
            continue
        except ValueError as error:
            problem = str(error)
    if "string" in kinds:
        return text
    raise ValueError(problem or f"{' or '.join(kinds)} is expected.")


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("expected a whole number.") from None


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("expected a number.") from None
    return int(value) if value.is_integer() and "." not in text and "e" not in text.lower() else value


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "yes", "y"):
        return True
    if text.lower() in ("false", "no", "n"):
        return False
    raise ValueError("expected true or false.")


def _list(text: str) -> list[Any]:
    items = _json(text)
    if not isinstance(items, list):
        raise ValueError('expected a JSON list, such as ["one", "two"].')
    return items


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected JSON: {error}.") from None


_READERS: Mapping[str, Callable[[str], Any]] = {
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "array": _list,
    "object": json_object,
}


def _is_object(schema: Schema) -> bool:
    return "object" in _kinds(schema) and isinstance(schema.get("properties"), Mapping)


def _kinds(schema: Schema) -> tuple[str, ...]:
    """Return the JSON types that a schema allows. An empty result means any type."""
    kind_value = schema.get("type")
    if isinstance(kind_value, str):
        return (kind_value,)
    if isinstance(kind_value, Sequence):
        return tuple(map(str, kind_value))
    branches = schema.get("anyOf") or schema.get("oneOf") or ()
    return tuple(
        dict.fromkeys(kind for branch in branches if isinstance(branch, Mapping) for kind in _kinds(branch))
    )


def _field(name: str, schema: Any, *, is_needed: bool) -> Field:
    schema = schema if isinstance(schema, Mapping) else {}
    kinds = _kinds(schema)
    preset = schema.get("default")
    choices = [str(value) for value in schema.get("enum") or ()]
    if not choices and kinds == ("boolean",):
        choices = ["true", "false"]
    kind = " or ".join(kinds) or "any"
    label = f"{one_line(schema.get('title') or name)} · {kind}" + ("" if is_needed else " · optional")
    text = (
        ""
        if preset is None
        else preset
        if isinstance(preset, str)
        else json.dumps(preset, ensure_ascii=False)
    )
    return Field(
        name,
        label,
        value=text,
        hint=shorten(one_line(schema.get("description") or ""), MAX_HINT_CHARS),
        optional=not is_needed,
        choices=choices,
        check=reader(schema),
    )
