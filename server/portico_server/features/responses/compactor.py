"""Creates compaction items: a model summarizes the items that it will no longer see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Final

from portico.wire import Usage
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import EngineFailed, PorticoError
from portico_server.core.relay import Relay
from portico_server.core.request import Message, Tokenize, TokenizedText
from portico_server.core.servable import Relays, Servable
from portico_server.features.responses.compaction import (
    REQUEST,
    CompactedConversation,
    cuts,
    join_user_messages,
)
from portico_server.features.responses.items import Item
from portico_server.features.responses.messages import messages_of
from portico_server.features.responses.request import ResponseRequest
from portico_server.features.responses.stream_reader import TextPiece, pieces
from portico_server.runs.run import charge_call

ATTEMPTS: Final = 16
"""Maximum number of requests to a model for a summary, if the conversation does not fit into its context."""

BYTES_PER_TOKEN: Final = 4
"""Bytes per token assumed for a model that does not count tokens."""

SHORT, LONG = 1_024, 4_096
"""Smallest and largest limit on the length of a summary, in tokens. A limit stops a model that would write without
end.
"""

_OPTIONS: Final = ("temperature", "top_p", "seed", "reasoning_effort", "chat_template_kwargs")
"""Options of the request that also apply to the notes."""


@dataclass(slots=True)
class Compactor:
    """Asks ``model`` to summarize conversations; ``usage`` is the total token usage of these requests."""

    servable: Servable
    model: Relays
    ask: ResponseRequest
    media: Mapping[str, str]
    context: Context
    usage: Usage = field(default_factory=Usage)
    _attempts: int = 0

    async def on(self, items: Sequence[Item]) -> str:
        """Return a summary of a conversation, made in parts if the whole is too long for the model.

        Raises the error of the model, or `EngineFailed` if the model returns no text.
        """
        question: Message = {"role": "user", "content": REQUEST}
        messages = join_user_messages([*messages_of(items, self.ask.instructions, self.media), question])
        try:
            return await self._ask(messages)
        except PorticoError as error:
            places = cuts(items)
            if error.code != "context_length_exceeded" or not places or self._attempts >= ATTEMPTS:
                raise
        middle = min(places, key=lambda place: abs(2 * place - len(items)))
        first = CompactedConversation(await self.on(items[:middle])).sealed()
        return await self.on([{"type": "compaction", "encrypted_content": first}, *items[middle:]])

    async def _ask(self, messages: Sequence[Message]) -> str:
        self._attempts += 1
        options = {name: self.ask.options[name] for name in _OPTIONS if name in self.ask.options}
        body = {**options, "model": self.ask.model, "messages": messages, "stream": True}
        body["stream_options"] = {"include_usage": True}
        body["max_tokens"] = min(LONG, max(SHORT, guess(messages) // 2))
        request = Relay("chat/completions", body)
        async with charge_call(self.context, self.servable, request) as spend:
            relay_response = await self.model.relay(request, self.context)
            parts: list[str] = []
            try:
                async for chunk in relay_response.chunks:
                    parts += [piece.text for piece in pieces(chunk) if isinstance(piece, TextPiece)]
            finally:
                close = getattr(relay_response.chunks, "aclose", None)
                if close is not None:
                    await close()
                spend(relay_response)
        self.usage += relay_response.usage
        await self.context.emit(relay_response.usage)
        text = "".join(parts).strip()
        if not text:
            raise EngineFailed(
                f"'{self.ask.model}' wrote no notes on the conversation, which was not changed. Try again, "
                "or continue without 'context_management'.",
                code="no_summary",
            )
        return text


async def size_of(messages: Sequence[Message], name: str, context: Context) -> int:
    """Return the number of tokens in a conversation, estimated from its bytes if the model cannot count them."""
    try:
        tokenized = await context.call(name, Tokenize(messages=tuple(messages)))
    except PorticoError as error:
        if error.code not in ("tokens_unsupported", "string_above_max_length"):
            raise
        return guess(messages)
    if not isinstance(tokenized, TokenizedText):
        raise PorticoError(f"'{name}' returned an invalid answer to a request to count tokens.")
    return len(tokenized.ids)


def guess(messages: Sequence[Message]) -> int:
    """Estimate the number of tokens in a conversation from its bytes."""
    return sum(_bytes(message) for message in messages) // BYTES_PER_TOKEN


def _bytes(message: Message) -> int:
    content: Any = message.get("content")
    texts = [content] if isinstance(content, str) else [part.get("text") for part in content or ()]
    calls = [call["function"].get("arguments") for call in message.get("tool_calls") or ()]
    return sum(len(text.encode()) for text in (*texts, *calls) if isinstance(text, str))
