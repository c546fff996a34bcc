"""Arguments against a JSON schema (draft 2020-12), with an error that a model or a person can act on.

Imports jsonschema, which takes a tenth of a second: import this module when the first tool is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from portico_server.core.errors import InvalidRequest


class Checker:
    """A schema, compiled once."""

    def __init__(self, tool: str, schema: Mapping[str, Any]) -> None:
        self._tool = tool
        # An empty registry: a schema of somebody else must not make us fetch what it refers to.
        self._validator = Draft202012Validator(dict(schema), registry=Registry())

    def check(self, arguments: Mapping[str, Any]) -> None:
        """Raise `InvalidRequest`, with the path of the argument as ``param``, if they do not match."""
        try:
            error = best_match(self._validator.iter_errors(dict(arguments)))
        except Unresolvable as missing:
            raise InvalidRequest(
                f"The schema of '{self._tool}' refers to '{missing.ref}', which is not within it.",
                code="invalid_schema",
            ) from missing
        if error is not None:
            where = _path(error)
            raise InvalidRequest(
                f"The tool '{self._tool}' cannot be called like this: at {where}, {error.message[:300]}. "
                f"Schema path: {_schema_path(error)}.",
                code="invalid_arguments",
                param=where,
            )


def _path(error: ValidationError) -> str:
    """Where in the arguments: ``arguments.filters[0].key``."""
    return "arguments" + "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path
    )


def _schema_path(error: ValidationError) -> str:
    """Which rule of the schema: ``properties/query/minLength``."""
    return "/".join(str(part) for part in error.absolute_schema_path)
