"""Text for benchmarks: files of six kinds, English and Chinese, generated identically everywhere.

Words follow Zipf's law over vocabularies built from syllables and from the 3,755 everyday characters of GB 2312, so
that indexes see as many different terms as in real text.
"""

from __future__ import annotations

import bisect
import itertools
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

KINDS = ("md", "txt", "html", "csv", "py", "json")

_ONSETS = [
    "b",
    "br",
    "c",
    "ch",
    "d",
    "dr",
    "f",
    "g",
    "gr",
    "h",
    "k",
    "l",
    "m",
    "n",
    "p",
    "pl",
    "r",
    "s",
    "st",
    "t",
    "tr",
]
_NUCLEI = ["a", "e", "i", "o", "u", "ai", "ea", "ou"]
_CODAS = ["", "", "n", "r", "s", "t", "l", "nd"]


class Words:
    """A vocabulary whose words are drawn with the frequencies of Zipf's law."""

    def __init__(self, words: list[str], chance: random.Random) -> None:
        self._words = words
        self._chance = chance
        self._sums = list(itertools.accumulate(1 / (rank + 2.7) for rank in range(len(words))))

    def one(self) -> str:
        return self._words[bisect.bisect(self._sums, self._chance.random() * self._sums[-1])]

    def some(self, low: int, high: int) -> list[str]:
        return [self.one() for _ in range(self._chance.randint(low, high))]


def english(chance: random.Random, size: int = 20_000) -> Words:
    """Return a vocabulary of words of one to three syllables."""
    found: dict[str, None] = {}
    while len(found) < size:
        count = chance.choice((1, 2, 2, 3))
        found["".join(chance.choice(part) for _ in range(count) for part in (_ONSETS, _NUCLEI, _CODAS))] = (
            None
        )
    return Words(list(found), chance)


def chinese(chance: random.Random, size: int = 20_000) -> Words:
    """Return a vocabulary of words of one or two characters."""
    rows = [bytes((high, low)) for high in range(0xB0, 0xD8) for low in range(0xA1, 0xFF)]
    characters = [text for row in rows if (text := row.decode("gb2312", "ignore"))]
    found = {"".join(chance.choices(characters, k=chance.choice((1, 2, 2)))): None for _ in range(size)}
    return Words(list(found), chance)


class Writer:
    """A generator of sentences, paragraphs and whole files of the six kinds."""

    def __init__(self, seed: int = 7) -> None:
        self._chance = random.Random(seed)
        self._english = english(self._chance)
        self._chinese = chinese(self._chance)

    def sentence(self, in_chinese: bool) -> str:
        if in_chinese:
            return "，".join("".join(self._chinese.some(4, 9)) for _ in range(2)) + "。"
        return " ".join(self._english.some(8, 18)).capitalize() + ". "

    def paragraph(self, in_chinese: bool) -> str:
        return "".join(self.sentence(in_chinese) for _ in range(self._chance.randint(3, 7)))

    def paragraphs(self, in_chinese: bool, characters: int) -> Iterator[str]:
        length = 0
        while length < characters:
            text = self.paragraph(in_chinese)
            length += len(text)
            yield text

    def text(self, kind: str, in_chinese: bool, characters: int) -> str:
        """Return a file of about this many characters."""
        parts = list(self.paragraphs(in_chinese, characters))
        words = self._english.some(3, 3)
        match kind:
            case "md":
                return "\n\n".join(f"## {self._english.one()} {i}\n\n{part}" for i, part in enumerate(parts))
            case "html":
                body = "".join(f"<h2>{self._english.one()}</h2><p>{part}</p>" for part in parts)
                return f"<!doctype html><title>{words[0]}</title><body>{body}</body>"
            case "csv":
                lines = (
                    f"{i},{self._english.one()},{part.replace(',', ' ')}" for i, part in enumerate(parts)
                )
                return "\n".join((",".join(words), *lines))
            case "py":
                return "\n\n".join(
                    f'def {self._english.one()}_{i}(value):\n    """{part}"""\n    return value + {i}\n'
                    for i, part in enumerate(parts)
                )
            case "json":
                rows = [
                    {"id": i, words[0]: self._english.one(), "text": part} for i, part in enumerate(parts)
                ]
                return json.dumps(rows, ensure_ascii=False, indent=1)
        return "\n\n".join(parts)


def fill(folder: Path, files: int, characters: int = 2_900, kinds: Sequence[str] = KINDS) -> int:
    """Write ``files`` files of about ``characters`` each, half of them Chinese; return the total number of
    characters.
    """
    writer = Writer()
    total = 0
    for number in range(files):
        kind = kinds[number % len(kinds)]
        in_chinese = number % 4 in (1, 2)
        text = writer.text(kind, in_chinese, characters)
        path = folder / f"part{number // 100:03d}" / f"file{number:05d}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        total += len(text)
    return total


def huge(path: Path, megabytes: int) -> None:
    """Write one text of this many MB, most of it English."""
    writer = Writer()
    block = "\n\n".join(writer.paragraph(i % 8 == 0) for i in range(4_000))
    wanted, size, number = megabytes * 1024 * 1024, 0, 0
    with path.open("w", encoding="utf-8") as file:
        while size < wanted:
            # Each repetition is numbered, so that no two are equal.
            text = f"\n\nVolume {number}.\n\n{block}"
            file.write(text)
            size += len(text.encode())
            number += 1
