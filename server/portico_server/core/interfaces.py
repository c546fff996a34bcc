"""Calls of functions given as source code: the apps' interface to the light sandbox, injected by the composition
root.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from portico_server.core.errors import Forbidden
from portico_server.core.principal import Principal

SCOPE: Final = "tools:python_light:call"
"""User-supplied code runs in the same sandbox as the `python_light` tool, and requires the same scope."""


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
"""The syntax elements of a formula: no attributes, subscripts, function definitions or loops."""


def is_formula(text: str) -> bool:
    """Return whether an expression is pure arithmetic: numbers, names, operators, and calls of named functions."""
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
    """Raise `Forbidden` unless ``caller`` may run code; the error names the code's path ``at``."""
    if not caller.allows(SCOPE):
        raise Forbidden(
            f"{at} is code, and this key lacks the scope '{SCOPE}'. Ask the operator for a key with that "
            "scope.",
            param=at,
        )


class Evaluator(Protocol):
    """An interpreter without files, network or environment."""

    async def evaluate(self, source: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call the last function that ``source`` defines, or the lambda in it; return its value as JSON.

        Raises `InvalidRequest` with the code ``code_failed`` and Python's error message if it fails.
        """

    async def evaluate_all(
        self, source: str, calls: Sequence[tuple[Sequence[Any], Mapping[str, Any]]]
    ) -> list[Any]:
        """Call the function once for each set of arguments; return the values in order.

        The calls share one interpreter and its limits. If a call fails, the error does not say which call.
        """

    async def check(self, source: str) -> None:
        """Raise `InvalidRequest` if ``source`` is not a function, or if the interpreter can never run the function."""
