"""Expressions: what a step's fields may hold, and its value where the step runs. `notation` reads them from JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import orjson

from portico_server.apps.flow.scope import SKIPPED, Scope
from portico_server.core.errors import InvalidRequest
from portico_server.core.json_size import MAX_INDENTED

ROOTS: Final = ("input", "value", "history", "item", "index", "state", "steps")

Key: TypeAlias = "str | int"

MISSING = object()


class Expression(Protocol):
    """Something that has a value in a scope."""

    def of(self, scope: Scope) -> Any: ...

    def parts(self) -> Iterator[Expression]:
        """The expressions that it is made of."""


@dataclass(frozen=True, slots=True)
class LiteralExpression:
    """A value that is always the same."""

    value: Any

    def of(self, _scope: Scope) -> Any:
        return self.value

    def parts(self) -> Iterator[Expression]:
        return iter(())


@dataclass(frozen=True, slots=True)
class ReferenceExpression:
    """``root`` is one of `ROOTS`; ``step`` is set for ``steps``; ``keys`` lead into the value; ``at``: where it is."""

    root: str
    step: str
    keys: tuple[Key, ...]
    at: str
    default: Any = MISSING

    @property
    def text(self) -> str:
        """The reference as it is written."""
        head = f"steps.{self.step}" if self.root == "steps" else self.root
        return head + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.keys)

    def of(self, scope: Scope) -> Any:
        value = scope.output(self.step) if self.root == "steps" else getattr(scope, self.root)
        if value is SKIPPED:
            if self.default is MISSING:
                raise InvalidRequest(
                    f"{self.at} refers to the step '{self.step}', which was skipped. Give the reference a '$default'.",
                    code="step_skipped",
                    param=self.at,
                )
            return self.default
        for key in self.keys:
            value = self._into(value, key)
            if value is MISSING:
                return self.default
        if self.keys or self.root != "state":
            return value  # it was measured when it was made
        # A state is put together by steps, which continue with that.
        return scope.budget.require(dict(value), self.at)

    def _into(self, value: Any, key: Key) -> Any:
        if isinstance(key, str) and isinstance(value, dict) and key in value:
            return value[key]
        if isinstance(key, int) and isinstance(value, list | str) and -len(value) <= key < len(value):
            return value[key]
        if self.default is not MISSING:
            return MISSING
        raise InvalidRequest(
            f"{self.at}: '{self.text}' leads nowhere, because {short(value)} has no {key!r}.",
            code="reference_not_found",
            param=self.at,
        )

    def parts(self) -> Iterator[Expression]:
        return iter(())


@dataclass(frozen=True, slots=True)
class TemplateExpression:
    """Text between which variables stand: an even piece is text, an odd one the name of a variable."""

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
                        f"{self.at} has the variable '{{{name}}}', but {short(value)} flows in, without such a key. "
                        "Declare it under '$with', or double the braces to have them in the text.",
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
    """An operator over expressions."""

    operator: str
    sides: tuple[Expression, ...]
    at: str

    def of(self, scope: Scope) -> bool:
        if self.operator in ("$and", "$or"):
            test = all if self.operator == "$and" else any
            return test(bool(side.of(scope)) for side in self.sides)
        if self.operator == "$not":
            return not self.sides[0].of(scope)
        left, right = self.sides[0].of(scope), self.sides[1].of(scope)
        try:
            return bool(OPERATORS[self.operator](left, right))
        except TypeError:
            raise InvalidRequest(
                f"{self.at}: {short(left)} and {short(right)} cannot be compared by {self.operator}.",
                code="type_clash",
                param=self.at,
            ) from None

    def parts(self) -> Iterator[Expression]:
        return iter(self.sides)


@dataclass(frozen=True, slots=True)
class CodeExpression:
    """A call of a function; its value is worked out by the executor, because the sandbox is waited for."""

    source: str
    args: tuple[Expression, ...]
    kwargs: Mapping[str, Expression]
    at: str

    def of(self, scope: Scope) -> Any:
        raise InvalidRequest(
            f"{self.at}: code can stand as a condition or a stop condition, or be a step of its own; not here.",
            code="code_not_here",
            param=self.at,
        )

    def parts(self) -> Iterator[Expression]:
        yield from self.args
        yield from self.kwargs.values()


@dataclass(frozen=True, slots=True)
class SpreadExpression:
    """The items of a list, each an argument of its own."""

    inner: Expression
    at: str

    def of(self, scope: Scope) -> list[Any]:
        value = self.inner.of(scope)
        if not isinstance(value, list):
            raise InvalidRequest(
                f"{self.at}: {short(value)} is not a list that could be spread over arguments.",
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
        made = {name: field.of(scope) for name, field in self.fields.items()}
        return scope.budget.require(made, "an object")  # type: ignore[no-any-return]

    def parts(self) -> Iterator[Expression]:
        return iter(self.fields.values())


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same: to Python, true is 1, to nobody else."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "$eq": same,
    "$ne": lambda a, b: not same(a, b),
    "$lt": lambda a, b: a < b,
    "$lte": lambda a, b: a <= b,
    "$gt": lambda a, b: a > b,
    "$gte": lambda a, b: a >= b,
    "$in": lambda a, b: a in b,
}

VALUE: Final = ReferenceExpression("value", "", (), "value")
"""What flows into a step."""


def arguments(args: Sequence[Expression], scope: Scope) -> list[Any]:
    """The values of positional arguments, what is spread laid out."""
    out: list[Any] = []
    for arg in args:
        if isinstance(arg, SpreadExpression):
            out.extend(arg.of(scope))
        else:
            out.append(arg.of(scope))
    return scope.budget.require(out, "arguments")  # type: ignore[no-any-return]


def named_arguments(kwargs: Mapping[str, Expression], scope: Scope) -> dict[str, Any]:
    """The values of arguments by name."""
    made = {name: part.of(scope) for name, part in kwargs.items()}
    return scope.budget.require(made, "arguments")  # type: ignore[no-any-return]


def walk(expression: Expression) -> Iterator[Expression]:
    """An expression and all that it is made of."""
    yield expression
    for part in expression.parts():
        yield from walk(part)


def as_text(value: Any) -> str:
    """A value as text for a model: text as it is, everything else as JSON, laid out for reading if it is not large."""
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
    """A value in a few words, for messages."""
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
