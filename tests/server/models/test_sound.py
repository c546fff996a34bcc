"""The contract of every speech engine: the fake engine, transformers with tiny models, the stand-in for vLLM, and a
provider over HTTP. The weights are random, so a test can check only the form of an answer.
"""

from __future__ import annotations

import io
import math
import struct
import subprocess
import sys
import wave
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio
from aiohttp import web
from tests.server.features.gpu_engines.external.interpreter import interpreter, model
from tests.server.features.gpu_engines.transformers import environment

from portico.testing.model_fixture import ModelFixture, Streamed, model_fixture
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.media import Attachment, Speak, Speech, Transcribe, Transcription
from portico_server.core.principal import LOCAL
from portico_server.core.relay import Operation, Relay
from portico_server.core.servable import Relays
from portico_server.models.catalog import ENGINES
from portico_server.models.spec import ModelSpec

pytestmark = pytest.mark.asyncio(loop_scope="module")

TRANSFORMERS = pytest.param("transformers", marks=pytest.mark.timeout(300))

WHISPER = {"architectures": ["WhisperForConditionalGeneration"], "max_target_positions": 448}


def tone(seconds: float, rate: int = 16_000) -> bytes:
    """Return a WAV file with a constant tone."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        samples = (round(8000 * math.sin(step / 20)) for step in range(round(seconds * rate)))
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return buffer.getvalue()


def spec(name: str, folder: str, **more: Any) -> ModelSpec:
    parameters = {"threads": 1, "python": environment.interpreter(), **more}
    return ModelSpec(name, str(environment.sounds() / folder), engine="transformers", parameters=parameters)


async def ask(
    models: ModelFixture, name: str, operation: Operation, body: dict[str, Any], *files: Attachment
) -> bytes:
    """Return all bytes of an answer."""
    servable = await models.registry.resolve(name, LOCAL)
    assert isinstance(servable, Relays)
    request = Relay(operation, {"model": name, **body}, files=files)
    relayed = await models.runner.relay(servable, name, request, LOCAL)
    return b"".join([chunk async for chunk in relayed.chunks])


@contextmanager
def elsewhere(home: Path, script: list[dict[str, Any]]) -> Iterator[str]:
    """Run an external server with OpenAI's API; yield its address."""
    path = home / "script.json"
    path.write_bytes(orjson.dumps(script))
    command = [
        sys.executable,
        "-m",
        "portico_server.models.engines.fake.worker",
        "--port",
        "0",
        "--script",
        str(path),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def recording(data: bytes, name: str = "a.wav") -> Attachment:
    return Attachment("file", name, "audio/wav", data)


# --- models that transcribe ---------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["fake", "remote", "vllm", TRANSFORMERS])
async def ears(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ModelFixture]:
    home: Path = tmp_path_factory.mktemp(request.param)
    script = [{"match": r"a\.wav", "content": "The ships leave at nine."}]
    async with model_fixture(home) as fixture, AsyncExitStack() as stack:
        if request.param == "fake":
            await fixture.models.add(
                ModelSpec("ear", "fake://", task="transcription", parameters={"script": script})
            )
        elif request.param == "remote":
            address = stack.enter_context(elsewhere(home, script))
            await fixture.models.add(ModelSpec("ear", f"{address}#whisper-1"))
        elif request.param == "vllm":
            parameters = {"python": interpreter(home, script=script)}
            await fixture.models.add(
                ModelSpec("ear", model(home, **WHISPER), engine="vllm", parameters=parameters)
            )
        else:
            await fixture.models.add(spec("ear", "whisper", max_seconds=20))
            await fixture.models.load("ear")
        yield fixture


@pytest.mark.slow
async def test_a_recording_is_transcribed_with_its_duration_as_usage(ears: ModelFixture) -> None:
    transcript = orjson.loads(await ask(ears, "ear", "audio/transcriptions", {}, recording(tone(1))))
    assert isinstance(transcript["text"], str) and transcript["usage"] == {"type": "duration", "seconds": 1}
    assert ears.models.get("ear").task == "transcription"


async def test_times_of_sentences_and_words_are_in_order_and_within_the_recording(ears: ModelFixture) -> None:
    body = {
        "response_format": "verbose_json",
        "timestamp_granularities": ["word", "segment"],
        "language": "en",
    }
    transcript = orjson.loads(await ask(ears, "ear", "audio/transcriptions", body, recording(tone(5))))
    assert transcript["duration"] == 5.0 and transcript["segments"]
    for stretches in (transcript["segments"], transcript["words"]):
        assert all(0 <= stretch["start"] <= stretch["end"] <= 5.1 for stretch in stretches)
        assert [stretch["start"] for stretch in stretches] == sorted(
            stretch["start"] for stretch in stretches
        )
    assert transcript["text"] == "".join(stretch["text"] for stretch in transcript["segments"]).strip()


async def test_a_stream_tells_the_whole_text_at_its_end(ears: ModelFixture) -> None:
    data = await ask(ears, "ear", "audio/transcriptions", {"stream": True}, recording(tone(3)))
    events = [orjson.loads(frame[6:]) for frame in data.split(b"\n\n") if frame]
    assert events[-1]["type"] == "transcript.text.done"
    text = "".join(event["delta"] for event in events if event["type"] == "transcript.text.delta")
    assert text.strip() == events[-1]["text"]


async def test_a_transcription_is_returned_as_webvtt_subtitles(ears: ModelFixture) -> None:
    data = await ask(ears, "ear", "audio/transcriptions", {"response_format": "vtt"}, recording(tone(1)))
    assert data.startswith(b"WEBVTT\n\n")


async def test_a_file_that_is_not_audio_is_refused(ears: ModelFixture) -> None:
    with pytest.raises(PorticoError) as error_info:
        await ask(ears, "ear", "audio/transcriptions", {}, recording(b"Just a text. " * 50, "a.mp3"))
    error = error_info.value
    assert error.status == 400 and "a.mp3" in error.message
    assert error.param == ("file" if ears.models.get("ear").engine != "vllm" else None)


async def test_a_transcript_is_returned_as_values(ears: ModelFixture) -> None:
    request = Transcribe(recording(tone(1)), language="en", timestamps="segment")
    transcript = await ears.runner.call("test", "ear", request, LOCAL)
    assert isinstance(transcript, Transcription) and transcript.duration == 1.0 and transcript.segments


async def test_unsafe_or_too_long_audio_is_refused_and_speech_is_translated(ears: ModelFixture) -> None:
    async def refused(body: dict[str, Any], data: bytes) -> PorticoError:
        with pytest.raises(PorticoError) as error_info:
            await ask(ears, "ear", "audio/transcriptions", body, recording(data))
        return error_info.value

    listing = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n/etc/hostname\n#EXT-X-ENDLIST\n"
    assert (await refused({}, listing)).status == 400  # it would open other files
    if ears.models.get("ear").engine == "transformers":
        long = await refused({}, tone(21))
        assert (long.status, long.code, long.param) == (400, "audio_too_long", "file")
        assert "max_seconds" in long.message
        assert (await refused({"language": "klingon"}, tone(1))).param == "language"
        assert (await refused({}, tone(1)[:30])).code == "invalid_audio"
        assert "samples per second" in (await refused({}, tone(1, 100))).message
    body = {"response_format": "verbose_json", "prompt": "names and words " * 40, "temperature": 0.5}
    translated = await ask(ears, "ear", "audio/translations", body, recording(tone(1)))
    assert orjson.loads(translated)["task"] == "translate"


# --- models that speak --------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["fake", "remote", TRANSFORMERS])
async def voices(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ModelFixture]:
    home: Path = tmp_path_factory.mktemp(request.param)
    async with model_fixture(home) as fixture, AsyncExitStack() as stack:
        if request.param == "fake":
            await fixture.models.add(ModelSpec("voice", "fake://", task="speech"))
        elif request.param == "remote":
            address = stack.enter_context(elsewhere(home, []))
            await fixture.models.add(ModelSpec("voice", f"{address}#tts-1"))
        else:
            await fixture.models.add(spec("voice", "voices"))
        await fixture.models.load("voice")
        yield fixture


async def test_a_text_becomes_a_sound(voices: ModelFixture) -> None:
    data = await ask(voices, "voice", "audio/speech", {"input": "the sea", "response_format": "wav"})
    with wave.open(io.BytesIO(data)) as file:
        assert file.getnchannels() == 1 and file.getnframes() > 1000
    card = (await voices.registry.resolve("voice", LOCAL)).card
    assert card.capabilities - {"hosted"} == {"speech"}
    assert card.labels["engine"] == "remote" or card.labels["voices"]


async def test_speech_is_streamed_as_audio_events_with_usage(voices: ModelFixture) -> None:
    body = {"input": "the sea", "response_format": "pcm", "stream_format": "sse", "seed": 1}
    servable = await voices.registry.resolve("voice", LOCAL)
    assert isinstance(servable, Relays)
    relayed = await voices.runner.relay(
        servable, "voice", Relay("audio/speech", {"model": "voice", **body}), LOCAL
    )
    result = await Streamed.of(relayed)
    assert [document["type"] for document in result.documents][-1] == "speech.audio.done"
    assert all(
        document["type"] == "speech.audio.delta" and document["audio"] for document in result.documents[:-1]
    )
    assert result.usage.completion_tokens > 0


async def test_an_unknown_voice_is_refused_with_those_there_are(voices: ModelFixture) -> None:
    with pytest.raises(PorticoError) as error_info:
        await ask(
            voices, "voice", "audio/speech", {"input": "a", "voice": "nobody", "response_format": "wav"}
        )
    assert error_info.value.param == "voice" and "voices are" in error_info.value.message


async def test_speech_is_returned_as_values(voices: ModelFixture) -> None:
    speech = await voices.runner.call("test", "voice", Speak("the sea", response_format="wav"), LOCAL)
    assert (
        isinstance(speech, Speech) and speech.media_type == "audio/wav" and speech.audio.startswith(b"RIFF")
    )


async def test_speech_formats_and_speed_work_and_unsupported_input_is_refused(voices: ModelFixture) -> None:
    if voices.models.get("voice").engine != "transformers":
        pytest.skip("it has no encoders")
    begins = {"mp3": b"ID3", "opus": b"OggS", "aac": b"\xff\xf1", "flac": b"fLaC", "wav": b"RIFF"}
    text = "the sea is bright and the ships are in the harbour. bread is baked here. " * 3
    for form, begin in begins.items():
        data = await ask(voices, "voice", "audio/speech", {"input": text, "response_format": form})
        assert data.startswith(begin), form
    body = {"input": text, "response_format": "wav", "voice": "alloy", "seed": 1}
    slow, fast = [await ask(voices, "voice", "audio/speech", {**body, "speed": speed}) for speed in (1, 2)]
    assert len(fast) < len(slow)
    for extra_fields, param in (({"input": "雪"}, "input"), ({"instructions": "sadly"}, "instructions")):
        with pytest.raises(PorticoError) as error_info:
            await ask(voices, "voice", "audio/speech", {**body, **extra_fields})
        assert error_info.value.param == param


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_music_lasts_as_long_as_asked_for(tmp_path: Path) -> None:
    async with model_fixture(tmp_path) as daemon:
        await daemon.models.add(spec("band", "music", max_seconds=2))
        await daemon.models.load("band")
        body = {"input": "calm piano", "response_format": "wav", "seconds": 0.5}
        with wave.open(io.BytesIO(await ask(daemon, "band", "audio/speech", body))) as file:
            assert abs(file.getnframes() / file.getframerate() - 0.5) < 0.05
        for extra_fields, param in (({"seconds": 60}, "seconds"), ({"speed": 2}, "speed")):
            with pytest.raises(PorticoError) as error_info:
                await ask(daemon, "band", "audio/speech", {**body, **extra_fields})
            assert error_info.value.param == param


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_ctc_model_transcribes_long_audio_with_ordered_timestamps(tmp_path: Path) -> None:
    async with model_fixture(tmp_path) as daemon:
        await daemon.models.add(spec("ear", "ctc"))
        await daemon.models.load("ear")
        body = {"response_format": "verbose_json", "timestamp_granularities": ["word", "segment"]}
        transcript = orjson.loads(await ask(daemon, "ear", "audio/transcriptions", body, recording(tone(25))))
        assert transcript["duration"] == 25.0 and len(transcript["segments"]) == 2
        ends = [word["end"] for word in transcript["words"]]
        assert ends == sorted(ends) and ends[-1] <= 25.1
        with pytest.raises(PorticoError):
            await ask(daemon, "ear", "audio/translations", {}, recording(tone(1)))


# --- providers ----------------------------------------------------------------------------------------------


async def test_a_provider_receives_a_transcription_form_like_openais_clients_send(tmp_path: Path) -> None:
    form_facts: dict[str, Any] = {}

    async def handle(request: web.Request) -> web.Response:
        form = await request.post()
        file = form["file"]
        assert isinstance(file, web.FileField)
        form_facts.update(
            key=request.headers["Authorization"],
            fields=[(name, value) for name, value in form.items() if isinstance(value, str)],
            file=(file.filename, file.content_type, file.file.read()),
        )
        return web.json_response({"text": "heard", "usage": {"input_tokens": 7, "output_tokens": 2}})

    app = web.Application(client_max_size=1 << 24)
    app.router.add_post("/v1/audio/transcriptions", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with model_fixture(tmp_path) as daemon:
            source = f"http://127.0.0.1:{runner.addresses[0][1]}/v1#gpt-4o-transcribe"
            await daemon.models.add(ModelSpec("far", source, api_key="secret"))
            body = {
                "timestamp_granularities": ["word", "segment"],
                "temperature": 0.5,
                "chunking_strategy": {"type": "server_vad", "threshold": 0.5},
                "unknown": "kept",
            }
            file = Attachment("file", 'a "quoted".wav', "audio/wav", tone(40))
            request = Relay("audio/transcriptions", {"model": "far", **body}, files=(file,))
            servable = await daemon.registry.resolve("far", LOCAL)
            assert isinstance(servable, Relays)
            relayed = await daemon.runner.relay(servable, "far", request, LOCAL)
            assert [chunk async for chunk in relayed.chunks]
            assert (relayed.usage.prompt_tokens, relayed.usage.completion_tokens) == (7, 2)
    finally:
        await runner.cleanup()
    assert form_facts["key"] == "Bearer secret" and form_facts["file"][1:] == ("audio/wav", file.data)
    assert sorted(form_facts["fields"]) == [
        ("chunking_strategy[threshold]", "0.5"),
        ("chunking_strategy[type]", "server_vad"),
        ("model", "gpt-4o-transcribe"),
        ("temperature", "0.5"),
        ("timestamp_granularities[]", "segment"),
        ("timestamp_granularities[]", "word"),
        ("unknown", "kept"),
    ]


@pytest.mark.parametrize(
    ("source", "task"),
    [
        ("remote://openai/gpt-4o-mini-tts", "speech"),
        ("remote://openai/tts-1-hd", "speech"),
        ("remote://groq/whisper-large-v3", "transcription"),
        ("remote://openai/gpt-4o-transcribe", "transcription"),
        ("remote://openai/gpt-4o", "chat"),
    ],
)
async def test_models_of_providers_are_known_by_name(source: str, task: str) -> None:
    assert ENGINES["remote"].describe(ModelSpec("m", source), None).task == task


async def test_anthropic_neither_speaks_nor_listens() -> None:
    with pytest.raises(InvalidRequest, match="does not support speech"):
        ENGINES["remote"].describe(ModelSpec("m", "remote://anthropic/claude-x", task="speech"), None)
