"""Speech to text with models of the Whisper family and with CTC encoders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoFeatureExtractor,
    AutoModelForCTC,
    AutoTokenizer,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)
from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

from .caller import Caller
from .embed import load_model
from .errors import Refusal, UnusableModel
from .folder import ModelFolder, check_weights
from .model_queue import ModelQueue
from .placement import WorkerSettings, choose_placement
from .presence import stop_when_caller_leaves
from .recording import MAX_RECORDING_S, read_samples, write_transcript
from .transcript import (
    TimedText,
    TranscriptRequest,
    WorkerTranscript,
)

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Temperatures to try one after another if the transcript of a window is repetitive or improbable."""

SPACELESS_LANGUAGES = frozenset({"zh", "ja", "th", "lo", "my", "yue", "km", "bo"})
"""Languages that do not separate words by spaces. In these languages, each character of the transcript counts as a
word.
"""


class WhisperTask:
    """The task ``transcription``."""

    def __init__(self, folder: ModelFolder, settings: WorkerSettings) -> None:
        check_weights(folder.path)
        self._placement = choose_placement(settings, generates=False)
        self._processor = WhisperProcessor.from_pretrained(folder.path, local_files_only=True)
        self._model = load_model(WhisperForConditionalGeneration, folder, self._placement, spare="proj_out")
        self._generation = self._model.generation_config
        if getattr(self._generation, "no_timestamps_token_id", None) is None:
            raise UnusableModel(
                f"The generation_config.json in {folder.path} lacks what Whisper needs for timestamps "
                "(no_timestamps_token_id). Copy that file from the original model, such as "
                "openai/whisper-small."
            )
        extractor = self._processor.feature_extractor
        self._rate = int(extractor.sampling_rate)
        self._window = int(extractor.n_samples)
        self._longest = settings.max_seconds or MAX_RECORDING_S
        self._name = settings.name
        self._turns = ModelQueue(settings.queue)
        self.context_length = int(self._model.config.max_target_positions)
        self.dimensions = 0
        self.parameters = self._model.num_parameters()
        self.sees = False

    def routes(self) -> dict[str, Any]:
        return {"/v1/audio/transcriptions": self.transcribe, "/v1/audio/translations": self.translate}

    def transcribe(self, body: Mapping[str, Any], client: Caller) -> Any:
        """Transcribe in the spoken language."""
        return self._write(body, client, TranscriptRequest.of(body))

    def translate(self, body: Mapping[str, Any], client: Caller) -> Any:
        """Transcribe into English, from any language."""
        if not self._multilingual:
            raise Refusal(
                f"'{self._name}' supports only English, so it cannot translate.",
                "unsupported_operation",
                "model",
            )
        return self._write(body, client, TranscriptRequest.of(body, translate=True))

    @property
    def _multilingual(self) -> bool:
        return bool(getattr(self._generation, "is_multilingual", False))

    def _write(self, body: Mapping[str, Any], client: Caller, request: TranscriptRequest) -> Any:
        language = self._code(request.language)
        if request.words and not getattr(self._generation, "alignment_heads", None):
            raise Refusal(
                f"The files of '{self._name}' do not specify which attention heads follow the sound "
                "(alignment_heads in generation_config.json), so the model cannot determine the times of "
                "words. Request 'segment'.",
                "unsupported_value",
                "timestamp_granularities",
            )
        samples = read_samples(body, self._rate, self._longest, client)
        with self._turns.turn(client.has_left), torch.inference_mode():
            if not language and self._multilingual:
                language = self._detect(samples)
            worker_transcript = WorkerTranscript(
                LANGUAGES.get(language or "en", language), len(samples) / self._rate
            )
            return write_transcript(
                worker_transcript,
                request,
                self._windows(samples, language, request, client, worker_transcript),
                client,
            )

    def _windows(
        self,
        samples: Any,
        language: str,
        request: TranscriptRequest,
        client: Caller,
        worker_transcript: WorkerTranscript,
    ) -> Iterator[list[TimedText]]:
        """Yield the segments of one window after another.

        Each window begins where the last sentence of the previous one ended, so that no sentence is cut.
        """
        options = self._options(language, request, client)
        at = 0
        while at < len(samples) and (at == 0 or len(samples) - at >= self._rate // 10):
            client.check()
            features = self._features(samples[at : at + self._window])
            answers = self._model.generate(**features, **options)["segments"][0]
            if request.form == "verbose_json":
                self._weigh(features, answers, language, request)
            offset = at / self._rate
            ends = min(self._window, len(samples) - at) / self._rate
            segments = [self._segment(answer, offset, offset + ends) for answer in answers]
            # Whisper can invent text after the end of the recording; this text has no duration.
            kept_segments = [
                (segment, answer)
                for segment, answer in zip(segments, answers, strict=True)
                if segment.end > segment.start
            ]
            if request.words:
                for _, window_segment in kept_segments:
                    worker_transcript.words += self._words(window_segment, offset, language)
            yield [segment for segment, _ in kept_segments]
            at += self._step(answers)

    def _step(self, answers: list[Any]) -> int:
        """Return how far the next window begins after the current window, in samples."""
        begin = self._generation.no_timestamps_token_id + 1
        last = answers[-1]["tokens"].tolist()[-2:] if answers else []
        # two timestamps at the end mean that the window cuts off the next sentence
        if len(last) == 2 and min(last) >= begin:
            segment = int(float(answers[-1]["end"]) * self._rate)
            if segment >= self._rate // 10:
                return min(segment, self._window)
        return self._window

    def _options(self, language: str, request: TranscriptRequest, client: Caller) -> dict[str, Any]:
        options: dict[str, Any] = {
            "return_timestamps": True,
            "return_segments": True,
            "force_unique_generate_call": True,
            "stopping_criteria": stop_when_caller_leaves(client),
        }
        if self._multilingual:
            options |= {"language": language, "task": "translate" if request.translate else "transcribe"}
        if request.temperature:
            options |= {"temperature": request.temperature, "do_sample": True}
        else:
            options |= {
                "temperature": TEMPERATURES,
                "compression_ratio_threshold": 2.4,
                "logprob_threshold": -1.0,
                "no_speech_threshold": 0.6,
            }
        if request.words:
            options["return_token_timestamps"] = True
        if request.prompt:
            prompt_ids = self._processor.get_prompt_ids(request.prompt, return_tensors="pt").to(
                self._placement.device
            )
            limit = self.context_length // 2 - 2
            options["prompt_ids"] = torch.cat([prompt_ids[:1], prompt_ids[1:][-limit:]])
        return options

    def _weigh(
        self, features: Mapping[str, Any], answers: list[Any], language: str, request: TranscriptRequest
    ) -> None:
        """Add to each segment of a window its mean log-probability, and the probability that nobody speaks.

        The model reads its output again, because the scores from `generate` depend on which attempt was chosen.
        """
        start = [int(self._model.config.decoder_start_token_id)]
        if self._multilingual:
            task = "translate" if request.translate else "transcribe"
            start += [self._generation.lang_to_id[f"<|{language}|>"], self._generation.task_to_id[task]]
        lengths = [len(entry["tokens"]) for entry in answers]
        token_ids = [int(token) for entry in answers for token in entry["tokens"]]
        token_ids = token_ids[: self.context_length - len(start)]
        read = torch.tensor([[*start, *token_ids]], device=self._placement.device)
        logits = self._model(**features, decoder_input_ids=read).logits[0].float().log_softmax(-1)
        silence = self._processor.tokenizer.convert_tokens_to_ids("<|nospeech|>")
        if silence is None or silence == self._processor.tokenizer.unk_token_id:
            silence = self._processor.tokenizer.convert_tokens_to_ids("<|nocaptions|>")
        quiet = float(logits[0, silence].exp()) if silence is not None else 0.0
        sure = logits[len(start) - 1 : -1].gather(1, read[0, len(start) :, None])[:, 0].tolist()
        at = 0
        for answer, length in zip(answers, lengths, strict=True):
            token_probabilities = sure[at : at + length]
            answer["avg_logprob"] = (
                sum(token_probabilities) / len(token_probabilities) if token_probabilities else 0.0
            )
            answer["no_speech_prob"] = quiet
            at += length

    def _features(self, samples: Any) -> dict[str, Any]:
        features = self._processor.feature_extractor(
            samples.astype(np.float32) / 32768.0,
            sampling_rate=self._rate,
            return_tensors="pt",
            return_attention_mask=True,
        )
        return {
            "input_features": features["input_features"].to(self._placement.device, self._model.dtype),
            "attention_mask": features["attention_mask"].to(self._placement.device),
        }

    def _detect(self, samples: Any) -> str:
        features = self._features(samples[: self._window])["input_features"]
        token = self._model.detect_language(features, num_segment_frames=features.shape[-1])[0]
        return str(self._processor.tokenizer.decode([int(token)])).strip("<|>")

    def _code(self, language: str) -> str:
        """Return the code of a language from its code or English name. Raise `Refusal`."""
        if not language:
            return ""
        code = str(TO_LANGUAGE_CODE.get(language, language.partition("-")[0]))
        language_ids = getattr(self._generation, "lang_to_id", None) or {}
        if not self._multilingual and code != "en":
            raise Refusal(f"'{self._name}' supports only English.", "unsupported_value", "language")
        if self._multilingual and f"<|{code}|>" not in language_ids:
            raise Refusal(
                f"'{self._name}' does not support the language '{language}'; use an ISO 639-1 code, such as "
                "en, de or zh.",
                "unsupported_value",
                "language",
            )
        return code

    def _segment(self, segment: Mapping[str, Any], offset: float, ends: float) -> TimedText:
        begin = self._generation.no_timestamps_token_id + 1
        tokens = [int(token) for token in segment["tokens"] if int(token) < begin]
        text = self._processor.tokenizer.decode(tokens, skip_special_tokens=True)
        start = min(float(segment["start"]) + offset, ends)
        return TimedText(
            start,
            max(start, min(float(segment["end"]) + offset, ends)),
            text,
            tuple(tokens),
            segment.get("avg_logprob", 0.0),
            segment.get("no_speech_prob", 0.0),
        )

    def _words(self, segment: Mapping[str, Any], offset: float, language: str) -> list[TimedText]:
        """Combine tokens into words, with the times at which each word was spoken."""
        tokenizer = self._processor.tokenizer
        special = min(tokenizer.all_special_ids, default=1 << 30)
        times = [float(time) + offset for time in segment["token_timestamps"]]
        words: list[TimedText] = []
        pending: list[int] = []
        start = times[0] if times else offset
        for index, token in enumerate(int(token) for token in segment["tokens"]):
            if token >= special:
                continue
            if not pending:
                start = times[max(index - 1, 0)]
            pending.append(token)
            text = tokenizer.decode(pending)
            if "\ufffd" in text:
                continue  # the token is only a part of a character
            pending = []
            starts_word = not words or text.startswith(" ") or language in SPACELESS_LANGUAGES
            if starts_word and text.strip(" .,!?;:…。，！？、；：'\")]}"):
                words.append(TimedText(start, times[index], text.strip()))
            elif words:
                last = words[-1]
                words[-1] = TimedText(last.start, max(last.end, times[index]), last.text + text.strip())
        return words


# Transcribes speech with an encoder that predicts a letter for each moment (CTC): Wav2Vec 2.0, HuBERT, WavLM.
# Source: Graves et al. 2006, "Connectionist Temporal Classification".


WINDOW_S = 20.0
"""Maximum seconds of one window. A window is cut at the quietest point in its last quarter."""

LOUDNESS_WINDOW_S = 0.1
"""Seconds over which loudness is measured to find the quietest point."""


class CtcTask:
    """The ``transcription`` task of a model that supports one language and no translation."""

    def __init__(self, folder: ModelFolder, settings: WorkerSettings) -> None:
        check_weights(folder.path)
        self._placement = choose_placement(settings, generates=False)
        self._extractor = AutoFeatureExtractor.from_pretrained(folder.path, local_files_only=True)
        self._tokenizer = AutoTokenizer.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False
        )
        self._model = load_model(AutoModelForCTC, folder, self._placement, spare="masked_spec_embed")
        self._rate = int(self._extractor.sampling_rate)
        self._longest = settings.max_seconds or MAX_RECORDING_S
        self._name = settings.name
        self._turns = ModelQueue(settings.queue)
        self.context_length = 0
        self.dimensions = 0
        self.parameters = self._model.num_parameters()
        self.sees = False

    def routes(self) -> dict[str, Any]:
        return {"/v1/audio/transcriptions": self.transcribe}

    def transcribe(self, body: Mapping[str, Any], client: Caller) -> Any:
        """Transcribe letter by letter, without ``prompt`` and ``temperature``."""
        request = TranscriptRequest.of(body)
        if request.prompt:
            raise Refusal(f"'{self._name}' does not support a prompt.", "unsupported_parameter", "prompt")
        samples = read_samples(body, self._rate, self._longest, client)
        with self._turns.turn(client.has_left), torch.inference_mode():
            worker_transcript = WorkerTranscript(request.language, len(samples) / self._rate)
            return write_transcript(
                worker_transcript, request, self._windows(samples, client, worker_transcript), client
            )

    def _windows(
        self, samples: Any, client: Caller, worker_transcript: WorkerTranscript
    ) -> Iterator[list[TimedText]]:
        at = 0
        while at < len(samples):
            client.check()
            cut = self._cut(samples, at)
            words, sure, quiet = self._words(samples[at:cut], at / self._rate)
            worker_transcript.words += words
            if words:
                text = " ".join(word.text for word in words)
                spaced_text = f" {text}" if worker_transcript.segments else text
                yield [
                    TimedText(
                        words[0].start, words[-1].end, spaced_text, avg_logprob=sure, no_speech_prob=quiet
                    )
                ]
            at = cut

    def _cut(self, samples: Any, at: int) -> int:
        """Return the end of the window that begins at ``at``."""
        size = int(WINDOW_S * self._rate)
        if len(samples) - at <= size:
            return len(samples)
        block = int(LOUDNESS_WINDOW_S * self._rate)
        first = at + size * 3 // 4
        tail = np.abs(samples[first : at + size].astype(np.int32))
        blocks = tail[: len(tail) // block * block].reshape(-1, block).mean(1)
        return first + int(blocks.argmin()) * block + block // 2

    def _words(self, samples: Any, offset: float) -> tuple[list[TimedText], float, float]:
        """Return the words of a window, the model's confidence in its letters, and the share of moments without a
        letter.
        """
        minimum = 400  # minimum number of samples for the first layers of these models
        segments = np.pad(samples.astype(np.float32) / 32768.0, (0, max(0, minimum - len(samples))))
        inputs = self._extractor(segments, sampling_rate=self._rate, return_tensors="pt")
        values = {name: value.to(self._placement.device, self._model.dtype) for name, value in inputs.items()}
        logits = self._model(
            values["input_values"] if "input_values" in values else values["input_features"]
        ).logits
        certainties, letters = logits[0].float().log_softmax(-1).max(-1)
        spoken_mask = letters != self._tokenizer.pad_token_id
        sure = float(certainties[spoken_mask].mean()) if bool(spoken_mask.any()) else 0.0
        quiet = 1.0 - float(spoken_mask.float().mean())
        decoded_text = self._tokenizer.decode(letters, output_word_offsets=True)
        step = len(segments) / self._rate / max(1, len(letters))
        words = [
            TimedText(
                offset + float(word_offset["start_offset"]) * step,
                offset + float(word_offset["end_offset"]) * step,
                word_offset["word"],
            )
            for word_offset in decoded_text.word_offsets
            if word_offset["word"].strip()
        ]
        return words, sure, quiet
