"""The only reader of the answers of OpenAI-compatible servers to chats and completions, streamed or not.

Each server differs from OpenAI in its own way. The reader returns what OpenAI documents, so that the APIs of the daemon
and its agents need not know the differences. What can be read is used, and what cannot be read costs only that part. A
server's error, and an answer without anything in it, becomes a `PorticoError`. A regular answer passes through byte by
byte. Pure.

Source: https://platform.openai.com/docs/api-reference/chat.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from portico.wire import Usage
from portico_server.core.errors import EngineFailed, PorticoError
from portico_server.core.ids import new_id
from portico_server.models.engines.openai_client.upstream_calls import StreamedCalls, read_calls
from portico_server.models.engines.openai_client.upstream_fields import (
    BOM,
    FAILED_REASONS,
    finish_reason,
    list_of,
    message_fields,
    number_of,
    parse_json,
    says_anything,
    text_of,
    token_logprobs,
    usage_fields,
)
from portico_server.models.openai_wire import error_from_json, error_in
from portico_server.models.token_usage import usage_from_json

DONE: Final = b"data: [DONE]\n\n"

STREAM_FIELDS: Final = (b"data:", b"event:", b"id:", b"retry:", b":", b"error:")
"""Prefixes of the lines of an event stream."""

MAX_EXCERPT_CHARS: Final = 300
"""Maximum number of characters of an unreadable answer that are quoted in an error."""

_HONEST: Final = frozenset({"stop", "length", "content_filter"})
"""Reasons with which an answer may end without content."""

_REGULAR_MESSAGE: Final = frozenset({"role", "content"})
_REGULAR_CHOICE: Final = frozenset({"index", "message", "finish_reason", "logprobs"})
_REGULAR_PIECE: Final = frozenset({"index", "delta", "finish_reason", "logprobs"})
_REGULAR_CHUNK: Final = frozenset({"id", "object", "created", "model", "choices", "system_fingerprint"})
_TOTALS: Final = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})

_TEXT_BEGIN: Final = re.compile(rb'"(?:content|reasoning_content|text)"\s*:\s*"')
_PLAIN_TEXT: Final = re.compile(rb'[^"\\\x00-\x1f]*')
"""A JSON string without anything that is escaped."""


class AnswerForm(NamedTuple):
    """What the reader must know about a request: the model's name in Portico and the form of the answer.

    ``chat`` is false for a completion of a prompt. ``wants_usage`` means that the client asked for the token counts of
    a stream. ``legacy_calls`` means that the request has ``functions``, so that calls stay in ``function_call``.
    """

    name: str
    chat: bool = True
    wants_usage: bool = False
    legacy_calls: bool = False

    @property
    def empty(self) -> EngineFailed:
        """Return the error for an answer with nothing in it."""
        return EngineFailed(
            f"The engine of '{self.name}' ended its answer without text, tool calls or a reason. Send the request "
            "again, or check the model on its server."
        )

    def unreadable(self, data: bytes, form_name: str) -> EngineFailed:
        """Return the error for an answer that is not ``form_name``, with the server's words unless they are HTML."""
        if not data.strip():
            return EngineFailed(
                f"The engine of '{self.name}' returned an empty answer instead of {form_name}."
            )
        text = data[:MAX_EXCERPT_CHARS].decode("utf-8", "replace").strip()
        words = "." if text.startswith("<") else f": {text}"
        return EngineFailed(f"The engine of '{self.name}' returned something other than {form_name}{words}")

    def failure_of(self, reason: str) -> EngineFailed:
        """Return the error for an answer that the server ended with one of ``FAILED_REASONS``."""
        return EngineFailed(f"The engine of '{self.name}' failed: it ended its answer with '{reason}'.")


def read_answer(data: bytes, form: AnswerForm) -> tuple[bytes, Usage]:
    """Return a complete answer as a ``chat.completion`` or ``text_completion``, and its usage. Raise `PorticoError`.

    ``data`` is the body of a response with status 200: one JSON document, or the events of a stream.
    """
    body = data.removeprefix(BOM).strip()
    if body.startswith(STREAM_FIELDS):
        return _join_events(body, form)
    try:
        document, is_exact = parse_json(body)
    except ValueError as error:
        if body.startswith(b"{") and b"\n{" in body:
            return _join_events(body, form)  # one document a line
        raise form.unreadable(body, "a JSON object") from error
    if (refusal := error_in(document, form.name)) is not None:
        raise refusal
    if not isinstance(document, dict):
        raise form.unreadable(body, "a JSON object")
    if "choices" not in document:
        raise form.unreadable(body, "an answer")
    if is_exact and form.chat and _is_regular(document):
        return body, usage_from_json(document.get("usage") or {})
    choices = [
        _whole_choice(choice, place, form)
        for place, choice in enumerate(
            item for item in list_of(document["choices"]) if isinstance(item, dict)
        )
    ]
    if not any(
        choice["finish_reason"] in _HONEST or says_anything(_content_of(choice, form.chat))
        for choice in choices
    ):
        raise form.empty
    fields = {**document, "choices": [_with_reason(choice, form) for choice in choices]}
    fields.update(_head(document, form, "chat.completion" if form.chat else "text_completion"))
    usage = usage_fields(document.get("usage"))
    if "usage" in document:
        fields["usage"] = usage
    counts = Usage() if usage is None else usage_from_json(usage)
    return (body if is_exact and fields == document else orjson.dumps(fields)), counts


def _is_regular(document: dict[str, Any]) -> bool:
    """Return whether a chat completion has one choice with a text, and everything in it has OpenAI's form already.

    Most answers are such, and need no other reading.
    """
    choices = document["choices"]
    if type(choices) is not list or len(choices) != 1 or type(choices[0]) is not dict:
        return False
    choice, usage = choices[0], document.get("usage")
    message = choice.get("message")
    return (
        type(message) is dict
        and type(message.get("content")) is str
        and message["content"] != ""
        and message.get("role") == "assistant"
        and all(name in _REGULAR_MESSAGE or value is None for name, value in message.items())
        and _REGULAR_CHOICE.issuperset(choice)
        and choice.get("index") == 0
        and choice.get("finish_reason") in ("stop", "length")
        and choice.get("logprobs") is None
        and document.get("object") == "chat.completion"
        and type(document.get("created")) is int
        and all(type(document.get(name)) is str and document[name] for name in ("id", "model"))
        and type(usage) is dict
        and all(type(usage.get(name)) is int and usage[name] >= 0 for name in _TOTALS)
        and _TOTALS.issuperset(usage)
    )


def _content_of(choice: Mapping[str, Any], is_chat: bool) -> Mapping[str, Any]:
    return choice["message"] if is_chat else {"text": choice["text"]}


def _with_reason(choice: dict[str, Any], form: AnswerForm) -> dict[str, Any]:
    """Return a choice of a complete answer with the reason that fits its content."""
    has_calls = form.chat and bool(choice["message"].get("tool_calls"))
    reason = _reason_for(choice["finish_reason"] or "stop", has_calls=has_calls, form=form)
    return {**choice, "finish_reason": reason}


def _reason_for(reason: str, *, has_calls: bool, form: AnswerForm) -> str:
    """Return ``tool_calls`` for an answer that ends with calls, and for no other."""
    if form.legacy_calls:
        return reason
    if has_calls:
        return "tool_calls" if reason in ("stop", "function_call") else reason
    return "stop" if reason in ("tool_calls", "function_call") else reason


def _head(document: Mapping[str, Any], form: AnswerForm, kind: str) -> dict[str, Any]:
    """Return the fields that identify an answer. A missing field gets a value."""
    answer_id, model = document.get("id"), document.get("model")
    created = number_of(document.get("created"))
    return {
        "id": answer_id
        if isinstance(answer_id, str) and answer_id
        else new_id("chatcmpl-" if form.chat else "cmpl-"),
        "object": kind,
        "created": int(time.time()) if created is None else created,
        "model": model if isinstance(model, str) and model else form.name,
    }


def _error_of(choice: Mapping[str, Any], form: AnswerForm) -> PorticoError | None:
    """Return the error that a server reports within a choice."""
    if choice.get("error"):
        return error_in({"error": choice["error"]}, form.name)
    reason = finish_reason(choice.get("finish_reason"))
    return form.failure_of(reason) if reason in FAILED_REASONS and reason is not None else None


def _common(choice: Mapping[str, Any], place: int, form: AnswerForm) -> dict[str, Any]:
    """Return a choice without its content; the other fields have OpenAI's form."""
    fields = dict(choice)
    index = number_of(choice.get("index"))
    fields["index"] = place if index is None or index < 0 else index
    fields["finish_reason"] = finish_reason(choice.get("finish_reason"))
    if fields.get("logprobs") is not None:
        if form.chat:
            fields["logprobs"] = token_logprobs(fields["logprobs"])
        elif not isinstance(fields["logprobs"], dict):
            fields["logprobs"] = None
    return fields


def _whole_choice(choice: Mapping[str, Any], place: int, form: AnswerForm) -> dict[str, Any]:
    if (error := _error_of(choice, form)) is not None:
        raise error
    fields = _common(choice, place, form)
    content = next(
        (choice[name] for name in ("message", "delta", "text") if choice.get(name) is not None), None
    )
    message = message_fields(content)
    if not form.chat:
        for name in ("message", "delta"):
            fields.pop(name, None)
        return {**fields, "text": message.get("content") or text_of(content)}
    for name in ("delta", "text"):
        fields.pop(name, None)
    message["role"] = "assistant"
    message.setdefault("content", None)
    if not form.legacy_calls and (calls := read_calls(message)):
        message["tool_calls"] = calls
        message.pop("function_call", None)
    elif message.get("tool_calls"):
        del message["tool_calls"]
    return {**fields, "message": message}


class _StreamedChoice:
    """What has arrived of one choice of a stream."""

    def __init__(self) -> None:
        self.calls = StreamedCalls()
        self.reason: str | None = None
        self.has_spoken = False
        self.has_role = False
        self.whole_text = ""
        """The text of the last ``message``, which some servers repeat and extend instead of sending deltas."""


class _HeldFrame(NamedTuple):
    """A frame with a finish reason. It is held until it is known whether the answer really ends."""

    data: bytes
    document: dict[str, Any]


class UpstreamStream:
    """The frames of one streamed answer.

    `read` takes frames as they arrive and returns frames in OpenAI's form. When the server's stream ends, `end` returns
    the last frames. After each of the two, ``failure`` is the error with which the stream ends, if there is one.
    ``usage`` is the usage so far, and ``is_done`` is whether ``data: [DONE]`` has been returned.
    """

    def __init__(self, form: AnswerForm) -> None:
        self.usage = Usage()
        self.failure: PorticoError | None = None
        self.is_done = False
        self._form = form
        self._kind = "chat.completion.chunk" if form.chat else "text_completion"
        self._head: dict[str, Any] = {}
        self._choices: dict[int, _StreamedChoice] = {}
        self._held_frame: _HeldFrame | None = None
        self._usage_frame = b""
        self._unreadable = b""
        self._text_prefix, self._text_suffix = b"", b""
        """The bytes before and after the text in the last regular frame."""

    def read(self, data: bytes) -> bytes:
        """Return the frames for ``data``, which consists of complete frames with ``\\n`` line ends."""
        if self._only_text_differs(data):
            return data
        parts = []
        position = 0
        while position < len(data) and not self.is_done and self.failure is None:
            end = self._regular_end(data, position)
            if end > position:
                parts.append(data[position:end])
            else:
                end = data.find(b"\n\n", position)
                end = len(data) if end < 0 else end
                if frame := data[position:end]:
                    parts.append(self._frame(frame))
                end += 2
            position = end
        return b"".join(parts)

    def _regular_end(self, data: bytes, position: int) -> int:
        """Return where the regular frames that begin at ``position`` end; ``position`` itself if there are none."""
        suffix = self._text_suffix
        if not self._text_prefix or not data.startswith(self._text_prefix, position):
            return position
        for end in (data.rfind(suffix, position), data.find(suffix, position)):
            end += len(suffix)
            if end > position and self._only_text_differs(data[position:end]):
                return end
        return position

    def end(self) -> bytes:
        """Return the frames that end the stream."""
        if self.is_done or self.failure is not None:
            return b""
        return self._finish(has_done=False)

    def _only_text_differs(self, data: bytes) -> bool:
        """Return whether each frame of ``data`` is the last regular frame with another text.

        This check runs for every token. Text without quotes or backslashes cannot change the meaning of a frame.
        """
        prefix, suffix = self._text_prefix, self._text_suffix
        if not prefix or not data.startswith(prefix) or not data.endswith(suffix):
            return False
        if _PLAIN_TEXT.fullmatch(data, len(prefix), len(data) - len(suffix)) is None:
            pieces = data.split(suffix)[:-1]
            if not all(piece.startswith(prefix) for piece in pieces):
                return False
            texts = b"".join([piece[len(prefix) :] for piece in pieces])
            if _PLAIN_TEXT.fullmatch(texts) is None:
                return False
        return data.isascii() or _is_utf8(data)

    def _frame(self, frame: bytes) -> bytes:
        if frame.startswith(b"data:") and frame.find(b"\n") < 0:
            return self._payload(frame[5:].strip(), frame)
        payloads, is_error = _lines_of(frame)
        if not payloads:
            if frame.lstrip().startswith(b":"):
                return frame.lstrip() + b"\n\n" if self._choices else b""
            if not frame.startswith(STREAM_FIELDS):
                self._unreadable = frame
            return b""
        if is_error:
            return self._error_event(b"\n".join(payloads))
        if len(payloads) > 1 and _is_json(joined_payload := b"\n".join(payloads)):
            payloads = [joined_payload]
        parts = []
        for payload in payloads:
            if not self.is_done and self.failure is None:
                parts.append(self._payload(payload, b""))
        return b"".join(parts)

    def _payload(self, payload: bytes, frame: bytes) -> bytes:
        """Return the frames for one document. ``frame`` is the original frame, if it can be passed on unchanged."""
        if payload == b"[DONE]":
            return self._finish(has_done=True)
        try:
            document, is_exact = parse_json(payload)
        except ValueError:
            self._unreadable = payload
            return b""
        if frame and is_exact and self._is_regular(document):
            return self._pass_regular(document, frame + b"\n\n")
        if (error := error_in(document, self._form.name)) is not None:
            return self._fail(error)
        return self._document(document, frame if is_exact else b"") if isinstance(document, dict) else b""

    def _is_regular(self, document: Any) -> bool:
        """Return whether a chunk has one choice with only a role, a text and a reason, in OpenAI's form already."""
        if (
            type(document) is not dict
            or not _REGULAR_CHUNK.issuperset(document)
            or self._held_frame is not None
        ):
            return False
        choices, head = document.get("choices"), self._head
        if type(choices) is not list or len(choices) != 1 or not self._form.chat:
            return False
        choice = choices[0]
        if type(choice) is not dict or type(choice.get("index")) is not int or choice["index"] < 0:
            return False
        delta, state = choice.get("delta"), self._choices.get(choice["index"])
        return (
            type(delta) is dict
            and _REGULAR_MESSAGE.issuperset(delta)
            and _REGULAR_PIECE.issuperset(choice)
            and type(delta.get("content", "")) is str
            and (delta.get("role") == "assistant" or (state is not None and "role" not in delta))
            and "finish_reason" in choice
            and choice["finish_reason"] in (None, "stop", "length")
            and choice.get("logprobs") is None
            and (state is None or not state.calls.has_any)
            and document.get("object") == self._kind
            and type(document.get("created")) is int
            and all(type(document.get(name)) is str and document[name] for name in ("id", "model"))
            and (not head or (head["id"] == document["id"] and head["created"] == document["created"]))
        )

    def _pass_regular(self, document: dict[str, Any], data: bytes) -> bytes:
        """Record a regular chunk, and return its frame."""
        if not self._head:
            self._head = {name: document[name] for name in ("id", "object", "created", "model")}
        choice = document["choices"][0]
        state = self._choices.setdefault(choice["index"], _StreamedChoice())
        state.has_role = True
        state.has_spoken = state.has_spoken or bool(choice["delta"].get("content"))
        if reason := choice["finish_reason"]:
            state.reason = reason
            self._text_prefix = b""
            self._held_frame = _HeldFrame(data, document)
            return b""
        self._learn(data)
        return data

    def _document(self, document: dict[str, Any], frame: bytes) -> bytes:
        usage = usage_fields(document.get("usage"))
        if usage is not None:
            self.usage = usage_from_json(usage)
        items = [item for item in list_of(document.get("choices")) if isinstance(item, dict)]
        for item in items:
            if (error := _error_of(item, self._form)) is not None:
                return self._fail(error)
        if not self._head and (items or usage is not None):
            self._head = _head(document, self._form, self._kind)
        model = document.get("model")
        fields = {**document, **self._head}
        if isinstance(model, str) and model:
            fields["model"] = model
        if usage is not None or document.get("usage") is not None:
            fields["usage"] = usage
        choices = [self._choice(item, place) for place, item in enumerate(items)]
        fields["choices"] = choices
        data = frame + b"\n\n" if frame and fields == document else _frame(fields)
        if not choices:
            if usage is not None and self._form.wants_usage:
                self._usage_frame = data
            return b""
        released = self._release(choices)
        if any(choice["finish_reason"] for choice in choices):
            self._text_prefix = b""
            self._held_frame = _HeldFrame(data, fields)
            return released
        if frame and fields == document and usage is None and len(choices) == 1:
            self._learn(data)
        return released + data

    def _choice(self, choice: Mapping[str, Any], place: int) -> dict[str, Any]:
        fields = _common(choice, place, self._form)
        state = self._choices.setdefault(fields["index"], _StreamedChoice())
        if self._form.chat:
            content = fields["delta"] = self._delta(choice, state)
            for name in ("message", "text"):
                fields.pop(name, None)
        else:
            value = next((choice[name] for name in ("text", "delta", "message") if choice.get(name)), None)
            fields["text"] = message_fields(value).get("content") or text_of(value)
            content = {"text": fields["text"]}
        state.has_spoken = state.has_spoken or says_anything(content)
        if reason := fields["finish_reason"]:
            if state.has_spoken:
                reason = _reason_for(reason, has_calls=bool(state.calls), form=self._form)
            fields["finish_reason"] = state.reason = reason
            if last_pieces := state.calls.close():
                content["tool_calls"] = [*content.get("tool_calls", ()), *last_pieces]
        return fields

    def _delta(self, choice: Mapping[str, Any], state: _StreamedChoice) -> dict[str, Any]:
        delta = choice.get("delta")
        if delta is None:
            delta = choice.get("message", choice.get("text"))
            is_repeated = state.has_spoken and isinstance(choice.get("message"), dict)
            text = text_of(delta["content"]) if is_repeated and isinstance(delta.get("content"), str) else ""
            if text.startswith(state.whole_text) and state.whole_text:
                delta = {**delta, "content": text[len(state.whole_text) :]}
            state.whole_text = text or text_of(message_fields(delta).get("content"))
        fields = message_fields(delta)
        if not state.has_role:
            state.has_role = True
            fields = {"role": "assistant", **fields}
            fields["role"] = "assistant"
        elif fields.get("role") not in ("assistant", None):
            del fields["role"]
        if not self._form.legacy_calls and (fields.get("tool_calls") or fields.get("function_call")):
            calls = state.calls.read(fields)
            fields.pop("function_call", None)
            fields.pop("tool_calls", None)
            if calls:
                fields["tool_calls"] = calls
        return fields

    def _release(self, choices: Sequence[Mapping[str, Any]]) -> bytes:
        """Return the held frame, without its reason if one of ``choices`` continues or ends the same choice."""
        if self._held_frame is None:
            return b""
        data, document = self._held_frame
        self._held_frame = None
        going_on = {
            choice["index"]
            for choice in choices
            if choice["finish_reason"] or says_anything(_streamed_content(choice, self._form.chat))
        }
        if all(choice["index"] not in going_on for choice in document["choices"]):
            return data
        remaining_choices = []
        for choice in document["choices"]:
            if choice["index"] not in going_on:
                remaining_choices.append(choice)
            elif says_anything(_streamed_content(choice, self._form.chat)):
                remaining_choices.append({**choice, "finish_reason": None})
        return _frame({**document, "choices": remaining_choices}) if remaining_choices else b""

    def _finish(self, *, has_done: bool) -> bytes:
        """Return the last frames. Without ``[DONE]`` and without a reason, the answer was cut off."""
        states = self._choices.values()
        if not any(state.has_spoken or state.reason in _HONEST for state in states):
            if has_done or self._choices:
                self.failure = self._form.empty
            else:
                self.failure = self._form.unreadable(self._unreadable, "a stream")
            return b""
        if not has_done and not all(state.reason for state in states):
            self.failure = EngineFailed(
                f"The engine of '{self._form.name}' stopped in the middle of its answer."
            )
            return self._release(())
        frames = [self._release(())]
        for index, state in self._choices.items():
            if not state.reason:
                frames.append(self._closing_frame(index, state))
        self.is_done = True
        self._text_prefix = b""
        return b"".join([*frames, self._usage_frame, DONE])

    def _closing_frame(self, index: int, state: _StreamedChoice) -> bytes:
        reason = _reason_for("stop", has_calls=bool(state.calls), form=self._form)
        content: dict[str, Any] = {"text": ""}
        if self._form.chat:
            last_pieces = state.calls.close()
            content = {"delta": {"tool_calls": last_pieces} if last_pieces else {}}
        return _frame({**self._head, "choices": [{"index": index, **content, "finish_reason": reason}]})

    def _error_event(self, payload: bytes) -> bytes:
        document: Any = {"message": payload.decode("utf-8", "replace")}
        with contextlib.suppress(ValueError):
            value, _is_exact = parse_json(payload)
            document = value if isinstance(value, dict | list) else document
        error = error_in(document, self._form.name) or error_from_json(500, document, self._form.name)
        return self._fail(error)

    def _fail(self, error: PorticoError) -> bytes:
        """Record the error, and return the text of a frame that was held as the last one."""
        self.failure = error
        self._text_prefix = b""
        held_frame, self._held_frame = self._held_frame, None
        if held_frame is None:
            return b""
        choices = [
            {**choice, "finish_reason": None}
            for choice in held_frame.document["choices"]
            if says_anything(_streamed_content(choice, self._form.chat))
        ]
        return _frame({**held_frame.document, "choices": choices}) if choices else b""

    def _learn(self, data: bytes) -> None:
        """Remember a regular frame, so that frames that differ only in their text need not be parsed."""
        for begin in _TEXT_BEGIN.finditer(data):
            text = _PLAIN_TEXT.match(data, begin.end())
            if text is not None and text.group() and data[text.end() : text.end() + 1] == b'"':
                self._text_prefix, self._text_suffix = data[: begin.end()], data[text.end() :]
                return


def _streamed_content(choice: Mapping[str, Any], is_chat: bool) -> Mapping[str, Any]:
    return choice["delta"] if is_chat else {"text": choice["text"]}


def _frame(document: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(document) + b"\n\n"


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_json(data: bytes) -> bool:
    try:
        parse_json(data)
    except ValueError:
        return False
    return True


def _lines_of(frame: bytes) -> tuple[list[bytes], bool]:
    """Return the data lines of a frame, and whether the frame reports an error."""
    payloads: list[bytes] = []
    is_error = False
    for line in frame.split(b"\n"):
        line = line.removeprefix(BOM)
        if line.startswith(b"data:"):
            payloads.append(line[5:].strip())
        elif line.startswith(b"error:"):
            payloads.append(line[6:].strip())
            is_error = True
        elif line.startswith(b"event:"):
            is_error = is_error or line[6:].strip() == b"error"
        elif line.startswith(b"{"):
            payloads.append(line)
    return payloads, is_error


def _join_events(body: bytes, form: AnswerForm) -> tuple[bytes, Usage]:
    """Return the events of a stream as one document."""
    stream = UpstreamStream(form._replace(wants_usage=True))
    frames = stream.read(body.replace(b"\r\n", b"\n"))
    frames += stream.end()
    if stream.failure is not None:
        raise stream.failure
    choices: dict[int, dict[str, Any]] = {}
    document: dict[str, Any] = {}
    for frame in frames.split(b"\n\n"):
        if frame.startswith(b"data:") and (payload := frame[5:].strip()) != b"[DONE]":
            chunk = orjson.loads(payload)
            document |= {
                name: value for name, value in chunk.items() if name != "choices" and value is not None
            }
            for choice in chunk["choices"]:
                _add_choice(choices.setdefault(choice["index"], {}), choice)
    document |= {"object": "chat.completion"} if form.chat else {}
    document["choices"] = [choice for _index, choice in sorted(choices.items())]
    return read_answer(orjson.dumps(document), form)


def _add_choice(answer_choice: dict[str, Any], choice: Mapping[str, Any]) -> None:
    """Add a streamed piece of a choice to what has arrived."""
    for name, value in choice.items():
        if name == "delta":
            message = answer_choice.setdefault("message", {"role": "assistant", "content": None})
            for field, part in value.items():
                if field == "tool_calls":
                    _add_calls(message.setdefault("tool_calls", []), part)
                elif field != "role" and part is not None:
                    is_text = isinstance(part, str) and isinstance(message.get(field), str)
                    message[field] = message[field] + part if is_text else part
        elif name == "text":
            answer_choice["text"] = answer_choice.get("text", "") + value
        elif (
            name == "logprobs"
            and value
            and isinstance(value.get("content"), list)
            and answer_choice.get(name)
        ):
            answer_choice[name]["content"] = [*(answer_choice[name].get("content") or ()), *value["content"]]
        elif value is not None or name not in answer_choice:
            answer_choice[name] = value


def _add_calls(calls: list[dict[str, Any]], parts: Sequence[dict[str, Any]]) -> None:
    for part in parts:
        if part.get("id"):
            calls.append({name: value for name, value in part.items() if name != "index"})
        elif part.get("index", 0) < len(calls) and "function" in part:
            function = calls[part["index"]].setdefault("function", {"arguments": ""})
            function["name"] = function.get("name", "") + (part["function"].get("name") or "")
            function["arguments"] += part["function"].get("arguments") or ""


def stream_of(data: bytes, form: AnswerForm) -> tuple[bytes, Usage]:
    """Return a complete answer, with which a server answers a request for a stream, as frames. Raise `PorticoError`."""
    data, usage = read_answer(data, form)
    document = orjson.loads(data)
    counts = document.pop("usage", None)
    head = {**document, "object": "chat.completion.chunk" if form.chat else "text_completion"}
    frames = []
    for choice in document["choices"]:
        ending: dict[str, Any] = {"index": choice["index"], "finish_reason": choice.pop("finish_reason")}
        if form.chat:
            delta = choice.pop("message")
            if delta.get("tool_calls"):
                delta["tool_calls"] = [
                    {"index": place, **call} for place, call in enumerate(delta["tool_calls"])
                ]
            pieces = [{**choice, "delta": delta, "finish_reason": None}, {**ending, "delta": {}}]
        else:
            pieces = [{**choice, "finish_reason": None}, {**ending, "text": ""}]
        frames += [_frame({**head, "choices": [piece]}) for piece in pieces]
    if counts is not None and form.wants_usage:
        frames.append(_frame({**head, "choices": [], "usage": counts}))
    return b"".join([*frames, DONE]), usage
