"""Validation of a JSON value against a JSON schema (draft 2020-12); the result includes the path of the first error.

Schemas come from outside, so a check is bounded: the schema's size and depth, and the steps of one check, are limited,
and patterns are searched with a linear engine. Imports jsonschema, which takes a tenth of a second: import this module
only when a value must be checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import field
from functools import cached_property
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import UnknownType, ValidationError, best_match
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.core.json_pointer import follow, pointer_keys
from portico_server.core.pattern import UnsupportedPattern, linear
from portico_server.core.schema_keywords import LIST_KEYWORDS, NAMED_KEYWORDS, SCHEMA_KEYWORDS

# Check whether a value is a JSON schema (draft 2020-12), and measure its size, in two short walks.
# jsonschema's own check takes a fifth of a millisecond for each part of a schema. Schemas come from outside
# and are checked on the event loop, so this check takes only a hundredth of that time.


MAX_SCHEMA_DEPTH: Final = 64
"""Maximum nesting depth of objects and lists in a schema."""

MAX_SCHEMA_NODES: Final = 10_000
"""Maximum number of objects, lists and values in a schema."""

MAX_SCHEMA_CHARS: Final = 1_000_000
"""Maximum number of characters in all names and texts of a schema, because every listing of its owner includes the
schema.
"""

_TYPES: Final = ("array", "boolean", "integer", "null", "number", "object", "string")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_number(value) and value >= 0 and value == int(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool)


def _are_names(value: Any) -> bool:
    return _is_list(value) and all(map(_is_text, value)) and len(set(value)) == len(value)


def _are_types(value: Any) -> bool:
    return (
        value in _TYPES
        if _is_text(value)
        else _are_names(value) and len(value) > 0 and set(value) <= set(_TYPES)
    )


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


_Kind = tuple[str, Callable[[Any], bool]]

_TEXT: Final[_Kind] = ("a text", _is_text)
_COUNT: Final[_Kind] = ("a whole number of at least 0", _is_count)
_NUMBER: Final[_Kind] = ("a number", _is_number)
_TRUTH: Final[_Kind] = ("true or false", _is_truth)

_VALUES: Final[Mapping[str, _Kind]] = {
    **dict.fromkeys(
        ["$anchor", "$comment", "$dynamicAnchor", "$dynamicRef", "$id", "$ref", "$schema"], _TEXT
    ),
    **dict.fromkeys(
        ["contentEncoding", "contentMediaType", "description", "format", "pattern", "title"], _TEXT
    ),
    **dict.fromkeys(["maxContains", "maxItems", "maxLength", "maxProperties"], _COUNT),
    **dict.fromkeys(["minContains", "minItems", "minLength", "minProperties"], _COUNT),
    **dict.fromkeys(["exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum"], _NUMBER),
    **dict.fromkeys(["deprecated", "readOnly", "uniqueItems", "writeOnly"], _TRUTH),
    "multipleOf": ("a number above 0", lambda value: _is_number(value) and value > 0),
    "required": ("a list of different names", _are_names),
    "type": (f"one of {', '.join(_TYPES)}, or a list of them", _are_types),
    "enum": ("a list", _is_list),
    "examples": ("a list", _is_list),
    "dependentRequired": (
        "an object whose values are lists of names",
        lambda value: isinstance(value, Mapping) and all(map(_are_names, value.values())),
    ),
    "$vocabulary": (
        "an object whose values are true or false",
        lambda value: isinstance(value, Mapping) and all(map(_is_truth, value.values())),
    ),
}


@dataclass(slots=True)
class SchemaSurvey:
    """The result of a walk: ``patterns`` as (path, pattern), the first error in words (``wrong``), and the
    ``keywords`` used.

    ``alternatives`` counts the enum values, branches and optional properties of the whole schema, because a grammar
    must track them in parallel.
    """

    alternatives: int = 0
    patterns: list[tuple[str, str]] = field(default_factory=list)
    wrong: str = ""
    keywords: set[str] = field(default_factory=set)


def oversize(schema: Any) -> str:
    """Return a sentence that says which size limit a schema exceeds, or an empty string. The values of enums, examples
    and defaults count, because listings include them.
    """
    nodes = chars = 0
    stack: list[tuple[Any, int]] = [(schema, 1)]
    while stack:
        value, depth = stack.pop()
        nodes += 1
        inner: Iterable[Any] = ()
        if isinstance(value, str):
            chars += len(value)
        elif isinstance(value, Mapping):
            chars += sum(map(len, map(str, value)))
            inner = value.values()
        elif _is_list(value):
            inner = value
        stack += ((child, depth + 1) for child in inner)
        if depth > MAX_SCHEMA_DEPTH:
            return f"it is nested too deeply; the maximum is {MAX_SCHEMA_DEPTH} levels"
        if nodes + len(stack) > MAX_SCHEMA_NODES:
            return f"it has more than {MAX_SCHEMA_NODES:,} parts"
        if chars > MAX_SCHEMA_CHARS:
            return f"it has more than {MAX_SCHEMA_CHARS:,} characters"
    return ""


def survey(schema: Any) -> SchemaSurvey:
    """Walk a schema until the first error."""
    schema_survey = SchemaSurvey(wrong=oversize(schema))
    stack: list[tuple[Any, str]] = [(schema, "")]
    while stack and not schema_survey.wrong:
        value, at = stack.pop()
        if isinstance(value, Mapping):
            properties, required_names = value.get("properties"), value.get("required")
            if isinstance(properties, Mapping):
                schema_survey.alternatives += max(
                    0, len(properties) - (len(required_names) if isinstance(required_names, list) else 0)
                )
            for name, inner in value.items():
                stack += _inner(schema_survey, name, inner, f"{at}.{str(name)[:80]}")
        elif not isinstance(value, bool):
            schema_survey.wrong = (
                f"{at or 'the top'} must be an object, true or false, not {str(value)[:80]!r}"
            )
    return schema_survey


def _inner(schema_survey: SchemaSurvey, name: str, value: Any, at: str) -> Sequence[tuple[Any, str]]:
    """Return the schemas that a keyword contains, which the walk visits next, with their paths."""
    if name in SCHEMA_KEYWORDS:
        schema_survey.keywords.add(name)
        return [(value, at)]
    if name in LIST_KEYWORDS:
        if not _is_list(value) or not value:
            schema_survey.wrong = schema_survey.wrong or f"{at} must be a list of schemas"
            return []
        schema_survey.alternatives += len(value)
        return [(item, f"{at}[{number}]") for number, item in enumerate(value)]
    if name in NAMED_KEYWORDS:
        if not isinstance(value, Mapping):
            schema_survey.wrong = schema_survey.wrong or f"{at} must be an object of schemas"
            return []
        schema_survey.keywords.add(name)
        if name == "patternProperties":
            schema_survey.patterns += ((at, str(pattern)) for pattern in value)
        return [(item, f"{at}.{str(key)[:80]}") for key, item in value.items()]
    kind = _VALUES.get(name)
    if kind is not None and not kind[1](value):
        schema_survey.wrong = schema_survey.wrong or f"{at} must be {kind[0]}, not {str(value)[:80]!r}"
    elif name == "pattern":
        schema_survey.patterns.append((at, value))
    elif name == "enum":
        schema_survey.alternatives += len(value)
    return []


def readable_schema(schema: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the part of a schema that Portico can check values against, and the paths of the parts left out.

    For schemas of programs that cannot be corrected. A path is in the schema, such as ``.properties.a.type``; the path
    of the whole schema is an empty text. Forms of older drafts become those of draft 2020-12: lists in ``items``, and
    ``true`` in ``exclusiveMinimum``. An empty list in place of an object, which PHP writes, is an empty object.
    """
    if not isinstance(schema, Mapping) or oversize(schema):
        return {}, [""]
    left_out: list[str] = []
    readable = _SchemaReader(schema, left_out).read(schema, "")
    try:
        require_schema("", readable, "schema", lenient=True)
    except InvalidRequest:
        return {}, [""]
    return readable, left_out


class _UnreadableKeyword(Exception):
    """The value of a keyword cannot be read."""


_OMITTED: Final = object()
"""Marks a keyword without effect."""


def _omit(value: Any) -> Any:
    """Return `_OMITTED` for null and an empty list, which programs write instead of leaving a keyword out. Otherwise
    raise `_UnreadableKeyword`.
    """
    if value is None or value == []:
        return _OMITTED
    raise _UnreadableKeyword


class _SchemaReader:
    """Reads a schema whose ``root`` contains the targets of its references. Adds to ``left_out`` what it leaves out."""

    def __init__(self, root: Mapping[str, Any], left_out: list[str]) -> None:
        self._root = root
        self._left_out = left_out

    def read(self, schema: Mapping[str, Any], at: str) -> dict[str, Any]:
        readable: dict[str, Any] = {}
        for name, value in schema.items():
            place = f"{at}.{name}"
            if name == "items" and _is_list(value) and "prefixItems" not in schema:
                name = "prefixItems"
            try:
                readable_value = self._keyword(name, value, place, schema)
            except _UnreadableKeyword:
                self._left_out.append(place)
                continue
            if readable_value is not _OMITTED:
                readable[name] = readable_value
        return readable

    def _inner(self, value: Any, at: str) -> dict[str, Any] | bool:
        """Return a schema inside the schema. An unreadable one accepts every value."""
        if isinstance(value, Mapping):
            return self.read(value, at)
        if not isinstance(value, bool) and value is not None and value != []:
            self._left_out.append(at)
        return value if isinstance(value, bool) else {}

    def _keyword(self, name: str, value: Any, at: str, schema: Mapping[str, Any]) -> Any:
        """Return the value of a keyword, or `_OMITTED` if it has no effect. Raise `_UnreadableKeyword`."""
        if name in SCHEMA_KEYWORDS:
            return self._inner(value, at) if isinstance(value, Mapping | bool) else _omit(value)
        if name in LIST_KEYWORDS:
            if not _is_list(value):
                return _omit(value)
            return [self._inner(item, f"{at}[{number}]") for number, item in enumerate(value)] or _OMITTED
        if name in NAMED_KEYWORDS:
            if not isinstance(value, Mapping):
                return _omit(value)
            return {key: self._inner(item, f"{at}.{str(key)[:80]}") for key, item in value.items()}
        if name in ("$ref", "$dynamicRef"):
            return value if _is_text(value) and self._resolves(value) else _omit(value)
        if name in ("exclusiveMinimum", "exclusiveMaximum") and isinstance(value, bool):
            limit = schema.get("minimum" if name == "exclusiveMinimum" else "maximum")
            return limit if value and _is_number(limit) else _OMITTED
        if name == "enum" and value == []:
            raise _UnreadableKeyword
        kind = _VALUES.get(name)
        if kind is None or kind[1](value):
            return value
        if name in ("required", "type") and _is_list(value):
            allowed_values = (
                item for item in value if _is_text(item) and (name == "required" or item in _TYPES)
            )
            return list(dict.fromkeys(allowed_values)) or _omit(value)
        return _omit(value)

    def _resolves(self, ref: str) -> bool:
        """Return whether a reference points into the schema."""
        if ref != "#" and not ref.startswith("#/"):
            return ref.removeprefix("#") in self._anchors
        try:
            target = follow(self._root, pointer_keys(ref))
        except KeyError:
            return False
        return isinstance(target, Mapping | bool)

    @cached_property
    def _anchors(self) -> set[str]:
        """The names that references can point to."""
        anchors: set[str] = set()
        stack: list[Any] = [self._root]
        while stack:
            value = stack.pop()
            if isinstance(value, Mapping):
                anchors.update(
                    value[name]
                    for name in ("$anchor", "$dynamicAnchor", "$id")
                    if isinstance(value.get(name), str)
                )
                stack += value.values()
            elif _is_list(value):
                stack += value
        return anchors


MAX_CHECK_STEPS: Final = 50_000
"""Maximum number of steps in a check of a value. A step is an applied keyword or work of similar cost; the maximum
takes a few tenths of a second.
"""

MAX_MESSAGE_LENGTH: Final = 300
"""Maximum length of an error message, in characters."""

_LOOKUP_STEPS: Final = MAX_SCHEMA_NODES // 2
"""Steps charged each time a reference is searched for in the whole schema."""

_REFERENCE_STEPS: Final = 5
"""Steps charged for a reference that gives a path in the schema."""

_CHARACTERS_PER_STEP: Final = 100
"""Number of message characters that cost one step."""


class _TooManySteps(Exception):
    """The check of a value needs more steps than are allowed."""


class _Steps:
    """The remaining steps of a check."""

    __slots__ = ("left", "lenient")

    def __init__(self, *, lenient: bool) -> None:
        self.left = MAX_CHECK_STEPS
        self.lenient = lenient

    def take(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise _TooManySteps


_steps: ContextVar[_Steps] = ContextVar("steps")

_Keyword = Callable[[Any, Any, Any, Any], Iterable[ValidationError] | None]


def _count_step(work: _Keyword) -> _Keyword:
    """Wrap a keyword so that each use costs a step. A long message costs additional steps, because messages quote the
    value.
    """

    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        steps = _steps.get()
        steps.take(1)
        for error in work(validator, value, instance, schema) or ():
            steps.take(len(error.message) // _CHARACTERS_PER_STEP)
            error.message = error.message[:MAX_MESSAGE_LENGTH]
            yield error

    return counted


def _matches(pattern: str, text: str, *, is_unsupported: bool = True) -> bool:
    """Return whether a pattern occurs in a text. If the engine does not support the pattern, a lenient check returns
    ``is_unsupported``.
    """
    steps = _steps.get()
    steps.take(1 + len(text) // _CHARACTERS_PER_STEP)
    try:
        return linear(pattern).found_in(text)
    except UnsupportedPattern:
        if steps.lenient:
            return is_unsupported
        raise


def _pattern(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not _matches(pattern, instance):
        yield ValidationError(f"{instance[:100]!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], instance: Any, _schema: Any
) -> Iterator[ValidationError]:
    if validator.is_type(instance, "object"):
        for pattern, inner in patterns.items():
            for name, value in instance.items():
                if _matches(pattern, name, is_unsupported=False):
                    yield from validator.descend(value, inner, path=name, schema_path=pattern)


def _additional_properties(
    validator: Any, additional_schema: Any, instance: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    _steps.get().take(len(instance) // 10)
    known_properties = schema.get("properties", {})
    patterns = schema.get("patternProperties", {})
    extras = [
        name
        for name in instance
        if name not in known_properties and not any(_matches(pattern, name) for pattern in patterns)
    ]
    if validator.is_type(additional_schema, "object"):
        for name in extras:
            yield from validator.descend(instance[name], additional_schema, path=name)
    elif not additional_schema and extras:
        extra_names = ", ".join(repr(name[:80]) for name in extras[:10])
        more_text = f" and {len(extras) - 10} more" if len(extras) > 10 else ""
        was = "was" if len(extras) == 1 else "were"
        yield ValidationError(
            f"Additional properties are not allowed ({extra_names}{more_text} {was} unexpected)"
        )


def _unique_items(validator: Any, is_unique: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if not is_unique or not validator.is_type(instance, "array"):
        return
    if len({_hashable(item) for item in instance}) < len(instance):
        yield ValidationError("it has duplicate items")


def _hashable(value: Any) -> Any:
    """Return a hashable form of a JSON value. Two forms are equal only if the values are: true is not 1, but 1.0 is."""
    if isinstance(value, dict | list):
        _steps.get().take(1 + len(value) // 2)
    match value:
        case bool() | None:
            return (value, "constant")
        case dict():
            return frozenset((name, _hashable(item)) for name, item in value.items())
        case list():
            return tuple(map(_hashable, value))
    return value


def _enum(validator: Any, values: Any, instance: Any, schema: Any) -> Iterable[ValidationError] | None:
    _steps.get().take(len(values) // 10)
    return _STANDARD["enum"](validator, values, instance, schema)


def _reference(validator: Any, ref: str, instance: Any, schema: Any) -> Iterable[ValidationError] | None:
    _steps.get().take(_REFERENCE_STEPS if ref == "#" or ref.startswith("#/") else _LOOKUP_STEPS)
    return _STANDARD["$ref"](validator, ref, instance, schema)


def _dynamic_reference(
    validator: Any, ref: str, instance: Any, schema: Any
) -> Iterable[ValidationError] | None:
    _steps.get().take(_LOOKUP_STEPS)
    return _STANDARD["$dynamicRef"](validator, ref, instance, schema)


_STANDARD: Final[dict[str, _Keyword]] = dict(Draft202012Validator.VALIDATORS)
_OURS: Final[dict[str, _Keyword]] = {
    "$dynamicRef": _dynamic_reference,
    "$ref": _reference,
    "additionalProperties": _additional_properties,
    "enum": _enum,
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "uniqueItems": _unique_items,
}
_Validator: Final[Any] = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator, {name: _count_step(work) for name, work in {**_STANDARD, **_OURS}.items()}
)


def _evolve(self: Any, **changes: Any) -> Any:
    """Return the validator with another schema, always of this class, because a '$schema' within a schema must not
    select another validator.
    """
    _steps.get().take(1)
    changes.setdefault("schema", self.schema)
    changes.setdefault("format_checker", self.format_checker)
    changes.setdefault("registry", self._registry)
    changes.setdefault("_resolver", self._resolver)
    return type(self)(**changes)


_Validator.evolve = _evolve


@dataclass(frozen=True, slots=True)
class SchemaFault:
    """A validation error: ``path`` is in the value, such as ``.filters[0].key``; ``rule`` is in the schema, such as
    ``properties/query/minLength``; ``message`` describes the error.
    """

    path: str
    rule: str
    message: str


class JsonSchema:
    """A compiled schema. ``owner_name`` names it in errors. With ``lenient``, patterns that the linear engine does not
    support are not checked, for schemas that another program, such as an MCP server, checks again.
    """

    def __init__(self, owner_name: str, schema: Mapping[str, Any], *, lenient: bool = False) -> None:
        self._whose = owner_name
        self._lenient = lenient
        # An empty registry, because an external schema must not make the daemon fetch the URLs that it refers
        # to.
        self._validator = _Validator(dict(schema), registry=Registry())

    def fault(self, value: Any) -> SchemaFault | None:
        """Return the most significant error, or ``None`` if the value is valid.

        Raises `InvalidRequest` if the schema refers to something outside itself, or if the check takes too many steps.
        """
        token = _steps.set(_Steps(lenient=self._lenient))
        try:
            error = best_match(self._validator.iter_errors(value))
        except Unresolvable as missing:
            raise self._invalid(
                f"refers to '{str(missing.ref)[:200]}', which it does not contain"
            ) from missing
        except (_TooManySteps, RecursionError) as endless:
            raise InvalidRequest(
                f"The check against the schema of '{self._whose}' takes more than {MAX_CHECK_STEPS:,} steps: "
                "simplify the schema or shorten the value.",
                code="schema_too_complex",
            ) from endless
        except UnsupportedPattern as pattern_error:
            message = f"The schema of '{self._whose}' cannot be checked. {pattern_error.message}"
            raise InvalidRequest(message, code=pattern_error.code) from pattern_error
        except (ArithmeticError, TypeError, ValueError, UnknownType) as broken:
            # The schema was never checked, or numbers in it and in the value cannot be divided by each other.
            raise self._invalid("has keywords that cannot be applied to this value") from broken
        finally:
            _steps.reset(token)
        if error is None:
            return None
        path = "".join(
            f"[{part}]" if isinstance(part, int) else f".{part[:100]}" for part in error.absolute_path
        )
        return SchemaFault(
            path, "/".join(map(str, error.absolute_schema_path)), error.message[:MAX_MESSAGE_LENGTH]
        )

    def _invalid(self, reason: str) -> InvalidRequest:
        return InvalidRequest(f"The schema of '{self._whose}' {reason}.", code="invalid_schema")


def require_schema(owner_name: str, schema: Any, param: str, *, lenient: bool = False) -> SchemaSurvey:
    """Return the survey of ``schema``. Raises `InvalidRequest` with ``param`` unless ``schema`` is a JSON schema that
    Portico can check values against.

    With ``lenient``, the schema may contain patterns that only other programs can check, see `JsonSchema`.
    """
    schema_survey = survey(schema)
    reason = schema_survey.wrong
    if not reason and {"patternProperties", "unevaluatedProperties"} <= schema_survey.keywords:
        reason = "'unevaluatedProperties' together with 'patternProperties' is not supported"
    if reason:
        raise InvalidRequest(
            f"The schema of '{owner_name}' is not a JSON schema: {reason}.",
            code="invalid_schema",
            param=param,
        )
    for at, pattern in () if lenient else schema_survey.patterns:
        try:
            linear(pattern)
        except UnsupportedPattern as error:
            raise InvalidRequest(
                f"The schema of '{owner_name}' has an unsupported pattern at {at}. {error.message}",
                code=error.code,
                param=param,
            ) from error
    return schema_survey
