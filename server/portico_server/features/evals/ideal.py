"""Ideal parts that replace real ones for one case: the right passages instead of a search, and the result of the right
tool call.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from portico.wire import Passage
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest
from portico_server.core.request import Chat, Request, Result, Search, SearchResult, ToolCall, ToolResult
from portico_server.core.servable import Card, Servable
from portico_server.db.evals import ItemRow

Ideal: TypeAlias = Callable[[Servable, ItemRow], Mapping[str, Servable]]
"""Returns the replacements for a case, by their names, given the app."""


def ideal_passages(stores: Sequence[str]) -> Ideal:
    """Return the replacement of the stores' searches by the passages of each case."""
    return lambda _app, case: {f"store/{name}": IdealStore(name, case.item["passages"]) for name in stores}


def ideal_tool_call(name: str) -> Ideal:
    """Return the replacement of the app ``name`` by one that gets the result of each case's tool call."""
    return lambda app, case: {
        name: IdealToolCall(app, case.item["tool"]["name"], case.item["tool"].get("arguments") or {})
    }


class IdealStore:
    """A store whose searches find the right passages."""

    def __init__(self, name: str, passages: Sequence[str]) -> None:
        self.card = Card(name, "store", capabilities=frozenset({"search"}))
        self._passages = tuple(
            Passage(rank, 1.0, text, "", "expected", store=name) for rank, text in enumerate(passages, 1)
        )

    async def call(self, request: Request, context: Context) -> Result:
        if not isinstance(request, Search):
            raise InvalidRequest(f"'{self.card.name}' supports only searches while an app is improved.")
        return SearchResult(self._passages)


class IdealToolCall:
    """An app that gets the result of the right tool call with the question."""

    def __init__(self, app: Servable, tool: str, arguments: Mapping[str, Any]) -> None:
        self.card = app.card
        self._app = app
        self._tool = tool
        self._arguments = arguments

    async def call(self, request: Request, context: Context) -> Result:
        if not isinstance(request, Chat):
            raise InvalidRequest(f"'{self.card.name}' supports only chats while it is improved.")
        result = await context.call(f"tool/{self._tool}", ToolCall(self._arguments))
        text = result.text if isinstance(result, ToolResult) else ""
        last = dict(request.messages[-1])
        call = f"{self._tool}({json.dumps(self._arguments, ensure_ascii=False)})"
        last["content"] = f"{last['content']}\n\n{call} returned: {text}"
        return await self._app.call(replace(request, messages=(*request.messages[:-1], last)), context)
