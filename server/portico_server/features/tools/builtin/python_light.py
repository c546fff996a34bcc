"""Runs short pieces of Python without files, network or packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from portico_server.core.context import Context
from portico_server.core.request import ToolResult
from portico_server.features.sandbox.light import SECONDS, EvaluatedCode, LightSandbox
from portico_server.features.tools.tool import Tool

RESULT: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "output": {"type": "string", "description": "What the code printed."},
        "value": {"type": ["string", "null"], "description": "The value of its last expression, as text."},
        "error": {
            "type": ["string", "null"],
            "description": "The error that ended it, as Python reports it.",
        },
    },
    "required": ["output", "value", "error"],
}

CODE: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "code": {"type": "string", "minLength": 1, "maxLength": 100_000, "description": "Python source."}
    },
    "required": ["code"],
    "additionalProperties": False,
}
"""The arguments of a tool that runs code."""


def as_result(evaluated_code: EvaluatedCode) -> ToolResult:
    """Return what a tool that runs code answers."""
    return ToolResult(evaluated_code.text, asdict(evaluated_code), is_error=evaluated_code.error is not None)


def tool(light: LightSandbox) -> Tool:
    """Return ``python_light``, which runs code in the embedded interpreter."""

    async def work(arguments: Mapping[str, Any], _context: Context) -> ToolResult:
        return as_result(await light.run(arguments["code"]))

    return Tool(
        name="python_light",
        title="Run short Python",
        description=(
            "Run a short piece of Python and get what it prints and the value of its last line. Each call starts from "
            f"nothing; at most {SECONDS:g} seconds; the basics of the language with math, re, json and datetime, but "
            "no files, no network and no packages. Fast: use it for arithmetic, text and data that fits in the code."
        ),
        input_schema=CODE,
        output_schema=RESULT,
        work=work,
        group="code",
        composed=True,
    )
