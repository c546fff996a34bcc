"""Which passages answer a question, and which are near it and do not."""

from __future__ import annotations

import hashlib
import random
import zlib
from collections.abc import Sequence

from portico_server.core.dataclass import dataclass
from portico_server.core.training_passages import StorePassage
from portico_server.finetune.questions import (
    DUPLICATE_SHARE,
    HELD_BACK_SHARE,
    SHINGLE_CHARS,
    WORD,
    AnsweredQuestion,
)


def is_same_text(one: str, other: str) -> bool:
    """Whether one text lies in the other; white space does not count."""
    left, right = "".join(one.split()), "".join(other.split())
    return bool(left and right) and (left in right or right in left)


def shared_words(answer: str, text: str) -> float:
    """The share of the words of ``answer``, each pair of characters where words have no spaces, that ``text`` has."""
    wanted, there = _words(answer), _words(text)
    return len(wanted & there) / len(wanted) if wanted else 0.0


def _words(text: str) -> frozenset[str]:
    found: set[str] = set()
    for word in WORD.findall(text.lower()):
        if word.isascii():
            found.add(word)
        else:
            found.update(word[at : at + 2] for at in range(max(1, len(word) - 1)))
    return frozenset(found)


def shingles(text: str) -> frozenset[int]:
    """A sample of the runs of characters of a text, by which near-duplicates are found; of a short text all of them."""
    bare = "".join(text.lower().split())
    every = (
        zlib.crc32(bare[at : at + SHINGLE_CHARS].encode())
        for at in range(max(1, len(bare) - SHINGLE_CHARS + 1))
    )
    return frozenset(every if len(bare) < 400 else (one for one in every if one % 4 == 0))


def is_near_duplicate(one: frozenset[int], other: frozenset[int]) -> bool:
    """Whether two texts are the same but for a few words, or one holds most of the other."""
    least = min(len(one), len(other))
    return bool(least) and len(one & other) >= DUPLICATE_SHARE * least


@dataclass(slots=True)
class NegativeChooser:
    """Passages that are near a question and do not answer it. ``files`` are those whose passages may be taken."""

    passages: Sequence[StorePassage]
    seed: int

    def choose(
        self, asked: AnsweredQuestion, hits: Sequence[StorePassage], files: frozenset[str], count: int
    ) -> list[str]:
        """First what the store's search found, then others at random. Blocks for milliseconds."""
        chance = random.Random(f"{self.seed}:{asked.question}")  # noqa: S311  # no secret
        others = chance.sample(self.passages, min(len(self.passages), 4 * count))
        taken: list[str] = []
        seen = [shingles(asked.text)]
        for hit in [*hits, *others]:
            if len(taken) == count:
                break
            if hit.file not in files or _may_answer(asked, hit):
                continue
            runs = shingles(hit.text)
            if not any(is_near_duplicate(runs, known) for known in seen):
                seen.append(runs)
                taken.append(hit.text)
        return taken


def _may_answer(asked: AnsweredQuestion, hit: StorePassage) -> bool:
    own = asked.passage
    if hit.file == own.file and (asked.whole_file or (own.headings and hit.headings == own.headings)):
        return True
    if is_same_text(own.text, hit.text) or is_same_text(asked.question, hit.text):
        return True
    return bool(asked.answer) and shared_words(asked.answer, hit.text) >= shared_words(asked.answer, own.text)


def held_back_files(asked: Sequence[AnsweredQuestion]) -> frozenset[str]:
    """The files whose questions are held back: the same ones each time, and never all."""
    counts: dict[str, int] = {}
    for one in asked:
        counts[one.passage.file] = counts.get(one.passage.file, 0) + 1
    order = sorted(counts, key=lambda name: hashlib.blake2b(name.encode()).digest())
    taken: set[str] = set()
    held = 0
    for name in order[:-1]:
        if held >= HELD_BACK_SHARE * len(asked):
            break
        if held + counts[name] <= len(asked) // 2:
            taken.add(name)
            held += counts[name]
    return frozenset(taken)
