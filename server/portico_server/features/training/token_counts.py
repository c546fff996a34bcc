"""Counts the tokens of conversations by asking the served model."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from portico_server.core.context import Context
from portico_server.core.errors import PorticoError
from portico_server.core.request import Tokenize, TokenizedText
from portico_server.features.training.training_example import Message

CHARS_PER_TOKEN: int = 4
"""Assumed number of characters per token in a tool's description, because each template formats tools differently."""


class ModelTokenCounter:
    """A `portico_server.features.training.data.TokenCounter` that asks the model ``name`` from within a run."""

    def __init__(self, context: Context, name: str) -> None:
        self._context = context
        self._name = name

    async def length(self, messages: Sequence[Message], tools: Sequence[object], *, generation: bool) -> int:
        unweighted_messages = tuple(
            {key: value for key, value in message.items() if key != "weight"} for message in messages
        )
        tokenized_text = await self._ask(Tokenize(messages=unweighted_messages, generation=generation))
        return len(tokenized_text.ids) + (len(orjson.dumps(list(tools))) // CHARS_PER_TOKEN if tools else 0)

    async def is_token(self, text: str) -> bool:
        return len((await self._ask(Tokenize(prompt=text, special=False))).ids) == 1

    async def _ask(self, request: Tokenize) -> TokenizedText:
        tokenized = await self._context.call(self._name, request)
        if not isinstance(tokenized, TokenizedText):
            raise PorticoError(f"'{self._name}' did not return token counts.")
        return tokenized
