"""An answer built from quotations: Markdown block quotes, each with the citation number of its passage. Pure
functions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from portico.wire import Passage
from portico_server.core.citation_marks import cited_numbers
from portico_server.core.dataclass import dataclass
from portico_server.core.passage import origin
from portico_server.features.answers import expects
from portico_server.features.answers.differences import Difference
from portico_server.features.answers.judge import Judgement, has_section, is_foreign
from portico_server.features.answers.language import (
    documents_differ,
    nearest_passages,
    no_sentence,
    quoted_as_is,
    see_also,
)
from portico_server.features.answers.material import QuoteCandidate
from portico_server.features.answers.relevance import excerpt
from portico_server.features.answers.terms import fold, stems, words
from portico_server.features.answers.units import QuotableUnit, row_place, section_around

MAX_QUOTES = 2

MIN_SECOND_SHARE = 0.02
"""Minimum likelihood, relative to all candidates, at which a second candidate is quoted."""

MAX_SECTION_GAP = 3.0
"""Maximum difference between the best score and the score of a second section. In 7 of 9 answers to public questions
about git, Ansible and TiDB where only the second section answered, it was smaller.
"""

FURTHER_COUNT = 2
"""Number of sections that are named after the quoted ones."""

MIN_SUBJECT_SHARE = 0.25
"""Minimum share of the question's terms that an earlier sentence must add to a quoted sentence to be shown before
it.
"""

NEAREST_COUNT = 3
"""Number of passages that are named if no passage answers."""

MAX_EXCERPT_CHARS = 600
"""Maximum length of the excerpt from a passage that is named if no passage answers."""

FAR_SCORE_RATIO = 0.1
"""Minimum score of a passage that counts as near, as a share of the best score."""


@dataclass(frozen=True, slots=True)
class QuotedAnswer:
    """The pieces of an answer, to be joined unchanged, and the passages that the pieces quote, in the same order.

    ``own_numbers``: the numbers of the pieces that are no quotation, from 0: an introduction, and headings.
    """

    pieces: tuple[str, ...]
    passages: tuple[Passage, ...]
    own_numbers: frozenset[int] = frozenset()


def quote_answer(
    question: str, judgement: Judgement, passages: Sequence[Passage], differing: Difference | None = None
) -> QuotedAnswer:
    """Answer ``question`` with quotations: the one or two best candidates of ``judgement``, the candidates that answer
    the question together, or candidates that contradict each other.

    If the judgement is doubtful, the sources contradict each other, or they are in another language than the
    question, the answer begins with a fixed sentence in the
    question's language.
    """
    if differing is not None:
        intro = documents_differ(question, differing.by)
        quote_candidates = [*judgement.chain[:-1], *differing.sides]
    else:
        intro = nearest_passages(question) if judgement.verdict == "doubtful" else ""
        quote_candidates = list(judgement.chain) or _choose(question, judgement.candidates, passages)
    if quote_candidates and all(is_foreign(question, passages[item.passage]) for item in quote_candidates):
        intro = "\n\n".join(filter(None, (quoted_as_is(question), intro)))
    first: dict[tuple[int, int | None], QuoteCandidate] = {}
    for candidate in quote_candidates:
        first.setdefault(_source(candidate, passages), candidate)
    sources = list(first)
    shown_passages = tuple(
        _citation(passages[candidate.passage], candidate.unit, rank)
        for rank, candidate in enumerate(first.values(), 1)
    )
    pieces = [f"{intro}\n\n"] if intro else []
    own_numbers = {0} if intro else set()
    for number, candidate in enumerate(quote_candidates):
        passage = passages[candidate.passage]
        gap = "\n\n" if number else ""
        if candidate.unit.best is not None:
            own_numbers.add(len(pieces))
            pieces.append(f"{gap}> **{' › '.join(passage.place.heading)}**\n>\n")
            gap = ""
        rank = sources.index(_source(candidate, passages)) + 1
        pieces.append(f"{gap}{_block(candidate, passage, rank)}")
    if any(candidate.unit.best is not None for candidate in quote_candidates):
        further_origins = _further_origins([candidate.passage for candidate in quote_candidates], passages)
        if further_origins:
            own_numbers.add(len(pieces))
            lines = "\n".join(f"- {further_origin}" for further_origin in further_origins)
            pieces.append(f"\n\n{see_also(question)}\n\n{lines}")
    return QuotedAnswer(tuple(pieces), shown_passages, frozenset(own_numbers))


def _further_origins(quoted_numbers: Sequence[int], passages: Sequence[Passage]) -> list[str]:
    """Return where the next best sections are that the answer does not quote."""
    quoted_sections = {_section(passages[number]) for number in quoted_numbers}
    origins: dict[tuple[str, tuple[str, ...]], str] = {}
    for passage in near(passages):
        if _section(passage) not in quoted_sections:
            origins.setdefault(_section(passage), origin(passage))
    return list(origins.values())[:FURTHER_COUNT]


def _section(passage: Passage) -> tuple[str, tuple[str, ...]]:
    return passage.file_id, passage.place.heading


def _source(candidate: QuoteCandidate, passages: Sequence[Passage]) -> tuple[int, int | None]:
    """Return what a candidate cites: its passage, and the row in it, because each row is cited by its own number."""
    return candidate.passage, row_place(passages[candidate.passage], candidate.unit).row


def _citation(passage: Passage, unit: QuotableUnit, rank: int) -> Passage:
    """Return the passage that a quotation cites: a row with its header if the passage consists of numbered rows."""
    place = row_place(passage, unit)
    if place is passage.place or unit.lead is None:
        return replace(passage, rank=rank, quote=unit.best or (unit.start, unit.end))
    header = passage.text[slice(*unit.lead)].rstrip()
    text = f"{header}\n{passage.text[unit.start : unit.end]}"
    return replace(passage, rank=rank, text=text, place=place, quote=(len(header) + 1, len(text)))


def other_side(question: str, answer: str, differing: Difference, passages: Sequence[Passage]) -> str:
    """Return the text to append to a model's ``answer`` if it does not cite all sides of a contradiction; otherwise
    an empty string.
    """
    cited_ranks = cited_numbers(answer, len(passages))
    missing = [side for side in differing.sides if passages[side.passage].rank not in cited_ranks]
    if not missing:
        return ""
    intro = documents_differ(question, differing.by if len(missing) == len(differing.sides) else "")
    blocks = (_block(side, passages[side.passage], passages[side.passage].rank) for side in missing)
    return "\n\n".join(("", intro, *blocks))


def near(passages: Sequence[Passage]) -> tuple[Passage, ...]:
    """Return the passages whose score is not far below the best score, in the given order."""
    best = max((passage.score for passage in passages), default=0.0)
    return tuple(passage for passage in passages if passage.score >= FAR_SCORE_RATIO * best)


def nearest(passages: Sequence[Passage]) -> tuple[Passage, ...]:
    """Return the passages to name if no passage answers, numbered from 1."""
    return tuple(
        replace(passage, rank=rank) for rank, passage in enumerate(near(passages)[:NEAREST_COUNT], 1)
    )


def nearest_sections(question: str, passages: Sequence[Passage]) -> tuple[str, ...]:
    """Return the pieces of an answer that shows passages although none answers: an introduction, then each passage
    with its file, its headings and an excerpt.
    """
    sections = (
        f"**{origin(passage)}**\n\n{excerpt(passage.text, question, MAX_EXCERPT_CHARS)}"
        for passage in passages
    )
    return no_sentence(question), *(f"\n\n{_block_quote(section)}" for section in sections)


def _block_quote(text: str) -> str:
    return "\n".join(f"> {line}" if line.strip() else ">" for line in text.split("\n"))


def _choose(
    question: str, candidates: Sequence[tuple[QuoteCandidate, float]], passages: Sequence[Passage]
) -> list[QuoteCandidate]:
    """Return the best candidate, followed by the next likely candidate if it adds a fact."""
    if not candidates:
        return []
    best, best_score = candidates[0]
    if best.unit.kind != "row" and has_section(question, passages[best.passage]):
        return _sections(candidates, passages)
    best = _with_subject(question, best, candidates)
    shares = [math.exp(score - best_score) for _candidate, score in candidates]
    further = (
        candidate
        for (candidate, _score), share in zip(candidates[1:], shares[1:], strict=True)
        if share >= MIN_SECOND_SHARE * sum(shares)
        and not _overlaps(best, candidate)
        and _adds(question, best, candidate)
    )
    return [best, *islice(further, MAX_QUOTES - 1)]


def _sections(
    candidates: Sequence[tuple[QuoteCandidate, float]], passages: Sequence[Passage]
) -> list[QuoteCandidate]:
    """Return the best candidates of the best passages, each with its section around it."""
    best_score = candidates[0][1]
    candidates_by_passage: dict[int, QuoteCandidate] = {}
    for candidate, score in candidates:
        if score > best_score - MAX_SECTION_GAP and len(candidates_by_passage) < MAX_QUOTES:
            candidates_by_passage.setdefault(candidate.passage, candidate)
    return [
        replace(candidate, unit=section_around(passages[candidate.passage].text, candidate.unit))
        for candidate in candidates_by_passage.values()
    ]


def _with_subject(
    question: str, candidate: QuoteCandidate, candidates: Sequence[tuple[QuoteCandidate, float]]
) -> QuoteCandidate:
    """Return ``candidate`` with an earlier sentence of its passage as its lead if that sentence names what the
    question is about and the candidate does not, such as "The limit is 5 MB." after a sentence about uploads.
    """
    question_terms = frozenset(stems(words(fold(question))))
    missing_terms = question_terms - candidate.terms
    earlier = [
        other
        for other, _score in candidates
        if other.passage == candidate.passage
        and other.unit.kind == candidate.unit.kind == "sentence"
        and other.place < candidate.place
    ]
    subject = max(
        earlier, key=lambda other: (len(other.terms & missing_terms), other.place), default=candidate
    )
    if (
        candidate.unit.lead is not None
        or subject is candidate
        or len(subject.terms & missing_terms) < MIN_SUBJECT_SHARE * len(question_terms)
    ):
        return candidate
    lead = (subject.unit.start, subject.unit.end)
    return replace(candidate, unit=replace(candidate.unit, lead=lead))


def _adds(question: str, best: QuoteCandidate, quote_candidate: QuoteCandidate) -> bool:
    """Return whether ``quote_candidate`` adds a fact: it contains a question word that ``best`` lacks, or ``best``
    does not contain the requested number or date.

    One sentence is enough for a requested number or date. Further sentences repeat it or refer to something else. The
    same is true for another row of a table that contains fewer words of the question.
    """
    shared_terms, other_terms = (
        frozenset(stems(words(fold(question)))) & unit.terms for unit in (best, quote_candidate)
    )
    if other_terms - shared_terms:
        return True
    if best.unit.kind == quote_candidate.unit.kind == "row" and other_terms < shared_terms:
        return False
    kind = expects.kind(question)
    return not (kind in ("count", "date") and expects.holds(kind, question)(best.text))


def _overlaps(quote_candidate: QuoteCandidate, other: QuoteCandidate) -> bool:
    if quote_candidate.text in other.text or other.text in quote_candidate.text:
        return True
    if quote_candidate.passage != other.passage:
        return False
    lead = quote_candidate.unit.lead
    spans = [(quote_candidate.unit.start, quote_candidate.unit.end), *([lead] if lead is not None else ())]
    return any(start < other.unit.end and other.unit.start < end for start, end in spans)


def _block(candidate: QuoteCandidate, passage: Passage, rank: int) -> str:
    """Return the text of the candidate's unit as a block quote, with the text that introduces it and with its citation
    number.
    """
    unit = candidate.unit
    text = passage.text[unit.start : unit.end]
    lead = passage.text[unit.lead[0] : unit.lead[1]].strip() if unit.lead is not None else ""
    if unit.kind == "row":
        text = _table(lead, text, rank)
    else:
        text = f"{lead}\n\n{text}" if lead else text
        # If the citation number directly followed code, it would become part of the code.
        apart = unit.kind == "code" or text.rstrip().endswith(("```", "~~~"))
        text = f"{text}\n\n[{rank}]" if apart else f"{text} [{rank}]"
    return _block_quote(text)


def _table(header: str, row: str, rank: int) -> str:
    """Return a Markdown table with one row that ends in its citation number, or a line of cells if the table has no
    header.
    """
    head = header.partition("\n")[0]
    names, cells = _cells(head), _cells(row)
    if not header:
        return f"{' · '.join(filter(None, cells))} [{rank}]"
    # A bar at the beginning is the border of the table, or it ends an empty first cell.
    if len(cells) < len(names) and row.lstrip().startswith("|"):
        cells.insert(0, "")
    elif len(names) < len(cells) and head.lstrip().startswith("|"):
        names.insert(0, "")
    cells += [""] * (len(names) - len(cells))
    rule = ["---"] * len(names)
    cells[-1] = f"{cells[-1]} [{rank}]".lstrip()
    return "\n".join(f"| {' | '.join(line)} |" for line in (names, rule, cells))


def _cells(row: str) -> list[str]:
    """Return the cells of a table row, with or without bars at its beginning and end."""
    return [cell.strip() for cell in _BAR.split(_OUTER_BARS.sub("", row.strip()))]


_BAR = re.compile(r"(?<!\\)\|")
_OUTER_BARS = re.compile(r"^\||(?<!\\)\|$")
