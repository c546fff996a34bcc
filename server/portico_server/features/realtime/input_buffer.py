"""The client's audio that has not been processed yet, and where it contains speech."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Unavailable
from portico_server.features.realtime.audio import (
    PCM,
    RATES_HZ,
    as_g711,
    bytes_per_ms,
    duration_ms,
    narrowed,
    samples_of,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FRAME_MS: Final = 20
FRAME_BYTES: Final = 320
"""Size of a frame of 16-bit samples at 8 kHz, in bytes. All audio formats are converted to such frames for the
detector.
"""

ONSET_MS: Final = 140
"""Minimum duration of speech-like sound before a turn starts, in milliseconds. A click or a knock is shorter."""

MAX_TURN_MS: Final = 120_000
"""Maximum duration of a turn, in milliseconds. A longer turn is ended, and a new turn begins."""

BATCH_MS: Final = 1_000
"""Duration of the audio that is converted at a time, in milliseconds."""


NOISE_LEVELS: Final[Mapping[str, int]] = {"near_field": 2, "far_field": 3}
"""Strength of the noise reduction, from 1 to 4: for a microphone close to the mouth, and for a microphone on the
table.
"""

CLEAN_FRAME_MS: Final = 10
CLEAN_RATE_HZ: Final = 16_000
"""Sample rate of `NoiseFilter`."""

_KERNEL_MS: Final = 2
"""Distance over which a sample affects the audio before and after it when audio is resampled, in milliseconds."""

_NOISE_LIBRARY: Final = "webrtc_noise_gain"


def load_detector() -> None:
    """Import the detector, which is not imported at startup. Raise `Unavailable` if it is not installed."""
    if importlib.util.find_spec("webrtcvad") is None:
        from portico._installed import how_to_add

        raise Unavailable(
            "Turn detection is not installed. Send 'turn_detection': null, or install turn detection and "
            f"restart the daemon: {how_to_add('realtime')}",
            code="not_installed",
        )
    for name in ("numpy", "webrtcvad"):
        importlib.import_module(name)


@cache
def reduces_noise() -> bool:
    """Return whether the noise reduction package is installed. It exists only for Linux."""
    return importlib.util.find_spec(_NOISE_LIBRARY) is not None


def load_noise_filter() -> None:
    """Import what a `NoiseFilter` needs."""
    for name in ("numpy", _NOISE_LIBRARY):
        importlib.import_module(name)


class NoiseFilter:
    """Removes steady noise from audio in a given format, using WebRTC's noise suppression. ``field`` is a key of
    `NOISE_LEVELS`.

    The output has the same format as the input. It is delayed by a few milliseconds, and ends with the last complete
    frame. Source: https://webrtc.googlesource.com/src/+/main/modules/audio_processing/ns.
    """

    def __init__(self, field: str, kind: str) -> None:
        from webrtc_noise_gain import AudioProcessor  # see `load_noise_filter`

        self._work = AudioProcessor(0, NOISE_LEVELS[field])
        self._kind = kind
        self._rest = b""
        self._into = _Resampler(RATES_HZ[kind], CLEAN_RATE_HZ)
        self._back = _Resampler(CLEAN_RATE_HZ, RATES_HZ[kind])

    def clean(self, data: bytes) -> bytes:
        """Return the output for the next piece of audio. A second of audio takes two milliseconds to process."""
        import numpy as np

        data = self._rest + data
        whole_bytes = len(data) - len(data) % (CLEAN_FRAME_MS * bytes_per_ms(self._kind))
        self._rest = data[whole_bytes:]
        if not whole_bytes:
            return b""
        ndarray = self._into.change(np.frombuffer(samples_of(data[:whole_bytes], self._kind), "<i2"))
        frames = ndarray.reshape(-1, CLEAN_RATE_HZ * CLEAN_FRAME_MS // 1_000)
        cleaned_audio = b"".join(self._work.Process10ms(frame.tobytes()).audio for frame in frames)
        new_vectors = self._back.change(np.frombuffer(cleaned_audio, "<i2"))
        return (
            bytes(new_vectors.tobytes())
            if self._kind == PCM
            else as_g711(new_vectors.astype(np.int32), self._kind)
        )


class _Resampler:
    """Converts complete frames of samples to another rate, delayed by `_KERNEL_MS`. The conversion is a sum of
    windowed sines, computed with one matrix.
    """

    def __init__(self, rate_hz: int, to_hz: int) -> None:
        import numpy as np

        self._frame = rate_hz * CLEAN_FRAME_MS // 1_000
        before = 2 * rate_hz * _KERNEL_MS // 1_000
        ndarray = (np.arange(self._frame + before) - before) / rate_hz
        wanted_vectors = np.arange(to_hz * CLEAN_FRAME_MS // 1_000) / to_hz - _KERNEL_MS / 1_000
        apart = wanted_vectors[None, :] - ndarray[:, None]
        band = 0.9 * min(rate_hz, to_hz)
        reach = _KERNEL_MS / 1_000
        window = np.where(np.abs(apart) < reach, np.cos(np.pi * apart / reach / 2) ** 2, 0)
        weights = np.sinc(band * apart) * window
        self._weights = (weights / weights.sum(axis=0)).astype(np.float32)
        self._last = np.zeros(before, np.float32)

    def change(self, samples: NDArray[np.int16]) -> NDArray[np.int16]:
        import numpy as np

        reach = len(self._last)
        ndarray = np.concatenate([self._last, samples.astype(np.float32)])
        self._last = ndarray[len(ndarray) - reach :]
        frames = np.lib.stride_tricks.sliding_window_view(ndarray, reach + self._frame)[:: self._frame]
        nd_array: NDArray[np.int16] = np.rint(frames @ self._weights).clip(-32_768, 32_767).astype("<i2")
        return nd_array.reshape(-1)


@dataclass(frozen=True, slots=True)
class TurnMark:
    """The start (``started``) or end of speech, as a position in the session's audio in milliseconds."""

    started: bool
    at_ms: int


class TurnDetector:
    """Detects turns with WebRTC's voice activity detector. ``detection`` contains all fields of a session's
    ``server_vad``.

    Source: https://webrtc.googlesource.com/src/+/main/common_audio/vad.
    """

    def __init__(self, detection: Mapping[str, Any], at_ms: int) -> None:
        import webrtcvad  # see `load_detector`

        self._vad = webrtcvad.Vad()
        self.change(detection)
        self.reset(at_ms)

    def change(self, detection: Mapping[str, Any]) -> None:
        """Change the detection settings for the audio that follows."""
        # WebRTC has four levels, but OpenAI's threshold is a number from 0 to 1.
        self._vad.set_mode(min(int(detection["threshold"] * 4), 3))
        self._silence_ms: int = detection["silence_duration_ms"]

    def reset(self, at_ms: int) -> None:
        """Reset the detector to silence. The next audio starts at ``at_ms``."""
        self.at_ms = at_ms
        self.speaking = False
        self._rest = b""
        self._voiced_ms = self._silent_ms = self._turn_ms = 0

    def take(self, data: bytes, kind: str) -> list[TurnMark]:
        """Return the marks for the starts and ends of turns in a piece of audio of a given format."""
        marks: list[TurnMark] = []
        data = self._rest + data
        frame = FRAME_MS * bytes_per_ms(kind)
        whole_bytes = len(data) // frame * frame
        self._rest = data[whole_bytes:]
        batch = BATCH_MS * bytes_per_ms(kind)
        for start in range(0, whole_bytes, batch):
            narrow_audio = narrowed(data[start : min(start + batch, whole_bytes)], kind)
            for at in range(0, len(narrow_audio), FRAME_BYTES):
                is_voiced = self._vad.is_speech(narrow_audio[at : at + FRAME_BYTES], 8_000)
                self.at_ms += FRAME_MS
                if (mark := self._next(is_voiced)) is not None:
                    marks.append(mark)
        return marks

    def _next(self, is_voiced: bool) -> TurnMark | None:
        """Return the mark that the next frame causes, or ``None``. The frame ends at ``at_ms``."""
        if not self.speaking:
            self._voiced_ms = self._voiced_ms + FRAME_MS if is_voiced else 0
            if self._voiced_ms < ONSET_MS:
                return None
            self.speaking, self._turn_ms, self._silent_ms = True, ONSET_MS, 0
            return TurnMark(True, self.at_ms - ONSET_MS)
        self._turn_ms += FRAME_MS
        self._silent_ms = 0 if is_voiced else self._silent_ms + FRAME_MS
        if self._silent_ms < self._silence_ms and self._turn_ms < MAX_TURN_MS:
            return None
        self.speaking, self._voiced_ms = False, 0
        return TurnMark(False, self.at_ms)


class InputBuffer:
    """A buffer for audio in one format. If turns are detected, the buffer keeps only the most recent audio while
    nobody speaks.
    """

    def __init__(self) -> None:
        self.kind: str = PCM
        self._data = bytearray()
        self._begin_ms = 0
        """Position at which the buffered audio starts, in milliseconds of the session's audio."""
        self._detector: TurnDetector | None = None
        self._noise: NoiseFilter | None = None
        self._noise_field: str | None = None
        self._padding_ms = 0

    def __len__(self) -> int:
        return len(self._data)

    @property
    def end_ms(self) -> int:
        """Return the total duration of the audio received in the session, in milliseconds."""
        return self._begin_ms + self.length_ms

    @property
    def length_ms(self) -> int:
        """Return the duration of the buffered audio, in milliseconds."""
        return duration_ms(self._data, self.kind)

    @property
    def is_needed(self) -> bool:
        """Return whether the buffered audio is, or may be, part of a turn."""
        return bool(self._data) and (self._detector is None or self._detector.speaking)

    def configure(self, kind: str, detection: Mapping[str, Any] | None, noise: str | None = None) -> None:
        """Set the audio format, the turn detection (``None``: none) and the noise reduction for the audio that
        follows.
        """
        if noise != self._noise_field or kind != self.kind:
            self._noise_field = noise
            self._noise = None if noise is None else NoiseFilter(noise, kind)
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

    def clean(self, data: bytes) -> bytes:
        """Return audio with its noise removed, if noise reduction is enabled. Call this before adding the audio."""
        return data if self._noise is None else self._noise.clean(data)

    def detect(self, data: bytes) -> Sequence[TurnMark]:
        """Return where turns start and end in audio that is about to be added. A second of audio takes a third of a
        millisecond.
        """
        return () if self._detector is None else self._detector.take(data, self.kind)

    def add(self, data: bytes) -> None:
        """Add received audio."""
        self._data += data

    def start_ms(self, mark: TurnMark) -> int:
        """Return the position at which the audio of a turn starts: before its mark, by the padding that the client has
        set.
        """
        return max(mark.at_ms - self._padding_ms, self._begin_ms)

    def take_turn(self, start_ms: int, end_ms: int) -> bytes:
        """Return the audio of a turn, and discard it and the audio before it."""
        scale = bytes_per_ms(self.kind)
        end = (end_ms - self._begin_ms) * scale
        data = bytes(self._data[(start_ms - self._begin_ms) * scale : end])
        del self._data[:end]
        self._begin_ms = end_ms
        return data

    def take(self) -> bytes:
        """Return and remove all buffered audio. Turn detection starts over with the next audio."""
        self._begin_ms = self.end_ms
        data = bytes(self._data)
        self._data.clear()
        if self._detector is not None:
            self._detector.reset(self._begin_ms)
        return data

    def trim(self) -> None:
        """Discard audio that can no longer be part of a turn."""
        detector = self._detector
        if detector is None or detector.speaking:
            return
        begin_ms = detector.at_ms - ONSET_MS - self._padding_ms
        if begin_ms > self._begin_ms:
            self.take_turn(begin_ms, begin_ms)
