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
    with Client(daemon.url) as made:
        made.deployments.add("voice", "fake://", task="speech")
        made.deployments.add("ear", "fake://", task="transcription")
        yield made


def test_a_text_is_spoken_into_a_file_and_written_down_again(
    command: Command, client: Client, tmp_path: Path
) -> None:
    path = tmp_path / "door.wav"
    assert command("speak", SAID, "-o", str(path), "--voice", "nova").out == f"{path}\n"
    assert path.read_bytes().startswith(b"RIFF")
    assert command("transcribe", str(path)).out == f"{SAID}\n"
    shown = command("transcribe", str(path), "--json").json
    assert shown["text"] == SAID and [one["start"] for one in shown["segments"]] == [0, 1]
    subtitles = command("transcribe", str(path), "--format", "srt").out
    assert subtitles.startswith("1\n00:00:00,000 --> 00:00:01,000\nThe door is open.\n\n2\n")
    told = command("speak", SAID, "-o", str(path), "--json").json
    assert told == {"path": str(path), "bytes": path.stat().st_size}


def test_a_failed_speech_command_leaves_no_file(command: Command, client: Client, tmp_path: Path) -> None:
    path = tmp_path / "door.mp3"
    failed = command("speak", SAID, "-o", str(path))
    assert failed.code == 1 and "no encoder for mp3" in failed.err and not path.exists()
    assert "must end in .wav" in command("speak", SAID, "-o", str(tmp_path / "door.txt")).err
    assert "'echo' does not" in command("speak", SAID, "-o", str(path), "--model", "echo").err.replace(
        "The model ", ""
    )
    assert "Cannot read" in command("transcribe", str(tmp_path / "none.wav")).err


def test_the_sdk_transcribes_with_word_timestamps_and_subtitles(client: Client) -> None:
    sound = client.audio.speak(SAID, "voice", format="wav", speed=2)
    found = client.audio.transcribe(sound, "ear", times="word", language="en")
    assert found.text == SAID and [one.text for one in found.words] == SAID.split()
    assert found.duration == pytest.approx(len(SAID.split()) / 8)
    assert client.audio.subtitles(sound, "ear", format="vtt").startswith("WEBVTT\n\n")
    with pytest.raises(InvalidRequest, match="no argument 'stream_format'"):
        client.audio.speak(SAID, stream_format="sse")  # type: ignore[call-arg]


def test_the_speak_and_transcribe_tools_round_trip_a_text(client: Client) -> None:
    made = client.tools.call("speak", {"text": SAID})
    assert made.structured is not None and made.structured["model"] == "voice"
    [kept] = made.artifacts
    assert kept.media_type == "audio/wav" and kept.name == "speech.wav"
    heard = client.tools.call("transcribe", {"file": kept.id, "timestamps": "segment"})
    assert heard.structured is not None and heard.text == heard.structured["text"] == SAID
    assert [one["text"].strip() for one in heard.structured["segments"]] == [
        "The door is open.",
        "Come in, please.",
    ]
    uploaded = client.files.add(client.artifacts.content(kept.id), filename="door.wav")
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
