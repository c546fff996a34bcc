"""``/v1/realtime`` as a WebSocket, driven by OpenAI's own client; each event is checked against its types."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from openai import AsyncOpenAI, AuthenticationError, OpenAI
from openai.resources.realtime.realtime import RealtimeConnection
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter
from tests.api_server import RelayModel, api_server
from tests.daemon import Daemon
from tests.server.api.openai.conftest import bearer, opened, secret
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from portico_server.api.auth import client_secrets
from portico_server.core.errors import Unauthenticated, Unavailable
from portico_server.core.principal import LOCAL
from portico_server.features.realtime import audio, config, input_buffer
from portico_server.features.realtime.api import realtime

TYPES: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)

TRANSCRIPTION = "conversation.item.input_audio_transcription."

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


class Talk:
    """A session of OpenAI's client."""

    def __init__(self, connection: RealtimeConnection) -> None:
        self.connection = connection
        self.written: list[Any] = []
        """Transcription events that arrived while the test waited for another event."""
        self.session = self.next("session.created").session

    def event(self) -> Any:
        """Return the next event, which must match its type."""
        data = json.loads(self.connection.recv_bytes())
        TYPES.validate_python(data)
        assert data["event_id"].startswith("event_")
        return self.connection.parse_event(json.dumps(data))

    def next(self, kind: str) -> Any:
        """Return the next event, which must have this type.

        Transcription of sound runs in the background. Its events may arrive before any other event and are set aside.
        """
        event = self.event()
        while event.type.startswith(TRANSCRIPTION) and not kind.startswith(TRANSCRIPTION):
            self.written.append(event)
            event = self.event()
        assert event.type == kind, event
        return event

    def send(self, kind: str, **fields: Any) -> None:
        self.connection.send({"type": kind, **fields})  # type: ignore[arg-type, misc]

    def refused(self, kind: str, **fields: Any) -> Any:
        """Return the error that answers an event."""
        self.send(kind, event_id="mine", **fields)
        error = self.next("error").error
        assert error.event_id == "mine" and error.message
        return error

    def add(self, item: Mapping[str, Any], **fields: Any) -> str:
        """Add an item to the conversation and return its id."""
        self.send("conversation.item.create", item=item, **fields)
        added_event, done = self.next("conversation.item.added"), self.next("conversation.item.done")
        assert added_event.item == done.item and added_event.previous_item_id == done.previous_item_id
        item_id: str = added_event.item.id
        return item_id

    def say(self, text: str, **fields: Any) -> str:
        return self.add(said(text), **fields)

    def until(self, kind: str) -> list[Any]:
        """Return the events up to and including one of this type."""
        events = [self.event()]
        while events[-1].type != kind:
            assert events[-1].type != "error", events[-1]
            events.append(self.event())
        return events

    def hear(self, sound: bytes, kind: str = "audio/pcm", piece: int = 4_000) -> None:
        """Send sound as a microphone does, in pieces that end at arbitrary points."""
        data = audio.encode(sound, kind)
        for start in range(0, len(data), piece):
            delta = base64.b64encode(data[start : start + piece]).decode()
            self.send("input_audio_buffer.append", audio=delta)

    def update(self, **session: Any) -> Any:
        """Update the session and return its new state."""
        self.send("session.update", session={"type": self.session.type, **session})
        return self.next("session.updated").session

    def hang(self) -> None:
        """Start a response that stalls, and wait until it has stalled."""
        self.send("response.create")
        text = ""
        while text != "one two":
            text += self.until("response.output_text.delta")[-1].delta

    def respond(self, **response: Any) -> list[Any]:
        """Return the events of a response."""
        self.send("response.create", response=response)
        return self.until("response.done")

    def answer(self, **response: Any) -> str:
        """Return the text of a response."""
        done = self.respond(**response)[-1].response
        assert done.status == "completed", done
        text: str = done.output[-1].content[0].text
        return text


def said(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


@contextmanager
def talk(client: OpenAI, model: str = "echo", **query: str) -> Iterator[Talk]:
    with client.realtime.connect(**({} if query else {"model": model}), extra_query=query) as connection:
        yield Talk(connection)


@pytest.mark.conformance("OpenAI", "Realtime: text", "openai")
def test_a_text_is_answered_in_the_events_of_openai(as_key: Callable[[str], OpenAI]) -> None:
    with talk(as_key("one")) as session:
        assert session.session.model == "echo" and session.session.output_modalities == ["text"]
        question_id = session.say("two words")
        events = session.respond(metadata={"turn": "1"})
        assert [event.type for event in events] == [
            "response.created",
            "response.output_item.added",
            "conversation.item.added",
            "response.content_part.added",
            *["response.output_text.delta"] * (len(events) - 9),
            "response.output_text.done",
            "response.content_part.done",
            "conversation.item.done",
            "response.output_item.done",
            "response.done",
        ]
        done = events[-1].response
        assert "".join(event.delta for event in events if event.type.endswith("text.delta")) == "two words"
        assert (done.status, done.status_details, done.metadata) == ("completed", None, {"turn": "1"})
        assert done.output[0].content[0].text == "two words"
        assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens > 0
        assert {event.response_id for event in events[3:4]} == {done.id}
        assert events[2].previous_item_id == question_id
        second_answer = (
            session.answer(instructions="Be brief."),
            session.respond()[-1].response.usage.input_tokens,
        )
        assert (
            second_answer[1] > done.usage.input_tokens
        )  # the request includes the whole conversation so far


async def test_the_asynchronous_client_is_answered_too(harbour: Daemon) -> None:
    client = AsyncOpenAI(base_url=f"{harbour.url}/v1", api_key=secret("one"))
    async with client, client.realtime.connect(model="echo") as connection:
        await connection.conversation.item.create(item=said("ahoy"))  # type: ignore[arg-type]
        await connection.response.create()
        async for event in connection:
            if event.type == "response.done":
                assert event.response.output is not None
                break
        assert event.response.status == "completed"


def test_items_are_placed_retrieved_and_deleted(as_key: Callable[[str], OpenAI]) -> None:
    with talk(as_key("one")) as session:
        first, last = session.say("one"), session.say("three")
        middle = session.add({**said("two"), "id": "mine"}, previous_item_id=first)
        assert middle == "mine"
        session.send("conversation.item.create", item=said("zero"), previous_item_id="root")
        assert session.next("conversation.item.added").previous_item_id is None
        session.next("conversation.item.done")
        session.send("conversation.item.retrieve", item_id="mine")
        assert session.next("conversation.item.retrieved").item.content[0].text == "two"
        session.send("conversation.item.delete", item_id=last)
        session.next("conversation.item.deleted")
        assert session.answer() == "two"
        for kind, fields, code, param in (
            ("conversation.item.retrieve", {"item_id": last}, "item_not_found", "item_id"),
            ("conversation.item.delete", {"item_id": "nobody"}, "item_not_found", "item_id"),
            (
                "conversation.item.create",
                {"item": {**said("x"), "id": "mine"}},
                "item_already_exists",
                "item.id",
            ),
            (
                "conversation.item.create",
                {"item": said("x"), "previous_item_id": last},
                "item_not_found",
                "previous_item_id",
            ),
            (
                "conversation.item.create",
                {"item": {"type": "function_call_output", "call_id": "call_9", "output": "x"}},
                "invalid_tool_call_id",
                "item.call_id",
            ),
            (
                "conversation.item.truncate",
                {"item_id": "mine", "content_index": 0, "audio_end_ms": 5},
                "invalid_value",
                "item_id",
            ),
        ):
            error = session.refused(kind, **fields)
            assert (error.code, error.param) == (code, param)


def test_functions_are_called_and_their_results_answered(as_key: Callable[[str], OpenAI]) -> None:
    with talk(as_key("one"), "clever") as session:
        session.send(
            "session.update",
            session={"type": "realtime", "tools": [WEATHER], "tool_choice": "auto", "instructions": "Help."},
        )
        updated = session.next("session.updated").session
        assert updated.tools[0].name == "get_weather" and updated.instructions == "Help."
        session.say("weather in Rome")
        events = session.respond()
        call = events[-1].response.output[-1]
        assert json.loads(call.arguments) == {"city": "Rome"} and call.status == "completed"
        pieces = [event for event in events if event.type == "response.function_call_arguments.delta"]
        assert "".join(event.delta for event in pieces) == call.arguments
        [arguments_event] = [
            event for event in events if event.type == "response.function_call_arguments.done"
        ]
        assert (arguments_event.call_id, arguments_event.arguments) == (call.call_id, call.arguments)
        session.respond()  # a request may contain a call without its result
        session.add({"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."})
        session.say("so?")
        assert session.answer() == "so?"


def test_tools_of_the_daemon_are_called_in_a_session(as_key: Callable[[str], OpenAI]) -> None:
    tools = [{"type": "mcp", "server_label": "odd", "require_approval": "never"}]
    with talk(as_key("boss"), "clever") as session:
        session.say("utter bread")
        events = session.respond(tools=tools)
        kinds = [event.type for event in events]
        assert [kind for kind in kinds if kind.startswith(("mcp_list", "response.mcp_call."))] == [
            *("mcp_list_tools.in_progress", "mcp_list_tools.completed"),
            *("response.mcp_call.in_progress", "response.mcp_call.completed"),
        ]
        call, message = events[-1].response.output
        assert "bread" in call.output and message.content[0].text == "It was said again."
    with talk(as_key("boss"), "clever") as session:
        session.say("collapse now")
        call = session.respond(tools=tools)[-1].response.output[0]
        assert call.error.type == "tool_execution_error" and call.error.message


def test_a_response_is_cancelled_and_the_conversation_continues(as_key: Callable[[str], OpenAI]) -> None:
    with talk(as_key("one"), "frail") as session:
        assert session.refused("response.cancel").code == "response_cancel_not_active"
        session.say("hang")
        session.hang()
        error = session.refused("response.create")
        assert error.code == "conversation_already_has_active_response"
        assert session.refused("response.cancel", response_id="resp_0").param == "response_id"
        session.send("response.cancel")
        events = session.until("response.done")
        done = events[-1].response
        assert (done.status, done.status_details.reason) == ("cancelled", "client_cancelled")
        assert done.output[0].status == "incomplete"
        assert [event.type for event in events][-5:-1] == [
            "response.output_text.done",
            "response.content_part.done",
            "conversation.item.done",
            "response.output_item.done",
        ]
        # A response that has not begun is ended too.
        session.send("response.create")
        session.send("response.cancel")
        assert session.until("response.done")[-1].response.status == "cancelled"
        session.say("and now?")
        assert session.answer() == "and now?"


def test_a_response_outside_the_conversation_leaves_it_as_it_is(as_key: Callable[[str], OpenAI]) -> None:
    with talk(as_key("one"), "frail") as session:
        item_id = session.say("keep me")
        session.say("hang")
        session.hang()  # while the response continues:
        aside = session.respond(
            conversation="none", input=[said("aside"), {"type": "item_reference", "id": item_id}]
        )
        assert aside[-1].response.conversation_id is None
        assert aside[-1].response.output[0].content[0].text == "keep me"
        assert not any(event.type.startswith("conversation.") for event in aside)
        session.send("response.cancel")
        session.until("response.done")
        error = session.refused(
            "response.create", response={"input": [{"type": "item_reference", "id": "x"}]}
        )
        assert (error.code, error.param) == ("item_not_found", "response.input[0].id")


def test_a_failed_or_truncated_response_ends_with_the_reason(as_key: Callable[[str], OpenAI]) -> None:
    with talk(as_key("one"), "clever") as session:
        session.say("refuse")
        done = session.respond()[-1].response
        assert (done.status, done.status_details.error.code) == ("failed", "rate_limit_exceeded")
        session.say("a b c d e f")
        done = session.respond(max_output_tokens=2)[-1].response
        assert (done.status, done.status_details.reason) == ("incomplete", "max_output_tokens")


def test_apps_and_agents_answer_and_instructions_alone_start_a_response(
    as_key: Callable[[str], OpenAI],
) -> None:
    client = as_key("boss")
    for app in ("desk", "chatty"):
        with talk(client, app) as session:
            session.say("ahoy")
            assert session.answer() == "ahoy"
    with talk(client) as session:
        error = session.refused("response.create")
        assert error.type == "invalid_request_error"
        assert session.answer(instructions="Greet them.")
        session.send("session.update", session={"type": "realtime", "prompt": {"id": "greet"}})
        session.next("session.updated")
        assert session.refused("response.create").param == "response.prompt.arguments.who"


def test_invalid_events_are_refused_with_code_and_parameter(as_key: Callable[[str], OpenAI]) -> None:
    with talk(as_key("one")) as session:
        for kind, fields, code, param in (
            ("respons.create", {}, "unknown_event", "type"),
            ("response.create", {"respnse": {}}, "unknown_parameter", "respnse"),
            ("response.create", {"response": {"tempature": 1}}, "unknown_parameter", "response.tempature"),
            (
                "response.create",
                {"response": {"tools": [{"type": "x"}]}},
                "invalid_value",
                "response.tools[0].type",
            ),
            (
                "response.create",
                {"response": {"input": [{"type": "x"}]}},
                "invalid_value",
                "response.input[0].type",
            ),
            ("session.update", {}, "missing_required_parameter", "session"),
            ("session.update", {"session": {}}, "missing_required_parameter", "session.type"),
            ("session.update", {"session": {"type": "transcription"}}, "invalid_value", "session.type"),
            (
                "session.update",
                {"session": {"type": "realtime", "model": "clever"}},
                "invalid_value",
                "session.model",
            ),
            (
                "session.update",
                {"session": {"type": "realtime", "tools": [{"type": "function"}]}},
                "missing_required_parameter",
                "session.tools[0].name",
            ),
            (
                "session.update",
                {"session": {"type": "realtime", "max_output_tokens": 0}},
                "invalid_value",
                "session.max_output_tokens",
            ),
            (
                "session.update",
                {"session": {"type": "realtime", "output_modalities": ["text", "audio"]}},
                "invalid_value",
                "session.output_modalities",
            ),
            (
                "session.update",
                {"session": {"type": "realtime", "truncation": {"type": "retention_ratio"}}},
                "unsupported_parameter",
                "session.truncation",
            ),
            (
                "conversation.item.create",
                {"item": {"type": "message", "role": "user", "content": [{"type": "output_text"}]}},
                "invalid_value",
                "item.content[0].type",
            ),
            (
                "conversation.item.create",
                {"item": {"type": "message", "role": "user", "content": [{"type": "input_text"}]}},
                "missing_required_parameter",
                "item.content[0].text",
            ),
            ("conversation.item.create", {"item": {**said("x"), "id": "x" * 65}}, "invalid_value", "item.id"),
        ):
            error = session.refused(kind, **fields)
            assert (error.type, error.code, error.param) == ("invalid_request_error", code, param)
        assert "Did you mean 'response.create'" in session.refused("respons.create").message
        for message in ("{", "[]", "{}", '{"type": 7}', '{"type": "response.create", "event_id": 7}'):
            session.connection._connection.send(message)
            assert session.next("error").error.event_id is None
        session.connection._connection.send(b"{}")
        assert session.next("error").error.code == "unsupported_content_type"
        session.say("still here")
        assert session.answer() == "still here"


SILENCE = base64.b64encode(bytes(24_000)).decode()
"""Half a second of samples."""


def detected(**fields: Any) -> dict[str, Any]:
    """Return the ``audio`` of a session with turn detection."""
    return {"input": {"turn_detection": {"type": "server_vad", **fields}}}


def voiced(ms: int) -> bytes:
    """Return sound like a vowel: a low tone with its harmonics."""
    at = np.arange(24 * ms)[:, None] / 24_000
    harmonics = np.arange(1, 12)
    wave = (np.sin(2 * np.pi * 140 * harmonics * at) / harmonics).sum(axis=1)
    return bytes((3_500 * wave).astype("<i2").tobytes())


def quiet(ms: int) -> bytes:
    return bytes(48 * ms)


TURN = quiet(400) + voiced(600) + quiet(800)
"""A turn of somebody speaking."""


def aloud(**output: Any) -> dict[str, Any]:
    return {"type": "realtime", "output_modalities": ["audio"], "audio": {"output": output}}


def test_the_transcript_of_a_fake_voice_is_what_it_said(as_key: Callable[[str], OpenAI]) -> None:
    words = "Which port is open?"
    speech = as_key("one").audio.speech.create(
        model="voice", voice="default", input=words, response_format="pcm"
    )
    with talk(as_key("one")) as session:
        hints = {"keywords": ["Portico"], "languages": ["en"], "delay": "low"}
        session.update(audio={"input": {"transcription": {"model": "ear", **hints}}})
        session.hear(speech.read())
        session.send("input_audio_buffer.commit")
        *_pieces, transcription = session.until("conversation.item.input_audio_transcription.completed")
        assert transcription.transcript == words


@pytest.mark.conformance("OpenAI", "Realtime: audio", "openai")
@pytest.mark.parametrize(("kind", "bytes_per_s"), [("audio/pcm", 48_000), ("audio/pcmu", 8_000)])
def test_input_audio_is_transcribed_and_answered_with_audio(
    as_key: Callable[[str], OpenAI], kind: str, bytes_per_s: int
) -> None:
    with talk(as_key("one")) as session:
        input_settings = {"format": {"type": kind}, "transcription": {"model": "ear"}}
        session.send(
            "session.update",
            session={
                **aloud(),
                "audio": {"input": input_settings, "output": {"format": {"type": kind}, "model": "voice"}},
            },
        )
        assert session.next("session.updated").session.audio.input.transcription.model == "ear"
        session.send("input_audio_buffer.append", audio=SILENCE)
        session.send("input_audio_buffer.commit")
        committed = session.next("input_audio_buffer.committed")
        item = session.next("conversation.item.added").item
        assert item.id == committed.item_id and item.content[0].type == "input_audio"
        session.next("conversation.item.done")
        *pieces, transcription = session.until("conversation.item.input_audio_transcription.completed")
        assert {piece.type for piece in pieces} == {"conversation.item.input_audio_transcription.delta"}
        assert {piece.item_id for piece in pieces} == {transcription.item_id}
        assert "".join(piece.delta for piece in pieces) == transcription.transcript
        assert transcription.transcript == "Good morning. How are you?"
        assert transcription.usage.seconds == pytest.approx(24_000 / bytes_per_s)
        events = session.respond()
        kinds = [event.type for event in events]
        pieces = [e.delta for e in events if e.type == "response.output_audio_transcript.delta"]
        assert pieces == ["Good morning. ", "How are you?"]
        sound = b"".join(base64.b64decode(e.delta) for e in events if e.type == "response.output_audio.delta")
        assert kinds[-7:] == [
            "response.output_audio.delta",
            "response.output_audio.done",
            "response.output_audio_transcript.done",
            "response.content_part.done",
            "conversation.item.done",
            "response.output_item.done",
            "response.done",
        ]
        [message] = events[-1].response.output
        assert message.content[0].type == "output_audio"
        assert message.content[0].transcript == "Good morning. How are you?"

        length = len(sound) * 1000 // bytes_per_s
        at = {"item_id": message.id, "content_index": 0}
        error = session.refused("conversation.item.truncate", **at, audio_end_ms=length + 2)
        assert error.param == "audio_end_ms"
        session.send("conversation.item.truncate", **at, audio_end_ms=length - 1)
        session.next("conversation.item.truncated")
        session.send("conversation.item.retrieve", item_id=message.id)
        assert session.next("conversation.item.retrieved").item.content[0].transcript == "Good morning. "


def test_invalid_audio_settings_are_refused_and_the_audio_buffer_is_limited(
    as_key: Callable[[str], OpenAI],
) -> None:
    with talk(as_key("one")) as session:
        assert session.refused("input_audio_buffer.commit").code == "input_audio_buffer_commit_empty"
        assert session.refused("input_audio_buffer.append", audio="%").param == "audio"
        assert (
            session.refused("input_audio_buffer.append", audio="AAAA").param == "audio"
        )  # one and a half samples
        for fields, param in (
            ({"input": {"turn_detection": {"type": "vad"}}}, "session.audio.input.turn_detection.type"),
            ({"input": {"turn_detection": {"threshold": 1}}}, "session.audio.input.turn_detection.type"),
            (detected(threshold=1.5), "session.audio.input.turn_detection.threshold"),
            (detected(silence_duration_ms=0), "session.audio.input.turn_detection.silence_duration_ms"),
            (detected(prefix_padding_ms=-1), "session.audio.input.turn_detection.prefix_padding_ms"),
            (detected(idle_timeout_ms=10**6), "session.audio.input.turn_detection.idle_timeout_ms"),
            (detected(eagerness="low"), "session.audio.input.turn_detection.eagerness"),
            ({"input": {"transcription": {"model": "voice"}}}, "session.audio.input.transcription.model"),
            ({"input": {"transcription": {"model": "nobody"}}}, "session.audio.input.transcription.model"),
            ({"input": {"format": {"type": "audio/pcm", "rate": 16000}}}, "session.audio.input.format.rate"),
            ({"input": {"format": {"type": "audio/mp3"}}}, "session.audio.input.format.type"),
            ({"output": {"format": {"type": "audio/pcm", "rate": 8000}}}, "session.audio.output.format.rate"),
            ({"output": {"speeed": 1}}, "session.audio.output.speeed"),
        ):
            assert (
                session.refused("session.update", session={"type": "realtime", "audio": fields}).param
                == param
            )
        large = base64.b64encode(bytes(8_000_000)).decode()
        session.send("input_audio_buffer.append", audio=large)
        assert session.refused("input_audio_buffer.append", audio=large).code == "input_audio_buffer_full"
        session.send("input_audio_buffer.clear")
        session.next("input_audio_buffer.cleared")
        session.send("input_audio_buffer.append", audio=SILENCE)
        session.send("input_audio_buffer.commit")
        session.until("conversation.item.done")
        # transcribed for the model, but not sent to the client
        assert session.answer() == "Good morning. How are you?"
        error = session.refused("response.create", response={**aloud(model="ear"), "type": None})
        assert error.code == "unknown_parameter"
        response_options = {"output_modalities": ["audio"], "audio": {"output": {"model": "ear"}}}
        assert (
            session.refused("response.create", response=response_options).param
            == "response.audio.output.model"
        )


def test_a_speech_turn_is_detected_transcribed_and_answered(as_key: Callable[[str], OpenAI]) -> None:
    with talk(as_key("one")) as session:
        input_settings = {**detected()["input"], "transcription": {"model": "ear"}}
        turn_detection = session.update(audio={"input": input_settings}).audio.input.turn_detection
        assert (
            turn_detection.threshold,
            turn_detection.prefix_padding_ms,
            turn_detection.silence_duration_ms,
        ) == (0.5, 300, 500)
        assert (
            turn_detection.create_response
            and turn_detection.interrupt_response
            and turn_detection.idle_timeout_ms is None
        )
        session.hear(TURN)
        speech_start = session.next("input_audio_buffer.speech_started")
        assert speech_start.audio_start_ms == 100
        speech_stop = session.next("input_audio_buffer.speech_stopped")
        assert 1_500 <= speech_stop.audio_end_ms <= 1_700
        committed = session.next("input_audio_buffer.committed")
        assert speech_start.item_id == speech_stop.item_id == committed.item_id
        events = session.until("response.done")
        [created] = [event for event in events if event.type == "response.created"]
        done = events[-1].response
        assert (done.id, done.status) == (created.response.id, "completed")
        assert done.output[0].content[0].text == "Good morning. How are you?"
        deltas = [event.delta for event in events if event.type.endswith("transcription.delta")]
        [transcription] = [event for event in events if event.type.endswith("transcription.completed")]
        assert "".join(deltas) == transcription.transcript == "Good morning. How are you?"
        assert transcription.item_id == speech_start.item_id
        assert transcription.usage.seconds * 1000 == speech_stop.audio_end_ms - speech_start.audio_start_ms

        # A response is created only if the client wants one, and a short pause ends no turn.
        session.update(audio={"input": {"format": {"type": "audio/pcmu"}, "transcription": None}})
        session.update(audio=detected(create_response=False, silence_duration_ms=700))
        session.hear(voiced(400) + quiet(500) + voiced(600) + quiet(1_000), "audio/pcmu")
        again = session.next("input_audio_buffer.speech_started")
        assert again.audio_start_ms >= speech_stop.audio_end_ms
        end = session.next("input_audio_buffer.speech_stopped").audio_end_ms
        assert end - again.audio_start_ms >= 400 + 500 + 600 + 700
        assert session.until("conversation.item.done")[-1].item.id == again.item_id
        assert session.answer() == "Good morning. How are you?"

        # A commit during speech takes the audio so far, under the id that was announced.
        session.hear(voiced(400), "audio/pcmu")
        speech_start = session.next("input_audio_buffer.speech_started")
        session.send("input_audio_buffer.commit")
        assert session.next("input_audio_buffer.committed").item_id == speech_start.item_id
        session.until("conversation.item.done")

        # Audio that the transcriber hears no word in gets no answer.
        turn_detection = session.update(
            audio={
                "input": {
                    "format": {"type": "audio/pcm"},
                    "transcription": {"model": "stone"},
                    "turn_detection": {"type": "semantic_vad", "eagerness": "high"},
                }
            }
        ).audio.input.turn_detection
        assert (turn_detection.type, turn_detection.eagerness, turn_detection.create_response) == (
            "semantic_vad",
            "high",
            True,
        )
        session.hear(TURN, piece=len(TURN))
        done = session.until("response.done")[-1].response
        assert (done.status, done.output) == ("completed", [])


def test_speech_of_the_user_cancels_the_running_response(as_key: Callable[[str], OpenAI]) -> None:
    with talk(as_key("one"), "frail") as session:
        session.update(**{**aloud(), "audio": detected()})
        session.say("linger")
        session.send("response.create")
        deltas: list[str] = []
        while deltas != ["It is late. ", "Go to bed. "]:
            event = session.until("response.output_audio_transcript.delta")[-1]
            deltas.append(event.delta)
        sound = session.until("response.output_audio.delta")[-1]
        session.hear(quiet(200) + voiced(400))
        events = session.until("response.done")
        kinds = [event.type for event in events]
        assert "input_audio_buffer.speech_started" in kinds
        done = events[-1].response
        assert (done.status, done.status_details.reason) == ("cancelled", "turn_detected")
        assert (done.output[0].id, done.output[0].status) == (sound.item_id, "incomplete")
        assert done.output[0].content[0].transcript == "It is late. Go to bed. "
        # Audio that was not played is removed; then the turn ends and is answered.
        session.send("conversation.item.truncate", item_id=sound.item_id, content_index=0, audio_end_ms=1_200)
        session.next("conversation.item.truncated")
        session.send("conversation.item.retrieve", item_id=sound.item_id)
        assert session.next("conversation.item.retrieved").item.content[0].transcript == "It is late. "
        session.hear(quiet(800))
        answer = session.until("response.done")[-1].response
        assert answer.status == "completed"
        assert answer.output[0].content[0].transcript == "Good morning. How are you?"

        # A client that does not want interruptions learns of a turn that cannot be answered.
        session.update(audio=detected(interrupt_response=False), output_modalities=["text"])
        session.say("hang")
        session.hang()
        session.hear(TURN)
        error = [session.event()]
        while error[-1].type != "error":
            error.append(session.event())
        assert error[-1].error.code == "conversation_already_has_active_response"
        assert error[-1].error.event_id is None
        session.send("response.cancel")
        session.until("response.done")


def test_a_model_speaks_when_nobody_does_for_too_long(as_key: Callable[[str], OpenAI]) -> None:
    with talk(as_key("one")) as session:
        session.update(instructions="Greet them.", audio=detected(idle_timeout_ms=100))
        session.hear(quiet(300))
        session.say("ahoy")
        assert session.answer() == "ahoy"
        silence = session.next("input_audio_buffer.timeout_triggered")
        assert (silence.audio_start_ms, silence.audio_end_ms) == (300, 300)
        assert session.next("input_audio_buffer.committed").item_id == silence.item_id
        assert session.until("response.done")[-1].response.status == "completed"


def test_a_transcription_session_transcribes_each_turn_and_refuses_responses(
    harbour: Daemon, as_key: Callable[[str], OpenAI]
) -> None:
    with talk(as_key("one"), intent="transcription") as session:
        assert session.session.type == "transcription"
        updated_session = session.update(
            audio={"input": {"transcription": {"model": "ear"}, **detected()["input"]}}
        )
        assert updated_session.audio.input.transcription.model == "ear"
        session.hear(TURN + TURN)
        event_type = "conversation.item.input_audio_transcription.completed"
        events = [*session.until(event_type), *session.until(event_type)]  # their order is not fixed
        turns = [event.item_id for event in events if event.type == "input_audio_buffer.speech_started"]
        assert len(set(turns)) == 2
        for turn in turns:
            turn_events = [event for event in events if getattr(event, "item_id", "") == turn]
            assert [event.type.rpartition(".")[2] for event in turn_events] == [
                *("speech_started", "speech_stopped", "committed", *5 * ["delta"], "completed")
            ]
            assert "".join(event.delta for event in turn_events[3:-1]) == turn_events[-1].transcript
            assert turn_events[-1].transcript == "Good morning. How are you?"
        for kind, fields in (
            ("response.create", {}),
            ("response.cancel", {}),
            ("conversation.item.create", {"item": said("x")}),
        ):
            assert session.refused(kind, **fields).code == "invalid_event"
        error = session.refused("session.update", session={"type": "realtime"})
        assert error.param == "session.type"
        error = session.refused("session.update", session={"type": "transcription", "instructions": "x"})
        assert (error.code, error.param) == ("unknown_parameter", "session.instructions")

    session_settings: Any = {"type": "transcription", "audio": {"input": {"transcription": {"model": "ear"}}}}
    client_secret = as_key("one").realtime.client_secrets.create(session=session_settings)
    assert (
        client_secret.session.type == "transcription"
        and client_secret.session.audio.input.transcription.model == "ear"
    )
    with OpenAI(base_url=f"{harbour.url}/v1", api_key=client_secret.value, max_retries=0) as page:
        with page.realtime.connect() as connection:
            session = Talk(connection)
            session.send("input_audio_buffer.append", audio=SILENCE)
            session.send("input_audio_buffer.commit")
            session.until("conversation.item.input_audio_transcription.completed")
            other_settings = {
                "type": "transcription",
                "audio": {"input": {"transcription": {"model": "stone"}}},
            }
            assert session.refused("session.update", session=other_settings).code == "not_in_client_secret"
        with pytest.raises(InvalidStatus), talk(page, "echo"):
            pass


def test_transcript_deltas_are_sent_before_the_transcription_ends(as_key: Callable[[str], OpenAI]) -> None:
    with talk(as_key("one"), intent="transcription") as session:
        session.update(audio={"input": {"transcription": {"model": "sleeper"}}})
        session.send("input_audio_buffer.append", audio=SILENCE)
        session.send("input_audio_buffer.commit")
        text = ""
        while text != "Good morning. And":  # then the response stalls
            text += session.until("conversation.item.input_audio_transcription.delta")[-1].delta


def test_noise_is_taken_out_before_turns_are_found(as_key: Callable[[str], OpenAI]) -> None:
    noise = bytes(np.random.default_rng(3).normal(0, 2_000, 24_000).astype("<i2").tobytes())
    with talk(as_key("one"), intent="transcription") as session:
        session.update(audio=detected())
        session.hear(noise)
        session.next("input_audio_buffer.speech_started")  # noise, not speech
        session.send("input_audio_buffer.clear")
        session.next("input_audio_buffer.cleared")
        for kind in ("audio/pcm", "audio/pcmu", "audio/pcma"):
            for field in ("near_field", "far_field"):
                input_settings = {"format": {"type": kind}, "noise_reduction": {"type": field}}
                updated_session = session.update(audio={"input": input_settings})
                assert updated_session.audio.input.noise_reduction.type == field
                session.hear(noise, kind)
                session.send("input_audio_buffer.clear")
                session.next("input_audio_buffer.cleared")
        session.hear(TURN, "audio/pcma")
        session.next("input_audio_buffer.speech_started")
        session.until("conversation.item.input_audio_transcription.completed")  # the rest is an answer
        session.update(audio={"input": {"noise_reduction": None}})
        for noise_reduction, param in (
            ({"type": "middle_field"}, ".type"),
            ({}, ".type"),
            ({"kind": 1}, ".kind"),
        ):
            error = session.refused(
                "session.update",
                session={"type": "transcription", "audio": {"input": {"noise_reduction": noise_reduction}}},
            )
            assert error.param == f"session.audio.input.noise_reduction{param}"


@pytest.mark.parametrize("kind", list(audio.RATES_HZ))
def test_noise_is_softer_and_a_voice_is_not(kind: str) -> None:
    def loudness(samples: bytes) -> float:
        return float(np.sqrt((np.frombuffer(samples, "<i2").astype(float) ** 2).mean()))

    noise = np.random.default_rng(5).normal(0, 600, 96_000)
    voice = np.frombuffer(quiet(2_000) + 2 * (quiet(500) + voiced(500)), "<i2")
    input_audio = audio.encode(bytes((noise + voice).astype("<i2").tobytes()), kind)
    for field in input_buffer.NOISE_LEVELS:
        work = input_buffer.NoiseFilter(field, kind)
        cleaned_audio = b"".join(
            work.clean(input_audio[start : start + 1_402]) for start in range(0, len(input_audio), 1_402)
        )
        expected_length = len(input_audio) // (10 * audio.bytes_per_ms(kind)) * 10 * audio.bytes_per_ms(kind)
        assert len(cleaned_audio) == expected_length
        quarter, half = (part * audio.bytes_per_ms(kind) for part in (2_000, 2_500))
        samples_before, samples_after = (
            audio.samples_of(data[quarter + 400 : half - 400], kind) for data in (input_audio, cleaned_audio)
        )
        assert loudness(samples_after) < loudness(samples_before) / 2
        samples_before, samples_after = (
            audio.samples_of(data[half + 400 :], kind) for data in (input_audio, cleaned_audio)
        )
        assert loudness(samples_after) > loudness(samples_before) / 2


async def test_a_flood_of_events_is_throttled_per_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, waited = 0.0, []

    async def sleep(delay: float) -> None:
        nonlocal now
        waited.append(delay)
        now += delay

    class Budget(realtime.EventBudget):
        def __init__(self, *_given: Any) -> None:
            super().__init__(lambda: now, sleep)

    monkeypatch.setattr(realtime, "EventBudget", Budget)
    count = 2_000
    update = json.dumps({"type": "session.update", "session": {"type": "realtime"}})
    async with api_server(tmp_path) as api:
        api.add(RelayModel("echo"))
        url = api.url.replace("http", "ws", 1) + "/v1/realtime?model=echo"
        payload = {"name": "flooder", "scopes": ["chat"]}
        key = (await api.client.post("/api/keys", json=payload)).json()["key"]
        open_session = partial(
            connect_async, url, proxy=None, additional_headers={"Authorization": f"Bearer {key}"}
        )
        async with open_session() as first_connection, open_session() as second_connection:
            for connection in (first_connection, second_connection):  # both share the budget of their key
                await connection.recv()
                sending = asyncio.create_task(send(connection, update, count // 2))
                for _number in range(count // 2):
                    assert json.loads(await connection.recv())["type"] == "session.updated"
                await sending
            least = (count - realtime.MAX_COST_AT_ONCE) / realtime.MAX_COST_PER_SECOND
            assert sum(waited) >= least
            large = {"type": "realtime", "instructions": "x" * 1_000_000}
            for payload in (large, {"type": "realtime"}, {"type": "realtime"}):
                waited.clear()
                await first_connection.send(json.dumps({"type": "session.update", "session": payload}))
                await first_connection.recv()
            assert sum(waited) >= 1_000_000 / realtime.BYTES_PER_COST / realtime.MAX_COST_PER_SECOND
            waited.clear()
            silence = json.dumps({"type": "input_audio_buffer.append", "audio": "AAAA" * 640})
            await send(first_connection, silence, 200)  # four seconds of microphone input
            await first_connection.send("{")
            assert json.loads(await first_connection.recv())["type"] == "error"
            assert sum(waited) < 4.0


async def send(connection: Any, message: str, count: int) -> None:
    for _number in range(count):
        await connection.send(message)


def test_buffered_silence_is_trimmed_and_an_endless_turn_is_cut_off() -> None:
    buffer = input_buffer.InputBuffer()
    buffer.configure("audio/pcm", config.SERVER_VAD)

    def hear(data: bytes) -> list[input_buffer.TurnMark]:
        marks = buffer.detect(data)
        buffer.add(data)
        return list(marks)

    for _ in range(20):
        assert hear(quiet(1_000)) == []
        buffer.trim()
    assert buffer.length_ms == 440 and buffer.end_ms == 20_000  # audio kept before a turn that begins now
    minute = voiced(60_000)
    first, second = hear(minute), hear(minute)
    assert [(mark.started, mark.at_ms) for mark in first] == [(True, 20_000)]
    start_ms = buffer.start_ms(first[0])
    assert [(mark.started, mark.at_ms) for mark in second] == [(False, 140_000)]
    turn = buffer.take_turn(start_ms, second[0].at_ms)
    assert audio.duration_ms(turn, "audio/pcm") == 120_300 and len(buffer) == 0
    assert [mark.started for mark in hear(minute[: 48 * 1_000])] == [True]
    # Neither clicks nor a step in level start a turn.
    buffer = input_buffer.InputBuffer()
    buffer.configure("audio/pcm", config.SERVER_VAD)
    click = quiet(500) + b"\xff\x7f" + quiet(500)
    step = b"\x00\x20" * 24_000
    assert hear(click * 4 + quiet(1_000) + step + quiet(1_000)) == []


def test_telephone_codecs_preserve_the_sample_levels() -> None:
    levels = [0, 5, -5, 100, -100, 1_000, -1_000, 12_345, -12_345, 32_767, -32_768]
    samples = b"".join(struct.pack("<3h", level, level, level) for level in levels)
    for kind in ("audio/pcmu", "audio/pcma"):
        back = struct.unpack(f"<{len(levels)}h", audio.as_wav(audio.encode(samples, kind), kind)[44:])
        for level, decoded_level in zip(levels, back, strict=True):
            assert abs(level - decoded_level) <= max(8, abs(level) // 16), (kind, level, decoded_level)


@pytest.mark.slow
def test_a_conversation_is_bounded(as_key: Callable[[str], OpenAI]) -> None:
    with talk(as_key("one")) as session:
        large = "a" * 6_000_000
        session.say(large)
        first_id = session.say(large)
        error = session.refused("conversation.item.create", item=said(large))
        assert (error.type, error.code, error.param) == ("rate_limit_error", "conversation_full", "item")
        session.send("conversation.item.delete", item_id=first_id)
        session.next("conversation.item.deleted")
        second_id = session.say(large)
        error = session.refused("session.update", session={"type": "realtime", "instructions": large})
        assert (error.code, error.param) == ("session_too_large", "session")
        reference = {"type": "item_reference", "id": second_id}
        for count in (3, 1_001):
            error = session.refused("response.create", response={"input": [reference] * count})
            assert (error.code, error.param) == ("invalid_value", "response.input")


@pytest.mark.parametrize(
    ("headers", "query", "status", "param"),
    [
        ({"Origin": "https://evil.example"}, "?model=echo", 403, None),
        ({"Authorization": "Bearer pk-unknown"}, "?model=echo", 401, None),
        ({}, "", 400, "model"),
        ({}, "?model=nobody", 404, "model"),
        ({}, "?model=vectors", 400, "model"),
        ({}, "?call_id=rtc_1", 400, "call_id"),
        ({}, "?intent=translation", 400, "intent"),
        ({}, "?intent=transcription&model=echo", 400, "model"),
        ({}, "?intent=transcription&model=nobody", 404, "model"),
    ],
)
def test_a_refused_realtime_handshake_gets_an_http_error(
    harbour: Daemon, headers: dict[str, str], query: str, status: int, param: str | None
) -> None:
    with pytest.raises(InvalidStatus) as error_info, opened(harbour, path=f"/v1/realtime{query}", **headers):
        pass
    assert error_info.value.response.status_code == status
    assert json.loads(error_info.value.response.body)["error"]["param"] == param


def test_revoking_a_key_closes_its_session_and_running_response(harbour: Daemon) -> None:
    keys, boss = f"{harbour.url}/api/keys", bearer("boss")
    guest_key = httpx.post(keys, json={"name": "guest", "scopes": ["chat"]}, headers=boss).json()
    client = OpenAI(base_url=f"{harbour.url}/v1", api_key=guest_key["key"])
    with client, talk(client, "frail") as session:
        session.say("hang")
        session.hang()
        httpx.delete(f"{keys}/{guest_key['id']}", headers=boss).raise_for_status()
        with pytest.raises(ConnectionClosed) as error_info:
            session.until("response.done")
        assert error_info.value.rcvd is not None and error_info.value.rcvd.code == 1008


def test_a_client_secret_opens_the_session_that_it_is_for(
    harbour: Daemon, as_key: Callable[[str], OpenAI]
) -> None:
    tools = [{"type": "mcp", "server_label": "odd", "require_approval": "never"}]
    session_settings: Any = {
        "type": "realtime",
        "model": "clever",
        "instructions": "Be kind.",
        "tools": tools,
    }
    client_secret = as_key("boss").realtime.client_secrets.create(
        session=session_settings, expires_after={"anchor": "created_at", "seconds": 60}
    )
    assert client_secret.value.startswith("ek_") and secret("boss") not in client_secret.value
    assert client_secret.session.type == "realtime" and client_secret.session.instructions == "Be kind."
    with OpenAI(base_url=f"{harbour.url}/v1", api_key=client_secret.value, max_retries=0) as page:
        with page.realtime.connect() as connection:
            session = Talk(connection)
            assert (session.session.model, session.session.instructions) == ("clever", "Be kind.")
            session.say("utter bread")
            assert session.answer() == "It was said again."
            session.send("session.update", session={"type": "realtime", "tools": [*tools, WEATHER]})
            session.next("session.updated")
            for other_tool in (
                {"type": "mcp", "server_label": "portico", "require_approval": "never"},
                {
                    "type": "mcp",
                    "server_label": "odd",
                    "require_approval": "never",
                    "allowed_tools": ["echo"],
                },
            ):
                error = session.refused("session.update", session={"type": "realtime", "tools": [other_tool]})
                assert (error.code, error.param) == ("not_in_client_secret", "session.tools[0]")
                error = session.refused("response.create", response={"tools": [WEATHER, other_tool]})
                assert error.param == "response.tools[1]"
            other_fields: dict[str, Any] = {
                "prompt": {"prompt": {"id": "greet", "variables": {"who": "me"}}},
                "audio.output.model": {"audio": {"output": {"model": "voice"}}},
            }
            for param, fields in other_fields.items():
                error = session.refused("session.update", session={"type": "realtime", **fields})
                assert (error.code, error.param) == ("not_in_client_secret", f"session.{param}")
                error = session.refused("response.create", response=fields)
                assert error.param == f"response.{param}"
        with pytest.raises(InvalidStatus) as error_info, talk(page, "echo"):
            pass
        assert json.loads(error_info.value.response.body)["error"]["code"] == "not_in_client_secret"
        with pytest.raises(AuthenticationError):
            page.models.list()
    with connect(
        f"{harbour.url.replace('http', 'ws', 1)}/v1/realtime",
        subprotocols=[Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{client_secret.value}")],
        origin=Origin(harbour.url),
        proxy=None,
    ) as browser:
        assert browser.subprotocol == "realtime"
        assert json.loads(browser.recv())["session"]["model"] == "clever"


def test_invalid_secret_requests_forged_secrets_and_secrets_of_revoked_keys_are_refused(
    harbour: Daemon,
) -> None:
    keys, boss = f"{harbour.url}/api/keys", bearer("boss")
    guest = httpx.post(keys, json={"name": "guest", "scopes": ["chat"]}, headers=boss).json()
    path = f"{harbour.url}/v1/realtime/client_secrets"
    guest_headers = {"Authorization": f"Bearer {guest['key']}"}

    def refused(body: dict[str, Any]) -> tuple[int, Any]:
        answer = httpx.post(path, json=body, headers=guest_headers)
        return answer.status_code, answer.json()["error"]["param"]

    def told(value: str) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {value}"}
        with pytest.raises(InvalidStatus) as error_info, opened(harbour, path="/v1/realtime", **headers):
            pass
        return error_info.value.response.status_code, json.loads(error_info.value.response.body)["error"][
            "code"
        ]

    session = {"type": "realtime", "model": "echo"}
    words = [f"{number * 7919 % 1000003:x}" for number in range(3_000)]
    assert refused({}) == (400, "session.model")
    assert refused({"session": {"type": "realtime"}}) == (400, "session.model")
    assert refused({"session": {"type": "realtime", "model": "nobody"}}) == (404, "session.model")
    transcription = {"keywords": "Portico"}
    assert refused({"session": {**session, "audio": {"input": {"transcription": transcription}}}}) == (
        400,
        "session.audio.input.transcription.keywords",
    )
    assert refused({"session": {**session, "tempature": 1}}) == (400, "session.tempature")
    assert refused({"session": {**session, "instructions": " ".join(words)}}) == (400, "session")
    assert refused({"session": session, "expires_after": {"seconds": 9}}) == (400, "expires_after.seconds")
    value = (
        httpx.post(path, json={"session": session}, headers=guest_headers).raise_for_status().json()["value"]
    )
    body, _, signature = value.partition(".")
    other_secret = httpx.post(
        path, json={"session": {**session, "model": "clever"}}, headers=guest_headers
    ).json()["value"]
    for forged in (
        f"{body}.{other_secret.partition('.')[2]}",
        body,
        f"{body}.",
        f"ek_x.{signature}",
        "ek_",
        f"{value}é",
    ):
        assert told(forged.encode().decode("latin-1")) == (401, "invalid_client_secret")
    httpx.delete(f"{keys}/{guest['id']}", headers=boss).raise_for_status()
    assert told(value) == (401, "invalid_client_secret")


async def test_an_expired_client_secret_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with api_server(tmp_path) as api:
        value, ends_at = client_secrets.minted(api.auth, LOCAL, {"model": "echo"}, 10)
        assert client_secrets.open_secret(api.auth, value) == (LOCAL, {"model": "echo"}, 0.0)
        with monkeypatch.context() as later:
            later.setattr("time.time", lambda: ends_at)
            with pytest.raises(Unauthenticated, match="expired"):
                client_secrets.open_secret(api.auth, value)


async def test_an_idle_session_is_closed(tmp_path: Path) -> None:
    async with api_server(tmp_path, socket_idle_timeout=0.2) as api:
        api.add(RelayModel("echo"))
        url = api.url.replace("http", "ws", 1) + "/v1/realtime?model=echo"
        async with connect_async(url, proxy=None) as connection:
            await connection.recv()
            with pytest.raises(ConnectionClosed):
                await connection.recv()
        assert connection.close_code == 1000 and connection.close_reason == "idle for 0.2 s"


def test_the_extra_that_detects_turns_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webrtcvad", None)
    with pytest.raises(
        Unavailable, match=r"'turn_detection': null, or install turn detection .*: \S+"
    ) as error_info:
        input_buffer.load_detector()
    assert error_info.value.code == "not_installed"
