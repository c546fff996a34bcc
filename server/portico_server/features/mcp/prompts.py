"""The prompt library over MCP. Assistants show prompts as commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError

from portico_server.core.errors import NotFound, PorticoError
from portico_server.core.prompts.argument import PromptArgument
from portico_server.features.mcp import incoming
from portico_server.features.mcp.incoming import caller_of, page
from portico_server.features.prompts.library import PromptLibrary, StoredPrompt

PAGE_SIZE: Final = 100
"""Number of prompts on one page of a list."""


class PromptOffers:
    """Handlers of ``prompts/list`` and ``prompts/get``. An endpoint for a single object has no prompts."""

    def __init__(self, library: PromptLibrary) -> None:
        self._library = library

    async def list(
        self, context: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListPromptsResult:
        """List the newest version of each prompt that the caller may see."""
        prompt_rows = [] if incoming.is_narrow(context) else await self._library.list(caller_of(context))
        named_prompts = [(prompt.name, prompt) for prompt in prompt_rows]
        prompts, cursor = page(named_prompts, params.cursor if params else None, PAGE_SIZE)
        return types.ListPromptsResult(prompts=list(map(_offer, prompts)), next_cursor=cursor)

    async def get(
        self, context: ServerRequestContext[Any], params: types.GetPromptRequestParams
    ) -> types.GetPromptResult:
        """Return the messages of a prompt with the arguments filled in. All arguments arrive as text.

        MCP has no system messages, so system messages become user messages.
        """
        try:
            if incoming.is_narrow(context):
                raise NotFound("This endpoint has no prompts; use /mcp.")
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
        """Return the possible values of a prompt's argument; empty if any value is allowed."""
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
            types.PromptArgument(name=item.name, description=_describe(item), required=item.required)
            for item in spec.arguments
        ],
    )


def _describe(argument: PromptArgument) -> str:
    """Return the description of an argument together with its possible values, because MCP arguments have no types."""
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
