"""Searches any store by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portico_server.core.app_functions import search_request
from portico_server.core.context import Context
from portico_server.core.passage import PASSAGE_SCHEMA, to_json, to_text
from portico_server.core.registry import Registry
from portico_server.core.request import SearchResult, ToolResult
from portico_server.features.tools.tool import Tool


def tool(_registry: Registry) -> Tool:
    """Return ``search``, which returns the passages of a store that best match a question."""
    return Tool(
        name="search",
        title="Search a store",
        description=(
            "Find the passages of a store of documents that fit a question best, in rank order, with file, "
            "place and score. 'list_stores' says which stores there are."
        ),
        input_schema={
            "type": "object",
            "properties": {
                "store": {"type": "string", "description": "Name of the store.", "minLength": 1},
                "query": {"type": "string", "description": "What to look for.", "minLength": 1},
                "max_num_results": {"type": "integer", "minimum": 1, "maximum": 50, "default": 10},
            },
            "required": ["store", "query"],
            "additionalProperties": False,
        },
        output_schema={
            "type": "object",
            "properties": {"passages": {"type": "array", "items": PASSAGE_SCHEMA}},
            "required": ["passages"],
        },
        work=_work,
        group="knowledge",
    )


async def _work(arguments: Mapping[str, Any], context: Context) -> ToolResult:
    search_result = await context.call(f"store/{arguments['store']}", search_request(arguments))
    assert isinstance(search_result, SearchResult)
    return ToolResult(
        to_text(search_result.passages) or "Nothing was found.", {"passages": to_json(search_result.passages)}
    )
