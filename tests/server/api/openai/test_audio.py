"""``/v1/audio`` through a real daemon, using OpenAI's own client where it can express the case."""

from __future__ import annotations

import io
import json
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from tests import daemon as daemons
from tests.daemon import Daemon

SAID = "The door is open. Come in, please."

WAV = b"RIFF\x24\x00\x00\x00WAVE"
"""The beginning of a recording that no fake model created."""

SPEAKS = [
    {"match": "^wait", "hang": 1},
    {"match": "^break off", "crash": 2, "interval": 0.1},
    {"match": "^refuse", "error": {"status": 429, "message": "Too many.", "code": "rate_limit_exceeded"}},
]
HEARS = [
    {"match": r"meeting\.wav", "content": "We agreed. The ships leave at <nine> --> sharp."},
    {"match": r"crash\.wav", "content": "one two three", "crash": 2},
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home: Path = tmp_path_factory.mktemp("audio")
    models = [
        {"name": "chatty", "source": "fake://"},
        {"name": "voice", "source": "fake://", "task": "speech", "parameters": {"script": SPEAKS}},
        {"name": "frail", "source": "fake://", "task": "speech", "parameters": {"script": SPEAKS}},
        {"name": "ear", "source": "fake://", "task": "transcription", "parameters": {"script": HEARS}},
    ]
    configuration = home / "house.json"
    configuration.write_text(json.dumps({"models": models}))
    with daemons.running(
        home / "data",
        "--file",
        str(configuration),
        env={"PORTICO_MAX_MEDIA_MB": "1", "PORTICO_RECORDING_MODEL": "ear"},
    ) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def client(served: Daemon) -> Iterator[OpenAI]:
    with OpenAI(
        base_url=f"{served.url}/v1", api_key="unused", max_retries=0, _strict_response_validation=True
    ) as sdk_client:
        yield sdk_client


@pytest.fixture(scope="module")
def spoken(client: OpenAI) -> bytes:
    """`SAID` as a WAV."""
    return client.audio.speech.create(model="voice", input=SAID, voice="nova", response_format="wav").content


def post(served: Daemon, path: str, **more: Any) -> httpx.Response:
    return httpx.post(f"{served.url}/v1/audio/{path}", timeout=60, **more)


def error(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    details: dict[str, Any] = response.json()["error"]
    return details


# --- speech -------------------------------------------------------------------------------------------------


def test_a_text_is_said_as_a_wav_that_lasts_as_long_as_its_words(spoken: bytes) -> None:
    with wave.open(io.BytesIO(spoken)) as file:
        assert (file.getnchannels(), file.getframerate(), file.getsampwidth()) == (1, 24_000, 2)
        assert file.getnframes() == len(SAID.split()) * 6_000
        samples = file.readframes(6_000)
    assert max(samples) > 0


def test_pcm_speech_at_double_speed_has_half_the_samples(client: OpenAI) -> None:
    fast = client.audio.speech.create(
        model="voice", input=SAID, voice="default", response_format="pcm", speed=2
    )
    assert len(fast.content) == len(SAID.split()) * 3_000 * 2
    assert fast.response.headers["content-type"] == "audio/pcm"


def test_a_voice_may_be_an_object_and_the_model_lists_its_voices(served: Daemon, client: OpenAI) -> None:
    model = httpx.get(f"{served.url}/v1/models/voice").json()
    assert model["capabilities"] == ["speech"] and "alloy" in model["labels"]["voices"]
    body = {"model": "voice", "input": "a", "voice": {"id": "alloy"}, "response_format": "pcm"}
    assert len(post(served, "speech", json=body).content) == 12_000


def test_a_speech_event_stream_ends_with_the_usage(served: Daemon) -> None:
    body = {"model": "voice", "input": "one two", "response_format": "pcm", "stream_format": "sse"}
    frames = post(served, "speech", json=body).text.split("\n\n")
    events = [json.loads(frame.removeprefix("data: ")) for frame in frames if frame]
    assert [event["type"] for event in events] == ["speech.audio.delta"] * 2 + ["speech.audio.done"]
    assert events[-1]["usage"]["input_tokens"] == 2


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"input": None}, "input", "Missing"),
        ({"input": "  "}, "input", "empty"),
        ({"input": ["a"]}, "input", "a string, not a list"),
        ({"input": "a" * 40_000}, "input", "at most 32,768"),
        ({"speed": 10}, "speed", "from 0.25 to 4"),
        ({"speed": "fast"}, "speed", "a number"),
        ({"voice": 7}, "voice", "a string, or an object"),
        ({"voice": {"name": "x"}}, "voice.id", "a string"),
        ({"voice": "nobody"}, "voice", "voices are default, alloy"),
        ({"response_format": "ogg"}, "response_format", "one of mp3, opus"),
        ({"response_format": "mp3"}, "response_format", "no encoder for mp3"),
        ({"stream_format": "text"}, "stream_format", "audio, sse"),
        ({"model": "chatty"}, "model", "Use 'frail' instead"),
        ({"model": "nobody"}, "model", "does not exist"),
    ],
)
def test_an_invalid_speech_request_is_refused_with_the_parameter(
    served: Daemon, change: dict[str, Any], param: str, words: str
) -> None:
    body = {"model": "voice", "input": "Hello", "response_format": "wav", **change}
    response = post(served, "speech", json={name: value for name, value in body.items() if value is not None})
    details = error(response, 404 if change.get("model") == "nobody" else 400)
    assert details["param"] == param and words in details["message"]


def test_an_engine_that_dies_in_the_middle_breaks_the_connection_off(served: Daemon) -> None:
    body = {"model": "voice", "input": "break off in the middle", "response_format": "pcm"}
    with pytest.raises(httpx.RemoteProtocolError):
        post(served, "speech", json=body)
    assert post(served, "speech", json={**body, "input": "again"}).status_code == 200
    events = post(served, "speech", json={**body, "model": "frail", "stream_format": "sse"}).text
    assert '"code":"engine_crashed"' in events and "speech.audio.done" not in events


def test_a_client_that_leaves_ends_the_work(served: Daemon) -> None:
    body = {"model": "voice", "input": "wait for ever", "response_format": "pcm"}
    with httpx.stream("POST", f"{served.url}/v1/audio/speech", json=body, timeout=60) as response:
        pieces = response.iter_raw()
        assert next(pieces)
        runs = httpx.get(f"{served.url}/api/runs").json()["data"]
        [run] = [row["id"] for row in runs if row["kind"] == "audio/speech" and row["status"] == "running"]
    httpx.get(f"{served.url}/api/runs/{run}/events", timeout=60)  # ends with the run
    assert httpx.get(f"{served.url}/api/runs/{run}").json()["status"] == "cancelled"


def test_an_error_before_the_first_byte_keeps_its_status(client: OpenAI) -> None:
    with pytest.raises(openai.RateLimitError):
        client.audio.speech.create(model="voice", input="refuse", voice="default", response_format="wav")


# --- transcription ------------------------------------------------------------------------------------------


def test_a_transcription_returns_the_spoken_text(client: OpenAI, spoken: bytes) -> None:
    transcription = client.audio.transcriptions.create(model="ear", file=("a.wav", spoken))
    assert transcription.text == SAID


def test_samples_copied_into_another_wav_file_are_transcribed(client: OpenAI) -> None:
    samples = client.audio.speech.create(
        model="voice", voice="default", input=SAID, response_format="pcm"
    ).read()
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, 24_000, 0, "NONE", ""))
        writer.writeframes(bytes(2 * 333) + samples)
    transcription = client.audio.transcriptions.create(model="ear", file=("b.wav", file.getvalue()))
    assert transcription.text == SAID


@pytest.mark.conformance("OpenAI", "Audio: transcriptions", "openai")
def test_verbose_json_returns_segments_words_and_duration(client: OpenAI, spoken: bytes) -> None:
    transcription = client.audio.transcriptions.create(
        model="ear",
        file=("a.wav", spoken),
        response_format="verbose_json",
        language="en",
        timestamp_granularities=["word", "segment"],
    )
    assert transcription.segments is not None and transcription.words is not None
    assert [segment.text.strip() for segment in transcription.segments] == [
        "The door is open.",
        "Come in, please.",
    ]
    assert [word.word for word in transcription.words] == SAID.split()
    assert transcription.segments[1].start == transcription.words[4].start == 1.0
    assert [
        (timed_segment.avg_logprob, timed_segment.no_speech_prob) for timed_segment in transcription.segments
    ] == [(0.0, 0.0)] * 2  # the model is certain
    assert float(transcription.duration) == len(SAID.split()) / 4


def test_transcriptions_are_returned_as_text_srt_and_vtt(client: OpenAI) -> None:
    def written(form: Any) -> str:
        transcription = client.audio.transcriptions.create(
            model="ear", file=("meeting.wav", WAV), response_format=form
        )
        return str(transcription)

    assert written("text") == "We agreed. The ships leave at <nine> --> sharp.\n"
    assert written("srt").startswith("1\n00:00:00,000 --> 00:00:00,500\nWe agreed.\n\n2\n00:00:00,500 --> ")
    assert "\nThe ships leave at &lt;nine> -> sharp.\n" in written("vtt")


@pytest.mark.process
def test_a_streamed_transcription_sends_deltas_and_reports_an_engine_crash(
    client: OpenAI, spoken: bytes
) -> None:
    stream = client.audio.transcriptions.create(model="ear", file=("a.wav", spoken), stream=True)
    events = list(stream)
    assert "".join(event.delta for event in events if event.type == "transcript.text.delta") == SAID
    last = events[-1]
    assert last.type == "transcript.text.done" and last.text == SAID
    assert last.usage is not None and last.usage.output_tokens == len(SAID.split())
    broken_stream = client.audio.transcriptions.create(model="ear", file=("crash.wav", WAV), stream=True)
    with pytest.raises(openai.APIError, match="killed by SIGKILL"):
        list(broken_stream)


def test_a_translation_returns_text_and_unsuitable_models_are_refused(served: Daemon, spoken: bytes) -> None:
    response = post(served, "translations", files={"file": ("a.wav", spoken)}, data={"model": "ear"})
    assert response.json()["text"] == SAID
    error_response = post(served, "translations", files={"file": ("a.wav", spoken)}, data={"model": "chatty"})
    assert "Use 'ear' instead" in error(error_response, 400)["message"]


@pytest.mark.parametrize(
    ("name", "data", "fields", "param", "words"),
    [
        ("a.mp3", b"just some text", {}, "file", "cannot be read as audio"),
        ("a.wav", b"", {}, "file", "is empty"),
        ("a.wav", WAV, {"temperature": "2"}, "temperature", "from 0 to 1"),
        ("a.wav", WAV, {"temperature": "hot"}, "temperature", "a number"),
        ("a.wav", WAV, {"response_format": "docx"}, "response_format", "one of json"),
        (
            "a.wav",
            WAV,
            {"response_format": "diarized_json"},
            "response_format",
            "does not support 'diarized_json'",
        ),
        ("a.wav", WAV, {"timestamp_granularities[]": "word"}, "timestamp_granularities", "verbose_json"),
        (
            *("a.wav", WAV),
            {"response_format": "verbose_json", "timestamp_granularities[]": "letter"},
            *("timestamp_granularities", "word, segment"),
        ),
        ("a.wav", WAV, {"include[]": "logprobs"}, "include", "no log-probabilities"),
        ("a.wav", WAV, {"stream": "yes"}, "stream", "true or false"),
        ("a.wav", WAV, {"stream": "true", "response_format": "srt"}, "stream", "json or text"),
        ("a.wav", WAV, {"model": "chatty"}, "model", "Use 'ear' instead"),
        ("a.wav", WAV, {"model": ""}, "model", "must not be empty"),
    ],
)
def test_an_invalid_transcription_request_is_refused_with_the_parameter(
    served: Daemon, name: str, data: bytes, fields: dict[str, str], param: str, words: str
) -> None:
    response = post(served, "transcriptions", files={"file": (name, data)}, data={"model": "ear", **fields})
    details = error(response, 400)
    assert details["param"] == param and words in details["message"]


def test_invalid_transcription_forms_are_refused(served: Daemon) -> None:
    fields = {"model": (None, "ear")}
    assert error(post(served, "transcriptions", files=fields), 400)["param"] == "file"
    assert (
        error(post(served, "transcriptions", files={**fields, "file": (None, "text")}), 400)["param"]
        == "file"
    )
    assert (
        error(post(served, "transcriptions", files={**fields, "sound": ("a", WAV)}), 400)["param"] == "sound"
    )
    twice = [("file", ("a.wav", WAV)), ("file", ("b.wav", WAV))]
    assert "more than one file" in error(post(served, "transcriptions", files=twice), 400)["message"]
    assert (
        error(post(served, "transcriptions", json={"model": "ear"}), 400)["code"]
        == "unsupported_content_type"
    )
    cut = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\near\r\n'
    headers = {"content-type": "multipart/form-data; boundary=x"}
    assert (
        "is truncated" in error(post(served, "transcriptions", content=cut, headers=headers), 400)["message"]
    )


def test_a_file_over_the_limit_is_named_with_the_setting(served: Daemon) -> None:
    files = {"file": ("long.wav", WAV + bytes(1_200_000))}
    details = error(post(served, "transcriptions", files=files, data={"model": "ear"}), 413)
    assert details["param"] == "file" and "max_media_mb" in details["message"]


# --- recordings in a store ----------------------------------------------------------------------------------


def test_a_recording_in_a_store_is_found_by_what_is_said_and_cites_the_second(
    served: Daemon, client: OpenAI
) -> None:
    text = "The door is open. Come in, please. " * 40 + "Bread is baked at nine."
    speech = client.audio.speech.create(
        model="voice", input=text, voice="default", response_format="wav", speed=4
    ).content
    store = client.vector_stores.create(name="talks")
    stored_file = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("talk.wav", speech)
    )
    assert stored_file.status == "completed", stored_file.last_error
    search_request = {"query": "when is bread baked"}
    [best, *other_passages] = httpx.post(
        f"{served.url}/api/stores/talks/search", json=search_request, timeout=60
    ).json()["data"]
    assert best["text"].endswith("Bread is baked at nine.") and best["filename"] == "talk.wav"
    assert best["place"]["seconds"] > 20 and other_passages
    read = client.vector_stores.files.content(stored_file.id, vector_store_id=store.id).data
    assert any("The door is open." in (part.text or "") for part in read)
    broken_file = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("talk.mp3", b"no sound")
    )
    assert broken_file.status == "failed" and broken_file.last_error is not None
    assert "cannot be read as audio" in broken_file.last_error.message
