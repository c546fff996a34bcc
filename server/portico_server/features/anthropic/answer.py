"""Chat answers as messages: content blocks, stop reasons, counts and citations. Pure.

Source: https://platform.claude.com/docs/en/api/messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from portico.wire import Passage, Usage
from portico_server.core.errors import EngineFailed
from portico_server.core.ids import new_id
from portico_server.core.request import ChatReply

REASONS: Mapping[str, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
"""Maps ``finish_reason`` to ``stop_reason``."""

UNREADABLE = "INVALID_JSON"
"""Key for arguments that are not a JSON object, as Anthropic's documentation proposes."""

Block = dict[str, Any]


class Head:
    """The fields that stay the same throughout an answer: the answer's id and the model.

    ``model`` is the name in the request or, if another model answered instead, that model's name. ``stops`` are the
    stop sequences of the request. ``prompt_tokens`` is the approximate length of the prompt, for the start of a stream.
    """

    def __init__(self, model: str, stops: Sequence[str] = (), prompt_tokens: int = 0) -> None:
        self.model = model
        self.prompt_tokens = prompt_tokens
        self._stops = frozenset(stops)
        self._id = new_id("msg_")

    def message(
        self, content: Sequence[Block], reason: str | None, stopped_by: str | None, usage: Mapping[str, int]
    ) -> dict[str, Any]:
        """Return the message, either complete or as the start of a stream."""
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": stopped_by,
            "usage": usage,
        }

    def end(self, finish: str | None, hit: Any, *, is_called: bool) -> tuple[str, str | None]:
        """Return ``stop_reason`` and ``stop_sequence``.

        ``hit`` is the stop sequence that the engine reports, if any. ``is_called`` is whether the answer has tool
        calls. An answer that was cut off ends with ``max_tokens`` even then, because its last call is incomplete.
        """
        if is_called and finish != "length":
            return "tool_use", None
        if isinstance(hit, str) and hit in self._stops:
            return "stop_sequence", hit
        return REASONS.get(finish or "stop", "end_turn"), None


def of_completion(document: Any, head: Head, usage: Usage) -> dict[str, Any]:
    """Return a complete ``chat.completion`` as a message. Raise `EngineFailed` if ``document`` is not a
    ``chat.completion``.
    """
    choices = document.get("choices") if isinstance(document, dict) else None
    if not choices:
        raise EngineFailed("The model's answer is not a chat completion.")
    choice = choices[0]
    message = choice.get("message") or {}
    calls = [
        (
            call.get("id"),
            (call.get("function") or {}).get("name"),
            (call.get("function") or {}).get("arguments"),
        )
        for call in message.get("tool_calls") or ()
    ]
    text = message.get("content") or message.get("refusal") or ""
    content = _content(thoughts_in(message), text, calls)
    end = head.end(choice.get("finish_reason"), choice.get("stop_reason"), is_called=bool(calls))
    return head.message(content, *end, counts(usage))


def of_reply(reply: ChatReply, head: Head) -> dict[str, Any]:
    """Return the answer of an app as a message; its passages become citations of the text."""
    calls = [(call.id, call.name, call.arguments) for call in reply.tool_calls]
    content = _content("", reply.content, calls)
    for block in content:
        if block["type"] == "text" and reply.citations:
            block["citations"] = [citation(passage) for passage in reply.citations]
    end = head.end(reply.finish_reason, None, is_called=bool(calls))
    return head.message(content, *end, counts(reply.usage))


def thoughts_in(message: Mapping[str, Any]) -> str:
    """Return the model's thoughts in a message or delta, under either of the names that engines use."""
    thoughts = message.get("reasoning_content") or message.get("reasoning")
    return thoughts if isinstance(thoughts, str) else ""


def counts(usage: Usage) -> dict[str, int]:
    """Return the token counts in Anthropic's format, where input tokens exclude those read from a cache."""
    return {
        "input_tokens": max(0, usage.prompt_tokens - usage.cached_tokens),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }


def citation(passage: Passage) -> dict[str, Any]:
    """Return a passage that supports an answer, as a citation.

    ``document_index`` is the passage's citation number in the text, minus one. The offsets refer to the text of the
    file; ``store`` and ``score`` are Portico's additions.
    """
    return {
        "type": "char_location",
        "cited_text": passage.text,
        "document_index": passage.rank - 1,
        "document_title": passage.filename,
        "file_id": passage.file_id,
        "start_char_index": passage.place.start,
        "end_char_index": passage.place.end,
        "store": passage.store,
        "score": passage.score,
    }


def input_of(arguments: Any) -> dict[str, Any]:
    """Return the arguments of a tool call, which the model wrote as text, as an object."""
    if not isinstance(arguments, str) or not arguments.strip():
        return {}
    try:
        value = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        value = UNREADABLE
    if value is None:
        return {}
    return value if isinstance(value, dict) else {UNREADABLE: arguments}


def _content(thoughts: str, text: str, calls: Iterable[tuple[Any, Any, Any]]) -> list[Block]:
    content: list[Block] = []
    if thoughts:
        content.append({"type": "thinking", "thinking": thoughts, "signature": ""})
    uses = [
        {
            "type": "tool_use",
            "id": number or new_id("call_"),
            "name": name or "",
            "input": input_of(arguments),
        }
        for number, name, arguments in calls
    ]
    # An answer without blocks would break clients that read the first block.
    if text or not uses:
        content.append({"type": "text", "text": text})
    return content + uses
