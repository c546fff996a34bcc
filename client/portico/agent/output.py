"""Output formats with which an agent's answer must comply. The parsed value is stored in `Message.formatted`."""

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
    """Parses tool calls in the model's text. The text before ``begin`` is the thought, and the text between ``begin``
    and ``end`` is the action. The model stops at ``end``.

    ``formatted`` is ``{"tool_type", "thought", "action", "status"}``; ``tool_type`` is ``None`` if the text contains
    no action. ``validate``: ``"json"`` (or `json.loads`) parses the action as JSON. A self-contained function receives
    the text of the action, and its return value replaces the action.

    Example::

        from portico.agent import Agent, ToolParser

        parser = ToolParser("calculator", begin="<run>", end="</run>", validate="json")
        print(Agent("default", output=parser)("What is 6 times 7?").formatted)
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
                f"'validate' runs in the daemon's sandbox and cannot be sent to it: {source.reason}.",
                param="validate",
            )
        return {**document, "validate": "code", "code": source.source}


@exact_methods
@dataclass(frozen=True, slots=True)
class Json:
    """JSON output. With ``shape``, a type or a JSON schema, the model can produce only matching JSON.

    Example::

        from portico.agent import Agent, Json

        agent = Agent("default", output=Json({"type": "object", "properties": {"city": {"type": "string"}}}))
        print(agent('{"city": "Oslo"}').formatted)
    """

    shape: Any = None

    def to_json(self) -> dict[str, Any]:
        if self.shape is None:
            return {"type": "json"}
        schema = dict(self.shape) if isinstance(self.shape, Mapping) else schema_of(self.shape)
        return {"type": "json", "schema": schema}


@exact_methods
class Choice(Json):
    """One of several texts. The model can produce no other answer.

    Example::

        from portico.agent import Agent, Choice

        print(Agent("default", output=Choice("yes", "no"))("yes").formatted)
    """

    __slots__ = ()

    def __init__(self, *texts: str) -> None:
        if not texts:
            raise InvalidRequest("A choice needs at least one text.", param="output")
        super().__init__({"type": "string", "enum": list(texts)})


@exact_methods
@dataclass(frozen=True, slots=True)
class Regex:
    """The part of the answer that a regular expression matches: ``group``, or the whole match by default.

    Example::

        from portico.agent import Agent, Regex

        print(Agent("default", output=Regex(r"[0-9]+"))("The answer is 42.").formatted)
    """

    pattern: str
    group: int = 0

    def to_json(self) -> dict[str, Any]:
        return {"type": "regex", "pattern": self.pattern, "group": self.group}


@runtime_checkable
class Parser(Protocol):
    """Your own output format: ``parse`` runs in this process and receives the model's text.

    If the class also has a method ``format``, the text that ``format`` returns is appended to the instructions. A
    ``ValueError`` from ``parse`` becomes the error ``format_failed``.
    """

    def parse(self, text: str) -> Any: ...


Output: TypeAlias = "ToolParser | Json | Regex | Parser | Mapping[str, Any] | type[Any]"


def own_parser(output: Any) -> Parser | None:
    """Return ``output`` if it is the caller's own parser, which the daemon does not know; otherwise return ``None``."""
    return output if isinstance(output, Parser) and not isinstance(output, type) else None


def parse_message(parser: Parser | None, message: Message) -> Message:
    """Parse a message's text, and return the message with the result in ``formatted``. Without a parser, return the
    message unchanged.
    """
    if parser is None:
        return message
    try:
        return message.but(formatted=parser.parse(message.text))
    except ValueError as error:
        raise InvalidRequest(
            f"The answer does not match the format {type(parser).__name__}: {error}",
            code="format_failed",
            param="output",
        ) from error


def output_json(output: Output | Sequence[Output]) -> Any:
    """Return an output format, or a list of formats to try in order, as JSON for the specification."""
    if isinstance(output, list | tuple):
        return [output_json(item) for item in output]
    if isinstance(output, ToolParser | Json | Regex):
        return output.to_json()
    if own_parser(output) is not None or not (isinstance(output, Mapping) or schema_of(output)):
        raise InvalidRequest(
            "'output' must be a type, a JSON schema, Json, Choice, Regex, ToolParser, a list of these, or "
            f"one object with a method 'parse', not {output!r:.80}.",
            param="output",
        )
    return dict(output) if isinstance(output, Mapping) else Json(output).to_json()
