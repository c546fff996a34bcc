"""Output formats: what an agent's answer must look like. The parsed value is in `Message.formatted`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from portico._keywords import exact_methods
from portico._source import Bound, portable
from portico.agent.message import Message
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
        document = {"type": "tool", "tool_type": self.tool_type, "begin": self.begin, "end": self.end}
        if self.validate is None:
            return document
        if self.validate in ("json", json.loads):
            return {**document, "validate": "json"}
        assert callable(self.validate)
        source = portable(self.validate)
        if isinstance(source, Bound):
            raise InvalidRequest(
                f"'validate' runs in the daemon's sandbox and cannot travel there: {source.reason}.",
                param="validate",
            )
        return {**document, "validate": "code", "code": source.source}


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


@runtime_checkable
class Parser(Protocol):
    """An output format of your own: ``parse`` runs here, on what the model has said.

    Where it has a method ``format`` too, the text that this returns is added to the instructions. What ``parse``
    raises as a ``ValueError`` is the error ``format_failed``.
    """

    def parse(self, text: str) -> Any: ...


Output: TypeAlias = "ToolParser | Json | Regex | Parser | Mapping[str, Any] | type[Any]"


def own_parser(output: Any) -> Parser | None:
    """The format if it is one of the caller's own, which the daemon knows nothing of."""
    return output if isinstance(output, Parser) and not isinstance(output, type) else None


def parsed(parser: Parser | None, message: Message) -> Message:
    """A message with what the parser makes of its text."""
    if parser is None:
        return message
    try:
        return message.but(formatted=parser.parse(message.text))
    except ValueError as error:
        raise InvalidRequest(
            f"The answer does not have the form of {type(parser).__name__}: {error}",
            code="format_failed",
            param="output",
        ) from error


def output_json(output: Output | Sequence[Output]) -> Any:
    """One format, or several that are tried in order, as the specification has them."""
    if isinstance(output, list | tuple):
        return [output_json(item) for item in output]
    if isinstance(output, ToolParser | Json | Regex):
        return output.to_json()
    if own_parser(output) is not None or not (isinstance(output, Mapping) or schema_of(output)):
        raise InvalidRequest(
            f"'output' takes a type, a JSON schema, Json, Choice, Regex, ToolParser, a list of these, or one object "
            f"with a method 'parse'; {output!r:.80} is none of them.",
            param="output",
        )
    return dict(output) if isinstance(output, Mapping) else Json(output).to_json()
