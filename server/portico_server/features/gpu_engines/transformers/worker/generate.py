"""Generates tokens from a model one after another, with OpenAI's options."""

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

# Constrains answers to a JSON schema: each step allows only tokens that can still lead to a valid answer.
# Source: https://github.com/guidance-ai/llguidance.


_COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""Settings that allow a single spelling of each value. If small models may write white space between values, they can
write white space endlessly.
"""


class Grammars:
    """A factory of constraints for one tokenizer; ``width`` is the number of scores that the model returns."""

    def __init__(self, tokenizer: Any, width: int) -> None:
        self._tokenizer = tokenizer
        self._width = width
        self._prepared: Any = None

    def constraint(self, schema: Mapping[str, Any]) -> Constraint:
        """Return a constraint for one answer. Raise `Refusal` for a schema that cannot be enforced."""
        if self._prepared is None:
            try:
                self._prepared = llguidance.hf.from_tokenizer(self._tokenizer, n_vocab=self._width)
            except ValueError as error:
                raise Refusal(
                    f"The tokenizer of this model cannot be constrained to a schema: {error}. Leave out "
                    "'response_format' and 'tools'.",
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
                f"The JSON schema cannot be enforced: {problem.splitlines()[0][:300]}",
                param="response_format",
            )
        return Constraint(matcher)


class Constraint:
    """The current position in a grammar. Call `allow` before a token is chosen and `follow` after it."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def allow(self, scores: Any) -> Any:
        """Return the scores [1, vocabulary] with all but the allowed tokens at minus infinity."""
        bits = numpy.frombuffer(self._matcher.compute_bitmask(), dtype=numpy.uint8)
        mask = torch.from_numpy(numpy.unpackbits(bits, bitorder="little")[: scores.shape[-1]].astype(bool))
        missing_count = scores.shape[-1] - len(mask)
        if missing_count:
            mask = torch.nn.functional.pad(mask, (0, missing_count), value=False)
        return scores.masked_fill(~mask.to(scores.device), float("-inf"))

    def follow(self, token: int) -> bool:
        """Advance by ``token``; return whether the answer is complete. Raise `Refusal` if the grammar is too large."""
        self._matcher.consume_token(token)
        if self._matcher.is_error():
            raise Refusal(
                "The JSON schema can no longer be enforced: "
                f"{self._matcher.get_error().splitlines()[0][:300]}",
                param="response_format",
                status=500,
            )
        return bool(self._matcher.is_stopped())


@dataclass(frozen=True, slots=True)
class GeneratedToken:
    """The output of one token.

    ``logprob`` is the token's entry in OpenAI's format; ``finish`` is ``stop`` or ``length`` at the end.
    """

    text: str
    logprob: Mapping[str, Any] | None = None
    finish: str | None = None


class TokenGenerator:
    """A loaded causal model with its tokenizer. Handles one call at a time."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._width = int(model.get_output_embeddings().weight.shape[0])
        self._grammars = Grammars(tokenizer, self._width)
        ends = model.generation_config.eos_token_id
        self.ends = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id} - {None}

    def constraint(self, options: GenerationOptions) -> Constraint | None:
        """Return the constraint that the options require. Raise `Refusal`."""
        return self._grammars.constraint(options.schema) if options.schema is not None else None

    def run(
        self,
        inputs: Mapping[str, Any],
        options: GenerationOptions,
        constraint: Constraint | None,
        limit: int,
        emit: Callable[[GeneratedToken], None],
    ) -> int:
        """Generate at most ``limit`` tokens and return their number. An exception in ``emit`` stops the generation."""
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
        """Return the text of tokens without special tokens."""
        text: str = self._tokenizer.decode(
            list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text


def _sampling(options: GenerationOptions) -> dict[str, Any]:
    """Return the arguments of transformers' ``generate``.

    Defaults come from the model; at temperature 0 the most likely token is chosen instead of sampling.
    """
    arguments: dict[str, Any] = {"do_sample": options.temperature != 0}
    if options.temperature:
        arguments["temperature"] = options.temperature
    for name in ("top_p", "min_p", "repetition_penalty"):
        if (value := getattr(options, name)) is not None:
            arguments[name] = value
    if options.top_p == 0:
        arguments["do_sample"] = False  # only the best token
    if options.top_k is not None:
        arguments["top_k"] = max(0, options.top_k)
    return arguments


class _Watch:
    """A hook that receives each step's scores before sampling, and then the chosen token."""

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
        self._token_counts: Counter[int] = Counter()
        self._logprobs: Any = None

    def score(self, input_ids: Any, scores: Any) -> Any:
        """Return the scores [1, vocabulary] with penalties and the grammar applied, before temperature and similar
        settings.
        """
        scores = self._penalised(scores)
        if self._options.top_logprobs is not None:
            self._logprobs = torch.log_softmax(scores[0].float(), dim=-1)
        return scores if self._constraint is None else self._constraint.allow(scores)

    def on_step(self, input_ids: Any, scores: Any, **_options: Any) -> Any:
        """Return whether the token that was chosen last ends the answer, as a tensor with a value for each row."""
        token = int(input_ids[0, -1])
        self.count += 1
        has_ended = self._take(token)
        return torch.full((input_ids.shape[0],), has_ended, dtype=torch.bool, device=input_ids.device)

    def _take(self, token: int) -> bool:
        if token in self._generator.ends:
            self._finish("stop", self._spelling.rest(), None)
            return True
        self._token_counts[token] += 1
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
        """Apply OpenAI's penalties: ``presence`` once, and ``frequency`` for each occurrence of a token."""
        presence, frequency = self._options.presence, self._options.frequency
        if not self._token_counts or not (presence or frequency):
            return scores
        tokens = torch.tensor(list(self._token_counts), device=scores.device)
        counts = torch.tensor(list(self._token_counts.values()), device=scores.device, dtype=scores.dtype)
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
