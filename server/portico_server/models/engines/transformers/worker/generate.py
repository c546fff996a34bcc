"""Tokens from a model, one after the other, with what OpenAI lets a caller wish for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import llguidance
import llguidance.hf
import numpy
import torch

from .errors import Refusal
from .options import GenerationOptions
from .streamed_text import StopFilter, TextAssembler

# An answer that fits a JSON schema: at each step only tokens that can still lead to one are allowed.
#
# Source: https://github.com/guidance-ai/llguidance.


_COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""One way to write each value: a small model that may put white space between things may do nothing else."""


class Grammars:
    """Makes constraints for one tokenizer; ``width`` is how many scores the model gives."""

    def __init__(self, tokenizer: Any, width: int) -> None:
        self._tokenizer = tokenizer
        self._width = width
        self._prepared: Any = None

    def constraint(self, schema: Mapping[str, Any]) -> Constraint:
        """A constraint for one answer. Raises `Refusal` for a schema that cannot be kept to."""
        if self._prepared is None:
            try:
                self._prepared = llguidance.hf.from_tokenizer(self._tokenizer, n_vocab=self._width)
            except ValueError as error:
                raise Refusal(
                    f"The tokenizer of this model cannot be held to a schema: {error}. Ask without 'response_format' "
                    "and 'tools'.",
                    "unsupported_value",
                    "response_format",
                ) from error
        try:
            grammar = llguidance.LLMatcher.grammar_from_json_schema(dict(schema), defaults=_COMPACT)
            matcher = llguidance.LLMatcher(self._prepared, grammar)
            problem = matcher.get_error()
        except ValueError as error:
            problem = str(error)
        if problem:
            raise Refusal(
                f"The JSON schema cannot be kept to: {problem.splitlines()[0][:300]}", param="response_format"
            )
        return Constraint(matcher)


class Constraint:
    """The way through one grammar. `allow` before a token is chosen, `follow` after it."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def allow(self, scores: Any) -> Any:
        """The scores [1, vocabulary] with all but the allowed tokens at minus infinity."""
        bits = numpy.frombuffer(self._matcher.compute_bitmask(), dtype=numpy.uint8)
        mask = torch.from_numpy(numpy.unpackbits(bits, bitorder="little")[: scores.shape[-1]].astype(bool))
        missing_count = scores.shape[-1] - len(mask)
        if missing_count:
            mask = torch.nn.functional.pad(mask, (0, missing_count), value=False)
        return scores.masked_fill(~mask.to(scores.device), float("-inf"))

    def follow(self, token: int) -> bool:
        """Go on with ``token``; whether the answer is complete. Raises `Refusal` if the grammar is too large."""
        self._matcher.consume_token(token)
        if self._matcher.is_error():
            raise Refusal(
                f"The JSON schema cannot be kept to any further: {self._matcher.get_error().splitlines()[0][:300]}",
                param="response_format",
                status=500,
            )
        return bool(self._matcher.is_stopped())


@dataclass(frozen=True, slots=True)
class GeneratedToken:
    """What one token added; ``logprob`` is OpenAI's entry for it, ``finish`` is ``stop`` or ``length`` at the end."""

    text: str
    logprob: Mapping[str, Any] | None = None
    finish: str | None = None


class TokenGenerator:
    """A loaded causal model with its tokenizer. One call at a time."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._width = int(model.get_output_embeddings().weight.shape[0])
        self._grammars = Grammars(tokenizer, self._width)
        ends = model.generation_config.eos_token_id
        self.ends = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id} - {None}

    def constraint(self, options: GenerationOptions) -> Constraint | None:
        """The constraint that the options ask for. Raises `Refusal`."""
        return self._grammars.constraint(options.schema) if options.schema is not None else None

    def run(
        self,
        inputs: Mapping[str, Any],
        options: GenerationOptions,
        constraint: Constraint | None,
        limit: int,
        emit: Callable[[GeneratedToken], None],
    ) -> int:
        """Generate at most ``limit`` tokens; how many it were. What ``say`` raises ends it."""
        watch = _Watch(self, options, constraint, limit, emit)
        if options.seed is None:
            torch.seed()
        else:
            torch.manual_seed(options.seed % 2**63)
        with torch.inference_mode():
            self._model.generate(
                **inputs,
                **_sampling(options),
                max_new_tokens=limit,
                logits_processor=[watch.score],
                stopping_criteria=[watch.on_step],
                pad_token_id=next(iter(self.ends), 0),
            )
        return watch.count

    def spell(self, tokens: Any) -> str:
        """Text of tokens; of special ones, none."""
        text: str = self._tokenizer.decode(
            list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text


def _sampling(options: GenerationOptions) -> dict[str, Any]:
    """Arguments of transformers' ``generate``. Defaults are the model's own; at temperature 0 nothing is sampled."""
    arguments: dict[str, Any] = {"do_sample": options.temperature != 0}
    if options.temperature:
        arguments["temperature"] = options.temperature
    for name in ("top_p", "min_p", "repetition_penalty"):
        if (value := getattr(options, name)) is not None:
            arguments[name] = value
    if options.top_p == 0:
        arguments["do_sample"] = False  # only the best
    if options.top_k is not None:
        arguments["top_k"] = max(0, options.top_k)
    return arguments


class _Watch:
    """Sees the scores of each step before sampling, and the token after it."""

    def __init__(
        self,
        generator: TokenGenerator,
        options: GenerationOptions,
        constraint: Constraint | None,
        limit: int,
        emit: Callable[[GeneratedToken], None],
    ) -> None:
        self.count = 0
        self._generator = generator
        self._options = options
        self._constraint = constraint
        self._limit = limit
        self._emit = emit
        self._spelling = TextAssembler(generator.spell)
        self._stops = StopFilter(options.stop)
        self._used: Counter[int] = Counter()
        self._logprobs: Any = None

    def score(self, input_ids: Any, scores: Any) -> Any:
        """Scores [1, vocabulary] before temperature and the like."""
        scores = self._penalised(scores)
        if self._options.top_logprobs is not None:
            self._logprobs = torch.log_softmax(scores[0].float(), dim=-1)
        return scores if self._constraint is None else self._constraint.allow(scores)

    def on_step(self, input_ids: Any, scores: Any, **_options: Any) -> Any:
        """Whether the token that was just chosen is the last."""
        token = int(input_ids[0, -1])
        self.count += 1
        has_ended = self._take(token)
        return torch.full((input_ids.shape[0],), has_ended, dtype=torch.bool, device=input_ids.device)

    def _take(self, token: int) -> bool:
        if token in self._generator.ends:
            self._finish("stop", self._spelling.rest(), None)
            return True
        self._used[token] += 1
        text = self._spelling.feed(token)
        complete = self._constraint is not None and self._constraint.follow(token)
        last = complete or self.count >= self._limit
        if last:
            text += self._spelling.rest()
        entry = self._entry(token, text)
        shown_text, has_stopped = self._stops.feed(text)
        if has_stopped or last:
            remainder = "" if has_stopped else self._stops.rest()
            self._finish(
                "stop" if has_stopped or complete else "length", shown_text + remainder, entry, is_held=False
            )
            return True
        if shown_text or entry is not None:
            self._emit(GeneratedToken(shown_text, entry))
        return False

    def _finish(
        self, reason: str, text: str, entry: Mapping[str, Any] | None, *, is_held: bool = True
    ) -> None:
        if is_held:
            shown_text, has_stopped = self._stops.feed(text)
            text = shown_text if has_stopped else shown_text + self._stops.rest()
        self._emit(GeneratedToken(text, entry, reason))

    def _penalised(self, scores: Any) -> Any:
        """OpenAI's penalties: ``presence`` once and ``frequency`` for each time a token has been said."""
        presence, frequency = self._options.presence, self._options.frequency
        if not self._used or not (presence or frequency):
            return scores
        tokens = torch.tensor(list(self._used), device=scores.device)
        counts = torch.tensor(list(self._used.values()), device=scores.device, dtype=scores.dtype)
        return scores.index_add(1, tokens, -(presence + frequency * counts)[None])

    def _entry(self, token: int, text: str) -> dict[str, Any] | None:
        top = self._options.top_logprobs
        if top is None:
            return None
        best = torch.topk(self._logprobs, top) if top else None
        alternatives = (
            zip(best.values.tolist(), best.indices.tolist(), strict=True) if best is not None else ()
        )
        return {
            **_entry(text, float(self._logprobs[token])),
            "top_logprobs": [
                _entry(self._generator.spell([token_id]), value) for value, token_id in alternatives
            ],
        }


def _entry(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": max(logprob, -9999.0), "bytes": list(text.encode("utf-8", "replace"))}
