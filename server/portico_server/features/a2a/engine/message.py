"""Converts a chat to a message to an agent, and finds the conversation with the agent that the chat continues. Pure."""

from __future__ import annotations

import base64
import binascii
import mimetypes
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import orjson

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.features.a2a.engine.card import RemoteAgent

MAX_CONVERSATIONS_COUNT: Final = 256
"""Maximum number of conversations per key whose contexts are remembered. To continue an older conversation, the whole
chat is sent again.
"""

MAX_CALLERS_COUNT: Final = 1_000
"""Maximum number of keys whose conversations are remembered."""

_INSTRUCTING: Final = ("system", "developer")
_AUDIO: Final = {"mp3": "audio/mpeg", "wav": "audio/wav"}
_SPEAKERS: Final = {
    "user": "User",
    "assistant": "You",
    "tool": "Result of a tool",
    "function": "Result of a tool",
}


@dataclass(frozen=True, slots=True)
class AgentContext:
    """A conversation with an agent. ``task_id`` is the id of the task that waits for the next message, if any.

    ``instructions`` is a digest of the instructions that the agent has received.
    """

    context_id: str
    task_id: str
    instructions: bytes


class AgentContexts:
    """Finds the context of a chat by the messages that precede the new ones.

    If a chat of a key repeats a conversation with the agent, it continues the context of that conversation, but only
    once. A second chat that begins with the same messages gets a separate context.
    """

    def __init__(self) -> None:
        self._to_text: OrderedDict[str, OrderedDict[bytes, AgentContext]] = OrderedDict()

    def take(self, caller: str, digest: bytes) -> AgentContext | None:
        """Remove and return the context of a conversation with these messages, so that no other chat continues it."""
        return self._to_text.get(caller, OrderedDict()).pop(digest, None)

    def put(self, caller: str, digest: bytes, context: AgentContext) -> None:
        """Store the context under the digest of the conversation so far, for the next message."""
        agent_contexts = self._to_text.setdefault(caller, OrderedDict())
        self._to_text.move_to_end(caller)
        agent_contexts[digest] = context
        agent_contexts.move_to_end(digest)
        if len(agent_contexts) > MAX_CONVERSATIONS_COUNT:
            agent_contexts.popitem(last=False)
        if len(self._to_text) > MAX_CALLERS_COUNT:
            self._to_text.popitem(last=False)


@dataclass(frozen=True, slots=True)
class ChatTurns:
    """The parts of a chat: the instructions, the messages up to the agent's last answer, and the new messages
    after it.
    """

    instructions: tuple[Mapping[str, Any], ...]
    earlier: tuple[Mapping[str, Any], ...]
    new: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, messages: Any) -> ChatTurns:
        """Split messages into parts. Raise `InvalidRequest` if they contain nothing to send."""
        message_list = (
            [message for message in messages if isinstance(message, Mapping)]
            if isinstance(messages, list)
            else []
        )
        turns = [message for message in message_list if message.get("role") not in _INSTRUCTING]
        last = max((n for n, message in enumerate(turns, 1) if message.get("role") == "assistant"), default=0)
        if last == len(turns) and turns:  # the last message is the agent's own, so the agent must continue it
            last = 0
        if not message_list:
            raise InvalidRequest("'messages' must contain a message.", param="messages")
        instructions = tuple(message for message in message_list if message.get("role") in _INSTRUCTING)
        return cls(instructions, tuple(turns[:last]), tuple(turns[last:]))

    @property
    def instructed(self) -> bytes:
        """Digest of the instructions."""
        return _digest(self.instructions)

    @property
    def known(self) -> bytes:
        """The digest of the messages up to the agent's last answer; empty if the chat contains no answer."""
        return _digest(self.earlier) if self.earlier else b""

    def with_answer(self, text: str) -> bytes:
        """Return the value that `known` will have in the chat that continues after this answer."""
        return _digest((*self.earlier, *self.new, {"role": "assistant", "content": text}))

    def parts(self, agent: RemoteAgent, context: AgentContext | None) -> list[dict[str, Any]]:
        """Return the parts to send: only those of the new messages if ``context`` contains the others, otherwise those
        of all messages.
        """
        before: list[str] = []
        if self.instructions and (context is None or context.instructions != self.instructed):
            before += ["Instructions:", *(_text(instruction) for instruction in self.instructions), ""]
        if context is None and self.earlier:
            before += ["The conversation so far:", *map(_mappings, self.earlier), "", "User:"]
        parts: list[dict[str, Any]] = [{"text": "\n".join(before)}] if before else []
        for number, message in enumerate(self.earlier if context is None else ()):
            if message.get("role") == "user":
                content_parts = _content(message.get("content"), agent, f"messages[{number}].content")
                parts += [part for part in content_parts if "text" not in part]
        for number, message in enumerate(self.new):
            if message.get("role") == "user":
                parts += _content(message.get("content"), agent, f"messages[{number}].content")
            else:
                parts.append({"text": _mappings(message)})
        if not parts:
            raise InvalidRequest(
                "The messages contain no text, file or image to send to the agent.", param="messages"
            )
        if agent.inputs and not agent.reads("text/plain") and agent.reads("application/json"):
            parts = [_as_data(part) for part in parts]
        return parts


def _as_data(part: dict[str, Any]) -> dict[str, Any]:
    """Convert a part to JSON data for an agent that does not accept text."""
    try:
        return {"data": orjson.loads(part["text"])} if "text" in part else part
    except orjson.JSONDecodeError:
        return part


def _digest(messages: Sequence[Mapping[str, Any]]) -> bytes:
    """Return a digest of the messages. A text and the equivalent list of text parts have the same digest."""
    digest = blake2b(digest_size=16)
    for message in messages:
        other_parts = [
            part
            for part in _template_path(message.get("content"))
            if part.get("type") not in ("text", "refusal")
        ]
        calls = message.get("tool_calls")
        summary = [message.get("role"), " ".join(_text(message).split()), other_parts, calls or []]
        digest.update(orjson.dumps(summary, option=orjson.OPT_SORT_KEYS))
    return digest.digest()


def _mappings(message: Mapping[str, Any]) -> str:
    """Return a message of a conversation as text for the agent."""
    text = _text(message)
    for call in _template_path(message.get("tool_calls")):
        function = call.get("function") or {}
        text += f"\n(You called {function.get('name')} with {function.get('arguments')}.)"
    kinds = {str(part.get("type")) for part in _template_path(message.get("content"))} - {"text", "refusal"}
    if kinds:
        text += f"\n(With {', '.join(sorted(kinds))}.)"
    return f"{_SPEAKERS.get(str(message.get('role')), 'User')}: {text.strip()}"


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "\n".join(
        str(part.get("text") or part.get("refusal") or "") for part in _template_path(content)
    ).strip()


def _template_path(value: Any) -> list[Mapping[str, Any]]:
    return (
        [value_item for value_item in value if isinstance(value_item, Mapping)]
        if isinstance(value, list)
        else []
    )


def _content(content: Any, agent: RemoteAgent, at: str) -> Iterator[dict[str, Any]]:
    if isinstance(content, str):
        if content:
            yield {"text": content}
        return
    for number, part in enumerate(_template_path(content)):
        new_part = _part(part, f"{at}[{number}]")
        kind = new_part.get("mediaType") or ""
        if "text" not in new_part and kind and not agent.reads(kind):
            raise InvalidRequest(
                f"The agent does not support '{kind}'; it supports {', '.join(agent.inputs)}.",
                code="content_type_not_supported",
                param=f"{at}[{number}]",
            )
        yield new_part


def _part(part: Mapping[str, Any], at: str) -> dict[str, Any]:
    match part.get("type"):
        case "text" | "refusal":
            return {"text": str(part.get("text") or part.get("refusal") or "")}
        case "image_url":
            image_url = part.get("image_url")
            url = image_url.get("url") if isinstance(image_url, Mapping) else image_url
            if not isinstance(url, str) or not url:
                raise InvalidRequest(f"'{at}' has no image URL.", param=at)
            if url.startswith("data:"):
                return _raw(url, at)
            kind = mimetypes.guess_type(url.partition("?")[0])[0] or ""
            return {"url": url, **({"mediaType": kind} if kind.startswith("image/") else {})}
        case "input_audio":
            sound = part.get("input_audio")
            sound = sound if isinstance(sound, Mapping) else {}
            kind = _AUDIO.get(str(sound.get("format")), "application/octet-stream")
            return {"raw": _base64(sound.get("data"), at), "mediaType": kind}
        case "file":
            file = part.get("file")
            file = file if isinstance(file, Mapping) else {}
            data = file.get("file_data")
            if not isinstance(data, str):
                raise InvalidRequest(
                    f"'{at}' must be a file with 'file_data', a data URL of its content.", param=f"{at}.file"
                )
            name = str(file.get("filename") or "")
            if not data.startswith("data:"):
                kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
                data = f"data:{kind};base64,{data}"
            return {**_raw(data, at), **({"filename": name} if name else {})}
        case kind:
            raise InvalidRequest(
                f"An agent accepts text, images, audio and files, not '{str(kind)[:80]}'.",
                param=f"{at}.type",
            )


def _raw(url: str, at: str) -> dict[str, Any]:
    head, _, data = url.removeprefix("data:").partition(",")
    kind, _, form = head.partition(";")
    if not form.endswith("base64"):
        raise InvalidRequest(f"The data URL in '{at}' is not valid base64.", param=at)
    return {"raw": _base64(data, at), "mediaType": kind.strip().lower() or "application/octet-stream"}


def _base64(data: Any, at: str) -> str:
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise InvalidRequest(f"The content of '{at}' is not valid base64.", param=at) from error
    return str(data)
