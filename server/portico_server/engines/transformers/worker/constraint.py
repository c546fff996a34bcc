"""An answer that fits a JSON schema: at each step only tokens that can still lead to one are allowed.

Source: https://github.com/guidance-ai/llguidance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import llguidance
import llguidance.hf
import numpy
import torch

from .refusal import Refusal

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
        allowed = torch.from_numpy(numpy.unpackbits(bits, bitorder="little")[: scores.shape[-1]].astype(bool))
        rest = scores.shape[-1] - len(allowed)
        if rest:
            allowed = torch.nn.functional.pad(allowed, (0, rest), value=False)
        return scores.masked_fill(~allowed.to(scores.device), float("-inf"))

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
