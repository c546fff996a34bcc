"""Converts an agent's responses (messages, tasks and updates of tasks) to the text of a chat. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import orjson

from portico.wire import Usage
from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError
from portico_server.features.a2a.engine.card import line
from portico_server.models.token_usage import usage_from_json

MAX_ARTIFACTS_COUNT: Final = 1_000
"""Maximum number of artifacts of a task."""

MAX_TOKENS_COUNT: Final = 2**40
"""Maximum number of tokens that a task may report."""

MAX_LINK_CHARS: Final = 4_000

MAX_ANSWER_CHARS: Final = 32 * 1024 * 1024
"""Maximum total length of an agent's answer to one message, in characters, however many requests the answer takes."""

_TEXTS: Final = ("text/", "application/json", "application/xml", "application/yaml")
_ENDED: Final = frozenset({"COMPLETED", "FAILED", "CANCELED", "REJECTED"})
_STOPPED: Final = _ENDED | {"INPUT_REQUIRED", "AUTH_REQUIRED"}
_PREFIX: Final = "TASK_STATE_"


class AnswerPiece(NamedTuple):
    """A piece of the answer. A ``thought`` is a piece of the agent's status messages."""

    text: str
    thought: bool = False


class AgentAnswer:
    """An answer while it arrives. ``shorten`` removes text that must not occur in errors from an agent's messages."""

    def __init__(self, name: str, shorten: Callable[[str], str]) -> None:
        self.context_id = ""
        self.task_id = ""
        self.state = ""
        self.usage = Usage()
        self._name = name
        self._shorten = shorten
        self._is_settled = False
        self._artifacts: dict[str, _ArtifactText] = {}
        self._has_text = False
        """True once the answer contains text."""
        self._room = MAX_ANSWER_CHARS

    def settled(self) -> bool:
        """Return whether nothing more arrives until the next message is sent."""
        return self._is_settled

    @property
    def open(self) -> bool:
        """Return whether the agent is still working on a task, or waits for input that will never arrive."""
        return bool(self.task_id) and self.state not in _ENDED | {"INPUT_REQUIRED"}

    @property
    def asks(self) -> bool:
        """Return whether the next message continues the task."""
        return self.state == "INPUT_REQUIRED"

    def read(self, update: Mapping[str, Any]) -> Iterator[AnswerPiece]:
        """Yield the new pieces in a ``StreamResponse`` or a ``SendMessageResponse``. Raise an error if the task has
        failed.
        """
        for piece in self._pieces(update):
            self._room -= len(piece.text)
            if self._room < 0:
                raise EngineFailed(
                    f"The agent '{self._name}' sent more than {MAX_ANSWER_CHARS:,} characters; its answer "
                    "was truncated.",
                    code="answer_too_large",
                )
            yield piece

    def _pieces(self, found_update: Mapping[str, Any]) -> Iterator[AnswerPiece]:
        if isinstance(message := found_update.get("message"), Mapping):
            self._know(message)
            self._is_settled, self.state = True, "COMPLETED"
            yield from self._say(_words(message))
        elif isinstance(task := found_update.get("task"), Mapping):
            if self._is_other(task.get("id")):
                return
            self._know({**task, "taskId": task.get("id")})
            for artifact in task.get("artifacts") or ():
                if isinstance(artifact, Mapping):
                    yield from self._artifact(artifact, append=False)
            yield from self._read_status(task.get("status"), task)
        elif isinstance(update := found_update.get("artifactUpdate"), Mapping):
            if not self._is_other(update.get("taskId")) and isinstance(update.get("artifact"), Mapping):
                self._know(update)
                yield from self._artifact(update["artifact"], append=update.get("append") is True)
        elif isinstance(update := found_update.get("statusUpdate"), Mapping) and not self._is_other(
            update.get("taskId")
        ):
            self._know(update)
            yield from self._read_status(update.get("status"), {})

    def _is_other(self, task_id: Any) -> bool:
        """Return whether an update belongs to another task."""
        return bool(self.task_id) and task_id != self.task_id

    def _know(self, update: Mapping[str, Any]) -> None:
        for own_field, agent_field in (("task_id", "taskId"), ("context_id", "contextId")):
            value = update.get(agent_field)
            if isinstance(value, str) and value and len(value) <= 1_000 and not getattr(self, own_field):
                setattr(self, own_field, value)
        usage = update.get("metadata")
        usage = usage.get("usage") if isinstance(usage, Mapping) else None
        if isinstance(usage, Mapping):
            self.usage = usage_from_json({name: _count(number) for name, number in usage.items()})

    def _artifact(self, artifact: Mapping[str, Any], *, append: bool) -> Iterator[AnswerPiece]:
        key = line(artifact.get("artifactId"))
        artifact_text = self._artifacts.get(key)
        if artifact_text is None and len(self._artifacts) >= MAX_ARTIFACTS_COUNT:
            raise EngineFailed(
                f"The agent '{self._name}' created more than {MAX_ARTIFACTS_COUNT:,} artifacts; its answer "
                "was truncated.",
                code="answer_too_large",
            )
        text = "".join(f"\n{text}\n" if has_more else text for text, has_more in _parts(artifact))
        if artifact_text is None:
            artifact_text = self._artifacts[key] = _ArtifactText()
            new = artifact_text.append(text)
            if new and self._has_text:
                new = "\n\n" + new
        else:
            new = artifact_text.append(text) if append else artifact_text.replace(text)
        yield from self._say(new)

    def _say(self, text: str) -> Iterator[AnswerPiece]:
        if text:
            text = text if self._has_text else text.lstrip("\n")
            self._has_text = True
            yield AnswerPiece(text)

    def _read_status(self, status: Any, task: Mapping[str, Any]) -> Iterator[AnswerPiece]:
        """Handle a change of status. ``task`` is the whole task, if it was sent."""
        if not isinstance(status, Mapping):
            return
        self.state = line(status.get("state")).removeprefix(_PREFIX)
        message = status.get("message")
        message_text = _words(message) if isinstance(message, Mapping) else ""
        if isinstance(message, Mapping):
            self._know({"metadata": message.get("metadata")})
        if self.state not in _STOPPED:
            if message_text:
                yield AnswerPiece(f"{message_text}\n", thought=True)
            return
        self._is_settled = True
        if self.state == "COMPLETED":
            if not self._has_text:
                yield from self._say(message_text or _last_words(task))
        elif self.state == "INPUT_REQUIRED":
            message_text = message_text or "More input is needed to continue."
            yield from self._say(f"\n\n{message_text}" if self._has_text else message_text)
        else:
            raise self._failure(message_text)

    def _failure(self, message_text: str) -> PorticoError:
        """Return the error for a task that ended without an answer."""
        reason = self._shorten(message_text) or "it gave no reason."
        match self.state:
            case "REJECTED":
                return InvalidRequest(
                    f"The agent '{self._name}' rejected this task: {reason}",
                    code="task_rejected",
                    param="messages",
                )
            case "AUTH_REQUIRED":
                return EngineFailed(
                    f"The agent '{self._name}' requires a sign-in for this task, which is not supported: "
                    f"{reason}",
                    code="agent_auth_required",
                )
            case "CANCELED":
                return EngineFailed(
                    f"The agent '{self._name}' cancelled the task: {reason}", code="task_canceled"
                )
            case _:
                return EngineFailed(f"The agent '{self._name}' failed: {reason}", code="task_failed")


class _ArtifactText:
    """The text of one artifact. Each piece is returned once, even if the agent sends the text again from the
    beginning.
    """

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._again: int | None = None
        """While the agent sends the text again and it equals the known text: the number of characters received
        again.
        """

    def append(self, text: str) -> str:
        """Append text, and return the part that is new."""
        if self._again is None:
            self._texts.append(text)
            return text
        [known_text] = self._texts
        at = self._again
        if len(text) < len(known_text) - at and known_text.startswith(text, at):
            self._again += len(text)
            return ""
        return self.replace(known_text[:at] + text)

    def replace(self, text: str) -> str:
        """Replace the text with its current version, and return the part that is new."""
        known_text = "".join(self._texts)
        if len(text) < len(known_text) and known_text.startswith(text):
            self._texts, self._again = [known_text], len(text)
            return ""
        self._texts, self._again = [text], None
        return text[len(known_text) :] if text.startswith(known_text) else f"\n\n{text}"


def _last_words(task: Mapping[str, Any]) -> str:
    """Return the text of a task's last message if the agent sent this message."""
    history = task.get("history")
    last = history[-1] if isinstance(history, list) and history else None
    return _words(last) if isinstance(last, Mapping) and last.get("role") == "ROLE_AGENT" else ""


def _words(message: Mapping[str, Any]) -> str:
    return "\n".join(text for text, _has_more in _parts(message))


def _count(number: Any) -> Any:
    """Return a count as an integer, or 0 for an invalid value. Protocol buffers transmit only floating-point
    numbers.
    """
    return int(number) if isinstance(number, int | float) and 0 <= number < MAX_TOKENS_COUNT else 0


def _parts(holder: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yield each part as text, and whether the part is something other than prose."""
    parts = holder.get("parts")
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, Mapping) and (text := _to_text(part)):
            yield text, not isinstance(part.get("text"), str)


def _to_text(part: Mapping[str, Any]) -> str:
    """Return a part as text. Files and images become Markdown."""
    if isinstance(text := part.get("text"), str):
        return text
    if "data" in part:
        try:
            return orjson.dumps(part["data"]).decode()
        except (
            orjson.JSONEncodeError
        ):  # JSON that can be parsed may still be nested too deeply to be serialized
            return ""
    kind = line(part.get("mediaType")).lower()
    name = line(part.get("filename")).translate({ord(char): "_" for char in "[]()"}) or "file"
    picture = "!" if kind.startswith("image/") else ""
    if isinstance(url := part.get("url"), str):
        plain = url.startswith(("http://", "https://")) and len(url) <= MAX_LINK_CHARS and url.isprintable()
        escaped_url = url.replace(" ", "%20").replace("(", "%28").replace(")", "%29")
        return f"{picture}[{name}]({escaped_url})" if plain else ""
    raw = part.get("raw")
    if not isinstance(raw, str):
        return ""
    try:
        data = base64.b64decode(raw, validate=True)
        if kind.startswith(_TEXTS):
            return data.decode()
    except (binascii.Error, ValueError):  # data that is not UTF-8 is not a text file
        return ""
    return f"{picture}[{name}](data:{kind or 'application/octet-stream'};base64,{raw})"
