"""Arithmetic for models, which are unreliable at arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from portico_server.core.context import Context
from portico_server.core.interfaces import is_formula
from portico_server.core.request import ToolResult
from portico_server.features.sandbox.light import LightSandbox
from portico_server.features.tools.tool import Tool

_MATH: Final = (
    "from math import acos, asin, atan, atan2, ceil, comb, cos, cosh, degrees, e, exp, factorial, floor, gcd, hypot, "
    "lcm, log, log2, log10, perm, pi, prod, radians, sin, sinh, sqrt, tan, tanh"
)
"""The imported names are explicit, because the interpreter does not support ``import *``."""


def tool(light: LightSandbox) -> Tool:
    """Return ``calculator``, which evaluates one expression in the embedded interpreter."""

    async def work(arguments: Mapping[str, Any], _context: Context) -> ToolResult:
        expression = " ".join(arguments["expression"].split())
        if not is_formula(expression):  # code needs another tool and that tool's permission
            return ToolResult(
                f"'{expression}' cannot be calculated: expected numbers, operators and functions of math.",
                is_error=True,
            )
        evaluated_code = await light.run(f"{_MATH}\n({expression}\n)")
        if evaluated_code.error is not None or evaluated_code.value is None:
            reason = (evaluated_code.error or "it has no value").rpartition("\n")[2]
            return ToolResult(f"'{expression}' cannot be calculated: {reason}.", is_error=True)
        return ToolResult(evaluated_code.value, {"value": evaluated_code.value})

    return Tool(
        name="calculator",
        title="Calculator",
        description=(
            "Calculate an expression in Python's notation, such as (17 * 23) ** 2 / 7, sqrt(2) or "
            "comb(52, 5): + - * / // % **, comparisons, and the functions of Python's math module."
        ),
        input_schema={
            "type": "object",
            "properties": {
                "expression": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 2_000,
                    "description": "The expression.",
                }
            },
            "required": ["expression"],
            "additionalProperties": False,
        },
        output_schema={
            "type": "object",
            "properties": {"value": {"type": "string"}},
            "required": ["value"],
        },
        work=work,
        group="code",
        computed=True,
    )
