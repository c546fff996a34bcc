"""A JSON value against a JSON schema (draft 2020-12), with the place of the first fault.

Imports jsonschema, which takes a tenth of a second: import this module when something is to be checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from portico_server.core.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong: ``path`` in the value, such as ``.filters[0].key``; ``rule`` in the schema, such as
    ``properties/query/minLength``; ``message`` in words.
    """

    path: str
    rule: str
    message: str


class Shape:
    """A schema, compiled once. ``whose`` names it in errors."""

    def __init__(self, whose: str, schema: Mapping[str, Any]) -> None:
        self._whose = whose
        # An empty registry: a schema of somebody else must not make us fetch what it refers to.
        self._validator = Draft202012Validator(dict(schema), registry=Registry())

    def fault(self, value: Any) -> Fault | None:
        """The fault that says most, or ``None``. Raises `InvalidRequest` if the schema refers to what is not in it."""
        try:
            error = best_match(self._validator.iter_errors(value))
        except Unresolvable as missing:
            raise InvalidRequest(
                f"The schema of '{self._whose}' refers to '{missing.ref}', which is not within it.",
                code="invalid_schema",
            ) from missing
        if error is None:
            return None
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
        return Fault(path, "/".join(map(str, error.absolute_schema_path)), error.message[:300])


def require_schema(whose: str, schema: Any, param: str) -> None:
    """Raise `InvalidRequest` with ``param`` if ``schema`` is not a JSON schema."""
    try:
        Draft202012Validator.check_schema(schema)
    except (SchemaError, RecursionError) as error:
        reason = error.message[:300] if isinstance(error, SchemaError) else "it is nested too deeply"
        raise InvalidRequest(
            f"The schema of '{whose}' is not a JSON schema: {reason}.", code="invalid_schema", param=param
        ) from error
