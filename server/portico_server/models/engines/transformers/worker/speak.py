"""Speech by VITS models and music by MusicGen, delivered in pieces."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, MusicgenForConditionalGeneration, VitsModel

from .embed import load_model
from .errors import Refusal, UnusableModel
from .folder import ModelFolder, WorkerSettings, check_weights, choose_placement
from .server import Caller, ModelQueue
from .sound import FORMATS, AudioEncoder, stop_when_caller_leaves

# The way of a sound from a model to its caller: what the request asks for, and pieces as they are made.


OPENAI_VOICES = frozenset(
    {
        "alloy",
        "ash",
        "ballad",
        "cedar",
        "coral",
        "echo",
        "fable",
        "marin",
        "nova",
        "onyx",
        "sage",
        "shimmer",
        "verse",
    }
)
"""Voices that OpenAI's clients name because they must name one: here, the model's first."""

MAX_SENTENCE_CHARS = 300
"""Characters that are said in one go, unless a sentence has more."""

_END = re.compile(r"(?<=[.!?;…])\s+|(?<=[。！？；])|\n+")


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """What is to be said, and how it is to be sent."""

    text: str
    voice: str
    form: str
    speed: float
    events: bool
    seed: int | None

    @classmethod
    def of(cls, body: Mapping[str, Any], name: str) -> SpeechRequest:
        """Read it. Raises `Refusal`."""
        text = body.get("input")
        if not isinstance(text, str) or not text.strip():
            raise Refusal("'input' must be a text.", "missing_required_parameter", "input")
        form = body.get("response_format") or "mp3"
        if form not in FORMATS:
            raise Refusal(f"'response_format' must be one of {', '.join(FORMATS)}.", param="response_format")
        if body.get("instructions"):
            raise Refusal(
                f"'{name}' has one way to speak: leave 'instructions' out.",
                "unsupported_parameter",
                "instructions",
            )
        voice = body.get("voice") or ""
        return cls(
            text.strip(),
            str(voice.get("id", "") if isinstance(voice, Mapping) else voice),
            form,
            float(body.get("speed") or 1.0),
            body.get("stream_format") == "sse",
            body.get("seed"),
        )

    def among(self, voices: Sequence[str]) -> int:
        """The place of its voice. Raises `Refusal` that names those that there are."""
        if self.voice in voices:
            return list(voices).index(self.voice)
        if not self.voice or self.voice == "default" or self.voice in OPENAI_VOICES:
            return 0
        shown = ", ".join(voices[:20]) + (f" and {len(voices) - 20} more" if len(voices) > 20 else "")
        raise Refusal(f"There is no voice '{self.voice[:80]}'; voices are {shown}.", "unknown_voice", "voice")


def split_sentences(text: str) -> list[str]:
    """The text in parts that are said one after another; each ends where a sentence does, or at a space."""
    found: list[str] = []
    for part in filter(None, (part.strip() for part in _END.split(text))):
        while len(part) > 2 * MAX_SENTENCE_CHARS:
            cut = part.rfind(" ", 1, 2 * MAX_SENTENCE_CHARS)
            cut = cut if cut > 0 else 2 * MAX_SENTENCE_CHARS
            found.append(part[:cut])
            part = part[cut:].strip()
        if found and len(found[-1]) + len(part) < MAX_SENTENCE_CHARS // 3:
            found[-1] += f" {part}"
        else:
            found.append(part)
    return found


def deliver(
    request: SpeechRequest, pieces: Iterable[Any], rate: int, channels: int, tokens: int, client: Caller
) -> None:
    """Send what comes, encoded. ``pieces`` have the shape (channels, samples), from -1 to 1."""
    encoder = AudioEncoder(request.form, rate, channels)
    count = 0

    def send(data: bytes) -> None:
        if request.events and data:
            client.event({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode()})
        elif data:
            client.piece(data, encoder.media_type)

    for piece in pieces:
        client.check()
        count += piece.shape[-1]
        send(encoder.feed(piece))
    send(encoder.end())
    if not request.events:
        client.last()
        return
    output_tokens = round(count / rate * 50)  # as much as a codec of 50 frames a second would count
    usage = {"input_tokens": tokens, "output_tokens": output_tokens, "total_tokens": tokens + output_tokens}
    client.event({"type": "speech.audio.done", "usage": usage})


SENTENCE_PAUSE_S = 0.15
"""Seconds between two sentences."""


class SpeechTask:
    """The task ``speech``."""

    def __init__(self, folder: ModelFolder, settings: WorkerSettings) -> None:
        check_weights(folder.path)
        self._where = choose_placement(settings, generates=False)
        self._tokenizer = AutoTokenizer.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False
        )
        if getattr(self._tokenizer, "phonemize", False):
            raise UnusableModel(
                f"The model in {folder.path} reads phonemes that the program espeak makes of a text, which this engine "
                "does not have. Use one that reads letters, such as facebook/mms-tts-eng."
            )
        self._model = load_model(VitsModel, folder, self._where)
        self._rate = int(self._model.config.sampling_rate)
        self._name = settings.name
        self._turns = ModelQueue(settings.queue)
        count = int(self._model.config.num_speakers)
        self.voices = tuple(str(number) for number in range(count)) if count > 1 else ("default",)
        self.context_length = 0
        self.dimensions = 0
        self.parameters = self._model.num_parameters()
        self.sees = False

    def routes(self) -> dict[str, Any]:
        return {"/v1/audio/speech": self.speak}

    def speak(self, body: Mapping[str, Any], client: Caller) -> None:
        """Sentence by sentence, each sent as soon as it is there."""
        request = SpeechRequest.of(body, self._name)
        chosen = request.among(self.voices)
        voice = chosen if len(self.voices) > 1 else None
        with self._turns.turn(client.has_left), torch.inference_mode():
            rows = [row for part in split_sentences(request.text) if (row := self._read(part)) is not None]
            if not rows:
                raise Refusal(
                    f"'{self._name}' knows none of the letters of this text: it was made for another language.",
                    "unsupported_value",
                    "input",
                )
            tokens = sum(row["input_ids"].shape[1] for row in rows)
            deliver(request, self._waveforms(rows, voice, request), self._rate, 1, tokens, client)

    def _read(self, text: str) -> Any:
        """The tokens of a sentence, ``None`` where it has no letter that the model knows."""
        found = self._tokenizer(text, return_tensors="pt")
        blank = {self._tokenizer.pad_token_id, self._tokenizer.unk_token_id}
        ids = found["input_ids"]
        return found if ids.numel() and set(ids[0].tolist()) - blank else None

    def _waveforms(self, rows: list[Any], voice: int | None, request: SpeechRequest) -> Iterator[Any]:
        pause = np.zeros((1, int(SENTENCE_PAUSE_S * self._rate)), np.float32)
        if request.seed is not None:
            torch.manual_seed(request.seed)
        for number, row in enumerate(rows):
            if number:
                yield pause
            output = self._model(
                **row.to(self._where.device),
                speaker_id=voice,
                speaking_rate=self._model.config.speaking_rate * request.speed,
            )
            yield output.waveform[0].float().cpu().numpy().reshape(1, -1)


# Music and other sounds made of a description by MusicGen.
#
# Source: Copet et al. 2023, "Simple and Controllable Music Generation".


MAX_MUSIC_S = 30.0
"""Seconds for which these models were trained, and the most that one call makes unless a parameter says otherwise."""

DEFAULT_MUSIC_S = 10.0
"""Seconds that are made where the call does not say."""

GUIDANCE_WEIGHT = 3.0
"""How closely the description is followed, as the authors set it."""


class MusicTask:
    """The task ``speech``, of a model that makes music: ``input`` describes it."""

    voices = ("default",)

    def __init__(self, folder: ModelFolder, settings: WorkerSettings) -> None:
        check_weights(folder.path)
        self._where = choose_placement(settings, generates=False)
        self._tokenizer = AutoTokenizer.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False
        )
        self._model = load_model(
            MusicgenForConditionalGeneration, folder, self._where, spare="embed_positions"
        )
        encoder = self._model.config.audio_encoder
        self._rate = int(encoder.sampling_rate)
        self._frames = float(encoder.frame_rate)
        self._channels = int(self._model.config.decoder.audio_channels)
        self._longest = settings.max_seconds or MAX_MUSIC_S
        self._name = settings.name
        self._turns = ModelQueue(settings.queue)
        self.context_length = 0
        self.dimensions = 0
        self.parameters = self._model.num_parameters()
        self.sees = False

    def routes(self) -> dict[str, Any]:
        return {"/v1/audio/speech": self.play}

    def play(self, body: Mapping[str, Any], client: Caller) -> None:
        """Options of our own: ``seconds``, ``guidance_scale``, ``temperature``."""
        request = SpeechRequest.of(body, self._name)
        request.among(self.voices)
        if request.speed != 1.0:
            raise Refusal(
                f"'{self._name}' makes music, which has no 'speed'.", "unsupported_parameter", "speed"
            )
        seconds = _number(body, "seconds", DEFAULT_MUSIC_S, 0.1, self._longest)
        guidance = _number(body, "guidance_scale", GUIDANCE_WEIGHT, 1.0, 20.0)
        temperature = _number(body, "temperature", 1.0, 0.01, 2.0)
        with self._turns.turn(client.has_left), torch.inference_mode():
            read = self._tokenizer(request.text, return_tensors="pt").to(self._where.device)
            if request.seed is not None:
                torch.manual_seed(request.seed)
            output = self._model.generate(
                **read,
                do_sample=True,
                temperature=temperature,
                guidance_scale=guidance,
                max_new_tokens=max(4, round(seconds * self._frames)),
                stopping_criteria=stop_when_caller_leaves(client),
            )
            piece = output[0].float().cpu().numpy()
            deliver(request, [piece], self._rate, self._channels, read["input_ids"].shape[1], client)


def _number(body: Mapping[str, Any], name: str, usual: float, low: float, high: float) -> float:
    value = body.get(name)
    if value is None:
        return min(usual, high)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise Refusal(f"'{name}' must be a number from {low:g} to {high:g}.", param=name)
    return float(value)
