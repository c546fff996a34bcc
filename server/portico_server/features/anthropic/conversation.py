"""Converts the messages of a Messages request to chat messages. Pure.

Source: https://platform.claude.com/docs/en/api/messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import orjson

from portico_server.core.dataclass import dataclass
from portico_server.core.invalid import missing, not_one_of, wrong, wrong_type
from portico_server.core.json_values import one_of, optional_flag, optional_mapping, required_text
from portico_server.core.servable import Card
from portico_server.features.anthropic.blocks import Block, blocks

Message: TypeAlias = dict[str, Any]
Part: TypeAlias = dict[str, Any]

ROLES = ("user", "assistant", "system")
USER_BLOCKS = ("text", "image", "document", "search_result", "tool_result")
ASSISTANT_BLOCKS = ("text", "thinking", "redacted_thinking", "tool_use")
RETURNED = ("text", "image", "document", "search_result")
SOURCES = ("base64", "url", "text", "content")

BILLING = "x-anthropic-billing-header:"
"""Prefix of a block in Claude Code's system prompt that is meant for Anthropic's billing and differs from call to
call. If it stayed in the prompt, the model would have to process the whole prompt again.
"""

MAX_MESSAGES: Final = 10_000

_BREAK = "\n\n"
"""Separator between two text blocks that are merged."""


def messages_of(body: Mapping[str, Any], target: Target) -> list[Message]:
    """Return the system prompt and the turns. Raise `InvalidRequest` with the path of an invalid or untranslatable
    part.
    """
    messages = body["messages"]
    if not isinstance(messages, list):
        wrong_type("messages", "a list of messages", messages)
    if not messages:
        wrong("messages", "must contain at least one message")
    if len(messages) > MAX_MESSAGES:
        wrong("messages", f"has {len(messages)} messages; at most {MAX_MESSAGES} are allowed")
    talk = _Talk(target)
    talk.rules(body.get("system"), "system")
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        if not isinstance(message, dict):
            wrong_type(path, "an object with 'role' and 'content'", message)
        role = one_of(message.get("role"), f"{path}.role", ROLES)
        content = message.get("content")
        if role == "user":
            talk.user(blocks(content, f"{path}.content"), f"{path}.content")
        elif role == "assistant":
            talk.assistant(blocks(content, f"{path}.content"), f"{path}.content")
        else:
            talk.rules(content, f"{path}.content")
    return talk.messages


class _Talk:
    """Collects turns and merges consecutive turns of the same role."""

    def __init__(self, target: Target) -> None:
        self.messages: list[Message] = []
        self._target = target
        self._call_ids: set[str] = set()

    def rules(self, value: Any, path: str) -> None:
        """Add the system prompt, or a system message between two turns."""
        if value is None:
            return
        texts = []
        for index, block in enumerate(blocks(value, path)):
            if block["type"] != "text":
                not_one_of(f"{path}[{index}].type", block["type"], ("text",))
            text = required_text(block, "text", f"{path}[{index}]")
            if text and not text.startswith(BILLING):
                texts.append(text)
        if texts:
            self.messages.append({"role": "system", "content": _BREAK.join(texts)})

    def user(self, blocks: list[Block], path: str) -> None:
        """Add the tool results, which must directly follow their calls, and then the user's text."""
        if not blocks:
            wrong(path, "must not be an empty list")
        parts: list[Part] = []
        for index, block in enumerate(blocks):
            at = f"{path}[{index}]"
            if block["type"] == "tool_result":
                parts += self._result(block, at)
            else:
                parts += self._part(block, at, USER_BLOCKS)
        if not parts:
            return
        last = self.messages[-1] if self.messages else None
        if last is not None and last["role"] == "user":
            parts = [*_as_parts(last["content"]), *parts]
            self.messages.pop()
        self.messages.append({"role": "user", "content": _content(parts)})

    def assistant(self, blocks: list[Block], path: str) -> None:
        """Add the model's text, thoughts and tool calls."""
        texts: list[str] = []
        thoughts: list[str] = []
        calls: list[Mapping[str, Any]] = []
        for index, block in enumerate(blocks):
            at = f"{path}[{index}]"
            match block["type"]:
                case "text":
                    texts.append(required_text(block, "text", at))
                case "thinking":
                    thoughts.append(required_text(block, "thinking", at))
                case "tool_use":
                    calls.append(self._call(block, at))
                case "redacted_thinking":
                    pass  # only the model that wrote redacted thoughts can read them
                case kind if not _of_a_server(kind) and not self._target.speaks:
                    not_one_of(f"{at}.type", kind, ASSISTANT_BLOCKS)
        last = self.messages[-1] if self.messages else None
        if last is None or last["role"] != "assistant":
            last = {"role": "assistant", "content": ""}
            self.messages.append(last)
        last["content"] += "".join(texts)
        if thoughts and self._target.thinks:
            last["reasoning_content"] = last.get("reasoning_content", "") + "".join(thoughts)
        if calls:
            last["tool_calls"] = [*last.get("tool_calls", ()), *calls]

    def _call(self, block: Block, at: str) -> Mapping[str, Any]:
        number = required_text(block, "id", at, empty=False)
        arguments = block.get("input")
        if not isinstance(arguments, dict):
            wrong_type(f"{at}.input", "an object", arguments)
        self._call_ids.add(number)
        function = {"name": required_text(block, "name", at), "arguments": orjson.dumps(arguments).decode()}
        return {"id": number, "type": "function", "function": function}

    def _result(self, block: Block, at: str) -> list[Part]:
        """Add a tool result. Return its images as user content, because a chat has no place for images in a tool
        result.
        """
        number = required_text(block, "tool_use_id", at, empty=False)
        if number not in self._call_ids:
            wrong(f"{at}.tool_use_id", f"is '{number}', but no earlier 'tool_use' has that id")
        content = block.get("content")
        parts: list[Part] = []
        for index, inner in enumerate(blocks("" if content is None else content, f"{at}.content")):
            parts += self._part(inner, f"{at}.content[{index}]", RETURNED)
        media_parts = [part for part in parts if part["type"] != "text"]
        text = _BREAK.join(part["text"] for part in parts if part["type"] == "text")
        if optional_flag(block, "is_error", at):
            text = f"Error: {text}" if text else "Error"
        elif not text and media_parts:
            text = "The output of the tool follows."
        self.messages.append({"role": "tool", "tool_call_id": number, "content": text})
        return media_parts

    def _part(self, block: Block, at: str, kinds: tuple[str, ...]) -> list[Part]:
        kind = block["type"]
        if kind in kinds:
            match kind:
                case "text":
                    return [_text(required_text(block, "text", at))]
                case "image":
                    return [_image(block, at)]
                case "document":
                    return list(self._document(block, at))
                case "search_result":
                    return [_text(_BREAK.join(_search_texts(block, at)))]
        if not _of_a_server(kind) and kind != "tool_reference" and not self._target.speaks:
            not_one_of(f"{at}.type", kind, kinds)
        return []

    def _document(self, block: Block, at: str) -> Iterator[Part]:
        """Yield the title, the context and the content of a document."""
        source, path = _source(block, at)
        heads = [block[name] for name in ("title", "context") if isinstance(block.get(name), str)]
        if source["type"] == "base64":
            kind = required_text(source, "media_type", path)
            data = f"data:{kind};base64,{required_text(source, 'data', path)}"
            name = heads[0] if heads else "document.pdf"
            yield {"type": "file", "file": {"filename": name, "file_data": data}}
            return
        if source["type"] == "url":
            wrong(f"{path}.type", "is 'url', but documents are not fetched: send the content itself")
        if source["type"] == "text":
            yield _text(_BREAK.join([*heads, required_text(source, "data", path)]))
            return
        if heads:
            yield _text(_BREAK.join(heads))
        for index, inner in enumerate(blocks(source.get("content"), f"{path}.content")):
            yield from self._part(inner, f"{path}.content[{index}]", ("text", "image"))


def _image(block: Block, at: str) -> Part:
    source, path = _source(block, at)
    if source["type"] == "base64":
        kind = required_text(source, "media_type", path)
        url = f"data:{kind};base64,{required_text(source, 'data', path)}"
    elif source["type"] == "url":
        url = required_text(source, "url", path)
    else:
        not_one_of(f"{path}.type", source["type"], ("base64", "url"))
    return {"type": "image_url", "image_url": {"url": url}}


def _source(block: Block, at: str) -> tuple[Block, str]:
    source = optional_mapping(block, "source", at)
    path = f"{at}.source"
    if source is None:
        missing(path)
    if source.get("type") == "file":
        wrong(
            f"{path}.type",
            "is 'file', but Anthropic's Files API is not available: send the content itself",
        )
    one_of(source.get("type"), f"{path}.type", SOURCES)
    return source, path


def _search_texts(block: Block, at: str) -> Iterator[str]:
    """Yield the texts of a client's search result: title, source and content."""
    for name in ("title", "source"):
        if isinstance(block.get(name), str):
            yield block[name]
    for index, inner in enumerate(blocks(block.get("content"), f"{at}.content")):
        yield required_text(inner, "text", f"{at}.content[{index}]")


def _of_a_server(kind: str) -> bool:
    """Return whether a block belongs to a tool that Anthropic runs. Clients send back every block they received."""
    return kind == "server_tool_use" or kind.endswith("_tool_result")


def _text(text: str) -> Part:
    return {"type": "text", "text": text}


def _as_parts(content: Any) -> Iterable[Part]:
    return [_text(content)] if isinstance(content, str) else content


def _content(parts: list[Part]) -> str | list[Part]:
    """Return a string if all parts are text, because every engine accepts a string."""
    if all(part["type"] == "text" for part in parts):
        return _BREAK.join(part["text"] for part in parts)
    return parts


PROTOCOL = "messages"
"""Capability of a model that accepts a Messages request in its original form."""

THOUGHTS = "thoughts"
"""Capability of a model whose template receives the model's earlier thoughts and a thinking effort. Other providers
may refuse fields for thoughts and effort, so requests send them only as a hint.
"""


@dataclass(frozen=True, slots=True)
class Target:
    """The capabilities of the target of a request.

    ``speaks``: the target receives untranslatable content in its original form. ``thinks``: the target receives
    earlier thoughts and a thinking effort. ``context_length``: maximum tokens per call, ``None`` if unknown.
    """

    speaks: bool = False
    thinks: bool = False
    context_length: int | None = None

    @classmethod
    def of(cls, card: Card) -> Target:
        """Return the target described by the card of a model or an app, without calling the model or app."""
        length = card.labels.get("context_length")
        return cls(
            PROTOCOL in card.capabilities,
            THOUGHTS in card.capabilities,
            length if isinstance(length, int) else None,
        )
