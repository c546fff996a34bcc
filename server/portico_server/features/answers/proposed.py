"""Questions that documents answer, built from the documents' headings and definitions without a model. Pure
functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

from portico_server.core.training_passages import StorePassage
from portico_server.features.answers.language import CJK, language

MAX_PROPOSED_CHARS = 90
"""Maximum length of a proposed question, in characters."""

MIN_HEADING_CHARS, MAX_HEADING_CHARS = 4, 48
"""Minimum and maximum length of a heading used in a question, in characters; a Chinese, Japanese or Korean character
counts twice.
"""

_ABOUT: Mapping[str, str] = {
    "en": "What does {file} say about {heading}?",
    "zh-Hans": "{file} 中关于“{heading}”是怎么说的？",
    "zh-Hant": "{file} 中關於「{heading}」是怎麼說的？",
    "ja": "{file} には「{heading}」について何と書かれていますか？",
    "ko": "{file}에는 ‘{heading}’에 대해 뭐라고 쓰여 있나요?",
    "ru": "Что сказано в {file} о «{heading}»?",
    "de": "Was steht in {file} über „{heading}“?",
    "fr": "Que dit {file} sur « {heading} » ?",
    "es": "¿Qué dice {file} sobre «{heading}»?",
    "it": "Che cosa dice {file} su «{heading}»?",
    "pt": "O que diz {file} sobre «{heading}»?",
}
"""Templates of questions about the text under a heading of a document, keyed by the language of the text."""

_VAGUE_HEADING = re.compile(
    r"(?:introduction|overview|(?:table of )?contents|summary|notes?|faq|questions?|about|references?|see also|"
    r"license|change ?log|appendix|index|chapter|section|part|"
    r"简介|介绍|概述|目录|前言|总结|说明|附录|参考|常见问题|第.{1,3}[章节部])"
    r"[\s\d.:：]*",
    re.IGNORECASE,
)
SAMPLE_LINES = 40
"""Number of lines of a file from which its language is detected."""

_HEADING_LINE = re.compile(r"#{1,6}\s")
_HEADING_MARKS = re.compile(r"^[#\s>*_\d.、)]+|[`*_#:：\s]+$|`")
_DEFINITION = re.compile(
    r"(?P<the>(?:The|An?) )?(?P<name>[A-Z][\w-]*(?: [\w-]+){0,3}) (?P<verb>is|are) "
    r"(?:an?|the|one|our|used|responsible) "
)
_DEFINITION_CJK = re.compile(rf"(?P<name>[{CJK}\w-]{{2,12}}?)(?:是指|是一[种种個个款套项類类家座名])")
_POINTER = re.compile(
    r"(?:this|that|these|those|it|there|here|what|which|who|he|she|we|they|you|all|each|if|when|where|how|nothing|"
    r"everything|one|next|first|second|last)\b|[这那它他她此其该本]",
    re.IGNORECASE,
)


def proposed_questions(passages: Sequence[StorePassage]) -> Iterator[tuple[str, str]]:
    """Yield questions that ``passages`` should answer, each with its source file.

    The questions alternate between the files. Within a file, headings that are questions come first, then definitions,
    then the other headings.
    """
    by_file: dict[str, list[StorePassage]] = {}
    for passage in sorted(passages, key=lambda passage: (passage.file, passage.id)):
        by_file.setdefault(passage.file, []).append(passage)
    rounds = zip_longest(*(_questions_of(file, store_passages) for file, store_passages in by_file.items()))
    yield from (
        (question, file)
        for round_questions in rounds
        for file, question in zip(by_file, round_questions, strict=True)
        if question
    )


def _questions_of(file: str, passages: Sequence[StorePassage]) -> Iterator[str]:
    lines = [line for passage in passages for line in passage.text.splitlines()]
    above = [passage.headings[-1] for passage in passages if passage.headings]
    heading_lines = [line for line in lines if _HEADING_LINE.match(line)]
    headings = dict.fromkeys(_HEADING_MARKS.sub("", heading) for heading in (*above, *heading_lines))
    name = file.rpartition("/")[2]
    template = _ABOUT[language(" ".join(lines[:SAMPLE_LINES]))]
    asking = [heading for heading in headings if heading.endswith(("?", "？"))]
    definition_questions = [question for line in lines if (question := _definition_asked(line))]
    name_questions = [
        template.format(file=name, heading=heading)
        for heading in headings
        if heading not in asking and _is_telling(heading) and heading.lower() not in name.lower()
    ]
    yield from dict.fromkeys(
        question
        for question in (*asking, *definition_questions, *name_questions)
        if len(question) <= MAX_PROPOSED_CHARS
    )


def _is_telling(heading: str) -> bool:
    width = sum(1 + (character >= "\u2e80") for character in heading)
    return MIN_HEADING_CHARS <= width <= MAX_HEADING_CHARS and not _VAGUE_HEADING.fullmatch(heading)


def _definition_asked(line: str) -> str:
    """Return a question that asks for the definition in the first sentence of a line; empty if the sentence defines
    nothing.
    """
    plain = line.replace("**", "").replace("`", "").strip()
    if _POINTER.match(plain):
        return ""
    if match := _DEFINITION.match(plain):
        return f"What {match['verb']} {(match['the'] or '').lower()}{match['name']}?"
    match = _DEFINITION_CJK.match(plain)
    return f"{match['name']}是什么？" if match else ""
