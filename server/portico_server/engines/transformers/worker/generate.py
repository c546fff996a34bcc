"""Tokens from a model, one after the other, with what OpenAI lets a caller wish for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from .constraint import Constraint, Grammars
from .options import Options
from .text import Spelling, Stops


@dataclass(frozen=True, slots=True)
class Step:
    """What one token added; ``logprob`` is OpenAI's entry for it, ``finish`` is ``stop`` or ``length`` at the end."""

    text: str
    logprob: Mapping[str, Any] | None = None
    finish: str | None = None


class Generator:
    """A loaded causal model with its tokenizer. One call at a time."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._width = int(model.get_output_embeddings().weight.shape[0])
        self._grammars = Grammars(tokenizer, self._width)
        ends = model.generation_config.eos_token_id
        self.ends = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id} - {None}

    def constraint(self, options: Options) -> Constraint | None:
        """The constraint that the options ask for. Raises `Refusal`."""
        return self._grammars.constraint(options.schema) if options.schema is not None else None

    def run(
        self,
        inputs: Mapping[str, Any],
        options: Options,
        constraint: Constraint | None,
        limit: int,
        say: Callable[[Step], None],
    ) -> int:
        """Generate at most ``limit`` tokens; how many it were. What ``say`` raises ends it."""
        watch = _Watch(self, options, constraint, limit, say)
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
                stopping_criteria=[watch.look],
                pad_token_id=next(iter(self.ends), 0),
            )
        return watch.count

    def spell(self, tokens: Any) -> str:
        """Text of tokens; of special ones, none."""
        text: str = self._tokenizer.decode(
            list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text


def _sampling(options: Options) -> dict[str, Any]:
    """What transformers is told. Without a wish the model's own settings hold; it samples unless it is told not to."""
    wished: dict[str, Any] = {"do_sample": options.temperature != 0}
    if options.temperature:
        wished["temperature"] = options.temperature
    for name in ("top_p", "min_p", "repetition_penalty"):
        if (value := getattr(options, name)) is not None:
            wished[name] = value
    if options.top_p == 0:
        wished["do_sample"] = False  # nothing but the best
    if options.top_k is not None:
        wished["top_k"] = max(0, options.top_k)
    return wished


class _Watch:
    """Sees the scores of each step before sampling, and the token after it."""

    def __init__(
        self,
        generator: Generator,
        options: Options,
        constraint: Constraint | None,
        limit: int,
        say: Callable[[Step], None],
    ) -> None:
        self.count = 0
        self._generator = generator
        self._options = options
        self._constraint = constraint
        self._limit = limit
        self._say = say
        self._spelling = Spelling(generator.spell)
        self._stops = Stops(options.stop)
        self._used: Counter[int] = Counter()
        self._logprobs: Any = None

    def score(self, input_ids: Any, scores: Any) -> Any:
        """Scores [1, vocabulary] before temperature and the like."""
        scores = self._penalised(scores)
        if self._options.top_logprobs is not None:
            self._logprobs = torch.log_softmax(scores[0].float(), dim=-1)
        return scores if self._constraint is None else self._constraint.allow(scores)

    def look(self, input_ids: Any, scores: Any, **_more: Any) -> Any:
        """Whether the token that was just chosen is the last."""
        token = int(input_ids[0, -1])
        self.count += 1
        ended = self._take(token)
        return torch.full((input_ids.shape[0],), ended, dtype=torch.bool, device=input_ids.device)

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
        said, stopped = self._stops.feed(text)
        if stopped or last:
            rest = "" if stopped else self._stops.rest()
            self._finish("stop" if stopped or complete else "length", said + rest, entry, held=False)
            return True
        if said or entry is not None:
            self._say(Step(said, entry))
        return False

    def _finish(self, reason: str, text: str, entry: Mapping[str, Any] | None, *, held: bool = True) -> None:
        if held:
            said, stopped = self._stops.feed(text)
            text = said if stopped else said + self._stops.rest()
        self._say(Step(text, entry, reason))

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
        others = zip(best.values.tolist(), best.indices.tolist(), strict=True) if best is not None else ()
        return {
            **_entry(text, float(self._logprobs[token])),
            "top_logprobs": [_entry(self._generator.spell([other]), value) for value, other in others],
        }


def _entry(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": max(logprob, -9999.0), "bytes": list(text.encode("utf-8", "replace"))}
