"""Speech from VITS models and music from MusicGen, delivered in pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, MusicgenForConditionalGeneration, VitsModel

from .caller import Caller
from .embed import load_model
from .errors import Refusal, UnusableModel
from .folder import ModelFolder, check_weights
from .model_queue import ModelQueue
from .placement import WorkerSettings, choose_placement
from .presence import stop_when_caller_leaves
from .speech_request import SpeechRequest, deliver, split_sentences

SENTENCE_PAUSE_S = 0.15
"""Pause between two sentences, in seconds."""


class SpeechTask:
    """The task ``speech``."""

    def __init__(self, folder: ModelFolder, settings: WorkerSettings) -> None:
        check_weights(folder.path)
        self._placement = choose_placement(settings, generates=False)
        self._tokenizer = AutoTokenizer.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False
        )
        if getattr(self._tokenizer, "phonemize", False):
            raise UnusableModel(
                f"The model in {folder.path} reads phonemes from the program espeak, which this engine does "
                "not include. Use a model that reads letters, such as facebook/mms-tts-eng."
            )
        self._model = load_model(VitsModel, folder, self._placement)
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
        """Speak the text sentence by sentence, and send each sentence as soon as it is ready."""
        request = SpeechRequest.of(body, self._name)
        voice_index = request.among(self.voices)
        voice = voice_index if len(self.voices) > 1 else None
        with self._turns.turn(client.has_left), torch.inference_mode():
            rows = [row for part in split_sentences(request.text) if (row := self._read(part)) is not None]
            if not rows:
                raise Refusal(
                    f"'{self._name}' supports none of the letters of this text. The model was made for "
                    "another language.",
                    "unsupported_value",
                    "input",
                )
            tokens = sum(row["input_ids"].shape[1] for row in rows)
            deliver(request, self._waveforms(rows, voice, request), self._rate, 1, tokens, client)

    def _read(self, text: str) -> Any:
        """Return the tokens of a sentence, or ``None`` if the model supports none of its letters."""
        encoding = self._tokenizer(text, return_tensors="pt")
        blank = {self._tokenizer.pad_token_id, self._tokenizer.unk_token_id}
        ids = encoding["input_ids"]
        return encoding if ids.numel() and set(ids[0].tolist()) - blank else None

    def _waveforms(self, rows: list[Any], voice: int | None, request: SpeechRequest) -> Iterator[Any]:
        pause = np.zeros((1, int(SENTENCE_PAUSE_S * self._rate)), np.float32)
        if request.seed is not None:
            torch.manual_seed(request.seed)
        for number, row in enumerate(rows):
            if number:
                yield pause
            output = self._model(
                **row.to(self._placement.device),
                speaker_id=voice,
                speaking_rate=self._model.config.speaking_rate * request.speed,
            )
            yield output.waveform[0].float().cpu().numpy().reshape(1, -1)


# Generates music and other sounds from a description with MusicGen. Source: Copet et al. 2023, "Simple and
# Controllable Music Generation".


MAX_MUSIC_S = 30.0
"""Length, in seconds, for which MusicGen models were trained, and the default maximum of one call."""

DEFAULT_MUSIC_S = 10.0
"""Default length of generated music, in seconds."""

GUIDANCE_WEIGHT = 3.0
"""How closely the music follows the description; the authors' setting."""


class MusicTask:
    """The ``speech`` task of a model that generates music. ``input`` describes the music."""

    voices = ("default",)

    def __init__(self, folder: ModelFolder, settings: WorkerSettings) -> None:
        check_weights(folder.path)
        self._placement = choose_placement(settings, generates=False)
        self._tokenizer = AutoTokenizer.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False
        )
        self._model = load_model(
            MusicgenForConditionalGeneration, folder, self._placement, spare="embed_positions"
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
        """Generate music. Portico's own options: ``seconds``, ``guidance_scale``, ``temperature``."""
        request = SpeechRequest.of(body, self._name)
        request.among(self.voices)
        if request.speed != 1.0:
            raise Refusal(
                f"'{self._name}' generates music, which does not support 'speed'.",
                "unsupported_parameter",
                "speed",
            )
        seconds = _number(body, "seconds", DEFAULT_MUSIC_S, 0.1, self._longest)
        guidance = _number(body, "guidance_scale", GUIDANCE_WEIGHT, 1.0, 20.0)
        temperature = _number(body, "temperature", 1.0, 0.01, 2.0)
        with self._turns.turn(client.has_left), torch.inference_mode():
            read = self._tokenizer(request.text, return_tensors="pt").to(self._placement.device)
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
