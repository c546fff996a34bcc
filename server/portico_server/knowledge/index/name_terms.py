"""What the names of files add to the scores of their chunks in the lexical index."""

from __future__ import annotations

from functools import lru_cache
from math import log1p

import tantivy
from tantivy import Occur, Query

from portico_server.core.name_words import name_in_words, searched_name
from portico_server.knowledge.analyse import Terms, analyse

NAME_WEIGHT = 0.2
"""What a word in the name of a chunk's file counts beside one in its text. Measured."""

MAX_NAME_WORDS = 8
"""Words of a question, at most, that may be meant as the name of a file: if one has them all, they count like text."""

ANY_FILE = "*"
"""What the first chunk of each file has in the field ``firsts`` beside the terms of the name: so files are counted."""

NAME_CACHE_SIZE = 4_096
"""Names of which the terms are kept: all chunks of a file have the same."""


def name_terms(name: str) -> str:
    """The words and the bigrams of a file's name, once each, with spaces between."""
    return _cached_name_terms(searched_name(name))


@lru_cache(NAME_CACHE_SIZE)
def _cached_name_terms(name: str) -> str:
    terms = analyse(name_in_words(name))
    return " ".join(dict.fromkeys((*terms.words, *terms.grams)))


def name_clauses(
    searcher: tantivy.Searcher, schema: tantivy.Schema, terms: Terms, gram_weight: float
) -> list[tuple[Occur, Query]]:
    """What is to be added to a query for ``terms``.

    A term counts by how few files have it in their names, on the scale of how few chunks have a word: a large file does
    not make its own name common.
    """
    total = searcher.doc_freq("firsts", ANY_FILE)
    scale = log1p(searcher.num_docs) / log1p(total) if total else 0.0
    rare: dict[str, float] = {}
    for term in dict.fromkeys((*terms.words, *terms.grams)):
        document_count = searcher.doc_freq("firsts", term)
        if document_count:
            rare[term] = scale * log1p((max(0, total - document_count) + 0.5) / (document_count + 0.5))

    def holds(term: str) -> Query:
        return Query.term_query(schema, "names", term, "basic")

    words = set(terms.words)
    clauses = [
        (
            Occur.Should,
            Query.const_score_query(holds(term), NAME_WEIGHT * (1 if term in words else gram_weight) * count),
        )
        for term, count in rare.items()
    ]
    if 1 < len(words) <= MAX_NAME_WORDS and words <= rare.keys():
        query = Query.boolean_query([(Occur.Must, holds(word)) for word in terms.words])
        counts = sum(rare[word] for word in words)
        clauses.append((Occur.Should, Query.const_score_query(query, (1 - NAME_WEIGHT) * counts)))
    return clauses
