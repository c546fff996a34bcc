"""Audio input and output: decodes common files within limits, and encodes the formats that OpenAI names. Uses PyAV."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import av
import numpy as np

from .errors import Refusal

# Only formats that contain the audio itself: a playlist can name other files or URLs, which FFmpeg would
# open.
DEMUXERS = "mp3,wav,w64,flac,ogg,mov,mp4,matroska,webm,aac,aiff,asf,amr,caf,au"

MAX_BROKEN_PACKETS = 100
"""Maximum number of damaged packets in a recording."""

MIN_RATE_HZ = 1_000
"""Minimum sample rate of a recording, in Hz. At a lower rate, a frame of a few bytes would grow to gigabytes when it
is resampled to the model's rate.
"""

PCM_RATE_HZ = 24_000
"""Sample rate of OpenAI's ``pcm``, in Hz."""


@dataclass(frozen=True, slots=True)
class _Format:
    container: str
    codec: str
    media_type: str
    rates: tuple[int, ...] = ()


FORMATS: Mapping[str, _Format] = {
    "mp3": _Format("mp3", "libmp3lame", "audio/mpeg", (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)),
    "opus": _Format("ogg", "libopus", "audio/opus", (24_000, 48_000)),
    "aac": _Format("adts", "aac", "audio/aac", (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)),
    "flac": _Format("flac", "flac", "audio/flac"),
    "wav": _Format("wav", "pcm_s16le", "audio/wav"),
    "pcm": _Format("s16le", "pcm_s16le", "audio/pcm", (PCM_RATE_HZ,)),
}
"""Formats by their OpenAI names. ``rates`` are the sample rates that the codec accepts, empty if it accepts any."""


def decode_audio(data: bytes, rate: int, longest: float, check: Callable[[], None], name: str = "") -> Any:
    """Decode one channel of 16-bit samples at ``rate`` Hz. Raise `Refusal` that names ``file``.

    Decoding stops after ``longest`` seconds, so that a small file cannot expand into a very long one. ``check`` is
    called from time to time, and can raise.
    """
    limit = int(longest * rate)
    samples = bytearray()
    broken_packets = 0
    try:
        options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "none"}
        with av.open(io.BytesIO(data), metadata_errors="replace", options=options) as container:
            if not container.streams.audio:
                raise _unreadable(name, "it contains no sound")
            if (container.duration or 0) / av.time_base > longest * 1.01:
                raise _too_long(longest)
            stream = container.streams.audio[0]
            resampler = av.AudioResampler(format="s16", layout="mono", rate=rate)
            for number, packet in enumerate(container.demux(stream)):
                if number % 500 == 0:
                    check()
                try:
                    frames = packet.decode()
                except av.error.InvalidDataError:
                    broken_packets += 1
                    if broken_packets > MAX_BROKEN_PACKETS:
                        break
                    continue
                for frame in frames:
                    if frame.sample_rate < MIN_RATE_HZ:
                        raise _unreadable(name, f"it has fewer than {MIN_RATE_HZ:,} samples per second")
                    for piece in resampler.resample(frame):
                        samples += piece.to_ndarray().tobytes()
                if len(samples) // 2 > limit:
                    raise _too_long(longest)
            for piece in resampler.resample(None):
                samples += piece.to_ndarray().tobytes()
    except (av.FFmpegError, ValueError, UnicodeDecodeError) as error:
        if not samples:
            raise _unreadable(name, _words(error)) from error
    if not samples:
        raise _unreadable(name, "it contains no sound")
    return np.frombuffer(samples, dtype=np.int16)


def _too_long(longest: float) -> Refusal:
    return Refusal(
        f"The recording is longer than {longest:g} s, the maximum for one call. Split it, or raise the "
        "model's parameter 'max_seconds'.",
        "audio_too_long",
        "file",
    )


def _unreadable(name: str, reason: str) -> Refusal:
    return Refusal(
        f"The file '{name}' cannot be read as audio ({reason}). Send mp3, m4a, mp4, wav, flac, ogg, opus or "
        "webm.",
        "invalid_audio",
        "file",
    )


def _words(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    return " ".join(str(reason).split())[:200].rstrip(".")


class AudioEncoder:
    """Encodes samples into the audio format ``form`` as they arrive. ``rate`` is in samples per second."""

    def __init__(self, form: str, rate: int, channels: int = 1) -> None:
        format_ = FORMATS[form]
        self.media_type = format_.media_type
        self._form = form
        self._rate = rate
        self._layout = "stereo" if channels == 2 else "mono"
        self._target = (
            rate
            if not format_.rates
            else min(
                format_.rates, key=lambda supported_rate: (supported_rate < rate, abs(supported_rate - rate))
            )
        )
        self._out = _Out()
        if form in ("wav", "pcm"):
            target = av.AudioResampler(
                format="s16", layout="mono" if form == "pcm" else self._layout, rate=self._target
            )
            self._resampler = target
            return
        self._container = av.open(self._out, mode="w", format=format_.container)
        self._stream: Any = self._container.add_stream(format_.codec, rate=self._target)
        self._stream.layout = self._layout
        self._resampler = av.AudioResampler(
            format=self._stream.format,
            layout=self._layout,
            rate=self._target,
            frame_size=self._stream.frame_size or None,
        )

    def feed(self, samples: Any) -> bytes:
        """Encode ``samples`` from -1 to 1, shape (channels, n). Return the finished bytes; for WAV, none yet."""
        ndarray = np.ascontiguousarray((np.clip(samples, -1.0, 1.0) * 32767.0).astype(np.int16).T).reshape(
            1, -1
        )
        frame = av.AudioFrame.from_ndarray(ndarray, format="s16", layout=self._layout)
        frame.sample_rate = self._rate
        self._encode(self._resampler.resample(frame))
        return b"" if self._form == "wav" else self._out.take()

    def end(self) -> bytes:
        """Return the rest of the file; for WAV, the whole file, because its length is at the beginning."""
        self._encode(self._resampler.resample(None))
        if self._form == "wav":
            return self._wave(self._out.take())
        if self._form != "pcm":
            for packet in self._stream.encode(None):
                self._container.mux(packet)
            self._container.close()
        return self._out.take()

    def _encode(self, frames: list[Any]) -> None:
        for frame in frames:
            if self._form in ("wav", "pcm"):
                self._out.write(frame.to_ndarray().tobytes())
                continue
            for packet in self._stream.encode(frame):
                self._container.mux(packet)

    def _wave(self, samples: bytes) -> bytes:
        format_ = io.BytesIO()
        with wave.open(format_, "wb") as file:
            file.setnchannels(2 if self._layout == "stereo" else 1)
            file.setsampwidth(2)
            file.setframerate(self._target)
            file.writeframes(samples)
        return format_.getvalue()


class _Out:
    """An output that FFmpeg writes from beginning to end, without seeking."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        audio = b"".join(self._parts)
        self._parts.clear()
        return audio
