"""Messages between agents. Standard library only."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeAlias

from portico._keywords import exact_methods, require_known
from portico.errors import InvalidRequest

Content: TypeAlias = "str | list[dict[str, Any]] | Mapping[str, Any]"
"""Text, a list of parts (text, images), or an action for an `Executor`: ``{"name": …, "parameters": {…}}``."""


@exact_methods
@dataclass(frozen=True, slots=True)
class Message:
    """A message between agents. ``content`` is the original content, ``formatted`` the value parsed by an output
    format.

    ``stream_state`` is 0 when the message is complete; ``created_at`` is in seconds since 1970. The remaining fields
    can be set freely: the kind of the message, its recipient, and further data.

    Example::

        from portico.agent import Message

        message = Message("Good morning", sender="ada")
        print(message.but(content="Good evening").content)
    """

    content: Any
    sender: str = "user"
    formatted: Any = None
    type: str | None = None
    receiver: str | None = None
    extra_info: Mapping[str, Any] | None = None
    stream_state: int = 0
    created_at: float = field(default_factory=time.time)

    @property
    def text(self) -> str:
        """The content as text: the text of its parts, or an action as JSON."""
        if isinstance(self.content, str):
            return self.content
        if isinstance(self.content, list):
            return "\n".join(str(part.get("text", "")) for part in self.content if part.get("type") == "text")
        return json.dumps(self.content, ensure_ascii=False, default=str)

    def but(self, **changes: Any) -> Message:
        """Return a copy of the message with some fields changed."""
        require_known("Message.but", changes, [item.name for item in fields(Message)])
        return replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        """Return the message in the daemon's format: the content is text or parts."""
        content = self.content if isinstance(self.content, str | list) else self.text
        return {**asdict(self), "content": content}

    @classmethod
    def of(cls, given: Any, sender: str = "user") -> Message:
        """Convert a value to a message. It can be a message, a text, a list of parts, or an object with a message's
        fields.
        """
        if isinstance(given, Message):
            return given
        if isinstance(given, str | list):
            return cls(given, sender)
        if isinstance(given, Mapping) and "content" in given:
            known_fields = {item.name for item in fields(cls)}
            return cls(
                **{"sender": sender, **{key: value for key, value in given.items() if key in known_fields}}
            )
        raise InvalidRequest(
            f"{given!r} is not a message: use a text, a list of parts, or a Message.", param="message"
        )
