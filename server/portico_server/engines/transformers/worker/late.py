"""Vectors of spans of a text, made of the vectors that their tokens have within all of it.

Late chunking: M. Günther et al., 2024, https://arxiv.org/abs/2409.04701. A text that is longer than the model's context
is computed in windows that overlap; each token is taken from the window in which it has more of the text around it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .refusal import Refusal

SHARED = 4
"""One part in so many of a window is shared with the next one."""

Spans = list[tuple[int, int]]
"""Offsets of characters from first to last, the last one not included."""


@dataclass(frozen=True, slots=True)
class Window:
    """The tokens ``begin`` to ``end`` are computed together, and those from ``first`` to ``last`` are taken."""

    begin: int
    end: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Wrapping:
    """Tokens that the model expects before and behind those of a text."""

    before: list[int]
    behind: list[int]

    @classmethod
    def of(cls, tokenizer: Any, prompt: str) -> Wrapping:
        """What the tokenizer adds to a text, and the ``prompt`` that the model's files put before each."""
        bare = tokenizer("a", add_special_tokens=False)["input_ids"]
        whole = tokenizer("a")["input_ids"]
        at = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
        own = tokenizer(prompt, add_special_tokens=False)["input_ids"] if prompt else []
        return cls([*whole[:at], *own], whole[at + len(bare) :])

    def __len__(self) -> int:
        return len(self.before) + len(self.behind)


def spans_of(body: Mapping[str, Any], texts: Sequence[str]) -> list[Spans] | None:
    """The spans of each text, as a request names them; ``None`` if it names none. Raises `Refusal`."""
    given = body.get("spans")
    if given is None:
        return None
    if not isinstance(given, list) or len(given) != len(texts):
        raise Refusal("'spans' must be a list with an entry for each text of 'input'.", param="spans")
    return [
        _checked(one, len(text), f"spans[{i}]")
        for i, (one, text) in enumerate(zip(given, texts, strict=True))
    ]


def _checked(given: Any, length: int, param: str) -> Spans:
    found: Spans = []
    for item in given if isinstance(given, list) else ():
        fits = isinstance(item, list) and len(item) == 2 and all(type(number) is int for number in item)
        if not fits or not 0 <= item[0] < item[1] <= length:
            break
        found.append((item[0], item[1]))
    if not found or len(found) < len(given):
        raise Refusal(
            f"'{param}' must be a list of at least one [first, last], offsets in a text of {length} characters.",
            param=param,
        )
    return found


def windows(count: int, size: int) -> Iterator[Window]:
    """Windows of up to ``size`` over ``count`` tokens; each token is taken once."""
    shared = size // SHARED
    begin = first = 0
    while True:
        end = min(begin + size, count)
        begin = max(0, end - size)  # the last one reaches back, so that it is no shorter than the others
        last = end if end == count else end - shared // 2
        yield Window(begin, end, first, last)
        if end == count:
            return
        first, begin = last, end - shared


class Late:
    """Vectors of spans. ``states`` gives [rows, tokens, width] for rows of tokens that are padded on the right."""

    def __init__(
        self,
        tokenizer: Any,
        wrapping: Wrapping,
        context: int,
        budget: int,
        states: Callable[[list[list[int]]], Any],
    ) -> None:
        self._tokenizer = tokenizer
        self._wrapping = wrapping
        self._size = max(1, context - len(wrapping))
        self._budget = budget
        self._states = states

    def pooled(self, text: str, spans: Spans, check: Callable[[], None]) -> tuple[Any, int]:
        """The mean of the tokens of each span as float32 [spans, width], and how many tokens were computed.

        ``check`` is called between two computations, and may raise.
        """
        read = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids: list[int] = read["input_ids"]
        if not ids:
            raise Refusal("A text has no tokens, so its spans have no vectors.", param="input")
        runs = [_tokens(read["offset_mapping"], span) for span in spans]
        cut = list(windows(len(ids), self._size))
        together = max(1, self._budget // (min(len(ids), self._size) + len(self._wrapping)))
        sums: Any = None
        for i in range(0, len(cut), together):
            check()
            part = cut[i : i + together]
            rows = [
                [*self._wrapping.before, *ids[one.begin : one.end], *self._wrapping.behind] for one in part
            ]
            for window, states in zip(part, self._states(rows), strict=True):
                if sums is None:
                    sums = torch.zeros(len(spans), states.shape[-1], device=states.device)
                self._add(sums, states, window, runs)
        counts = torch.tensor([last - first for first, last in runs], device=sums.device)
        return sums / counts.unsqueeze(1), sum(one.end - one.begin + len(self._wrapping) for one in cut)

    def _add(self, sums: Any, states: Any, window: Window, runs: Sequence[tuple[int, int]]) -> None:
        shift = len(self._wrapping.before) - window.begin
        for number, (first, last) in enumerate(runs):
            begin, end = max(first, window.first), min(last, window.last)
            if begin < end:
                sums[number] += states[begin + shift : end + shift].sum(dim=0)


def _tokens(offsets: Sequence[tuple[int, int]], span: tuple[int, int]) -> tuple[int, int]:
    """The tokens of a span from first to last: those whose last character lies in it. At least one: that at its begin.

    A token may bring the space before it, which belongs to the span before.
    """
    first = bisect_right(offsets, span[0], key=_end)
    last = bisect_right(offsets, span[1], key=_end)
    if first == last:
        first = min(bisect_left(offsets, span[1], key=_end), len(offsets) - 1)
        last = first + 1
    return first, last


def _end(offset: tuple[int, int]) -> int:
    return offset[1]
