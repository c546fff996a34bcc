"""Texts said aloud by a VITS model, such as those of MMS for a thousand languages.

Source: Kim et al. 2021, "Conditional Variational Autoencoder with Adversarial Learning for End-to-End Text-to-Speech".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, VitsModel

from .client import Client
from .embed import load
from .folder import Folder, check_weights
from .refusal import Refusal, Unfit
from .settings import Settings, place
from .turn import Turns
from .utter import Utterance, deliver, sentences

PAUSE = 0.15
"""Seconds between two sentences."""


class Speaker:
    """The task ``speech``."""

    def __init__(self, folder: Folder, settings: Settings) -> None:
        check_weights(folder.path)
        self._where = place(settings, generates=False)
        self._tokenizer = AutoTokenizer.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False
        )
        if getattr(self._tokenizer, "phonemize", False):
            raise Unfit(
                f"The model in {folder.path} reads phonemes that the program espeak makes of a text, which this engine "
                "does not have. Use one that reads letters, such as facebook/mms-tts-eng."
            )
        self._model = load(VitsModel, folder, self._where)
        self._rate = int(self._model.config.sampling_rate)
        self._name = settings.name
        self._turns = Turns(settings.queue)
        count = int(self._model.config.num_speakers)
        self.voices = tuple(str(number) for number in range(count)) if count > 1 else ("default",)
        self.context_length = 0
        self.dimensions = 0
        self.parameters = self._model.num_parameters()
        self.sees = False

    def posts(self) -> dict[str, Any]:
        return {"/v1/audio/speech": self.speak}

    def speak(self, body: Mapping[str, Any], client: Client) -> None:
        """Sentence by sentence, each sent as soon as it is there."""
        said = Utterance.of(body, self._name)
        chosen = said.among(self.voices)
        voice = chosen if len(self.voices) > 1 else None
        with self._turns.turn(client.gone), torch.inference_mode():
            rows = [row for part in sentences(said.text) if (row := self._read(part)) is not None]
            if not rows:
                raise Refusal(
                    f"'{self._name}' knows none of the letters of this text: it was made for another language.",
                    "unsupported_value",
                    "input",
                )
            tokens = sum(row["input_ids"].shape[1] for row in rows)
            deliver(said, self._said(rows, voice, said), self._rate, 1, tokens, client)

    def _read(self, text: str) -> Any:
        """The tokens of a sentence, ``None`` where it has no letter that the model knows."""
        found = self._tokenizer(text, return_tensors="pt")
        blank = {self._tokenizer.pad_token_id, self._tokenizer.unk_token_id}
        ids = found["input_ids"]
        return found if ids.numel() and set(ids[0].tolist()) - blank else None

    def _said(self, rows: list[Any], voice: int | None, said: Utterance) -> Iterator[Any]:
        pause = np.zeros((1, int(PAUSE * self._rate)), np.float32)
        if said.seed is not None:
            torch.manual_seed(said.seed)
        for number, row in enumerate(rows):
            if number:
                yield pause
            made = self._model(
                **row.to(self._where.device),
                speaker_id=voice,
                speaking_rate=self._model.config.speaking_rate * said.speed,
            )
            yield made.waveform[0].float().cpu().numpy().reshape(1, -1)
