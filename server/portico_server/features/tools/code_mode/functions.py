"""The functions of code: every tool, model, store and app that a caller may call, such as ``portico.tools.NAME``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from portico_server.core import app_functions
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.core.origins import Origins, origin_of_tool, origins_of_passages
from portico_server.core.passage import PASSAGE_SCHEMA, to_json
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.request import (
    AppOutput,
    Chat,
    ChatReply,
    Request,
    Result,
    SearchResult,
    ToolCall,
    ToolResult,
)
from portico_server.core.servable import Card
from portico_server.features.tools.code_mode.stubs import is_name, stub

RUN_CODE: Final = "run_code"
"""Name of the tool that runs code."""

ROOT: Final = "portico"
"""The module whose functions the code calls."""

_TEXT: Final[Mapping[str, Any]] = {"type": "string"}
_PASSAGES: Final[Mapping[str, Any]] = {"type": "array", "items": PASSAGE_SCHEMA}
_ANSWER: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {"answer": _TEXT, "citations": _PASSAGES},
    "required": ["answer", "citations"],
}
_MESSAGES: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "role": {"enum": ["system", "user", "assistant"]},
                    "content": _TEXT,
                },
                "required": ["role", "content"],
                "additionalProperties": False,
            },
        },
        "max_tokens": {"type": "integer", "minimum": 1},
    },
    "required": ["messages"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class CodeFunction:
    """A function of code, and the card of the object that it calls. ``path`` is such as ``portico.tools.refund``."""

    path: str
    card: Card

    @property
    def input_schema(self) -> Mapping[str, Any]:
        match self.card.kind:
            case "tool":
                return self.card.input_schema or {"type": "object"}
            case "store":
                return app_functions.SEARCH
            case "model":
                return _MESSAGES
            case _:
                return app_functions.schemas(self.card)[0]

    @property
    def output_schema(self) -> Mapping[str, Any]:
        match self.card.kind:
            case "tool":
                return self.card.output_schema or _TEXT
            case "store":
                return _PASSAGES
            case "model":
                return _TEXT
            case _ if app_functions.has_schema(self.card):
                return self.card.output_schema or {}
            case _:
                return _ANSWER

    @property
    def stub(self) -> str:
        """Return the signature with types and docstring, below a comment with the path."""
        name = self.path.rpartition(".")[2]
        description = self.card.description or self.card.title
        return f"# {self.path}\n{stub(name, description, self.input_schema, self.output_schema)}"

    @property
    def is_computed(self) -> bool:
        """Return whether the results contain no foreign data."""
        return self.card.kind == "tool" and self.card.labels.get("computed") is True

    def request(self, arguments: Mapping[str, Any], key: str) -> Request:
        """Return the request of a call; ``key`` is that of `ToolCall`. Raise `InvalidRequest` for arguments that do not
        match the schema.
        """
        if self.card.kind == "tool":
            return ToolCall(arguments, key)  # the tool checks its arguments itself
        # Importing jsonschema takes a tenth of a second, which would delay the start of the daemon.
        from portico_server.features.tools.arguments import Checker

        Checker(self.path, self.input_schema).check(arguments)
        if self.card.kind == "model":
            options = {name: value for name, value in arguments.items() if name != "messages"}
            return Chat(tuple(arguments["messages"]), options)
        return app_functions.request(self.card, arguments)

    def origins(self, arguments: Mapping[str, Any], result: Result | None) -> Origins:
        """Return the origins of the foreign data in a result. Without a result, return those of the error. The answer
        of a model adds no origins to those of its messages.
        """
        match result:
            case SearchResult(passages=passages):
                return origins_of_passages(passages)
            case _ if self.card.kind == "app":
                return (f"app {self.card.name}",)
            case _ if self.card.kind == "tool" and not self.is_computed:
                return (origin_of_tool(self.card.name, arguments.get("url")),)
            case _:
                return ()

    def value(self, result: Result) -> Any:
        """Return what the function returns for a result. Raise `InvalidRequest` if the tool failed."""
        match result:
            case ToolResult(is_error=True, text=text):
                raise InvalidRequest(text, code="tool_failed")
            case ToolResult(structured=structured, text=text):
                return text if structured is None else structured
            case SearchResult(passages=passages):
                return to_json(passages)
            case AppOutput(value=value):
                return value
            case ChatReply(content=content, citations=citations):
                is_answer = self.card.kind == "app"
                return {"answer": content, "citations": to_json(citations)} if is_answer else content
            case _:
                raise InvalidRequest(
                    f"{self.path} returned a {type(result).__name__}, which code cannot read."
                )


async def functions_of(caller: Principal, registry: Registry) -> dict[str, CodeFunction]:
    """Return a function for each object that the caller may call, by path. A name that Python does not allow is
    changed.
    """
    functions: dict[str, CodeFunction] = {}
    cards = await registry.cards(caller, "tool", "model", "store", "app")
    for card in sorted(cards, key=lambda card: (not is_name(card.name), card.key)):
        if card.key == f"tool/{RUN_CODE}" or (card.kind == "model" and "chat" not in card.capabilities):
            continue
        name = _python_name(card)
        path = f"{ROOT}.{card.kind}s.{name}"
        if card.kind == "store":
            path += ".search"
        if path in functions:
            digest = sha256(card.key.encode()).hexdigest()[:6]
            path = path.replace(f".{name}", f".{name}_{digest}")
        functions[path] = CodeFunction(path, card)
    return functions


def _python_name(card: Card) -> str:
    name = re.sub(r"\W", "_", card.name).lstrip("_")
    return name if is_name(name) else f"{card.kind}_{name}"
