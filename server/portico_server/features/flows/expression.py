"""Expressions: the contents of a step's fields, their JSON syntax, and their evaluation where the step runs.

Any JSON value is a literal, except an object with one of these keys:

======================  ================================================================================
``{"$ref": R}``         a reference: ``input``, ``value``, ``history``, ``item``, ``index``, ``state`` or
                        ``steps.NAME``, then ``.key``, ``["any key"]`` or ``[0]`` (negative: from the end).
                        With ``"$default": X`` a missing key or a skipped step is ``X``.
``{"$template": T,``    text with ``{name}`` for each variable of ``$with``; doubled braces are literal
``"$with": {...}}``     braces. Without ``$with`` the names are keys of the input value.
``{"$eq": [a, b]}``     and ``$ne $lt $lte $gt $gte $in``: comparisons.
``{"$and": [...]}``     and ``$or``, ``{"$not": x}``.
``{"$code": SOURCE,``   a function in the light sandbox: ``$args`` and ``$kwargs`` are expressions; by default it
``"$args": [...]}``     gets the input value.
``{"$literal": X}``     ``X`` itself, whatever it looks like.
``{"$spread": E}``      within a list of arguments: the items of ``E``, each a separate argument.
======================  ================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

import orjson

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.core.json_size import MAX_INDENTED
from portico_server.features.flows.scope import SKIPPED, Scope

ROOTS: Final = ("input", "value", "history", "item", "index", "state", "steps")

Key: TypeAlias = "str | int"

MISSING = object()


class Expression(Protocol):
    """An expression, which is evaluated in a scope."""

    def of(self, scope: Scope) -> Any: ...

    def parts(self) -> Iterator[Expression]:
        """Yield the direct subexpressions."""


@dataclass(frozen=True, slots=True)
class LiteralExpression:
    """A constant value."""

    value: Any

    def of(self, _scope: Scope) -> Any:
        return self.value

    def parts(self) -> Iterator[Expression]:
        return iter(())


@dataclass(frozen=True, slots=True)
class ReferenceExpression:
    """A reference. ``root`` is one of `ROOTS`; ``step`` is set if ``root`` is ``steps``; ``keys`` lead into the value;
    ``at`` is the location of the reference in the specification.
    """

    root: str
    step: str
    keys: tuple[Key, ...]
    at: str
    default: Any = MISSING

    @property
    def text(self) -> str:
        """Return the reference as it is written in a specification."""
        head = f"steps.{self.step}" if self.root == "steps" else self.root
        return head + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.keys)

    def of(self, scope: Scope) -> Any:
        value = scope.output(self.step) if self.root == "steps" else getattr(scope, self.root)
        if value is SKIPPED:
            if self.default is MISSING:
                raise InvalidRequest(
                    f"{self.at} refers to the step '{self.step}', which was skipped. Add a '$default' to the "
                    "reference.",
                    code="step_skipped",
                    param=self.at,
                )
            return self.default
        for key in self.keys:
            value = self._into(value, key)
            if value is MISSING:
                return self.default
        if self.keys or self.root != "state":
            return value  # its size was checked when the value was created
        # Return a copy of the state, because later steps change it, and check its size, because several steps
        # built it.
        return scope.budget.require(dict(value), self.at)

    def _into(self, value: Any, key: Key) -> Any:
        if isinstance(key, str) and isinstance(value, dict) and key in value:
            return value[key]
        if isinstance(key, int) and isinstance(value, list | str) and -len(value) <= key < len(value):
            return value[key]
        if self.default is not MISSING:
            return MISSING
        raise InvalidRequest(
            f"{self.at}: '{self.text}' does not resolve, because {short(value)} has no {key!r}.",
            code="reference_not_found",
            param=self.at,
        )

    def parts(self) -> Iterator[Expression]:
        return iter(())


@dataclass(frozen=True, slots=True)
class TemplateExpression:
    """Text with variables. In ``pieces``, even indexes contain text and odd indexes names of variables."""

    pieces: tuple[str, ...]
    variables: Mapping[str, Expression] | None
    at: str

    def of(self, scope: Scope) -> str:
        variables = self.variables
        out = list(self.pieces)
        size = sum(map(len, out))
        for number in range(1, len(out), 2):
            name = out[number]
            if variables is not None:
                out[number] = as_text(variables[name].of(scope))
            else:
                value = scope.value
                if not isinstance(value, dict) or name not in value:
                    raise InvalidRequest(
                        f"{self.at} has the variable '{{{name}}}', but its input is {short(value)}, without "
                        "such a key. Declare it under '$with', or double the braces to use literal braces.",
                        code="missing_variable",
                        param=self.at,
                    )
                out[number] = as_text(value[name])
            size += len(out[number])
            scope.budget.require_size(size, self.at)
        return "".join(out)

    def parts(self) -> Iterator[Expression]:
        return iter((self.variables or {}).values())


@dataclass(frozen=True, slots=True)
class ComparisonExpression:
    """A comparison or logical operator applied to expressions."""

    operator: str
    sides: tuple[Expression, ...]
    at: str

    def of(self, scope: Scope) -> bool:
        if self.operator in ("$and", "$or"):
            test = all if self.operator == "$and" else any
            return test(bool(side.of(scope)) for side in self.sides)
        if self.operator == "$not":
            return not self.sides[0].of(scope)
        left_value, right = self.sides[0].of(scope), self.sides[1].of(scope)
        try:
            return bool(OPERATORS[self.operator](left_value, right))
        except TypeError:
            raise InvalidRequest(
                f"{self.at}: {short(left_value)} and {short(right)} cannot be compared with {self.operator}.",
                code="type_clash",
                param=self.at,
            ) from None

    def parts(self) -> Iterator[Expression]:
        return iter(self.sides)


@dataclass(frozen=True, slots=True)
class CodeExpression:
    """A call of a function in the sandbox. The executor evaluates it, because the call must be awaited."""

    source: str
    args: tuple[Expression, ...]
    kwargs: Mapping[str, Expression]
    at: str

    def of(self, scope: Scope) -> Any:
        raise InvalidRequest(
            f"{self.at}: code is not allowed here; use code as a condition or a stop condition, or as a "
            "separate step.",
            code="code_not_here",
            param=self.at,
        )

    def parts(self) -> Iterator[Expression]:
        yield from self.args
        yield from self.kwargs.values()


@dataclass(frozen=True, slots=True)
class SpreadExpression:
    """The items of a list as separate arguments."""

    inner: Expression
    at: str

    def of(self, scope: Scope) -> list[Any]:
        value = self.inner.of(scope)
        if not isinstance(value, list):
            raise InvalidRequest(
                f"{self.at}: {short(value)} is not a list and cannot be spread over arguments.",
                code="type_clash",
                param=self.at,
            )
        return value

    def parts(self) -> Iterator[Expression]:
        yield self.inner


@dataclass(frozen=True, slots=True)
class ListExpression:
    """A list of expressions."""

    items: tuple[Expression, ...]

    def of(self, scope: Scope) -> list[Any]:
        return scope.budget.require([item.of(scope) for item in self.items], "a list")  # type: ignore[no-any-return]

    def parts(self) -> Iterator[Expression]:
        return iter(self.items)


@dataclass(frozen=True, slots=True)
class ObjectExpression:
    """An object of expressions."""

    fields: Mapping[str, Expression]

    def of(self, scope: Scope) -> dict[str, Any]:
        value = {name: field.of(scope) for name, field in self.fields.items()}
        return scope.budget.require(value, "an object")  # type: ignore[no-any-return]

    def parts(self) -> Iterator[Expression]:
        return iter(self.fields.values())


def are_equal(value: Any, other_value: Any) -> bool:
    """Return whether two JSON values are equal. Unlike in Python, true does not equal 1."""
    return bool(value == other_value) and isinstance(value, bool) == isinstance(other_value, bool)


OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "$eq": are_equal,
    "$ne": lambda a, b: not are_equal(a, b),
    "$lt": lambda a, b: a < b,
    "$lte": lambda a, b: a <= b,
    "$gt": lambda a, b: a > b,
    "$gte": lambda a, b: a >= b,
    "$in": lambda a, b: a in b,
}

VALUE: Final = ReferenceExpression("value", "", (), "value")
"""Reference to the input value of a step."""


def arguments(args: Sequence[Expression], scope: Scope) -> list[Any]:
    """Return the values of positional arguments, with spread lists expanded."""
    out: list[Any] = []
    for arg in args:
        if isinstance(arg, SpreadExpression):
            out.extend(arg.of(scope))
        else:
            out.append(arg.of(scope))
    return scope.budget.require(out, "arguments")  # type: ignore[no-any-return]


def named_arguments(kwargs: Mapping[str, Expression], scope: Scope) -> dict[str, Any]:
    """Return the values of keyword arguments."""
    new_arguments = {name: part.of(scope) for name, part in kwargs.items()}
    return scope.budget.require(new_arguments, "arguments")  # type: ignore[no-any-return]


def walk(expression: Expression) -> Iterator[Expression]:
    """Yield an expression and all its subexpressions."""
    yield expression
    for part in expression.parts():
        yield from walk(part)


def as_text(value: Any) -> str:
    """Return a value as text for a model. Text stays unchanged; all other values become JSON, indented unless it is
    large.
    """
    if isinstance(value, str):
        return value
    try:
        text = orjson.dumps(value)
        if isinstance(value, dict | list) and len(text) <= MAX_INDENTED:
            text = orjson.dumps(value, option=orjson.OPT_INDENT_2)
    except (TypeError, orjson.JSONEncodeError) as error:
        raise InvalidRequest(
            f"{short(value)} cannot be written as JSON: {error}.", code="not_json"
        ) from error
    return text.decode()


def short(value: Any) -> str:
    """Return a short description of a value for use in messages."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case dict():
            return (
                f"an object with the keys {', '.join(map(repr, list(value)[:6]))}"
                if value
                else "an empty object"
            )
        case list():
            return f"a list of {len(value)}"
        case str():
            return f"the text {value[:40]!r}"
    return repr(value)[:60]


MAX_BRACES: Final = 50_000
"""Maximum number of opening braces in a template, including doubled braces. Each opening brace begins a separate
piece.
"""

_REF = re.compile(r"[A-Za-z_]\w*|\.[\w-]+|\[-?\d+\]|\[\"(?:[^\"\\]|\\.)*\"\]")
_FIELD = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)\}|[{}]")


def parse(value: Any, at: str) -> Expression:
    """Parse a JSON value as an expression. ``at`` is its location, for messages."""
    if isinstance(value, list):
        items = tuple(parse(item, f"{at}[{number}]") for number, item in enumerate(value))
        if all(isinstance(item, LiteralExpression) for item in items):
            return LiteralExpression(value)
        return ListExpression(items)
    if not isinstance(value, dict):
        return LiteralExpression(value)
    marks = [key for key in value if key.startswith("$")]
    if not marks:
        fields = {name: parse(item, f"{at}.{name}") for name, item in value.items()}
        if all(isinstance(field, LiteralExpression) for field in fields.values()):
            return LiteralExpression(value)
        return ObjectExpression(fields)
    return _read_marked(value, at)


def _read_marked(value: Mapping[str, Any], at: str) -> Expression:
    keys = frozenset(value)
    match next(iter(value)):
        case "$literal" if keys == {"$literal"}:
            return LiteralExpression(value["$literal"])
        case _ if "$ref" in keys and keys <= {"$ref", "$default"}:
            return reference(value["$ref"], at, value.get("$default", MISSING))
        case _ if "$template" in keys and keys <= {"$template", "$with"}:
            return template(value["$template"], value.get("$with"), at)
        case _ if "$code" in keys and keys <= {"$code", "$args", "$kwargs"}:
            return code(value["$code"], value.get("$args"), value.get("$kwargs"), at)
        case "$spread" if len(keys) == 1:
            return SpreadExpression(parse(value["$spread"], at), at)
        case operator if len(keys) == 1 and operator in (*OPERATORS, "$and", "$or", "$not"):
            return _comparison(operator, value[operator], at)
    raise InvalidRequest(
        f"{at} has the keys {', '.join(sorted(keys))}, which do not form an expression. Expressions are "
        "$ref, $template, $code, $literal, $spread and the comparisons; to pass such an object unchanged, "
        "put it under '$literal'.",
        code="invalid_expression",
        param=at,
    )


def _comparison(operator: str, operands: Any, at: str) -> ComparisonExpression:
    sides = [operands] if operator == "$not" else operands
    operand_count = {"$not": 1, "$and": None, "$or": None}.get(operator, 2)
    if not isinstance(sides, list) or (operand_count is not None and len(sides) != operand_count):
        raise InvalidRequest(
            f"{at}: {operator} requires a list of {operand_count or 'conditions'}.", param=at
        )
    return ComparisonExpression(operator, tuple(parse(side, f"{at}.{operator}") for side in sides), at)


def reference(text: Any, at: str, default: Any = MISSING) -> ReferenceExpression:
    """Parse a reference such as ``steps.outline[0].title``."""
    tokens = _REF.findall(text) if isinstance(text, str) else []
    if not tokens or "".join(tokens) != text or tokens[0] not in ROOTS:
        raise InvalidRequest(
            f"{at}: {text!r} is not a reference. References begin with {', '.join(ROOTS)} and continue with .key or "
            "[0], such as steps.outline[0].title.",
            code="invalid_reference",
            param=at,
        )
    root, remaining_tokens = tokens[0], tokens[1:]
    step = ""
    if root == "steps":
        if not remaining_tokens or not remaining_tokens[0].startswith("."):
            raise InvalidRequest(
                f"{at}: 'steps' requires the name of a step, such as steps.outline.",
                code="invalid_reference",
                param=at,
            )
        step, remaining_tokens = remaining_tokens[0][1:], remaining_tokens[1:]
    return ReferenceExpression(root, step, tuple(_key(token) for token in remaining_tokens), at, default)


def _key(token: str) -> Key:
    if token.startswith("."):
        return token[1:]
    if token.startswith('["'):
        return str(orjson.loads(token[1:-1]))
    return int(token[1:-1])


def is_template(text: str) -> bool:
    """Return whether a text is a template. Text whose braces never enclose a name, such as JSON, is not."""
    if text.count("{") > MAX_BRACES:
        return True  # `template` refuses such a text, so scanning it is unnecessary
    matches = list(_FIELD.finditer(text))
    if any(match.group(1) for match in matches) or all(len(match.group()) == 2 for match in matches):
        return bool(matches)
    return text.count("{") != text.count("}")


def template(text: Any, declared_names: Any, at: str) -> TemplateExpression:
    """Parse a text that contains ``{name}``. If ``declared_names`` is given, it must contain every name in the text."""
    if not isinstance(text, str):
        raise InvalidRequest(f"{at}: a template must be text, not {short(text)}.", param=at)
    if text.count("{") > MAX_BRACES:
        raise InvalidRequest(
            f"{at}: the template has more than {MAX_BRACES:,} opening braces. Pass text that is not a "
            "template as a variable, or under '$literal'.",
            code="invalid_template",
            param=at,
        )
    if declared_names is not None and not isinstance(declared_names, dict):
        raise InvalidRequest(
            f"{at}: '$with' must be an object that names the variables of the template.", param=at
        )
    variables = (
        None
        if declared_names is None
        else {name: parse(item, f"{at}.{name}") for name, item in declared_names.items()}
    )
    pieces: list[str] = []
    bare: list[
        str
    ] = []  # text pieces between two variables; they are joined at the end, because there may be many braces
    end = 0
    for match in _FIELD.finditer(text):
        bare.append(text[end : match.start()])
        end = match.end()
        name = match.group(1)
        if name is None:
            if len(match.group()) == 1:
                raise InvalidRequest(
                    f"{at}: single '{match.group()}' at character {match.start()}. Write variables as "
                    "{name}; double the braces to use literal braces.",
                    code="invalid_template",
                    param=at,
                )
            bare.append(match.group()[0])
            continue
        if variables is not None and name not in variables:
            raise InvalidRequest(
                f"{at}: the variable '{{{name}}}' is not declared under '$with'. Double the braces to use "
                "literal braces.",
                code="missing_variable",
                param=at,
            )
        pieces += ["".join(bare), name]
        bare = []
    pieces.append("".join([*bare, text[end:]]))
    return TemplateExpression(tuple(pieces), variables, at)


def code(source: Any, args: Any, kwargs: Any, at: str) -> CodeExpression:
    """Parse a function and its arguments."""
    if not isinstance(source, str) or not source.strip():
        raise InvalidRequest(f"{at}: code must be the source of a Python function or lambda.", param=at)
    if args is not None and not isinstance(args, list):
        raise InvalidRequest(f"{at}: the arguments of a function must be a list.", param=f"{at}.args")
    if kwargs is not None and not isinstance(kwargs, dict):
        raise InvalidRequest(
            f"{at}: the keyword arguments of a function must be an object.", param=f"{at}.kwargs"
        )
    if args is None and kwargs is None:
        return CodeExpression(source, (VALUE,), {}, at)
    return CodeExpression(
        source,
        tuple(parse(item, f"{at}.args[{number}]") for number, item in enumerate(args or ())),
        {name: parse(item, f"{at}.kwargs.{name}") for name, item in (kwargs or {}).items()},
        at,
    )
