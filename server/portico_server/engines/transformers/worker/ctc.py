"""Speech written down by an encoder that names a letter for each moment (CTC): Wav2Vec 2.0, HuBERT, WavLM.

Source: Graves et al. 2006, "Connectionist Temporal Classification".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer

from . import recording
from .client import Client
from .embed import load
from .folder import Folder, check_weights
from .refusal import Refusal
from .settings import Settings, place
from .transcript import Stretch, Transcript, Wish
from .turn import Turns

WINDOW = 20.0
"""Seconds that are computed at once; cut where it is quietest in the last quarter."""

QUIET = 0.1
"""Seconds over which loudness is measured for that."""


class Ctc:
    """The task ``transcription``, of a model that knows one language and no translation."""

    def __init__(self, folder: Folder, settings: Settings) -> None:
        check_weights(folder.path)
        self._where = place(settings, generates=False)
        self._extractor = AutoFeatureExtractor.from_pretrained(folder.path, local_files_only=True)
        self._tokenizer = AutoTokenizer.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False
        )
        self._model = load(AutoModelForCTC, folder, self._where, spare="masked_spec_embed")
        self._rate = int(self._extractor.sampling_rate)
        self._longest = settings.max_seconds or recording.LONGEST
        self._name = settings.name
        self._turns = Turns(settings.queue)
        self.context_length = 0
        self.dimensions = 0
        self.parameters = self._model.num_parameters()
        self.sees = False

    def posts(self) -> dict[str, Any]:
        return {"/v1/audio/transcriptions": self.transcribe}

    def transcribe(self, body: Mapping[str, Any], client: Client) -> Any:
        """Letter by letter; ``prompt`` and ``temperature`` mean nothing to it."""
        wish = Wish.of(body)
        if wish.prompt:
            raise Refusal(f"'{self._name}' takes no prompt.", "unsupported_parameter", "prompt")
        samples = recording.samples(body, self._rate, self._longest, client)
        with self._turns.turn(client.gone), torch.inference_mode():
            found = Transcript(wish.language, len(samples) / self._rate)
            return recording.answer(found, wish, self._windows(samples, client, found), client)

    def _windows(self, samples: Any, client: Client, found: Transcript) -> Iterator[list[Stretch]]:
        at = 0
        while at < len(samples):
            client.check()
            cut = self._cut(samples, at)
            words = self._words(samples[at:cut], at / self._rate)
            found.words += words
            if words:
                text = " ".join(word.text for word in words)
                yield [Stretch(words[0].start, words[-1].end, f" {text}" if found.segments else text)]
            at = cut

    def _cut(self, samples: Any, at: int) -> int:
        """Where a window that begins at ``at`` ends."""
        size = int(WINDOW * self._rate)
        if len(samples) - at <= size:
            return len(samples)
        block = int(QUIET * self._rate)
        first = at + size * 3 // 4
        tail = np.abs(samples[first : at + size].astype(np.int32))
        blocks = tail[: len(tail) // block * block].reshape(-1, block).mean(1)
        return first + int(blocks.argmin()) * block + block // 2

    def _words(self, samples: Any, offset: float) -> list[Stretch]:
        least = 400  # samples that the first layers of these models need
        heard = np.pad(samples.astype(np.float32) / 32768.0, (0, max(0, least - len(samples))))
        inputs = self._extractor(heard, sampling_rate=self._rate, return_tensors="pt")
        values = {name: value.to(self._where.device, self._model.dtype) for name, value in inputs.items()}
        logits = self._model(
            values["input_values"] if "input_values" in values else values["input_features"]
        ).logits
        letters = logits.argmax(-1)[0]
        decoded = self._tokenizer.decode(letters, output_word_offsets=True)
        step = len(heard) / self._rate / max(1, len(letters))
        return [
            Stretch(
                offset + float(one["start_offset"]) * step,
                offset + float(one["end_offset"]) * step,
                one["word"],
            )
            for one in decoded.word_offsets
            if one["word"].strip()
        ]
