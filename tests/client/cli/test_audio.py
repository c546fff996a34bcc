"""`portico speak`, `portico transcribe`, `Client.audio`, and the tools of the same names."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from mcp import Client as McpClient
from tests.client.cli.conftest import Command
from tests.daemon import Daemon

from portico import Client, InvalidRequest, NotFound

SAID = "The door is open. Come in, please."


@pytest.fixture(scope="module")
def client(daemon: Daemon) -> Iterator[Client]:
    with Client(daemon.url) as opened_client:
        opened_client.deployments.add("voice", "fake://", task="speech")
        opened_client.deployments.add("ear", "fake://", task="transcription")
        yield opened_client


def test_a_text_is_spoken_into_a_file_and_written_down_again(
    command: Command, client: Client, tmp_path: Path
) -> None:
    path = tmp_path / "door.wav"
    assert command("speak", SAID, "-o", str(path), "--voice", "nova").out == f"{path}\n"
    assert path.read_bytes().startswith(b"RIFF")
    assert command("transcribe", str(path)).out == f"{SAID}\n"
    transcription = command("transcribe", str(path), "--json").json
    assert transcription["text"] == SAID and [segment["start"] for segment in transcription["segments"]] == [
        0,
        1,
    ]
    subtitles = command("transcribe", str(path), "--format", "srt").out
    assert subtitles.startswith("1\n00:00:00,000 --> 00:00:01,000\nThe door is open.\n\n2\n")
    speech = command("speak", SAID, "-o", str(path), "--json").json
    assert speech == {"path": str(path), "bytes": path.stat().st_size}


def test_a_failed_speech_command_leaves_no_file(command: Command, client: Client, tmp_path: Path) -> None:
    path = tmp_path / "door.mp3"
    result = command("speak", SAID, "-o", str(path))
    assert result.code == 1 and "no encoder for mp3" in result.err and not path.exists()
    assert "must end in .wav" in command("speak", SAID, "-o", str(tmp_path / "door.txt")).err
    assert "'echo' does not" in command("speak", SAID, "-o", str(path), "--model", "echo").err.replace(
        "The model ", ""
    )
    assert "Cannot read" in command("transcribe", str(tmp_path / "none.wav")).err


def test_the_sdk_transcribes_with_word_timestamps_and_subtitles(client: Client) -> None:
    sound = client.audio.speak(SAID, "voice", format="wav", speed=2)
    transcription = client.audio.transcribe(sound, "ear", times="word", language="en")
    assert transcription.text == SAID and [word.text for word in transcription.words] == SAID.split()
    assert transcription.duration == pytest.approx(len(SAID.split()) / 8)
    assert client.audio.subtitles(sound, "ear", format="vtt").startswith("WEBVTT\n\n")
    with pytest.raises(InvalidRequest, match="no argument 'stream_format'"):
        client.audio.speak(SAID, stream_format="sse")  # type: ignore[call-arg]


def test_the_speak_and_transcribe_tools_round_trip_a_text(client: Client) -> None:
    speech = client.tools.call("speak", {"text": SAID})
    assert speech.structured is not None and speech.structured["model"] == "voice"
    [artifact] = speech.artifacts
    assert artifact.media_type == "audio/wav" and artifact.name == "speech.wav"
    transcription = client.tools.call("transcribe", {"file": artifact.id, "timestamps": "segment"})
    assert (
        transcription.structured is not None
        and transcription.text == transcription.structured["text"] == SAID
    )
    assert [segment["text"].strip() for segment in transcription.structured["segments"]] == [
        "The door is open.",
        "Come in, please.",
    ]
    uploaded = client.files.add(client.artifacts.content(artifact.id), filename="door.wav")
    assert client.tools.call("transcribe", {"file": f"please: {uploaded.id}"}).text == SAID


async def test_an_assistant_gets_the_sound_with_the_result(daemon: Daemon, client: Client) -> None:
    async with McpClient(f"{daemon.url}/mcp") as assistant:
        result = await assistant.call_tool("speak", {"text": "Hello."})
    [sound] = [part for part in result.content if part.type == "audio"]
    assert sound.mime_type == "audio/wav" and base64.b64decode(sound.data).startswith(b"RIFF")


def test_the_audio_tools_report_invalid_arguments(client: Client) -> None:
    wrong = client.tools.call("speak", {"text": SAID, "model": "echo"})
    assert wrong.is_error and "voice can" in wrong.text
    assert "voices are default" in client.tools.call("speak", {"text": SAID, "voice": "nobody"}).text
    text = client.files.add(b"just words", filename="a.mp3")
    assert "cannot be read as audio" in client.tools.call("transcribe", {"file": text.id}).text
    missing = client.tools.call("transcribe", {"file": "file-none"})
    assert missing.is_error and "file-none" in missing.text


def test_a_missing_transcription_model_is_reported_with_the_command_to_add_it(
    daemon: Daemon, client: Client
) -> None:
    client.deployments.remove("ear")
    try:
        with pytest.raises(InvalidRequest, match="portico models add ear --source"):
            client.audio.transcribe(b"RIFF")
        with pytest.raises(NotFound):
            client.audio.transcribe(b"RIFF", "ear")
    finally:
        client.deployments.add("ear", "fake://", task="transcription")
