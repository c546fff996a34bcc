"""Calling a function that came as source: what apps ask of the light sandbox, put in by the composition root."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from portico_server.core.errors import Forbidden
from portico_server.core.principal import Principal

SCOPE: Final = "tools:python_light:call"
"""Code that somebody brings along runs where the tool of that name runs it, so it takes the same right."""


MAX_FORMULA_CHARACTERS: Final = 2_000

_ARITHMETIC: Final = (
    ast.Expression,
    ast.BinOp,
    ast.BoolOp,
    ast.UnaryOp,
    ast.Compare,
    ast.IfExp,
    ast.Constant,
    ast.Name,
    ast.Call,
    ast.Tuple,
    ast.List,
    ast.expr_context,
    ast.boolop,
    ast.operator,
    ast.unaryop,
    ast.cmpop,
)
"""What a formula is made of: no attributes, subscripts, functions or loops of its own."""


def is_formula(text: str) -> bool:
    """Whether an expression is arithmetic alone: numbers, names, operators and calls of functions by their names."""
    if len(text) > MAX_FORMULA_CHARACTERS:
        return False
    try:
        expression = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for node in ast.walk(expression):
        if not isinstance(node, _ARITHMETIC):
            return False
        if isinstance(node, ast.Call) and (not isinstance(node.func, ast.Name) or node.keywords):
            return False
        if isinstance(node, ast.Constant) and not isinstance(node.value, bool | int | float):
            return False
    return True


def require_code(caller: Principal, at: str) -> None:
    """Raise `Forbidden` unless ``caller`` may run the code that stands at ``at``."""
    if not caller.allows(SCOPE):
        raise Forbidden(
            f"{at} is code, and this key lacks the scope '{SCOPE}'. Ask the operator for a key that has it.",
            param=at,
        )


class Evaluator(Protocol):
    """An interpreter without files, network or environment."""

    async def evaluate(self, source: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call the function that ``source`` defines last, or the lambda that it is; its value as JSON.

        Raises `InvalidRequest` with the code ``code_failed`` and Python's own words if it fails.
        """

    async def evaluate_all(
        self, source: str, calls: Sequence[tuple[Sequence[Any], Mapping[str, Any]]]
    ) -> list[Any]:
        """The same for several calls, each with its own arguments; the values in their order.

        They share one interpreter and its limits. Raises if one of them fails, and does not say which.
        """

    async def check(self, source: str) -> None:
        """Raise `InvalidRequest` if ``source`` is not a function, or one that the interpreter can never run."""
