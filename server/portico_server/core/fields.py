"""Request bodies, declared once: the same fields check a body and describe it in ``/openapi.json``. Pure.

A `BodyField` is a check and its JSON schema. Fields that a `RequestBody` does not declare pass unchecked, and ``null``
means absent, as in OpenAI's API. Values come from JSON, so types are compared by identity: a boolean is not a number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest
from portico_server.core.invalid import missing, not_one_of, wrong, wrong_type
from portico_server.core.words import whole_number

Check: TypeAlias = Callable[[Any, str], None]
"""A function that receives a value and its path, and raises `InvalidRequest` if the value is invalid."""


@dataclass(frozen=True, slots=True)
class BodyField:
    """The allowed values of a field, as a check and as a JSON schema."""

    check: Check
    schema: Mapping[str, Any]

    def annotate(self, **annotations: Any) -> BodyField:
        """Return the field with ``default``, ``description`` or ``deprecated`` added to its schema."""
        return replace(self, schema={**self.schema, **annotations})


class RequestBody:
    """A JSON object or a form. After each field has been checked individually, ``rule`` checks the fields together.

    ``files`` are the schemas of the files that a form must contain; the code that reads the form checks the files.
    """

    def __init__(
        self,
        body_fields: Mapping[str, BodyField],
        optional: Mapping[str, BodyField],
        rule: Callable[[Mapping[str, Any]], None] | None = None,
        *,
        example: Mapping[str, Any] | None = None,
        files: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.required = body_fields
        self.optional = optional
        self.rule = rule
        self.example = example
        self.files = files or {}
        self._field_checks = tuple((name, field.check) for name, field in body_fields.items())
        self._checks = {name: field.check for name, field in optional.items()}

    def check(self, body: Mapping[str, Any]) -> None:
        """Raise `InvalidRequest` with the path of the first error."""
        for name, check in self._field_checks:
            value = body.get(name)
            if value is None:
                missing(name)
            check(value, name)
        checks = self._checks
        for name, value in body.items():
            check_field = checks.get(name)
            if check_field is not None and value is not None:
                check_field(value, name)
        if self.rule is not None:
            self.rule(body)

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of the body. A list in a form has the name that OpenAI's clients use: ``name[]``."""
        schema: dict[str, Any] = {"type": "object", "required": [*self.required], "properties": {}}
        for name, body_field in {**self.required, **self.optional}.items():
            is_list = self.files and body_field.schema.get("type") == "array"
            schema["properties"][f"{name}[]" if is_list else name] = dict(body_field.schema)
        schema["required"] += self.files
        schema["properties"] |= self.files
        return schema if self.example is None else {**schema, "example": self.example}


def unchecked(_value: Any, _path: str) -> None:
    """Accept every value."""


def any_value(**schema: Any) -> BodyField:
    """Return a field that this check accepts unchanged, because other code parses it or passes it on."""
    return BodyField(unchecked, schema)


def number(low: float, high: float, *, expectation: str = "", limits: str = "") -> BodyField:
    """Return a field for a number from ``low`` to ``high``; errors use the words ``expectation`` and ``limits``."""
    limits = limits or f"from {low:g} to {high:g}"
    expectation = expectation or f"a number {limits}"

    def check(value: Any, path: str) -> None:
        if type(value) is not float and type(value) is not int:
            wrong_type(path, expectation, value)
        if not low <= value <= high:
            wrong(path, f"is {value}, but must be {limits}")

    return BodyField(check, {"type": "number", "minimum": low, "maximum": high})


def integer(
    low: int | None = None, high: int | None = None, *, expectation: str = "", limits: str = ""
) -> BodyField:
    """Return a field for a whole number, at least ``low`` and at most ``high`` if given."""
    if not expectation:
        expectation = "a whole number"
        if high is not None:
            expectation += f" from {low} to {high}"
        elif low is not None:
            expectation += f" of at least {low}"

    def check(value: Any, path: str) -> None:
        if type(value) is not int:
            wrong_type(path, expectation, value)
        if (low is not None and value < low) or (high is not None and value > high):
            wrong(path, f"is {value}, but must be {limits or expectation}")

    bounds = {"minimum": low, "maximum": high}
    return BodyField(
        check, {"type": "integer", **{name: at for name, at in bounds.items() if at is not None}}
    )


def boolean(expectation: str = "true or false") -> BodyField:
    """Return a boolean field."""

    def check(value: Any, path: str) -> None:
        if value is not True and value is not False:
            wrong_type(path, expectation, value)

    return BodyField(check, {"type": "boolean"})


def text() -> BodyField:
    """A string."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str):
            wrong_type(path, "a string", value)

    return BodyField(check, {"type": "string"})


def identifier(max_chars: int, *, empty: bool = False) -> BodyField:
    """Return a field for a client's name or id, which is stored or returned unchanged; ``empty`` allows an empty
    name.
    """

    def check(value: Any, path: str) -> None:
        single.check(value, path)
        if len(value) > max_chars:
            code = "string_above_max_length"
            wrong(path, f"has {len(value):,} characters; the maximum is {max_chars:,}", code=code)

    single = text() if empty else name()
    return BodyField(check, {**single.schema, "maxLength": max_chars})


def name(empty: str = "must not be empty") -> BodyField:
    """Return a field for a non-empty string."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str):
            wrong_type(path, "a string", value)
        if not value:
            wrong(path, empty)

    return BodyField(check, {"type": "string", "minLength": 1})


def prose(max_chars: int, verb_phrase: str = "are taken") -> BodyField:
    """Return a field for a string that contains more than white space, of at most ``max_chars`` characters."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str):
            wrong_type(path, "a string", value)
        if not value.strip():
            wrong(path, "must not be empty")
        if len(value) > max_chars:
            wrong(
                path,
                f"has {len(value):,} characters; at most {max_chars:,} {verb_phrase}",
                code="string_above_max_length",
            )

    return BodyField(check, {"type": "string", "minLength": 1, "maxLength": max_chars})


def choice(*allowed_values: str) -> BodyField:
    """Return a field for one of ``allowed_values``."""

    def check(value: Any, path: str) -> None:
        if value not in allowed_values:
            not_one_of(path, value, allowed_values)

    return BodyField(check, {"enum": [*allowed_values]})


def mapping(properties: Mapping[str, BodyField] | None = None) -> BodyField:
    """Return a field for a JSON object; ``properties`` are checked if they are present."""
    inner = tuple((name, body_field.check) for name, body_field in (properties or {}).items())

    def check(value: Any, path: str) -> None:
        if not isinstance(value, dict):
            wrong_type(path, "an object", value)
        for name, single in inner:
            field_value = value.get(name)
            if field_value is not None:
                single(field_value, f"{path}.{name}")

    property_schemas = {name: dict(body_field.schema) for name, body_field in (properties or {}).items()}
    return BodyField(
        check, {"type": "object", **({"properties": property_schemas} if property_schemas else {})}
    )


def closed_object(properties: Mapping[str, BodyField], *, required_fields: Sequence[str] = ()) -> BodyField:
    """Return a field for a JSON object with only these properties; the error for an unknown property suggests similar
    names.
    """

    def check(value: Any, path: str) -> None:
        if not isinstance(value, dict):
            wrong_type(path, "an object", value)
        for name in value:
            if name not in properties:
                at = _inside(path, name[:MAX_SHOWN_CHARS])
                hint = nearest(name, properties)
                raise InvalidRequest(f"Unknown parameter: '{at}'.{hint}", code="unknown_parameter", param=at)
        for name in required_fields:
            if value.get(name) is None:
                missing(_inside(path, name))
        for name, body_field in properties.items():
            field_value = value.get(name)
            if field_value is not None:
                body_field.check(field_value, _inside(path, name))

    property_schemas = {name: dict(body_field.schema) for name, body_field in properties.items()}
    return BodyField(
        check,
        {
            "type": "object",
            "required": [*required_fields],
            "additionalProperties": False,
            "properties": property_schemas,
        },
    )


def by_type(kinds: Mapping[str, BodyField]) -> BodyField:
    """Return a field for a JSON object whose ``type`` selects the field that checks it."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, dict):
            wrong_type(path, "an object", value)
        kind = value.get("type")
        if kind is None:
            missing(f"{path}.type")
        body_field = kinds.get(kind) if isinstance(kind, str) else None
        if body_field is None:
            not_one_of(f"{path}.type", kind, kinds)
        body_field.check(value, path)

    return BodyField(check, {})


def _inside(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def items(
    of: BodyField, expectation: str, *, max_items: int | None = None, item_word: str = "items"
) -> BodyField:
    """Return a field for a list of at most ``max_items``; errors use the words ``expectation`` and ``item_word``."""
    single = of.check

    def check(value: Any, path: str) -> None:
        if not isinstance(value, list):
            wrong_type(path, expectation, value)
        if max_items is not None and len(value) > max_items:
            wrong(path, f"has {len(value)} {item_word}; the maximum is {max_items}")
        for index, item in enumerate(value):
            single(item, f"{path}[{index}]")

    limit = {} if max_items is None else {"maxItems": max_items}
    return BodyField(check, {"type": "array", "items": dict(of.schema), **limit})


MAX_STOPS = 4
"""Maximum number of stop sequences."""

MAX_BIASES = 1024
"""Maximum number of tokens in ``logit_bias``, because an engine checks all of them for every token that it
generates.
"""

MAX_BIAS = 100


def _stop(value: Any, path: str) -> None:
    if isinstance(value, str):
        return
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        wrong_type(path, "a string or a list of strings", value)
    if len(value) > MAX_STOPS:
        wrong(path, f"has {len(value)} items; the maximum is {MAX_STOPS}")


def _logit_bias(value: Any, path: str) -> None:
    if not isinstance(value, dict):
        wrong_type(path, "an object", value)
    if len(value) > MAX_BIASES:
        wrong(path, f"names {len(value):,} tokens; the maximum is {MAX_BIASES:,}")
    for token, bias in value.items():
        if whole_number(token) is None:
            wrong(path, f"contains '{token[:MAX_SHOWN_CHARS]}', which is not a token number")
        if type(bias) not in (int, float) or not -MAX_BIAS <= bias <= MAX_BIAS:
            wrong(f"{path}.{token[:MAX_SHOWN_CHARS]}", f"must be a number from -{MAX_BIAS} to {MAX_BIAS}")


_TEXT = {"type": "string"}

STOP = BodyField(_stop, {"oneOf": [_TEXT, {"type": "array", "items": _TEXT, "maxItems": MAX_STOPS}]})
"""The ``stop`` field of a chat, a completion or a response."""

LOGIT_BIAS = BodyField(
    _logit_bias,
    {
        "type": "object",
        "maxProperties": MAX_BIASES,
        "propertyNames": {"pattern": "^[0-9]+$"},
        "additionalProperties": {"type": "number", "minimum": -MAX_BIAS, "maximum": MAX_BIAS},
    },
)
"""The ``logit_bias`` field of a chat, a completion or a response: maps tokens to values that are added to their
scores.
"""


MAX_SHOWN_CHARS = 100
"""Maximum number of characters of a name or an id that an error quotes."""


def check_schema(owner_name: str, schema: Any, path: str) -> None:
    """Raise `InvalidRequest` for ``path`` unless ``schema`` is a JSON schema; the error names ``owner_name``.

    A pattern must be valid in Python's syntax, but may use features that the linear engine lacks, because an engine
    may support them.
    """
    from portico_server.core.json_schema import require_schema
    from portico_server.core.pattern import require_python_pattern

    shown_name = owner_name[:MAX_SHOWN_CHARS]
    for at, pattern in require_schema(shown_name, schema, path, lenient=True).patterns:
        require_python_pattern(pattern, path, f"The pattern at {at} in the schema of '{shown_name}'")


def check_parameters(name: str, parameters: Any, path: str) -> None:
    """Raise `InvalidRequest` unless a function can have these parameters: a JSON schema of an object."""
    if not isinstance(parameters, dict):
        wrong_type(path, "a JSON Schema object", parameters)
    if parameters.get("type", "object") != "object":
        wrong(f"{path}.type", "must be 'object': the arguments of a function are an object")
    check_schema(name, parameters, path)
