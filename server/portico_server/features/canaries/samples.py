"""A question and its answer, taken from a request and its result, in the form that graders receive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Final

import orjson

from portico_server.core.dataclass import dataclass
from portico_server.core.request import AppInput, AppOutput, Chat, ChatReply, Request, Result

MAX_SAMPLE_BYTES: Final = 256 * 1024
"""Maximum size of a question with its answer, in bytes; larger ones are not judged."""


@dataclass(frozen=True, slots=True)
class LiveSample:
    """A question and its answer in the form that graders receive.

    ``item`` contains ``input``, the last message of the user, and ``messages``; ``sample`` contains ``output_text``.
    ``body`` is the relayed request, which the baseline can answer too.
    """

    item: Mapping[str, Any]
    sample: Mapping[str, Any]
    body: Mapping[str, Any] = field(default_factory=dict)


def text_of(content: Any) -> str:
    """Return the text parts of a message."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    return "".join(str(part.get("text") or "") for part in parts if isinstance(part, Mapping))


def last_question(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the last message of the user."""
    return next(
        (text_of(message.get("content")) for message in reversed(messages) if message.get("role") == "user"),
        "",
    )


def question_of(request: Request) -> list[Mapping[str, Any]] | None:
    """Return the messages of a request; ``None`` if it contains no question."""
    if isinstance(request, Chat):
        return list(request.messages)
    if isinstance(request, AppInput):
        value = request.value
        text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
        return [{"role": "user", "content": text}]
    return None


def answer_of(result: Result) -> dict[str, Any] | None:
    """Return an answer in the form that graders receive; ``None`` if it has no text."""
    if isinstance(result, ChatReply):
        answer: dict[str, Any] = {"output_text": result.content}
        if result.tool_calls:
            answer["output_tools"] = [
                {
                    "type": "function",
                    "function": {"name": called_tool.name, "arguments": called_tool.arguments},
                    "id": called_tool.id,
                }
                for called_tool in result.tool_calls
            ]
        return answer
    if isinstance(result, AppOutput):
        value = result.value
        return {"output_text": value if isinstance(value, str) else orjson.dumps(value, default=str).decode()}
    return None


def relayed_answer(data: bytes, *, stream: bool) -> dict[str, Any] | None:
    """Return the answer from the bytes of an OpenAI response; ``None`` if they cannot be parsed."""
    frames = data.split(b"\n\n") if stream else [b"data: " + data]
    text: list[str] = []
    calls: dict[int, dict[str, str]] = {}
    try:
        for frame in frames:
            if not frame.startswith(b"data: {"):
                continue
            for choice in orjson.loads(frame[6:]).get("choices") or ():
                if choice.get("index"):
                    continue
                message = choice.get("delta") or choice.get("message") or {}
                text.append(message.get("content") or "")
                for number, call in enumerate(message.get("tool_calls") or ()):
                    known_call = calls.setdefault(call.get("index", number), {"name": "", "arguments": ""})
                    for part, new_text in (call.get("function") or {}).items():
                        if part in known_call and isinstance(new_text, str):
                            known_call[part] += new_text
    except (orjson.JSONDecodeError, AttributeError, TypeError):
        return None
    answer: dict[str, Any] = {"output_text": "".join(text)}
    if calls:
        answer["output_tools"] = [{"type": "function", "function": calls[index]} for index in sorted(calls)]
    return answer


def is_small(sample: LiveSample) -> bool:
    """Return whether a question with its answer is small enough to be judged."""
    try:
        return len(orjson.dumps([sample.item, sample.sample])) <= MAX_SAMPLE_BYTES
    except TypeError:
        return False
