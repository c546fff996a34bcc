"""Scores the tokens of a prompt with llama.cpp, which reports log-probabilities only of tokens that it generates."""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import orjson

from portico_server.core.dataclass import dataclass
from portico_server.models.engines.openai_client.tokenizers import HttpTokenizer

FORCING_BIAS_SCORE = 1e6
"""Bias with which llama.cpp generates a given token. Reported log-probabilities do not include biases."""

LIKELY_TOKENS = 1_000
"""Number of the most likely tokens among which a token is searched first. A list of the whole vocabulary has several
megabytes.
"""


@dataclass(frozen=True, slots=True)
class PromptScorer:
    """Scores a prompt by generating it token by token.

    ``options`` are fields of each call, such as the slot. ``top_count`` is the number of alternatives per token,
    ``vocabulary`` the number of tokens that the model knows.
    """

    native: HttpTokenizer
    options: Mapping[str, Any]
    top_count: int
    vocabulary: int
    deadline: float | None

    async def frames(self, tokens: Sequence[int], text: str | None) -> AsyncIterator[bytes]:
        """Yield a frame with the text and the log-probabilities of each token.

        ``text`` is the prompt if the client sent it as text. Raises `PorticoError`.
        """
        echoed = _EchoedText(text)
        for position, token in enumerate(tokens):
            # llama.cpp cannot generate the first token. Its text comes from the score at any other place.
            entry = await self._score(tokens[: max(1, position)], token)
            if not position:
                entry |= {"logprob": None, "top_logprobs": []}
            shown_text = echoed.add(entry, is_last=position == len(tokens) - 1)
            yield text_frame(shown_text, logprobs={"content": [entry]})

    async def _score(self, earlier_tokens: Sequence[int], token: int) -> dict[str, Any]:
        """Return the log-probability of ``token`` after ``earlier_tokens``, in the form of llama.cpp."""
        entry = await self._generate(earlier_tokens, token, self.top_count)
        if entry is None:
            entry = await self._search(earlier_tokens, token)
        other_entries = [value for value in entry["top_logprobs"] if value["id"] != token]
        name, data = entry["token"], entry["bytes"]
        if not data:  # llama.cpp shows special tokens as an empty text
            name = str((await self.native.ask("detokenize", {"tokens": [token]}, self.deadline))["content"])
            data = list(name.encode())
        return {"token": name, "bytes": data, "logprob": entry["logprob"], "top_logprobs": other_entries}

    async def _search(self, earlier_tokens: Sequence[int], token: int) -> dict[str, Any]:
        """Return the score of a token that ends within a character, for which llama.cpp reports none. The token is
        searched among the alternatives of another token.
        """
        letter = {"content": "a", "add_special": False}
        letter_token = (await self.native.ask("tokenize", letter, self.deadline))["tokens"][-1]
        for count in (LIKELY_TOKENS, self.vocabulary):
            entry = await self._generate(earlier_tokens, letter_token, count)
            values = entry["top_logprobs"] if entry is not None else ()
            for value in values:
                if value["id"] == token:
                    return {**value, "top_logprobs": values[: self.top_count]}
        raise self.native.wrong()

    async def _generate(
        self, earlier_tokens: Sequence[int], token: int, top_count: int
    ) -> dict[str, Any] | None:
        body = {
            **self.options,
            "prompt": earlier_tokens,
            "n_predict": 1,
            "temperature": 0,
            "n_probs": max(1, top_count),
            "logit_bias": [[token, FORCING_BIAS_SCORE]],
        }
        scores = (await self.native.ask("completion", body, self.deadline)).get("completion_probabilities")
        return scores[0] if scores else None


class _EchoedText:
    """The text of a prompt, in the parts that belong to its tokens.

    If the client sent a text, the parts add up to this text. Its tokens may contain more, for example a token that
    begins each text.
    """

    def __init__(self, text: str | None) -> None:
        self._text = text
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, entry: Mapping[str, Any], *, is_last: bool) -> str:
        """Return the part that belongs to the next token."""
        part = self._decoder.decode(bytes(entry["bytes"]), is_last)
        if self._text is None:
            return part
        if is_last:
            return self._text
        if not self._text.startswith(part):
            part = part.removeprefix(" ")  # some tokenizers begin a text with a space
        if not self._text.startswith(part):
            return ""
        self._text = self._text[len(part) :]
        return part


def text_frame(
    text: str, *, logprobs: Any = None, finish: str | None = None, usage: Mapping[str, int] | None = None
) -> bytes:
    """Return a frame of a completion as llama.cpp sends it."""
    choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish}
    document = {"choices": [choice], **({"usage": usage} if usage else {})}
    return b"data: " + orjson.dumps(document) + b"\n\n"
