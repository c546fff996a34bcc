"""Live transcription of speech, by models that stream and by models that do not."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from tests.api_server import RelayModel

from portico.wire import Delta, Usage
from portico_server.core.errors import EngineFailed, InvalidRequest
from portico_server.core.media import Attachment, Transcribe
from portico_server.core.relay import Relay, RelayResponse
from portico_server.models.media_answers import read_transcript

ASKED = Transcribe(Attachment("file", "a.wav", "audio/wav", b"RIFF"), stream=True)
WHOLE = b'{"text": "Good morning."}'


class Emitted:
    """The recorded events of a call."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def emit(self, event: object) -> None:
        assert isinstance(event, Delta)
        self.texts.append(event.text)


class RefusesStreams(RelayModel):
    async def relay(self, request: Relay, context: Any) -> RelayResponse:
        if request.stream:
            raise InvalidRequest("Unknown field.", param="stream")
        return await super().relay(request, context)


class IgnoresStreams(RelayModel):
    async def relay(self, request: Relay, context: Any) -> RelayResponse:
        body = {name: value for name, value in request.body.items() if name != "stream"}
        return await super().relay(Relay(request.operation, body), context)


def frame(**event: str) -> bytes:
    return b"data: " + orjson.dumps(event) + b"\n\n"


@pytest.mark.parametrize("end", [b"", b"data: [DONE]\n\n"])
async def test_streamed_transcript_text_is_emitted_as_it_arrives(end: bytes) -> None:
    frames = (
        frame(type="transcript.text.delta", delta="Good")
        + frame(type="transcript.text.delta", delta=" morn"),
        b": alive\n\n",
        frame(type="transcript.text.delta", delta="ing."),
        frame(type="transcript.text.done", text="Good morning.") + end,
    )
    context = Emitted()
    transcript = await read_transcript(RelayModel("ear", *frames), ASKED, context)  # type: ignore[arg-type]
    assert (transcript.text, context.texts) == ("Good morning.", ["Good", " morn", "ing."])
    assert transcript.usage == Usage(3, 2)


@pytest.mark.parametrize("model", [RefusesStreams, IgnoresStreams])
async def test_a_model_that_does_not_stream_is_asked_for_the_whole(model: type[RelayModel]) -> None:
    context = Emitted()
    transcript = await read_transcript(model("ear", WHOLE), ASKED, context)  # type: ignore[arg-type]
    assert (transcript.text, context.texts) == ("Good morning.", [])


@pytest.mark.parametrize(
    "frames",
    [
        (frame(type="transcript.text.delta", delta="Good"),),
        (b"data: {\n\n",),
        (frame(type="transcript.text.delta"),),
        (),
    ],
    ids=["no end", "no JSON", "no delta", "nothing"],
)
async def test_a_stream_without_a_transcript_is_an_error(frames: tuple[bytes, ...]) -> None:
    with pytest.raises(EngineFailed, match="other than a transcript"):
        await read_transcript(RelayModel("ear", *frames), ASKED, Emitted())  # type: ignore[arg-type]


async def test_other_errors_are_raised_without_a_second_request() -> None:
    model = RelayModel("ear", error=InvalidRequest("The file is not a sound.", param="file"))
    with pytest.raises(InvalidRequest, match="not a sound"):
        await read_transcript(model, ASKED, Emitted())  # type: ignore[arg-type]
    assert len(model.asked) == 1
