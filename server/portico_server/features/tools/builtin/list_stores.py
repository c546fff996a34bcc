"""Lists the stores that can be searched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portico_server.core.context import Context
from portico_server.core.registry import Registry
from portico_server.core.request import ToolResult
from portico_server.features.tools.tool import Tool


def list_stores_tool(registry: Registry) -> Tool:
    """Return ``list_stores``, which lists the stores that the caller can read."""

    async def work(_arguments: Mapping[str, Any], context: Context) -> ToolResult:
        cards = await registry.cards(context.caller, "store")
        stores = [{"name": card.name, "description": card.description} for card in cards]
        lines = [
            f"- {card.name}: {card.description}" if card.description else f"- {card.name}" for card in cards
        ]
        return ToolResult("\n".join(lines) or "No stores exist yet.", {"stores": stores})

    return Tool(
        name="list_stores",
        title="List stores",
        description="The stores of documents that can be searched, by name, with what they hold.",
        input_schema={"type": "object", "properties": {}, "additionalProperties": False},
        output_schema={
            "type": "object",
            "properties": {
                "stores": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"name": {"type": "string"}, "description": {"type": "string"}},
                        "required": ["name", "description"],
                    },
                }
            },
            "required": ["stores"],
        },
        work=work,
        group="knowledge",
    )
