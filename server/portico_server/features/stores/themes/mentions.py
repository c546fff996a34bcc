"""The names that passages mention: how often, of which kind, and which of them occur together.

The first Chinese text loads the dictionaries of `portico_server.features.readers.analyse`, so use a worker thread.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Final

from portico_server.core.dataclass import dataclass
from portico_server.core.word_forms import jieba
from portico_server.core.words import has_cjk
from portico_server.db.links import CODE, NAME, NAME_WEIGHT
from portico_server.features.stores.links.rules import LinkSource, terms

MIN_PASSAGE_COUNT: Final = 2
"""Minimum number of passages that mention a name."""

NESTED_SHARE: Final = 0.8
"""A name that is part of a longer name is left out if the longer name occurs in this share of its passages."""

KIND_SHARE: Final = 0.3
"""Minimum share of a name's mentions whose context shows its kind."""

_ORGANISATION = re.compile(
    r"\b(?:university|institute|college|school|academy|church|company|corporation|corp|inc|ltd|gmbh|bank|council|"
    r"committee|commission|parliament|congress|senate|ministry|department|agency|court|party|union|league|association|"
    r"society|foundation|museum|library|museum|office|bureau|group|club|hospital)\b"
    r"|(?:公司|大学|学院|学校|银行|集团|委员会|议会|国会|协会|学会|研究所|研究院|部门|法院|党|联盟|基金会|博物馆|图书馆|医院|局|部)$"
)
_PLACE = re.compile(
    r"\b(?:river|lake|sea|ocean|island|islands|mount|mountain|mountains|valley|street|road|avenue|square|city|county|"
    r"province|bay|harbour|harbor|airport|station|bridge|park)\b|(?:省|市|县|区|镇|村|州|河|江|湖|海|岛|山|路|街|国)$"
)
_BEFORE_PERSON = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|sir|lady|lord|king|queen|prince|princess|president|professor|prof|saint|st|captain|general|"
    r"pope|chancellor|minister|director|manager|author|by)\.?|先生|女士)\s*$",
    re.I,
)
_BEHIND_PERSON = re.compile(
    r"\s*(?:(?:said|says|wrote|writes|was born|died|argued|argues|became|married|studied|leads|joined|answers|told|"
    r"thinks|believes|himself|herself)\b|,? (?:who|whose)\b|先生|女士|教授|博士|经理|主任|老师|说|表示|认为|写道|出生)"
)
_BEFORE_PLACE = re.compile(r"(?:\b(?:in|near)|在|位于|前往)\s*$", re.I)
_CHINESE_KINDS: Final = {"nr": "person", "ns": "place", "nt": "organisation"}
_CONTEXT_CHARS: Final = 24


@dataclass(frozen=True, slots=True)
class Mention:
    """A name in its most frequent spelling, and the numbers of the passages that mention it."""

    name: str
    kind: str
    passages: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Mentions:
    """The most mentioned names, and the pairs of them that occur together most often, with numbers of passages."""

    names: list[Mention]
    pairs: list[tuple[str, str, int]]


def find_mentions(sources: Sequence[LinkSource], limit: int) -> Mentions:
    """Return at most ``limit`` names that several passages mention, and at most ``limit`` pairs of them."""
    numbers: dict[str, list[int]] = {}
    kinds: dict[str, int] = {}
    reliable_names: set[str] = set()
    for number, source in enumerate(sources):
        for term in terms(source):
            if term.kind in (NAME, CODE):
                numbers.setdefault(term.text, []).append(number)
                kinds[term.text] = term.kind
                if term.weight >= NAME_WEIGHT or has_cjk(term.text):
                    reliable_names.add(term.text)
    counts = {text: len(passages) for text, passages in numbers.items() if text in reliable_names}
    best = sorted(
        (text for text, count in counts.items() if count >= MIN_PASSAGE_COUNT),
        key=lambda text: (-counts[text], text),
    )[: 2 * limit]
    best = [text for text in best if not _is_nested(text, counts)][:limit]
    spellings: dict[str, str] = {}
    names = []
    for text in best:
        texts = [sources[number].text for number in numbers[text]]
        spellings[text] = _spelling(text, texts)
        kind = "code" if kinds[text] == CODE else kind_of(text, texts)
        names.append(Mention(spellings[text], kind, tuple(numbers[text])))
    pair_counts: Counter[tuple[str, str]] = Counter()
    for first, second in combinations(best, 2):
        count = len({*numbers[first]} & {*numbers[second]})
        if count >= MIN_PASSAGE_COUNT:
            pair_counts[spellings[first], spellings[second]] = count
    pairs = [(first, second, count) for (first, second), count in pair_counts.most_common(limit)]
    return Mentions(names, pairs)


def _is_nested(text: str, counts: Mapping[str, int]) -> bool:
    return any(
        text != longer and text in longer and count >= NESTED_SHARE * counts[text]
        for longer, count in counts.items()
    )


def _spelling(name: str, texts: Sequence[str]) -> str:
    """Return how the texts spell a folded name most often."""
    spellings: Counter[str] = Counter()
    for text in texts:
        at = text.lower().find(name)
        if at >= 0:
            spellings[text[at : at + len(name)]] += 1
    return spellings.most_common(1)[0][0] if spellings else name


def kind_of(name: str, texts: Sequence[str]) -> str:
    """Return the kind of a folded name, from its own words, its part of speech, and the words around it in the texts:
    ``person``, ``place``, ``organisation``, or ``name`` if the kind is unknown.
    """
    if _ORGANISATION.search(name):
        return "organisation"
    if has_cjk(name):
        tags = jieba().tag(name)
        if len(tags) == 1 and tags[0][1][:2] in _CHINESE_KINDS:
            return _CHINESE_KINDS[tags[0][1][:2]]
    if _PLACE.search(name):
        return "place"
    votes: Counter[str] = Counter()
    for text in texts:
        at = text.lower().find(name)
        prefix, suffix = text[max(0, at - _CONTEXT_CHARS) : at], text[at + len(name) :][:_CONTEXT_CHARS]
        if _BEFORE_PERSON.search(prefix) or _BEHIND_PERSON.match(suffix):
            votes["person"] += 1
        elif _BEFORE_PLACE.search(prefix):
            votes["place"] += 1
    kind, count = votes.most_common(1)[0] if votes else ("name", 0)
    return kind if count >= max(KIND_SHARE * len(texts), 1) else "name"
