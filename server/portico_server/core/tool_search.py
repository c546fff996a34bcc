"""Finding tools by what they do: what those that offer many ask of the knowledge, put in by the composition root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.servable import Card

MAX_LISTED_TOOLS: Final = 20
"""Tools that a model is shown at once where nothing else is said; with more, it searches for what it needs."""

MAX_FOUND_TOOLS: Final = 5
"""Tools that a search offers."""

MAX_QUERY_CHARS: Final = 400
"""Characters of a query that a model writes: a small one that is not bounded does not stop."""

MAX_TEXT_CHARS: Final = 2_000
"""Characters of what is said of a tool that a search looks at."""

FIND_TOOLS: Final = "find_tools"
"""What the search is called by a model."""

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
    """What a model reads of the search in ``count`` tools; ``among`` says more of these."""
    return (
        f"Find tools among {count} that are not listed here, before you say that something cannot be done.{among} "
        "Say in general words what the tool does, such as 'send an email', in the language of the tools; "
        f"at most {MAX_FOUND_TOOLS} that fit can be called afterwards."
    )


@dataclass(frozen=True, slots=True)
class SearchedTool:
    """What a search looks at. ``among``: the name and the description of what it belongs to, such as a server."""

    name: str
    description: str = ""
    schema: Mapping[str, Any] | None = None
    title: str = ""
    among: str = ""

    @property
    def head(self) -> str:
        """What it is called."""
        return f"{self.name.replace('_', ' ')} {self.title} {self.among}"[:MAX_TEXT_CHARS]

    @property
    def text(self) -> str:
        """What it does, and what it is told."""
        properties = (self.schema or {}).get("properties")
        arguments = " ".join(
            f"{name.replace('_', ' ')} {about.get('description', '') if isinstance(about, Mapping) else ''}"
            for name, about in (properties.items() if isinstance(properties, Mapping) else ())
        )
        return f"{self.head}\n{self.description}\n{arguments}"[:MAX_TEXT_CHARS]


def searched(card: Card) -> SearchedTool:
    """A tool as its card has it; the group that it is in says what it is about."""
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
        """The places in ``tools`` of those that fit, best first. Only what the caller may call is handed in.

        ``charge``: the tools are the caller's own, who is charged for their vectors.
        """
