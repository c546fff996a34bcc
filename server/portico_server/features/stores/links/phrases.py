"""Finds the rare phrases that a passage shares with few others: names that no capital letter, ending or dictionary
reveals, such as ``north gate pump``.

A phrase is a sequence of adjacent words, or of adjacent Chinese characters, between everyday words. The lexical index
knows which passages contain a word or a pair of characters, so phrases need no rows in the database. Passages that
repeat most of a passage's phrases are its parallels, such as two entries of a list: they share a form of words, not a
name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.stopwords import CHINESE_STOPWORDS, ENGLISH_STOPWORDS, says
from portico_server.core.word_forms import english_stems
from portico_server.core.words import CJK_RUN, HAN_RUN, bigrams
from portico_server.db.links import NAME, NAME_WEIGHT, WEAK_WEIGHT, LinkRow
from portico_server.features.readers.analyse import fold
from portico_server.features.stores.links.rules import CHINESE_BREAK, Term, is_common

MAX_PHRASE_PASSAGES = 8
"""Maximum number of passages that contain a phrase. A more frequent phrase is not a name."""

MAX_PARALLEL_PASSAGES = 24
"""Maximum number of passages that contain a token by which parallels are recognised."""

MIN_PARALLEL_TOKENS = 7
"""Minimum number of consecutive tokens that a parallel of the passage repeats: no name is so long."""

MAX_PHRASE_WORDS, MAX_PHRASE_PAIRS = 3, 7
"""Maximum number of English words, and of overlapping pairs of Chinese characters, in a phrase."""

MIN_PARALLEL_PIECES, PARALLEL_SHARE = 2, 0.5
"""Minimum number of pieces between everyday words, and their minimum share of a passage's rare pieces, that a
parallel of the passage repeats. It repeats a piece if it contains the same share of the piece's rare tokens.
"""

MAX_PHRASE_CHARS = 4_000
"""Maximum number of characters of a passage in which phrases are searched for."""

Token: TypeAlias = tuple[str, str]
"""A field of the lexical index, and a term in this field."""

Passages: TypeAlias = frozenset[int] | None
"""The passages that contain a token, or ``None`` if there are too many of them."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """The tokens of a text between two everyday words or marks, and the place of each token in the folded text."""

    tokens: Sequence[Token]
    spans: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class _Run:
    """The tokens ``start`` to ``end`` (exclusive) of a piece, and the passages that contain all of them."""

    start: int
    end: int
    chunks: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Phrase:
    """A folded phrase, the passages that contain its tokens, and its weight as a link."""

    text: str
    chunks: frozenset[int]
    weight: int


class SharedPhrases:
    """The phrases that passages of a store share, in the form of stored links.

    ``postings`` looks up tokens in the store's lexical index, and ``texts`` reads passages by id.
    """

    def __init__(
        self,
        store_id: str,
        postings: Callable[[Sequence[Token]], Sequence[Passages]],
        texts: Callable[[Sequence[int]], Iterable[tuple[int, str, str]]],
    ) -> None:
        self._store_id = store_id
        self._postings = postings
        self._texts = texts
        self._passages: dict[Token, Passages] = {}
        self._folded: dict[int, str] = {}
        self._parallels: dict[int, frozenset[int]] = {}

    def of_question(self, question: str) -> tuple[dict[int, str], dict[int, list[LinkRow]]]:
        """Return the phrases of a question that occur in passages, and links to these passages, by lookup key."""
        folded = fold(question)
        phrases = self._phrases(folded, list(_pieces(folded)), min_passages=1)
        self._read({chunk for phrase in phrases for chunk in phrase.chunks})
        texts: dict[int, str] = {}
        rows: dict[int, list[LinkRow]] = {}
        wordings: dict[int, list[LinkRow]] = {}
        for phrase in phrases:
            term = self._key(phrase)
            own_rows = self._rows(term, phrase)
            if own_rows:
                texts[term] = phrase.text
                (wordings if self._is_wording(own_rows) else rows)[term] = own_rows
        return texts, rows or wordings

    def _is_wording(self, rows: Sequence[LinkRow]) -> bool:
        """Return whether most passages of a phrase are parallels: they share a form of words, such as "head office"."""
        first, *later_chunks = (row.chunk_id for row in rows)
        return bool(later_chunks) and len(
            self.parallels(first).intersection(later_chunks)
        ) > PARALLEL_SHARE * len(later_chunks)

    def of_passages(self, chunk_ids: Sequence[int]) -> dict[int, list[LinkRow]]:
        """Return links between the given passages and passages other than their parallels, by lookup key."""
        self._read(chunk_ids)
        phrases: list[_Phrase] = []
        for chunk in chunk_ids:
            folded = self._folded.get(chunk, "")[:MAX_PHRASE_CHARS]
            pieces = list(_pieces(folded))
            phrases += self._phrases(folded, pieces, 2, self.parallels(chunk))
        self._read({chunk for phrase in phrases for chunk in phrase.chunks})
        rows: dict[int, dict[int, LinkRow]] = {}
        for phrase in phrases:
            term = self._key(phrase)
            own_rows = self._rows(term, phrase)
            if len(own_rows) > 1:
                rows.setdefault(term, {}).update((row.chunk_id, row) for row in own_rows)
        return {term: list(by_chunk.values()) for term, by_chunk in rows.items()}

    def _rows(self, term: int, phrase: _Phrase) -> list[LinkRow]:
        """Return links to the passages that contain the phrase itself, not only its tokens."""
        return [
            LinkRow(term, chunk, NAME, phrase.weight)
            for chunk in sorted(phrase.chunks)
            if says(self._folded.get(chunk, ""), phrase.text)
        ]

    def _read(self, chunk_ids: Iterable[int]) -> None:
        missing = [chunk for chunk in chunk_ids if chunk not in self._folded]
        if missing:
            self._folded.update((chunk, fold(text)) for chunk, _file_id, text in self._texts(missing))

    def _key(self, phrase: _Phrase) -> int:
        return Term(phrase.text, NAME).key(self._store_id)

    def _phrases(
        self,
        folded: str,
        pieces: Iterable[_Piece],
        min_passages: int,
        parallels: AbstractSet[int] = frozenset(),
    ) -> list[_Phrase]:
        """Return the phrases of a text that few passages other than ``parallels`` contain, without overlaps: a longer
        phrase precedes a shorter one.
        """
        phrases: list[_Phrase] = []
        for piece in pieces:
            runs = self._runs(piece, min_passages, parallels)
            runs.sort(key=lambda run: (run.start - run.end, -len(run.chunks), run.start))
            free = set(range(len(piece.tokens)))
            for run in runs:
                if free.issuperset(range(run.start, run.end)):
                    free.difference_update(range(run.start, run.end))
                    text = folded[piece.spans[run.start][0] : piece.spans[run.end - 1][1]]
                    phrases.append(_Phrase(text, run.chunks, _weight(text)))
        return phrases

    def _runs(self, piece: _Piece, min_passages: int, parallels: AbstractSet[int]) -> list[_Run]:
        """Return the runs of tokens in a piece that occur together in few passages."""
        passages = self._look_up(piece)
        chinese = piece.tokens[0][0] == "grams"
        size = MAX_PHRASE_PAIRS if chinese else MAX_PHRASE_WORDS
        runs: list[_Run] = []
        for start, first in enumerate(passages):
            chunks = first
            for end in range(start + 1, min(start + size, len(passages)) + 1):
                last = passages[end - 1]
                if chunks is None or last is None:
                    break
                chunks = (chunks & last) - parallels
                if len(chunks) < min_passages:
                    break
                is_word = not chinese and end - start == 1
                if len(chunks) <= MAX_PHRASE_PASSAGES and (min_passages == 1 or not is_word):
                    runs.append(_Run(start, end, chunks))
        return runs

    def parallels(self, chunk: int) -> frozenset[int]:
        """Return the passages that repeat most of the rare pieces of a passage."""
        parallels = self._parallels.get(chunk)
        if parallels is None:
            self._read([chunk])
            pieces = _pieces(self._folded.get(chunk, "")[:MAX_PHRASE_CHARS])
            parallels = self._parallels[chunk] = self._repeating(chunk, pieces)
        return parallels

    def _repeating(self, chunk: int, pieces: Iterable[_Piece]) -> frozenset[int]:
        counts: Counter[int] = Counter()
        long_runs: set[int] = set()
        rare_pieces = 0
        for piece in pieces:
            token_counts: Counter[int] = Counter()
            runs: dict[int, int] = {}
            rare_tokens = 0
            for passages in self._look_up(piece):
                if passages is None or len(passages) > MAX_PARALLEL_PASSAGES:
                    runs = {}
                    continue
                rare_tokens += len(passages) > 1
                token_counts.update(passages)
                runs = {candidate: runs.get(candidate, 0) + 1 for candidate in passages}
                long_runs.update(
                    candidate for candidate, length in runs.items() if length >= MIN_PARALLEL_TOKENS
                )
            rare_pieces += rare_tokens > 0
            counts.update(
                candidate
                for candidate, count in token_counts.items()
                if count >= PARALLEL_SHARE * rare_tokens
            )
        line = max(MIN_PARALLEL_PIECES, PARALLEL_SHARE * rare_pieces)
        repeating = {candidate for candidate, count in counts.items() if count >= line}
        return frozenset((long_runs | repeating) - {chunk})

    def _look_up(self, piece: _Piece) -> list[Passages]:
        new = [token for token in dict.fromkeys(piece.tokens) if token not in self._passages]
        self._passages.update(zip(new, self._postings(new), strict=True))
        return [self._passages[token] for token in piece.tokens]


_JOINED_WORDS = re.compile(r"[^\W_]+(?:(?:[ _'’/&.-]|[ ]&[ ])[^\W_]+)*")
_WORD = re.compile(r"[^\W_]+")


def _pieces(folded: str) -> Iterator[_Piece]:
    """Yield the pieces of a folded text between everyday words and punctuation."""
    for run in HAN_RUN.finditer(folded):
        start = run.start()
        for piece in CHINESE_BREAK.split(run[0]):
            if len(piece) > 1:
                spans = [(at, at + 2) for at in range(start, start + len(piece) - 1)]
                yield _Piece([("grams", pair) for pair in bigrams(piece)], spans)
            start += len(piece) + 1  # the pattern matches single characters
    plain = CJK_RUN.sub(lambda run: "\n" * len(run[0]), folded)
    for word_run in _JOINED_WORDS.finditer(plain):
        spans = []
        for word in [*_WORD.finditer(plain, word_run.start(), word_run.end()), None]:
            if word is not None and word[0] not in ENGLISH_STOPWORDS:
                spans.append(word.span())
            elif spans:
                stems = english_stems([plain[start:end] for start, end in spans])
                yield _Piece([("words", stem) for stem in stems], spans)
                spans = []


def _weight(text: str) -> int:
    """Return the weight of a phrase as a link: a single word, or a word of the dictionary, is rarely a name."""
    if HAN_RUN.search(text) is not None:
        return WEAK_WEIGHT if text in CHINESE_STOPWORDS or is_common(text) else NAME_WEIGHT
    return NAME_WEIGHT if any(not char.isalpha() for char in text) else WEAK_WEIGHT
