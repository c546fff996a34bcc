"""Foreign data in an agent's memory: documents, results of tools and answers of other agents, and who gave them.

A message names its origins in ``extra_info["origins"]``. A call that the model makes after it has read foreign data
may follow an instruction in this data. To find out, the agent asks the model again with all foreign data withheld: a
call that the model makes in both conversations does not depend on the data.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Container, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

from portico_server.core.addresses import SEEN_ADDRESSES, SeenTexts
from portico_server.core.origins import Origins, join_origins
from portico_server.core.request import ChatReply
from portico_server.features.agents.message import TOOL_CALL, TOOL_RESULT, AgentMessage

WITHHELD: Final = "[withheld]"
"""Text in place of foreign data that is hidden from the model."""

MAX_REHEARSED_CALLS: Final = 6
"""Maximum number of model calls that check whether calls of tools depend on foreign data."""

Propose: TypeAlias = Callable[[Sequence[AgentMessage]], Awaitable[ChatReply]]
"""Returns the model's answer to a memory, with the calls that it contains."""

_FILE_TEXT: Final = re.compile(r"\s*\[File: ([^\n]{1,200})\]\n")
"""How the text of an attached file begins, see `portico_server.features.stores.attachments`."""


def with_origins(message: AgentMessage, origins: Iterable[str]) -> AgentMessage:
    """Return the message with these origins in addition to its own."""
    names = list(join_origins(_origin_names(message), origins))
    return replace(message, extra_info={**(message.extra_info or {}), "origins": names}) if names else message


def origins_of(messages: Iterable[AgentMessage]) -> Origins:
    """Return the origins of the foreign data in messages."""
    return join_origins(
        *(names for message in messages for names in (_origin_names(message), _file_names(message)))
    )


def own_texts(message: AgentMessage) -> list[tuple[int, str]]:
    """Return the texts that the author of a message wrote, without the attached files, each with its position in the
    message's text.
    """
    if isinstance(message.content, str):
        return [(0, message.content)]
    texts = []
    position = 0
    for part in message.content:
        if part.get("type") == "text":
            text = str(part.get("text", ""))
            if not _file(part):
                texts.append((position, text))
            position += len(text) + 1
    return texts


def withhold(messages: Iterable[AgentMessage]) -> list[AgentMessage]:
    """Return the messages without foreign data.

    Calls that depend on foreign data disappear, together with their results. Other calls lose the text that the model
    wrote before them. `WITHHELD` replaces results of tools and other texts that depend on foreign data. Attached files
    disappear from the user's messages.
    """
    shown_ids: set[str] = set()
    out: list[AgentMessage] = []
    for message in messages:
        about = message.extra_info or {}
        if message.type == TOOL_RESULT:
            if about.get("tool_call_id") in shown_ids:
                out.append(replace(message, content=WITHHELD) if _origin_names(message) else message)
        elif message.type == TOOL_CALL:
            if not _origin_names(message):
                shown_ids |= {call["id"] for call in about.get("tool_calls", ())}
                out.append(replace(message, content=""))
        elif _origin_names(message):
            out.append(replace(message, content=WITHHELD, formatted=None))
        elif isinstance(message.content, list):
            out.append(replace(message, content=[part for part in message.content if not _file(part)]))
        else:
            out.append(message)
    return out


def seen_addresses(messages: Iterable[AgentMessage], reading_tools: Container[str]) -> SeenTexts:
    """Return the addresses in what the user wrote, and in the results of ``reading_tools``, which the model cannot
    compose; also those that the caller of the agent has seen.
    """
    return SeenTexts(_read_and_written(messages, reading_tools), SEEN_ADDRESSES.get())


def _read_and_written(
    messages: Iterable[AgentMessage], reading_tools: Container[str]
) -> Iterator[tuple[str, bool]]:
    for message in messages:
        about = message.extra_info or {}
        if message.type == TOOL_RESULT:
            yield message.text, about.get("tool") in reading_tools
        else:
            is_users = message.sender == "user" and message.type is None and not _origin_names(message)
            yield message.text, is_users
        for call in about.get("tool_calls", ()):
            yield call["function"]["arguments"], False


def _origin_names(message: AgentMessage) -> Sequence[str]:
    names = (message.extra_info or {}).get("origins")
    return [str(name) for name in names] if isinstance(names, list | tuple) else ()


def _file_names(message: AgentMessage) -> list[str]:
    parts = message.content if isinstance(message.content, list) else ()
    return [name for part in parts if (name := _file(part))]


def _file(part: Any) -> str:
    """Return the name of the attached file that a part contains; empty for a text of the user."""
    if part.get("type") != "text":
        file = part.get("file")
        return str((isinstance(file, dict) and file.get("filename")) or part.get("type"))
    match = _FILE_TEXT.match(str(part.get("text", "")))
    return match[1] if match else ""
