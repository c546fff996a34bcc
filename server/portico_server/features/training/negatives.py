"""Decides which passages answer a question, and which are similar to it without answering it."""

from __future__ import annotations

import hashlib
import random
import zlib
from collections.abc import Sequence

from portico_server.core.dataclass import dataclass
from portico_server.core.training_passages import StorePassage
from portico_server.features.training.questions import (
    DUPLICATE_SHARE,
    HELD_BACK_SHARE,
    SHINGLE_CHARS,
    WORD,
    AnsweredQuestion,
)


def is_same_text(text: str, other_text: str) -> bool:
    """Return whether one text contains the other, ignoring white space."""
    bare_text, right = "".join(text.split()), "".join(other_text.split())
    return bool(bare_text and right) and (bare_text in right or right in bare_text)


def shared_words(answer: str, text: str) -> float:
    """Return the share of the words of ``answer`` that ``text`` contains.

    In scripts without spaces between words, pairs of characters count as words.
    """
    answer_words, text_words = _words(answer), _words(text)
    return len(answer_words & text_words) / len(answer_words) if answer_words else 0.0


def _words(text: str) -> frozenset[str]:
    word_parts: set[str] = set()
    for word in WORD.findall(text.lower()):
        if word.isascii():
            word_parts.add(word)
        else:
            word_parts.update(word[at : at + 2] for at in range(max(1, len(word) - 1)))
    return frozenset(word_parts)


def shingles(text: str) -> frozenset[int]:
    """Return a sample of a text's character shingles, for finding near-duplicates; for a short text, return all of
    them.
    """
    bare = "".join(text.lower().split())
    all_hashes = (
        zlib.crc32(bare[at : at + SHINGLE_CHARS].encode())
        for at in range(max(1, len(bare) - SHINGLE_CHARS + 1))
    )
    return frozenset(
        all_hashes
        if len(bare) < 400
        else (shingle_hash for shingle_hash in all_hashes if shingle_hash % 4 == 0)
    )


def is_near_duplicate(runs: frozenset[int], other_runs: frozenset[int]) -> bool:
    """Return whether two texts differ by only a few words, or one contains most of the other."""
    minimum = min(len(runs), len(other_runs))
    return bool(minimum) and len(runs & other_runs) >= DUPLICATE_SHARE * minimum


@dataclass(slots=True)
class NegativeChooser:
    """Chooses passages that are similar to a question but do not answer it."""

    passages: Sequence[StorePassage]
    seed: int

    def choose(
        self,
        answered_question: AnsweredQuestion,
        hits: Sequence[StorePassage],
        files: frozenset[str],
        count: int,
    ) -> list[str]:
        """Return up to ``count`` passages from ``files``: first from the store's search results, then random passages.
        Blocks for milliseconds.
        """
        chance = random.Random(f"{self.seed}:{answered_question.question}")  # noqa: S311  # no secret
        store_passages = chance.sample(self.passages, min(len(self.passages), 4 * count))
        negatives: list[str] = []
        seen_runs = [shingles(answered_question.text)]
        for hit in [*hits, *store_passages]:
            if len(negatives) == count:
                break
            if hit.file not in files or _may_answer(answered_question, hit):
                continue
            runs = shingles(hit.text)
            if not any(is_near_duplicate(runs, earlier_runs) for earlier_runs in seen_runs):
                seen_runs.append(runs)
                negatives.append(hit.text)
        return negatives


def _may_answer(answered_question: AnsweredQuestion, hit: StorePassage) -> bool:
    store_passage = answered_question.passage
    if hit.file == store_passage.file and (
        answered_question.whole_file or (store_passage.headings and hit.headings == store_passage.headings)
    ):
        return True
    if is_same_text(store_passage.text, hit.text) or is_same_text(answered_question.question, hit.text):
        return True
    return bool(answered_question.answer) and shared_words(
        answered_question.answer, hit.text
    ) >= shared_words(answered_question.answer, store_passage.text)


def held_back_files(answered_questions: Sequence[AnsweredQuestion]) -> frozenset[str]:
    """Return the files whose questions are held back. The choice depends only on the questions, and never includes all
    files.
    """
    counts: dict[str, int] = {}
    for answered_question in answered_questions:
        counts[answered_question.passage.file] = counts.get(answered_question.passage.file, 0) + 1
    order = sorted(counts, key=lambda name: hashlib.blake2b(name.encode()).digest())
    held_back: set[str] = set()
    held_count = 0
    for name in order[:-1]:
        if held_count >= HELD_BACK_SHARE * len(answered_questions):
            break
        if held_count + counts[name] <= len(answered_questions) // 2:
            held_back.add(name)
            held_count += counts[name]
    return frozenset(held_back)
