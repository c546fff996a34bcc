"""Compaction items: the model receives a summary of everything before a compaction item. Pure: values in, values out.

``encrypted_content`` is opaque to clients, and they send it back unchanged. It contains a summary, and the unchanged
items that the model sees after the summary. It contains no secret, because the client itself sent the conversation.

Source: https://developers.openai.com/api/docs/guides/compaction
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Final

import orjson

from portico_server.core.dataclass import dataclass
from portico_server.core.request import Message

SEAL: Final = "portico.1."
"""Prefix of the ``encrypted_content`` that Portico creates; contains the format version."""

REQUEST: Final = (
    "Our conversation has become long, and will continue without what is above. Write down for yourself what you need "
    "to continue: what the user wants, in their words where these matter; what was done, and what came of it; "
    "names, numbers, files and decisions; what is still to be done. Write the notes alone, without a greeting."
)
"""Prompt that asks a model for a summary."""

_HEAD: Final = "[Notes on our conversation up to here, which has been left out:]"
_TAIL: Final = "[End of the notes.]"


@dataclass(frozen=True, slots=True)
class CompactedConversation:
    """The content of a compaction item. With ``keeps``, the model also sees the user's messages before the item."""

    summary: str
    items: Sequence[dict[str, Any]] = ()
    keeps: bool = False

    def sealed(self) -> str:
        """Encode the conversation as ``encrypted_content``."""
        data = orjson.dumps({"summary": self.summary, "items": list(self.items), "keeps": self.keeps})
        return SEAL + base64.urlsafe_b64encode(data).decode()


def decode_conversation(content: str) -> CompactedConversation | None:
    """Decode an ``encrypted_content``; return ``None`` if Portico did not create it."""
    if not content.startswith(SEAL):
        return None
    try:
        document = orjson.loads(base64.urlsafe_b64decode(content.removeprefix(SEAL)))
    except (binascii.Error, ValueError):
        return None
    if not isinstance(document, dict):
        return None
    summary, items, keeps = document.get("summary"), document.get("items"), document.get("keeps")
    if not (isinstance(summary, str) and isinstance(items, list) and isinstance(keeps, bool)):
        return None
    return CompactedConversation(summary, items, keeps)


def window(items: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """Return the items that a model sees: only what the last compaction keeps of the earlier items, and everything
    after it.

    Applying the function to its own result changes nothing.
    """
    last = next((n for n in range(len(items) - 1, -1, -1) if items[n]["type"] == "compaction"), None)
    if last is None:
        return items
    compacted_conversation = decode_conversation(items[last]["encrypted_content"])
    if compacted_conversation is None:
        return items[last + 1 :]
    kept_requests = requests_among(window(items[:last])) if compacted_conversation.keeps else []
    sealed_item = {
        **items[last],
        "encrypted_content": CompactedConversation(compacted_conversation.summary, keeps=True).sealed(),
    }
    return [*kept_requests, sealed_item, *compacted_conversation.items, *items[last + 1 :]]


def requests_among(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages that the model did not write."""
    return [item for item in items if item["type"] == "message" and item["role"] != "assistant"]


def quote_user_messages(items: Sequence[dict[str, Any]], max_chars: int) -> str:
    """Quote the user's messages, newest first, up to ``max_chars`` characters.

    A small model writes poor notes, and these quotes cost no tokens to produce.
    """
    quoted_lines: list[str] = []
    for item in reversed(items):
        if item["type"] != "message" or item["role"] != "user":
            continue
        text = " ".join(part["text"] for part in item["content"] if part["type"] == "input_text").strip()
        max_chars -= len(text)
        if max_chars < 0:
            break
        if text:
            quoted_lines.append(f"- {text}")
    return "\n".join(["The user wrote:", *reversed(quoted_lines)]) if quoted_lines else ""


def cuts(items: Sequence[dict[str, Any]]) -> list[int]:
    """Return the positions where a conversation can be cut without separating a call from its output: before a message
    that the model did not write, and before the first of consecutive calls.
    """
    cut_points = []
    for number in range(1, len(items)):
        item, before = items[number], items[number - 1]
        calls = item["type"] == "function_call" and before["type"] not in ("function_call", "reasoning")
        if calls or (item["type"] == "message" and item["role"] != "assistant"):
            cut_points.append(number)
    # A part that contains only a summary would be summarized again.
    return [number for number in cut_points if number > 1 or items[0]["type"] != "compaction"]


def as_user_text(content: str) -> str:
    """Return the text of a compaction item as the model reads it."""
    compacted_conversation = decode_conversation(content)
    return f"{_HEAD}\n{compacted_conversation.summary}\n{_TAIL}" if compacted_conversation is not None else ""


def join_user_messages(messages: Sequence[Message]) -> list[Message]:
    """Merge consecutive user messages into one, because many chat templates require alternating turns."""
    found_messages: list[Message] = []
    for message in messages:
        last = found_messages[-1] if found_messages else {}
        contents = (last.get("content"), message.get("content"))
        if last.get("role") == message["role"] == "user" and all(isinstance(text, str) for text in contents):
            found_messages[-1] = {**last, "content": "\n\n".join(str(text) for text in contents)}
        else:
            found_messages.append(message)
    return found_messages
