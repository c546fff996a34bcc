"""Removal of the text that editors and agents add to what a person asks. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from portico_server.core.request import Message

CONTEXT_TAGS: Final = frozenset(
    {
        # Codex
        "environment_context", "instructions", "user_instructions", "skill", "turn_aborted", "user_shell_command",
        # Claude Code and OpenCode
        "system-reminder", "local-command-caveat", "local-command-stdout", "local-command-stderr", "command-name",
        "command-message", "bash-input", "bash-stdout", "bash-stderr", "ide_opened_file", "ide_selection",
        # OpenCode: an attached file
        "path", "type", "content",
        # VS Code
        "attachments", "attachment", "environment_info", "workspace_info", "editorcontext", "repocontext",
        "reminderinstructions", "userpreferences", "toolreferences", "conversation-summary",
        # VS Code and Zed
        "context",
        # Goose
        "info-msg",
        # Gemini CLI
        "session_context",
    }
)  # fmt: skip
"""Names, in lower case, of the tags around text that a client adds to a user message."""

QUESTION_TAGS: Final = frozenset({"userrequest", "user_query"})
"""Names, in lower case, of the tags around what the person asks. VS Code sends them."""

_OPENING: Final = re.compile(r"^[ \t]*<([A-Za-z][A-Za-z_-]{0,30})(?: [^<>\n]{0,400})?>", re.MULTILINE)
_CLIENT_LINE: Final = re.compile(
    r"^(?:# AGENTS\.md instructions(?: for [^\n]*)?|Called the \w{1,40} tool with the following input: [^\n]*)$",
    re.MULTILINE,
)
"""A line that Codex or OpenCode adds without a tag."""


def without_client_text(messages: Sequence[Message]) -> Sequence[Message]:
    """Return the messages without the text that a client adds to user messages.

    User messages that consist only of such text are omitted. If no user message remains, nothing is removed.
    """
    remaining_messages: list[Message] = []
    for message in messages:
        content = message.get("content")
        cleaned = _clean(content) if message.get("role") == "user" else content
        if cleaned is content:
            remaining_messages.append(message)
        elif cleaned:
            remaining_messages.append({**message, "content": cleaned})
    has_question = any(message.get("role") == "user" for message in remaining_messages)
    return remaining_messages if has_question else messages


def question_text(text: str) -> str:
    """Return what a person asks in the text of a user message.

    A client's block begins at the start of a line with a tag of `CONTEXT_TAGS`, and has an end tag. All other tags
    belong to the question.
    """
    if not _CLIENT_LINE.search(text) and not _OPENING.search(text):
        return text
    pieces: list[str] = []
    unclosed_tags: set[str] = set()
    position = kept_until = 0
    while (opening := _OPENING.search(text, position)) is not None:
        position = opening.end()
        tag = opening[1]
        if tag in unclosed_tags or tag.lower() not in CONTEXT_TAGS | QUESTION_TAGS:
            continue
        end = text.find(f"</{tag}>", position)
        if end < 0:
            unclosed_tags.add(tag)
            continue
        if tag.lower() in QUESTION_TAGS:
            return text[position:end].strip()
        pieces.append(text[kept_until : opening.start()])
        position = kept_until = end + len(tag) + 3
    pieces.append(text[kept_until:])
    remaining_text = _CLIENT_LINE.sub("", "".join(pieces))
    return text if remaining_text == text else remaining_text.strip()


def _clean(content: Any) -> Any:
    """Return the content of a user message without the client's text, or ``content`` itself if it has none."""
    if isinstance(content, str):
        return question_text(content)
    if not isinstance(content, list):
        return content
    parts = [_clean_part(part) for part in content]
    if all(part is original for part, original in zip(parts, content, strict=True)):
        return content
    return [part for part in parts if part is not None]


def _clean_part(part: Any) -> Any:
    """Return a part without the client's text, ``part`` itself if it has none, or ``None`` if nothing remains."""
    text = part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None
    if not isinstance(text, str):
        return part
    question = question_text(text)
    if question is text:
        return part
    return {**part, "text": question} if question else None
