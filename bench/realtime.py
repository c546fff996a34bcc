"""Realtime sessions compared with the calls that they consist of: ``python bench/realtime.py``.

The models are fake, so the benchmark measures the path. A client calls the parts one after another, each as soon as
possible: a transcription, a chat until its first sentence is complete, and speech of that sentence. A session does the
same after a commit, and after the piece of sound that ends a detected turn. Every round measures each variant
alternately. Goal: the first sound of an answer ≤60 ms after that of the parts (p50).
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from harness import Report, daemon, summary
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from portico_server.features.realtime.audio import PCM, as_wav
from portico_server.features.realtime.config import SERVER_VAD
from portico_server.features.realtime.input_buffer import TurnDetector

SAID = "Good morning. How are you?"
MODELS: list[dict[str, Any]] = [
    {"name": "default", "source": "fake://"},
    {"name": "voice", "source": "fake://", "task": "speech"},
    {
        "name": "ear",
        "source": "fake://",
        "task": "transcription",
        "parameters": {"script": [{"match": "speech\\.wav", "content": SAID}]},
    },
]
PIECE_BYTES = 960
"""Number of bytes in 20 ms of sound."""

GOAL_MS = 60.0
TURNS_PER_SESSION = 20


def turn() -> list[bytes]:
    """Return what a microphone sends until a turn ends; the last piece ends the turn."""
    at = np.arange(24 * 600)[:, None] / 24_000
    harmonics = np.arange(1, 12)
    wave = (np.sin(2 * np.pi * 140 * harmonics * at) / harmonics).sum(axis=1)
    sound = bytes(48 * 200) + (3_500 * wave).astype("<i2").tobytes() + bytes(48 * 1_000)
    pieces = [sound[start : start + PIECE_BYTES] for start in range(0, len(sound), PIECE_BYTES)]
    detector = TurnDetector(SERVER_VAD, 0)
    for number, piece in enumerate(pieces):
        if any(not mark.started for mark in detector.take(piece, PCM)):
            return pieces[: number + 1]
    raise SystemExit("no turn was found in the sound")


def parts(connection: http.client.HTTPConnection, sound: bytes) -> dict[str, float]:
    """Return the seconds from a recording to the first sound of the answer, by calls of the parts."""

    def call(path: str, body: bytes, kind: str) -> http.client.HTTPResponse:
        connection.request("POST", path, body, {"Content-Type": kind})
        answer = connection.getresponse()
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {answer.read().decode()[:500]}")
        return answer

    begin = time.perf_counter()
    head = '--b\r\nContent-Disposition: form-data; name="model"\r\n\r\near\r\n--b\r\n'
    head += 'Content-Disposition: form-data; name="file"; filename="speech.wav"\r\n\r\n'
    form = head.encode() + as_wav(sound, PCM) + b"\r\n--b--\r\n"
    text = json.load(call("/v1/audio/transcriptions", form, "multipart/form-data; boundary=b"))["text"]
    asked = {"model": "default", "messages": [{"role": "user", "content": text}], "stream": True}
    answer, said = call("/v1/chat/completions", json.dumps(asked).encode(), "application/json"), ""
    while "." not in said:
        line = answer.readline()
        if line.startswith(b"data: {"):
            said += json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
    aloud = {"model": "voice", "input": said, "voice": "default", "response_format": "pcm"}
    answer.read()
    call("/v1/audio/speech", json.dumps(aloud).encode(), "application/json").read()
    return {"first sound": time.perf_counter() - begin}


class Session:
    """A session that speaks its answers."""

    def __init__(self, socket: Connection, detection: dict[str, Any] | None) -> None:
        self._socket = socket
        heard = {"transcription": {"model": "ear"}, "turn_detection": detection}
        audio = {"input": heard, "output": {"model": "voice"}}
        self._send(
            "session.update",
            session={"type": "realtime", "output_modalities": ["audio"], "audio": audio},
        )
        self._until("session.updated")

    def committed(self, pieces: list[bytes]) -> dict[str, float]:
        """Measure a turn that the client ends."""
        self._hear(pieces)
        begin = time.perf_counter()
        self._send("input_audio_buffer.commit")
        self._send("response.create")
        return self._answered(begin, "input_audio_buffer.committed")

    def detected(self, pieces: list[bytes]) -> dict[str, float]:
        """Measure a turn that the daemon ends."""
        self._hear(pieces[:-1])
        self._until("input_audio_buffer.speech_started")
        begin = time.perf_counter()
        self._hear(pieces[-1:])
        return self._answered(begin, "input_audio_buffer.speech_stopped")

    def _answered(self, begin: float, first: str) -> dict[str, float]:
        found = {}
        for name, kind in (("first event", first), ("first sound", "response.output_audio.delta")):
            self._until(kind)
            found[name] = time.perf_counter() - begin
        self._until("response.done")
        return found

    def _hear(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self._send("input_audio_buffer.append", audio=base64.b64encode(piece).decode())

    def _send(self, kind: str, **fields: Any) -> None:
        self._socket.send(json.dumps({"type": kind, **fields}))

    def _until(self, kind: str) -> None:
        while (event := json.loads(self._socket.recv()))["type"] != kind:
            if event["type"] == "error":
                raise SystemExit(event["error"]["message"])


def main() -> int:
    """Measure, print and store the results; return 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=300)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    pieces = turn()
    samples: dict[str, dict[str, list[float]]] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = folder / "portico.yaml"
        config.write_text(json.dumps({"models": MODELS}))
        url = stack.enter_context(daemon(folder / "home", "--file", str(config))).url
        plain = stack.enter_context(contextlib.closing(http.client.HTTPConnection(urlsplit(url).netloc)))

        def measure(case: str, once: Callable[[list[bytes]], dict[str, float]], count: int) -> None:
            for _ in range(count):
                for name, seconds in once(pieces).items():
                    samples.setdefault(case, {}).setdefault(name, []).append(seconds)

        for number in range(max(1, options.turns // TURNS_PER_SESSION) + 1):
            measure("parts", lambda sent: parts(plain, b"".join(sent)), TURNS_PER_SESSION)
            for case, detection in (("commit", None), ("detected turn", {"type": "server_vad"})):
                with connect(
                    f"{url.replace('http', 'ws', 1)}/v1/realtime?model=default", proxy=None
                ) as socket:
                    session = Session(socket, detection)
                    once = session.committed if detection is None else session.detected
                    measure(case, once, TURNS_PER_SESSION)
            if not number:  # the first round is a warm-up
                samples.clear()
    report = Report("Realtime", ("case", "what", "p50 ms", "p99 ms", "p50 over the parts, ms"))
    base = summary(samples["parts"]["first sound"], 1)
    good = True
    for case, by_name in samples.items():
        for name, seconds in by_name.items():
            found = summary(seconds, 1)
            over = found.p50 - base.p50 if name == "first sound" and case != "parts" else None
            row = {"case": case, "what": name, "p50 ms": found.p50, "p99 ms": found.p99}
            report.add(**row, **{"p50 over the parts, ms": over})
            good = good and (over is None or over <= GOAL_MS)
    report.notes["turns"] = len(samples["parts"]["first sound"])
    report.show(options.json)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
