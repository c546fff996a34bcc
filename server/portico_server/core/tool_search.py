"""Search for tools by their purpose: the knowledge stores' interface for apps with many tools, injected by the
composition root.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.servable import Card

MAX_LISTED_TOOLS: Final = 20
"""Default maximum number of tools shown to a model. If there are more, the model must search for the tools it needs."""

MAX_FOUND_TOOLS: Final = 5
"""Maximum number of tools that a search returns."""

MAX_QUERY_CHARS: Final = 400
"""Maximum length, in characters, of a query that a model writes, because a small model without a limit does not
stop.
"""

MAX_TEXT_CHARS: Final = 2_000
"""Maximum number of characters of a tool's description that a search considers."""

FIND_TOOLS: Final = "find_tools"
"""Name of the function that a model calls to search for tools."""

QUERY_ARGUMENTS: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "query": {
            "type": "string",
            "description": "What to look for, in words.",
            "minLength": 1,
            "maxLength": MAX_QUERY_CHARS,
        }
    },
    "required": ["query"],
    "additionalProperties": False,
}
"""The arguments of a search."""


def finding(count: int, among: str = "") -> str:
    """Return the description that tells a model how to search ``count`` tools; ``among`` adds details about these
    tools.
    """
    return (
        f"Find tools among {count} that are not listed here, before you say that something cannot be done.{among} "
        "Say in general words what the tool does, such as 'send an email', in the language of the tools; "
        f"at most {MAX_FOUND_TOOLS} that fit can be called afterwards."
    )


@dataclass(frozen=True, slots=True)
class SearchedTool:
    """The searchable texts of a tool. ``among`` is the name and description of its group, such as an MCP server."""

    name: str
    description: str = ""
    schema: Mapping[str, Any] | None = None
    title: str = ""
    among: str = ""

    @property
    def head(self) -> str:
        """The name of the tool."""
        return f"{self.name.replace('_', ' ')} {self.title} {self.among}"[:MAX_TEXT_CHARS]

    @property
    def text(self) -> str:
        """The description of the tool and its arguments."""
        properties = (self.schema or {}).get("properties")
        arguments = " ".join(
            f"{name.replace('_', ' ')} {about.get('description', '') if isinstance(about, Mapping) else ''}"
            for name, about in (properties.items() if isinstance(properties, Mapping) else ())
        )
        return f"{self.head}\n{self.description}\n{arguments}"[:MAX_TEXT_CHARS]


def searched(card: Card) -> SearchedTool:
    """Return the searchable texts of a tool from its card, including the description of its group."""
    return SearchedTool(
        card.name, card.description, card.input_schema, card.title, str(card.labels.get("group", ""))
    )


class ToolSearch(Protocol):
    """Ranks tools for a query."""

    async def best(
        self,
        query: str,
        tools: Sequence[SearchedTool],
        context: Context,
        limit: int = MAX_FOUND_TOOLS,
        *,
        charge: bool = False,
    ) -> list[int]:
        """Return the indices of the matching tools in ``tools``, best first. The caller must be allowed to call all
        ``tools``.

        With ``charge``, the tools are the caller's own, and embedding them counts against the caller's limits.
        """
