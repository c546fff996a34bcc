"""Music and other sounds made of a description by MusicGen.

Source: Copet et al. 2023, "Simple and Controllable Music Generation".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    MusicgenForConditionalGeneration,
)

from .client import Client
from .embed import load
from .folder import Folder, check_weights
from .presence import while_there
from .refusal import Refusal
from .settings import Settings, place
from .turn import Turns
from .utter import Utterance, deliver

LONGEST = 30.0
"""Seconds for which these models were trained, and the most that one call makes unless a parameter says otherwise."""

USUAL = 10.0
"""Seconds that are made where the call does not say."""

GUIDANCE = 3.0
"""How closely the description is followed, as the authors set it."""


class Composer:
    """The task ``speech``, of a model that makes music: ``input`` describes it."""

    voices = ("default",)

    def __init__(self, folder: Folder, settings: Settings) -> None:
        check_weights(folder.path)
        self._where = place(settings, generates=False)
        self._tokenizer = AutoTokenizer.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False
        )
        self._model = load(MusicgenForConditionalGeneration, folder, self._where, spare="embed_positions")
        encoder = self._model.config.audio_encoder
        self._rate = int(encoder.sampling_rate)
        self._frames = float(encoder.frame_rate)
        self._channels = int(self._model.config.decoder.audio_channels)
        self._longest = settings.max_seconds or LONGEST
        self._name = settings.name
        self._turns = Turns(settings.queue)
        self.context_length = 0
        self.dimensions = 0
        self.parameters = self._model.num_parameters()
        self.sees = False

    def posts(self) -> dict[str, Any]:
        return {"/v1/audio/speech": self.play}

    def play(self, body: Mapping[str, Any], client: Client) -> None:
        """Options of our own: ``seconds``, ``guidance_scale``, ``temperature``."""
        said = Utterance.of(body, self._name)
        said.among(self.voices)
        if said.speed != 1.0:
            raise Refusal(
                f"'{self._name}' makes music, which has no 'speed'.", "unsupported_parameter", "speed"
            )
        seconds = _number(body, "seconds", USUAL, 0.1, self._longest)
        guidance = _number(body, "guidance_scale", GUIDANCE, 1.0, 20.0)
        temperature = _number(body, "temperature", 1.0, 0.01, 2.0)
        with self._turns.turn(client.gone), torch.inference_mode():
            read = self._tokenizer(said.text, return_tensors="pt").to(self._where.device)
            if said.seed is not None:
                torch.manual_seed(said.seed)
            made = self._model.generate(
                **read,
                do_sample=True,
                temperature=temperature,
                guidance_scale=guidance,
                max_new_tokens=max(4, round(seconds * self._frames)),
                stopping_criteria=while_there(client),
            )
            piece = made[0].float().cpu().numpy()
            deliver(said, [piece], self._rate, self._channels, read["input_ids"].shape[1], client)


def _number(body: Mapping[str, Any], name: str, usual: float, low: float, high: float) -> float:
    value = body.get(name)
    if value is None:
        return min(usual, high)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise Refusal(f"'{name}' must be a number from {low:g} to {high:g}.", param=name)
    return float(value)
