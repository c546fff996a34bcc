"""Stored chat completions: recorded while they are answered, then listed, retrieved, labelled and deleted.

Source: https://platform.openai.com/docs/api-reference/chat/list
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any, Final

import orjson

from portico.wire import Usage
from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.core.principal import Principal
from portico_server.db import chats as rows
from portico_server.db.chats import ChatFilter, ChatRow
from portico_server.db.database import Database
from portico_server.db.rows import Order, RowPage

MAX_CHAT_BYTES: Final = 8 * 2**20
"""Maximum size of a stored chat, in bytes; applies to the messages and to the answer separately."""

MAX_CHATS_COUNT: Final = 10_000
"""Maximum number of stored chats per key. New chats replace the oldest."""

MAX_CHATS_BYTES: Final = 256 * 2**20
"""Maximum total size of a key's stored chats, in bytes. New chats replace the oldest."""

_OPTIONS: Final = (
    *("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "max_completion_tokens"),
    *("tools", "tool_choice", "response_format", "service_tier"),
)
"""Options of a request that are stored with the answer."""

_TEXTS: Final = ("content", "refusal", "reasoning", "reasoning_content")


class ChatRecorder:
    """Records one answer, whole or streamed, and stores it."""

    def __init__(
        self, database: Database, body: Mapping[str, Any], messages: bytes, caller: Principal
    ) -> None:
        self._database = database
        self._body = body
        self._messages = messages
        self._owner = caller.id
        self._left_bytes = MAX_CHAT_BYTES
        self._merged_fields: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}

    async def keep(self, answer: bytes) -> None:
        """Store a complete answer."""
        await self._keep(orjson.loads(answer))

    async def follow(
        self, chunks: AsyncIterator[bytes], usage: Callable[[], Usage]
    ) -> AsyncGenerator[bytes, None]:
        """Yield the chunks of a stream, and store the answer before yielding the last chunk. ``usage`` returns the
        token usage if the stream does not contain it.

        The answer of an interrupted stream is not stored.
        """
        try:
            async for chunk in chunks:
                has_ended = self._read(chunk)
                if has_ended and self._merged_fields and self._left_bytes >= 0:
                    await self._keep(self._document(usage()))
                yield chunk
        finally:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()

    def _read(self, chunk: bytes) -> bool:
        """Parse the frames of a chunk; return whether one of them is the last."""
        has_ended = False
        self._left_bytes -= len(chunk)
        for frame in chunk.split(b"\n\n"):
            data = frame.removeprefix(b"data: ")
            if data == b"[DONE]":
                has_ended = True
            elif self._left_bytes >= 0 and data.startswith(b"{"):
                self._merge(orjson.loads(data))
        return has_ended

    def _merge(self, piece: Mapping[str, Any]) -> None:
        if "error" in piece:
            self._left_bytes = -1  # an incomplete answer is not stored
            return
        for name, value in piece.items():
            if name not in ("choices", "object") and value is not None:
                self._merged_fields[name] = value
        for choice in piece.get("choices") or ():
            merged_choice = self._choices.setdefault(
                choice["index"],
                {
                    "index": choice["index"],
                    "message": {"role": "assistant", "content": None, "refusal": None},
                    "logprobs": None,
                    "finish_reason": None,
                },
            )
            _extend(merged_choice["message"], choice.get("delta") or {})
            if choice.get("logprobs"):
                merged_choice["logprobs"] = _join(merged_choice["logprobs"], choice["logprobs"])
            merged_choice["finish_reason"] = choice.get("finish_reason") or merged_choice["finish_reason"]

    def _document(self, usage: Usage) -> dict[str, Any]:
        document = {**self._merged_fields, "object": "chat.completion"}
        document["choices"] = [self._choices[index] for index in sorted(self._choices)]
        document.setdefault(
            "usage",
            {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            },
        )
        return document

    async def _keep(self, document: dict[str, Any]) -> None:
        body = self._body
        options = {name: body[name] for name in _OPTIONS if body.get(name) is not None}
        text = orjson.dumps({**options, **document})
        if len(text) > MAX_CHAT_BYTES:
            return
        row = ChatRow(
            id=document["id"],
            owner=self._owner,
            model=body["model"],
            metadata=body.get("metadata") or {},
            messages=self._messages.decode(),
            document=text.decode(),
            bytes=len(text) + len(self._messages),
            created_at=time.time(),
        )
        await self._database.write_soon(rows.keep, row, MAX_CHATS_COUNT, MAX_CHATS_BYTES)


def _extend(message: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Merge a delta into a partial message."""
    for name, value in delta.items():
        if value is None or name == "role":
            continue
        if name in _TEXTS:
            message[name] = (message.get(name) or "") + value
        elif name == "tool_calls":
            _extend_calls(message.setdefault("tool_calls", []), value)
        elif name == "claims":
            message[name] = [*(message.get(name) or ()), *value]
        else:
            message[name] = value


def _extend_calls(calls: list[dict[str, Any]], pieces: list[Mapping[str, Any]]) -> None:
    for piece in pieces:
        while len(calls) <= piece["index"]:
            calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        call = calls[piece["index"]]
        call["id"] = piece.get("id") or call["id"]
        function = piece.get("function") or {}
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""


def _join(before: Mapping[str, Any] | None, new_logprobs: Mapping[str, Any]) -> dict[str, Any]:
    first = before or {}
    return {
        name: [*(first.get(name) or ()), *(new_logprobs.get(name) or ())] or None
        for name in ("content", "refusal")
    }


class StoredChats:
    """The stored chats. Callers see only their own chats. Old chats are deleted, and so are the oldest chats of a key
    that has too many.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, body: Mapping[str, Any], caller: Principal) -> ChatRecorder:
        """Return a recorder for the answer to a request. Raises `InvalidRequest` if the messages are too large to
        store.
        """
        messages = orjson.dumps(body["messages"])
        if len(messages) > MAX_CHAT_BYTES:
            raise InvalidRequest(
                f"The messages exceed {MAX_CHAT_BYTES // 2**20} MB and cannot be stored. Send the request "
                "without 'store'.",
                code="too_large_to_store",
                param="store",
            )
        return ChatRecorder(self._database, body, messages, caller)

    async def get(self, chat_id: str, caller: Principal) -> ChatRow:
        """Return a stored chat. Raises `NotFound`."""
        return await self._find(chat_id, caller, "completion_id")

    async def list(
        self,
        caller: Principal,
        *,
        model: str | None,
        metadata: Mapping[str, str],
        after: str | None,
        limit: int,
        order: Order,
    ) -> RowPage[ChatRow]:
        """Return a page of the chats with this ``model`` and ``metadata``, ordered by time."""
        if after is not None:
            await self._find(after, caller, "after")
        chat_filter = ChatFilter(None if caller.admin else caller.id, model, metadata)
        return await self._database.read(rows.page, chat_filter, after=after, limit=limit, order=order)

    async def describe(self, chat_id: str, metadata: Mapping[str, Any], caller: Principal) -> ChatRow:
        """Replace the metadata of a chat."""
        row = await self.get(chat_id, caller)
        await self._database.write(rows.describe, row.id, metadata)
        return await self.get(chat_id, caller)

    async def delete(self, chat_id: str, caller: Principal) -> None:
        """Delete a chat."""
        await self._database.write(rows.remove, (await self.get(chat_id, caller)).id)

    async def _find(self, chat_id: str, caller: Principal, param: str) -> ChatRow:
        row = await self._database.read(rows.get, chat_id)
        if row is None or not caller.sees(row.owner):
            raise NotFound(
                f"The stored chat completion '{chat_id[:80]}' does not exist or you have no access to it.",
                code="chat_completion_not_found",
                param=param,
            )
        return row
