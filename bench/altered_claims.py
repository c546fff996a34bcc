"""Claims with a known verdict, made from the XQuAD sets: true claims, and the same claims with one fact changed.

True: a sentence unchanged (``verbatim``), its longest clause (``clause``), a question with its answer in place of the
question word (``answered``). Changed: a number, a date, a name, a negation added or removed, or a question with the
answer to another question (``answer``). Everything follows from the data: nothing is random.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from portico_server.features.answers.dates import dates_in
from portico_server.features.answers.expects import kind
from portico_server.features.answers.terms import fold, has_cjk
from portico_server.features.answers.units import sentences

CHANGES = ("number", "date", "name", "negation", "answer")
TRUE = ("verbatim", "clause", "answered")


@dataclass(frozen=True, slots=True)
class MadeClaim:
    """A claim. ``kind`` is one of `TRUE` or `CHANGES`; ``document`` is its source, ``sentence`` the gold sentence."""

    text: str
    kind: str
    document: str
    sentence: str

    @property
    def true(self) -> bool:
        return self.kind in TRUE


_DIGITS = re.compile(r"(?<![\w.,])\d{1,3}(?:,\d{3})+|(?<![\w.,-])\d+(?:\.\d+)?(?![\w,-]|\.\d)")
_CAPITALS = re.compile(r"(?<!^)(?<=[a-z,] )[A-Z][a-z]+(?: [A-Z][a-z]+)*")
_AUXILIARY = re.compile(
    r"\b(is|was|were|are|can|could|will|would|has been|have been|had been|should|must)\b(?! not|n't)"
)
_NOT = re.compile(r"\b(is|was|were|are|can|could|will|would|should|must|did|does|do)(?: not|n[’']t)\b")
_IS_ZH = re.compile(r"(?<![不但就还也总凡若于只])(是|能|可以|会|有|位于|属于|认为|使用|成为)(?![否无没非])")
_NOT_ZH = re.compile(r"(?:不(?=[能会是可需再允支])|没有(?=[任被得任]))")
_ASKED = re.compile(
    r"\b(?:how many|how much|what|which|who|whom|whose|when|where)\b"
    r"(?: (?:year|city|country|team|person|type|kind|percentage))?",
    re.IGNORECASE,
)
_ASKED_ZH = re.compile(r"多少|什么时候|什么|何时|哪[一]?[个年位些座支里]|谁|何地|何处|哪里|几")


def made(
    question: Any, text: str, other_answers: Sequence[tuple[str, str]], names: Sequence[str]
) -> Iterator[MadeClaim]:
    """Yield the claims of one question about ``text``, its document. ``other_answers``: other questions and answers
    about the document; ``names``: names from other documents.
    """
    gold = gold_sentence(text, question.answers)
    if gold is None:
        return
    number = sum(map(ord, question.id))

    def claim(words: str, what: str) -> MadeClaim:
        return MadeClaim(words, what, question.document, gold)

    yield claim(gold, "verbatim")
    clause = longest_clause(gold)
    if clause:
        yield claim(clause, "clause")
    answered = put_in(question.text, question.answers[0])
    if answered:
        yield claim(answered, "answered")
        wanted = kind(question.text)
        for other, answer in other_answers:
            if kind(other) == wanted and not overlap(answer, question.answers):
                yield claim(put_in(question.text, answer), "answer")
                break
    base = clause if clause and number % 2 else gold
    for what, change in (("number", other_number), ("date", other_date), ("negation", negated)):
        words = change(base, number)
        if words:
            yield claim(words, what)
    words = other_name(base, names, number)
    if words:
        yield claim(words, "name")


def gold_sentence(text: str, answers: Sequence[str]) -> str | None:
    """Return the sentence of ``text`` that contains an answer, if it is the only one and long enough."""
    holders = [text[a:b] for a, b in sentences(text) if any(answer in text[a:b] for answer in answers)]
    return holders[0] if len(holders) == 1 and len(holders[0]) > 12 else None


def longest_clause(sentence: str) -> str:
    parts = [part.strip() for part in re.split(r"[,;，；]\s?(?!\d)", sentence.rstrip(".。"))]
    best = max(parts, key=len)
    size = len(best) if has_cjk(best) else len(best.split())
    end = "。" if has_cjk(best) else "."
    return f"{best[0].upper()}{best[1:]}{end}" if len(parts) > 1 and size >= 7 else ""


def put_in(question: str, answer: str) -> str:
    """Return the question as a statement, with the answer in place of the question word."""
    pattern = _ASKED_ZH if has_cjk(question) else _ASKED
    if pattern.search(question) is None:
        return ""
    words = pattern.sub(lambda _match: answer, question.rstrip("?？ "), count=1)
    return words + ("。" if has_cjk(words) else ".")


def overlap(answer: str, answers: Sequence[str]) -> bool:
    return any(answer in one or one in answer for one in answers)


def other_number(sentence: str, number: int) -> str:
    found = [match for match in _DIGITS.finditer(sentence) if not _is_date(sentence, match)]
    if not found:
        return ""
    match = found[number % len(found)]
    old = match.group()
    value = float(old.replace(",", ""))
    new = value + 1 + number % 7 if "." in old or value < 1000 else value * 2
    words = f"{new:,.0f}" if "," in old else f"{new:g}" if "." in old else f"{new:.0f}"
    return sentence[: match.start()] + words + sentence[match.end() :]


def _is_date(sentence: str, match: re.Match[str]) -> bool:
    folded = fold(sentence[max(0, match.start() - 12) : match.end() + 8])
    return bool(dates_in(folded)) and re.fullmatch(r"\d{1,4}", match.group()) is not None


def other_date(sentence: str, number: int) -> str:
    years = list(
        re.finditer(
            r"(?<![\w.,])1[1-9]\d\d(?!\d|,\d|\.\d|[-–])|(?<![\w.,])20[0-2]\d(?!\d|,\d|\.\d|[-–])", sentence
        )
    )
    if not years or not any(f"y{match.group()}" in dates_in(fold(sentence)) for match in years):
        return ""
    match = years[number % len(years)]
    new = int(match.group()) + 3 + number % 11
    return sentence[: match.start()] + str(new) + sentence[match.end() :]


def other_name(sentence: str, names: Sequence[str], number: int) -> str:
    own = names_in(sentence)
    if not own:
        return ""
    old = own[number % len(own)]
    new = next((name for name in names[number % len(names) :] if name not in sentence), "")
    return sentence.replace(old, new) if new else ""


def names_in(sentence: str) -> list[str]:
    """Return the names of persons, places and organisations that are certain."""
    if not has_cjk(sentence):
        return [match.group() for match in _CAPITALS.finditer(sentence) if len(match.group()) > 3]
    from portico_server.features.answers.terms import tag_words

    names = [
        item.word
        for item in tag_words(sentence)
        if item.tag in ("nr", "ns", "nt", "nrt") and len(item.word) > 1
    ]
    return list(dict.fromkeys(names))


def negated(sentence: str, number: int) -> str:
    """Return the sentence with a negation added, or with its negation removed."""
    if has_cjk(sentence):
        if match := _NOT_ZH.search(sentence):
            return sentence[: match.start()] + sentence[match.end() :]
        found = list(_IS_ZH.finditer(sentence))
        if not found:
            return ""
        match = found[number % len(found)]
        return (
            sentence[: match.start()] + ("没" if match.group() == "有" else "不") + sentence[match.start() :]
        )
    if match := _NOT.search(sentence):
        return sentence[: match.end(1)] + sentence[match.end() :]
    found = list(_AUXILIARY.finditer(sentence))
    if not found:
        return ""
    match = found[number % len(found)]
    first = match.group().split()[0]
    return sentence[: match.start() + len(first)] + " not" + sentence[match.start() + len(first) :]
