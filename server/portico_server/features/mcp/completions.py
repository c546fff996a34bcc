"""``completion/complete``: store and file names for a partly typed resource URI, and values for an argument of a
prompt.
"""

from __future__ import annotations

from typing import Any, Final

import mcp_types as types
from mcp.server.context import ServerRequestContext

from portico_server.core.registry import Registry
from portico_server.features.mcp import incoming
from portico_server.features.mcp.incoming import caller_of
from portico_server.features.mcp.library import Library
from portico_server.features.mcp.prompts import PromptOffers
from portico_server.features.mcp.resources import TEMPLATE, THEMES_TEMPLATE

MAX_VALUES: Final = 100
"""Maximum number of values in one answer, as the protocol defines it."""


_MAX_FILES: Final = 1_000
"""Maximum number of files in a store that are searched for a name."""


class Completions:
    """Handler of ``completion/complete`` for the resource templates of stores and for prompts."""

    def __init__(self, registry: Registry, library: Library, prompts: PromptOffers) -> None:
        self._registry = registry
        self._prompts = prompts
        self._library = library

    async def complete(
        self, context: ServerRequestContext[Any], params: types.CompleteRequestParams
    ) -> types.CompleteResult:
        """Return the names that begin with the typed text, followed by other names that contain the text."""
        ref, argument = params.ref, params.argument
        names: list[str] = []
        if isinstance(ref, types.ResourceTemplateReference) and ref.uri in (TEMPLATE, THEMES_TEMPLATE):
            if argument.name == "store":
                names = await self._stores(context)
            elif argument.name == "file" and ref.uri == TEMPLATE:
                arguments = (params.context.arguments if params.context else None) or {}
                names = await self._files(context, arguments.get("store", ""))
        elif isinstance(ref, types.PromptReference):
            names = list(await self._prompts.values(context, ref.name, argument.name))
        prefix = argument.value.casefold()
        found_names = [name for name in names if prefix in name.casefold()]
        found_names.sort(key=lambda name: (not name.casefold().startswith(prefix), name))
        completion = types.Completion(
            values=found_names[:MAX_VALUES], total=len(found_names), has_more=len(found_names) > MAX_VALUES
        )
        return types.CompleteResult(completion=completion)

    async def _stores(self, context: ServerRequestContext[Any]) -> list[str]:
        only = incoming.store_of(context)
        cards = await self._registry.cards(caller_of(context), "store")
        return [card.name for card in cards if only in (None, card.name)]

    async def _files(self, context: ServerRequestContext[Any], store: str) -> list[str]:
        if store not in await self._stores(context):
            return []
        files, _position = await self._library.files(caller_of(context), None, _MAX_FILES, only=store)
        return [file.name for file in files]
