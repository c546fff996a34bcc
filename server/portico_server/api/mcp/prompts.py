"""The prompt library over MCP, which assistants show as commands of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError

from portico_server.api.mcp import incoming
from portico_server.api.mcp.incoming import caller_of, page
from portico_server.api.mcp.library import Library
from portico_server.api.mcp.resources import TEMPLATE
from portico_server.apps.prompts.library import PromptLibrary, StoredPrompt
from portico_server.core.errors import NotFound, PorticoError
from portico_server.core.prompts.argument import PromptArgument
from portico_server.core.registry import Registry

PAGE_SIZE: Final = 100
"""Prompts in one page of a list."""


class PromptOffers:
    """Handlers of ``prompts/list`` and ``prompts/get``. An endpoint for one thing alone has no prompts."""

    def __init__(self, library: PromptLibrary) -> None:
        self._library = library

    async def list(
        self, context: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListPromptsResult:
        """The newest version of each prompt that the caller sees."""
        found = [] if incoming.is_narrow(context) else await self._library.list(caller_of(context))
        named = [(prompt.name, _offer(prompt)) for prompt in found]
        shown, more = page(named, params.cursor if params else None, PAGE_SIZE)
        return types.ListPromptsResult(prompts=shown, next_cursor=more)

    async def get(
        self, context: ServerRequestContext[Any], params: types.GetPromptRequestParams
    ) -> types.GetPromptResult:
        """Its messages with the arguments, which arrive as text. MCP has no system's messages: they are the user's."""
        try:
            if incoming.is_narrow(context):
                raise NotFound("This endpoint has no prompts; /mcp has them.")
            prompt = await self._library.get(params.name, caller_of(context))
            messages = prompt.spec.render(params.arguments or {}, as_text=True)
        except PorticoError as error:
            raise MCPError(types.INVALID_PARAMS, error.message, {"param": error.param}) from error
        return types.GetPromptResult(
            description=prompt.spec.description or None,
            messages=[
                types.PromptMessage(
                    role="assistant" if message["role"] == "assistant" else "user",
                    content=types.TextContent(type="text", text=message["content"]),
                )
                for message in messages
            ],
        )

    async def values(self, context: ServerRequestContext[Any], name: str, argument: str) -> Sequence[str]:
        """What an argument of a prompt may be, if that is a list."""
        if incoming.is_narrow(context):
            return []
        try:
            prompt = await self._library.get(name, caller_of(context))
        except NotFound:
            return []
        return next((_choices(item) for item in prompt.spec.arguments if item.name == argument), [])


def _offer(prompt: StoredPrompt) -> types.Prompt:
    spec = prompt.spec
    return types.Prompt(
        name=spec.name,
        title=spec.title or None,
        description=spec.description or spec.title or spec.name,
        arguments=[
            types.PromptArgument(name=item.name, description=_described(item), required=item.required)
            for item in spec.arguments
        ],
    )


def _described(argument: PromptArgument) -> str:
    """The protocol has no types for arguments: the description says what they may be."""
    words = [
        "" if argument.type == "string" else f"{argument.type.capitalize()}.",
        argument.description,
        f"One of: {', '.join(_choices(argument))}." if argument.enum else "",
        "" if argument.default is None else f"Default: {_text(argument.default)}.",
    ]
    return " ".join(word for word in words if word)


def _choices(argument: PromptArgument) -> list[str]:
    return [_text(item) for item in argument.enum or ((True, False) if argument.type == "boolean" else ())]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# ``completion/complete``: names of stores and files while somebody types the URI of a resource, and what an argument
# of a prompt may be.


MAX_VALUES: Final = 100
"""Values in one answer, as the protocol has it."""

_MAX_FILES: Final = 1_000
"""Files of a store among which a name is looked for."""


class Completions:
    """Handler of ``completion/complete`` for the template of resources and for prompts."""

    def __init__(self, registry: Registry, library: Library, prompts: PromptOffers) -> None:
        self._registry = registry
        self._prompts = prompts
        self._library = library

    async def complete(
        self, context: ServerRequestContext[Any], params: types.CompleteRequestParams
    ) -> types.CompleteResult:
        """Names that begin with what was typed, then those that contain it."""
        ref, argument = params.ref, params.argument
        names: list[str] = []
        if isinstance(ref, types.ResourceTemplateReference) and ref.uri == TEMPLATE:
            if argument.name == "store":
                names = await self._stores(context)
            elif argument.name == "file":
                given = (params.context.arguments if params.context else None) or {}
                names = await self._files(context, given.get("store", ""))
        elif isinstance(ref, types.PromptReference):
            names = list(await self._prompts.values(context, ref.name, argument.name))
        typed = argument.value.casefold()
        found = [name for name in names if typed in name.casefold()]
        found.sort(key=lambda name: (not name.casefold().startswith(typed), name))
        completion = types.Completion(
            values=found[:MAX_VALUES], total=len(found), has_more=len(found) > MAX_VALUES
        )
        return types.CompleteResult(completion=completion)

    async def _stores(self, context: ServerRequestContext[Any]) -> list[str]:
        only = incoming.store_of(context)
        cards = await self._registry.cards(caller_of(context), "store")
        return [card.name for card in cards if only in (None, card.name)]

    async def _files(self, context: ServerRequestContext[Any], store: str) -> list[str]:
        if store not in await self._stores(context):
            return []
        files, _more = await self._library.files(caller_of(context), None, _MAX_FILES, only=store)
        return [file.name for file in files]
