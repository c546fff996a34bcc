"""The meaningful words of a question, and the sentences of a text that are most similar to the question.

Words are compared by a rough stem, and Chinese, Japanese and Korean text by pairs of characters. This is accurate
enough to judge a handful of passages that a search has already ranked, and light enough to import at startup.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

from portico_server.features.answers.language import CJK

_STOP_WORDS = (
    "a about after all also am an and any are as at be because been before being but by can could did do "
    "does doing done down each else for from get gets give had has have having he her here him his how i "
    "if in into is it its itself just know let like made make many may me might more most much must my "
    "need no nor not of off on once one only or other our out over own please same say says shall she "
    "should so some such take tell than that the their them then there these they thing things this those "
    "through to too under until up us use used using very want was way we were what when where whether "
    "which while who whom whose why will with would yes yet you your explain describe show find mean "
    "means happen happens"
)
STOP_WORDS = frozenset(_STOP_WORDS.split())
"""English words that say nothing about the subject of a question."""

ASKING_WORDS_CJK = (
    r"有?什[么麼](?:时候|時候|时间|時間)?|[为為]什[么麼]|怎[么麼]?[样樣]|怎[么麼]|如何"
    r"|有?(?<![许許很众眾更较較太最])多(?:[长長]时间|[长長]時間|[长長大高久远遠重快深宽寬热熱厚])|有?多少[钱錢个個名位]?"
    r"|第?[几幾][个個]?[点點时時月号號年天日岁歲名位人次种種条條家所座倍周分小层層届屆支项項]|[几幾][个個]"
    r"|有?哪(?:些|一?[里裡儿兒年天日月个個位家座种種]?)|(?<!任)何[时時年地处處人种種]|[谁誰]"
)
"""Pattern of the Chinese words that ask. The answer has other words in their place."""

ASKING_CJK = re.compile(ASKING_WORDS_CJK)

STOP_CJK = re.compile(
    rf"{ASKING_WORDS_CJK}|是否|可以|能否|请问|請問|告诉我|告訴我|一下|有没有|有沒有|这个|這個|那个|那個"
    r"|[的了吗嗎呢吧啊是在和与與或及把被给給我你您他她它们請请]"
)
"""Chinese words that say nothing about the subject of a question."""

_WORD = re.compile(rf"[^\W_{CJK}]+")
_ANY_WORD = re.compile(r"\w+")
_RUN = re.compile(rf"[{CJK}]+")
_ENDS = r"""["'”’`)\]]*(?:\s|$)"""
_SENTENCE = re.compile(
    rf"""(?:[^.!?。！？；\n]|[.!?]+(?!{_ENDS}|[.!?]))*(?:[.!?]+["'”’`)\]]*|[。！？；]+|\n+|$)"""
)
"""A period inside a word, an address or a number does not end a sentence."""
_SUFFIX = re.compile(r"(?:ing|ed|es|s|ly)$")


def stem(word: str) -> str:
    """Return a rough stem of a lower-case word: without a common ending, and at most six letters."""
    cut = _SUFFIX.sub("", word) if len(word) > 4 else word.removesuffix("s") if len(word) == 4 else word
    return cut[:6]


def terms(text: str) -> frozenset[str]:
    """Return the meaningful terms of a text: stems of words other than stop words, and pairs of CJK characters."""
    stems = {stem(word) for word in _WORD.findall(text.lower()) if word not in STOP_WORDS and len(word) > 1}
    for run in _RUN.findall(text):
        for part in STOP_CJK.split(run):
            stems.update((part,) if len(part) == 1 else (part[i : i + 2] for i in range(len(part) - 1)))
    return frozenset(stems)


def headings_for(question: str, *, exactly: bool = False) -> Callable[[str], bool]:
    """Return a function that says whether a heading is the question, or names what the question asks about: both have
    the same meaningful terms, as "How do I install it?" and "Installation" have. ``exactly``: they have the same
    words.
    """
    read: Callable[[str], Collection[str]] = _words if exactly else terms
    question_words = read(question)
    return lambda heading: bool(question_words) and read(heading) == question_words


def _words(text: str) -> list[str]:
    return _ANY_WORD.findall(text.casefold())


def excerpt(text: str, question: str, limit: int) -> str:
    """Return at most ``limit`` characters of ``text``: the sentences most similar to ``question``, in their original
    order.

    ``…`` marks sentences that were omitted between two selected sentences. It has its own line if a line ended between
    them.
    """
    text = text.strip()
    if len(text) <= limit:
        return text
    question_terms = terms(question)
    spans = [match.span() for match in _SENTENCE.finditer(text) if match.group().strip()]
    sentences = [text[start:end] for start, end in spans]
    overlap_counts = [len(question_terms & terms(sentence)) for sentence in sentences]
    # A sentence next to a similar sentence scores half as much as it, because an answer often follows the
    # words of the question.
    worth = [
        score
        + 0.5
        * max(overlap_counts[i - 1] if i else 0, overlap_counts[i + 1] if i + 1 < len(overlap_counts) else 0)
        for i, score in enumerate(overlap_counts)
    ]
    kept_indexes: set[int] = set()
    remaining_chars = limit
    for index in sorted(range(len(sentences)), key=lambda i: (-worth[i], i)):
        size = len(sentences[index]) + 2
        if size <= remaining_chars:
            kept_indexes.add(index)
            remaining_chars -= size
    if not kept_indexes:
        best = max(range(len(sentences)), key=lambda i: (worth[i], -i))
        return sentences[best].strip()[: max(limit - 1, 1)] + "…"
    return _join(text, spans, sorted(kept_indexes))


def _join(text: str, spans: Sequence[tuple[int, int]], kept_indexes: Sequence[int]) -> str:
    """Return the sentences of ``text`` at those of ``spans`` that have the indexes ``kept_indexes``, with the line
    breaks between them.
    """
    excerpt_text = ""
    previous_index, previous_end = -1, 0
    for index in kept_indexes:
        start, end = spans[index]
        sentence = text[start:end]
        gap = text[previous_end:start]
        line_breaks = gap.count("\n")
        if index == previous_index + 1:
            excerpt_text += ("\n" * min(line_breaks, 2) or gap) + sentence.rstrip()
        elif not line_breaks:
            excerpt_text += (" … " if excerpt_text else "") + sentence.strip()
        else:
            starts_line = text[start - 1] == "\n"
            excerpt_text += ("\n…\n" if excerpt_text else "") + (
                sentence if starts_line else sentence.lstrip()
            ).rstrip()
        previous_index, previous_end = index, start + len(sentence.rstrip())
    return excerpt_text.strip()
