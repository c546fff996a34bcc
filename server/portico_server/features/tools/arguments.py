"""Validates arguments against a tool's JSON schema, with an error that a model or a person can act on.

Importing jsonschema takes a tenth of a second, so import this module when the first tool is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portico_server.core.errors import InvalidRequest
from portico_server.core.json_schema import JsonSchema


class Checker:
    """A compiled schema; ``lenient`` as in `JsonSchema`."""

    def __init__(self, tool: str, schema: Mapping[str, Any], *, lenient: bool = False) -> None:
        self._tool = tool
        self._shape = JsonSchema(tool, schema, lenient=lenient)

    def check(self, arguments: Mapping[str, Any]) -> None:
        """Raise `InvalidRequest`, with the path of the argument as ``param``, if the arguments do not match."""
        fault = self._shape.fault(dict(arguments))
        if fault is not None:
            place = f"arguments{fault.path}"
            raise InvalidRequest(
                f"Invalid arguments for the tool '{self._tool}': at {place}, {fault.message}. Schema path: "
                f"{fault.rule}.",
                code="invalid_arguments",
                param=place,
            )
