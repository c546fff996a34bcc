"""Speech written down by a model of the Whisper family, in windows of half a minute.

Source: Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision", section 3.8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from transformers import (
    WhisperForConditionalGeneration,
    WhisperProcessor,
)
from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

from . import recording
from .client import Client
from .embed import load
from .folder import Folder, check_weights
from .presence import while_there
from .refusal import Refusal, Unfit
from .settings import Settings, place
from .transcript import Stretch, Transcript, Wish
from .turn import Turns

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Tried one after another where a window comes out as a repetition or as improbable."""

SPACELESS = frozenset({"zh", "ja", "th", "lo", "my", "yue", "km", "bo"})
"""Languages whose words are not set apart by spaces: each character that a model writes counts as one."""


class Whisper:
    """The task ``transcription``."""

    def __init__(self, folder: Folder, settings: Settings) -> None:
        check_weights(folder.path)
        self._where = place(settings, generates=False)
        self._processor = WhisperProcessor.from_pretrained(folder.path, local_files_only=True)
        self._model = load(WhisperForConditionalGeneration, folder, self._where, spare="proj_out")
        self._generation = self._model.generation_config
        if getattr(self._generation, "no_timestamps_token_id", None) is None:
            raise Unfit(
                f"The generation_config.json in {folder.path} does not have what Whisper needs to tell times "
                "(no_timestamps_token_id). Take that file from the model it was made of, such as openai/whisper-small."
            )
        extractor = self._processor.feature_extractor
        self._rate = int(extractor.sampling_rate)
        self._window = int(extractor.n_samples)
        self._longest = settings.max_seconds or recording.LONGEST
        self._name = settings.name
        self._turns = Turns(settings.queue)
        self.context_length = int(self._model.config.max_target_positions)
        self.dimensions = 0
        self.parameters = self._model.num_parameters()
        self.sees = False

    def posts(self) -> dict[str, Any]:
        return {"/v1/audio/transcriptions": self.transcribe, "/v1/audio/translations": self.translate}

    def transcribe(self, body: Mapping[str, Any], client: Client) -> Any:
        """In the language that is spoken."""
        return self._write(body, client, Wish.of(body))

    def translate(self, body: Mapping[str, Any], client: Client) -> Any:
        """In English, whatever is spoken."""
        if not self._multilingual:
            raise Refusal(
                f"'{self._name}' knows English alone, so it cannot translate.",
                "unsupported_operation",
                "model",
            )
        return self._write(body, client, Wish.of(body, translate=True))

    @property
    def _multilingual(self) -> bool:
        return bool(getattr(self._generation, "is_multilingual", False))

    def _write(self, body: Mapping[str, Any], client: Client, wish: Wish) -> Any:
        language = self._code(wish.language)
        if wish.words and not getattr(self._generation, "alignment_heads", None):
            raise Refusal(
                f"The files of '{self._name}' do not say which of its parts follow the sound (alignment_heads in "
                "generation_config.json), so it cannot tell when each word was said. Ask for 'segment'.",
                "unsupported_value",
                "timestamp_granularities",
            )
        samples = recording.samples(body, self._rate, self._longest, client)
        with self._turns.turn(client.gone), torch.inference_mode():
            if not language and self._multilingual:
                language = self._detect(samples)
            found = Transcript(LANGUAGES.get(language or "en", language), len(samples) / self._rate)
            return recording.answer(
                found, wish, self._windows(samples, language, wish, client, found), client
            )

    def _windows(
        self, samples: Any, language: str, wish: Wish, client: Client, found: Transcript
    ) -> Iterator[list[Stretch]]:
        """The segments of one window after another. The next begins where the last sentence of one ended, so that none
        is cut.
        """
        options = self._options(language, wish, client)
        at = 0
        while at < len(samples) and (at == 0 or len(samples) - at >= self._rate // 10):
            client.check()
            features = self._features(samples[at : at + self._window])
            answered = self._model.generate(**features, **options)["segments"][0]
            offset = at / self._rate
            ends = min(self._window, len(samples) - at) / self._rate
            heard = [self._segment(one, offset, offset + ends) for one in answered]
            # What is made up behind the end of the recording lasts no time.
            kept = [(said, one) for said, one in zip(heard, answered, strict=True) if said.end > said.start]
            if wish.words:
                for _, one in kept:
                    found.words += self._words(one, offset, language)
            yield [said for said, _ in kept]
            at += self._step(answered)

    def _step(self, answered: list[Any]) -> int:
        """How far the next window begins behind this one, in samples."""
        begin = self._generation.no_timestamps_token_id + 1
        last = answered[-1]["tokens"].tolist()[-2:] if answered else []
        if len(last) == 2 and min(last) >= begin:  # two times in a row: something was cut off behind them
            said = int(float(answered[-1]["end"]) * self._rate)
            if said >= self._rate // 10:
                return min(said, self._window)
        return self._window

    def _options(self, language: str, wish: Wish, client: Client) -> dict[str, Any]:
        options: dict[str, Any] = {
            "return_timestamps": True,
            "return_segments": True,
            "force_unique_generate_call": True,
            "stopping_criteria": while_there(client),
        }
        if self._multilingual:
            options |= {"language": language, "task": "translate" if wish.translate else "transcribe"}
        if wish.temperature:
            options |= {"temperature": wish.temperature, "do_sample": True}
        else:
            options |= {
                "temperature": TEMPERATURES,
                "compression_ratio_threshold": 2.4,
                "logprob_threshold": -1.0,
                "no_speech_threshold": 0.6,
            }
        if wish.words:
            options["return_token_timestamps"] = True
        if wish.prompt:
            told = self._processor.get_prompt_ids(wish.prompt, return_tensors="pt").to(self._where.device)
            most = self.context_length // 2 - 2
            options["prompt_ids"] = torch.cat([told[:1], told[1:][-most:]])
        return options

    def _features(self, samples: Any) -> dict[str, Any]:
        made = self._processor.feature_extractor(
            samples.astype(np.float32) / 32768.0,
            sampling_rate=self._rate,
            return_tensors="pt",
            return_attention_mask=True,
        )
        return {
            "input_features": made["input_features"].to(self._where.device, self._model.dtype),
            "attention_mask": made["attention_mask"].to(self._where.device),
        }

    def _detect(self, samples: Any) -> str:
        features = self._features(samples[: self._window])["input_features"]
        token = self._model.detect_language(features, num_segment_frames=features.shape[-1])[0]
        return str(self._processor.tokenizer.decode([int(token)])).strip("<|>")

    def _code(self, language: str) -> str:
        """The code of a language given by code or by English name. Raises `Refusal`."""
        if not language:
            return ""
        code = str(TO_LANGUAGE_CODE.get(language, language.partition("-")[0]))
        known = getattr(self._generation, "lang_to_id", None) or {}
        if not self._multilingual and code != "en":
            raise Refusal(f"'{self._name}' knows English alone.", "unsupported_value", "language")
        if self._multilingual and f"<|{code}|>" not in known:
            raise Refusal(
                f"'{self._name}' does not know the language '{language}'; languages are told as ISO 639-1, such as en, "
                "de or zh.",
                "unsupported_value",
                "language",
            )
        return code

    def _segment(self, one: Mapping[str, Any], offset: float, ends: float) -> Stretch:
        begin = self._generation.no_timestamps_token_id + 1
        tokens = [int(token) for token in one["tokens"] if int(token) < begin]
        text = self._processor.tokenizer.decode(tokens, skip_special_tokens=True)
        start = min(float(one["start"]) + offset, ends)
        return Stretch(start, max(start, min(float(one["end"]) + offset, ends)), text, tuple(tokens))

    def _words(self, one: Mapping[str, Any], offset: float, language: str) -> list[Stretch]:
        """Tokens put together to words, with the times at which each was said."""
        tokenizer = self._processor.tokenizer
        special = min(tokenizer.all_special_ids, default=1 << 30)
        times = [float(time) + offset for time in one["token_timestamps"]]
        words: list[Stretch] = []
        pending: list[int] = []
        start = times[0] if times else offset
        for index, token in enumerate(int(token) for token in one["tokens"]):
            if token >= special:
                continue
            if not pending:
                start = times[max(index - 1, 0)]
            pending.append(token)
            text = tokenizer.decode(pending)
            if "\ufffd" in text:
                continue  # a character in several tokens
            pending = []
            alone = not words or text.startswith(" ") or language in SPACELESS
            if alone and text.strip(" .,!?;:…。，！？、；：'\")]}"):
                words.append(Stretch(start, times[index], text.strip()))
            elif words:
                last = words[-1]
                words[-1] = Stretch(last.start, max(last.end, times[index]), last.text + text.strip())
        return words
