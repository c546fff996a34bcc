"""Bodies of requests, declared once: the same fields check a body and describe it in ``/openapi.json``. Pure.

A `BodyField` is a check and its JSON schema. Fields that a `RequestBody` does not declare pass unchecked, and ``null``
means absent, as it does at OpenAI. Values come from JSON, so types are compared by identity: a boolean is not a number.
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
"""Takes a value and its path; raises `InvalidRequest`."""


@dataclass(frozen=True, slots=True)
class BodyField:
    """What one field may hold, as a check and as a JSON schema."""

    check: Check
    schema: Mapping[str, Any]

    def noted(self, **annotations: Any) -> BodyField:
        """The same field with ``default``, ``description`` or ``deprecated`` in its schema."""
        return replace(self, schema={**self.schema, **annotations})


class RequestBody:
    """A JSON object or a form. ``rule`` checks fields against each other, after each of them was checked by itself.

    ``files`` are the schemas of the files that a form must have; whoever reads the form checks them.
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
        self._needed = tuple((name, field.check) for name, field in body_fields.items())
        self._checks = {name: field.check for name, field in optional.items()}

    def check(self, body: Mapping[str, Any]) -> None:
        """Raise `InvalidRequest` with the path of the first thing that is wrong."""
        for name, check in self._needed:
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
        """The body as a JSON schema. A list in a form is named as OpenAI's clients name it: ``name[]``."""
        schema: dict[str, Any] = {"type": "object", "required": [*self.required], "properties": {}}
        for name, body_field in {**self.required, **self.optional}.items():
            is_list = self.files and body_field.schema.get("type") == "array"
            schema["properties"][f"{name}[]" if is_list else name] = dict(body_field.schema)
        schema["required"] += self.files
        schema["properties"] |= self.files
        return schema if self.example is None else {**schema, "example": self.example}


def unchecked(_value: Any, _path: str) -> None:
    """Let every value pass."""


def anything(**schema: Any) -> BodyField:
    """A field that is passed on as it is, or checked where it is read."""
    return BodyField(unchecked, schema)


def number(low: float, high: float, *, expectation: str = "", limits: str = "") -> BodyField:
    """A number within limits; ``expectation`` and ``limits`` are the words for it in errors."""
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
    """A whole number, of at least ``low`` and at most ``high`` where these are given."""
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
    """True or false."""

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
    """A name that a client gives, which is kept or comes back to it as it is; perhaps an ``empty`` one."""

    def check(value: Any, path: str) -> None:
        single.check(value, path)
        if len(value) > max_chars:
            code = "string_above_max_length"
            wrong(path, f"has {len(value):,} characters; at most {max_chars:,} are taken", code=code)

    single = text() if empty else name()
    return BodyField(check, {**single.schema, "maxLength": max_chars})


def name(empty: str = "must not be empty") -> BodyField:
    """A string that is not empty."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str):
            wrong_type(path, "a string", value)
        if not value:
            wrong(path, empty)

    return BodyField(check, {"type": "string", "minLength": 1})


def prose(max_chars: int, verb_phrase: str = "are taken") -> BodyField:
    """A string with more in it than white space, of at most ``max_chars`` characters."""

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
    """One of these words."""

    def check(value: Any, path: str) -> None:
        if value not in allowed_values:
            not_one_of(path, value, allowed_values)

    return BodyField(check, {"enum": [*allowed_values]})


def mapping(properties: Mapping[str, BodyField] | None = None) -> BodyField:
    """A JSON object, in which ``properties`` are checked where they are present."""
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


def closed(properties: Mapping[str, BodyField], *, required_fields: Sequence[str] = ()) -> BodyField:
    """A JSON object with these properties alone; an unknown one is refused with those that are like it."""

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
    """A JSON object whose ``type`` says which of these it is."""

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
    """A list of at most ``max_items``; ``expectation`` and ``item_word`` are the words for it and for its
    items in errors.
    """
    single = of.check

    def check(value: Any, path: str) -> None:
        if not isinstance(value, list):
            wrong_type(path, expectation, value)
        if max_items is not None and len(value) > max_items:
            wrong(path, f"has {len(value)} {item_word}; at most {max_items} are taken")
        for index, item in enumerate(value):
            single(item, f"{path}[{index}]")

    limit = {} if max_items is None else {"maxItems": max_items}
    return BodyField(check, {"type": "array", "items": dict(of.schema), **limit})


MAX_STOPS = 4
"""Words at which an answer may be told to end."""

MAX_BIASES = 1024
"""Tokens that ``logit_bias`` may name: an engine looks at each of them for every token that it makes."""

MAX_BIAS = 100


def _stop(value: Any, path: str) -> None:
    if isinstance(value, str):
        return
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        wrong_type(path, "a string or a list of strings", value)
    if len(value) > MAX_STOPS:
        wrong(path, f"has {len(value)} items; at most {MAX_STOPS} are taken")


def _logit_bias(value: Any, path: str) -> None:
    if not isinstance(value, dict):
        wrong_type(path, "an object", value)
    if len(value) > MAX_BIASES:
        wrong(path, f"names {len(value):,} tokens; at most {MAX_BIASES:,} are taken")
    for token, bias in value.items():
        if whole_number(token) is None:
            wrong(path, f"has '{token[:MAX_SHOWN_CHARS]}', which is not the number of a token")
        if type(bias) not in (int, float) or not -MAX_BIAS <= bias <= MAX_BIAS:
            wrong(f"{path}.{token[:MAX_SHOWN_CHARS]}", f"must be a number from -{MAX_BIAS} to {MAX_BIAS}")


_TEXT = {"type": "string"}

STOP = BodyField(_stop, {"oneOf": [_TEXT, {"type": "array", "items": _TEXT, "maxItems": MAX_STOPS}]})
"""``stop`` of a chat, a completion or a response."""

LOGIT_BIAS = BodyField(
    _logit_bias,
    {
        "type": "object",
        "maxProperties": MAX_BIASES,
        "propertyNames": {"pattern": "^[0-9]+$"},
        "additionalProperties": {"type": "number", "minimum": -MAX_BIAS, "maximum": MAX_BIAS},
    },
)
"""``logit_bias`` of a chat, a completion or a response: added to what a token scores."""


MAX_SHOWN_CHARS = 100
"""Characters of a name or an id that an error repeats."""


def check_schema(owner_name: str, schema: Any, path: str) -> None:
    """Raise `InvalidRequest` for ``path`` unless ``schema`` is a JSON schema, which ``owner_name`` names in the error.

    Patterns only have to be regular expressions: an engine may support some that the linear engine does not.
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
