"""Converts text to tokens and tokens to text, in the format of vLLM's ``/tokenize`` and ``/detokenize``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .caller import Caller
from .errors import Refusal

Render = Callable[[Any, bool], str]
"""A function that renders messages with the chat template, with or without the beginning of the answer."""


class TokenizeTask:
    """The tokenizer routes that every task serves. ``render`` is for models with a chat template."""

    def __init__(self, tokenizer: Any, longest: int, render: Render | None = None) -> None:
        self._tokenizer = tokenizer
        self._longest = longest
        self._render = render

    def routes(self) -> dict[str, Any]:
        return {"/tokenize": self.tokenize, "/detokenize": self.detokenize}

    def tokenize(self, body: Mapping[str, Any], _client: Caller) -> dict[str, Any]:
        """Return ``prompt`` or ``messages`` as token ids, and as texts if ``return_token_strs`` is set."""
        text, special = body.get("prompt"), True
        if text is None and self._render is not None:
            text = self._render(body.get("messages"), body.get("add_generation_prompt") is not False)
            special = False  # the template has already added the special tokens
        if not isinstance(text, str):
            raise Refusal("'prompt' must be a text.", param="prompt")
        if isinstance(body.get("add_special_tokens"), bool):
            special = body["add_special_tokens"]
        ids = self._tokenizer(text, add_special_tokens=special)["input_ids"]
        answer: dict[str, Any] = {"count": len(ids), "max_model_len": self._longest, "tokens": ids}
        if body.get("return_token_strs"):
            answer["token_strs"] = self._tokenizer.convert_ids_to_tokens(ids)
        return answer

    def detokenize(self, body: Mapping[str, Any], _client: Caller) -> dict[str, Any]:
        """Return ``tokens`` as ``prompt``."""
        tokens = body.get("tokens")
        width = len(self._tokenizer)
        if not isinstance(tokens, list) or not all(
            isinstance(token, int) and 0 <= token < width for token in tokens
        ):
            raise Refusal(f"'tokens' must be a list of numbers below {width:,}.", param="tokens")
        return {"prompt": self._tokenizer.decode(tokens, clean_up_tokenization_spaces=False)}
