"""The sound that a client has sent and nobody has taken yet, and where somebody speaks in it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from portico_server.apps.realtime.audio import PCM, bytes_per_ms, duration_ms, narrowed

FRAME_MS: Final = 20
FRAME_BYTES: Final = 320
"""Bytes of a frame of 16-bit samples at 8 kHz, which is what the detector hears, whatever the format."""

ONSET_MS: Final = 140
"""How long it must sound like speech before somebody speaks: a click or a knock is shorter."""

MAX_TURN_MS: Final = 120_000
"""A turn that is longer ends, and another one begins."""

BATCH_MS: Final = 1_000
"""How much sound is converted at a time."""


def load_detector() -> None:
    """Import what a detector needs: a start of the daemon does without it."""
    for name in ("numpy", "webrtcvad"):
        importlib.import_module(name)


@dataclass(frozen=True, slots=True)
class TurnMark:
    """Somebody begins to speak (``started``), or has ended, at so many milliseconds of all the session's sound."""

    started: bool
    at_ms: int


class TurnDetector:
    """Finds turns with the voice activity detector of WebRTC. ``detection`` is a whole ``server_vad`` of a session.

    Source: https://webrtc.googlesource.com/src/+/main/common_audio/vad.
    """

    def __init__(self, detection: Mapping[str, Any], at_ms: int) -> None:
        import webrtcvad  # see `load_detector`

        self._vad = webrtcvad.Vad()
        self.change(detection)
        self.reset(at_ms)

    def change(self, detection: Mapping[str, Any]) -> None:
        """From here on detect so."""
        # WebRTC has four steps where OpenAI has a number.
        self._vad.set_mode(min(int(detection["threshold"] * 4), 3))
        self._silence_ms: int = detection["silence_duration_ms"]

    def reset(self, at_ms: int) -> None:
        """Nobody speaks, and what comes begins at ``at_ms``."""
        self.at_ms = at_ms
        self.speaking = False
        self._rest = b""
        self._voiced_ms = self._silent_ms = self._turn_ms = 0

    def take(self, data: bytes, kind: str) -> list[TurnMark]:
        """What begins and ends in a sound of a format."""
        marks: list[TurnMark] = []
        data = self._rest + data
        frame = FRAME_MS * bytes_per_ms(kind)
        whole = len(data) // frame * frame
        self._rest = data[whole:]
        batch = BATCH_MS * bytes_per_ms(kind)
        for start in range(0, whole, batch):
            heard = narrowed(data[start : min(start + batch, whole)], kind)
            for at in range(0, len(heard), FRAME_BYTES):
                voiced = self._vad.is_speech(heard[at : at + FRAME_BYTES], 8_000)
                self.at_ms += FRAME_MS
                if (mark := self._next(voiced)) is not None:
                    marks.append(mark)
        return marks

    def _next(self, voiced: bool) -> TurnMark | None:
        """What the frame that ends at ``at_ms`` means."""
        if not self.speaking:
            self._voiced_ms = self._voiced_ms + FRAME_MS if voiced else 0
            if self._voiced_ms < ONSET_MS:
                return None
            self.speaking, self._turn_ms, self._silent_ms = True, ONSET_MS, 0
            return TurnMark(True, self.at_ms - ONSET_MS)
        self._turn_ms += FRAME_MS
        self._silent_ms = 0 if voiced else self._silent_ms + FRAME_MS
        if self._silent_ms < self._silence_ms and self._turn_ms < MAX_TURN_MS:
            return None
        self.speaking, self._voiced_ms = False, 0
        return TurnMark(False, self.at_ms)


class InputBuffer:
    """Sound in one format. While turns are detected and nobody speaks, only the last of it is kept."""

    def __init__(self) -> None:
        self.kind: str = PCM
        self._data = bytearray()
        self._begin_ms = 0
        """Where the data begin, in milliseconds of all the session's sound."""
        self._detector: TurnDetector | None = None
        self._padding_ms = 0

    def __len__(self) -> int:
        return len(self._data)

    @property
    def end_ms(self) -> int:
        """How much sound has come in the session."""
        return self._begin_ms + self.length_ms

    @property
    def length_ms(self) -> int:
        """How much sound waits."""
        return duration_ms(self._data, self.kind)

    @property
    def is_needed(self) -> bool:
        """Whether a turn is in it, as far as anybody knows."""
        return bool(self._data) and (self._detector is None or self._detector.speaking)

    def configure(self, kind: str, detection: Mapping[str, Any] | None) -> None:
        """From here on take sound of this format, and detect turns so, or not at all."""
        if kind != self.kind:
            self.take()
            self.kind = kind
        if detection is None:
            self._detector = None
            return
        self._padding_ms = detection["prefix_padding_ms"]
        if self._detector is None:
            self._detector = TurnDetector(detection, self.end_ms)
        else:
            self._detector.change(detection)

    def detect(self, data: bytes) -> Sequence[TurnMark]:
        """Where turns begin and end in a sound that is about to be added. A second of it takes a third of a
        millisecond.
        """
        return () if self._detector is None else self._detector.take(data, self.kind)

    def add(self, data: bytes) -> None:
        """Sound that has come."""
        self._data += data

    def start_ms(self, mark: TurnMark) -> int:
        """Where the sound of a turn begins that begins with a mark: a bit before it, as the client wants."""
        return max(mark.at_ms - self._padding_ms, self._begin_ms)

    def take_turn(self, start_ms: int, end_ms: int) -> bytes:
        """The sound of a turn, and forget what was before it."""
        scale = bytes_per_ms(self.kind)
        end = (end_ms - self._begin_ms) * scale
        data = bytes(self._data[(start_ms - self._begin_ms) * scale : end])
        del self._data[:end]
        self._begin_ms = end_ms
        return data

    def take(self) -> bytes:
        """All of it. Who is speaking begins again with what comes."""
        self._begin_ms = self.end_ms
        data = bytes(self._data)
        self._data.clear()
        if self._detector is not None:
            self._detector.reset(self._begin_ms)
        return data

    def trim(self) -> None:
        """Forget what no turn can have any more."""
        detector = self._detector
        if detector is None or detector.speaking:
            return
        begin_ms = detector.at_ms - ONSET_MS - self._padding_ms
        if begin_ms > self._begin_ms:
            self.take_turn(begin_ms, begin_ms)
