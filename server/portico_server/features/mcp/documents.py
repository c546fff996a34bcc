"""``search`` and ``fetch``: the two tools by which research assistants read documents.

Their names, arguments and results are fixed: an assistant that finds others refuses the server. The results are also
in the text of the call, as JSON. Source: https://developers.openai.com/api/docs/mcp.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import mcp_types as types
from mcp.server.context import ServerRequestContext

from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.core.request import Search, ToolResult
from portico_server.core.servable import Card
from portico_server.features.mcp import incoming
from portico_server.features.mcp.incoming import caller_of
from portico_server.features.mcp.library import Library
from portico_server.features.stores.many_stores import MAX_STORES, search_together
from portico_server.features.tools.arguments import Checker

SEARCH: Final = "search"
FETCH: Final = "fetch"
NAMES: Final = frozenset({SEARCH, FETCH})
"""Names reserved for these tools."""

MAX_PASSAGES: Final = 20
"""Number of passages from which a search takes its documents; several passages can be in one document."""

_TEXT: Final = {"type": "string"}
_RESULT: Final = {"id": _TEXT, "title": _TEXT, "url": _TEXT}


def _object(properties: Mapping[str, Any], *required_names: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [*required_names],
        "additionalProperties": False,
    }


def _tool(name: str, title: str, description: str, schema: Any, output_schema: Any) -> types.Tool:
    return types.Tool(
        name=name,
        title=title,
        description=description,
        input_schema=schema,
        output_schema=output_schema,
        annotations=types.ToolAnnotations(title=title, read_only_hint=True, open_world_hint=False),
    )


TOOLS: Final = (
    _tool(
        SEARCH,
        "Search documents",
        "Find the documents that fit a question best, as ids, titles and links. Read a document with 'fetch'.",
        _object({"query": {**_TEXT, "minLength": 1, "description": "A question, or words."}}, "query"),
        _object({"results": {"type": "array", "items": _object(_RESULT, *_RESULT)}}, "results"),
    ),
    _tool(
        FETCH,
        "Read a document",
        "Return the whole text of a document that 'search' has found.",
        _object({"id": {**_TEXT, "minLength": 1, "description": "The id of a search result."}}, "id"),
        _object(
            {**_RESULT, "text": _TEXT, "metadata": {"type": "object", "additionalProperties": _TEXT}},
            *_RESULT,
            "text",
        ),
    ),
)


def replaces(card: Card) -> bool:
    """Return whether `SEARCH` replaces this tool: the built-in tool of the same name, which searches a named store."""
    return card.key == "tool/search" and card.labels.get("group") == "knowledge"


class DocumentTools:
    """The tools over the stores that a caller may read at an endpoint."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def work(
        self,
        context: ServerRequestContext[Any],
        name: str,
        arguments: Mapping[str, Any],
        stores: Sequence[Card],
    ) -> Callable[[Context], Awaitable[ToolResult]]:
        """Return the work of a call. Raise `InvalidRequest` if the arguments do not match the tool's schema."""
        [tool] = (tool for tool in TOOLS if tool.name == name)
        Checker(name, tool.input_schema).check(arguments)

        async def search(run: Context) -> ToolResult:
            return await self._search(context, arguments["query"], stores, run)

        async def fetch(_run: Context) -> ToolResult:
            return await self._fetch(context, arguments["id"], stores)

        return search if name == SEARCH else fetch

    async def _search(
        self, context: ServerRequestContext[Any], query: str, stores: Sequence[Card], run: Context
    ) -> ToolResult:
        if len(stores) > MAX_STORES:
            raise InvalidRequest(
                f"'{SEARCH}' searches at most {MAX_STORES} stores, and this key can read {len(stores)}. Connect to "
                f"/mcp/stores/NAME, or call {SEARCH}_NAME for one store."
            )
        keys = {card.key: card.name for card in stores}
        search_result = await search_together(keys, Search(query, max_num_results=MAX_PASSAGES), run)
        results = {
            (passage.store, passage.file_id): {
                "id": f"{passage.store}/{passage.file_id}",
                "title": passage.filename,
                "url": self._url(context, passage.store, passage.file_id),
            }
            for passage in search_result.passages
        }
        return _result({"results": [*results.values()]})

    async def _fetch(
        self, context: ServerRequestContext[Any], document_id: str, stores: Sequence[Card]
    ) -> ToolResult:
        store, _, file_id = document_id.partition("/")
        if store not in [card.name for card in stores]:
            raise NotFound(
                f"'{document_id[:200]}' is not the id of a document here. Use the id of a result of '{SEARCH}'."
            )
        document = await self._library.document(caller_of(context), store, file_id)
        metadata = {name: str(value) for name, value in document.attributes.items()}
        return _result(
            {
                "id": document_id,
                "title": document.filename,
                "text": document.text,
                "url": self._url(context, store, file_id),
                "metadata": {**metadata, "store": store},
            }
        )

    def _url(self, context: ServerRequestContext[Any], store: str, file_id: str) -> str:
        """Return the address of a document in the page."""
        base = incoming.base_url_of(context)
        return f"{base}/#/library/documents/{quote(store, safe='')}/{quote(file_id, safe='')}"


def stores_in(context: ServerRequestContext[Any], cards: Sequence[Card]) -> Sequence[Card]:
    """Return the stores that the endpoint of this request shows, sorted by name."""
    stores = [card for card in cards if card.kind == "store" and incoming.shows(context, card)]
    return sorted(stores, key=lambda card: card.name)


def _result(document: Mapping[str, Any]) -> ToolResult:
    return ToolResult(json.dumps(document, ensure_ascii=False), structured=document)
