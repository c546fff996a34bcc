"""Output formats: what an agent's answer must look like. The parsed value is in `Message.formatted`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from portico._keywords import exact_methods
from portico._source import Bound, portable
from portico.errors import InvalidRequest
from portico.functions import schema_of


@exact_methods
@dataclass(frozen=True, slots=True)
class ToolParser:
    """Text before ``begin`` is the thought, text from there to ``end`` the action; the model stops at ``end``.

    ``formatted`` is ``{"tool_type", "thought", "action", "status"}``; without an action ``tool_type`` is None.
    ``validate``: ``"json"`` (or `json.loads`) reads the action as JSON; a self-contained function is given its text,
    and what it returns takes its place.
    """

    tool_type: str
    begin: str
    end: str
    validate: Callable[[str], Any] | Literal["json"] | None = None

    def to_json(self) -> dict[str, Any]:
        made = {"type": "tool", "tool_type": self.tool_type, "begin": self.begin, "end": self.end}
        if self.validate is None:
            return made
        if self.validate in ("json", json.loads):
            return {**made, "validate": "json"}
        assert callable(self.validate)
        found = portable(self.validate)
        if isinstance(found, Bound):
            raise InvalidRequest(
                f"'validate' runs in the daemon's sandbox and cannot travel there: {found.reason}.",
                param="validate",
            )
        return {**made, "validate": "code", "code": found.source}


@exact_methods
@dataclass(frozen=True, slots=True)
class Json:
    """JSON; of a ``shape``, a type or a JSON schema, if that is given: then the model can say nothing else."""

    shape: Any = None

    def to_json(self) -> dict[str, Any]:
        if self.shape is None:
            return {"type": "json"}
        schema = dict(self.shape) if isinstance(self.shape, Mapping) else schema_of(self.shape)
        return {"type": "json", "schema": schema}


@exact_methods
class Choice(Json):
    """One of a few texts, which the model is held to while it writes."""

    __slots__ = ()

    def __init__(self, *texts: str) -> None:
        if not texts:
            raise InvalidRequest("A choice needs at least one text.", param="output")
        super().__init__({"type": "string", "enum": list(texts)})


@exact_methods
@dataclass(frozen=True, slots=True)
class Regex:
    """What of the answer a regular expression matches: a group of it, by default all."""

    pattern: str
    group: int = 0

    def to_json(self) -> dict[str, Any]:
        return {"type": "regex", "pattern": self.pattern, "group": self.group}


Output: TypeAlias = "ToolParser | Json | Regex | Mapping[str, Any] | type[Any]"


def output_json(output: Output | Sequence[Output]) -> Any:
    """One format, or several that are tried in order, as the specification has them."""
    if isinstance(output, list | tuple):
        return [output_json(item) for item in output]
    if isinstance(output, ToolParser | Json | Regex):
        return output.to_json()
    return dict(output) if isinstance(output, Mapping) else Json(output).to_json()
